/* uring: a TCP client that talks through io_uring alone: connect, send, receive, close.
 *
 *     uring inline|worker|sqpoll ADDRESS4 PORT [PAUSE]
 *
 * inline: in the calling task. worker: on the kernel's worker threads of this process (IOSQE_ASYNC).
 * sqpoll: by the kernel's polling thread. With PAUSE it waits for a line on its input before the close.
 *
 * sends "question", prints what came back. Exit 77 where the kernel refuses that kind of ring, 1 on an error.
 *
 * Build: cc -O2 -o uring uring.c. Without liburing, so that the tests need no more packages.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <error.h>
#include <linux/io_uring.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SQPOLL_IDLE_MS 1000

struct ring {
	int descriptor, is_polled, flags;
	struct io_uring_sqe *requests;
	unsigned *sq_tail, *sq_mask, *sq_array, *sq_flags;
	unsigned *cq_head, *cq_tail, *cq_mask;
	struct io_uring_cqe *completions;
};

static void *map(int descriptor, size_t size, off_t at)
{
	void *mapped = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, descriptor, at);

	if (mapped == MAP_FAILED)
		error(1, errno, "mapping the ring");
	return mapped;
}

static struct ring open_ring(const char *mode)
{
	struct io_uring_params params = {0};
	struct ring ring = {0};
	char *sq, *cq;

	ring.is_polled = strcmp(mode, "sqpoll") == 0;
	ring.flags = strcmp(mode, "worker") == 0 ? IOSQE_ASYNC : 0;
	params.flags = ring.is_polled ? IORING_SETUP_SQPOLL : 0;
	params.sq_thread_idle = SQPOLL_IDLE_MS;
	ring.descriptor = syscall(SYS_io_uring_setup, 8, &params);
	if (ring.descriptor < 0)
		error(77, errno, "io_uring_setup (%s)", mode);
	sq = map(ring.descriptor, params.sq_off.array + params.sq_entries * sizeof(unsigned), IORING_OFF_SQ_RING);
	cq = map(ring.descriptor, params.cq_off.cqes + params.cq_entries * sizeof(struct io_uring_cqe), IORING_OFF_CQ_RING);
	ring.requests = map(ring.descriptor, params.sq_entries * sizeof(struct io_uring_sqe), IORING_OFF_SQES);
	ring.sq_tail = (unsigned *)(sq + params.sq_off.tail);
	ring.sq_mask = (unsigned *)(sq + params.sq_off.ring_mask);
	ring.sq_array = (unsigned *)(sq + params.sq_off.array);
	ring.sq_flags = (unsigned *)(sq + params.sq_off.flags);
	ring.cq_head = (unsigned *)(cq + params.cq_off.head);
	ring.cq_tail = (unsigned *)(cq + params.cq_off.tail);
	ring.cq_mask = (unsigned *)(cq + params.cq_off.ring_mask);
	ring.completions = (struct io_uring_cqe *)(cq + params.cq_off.cqes);
	return ring;
}

/* Hand over what is queued, and wait for one completion. */
static void enter(struct ring *ring)
{
	unsigned flags = IORING_ENTER_GETEVENTS;

	if (ring->is_polled && (__atomic_load_n(ring->sq_flags, __ATOMIC_SEQ_CST) & IORING_SQ_NEED_WAKEUP))
		flags |= IORING_ENTER_SQ_WAKEUP;
	if (syscall(SYS_io_uring_enter, ring->descriptor, 1, 1, flags, NULL, 0) < 0)
		error(1, errno, "io_uring_enter");
}

/* Do one operation, and give its result. */
static int run(struct ring *ring, const char *doing, struct io_uring_sqe request)
{
	unsigned tail = *ring->sq_tail, head = *ring->cq_head, at = tail & *ring->sq_mask;
	int result;

	request.flags = ring->flags;
	ring->requests[at] = request;
	ring->sq_array[at] = at;
	__atomic_store_n(ring->sq_tail, tail + 1, __ATOMIC_SEQ_CST);
	enter(ring);
	while (__atomic_load_n(ring->cq_tail, __ATOMIC_ACQUIRE) == head)
		usleep(100);
	result = ring->completions[head & *ring->cq_mask].res;
	__atomic_store_n(ring->cq_head, head + 1, __ATOMIC_RELEASE);
	if (result < 0)
		error(1, -result, "%s", doing);
	return result;
}

int main(int count, char **arguments)
{
	static char answer[100], question[] = "question";
	struct sockaddr_in server = {.sin_family = AF_INET};
	struct ring ring;
	int sock = socket(AF_INET, SOCK_STREAM, 0), size;

	if (count < 4)
		error(64, 0, "usage: uring inline|worker|sqpoll ADDRESS4 PORT [PAUSE]");
	inet_pton(AF_INET, arguments[2], &server.sin_addr);
	server.sin_port = htons(atoi(arguments[3]));
	ring = open_ring(arguments[1]);
	run(&ring, "connecting", (struct io_uring_sqe){.opcode = IORING_OP_CONNECT, .fd = sock,
		.addr = (unsigned long)&server, .off = sizeof(server)});
	run(&ring, "sending", (struct io_uring_sqe){.opcode = IORING_OP_SEND, .fd = sock,
		.addr = (unsigned long)question, .len = strlen(question)});
	size = run(&ring, "receiving", (struct io_uring_sqe){.opcode = IORING_OP_RECV, .fd = sock,
		.addr = (unsigned long)answer, .len = sizeof(answer)});
	printf("%.*s\n", size, answer);
	fflush(stdout);
	if (count > 4)
		getchar();
	run(&ring, "closing", (struct io_uring_sqe){.opcode = IORING_OP_CLOSE, .fd = sock});
	return 0;
}
