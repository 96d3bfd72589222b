#ifndef PATHGRADE_BPF_COMMON_H
#define PATHGRADE_BPF_COMMON_H
#define BPF_CLASS(code) ((code) & 0x07)
#define BPF_LD 0x00
#define BPF_W 0x00
#define BPF_ABS 0x20
#define BPF_IND 0x40
#endif
