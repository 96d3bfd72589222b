/* What the programs tell this process of one TCP session. The Python twin is ebpf/events.py; the compiler
 * compares the two (_Static_assert for each member). Every member stands at a multiple of its size: no gaps. */
#ifndef PATHGRADE_EVENT_H
#define PATHGRADE_EVENT_H

#include <linux/types.h>

struct session_event {
	u64 owner_started_ns;
	u8 local[16];
	u8 remote[16];
	u8 command[16];
	u32 netns;
	u32 pid;
	u16 service_port;
	u8 opener;
	u8 established;
	/* up to here, what sessions are summed by */
	u32 thread;
	u64 cookie;
	u64 first_seen_ns;
	u64 at_ns;
	u64 syn_ns;
	u64 established_ns;
	u64 bytes_sent;
	u64 bytes_acked;
	u64 bytes_retransmitted;
	u64 bytes_received;
	u64 busy_us;
	u64 rwnd_limited_us;
	u64 sndbuf_limited_us;
	u32 srtt_us;
	u32 rttvar_us;
	u32 min_rtt_us;
	u32 retransmitted;
	u32 lost;
	u32 reordering;
	u32 reordering_seen;
	u32 dsack_duplicates;
	u32 data_segments_sent;
	u32 data_segments_received;
	u32 segments_sent;
	u32 segments_received;
	u32 rate_delivered;
	u32 rate_interval_us;
	u32 mss;
	u32 cwnd;
	u32 peer_window;
	u16 family;
	u16 local_port;
	u16 remote_port;
	u16 error;
	u8 old_state;
	u8 state;
	u8 owner_evidence;
	u8 app_limited;
	u8 fin_acked;
	u8 fin_received;
	u8 reset;
	u8 fast_open;
	u8 congestion[16];
	u8 reserved[4];
};

#endif
