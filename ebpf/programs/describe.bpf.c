/* One session as an event: its history, its ends, its traffic. */

static __always_inline void describe_history(struct session_event *event, struct session *session)
{
	struct session unknown = {};
	struct session *from = session ? session : &unknown;

	event->owner_started_ns = from->owner_started_ns;
	event->first_seen_ns = from->first_seen_ns;
	event->syn_ns = from->opener == OPENER_UNKNOWN ? 0 : from->first_seen_ns;
	event->established_ns = from->established_ns;
	event->pid = from->pid;
	event->thread = from->thread;
	event->opener = from->opener;
	event->owner_evidence = from->owner_evidence;
	event->reset = from->reset;
	__builtin_memcpy(event->command, from->command, sizeof(event->command));
}

static __always_inline void write_ipv4(u8 *to, u32 address)
{
	__builtin_memset(to, 0, 10);
	to[10] = to[11] = 0xff;
	*(u32 *)(to + 12) = address;
}

static __always_inline void describe_addresses(struct session_event *event, struct tcp_sock *tcp)
{
	struct sock_common *common = (void *)tcp;

	event->family = common->skc_family;
	if (event->family == FAMILY_IPV4) {
		write_ipv4(event->local, common->skc_rcv_saddr);
		write_ipv4(event->remote, common->skc_daddr);
		return;
	}
	copy_16(event->local, common->skc_v6_rcv_saddr);
	copy_16(event->remote, common->skc_v6_daddr);
}

static __always_inline u16 service_port_of(struct session_event *event)
{
	if (event->state == LISTEN || event->opener == OPENER_REMOTE)
		return event->local_port;
	if (event->opener == OPENER_LOCAL || event->remote_port < event->local_port)
		return event->remote_port;
	return event->local_port;
}

static __always_inline void describe_ends(struct session_event *event, struct tcp_sock *tcp)
{
	struct sock_common *common = (void *)tcp;

	/* inet_sport, because skc_num is 0 by the time of the close. */
	event->local_port = bpf_ntohs(((struct inet_sock *)tcp)->inet_sport);
	event->remote_port = bpf_ntohs(common->skc_dport);
	event->service_port = service_port_of(event);
	event->netns = netns_of((struct sock *)tcp);
	describe_addresses(event, tcp);
}

static __always_inline u8 bits_of(struct tcp_sock *tcp, u32 at, u32 shift, u32 mask)
{
	return (*((u8 *)tcp + at) >> shift) & mask;
}

#define BITS(tcp, member) \
	bits_of(tcp, tcp_sock_##member##_at, tcp_sock_##member##_shift, tcp_sock_##member##_mask)

/* As tcp_get_info_chrono_stats(): what is going on now counts up to now, and busy is the sum of all three. */
static __always_inline void describe_limits(struct session_event *event, struct tcp_sock *tcp)
{
	u64 tick_us = setting(SETTING_TICK_US);
	u8 now_in = BITS(tcp, chrono_type); /* 1 busy, 2 receive window, 3 send buffer */
	u32 *spent = (u32 *)tcp->chrono_stat;
	u32 running = 0;

	if (now_in)
		running = (u32)bpf_jiffies64() - tcp->chrono_start;
	event->rwnd_limited_us = (spent[1] + (now_in == 2 ? running : 0)) * tick_us;
	event->sndbuf_limited_us = (spent[2] + (now_in == 3 ? running : 0)) * tick_us;
	event->busy_us = (u64)(spent[0] + (now_in == 1 ? running : 0)) * tick_us;
	event->busy_us += event->rwnd_limited_us + event->sndbuf_limited_us;
}

/* The same variables, scaled the same way, as tcp_get_info() hands out as TCP_INFO. */
static __always_inline void describe_traffic(struct session_event *event, struct tcp_sock *tcp)
{
	event->bytes_sent = tcp->bytes_sent;
	event->bytes_acked = tcp->bytes_acked;
	event->bytes_retransmitted = tcp->bytes_retrans;
	event->bytes_received = tcp->bytes_received;
	event->srtt_us = tcp->srtt_us >> 3;
	event->rttvar_us = tcp->mdev_us >> 2;
	event->min_rtt_us = tcp->rtt_min_s_v;
	event->retransmitted = tcp->total_retrans;
	event->lost = tcp->lost_out;
	event->reordering = tcp->reordering;
	event->reordering_seen = tcp->reord_seen;
	event->dsack_duplicates = tcp->dsack_dups;
	event->data_segments_sent = tcp->data_segs_out;
	event->data_segments_received = tcp->data_segs_in;
	event->segments_sent = tcp->segs_out;
	event->segments_received = tcp->segs_in;
	event->rate_delivered = tcp->rate_delivered;
	event->rate_interval_us = tcp->rate_interval_us;
	event->mss = tcp->mss_cache;
	event->cwnd = tcp->snd_cwnd;
	event->peer_window = tcp->snd_wnd;
	event->app_limited = BITS(tcp, rate_app_limited);
	event->fast_open = BITS(tcp, syn_data_acked);
}

static __always_inline void describe_congestion(struct session_event *event, struct tcp_sock *tcp)
{
	struct tcp_congestion_ops *control = (void *)((struct inet_connection_sock *)tcp)->icsk_ca_ops;

	copy_16(event->congestion, control->name);
}

/* Of a close that was only told when the socket went, the state before is not known: what the session did tells. */
static __always_inline u8 was_established(struct session_event *event)
{
	u8 state = event->state == CLOSE ? event->old_state : event->state;

	if (event->established_ns || event->opener == OPENER_UNKNOWN)
		return 1;
	if (state == CLOSE)
		return event->opener == OPENER_REMOTE && (event->pid || event->data_segments_received);
	return state != SYN_SENT && state != SYN_RECV && state != NEW_SYN_RECV;
}

static __always_inline u8 sent_fin(u8 state, struct tcp_sock *tcp)
{
	if (state == CLOSE)
		return (((struct sock *)tcp)->sk_shutdown & SENT) != 0;
	return state == FIN_WAIT1 || state == FIN_WAIT2 || state == TIME_WAIT || state == CLOSING || state == LAST_ACK;
}

/* An abort sends its reset after the socket is closed, so it is known by its way: straight from a state in which it
 * could still receive, while the application holds it, with no error, and no end or reset of the peer.
 */
static __always_inline u8 aborted_here(struct session_event *event, u64 flags)
{
	u8 was = event->old_state;

	if (event->state != CLOSE || event->error || event->reset & RESET_RECEIVED)
		return 0;
	if (was == FIN_WAIT1 || was == FIN_WAIT2)
		return !(flags & (FLAG_DEAD | FLAG_FIN_RECEIVED));
	return was == ESTABLISHED || was == CLOSE_WAIT;
}

static __always_inline void describe_end(struct session_event *event, struct tcp_sock *tcp)
{
	u8 state = event->state == CLOSE ? event->old_state : event->state;

	event->error = ((struct sock *)tcp)->sk_err;
	event->established = was_established(event);
	event->fin_acked = sent_fin(state, tcp) && tcp->snd_una == tcp->write_seq;
	event->fin_received = (((struct sock_common *)tcp)->skc_flags & FLAG_FIN_RECEIVED) != 0;
	if (aborted_here(event, ((struct sock_common *)tcp)->skc_flags))
		event->reset |= RESET_SENT;
	__builtin_memset(event->reserved, 0, sizeof(event->reserved));
}

static __always_inline void describe(struct session_event *event, struct tcp_sock *tcp, u64 cookie, u8 old_state, u8 state,
				     struct session *session)
{
	event->cookie = cookie;
	event->at_ns = bpf_ktime_get_ns();
	event->old_state = old_state;
	event->state = state;
	describe_history(event, session);
	describe_ends(event, tcp);
	describe_traffic(event, tcp);
	describe_limits(event, tcp);
	describe_congestion(event, tcp);
	describe_end(event, tcp);
}
