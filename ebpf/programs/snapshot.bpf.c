/* TCP sessions that are open now, and listening sockets: every socket in every task's file table.
 *
 * A socket that several tasks hold is told once for each of them.
 */

/* What the stack has no room for. */
struct sheet {
	struct session_event event;
	struct session holder; /* of a listening socket; only its owner is ever set */
};

BPF_PERCPU_ARRAY(sheets, struct sheet, 1);

/* Until somebody uses a session that is older than the monitor, its owner is who holds it. */
static __always_inline struct session *held_session(struct sock *sk, struct task_struct *task)
{
	struct session *session = known(sk);

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
	struct task_struct *task = (void *)ctx->task;
	struct sheet *sheet;
	struct socket *socket;
	struct tcp_sock *tcp;
	struct sock *sk;
	u64 cookie;
	u8 state;
	int only = 0;

	if (!file || !task)
		return 0;
	sheet = sheets.lookup(&only);
	if (!sheet)
		return 0;
	socket = bpf_sock_from_file(file);
	if (!socket)
		return 0;
	sk = (void *)socket->sk;
	if (!sk)
		return 0;
	tcp = wanted(sk);
	if (!tcp)
		return 0;
	state = ((struct sock_common *)tcp)->skc_state;
	if (state == CLOSE)
		return 0;
	cookie = cookie_of(sk);
	if (state == LISTEN) {
		name_owner(&sheet->holder, task, OWNER_FILE_TABLE);
		describe(&sheet->event, tcp, cookie, state, state, &sheet->holder);
	} else {
		describe(&sheet->event, tcp, cookie, state, state, held_session(sk, task));
	}
	remember_owner(task);
	bpf_seq_write(seq, &sheet->event, sizeof(sheet->event));
	return 0;
}
