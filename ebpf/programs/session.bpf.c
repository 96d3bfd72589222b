/* TCP sessions from their first segment to their close.
 *
 * Who owns a session is asked only where the running task must be the owner: at connect, at reads and writes,
 * at close. In a softirq the running task is whoever was interrupted; on loopback that is the peer.
 *
 * Comes after event.h and the structs that ebpf/layout.py made from the running kernel's BTF.
 */

enum tcp_state {
	ESTABLISHED = 1,
	SYN_SENT = 2,
	SYN_RECV = 3,
	FIN_WAIT1 = 4,
	FIN_WAIT2 = 5,
	CLOSE = 7,
	CLOSE_WAIT = 8,
	LAST_ACK = 9,
	LISTEN = 10,
};
enum opener { OPENER_UNKNOWN, OPENER_LOCAL, OPENER_REMOTE };
enum owner_evidence { OWNER_NONE, OWNER_FILE_TABLE, OWNER_CLOSE, OWNER_IO, OWNER_CONNECT };
enum counter { COUNTER_SEEN, COUNTER_LOST };

#define FAMILY_IPV4 2
#define FAMILY_IPV6 10
#define TYPE_STREAM 1
#define PROTOCOL_TCP 6
#define FLAG_FIN_RECEIVED (1 << 1) /* SOCK_DONE */
#define NO_WAKEUP 1		   /* BPF_RB_NO_WAKEUP: the reader comes by itself */

/* What only time can tell of a live session. */
struct session {
	u64 first_seen_ns;
	u64 syn_ns;
	u64 established_ns;
	u32 pid;
	u8 opener;
	u8 owner_evidence;
	u8 fin_sent;
	u8 reserved;
	u8 command[16];
};

BPF_TABLE("lru_hash", u64, struct session, sessions, 65536);
BPF_RINGBUF_OUTPUT(events, 1); /* the loader sets the real size */
BPF_ARRAY(counters, u64, 2);
BPF_ARRAY(settings, u64, 1); /* [0]: the network namespace to keep; 0 = all */

#define READ(to, from) bpf_probe_read_kernel(&(to), sizeof(to), &(from))

static __always_inline u32 netns_of(u64 sk)
{
	u64 net = 0;
	u32 inode = 0;

	READ(net, ((struct sock_common *)sk)->skc_net_net);
	READ(inode, ((struct net *)net)->ns_inum);
	return inode;
}

static __always_inline int is_wanted(u64 sk)
{
	int first = 0;
	u16 protocol = 0, type = 0, family = 0;
	u64 *only = settings.lookup(&first);

	/* A raw socket may carry protocol 6 too, and is no tcp_sock. */
	READ(protocol, ((struct sock *)sk)->sk_protocol);
	READ(type, ((struct sock *)sk)->sk_type);
	READ(family, ((struct sock_common *)sk)->skc_family);
	if (protocol != PROTOCOL_TCP || type != TYPE_STREAM || (family != FAMILY_IPV4 && family != FAMILY_IPV6))
		return 0;
	return !only || !*only || *only == netns_of(sk);
}

static __always_inline void name_owner(struct session *session, u64 task, u8 evidence)
{
	u64 leader = 0;

	/* The leader's name, because programs name their threads after what these do. */
	READ(leader, ((struct task_struct *)task)->group_leader);
	READ(session->pid, ((struct task_struct *)leader)->tgid);
	READ(session->command, ((struct task_struct *)leader)->comm);
	session->owner_evidence = evidence;
}

static __always_inline void read_address(u8 *to, u16 family, void *v4, void *v6)
{
	if (family != FAMILY_IPV4) {
		bpf_probe_read_kernel(to, 16, v6);
		return;
	}
	__builtin_memset(to, 0, 10);
	to[10] = to[11] = 0xff;
	bpf_probe_read_kernel(to + 12, 4, v4);
}

static __always_inline void describe_endpoints(struct session_event *event, u64 sk)
{
	struct sock_common *common = (void *)sk;
	u16 local = 0, remote = 0;

	READ(event->family, common->skc_family);
	/* inet_sport, because skc_num is 0 by the time of the close. */
	READ(local, ((struct inet_sock *)sk)->inet_sport);
	READ(remote, common->skc_dport);
	event->local_port = bpf_ntohs(local);
	event->remote_port = bpf_ntohs(remote);
	event->netns = netns_of(sk);
	read_address(event->local, event->family, &common->skc_rcv_saddr, &common->skc_v6_rcv_saddr);
	read_address(event->remote, event->family, &common->skc_daddr, &common->skc_v6_daddr);
}

/* The same variables, scaled the same way, as tcp_get_info() hands out as TCP_INFO. */
static __always_inline void describe_traffic(struct session_event *event, u64 sk)
{
	struct tcp_sock *tcp = (void *)sk;
	u8 flags = 0;

	READ(event->bytes_acked, tcp->bytes_acked);
	READ(event->bytes_received, tcp->bytes_received);
	READ(event->srtt_us, tcp->srtt_us);
	event->srtt_us >>= 3;
	READ(event->rttvar_us, tcp->mdev_us);
	event->rttvar_us >>= 2;
	READ(event->min_rtt_us, tcp->rtt_min_s_v);
	READ(event->retransmitted, tcp->total_retrans);
	READ(event->data_segments_sent, tcp->data_segs_out);
	READ(event->segments_sent, tcp->segs_out);
	READ(event->segments_received, tcp->segs_in);
	READ(event->rate_delivered, tcp->rate_delivered);
	READ(event->rate_interval_us, tcp->rate_interval_us);
	READ(event->mss, tcp->mss_cache);
	READ(event->cwnd, tcp->snd_cwnd);
	READ(flags, tcp->rate_app_limited);
	event->app_limited = (flags >> tcp_sock_rate_app_limited_bit) & 1;
}

static __always_inline void describe_end(struct session_event *event, u64 sk, struct session *session)
{
	struct tcp_sock *tcp = (void *)sk;
	u32 acked = 0, written = 1;
	u64 flags = 0;

	READ(acked, tcp->snd_una);
	READ(written, tcp->write_seq);
	READ(flags, ((struct sock_common *)sk)->skc_flags);
	event->fin_acked = session && session->fin_sent && acked == written;
	event->fin_received = (flags & FLAG_FIN_RECEIVED) != 0;
	__builtin_memset(event->reserved, 0, sizeof(event->reserved));
}

static __always_inline void describe_history(struct session_event *event, struct session *session)
{
	struct session unknown = {};
	struct session *known = session ? session : &unknown;

	event->first_seen_ns = known->first_seen_ns;
	event->syn_ns = known->syn_ns;
	event->established_ns = known->established_ns;
	event->pid = known->pid;
	event->opener = known->opener;
	event->owner_evidence = known->owner_evidence;
	__builtin_memcpy(event->command, known->command, sizeof(event->command));
}

static __always_inline void describe(struct session_event *event, u64 sk, u8 old_state, u8 state, struct session *session)
{
	event->socket = sk;
	event->at_ns = bpf_ktime_get_ns();
	event->old_state = old_state;
	event->state = state;
	describe_history(event, session);
	describe_endpoints(event, sk);
	describe_traffic(event, sk);
	describe_end(event, sk, session);
}

static __always_inline void begin(u64 sk, u8 opener)
{
	struct session session = {};

	if (!is_wanted(sk))
		return;
	session.first_seen_ns = session.syn_ns = bpf_ktime_get_ns();
	session.opener = opener;
	if (opener == OPENER_LOCAL)
		name_owner(&session, bpf_get_current_task(), OWNER_CONNECT);
	sessions.update(&sk, &session);
}

static __always_inline void establish(u64 sk)
{
	struct session *session = sessions.lookup(&sk);

	if (session)
		session->established_ns = bpf_ktime_get_ns();
}

/* A session that is older than the monitor: its opener is not known. */
static __always_inline struct session *meet(u64 sk)
{
	struct session older = {};

	older.first_seen_ns = bpf_ktime_get_ns();
	sessions.insert(&sk, &older);
	return sessions.lookup(&sk);
}

static __always_inline int carries_data(u64 sk)
{
	u8 state = 0;

	READ(state, ((struct sock_common *)sk)->skc_state);
	return state == ESTABLISHED || state == CLOSE_WAIT || state == FIN_WAIT1 || state == FIN_WAIT2;
}

/* Name the running task as the owner, unless evidence as strong named one. */
static __always_inline void claim(u64 sk, u8 evidence)
{
	struct session *session = sessions.lookup(&sk);

	/* Met here are sessions that were waiting to be accepted when the monitor looked at the file tables. */
	if (!session && evidence == OWNER_IO && is_wanted(sk) && carries_data(sk))
		session = meet(sk);
	if (session && session->owner_evidence < evidence)
		name_owner(session, bpf_get_current_task(), evidence);
}

/* The last that this side does: close() or shutdown(). */
static __always_inline void send_fin(u64 sk)
{
	struct session *session = sessions.lookup(&sk);

	claim(sk, OWNER_CLOSE);
	if (session)
		session->fin_sent = 1;
}

static __always_inline void tell(u64 sk, u8 old_state, struct session *session)
{
	struct session_event *event;

	counters.increment(COUNTER_SEEN);
	event = events.ringbuf_reserve(sizeof(struct session_event));
	if (event) {
		describe(event, sk, old_state, CLOSE, session);
		events.ringbuf_submit(event, NO_WAKEUP);
	} else {
		counters.increment(COUNTER_LOST);
	}
	sessions.delete(&sk);
}

RAW_TRACEPOINT_PROBE(inet_sock_set_state)
{
	u64 sk = ctx->args[0];
	int old_state = ctx->args[1];
	int state = ctx->args[2];

	if (state == SYN_SENT)
		begin(sk, OPENER_LOCAL);
	else if (state == SYN_RECV && old_state != SYN_SENT) /* not a simultaneous open */
		begin(sk, OPENER_REMOTE);
	else if (state == ESTABLISHED)
		establish(sk);
	else if (state == FIN_WAIT1 || state == LAST_ACK)
		send_fin(sk);
	else if (state == CLOSE && old_state != LISTEN && is_wanted(sk))
		tell(sk, old_state, sessions.lookup(&sk));
	return 0;
}

/* The kernel does not run a program that it is running already: a close in a softirq that interrupts the program
 * above is not told there. Its session is still remembered when the socket goes. */
RAW_TRACEPOINT_PROBE(tcp_destroy_sock)
{
	u64 sk = ctx->args[0];
	struct session *session = sessions.lookup(&sk);

	if (session)
		tell(sk, CLOSE, session);
	return 0;
}

RAW_TRACEPOINT_PROBE(sock_recv_length)
{
	claim(ctx->args[0], OWNER_IO);
	return 0;
}

RAW_TRACEPOINT_PROBE(sock_send_length)
{
	claim(ctx->args[0], OWNER_IO);
	return 0;
}
