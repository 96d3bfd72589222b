/* TCP sessions that are open now, and listening sockets: every socket in every task's file table.
 *
 * Comes after session.bpf.c. A socket that several tasks hold is told once for each of them.
 */

/* Until somebody uses a session that is older than the monitor, its owner is who holds it. */
static __always_inline struct session *known_session(u64 sk, u64 task)
{
	struct session *session = sessions.lookup(&sk);

	if (!session)
		session = meet(sk);
	if (session && session->owner_evidence == OWNER_NONE)
		name_owner(session, task, OWNER_FILE_TABLE);
	return session;
}

BPF_ITER(task_file)
{
	struct seq_file *seq = (void *)((struct bpf_iter_meta *)ctx->meta)->seq;
	struct file *file = (void *)ctx->file;
	u64 task = ctx->task;
	struct session_event event = {};
	struct session holder = {};
	struct socket *socket;
	struct sock *sock;
	u64 sk;
	u8 state = 0;

	if (!file || !task)
		return 0;
	socket = bpf_sock_from_file(file);
	if (!socket)
		return 0;
	sock = (void *)socket->sk;
	if (!sock || !bpf_skc_to_tcp_sock(sock))
		return 0;
	sk = (u64)sock;
	READ(state, ((struct sock_common *)sk)->skc_state);
	if (state == CLOSE || !is_wanted(sk))
		return 0;
	if (state == LISTEN) {
		name_owner(&holder, task, OWNER_FILE_TABLE);
		describe(&event, sk, state, state, &holder);
	} else {
		describe(&event, sk, state, state, known_session(sk, task));
	}
	bpf_seq_write(seq, &event, sizeof(event));
	return 0;
}
