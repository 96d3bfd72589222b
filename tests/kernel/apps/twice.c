/* twice: end handshakes by two segments at once, on two CPUs, which makes the kernel make two sockets for one.
 *
 *     twice DEVICE ADDRESS PEER PORT
 *
 * makes the TUN device DEVICE and prints "ready". The caller gives it the IPv4 ADDRESS and sets it up. For each line
 * read, PEER, which is nothing but this program, connects ROUND times to PORT: SYN, the answer, then the same ACK from
 * two threads; the connection is accepted, and reset. Prints ROUND.
 *
 * Build: cc -O2 -o twice twice.c
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <error.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define ROUND 200
#define FIRST_PORT 10000

struct packet {
	struct iphdr ip;
	struct tcphdr tcp;
};

static int device, listener;
static struct packet acknowledgement;
static unsigned turn, repeated;

static void need(int holds, const char *doing)
{
	if (!holds)
		error(1, errno, "%s", doing);
}

static uint32_t sum(const void *data, size_t size)
{
	const uint16_t *words = data;
	uint32_t total = 0;

	for (size_t i = 0; i < size / 2; i++)
		total += words[i];
	return total;
}

static uint16_t folded(uint32_t total)
{
	while (total >> 16)
		total = (total & 0xffff) + (total >> 16);
	return ~total;
}

/* From the peer; what is sent has no options and no payload. */
static struct packet segment(const struct sockaddr_in *from, const struct sockaddr_in *to)
{
	struct packet made = {
		.ip = {.version = 4, .ihl = 5, .ttl = 64, .protocol = IPPROTO_TCP, .tot_len = htons(sizeof(made)),
		       .saddr = from->sin_addr.s_addr, .daddr = to->sin_addr.s_addr},
		.tcp = {.source = from->sin_port, .dest = to->sin_port, .doff = 5, .window = htons(65535)},
	};
	return made;
}

static void seal(struct packet *made)
{
	made->ip.check = folded(sum(&made->ip, sizeof(made->ip)));
	made->tcp.check = folded(sum(&made->ip.saddr, 8) + htons(IPPROTO_TCP) + htons(sizeof(made->tcp)) +
				 sum(&made->tcp, sizeof(made->tcp)));
}

static void send_packet(struct packet made)
{
	seal(&made);
	need(write(device, &made, sizeof(made)) == sizeof(made), "writing to the device");
}

/* The sequence number of the answer to the SYN from that port. */
static uint32_t answer_to(uint16_t port)
{
	struct {
		struct packet packet;
		char options[2048];
	} read_one;

	do
		need(read(device, &read_one, sizeof(read_one)) > 0, "reading from the device");
	while (read_one.packet.ip.version != 4 || read_one.packet.ip.protocol != IPPROTO_TCP ||
	       read_one.packet.tcp.dest != port || !read_one.packet.tcp.syn);
	return ntohl(read_one.packet.tcp.seq);
}

static void go_to(int cpu)
{
	cpu_set_t only;

	CPU_ZERO(&only);
	CPU_SET(cpu, &only);
	need(sched_setaffinity(0, sizeof(only), &only) == 0, "going to a CPU of its own");
}

static void acknowledge(void)
{
	need(write(device, &acknowledgement, sizeof(acknowledgement)) > 0, "writing the end of a handshake");
}

/* Spins, because to be woken takes longer than the kernel needs for the segment. */
static void *repeat(void *unused)
{
	go_to(1);
	for (unsigned next = 1;; next++) {
		while (__atomic_load_n(&turn, __ATOMIC_ACQUIRE) < next)
			;
		acknowledge();
		__atomic_store_n(&repeated, next, __ATOMIC_RELEASE);
	}
	return unused;
}

static void connect_once(const struct sockaddr_in *from, const struct sockaddr_in *to)
{
	struct packet opening = segment(from, to), reset = opening;
	int sock;

	opening.tcp.syn = 1;
	opening.tcp.seq = htonl(1000);
	send_packet(opening);
	acknowledgement = segment(from, to);
	acknowledgement.tcp.ack = 1;
	acknowledgement.tcp.seq = htonl(1001);
	acknowledgement.tcp.ack_seq = htonl(answer_to(from->sin_port) + 1);
	seal(&acknowledgement);
	__atomic_add_fetch(&turn, 1, __ATOMIC_RELEASE);
	acknowledge();
	while (__atomic_load_n(&repeated, __ATOMIC_ACQUIRE) < turn)
		sched_yield();
	need((sock = accept(listener, NULL, NULL)) >= 0, "accepting");
	reset.tcp.rst = 1;
	reset.tcp.seq = htonl(1001);
	send_packet(reset);
	close(sock);
}

int main(int count, char **arguments)
{
	struct ifreq wanted = {.ifr_flags = IFF_TUN | IFF_NO_PI};
	struct sockaddr_in here = {.sin_family = AF_INET}, peer = here;
	int port = FIRST_PORT;
	pthread_t thread;
	char line[16];

	need(count == 5, "usage: see the head of twice.c");
	strncpy(wanted.ifr_name, arguments[1], IFNAMSIZ - 1);
	need((device = open("/dev/net/tun", O_RDWR)) >= 0, "opening /dev/net/tun");
	need(ioctl(device, TUNSETIFF, &wanted) == 0, "making the device");
	puts("ready");
	fflush(stdout);
	need(fgets(line, sizeof(line), stdin) != NULL, "waiting for the device to be set up");
	inet_aton(arguments[2], &here.sin_addr);
	inet_aton(arguments[3], &peer.sin_addr);
	here.sin_port = htons(atoi(arguments[4]));
	listener = socket(AF_INET, SOCK_STREAM, 0);
	need(bind(listener, (void *)&here, sizeof(here)) == 0 && listen(listener, 16) == 0, "listening");
	go_to(0);
	need(pthread_create(&thread, NULL, repeat, NULL) == 0, "starting a thread");
	do {
		for (int i = 0; i < ROUND; i++) {
			peer.sin_port = htons(port++);
			connect_once(&peer, &here);
		}
		printf("%d\n", ROUND);
		fflush(stdout);
	} while (fgets(line, sizeof(line), stdin));
	return 0;
}
