/* What the programs remember of sessions and of their owners, and what they count.
 *
 * Comes after event.h and the structs that ebpf/layout.py made from the running kernel's BTF. The hooks are BTF
 * tracepoints (tp_btf): the verifier knows the type behind each of their pointers, so a kernel field is a plain load,
 * and a wild pointer reads as 0. PEEK is for what the verifier cannot follow.
 */

enum tcp_state {
	ESTABLISHED = 1,
	SYN_SENT = 2,
	SYN_RECV = 3,
	FIN_WAIT1 = 4,
	FIN_WAIT2 = 5,
	TIME_WAIT = 6,
	CLOSE = 7,
	CLOSE_WAIT = 8,
	LAST_ACK = 9,
	LISTEN = 10,
	CLOSING = 11,
	NEW_SYN_RECV = 12,
};
enum opener { OPENER_UNKNOWN, OPENER_LOCAL, OPENER_REMOTE };
enum owner_evidence { OWNER_NONE, OWNER_FILE_TABLE, OWNER_CLOSE, OWNER_IO, OWNER_CONNECT };
enum reset { RESET_SENT = 1, RESET_RECEIVED = 2 };
enum counter { COUNTER_SEEN, COUNTER_LOST, COUNTER_CROWDED_OUT };
enum setting { SETTING_NETNS, SETTING_TICK_US };

#define FAMILY_IPV4 2
#define PROTOCOL_TCP 6
#define TYPE_STREAM 1
#define FLAG_DEAD (1 << 0)	   /* SOCK_DEAD: the application let go of it */
#define FLAG_FIN_RECEIVED (1 << 1) /* SOCK_DONE */
#define NO_WAKEUP 1		   /* BPF_RB_NO_WAKEUP: the reader comes by itself */
#define SENT 2			   /* SEND_SHUTDOWN */

#define PATH_ROOM 256
#define CGROUP_ROOM 96
#define MOST_NAMES 16 /* a power of two */
#define MOST_STEPS 12 /* names and mounts on the way up; the verifier walks them all */

/* What only time can tell of a live session. */
struct session {
	u64 first_seen_ns;
	u64 established_ns;
	u64 owner_started_ns;
	u32 pid;
	u32 thread;
	u8 command[16];
	u8 opener;
	u8 owner_evidence;
	u8 reset;
	u8 reserved[5];
};

/* A process that owns sessions, told when it may be gone; the Python twin is in ebpf/owners.py. */
struct owner {
	u64 started_ns;
	u32 uid;
	u32 reserved;
	u8 cgroup[CGROUP_ROOM];
	u8 executable[PATH_ROOM];
};

/* Room to put an owner together: names from the file up to the root, and what a last name may spill over. */
struct workshop {
	u64 last_started_ns;
	u32 last_pid;
	u32 again;
	u32 count; /* of names */
	u32 length; /* of the path */
	u32 complete; /* up to the root */
	u32 reserved;
	u64 names[MOST_NAMES];
	struct owner owner;
	u8 spill[PATH_ROOM];
};

/* A session has its place by its socket's address, in a table without chains or locks: several times cheaper than a
 * hash, and asked several times a connection. Where two meet at one place, the second is kept among the others.
 */
#define SLOTS_BITS 16
#define SLOTS (1 << SLOTS_BITS)

struct slot {
	u64 socket; /* whose session this is; 0 = none */
	u32 takers; /* who has it, and who is just trying */
	u32 elsewhere; /* sessions of this place among the others */
	struct session session;
};

BPF_ARRAY(slots, struct slot, SLOTS);
BPF_TABLE("hash", u64, struct session, others, 32768);
BPF_TABLE("lru_hash", u32, struct owner, owners, 4096);
BPF_PERCPU_ARRAY(workshops, struct workshop, 1);
BPF_RINGBUF_OUTPUT(events, 1); /* the loader sets the real size */
BPF_PERCPU_ARRAY(counters, u64, 3);
BPF_ARRAY(settings, u64, 2);

#define PEEK(to, from) bpf_probe_read_kernel(&(to), sizeof(to), &(from))

static __always_inline u64 setting(int which)
{
	u64 *value = settings.lookup(&which);

	return value ? *value : 0;
}

static __always_inline void count(int which)
{
	u64 *value = counters.lookup(&which);

	if (value)
		__sync_fetch_and_add(value, 1); /* a softirq may interrupt another of the programs here */
}

/* The verifier allows no arithmetic with a kernel pointer. One of which a byte was written over is a number to it; the
 * uppermost byte of a kernel address is all ones anyway.
 */
static __always_inline u64 as_number(void *pointer)
{
	volatile u64 number = (u64)pointer;

	((volatile u8 *)&number)[sizeof(number) - 1] = 0xff;
	return number;
}

/* By the socket's address: its cookie is not settled yet when an accepted socket begins. Sockets stand at multiples of
 * 64 bytes; the factor is Knuth's (2^64 over the golden ratio).
 */
static __always_inline struct slot *slot_of(struct sock *sk)
{
	int place = (as_number(sk) >> 6) * 0x9e3779b97f4a7c15 >> (64 - SLOTS_BITS);

	return slots.lookup(&place);
}

static __always_inline struct session *known(struct sock *sk)
{
	struct slot *slot = slot_of(sk);
	u64 key = (u64)sk;

	if (!slot)
		return 0;
	if (slot->socket == key)
		return &slot->session;
	return slot->elsewhere ? others.lookup(&key) : 0;
}

/* Of two that try at once at most one reads 1, its own: the other sees both. Whoever does not, steps back. */
static __always_inline int take(struct slot *slot)
{
	__sync_fetch_and_add(&slot->takers, 1);
	if (*(volatile u32 *)&slot->takers == 1)
		return 1;
	__sync_fetch_and_add(&slot->takers, -1);
	return 0;
}

/* Among the others; 0 where these are too many, which is counted. */
static __always_inline struct session *lodge(struct slot *slot, u64 key)
{
	struct session blank = {};

	if (others.insert(&key, &blank)) {
		count(COUNTER_CROWDED_OUT);
		return 0;
	}
	__sync_fetch_and_add(&slot->elsewhere, 1);
	return others.lookup(&key);
}

/* A blank session for a socket that has none; one that its address had before, and whose end nobody told, is over. */
static __always_inline struct session *remember(struct sock *sk)
{
	struct slot *slot = slot_of(sk);
	struct session *session = known(sk);
	u64 key = (u64)sk;

	if (!slot)
		return 0;
	if (!session && take(slot)) {
		session = &slot->session;
		slot->socket = key;
	}
	if (!session)
		return lodge(slot, key);
	__builtin_memset(session, 0, sizeof(*session));
	return session;
}

static __always_inline void forget(struct sock *sk)
{
	struct slot *slot = slot_of(sk);
	u64 key = (u64)sk;

	if (!slot)
		return;
	if (slot->socket == key) {
		slot->socket = 0;
		__sync_fetch_and_add(&slot->takers, -1);
	} else if (!others.delete(&key)) {
		__sync_fetch_and_add(&slot->elsewhere, -1);
	}
}

/* The kernel's own number of a socket, which no other gets before the next boot (inet_diag shows the same). */
static __always_inline u64 cookie_of(struct sock *sk)
{
	return bpf_get_socket_cookie((void *)sk);
}

static __always_inline u32 netns_of(struct sock *sk)
{
	struct net *net = (void *)((struct sock_common *)sk)->skc_net_net;

	return net->ns_inum;
}

/* The socket as the TCP socket it is: of the namespace asked for; 0 for every other. */
static __always_inline struct tcp_sock *wanted(struct sock *sk)
{
	u64 only = setting(SETTING_NETNS);
	struct tcp_sock *tcp = bpf_skc_to_tcp_sock((void *)sk);

	/* The helper takes a raw socket that carries protocol 6 for TCP, and is no tcp_sock. */
	if (!tcp || sk->sk_type != TYPE_STREAM || (only && only != netns_of(sk)))
		return 0;
	return tcp;
}
