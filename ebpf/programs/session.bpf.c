/* TCP sessions from their first segment to their close: the hooks. */

/* Gives whether the running task was named as the owner. */
static __always_inline int begin(struct sock *sk, u8 opener)
{
	struct session *session = wanted(sk) ? remember(sk) : 0;

	if (!session)
		return 0;
	session->first_seen_ns = bpf_ktime_get_ns();
	session->opener = opener;
	if (opener == OPENER_LOCAL)
		name_owner(session, (void *)bpf_get_current_task_btf(), OWNER_CONNECT);
	return opener == OPENER_LOCAL;
}

/* Of the side that connects: the other side's time says nothing of the path. */
static __always_inline void establish(struct sock *sk)
{
	struct session *session = known(sk);

	if (session)
		session->established_ns = bpf_ktime_get_ns();
}

/* The last that this side does: close() or shutdown(). Gives whether the running task was named as the owner. */
static __always_inline int send_fin(struct sock *sk)
{
	struct session *session = known(sk);

	return session && claim(session, OWNER_CLOSE);
}

static __always_inline void tell(struct sock *sk, u8 old_state, struct session *session)
{
	struct tcp_sock *tcp = wanted(sk);
	struct session_event *event;

	if (!tcp)
		return;
	count(COUNTER_SEEN);
	event = events.ringbuf_reserve(sizeof(struct session_event));
	if (event) {
		describe(event, tcp, cookie_of(sk), old_state, CLOSE, session);
		events.ringbuf_submit(event, NO_WAKEUP);
	} else {
		count(COUNTER_LOST);
	}
	if (session)
		forget(sk);
}

/* Two segments that end one handshake at once, on two CPUs, make a socket each, and the kernel throws one away: that is
 * no session, and no attempt that failed. It is known by its way (inet_ehash_nolisten()): not through tcp_set_state(),
 * which takes the port, nor given up, which makes it dead first.
 */
static __always_inline int is_spare(struct sock *sk, int old_state)
{
	struct sock_common *common = (void *)sk;
	struct session *session;

	if (old_state != SYN_RECV || !common->skc_num || common->skc_flags & FLAG_DEAD)
		return 0;
	session = known(sk);
	return session && session->opener == OPENER_REMOTE;
}

int tp_btf__inet_sock_set_state(u64 *ctx)
{
	struct sock *sk = (void *)ctx[0];
	int old_state = ctx[1];
	int state = ctx[2];
	int named = 0;

	if (state == SYN_SENT)
		named = begin(sk, OPENER_LOCAL);
	else if (state == SYN_RECV && old_state != SYN_SENT) /* not a simultaneous open */
		begin(sk, OPENER_REMOTE);
	else if (state == ESTABLISHED && old_state == SYN_SENT)
		establish(sk);
	else if (state == FIN_WAIT1 || state == LAST_ACK)
		named = send_fin(sk);
	else if (state == CLOSE && is_spare(sk, old_state))
		forget(sk);
	else if (state == CLOSE && old_state != LISTEN)
		tell(sk, old_state, known(sk));
	if (named)
		remember_current();
	return 0;
}

/* The kernel does not run a program that it is running already: a close in a softirq that interrupts the program
 * above is not told there. Its session is still remembered when the socket goes.
 */
int tp_btf__tcp_destroy_sock(u64 *ctx)
{
	struct sock *sk = (void *)ctx[0];
	struct session *session = known(sk);

	if (session)
		tell(sk, CLOSE, session);
	return 0;
}

int tp_btf__tcp_receive_reset(u64 *ctx)
{
	struct session *session = known((void *)ctx[0]);

	if (session)
		session->reset |= RESET_RECEIVED;
	return 0;
}

static __always_inline int carries_data(struct sock *sk)
{
	u8 state = ((struct sock_common *)sk)->skc_state;

	return state == ESTABLISHED || state == CLOSE_WAIT || state == FIN_WAIT1 || state == FIN_WAIT2;
}

/* A session that is older than the monitor: its opener is not known. */
static __always_inline struct session *meet(struct sock *sk)
{
	struct session *session = remember(sk);

	if (session)
		session->first_seen_ns = bpf_ktime_get_ns();
	return session;
}

static __always_inline int used(struct sock *sk)
{
	struct session *session = known(sk);

	/* Met here are sessions that were waiting to be accepted when the monitor looked at the file tables. */
	if (!session && sk->sk_protocol == PROTOCOL_TCP && carries_data(sk) && wanted(sk))
		session = meet(sk);
	if (session && claim(session, OWNER_IO))
		remember_current();
	return 0;
}

int tp_btf__sock_recv_length(u64 *ctx)
{
	return used((void *)ctx[0]);
}

int tp_btf__sock_send_length(u64 *ctx)
{
	return used((void *)ctx[0]);
}

/* Before Linux 6.3, which has no sock_recv_length: runs in the reader, after it took something. */
int tp_btf__tcp_rcv_space_adjust(u64 *ctx)
{
	return used((void *)ctx[0]);
}
