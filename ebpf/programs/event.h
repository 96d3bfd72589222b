/* What the programs tell this process of one TCP session. The Python twin is ebpf/events.py; the compiler
 * compares the two (_Static_assert for each member). Members are sorted by size, so that there are no gaps. */
#ifndef PATHGRADE_EVENT_H
#define PATHGRADE_EVENT_H

#include <linux/types.h>

struct session_event {
	u64 socket; /* with first_seen_ns, the identity of the session */
	u64 first_seen_ns;
	u64 at_ns;
	u64 syn_ns;
	u64 established_ns;
	u64 bytes_acked;
	u64 bytes_received;
	u32 netns;
	u32 pid; /* thread group */
	u32 srtt_us;
	u32 rttvar_us;
	u32 min_rtt_us;
	u32 retransmitted;
	u32 data_segments_sent;
	u32 segments_sent;
	u32 segments_received;
	u32 rate_delivered;
	u32 rate_interval_us;
	u32 mss;
	u32 cwnd;
	u16 family;
	u16 local_port;
	u16 remote_port;
	u8 old_state;
	u8 state;
	u8 opener;
	u8 owner_evidence;
	u8 app_limited;
	u8 fin_acked;
	u8 fin_received;
	u8 reserved[7];
	u8 local[16]; /* IPv4 as ::ffff:a.b.c.d */
	u8 remote[16];
	u8 command[16]; /* of the thread group's leader */
};

#endif
