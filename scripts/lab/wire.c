/* wire: virtual cables. Each is two TUN devices in two network namespaces, joined by this process.
 *
 *     namespace A, device A  ── up ──>  namespace B, device B        up:   from the site towards the core
 *                           <─ down ──                               down: from the core towards the site
 *
 * Each direction has a delay, a half-normal jitter on top of it, a random loss, a rate with a bounded queue in
 * front, and counters. Packets keep their order. The same seed gives the same losses and jitters.
 *
 *     wire NS_A DEVICE_A NS_B DEVICE_B CONTROL SEED [DIRECTION.KEY=VALUE ...] [-- NS_A ...]
 *
 * prints "ready" once all devices exist. CONTROL is the path of a UNIX datagram socket, one a cable; every request
 * gets one answer:
 *
 *     get                                  settings and counters, as JSON
 *     set up.delay_us=20000 down.loss_ppm=3000 ...     "ok", or "error: ..." and nothing is changed
 *
 * One process for all cables of a lab, because a way leads over several: the kernel forwards a packet from one cable
 * to the next within the write that delivers it. So the next cable takes it as having come when it was due, and what
 * this process is late with one cable does not add up along the way. Only where a packet leaves the last cable does a
 * late delivery show, and there it is waited for awake.
 *
 * The kernel here has no netem. It ends on SIGTERM, and with its parent; the devices vanish with it.
 *
 * Build: cc -O2 -o wire wire.c -lm
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <math.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define SLOTS 16384          /* packets in flight per direction: 1.3 s at 150 Mbit/s; beyond it, dropped and counted */
#define BATCH 64             /* packets read before deliveries get their turn */
#define LARGEST_PACKET 65536
#define REQUEST_BYTES 2048
#define REALTIME_PRIORITY 10
#define CABLES 64
#define ENDS (2 * CABLES)
#define LEAD_MOST_NS 400000  /* never wake, and so never spin, more than this ahead of a delivery */
#define SPIN_SHARE 4         /* spin at most 1/4 of the time of one CPU */
#define SPIN_MOST_NS 20000000
#define SLEPT_NS 20000       /* a poll that took longer did sleep */
#define MADE_UP_MOST_NS 5000000 /* a delivery that was later than this was no matter of waking up */

struct settings {
	int64_t delay_us, jitter_us, loss_ppm, rate_kbps, queue_us; /* rate 0 = unlimited */
};

struct counters {
	uint64_t packets, bytes, lost, queue_dropped, delivered, refused;
};

struct packet {
	int64_t due_ns;
	int length;
	unsigned char *bytes;
};

struct direction {
	const char *name;
	struct end *from, *to;
	struct settings set;
	struct counters count;
	struct packet ring[SLOTS];
	unsigned head, tail;         /* free-running; tail - head packets wait */
	int64_t line_free_ns;        /* when the last packet will have been put on the line */
	int64_t last_due_ns;
	uint64_t random;
};

struct cable {
	struct direction lines[2];
	int control;
};

/* One device. */
struct end {
	int fd;
	const char *namespace;
	struct direction *out;   /* what is read here goes there */
	struct end *near[ENDS];  /* the devices of its namespace, itself included: ICMP errors go back at once */
	int near_count;          /* 1: no other cable here, packets go to hosts */
};

/* How late sleeps end here, learnt as TCP learns its round trip (RFC 6298): the loop wakes that much ahead. */
struct lateness {
	double mean_ns, deviation_ns;
	int64_t spin_left_ns, counted_ns;
};

struct key {
	const char *name;
	size_t offset;
	int64_t most;
};

static const struct key KEYS[] = {
	{"delay_us", offsetof(struct settings, delay_us), 60000000},
	{"jitter_us", offsetof(struct settings, jitter_us), 10000000},
	{"loss_ppm", offsetof(struct settings, loss_ppm), 1000000},
	{"rate_kbps", offsetof(struct settings, rate_kbps), 100000000},
	{"queue_us", offsetof(struct settings, queue_us), 60000000},
};
#define KEY_COUNT (sizeof KEYS / sizeof KEYS[0])

static const char *const NAMES[2] = {"up", "down"};
static struct cable *cables[CABLES];
static struct end ends[ENDS];
static int cable_count, end_count;
static struct lateness late;
static int realtime;

static void die(const char *doing, const char *what)
{
	fprintf(stderr, "wire: %s %s: %s\n", doing, what, strerror(errno));
	exit(1);
}

static int64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

/* xorshift64 (Marsaglia 2003): uniform in (0, 1]. */
static double uniform(struct direction *line)
{
	line->random ^= line->random << 13;
	line->random ^= line->random >> 7;
	line->random ^= line->random << 17;
	return ((line->random >> 11) + 1) * (1.0 / 9007199254740992.0);
}

/* |N(0, sigma)| by Box and Muller. */
static int64_t half_normal(struct direction *line, int64_t sigma_ns)
{
	double radius = sqrt(-2 * log(uniform(line)));
	return (int64_t)fabs(sigma_ns * radius * cos(2 * M_PI * uniform(line)));
}

static void seed(struct direction *line, uint64_t value)
{
	/* splitmix64, so that neighbouring seeds give unrelated streams */
	value += 0x9E3779B97F4A7C15ULL;
	value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9ULL;
	value = (value ^ (value >> 27)) * 0x94D049BB133111EBULL;
	line->random = (value ^ (value >> 31)) | 1;
}

/* --- the devices ------------------------------------------------------------------------------------- */

static void enter(const char *namespace)
{
	char path[256];
	snprintf(path, sizeof path, "/run/netns/%s", namespace);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || setns(fd, CLONE_NEWNET))
		die("entering namespace", path);
	close(fd);
}

static int open_tun(const char *namespace, const char *device)
{
	enter(namespace);
	int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		die("opening", "/dev/net/tun");
	struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI};
	snprintf(request.ifr_name, IFNAMSIZ, "%s", device);
	if (ioctl(fd, TUNSETIFF, &request))
		die("making device", device);
	return fd;
}

/* --- settings ---------------------------------------------------------------------------------------- */

static int64_t *value_of(struct settings *settings, const struct key *key)
{
	return (int64_t *)((char *)settings + key->offset);
}

static const struct key *find_key(const char *name, size_t length)
{
	for (size_t i = 0; i < KEY_COUNT; i++)
		if (strlen(KEYS[i].name) == length && !memcmp(KEYS[i].name, name, length))
			return &KEYS[i];
	return NULL;
}

static int find_line(const char *word)
{
	for (int i = 0; i < 2; i++) {
		size_t length = strlen(NAMES[i]);
		if (!strncmp(word, NAMES[i], length) && word[length] == '.')
			return i;
	}
	return -1;
}

/* Takes one "up.delay_us=20000" into `wanted`; 0, or -1 if it is not one. */
static int take_setting(struct settings wanted[2], const char *word)
{
	int line = find_line(word);
	const char *equals = strchr(word, '=');
	if (line < 0 || !equals)
		return -1;
	const char *name = strchr(word, '.') + 1;
	const struct key *key = find_key(name, equals - name);
	char *end;
	int64_t value = strtoll(equals + 1, &end, 10);
	if (!key || end == equals + 1 || *end || value < 0 || value > key->most)
		return -1;
	*value_of(&wanted[line], key) = value;
	return 0;
}

/* --- packets ----------------------------------------------------------------------------------------- */

/* When a packet that arrives now has been put on the line; -1 if the queue in front of it is full. */
static int64_t serialise(struct direction *line, int64_t now, int length)
{
	if (!line->set.rate_kbps)
		return now;
	int64_t start = now > line->line_free_ns ? now : line->line_free_ns;
	if (start - now > line->set.queue_us * 1000)
		return -1;
	line->line_free_ns = start + length * 8000000LL / line->set.rate_kbps;
	return line->line_free_ns;
}

static int is_lost(struct direction *line)
{
	return line->set.loss_ppm && uniform(line) * 1e6 <= line->set.loss_ppm;
}

static int64_t due_of(struct direction *line, int64_t sent_ns)
{
	int64_t due = sent_ns + line->set.delay_us * 1000;
	if (line->set.jitter_us)
		due += half_normal(line, line->set.jitter_us * 1000);
	if (due < line->last_due_ns)
		due = line->last_due_ns; /* a cable does not reorder */
	line->last_due_ns = due;
	return due;
}

static void keep(struct direction *line, const unsigned char *bytes, int length, int64_t due_ns)
{
	struct packet *slot = &line->ring[line->tail % SLOTS];
	slot->bytes = malloc(length);
	if (!slot->bytes)
		die("keeping", "a packet");
	memcpy(slot->bytes, bytes, length);
	slot->length = length;
	slot->due_ns = due_ns;
	line->tail++;
}

static void accept_packet(struct direction *line, const unsigned char *bytes, int length, int64_t arrived_ns)
{
	line->count.packets++;
	line->count.bytes += length;
	int64_t sent = serialise(line, arrived_ns, length);
	if (sent < 0 || line->tail - line->head >= SLOTS) {
		line->count.queue_dropped++;
		return;
	}
	if (is_lost(line)) {
		line->count.lost++;
		return;
	}
	keep(line, bytes, length, due_of(line, sent));
}

/* Takes in what waits at an end; the first packet came at `arrived_ns`, or all did if `all`. */
static void take_in(struct end *end, int64_t arrived_ns, int all)
{
	static unsigned char bytes[LARGEST_PACKET];
	for (int i = 0; i < BATCH; i++) {
		ssize_t length = read(end->fd, bytes, sizeof bytes);
		if (length <= 0)
			return;
		accept_packet(end->out, bytes, (int)length, i && !all ? now_ns() : arrived_ns);
	}
}

/* Hands one packet to its device, and to the next cable if there is one: it came there when it was due. */
static void deliver(struct direction *line)
{
	struct packet *packet = &line->ring[line->head++ % SLOTS];
	int64_t now = now_ns();
	if (write(line->to->fd, packet->bytes, packet->length) == packet->length)
		line->count.delivered++;
	else
		line->count.refused++; /* the device is down */
	free(packet->bytes);
	int64_t came = now - packet->due_ns < MADE_UP_MOST_NS ? packet->due_ns : now;
	for (int i = 0; i < line->to->near_count; i++)
		take_in(line->to->near[i], came, 1);
}

static int waits(const struct direction *line)
{
	return line->head != line->tail;
}

static int64_t next_due(const struct direction *line)
{
	return line->ring[line->head % SLOTS].due_ns;
}

/* The direction whose next packet is due first; NULL if none waits. */
static struct direction *first_due(void)
{
	struct direction *first = NULL;
	for (int i = 0; i < end_count; i++)
		if (waits(ends[i].out) && (!first || next_due(ends[i].out) < next_due(first)))
			first = ends[i].out;
	return first;
}

static void deliver_due(void)
{
	struct direction *line;
	for (int i = 0; i < BATCH && (line = first_due()) && next_due(line) <= now_ns(); i++)
		deliver(line);
}

/* --- waiting ----------------------------------------------------------------------------------------- */

static int to_hosts(const struct direction *line)
{
	return line->to->near_count == 1;
}

static void learn(int64_t overshoot_ns)
{
	double seen = overshoot_ns > LEAD_MOST_NS ? LEAD_MOST_NS : overshoot_ns;
	double error = seen - late.mean_ns;
	late.mean_ns += error / 16;
	late.deviation_ns += (fabs(error) - late.deviation_ns) / 16;
}

static int64_t lead_ns(void)
{
	double lead = late.mean_ns + 3 * late.deviation_ns;
	return lead > LEAD_MOST_NS ? LEAD_MOST_NS : (int64_t)lead;
}

/* A share of the time gone by may be spun, saved up to a limit. */
static int may_spin(int64_t now)
{
	late.spin_left_ns += (now - late.counted_ns) / SPIN_SHARE;
	late.counted_ns = now;
	if (late.spin_left_ns > SPIN_MOST_NS)
		late.spin_left_ns = SPIN_MOST_NS;
	return late.spin_left_ns > LEAD_MOST_NS;
}

static int sleep_until(struct pollfd *fds, int64_t wake_ns)
{
	int64_t left = wake_ns - now_ns();
	if (left < 0)
		left = 0;
	struct timespec timeout = {left / 1000000000, left % 1000000000};
	int ready = ppoll(fds, end_count + cable_count, &timeout, NULL);
	if (!ready && left)
		learn(now_ns() - wake_ns);
	return ready;
}

static void spin_until(int64_t due)
{
	int64_t woke = now_ns(), now = woke;
	while (now < due)
		now = now_ns();
	late.spin_left_ns -= now - woke;
}

/* What a sleep ended late by, almost surely: on a busy machine some end on time, and no packet may be early for it. */
static int64_t surely_late_ns(void)
{
	double least = late.mean_ns - 2 * late.deviation_ns;
	return least > 0 ? (int64_t)least : 0;
}

/* Returns how long ago a packet came if one ended the sleep: waking takes as long as sleeps end late. */
static int64_t wait_for_work(struct pollfd *fds)
{
	struct direction *line = first_due();
	int64_t began = now_ns();
	int spin = line && to_hosts(line) && may_spin(began), ready;
	if (!line)
		ready = ppoll(fds, end_count + cable_count, NULL, NULL);
	else
		ready = sleep_until(fds, next_due(line) - (spin ? lead_ns() : 0));
	if (!ready && spin)
		spin_until(next_due(line));
	return ready && now_ns() - began > SLEPT_NS ? surely_late_ns() : 0;
}

/* --- control ----------------------------------------------------------------------------------------- */

static int write_line(char *text, size_t room, const struct direction *line)
{
	const struct settings *s = &line->set;
	const struct counters *c = &line->count;
	return snprintf(text, room,
		"\"%s\":{\"delay_us\":%lld,\"jitter_us\":%lld,\"loss_ppm\":%lld,\"rate_kbps\":%lld,\"queue_us\":%lld,"
		"\"packets\":%llu,\"bytes\":%llu,\"lost\":%llu,\"queue_dropped\":%llu,\"delivered\":%llu,\"refused\":%llu}",
		line->name, (long long)s->delay_us, (long long)s->jitter_us, (long long)s->loss_ppm,
		(long long)s->rate_kbps, (long long)s->queue_us, (unsigned long long)c->packets,
		(unsigned long long)c->bytes, (unsigned long long)c->lost, (unsigned long long)c->queue_dropped,
		(unsigned long long)c->delivered, (unsigned long long)c->refused);
}

static void answer_get(const struct cable *cable, char *answer, size_t room)
{
	int n = snprintf(answer, room, "{\"realtime\":%d,\"lead_us\":%lld,", realtime, (long long)lead_ns() / 1000);
	n += write_line(answer + n, room - n, &cable->lines[0]);
	n += snprintf(answer + n, room - n, ",");
	n += write_line(answer + n, room - n, &cable->lines[1]);
	snprintf(answer + n, room - n, "}");
}

/* All or nothing: a request with one bad word changes nothing. */
static void answer_set(struct cable *cable, char *answer, size_t room, char *words)
{
	struct settings wanted[2] = {cable->lines[0].set, cable->lines[1].set};
	char *rest;
	for (char *word = strtok_r(words, " ", &rest); word; word = strtok_r(NULL, " ", &rest))
		if (take_setting(wanted, word)) {
			snprintf(answer, room, "error: not a setting: %.200s", word);
			return;
		}
	cable->lines[0].set = wanted[0];
	cable->lines[1].set = wanted[1];
	snprintf(answer, room, "ok");
}

static void answer_control(struct cable *cable)
{
	char request[REQUEST_BYTES], answer[REQUEST_BYTES];
	struct sockaddr_un from;
	socklen_t from_length = sizeof from;
	ssize_t length = recvfrom(cable->control, request, sizeof request - 1, 0, (struct sockaddr *)&from, &from_length);
	if (length < 0)
		return;
	request[length] = 0;
	if (!strcmp(request, "get"))
		answer_get(cable, answer, sizeof answer);
	else if (!strncmp(request, "set ", 4))
		answer_set(cable, answer, sizeof answer, request + 4);
	else
		snprintf(answer, sizeof answer, "error: say get, or set DIRECTION.KEY=VALUE ...");
	/* Whoever asked and left gets no answer: nothing to do about it. */
	sendto(cable->control, answer, strlen(answer), MSG_DONTWAIT, (struct sockaddr *)&from, from_length);
}

static int open_control(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof address.sun_path) {
		errno = ENAMETOOLONG;
		die("control socket", path);
	}
	strcpy(address.sun_path, path);
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	unlink(path);
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address))
		die("control socket", path);
	return fd;
}

/* --- start ------------------------------------------------------------------------------------------- */

static void be_punctual(void)
{
	struct sched_param priority = {.sched_priority = REALTIME_PRIORITY};
	prctl(PR_SET_TIMERSLACK, 1);
	mlockall(MCL_CURRENT);
	realtime = !sched_setscheduler(0, SCHED_FIFO, &priority); /* a container may forbid it; `get` says so */
}

static void usage(void)
{
	fprintf(stderr, "usage: wire NS_A DEVICE_A NS_B DEVICE_B CONTROL SEED [DIRECTION.KEY=VALUE ...] [-- NS_A ...]\n");
	exit(64);
}

static void read_settings(struct cable *cable, int count, char **words)
{
	struct settings wanted[2] = {{.queue_us = 100000}, {.queue_us = 100000}};
	for (int i = 0; i < count; i++)
		if (take_setting(wanted, words[i])) {
			fprintf(stderr, "wire: not a setting: %s\n", words[i]);
			exit(64);
		}
	cable->lines[0].set = wanted[0];
	cable->lines[1].set = wanted[1];
}

static struct end *add_end(const char *namespace, const char *device, struct direction *out)
{
	struct end *end = &ends[end_count++];
	end->fd = open_tun(namespace, device);
	end->namespace = namespace;
	end->out = out;
	return end;
}

static void add_cable(int count, char **words)
{
	struct cable *cable = calloc(1, sizeof *cable);
	if (count < 6 || cable_count == CABLES)
		usage();
	if (!cable)
		die("making", "a cable");
	read_settings(cable, count - 6, words + 6);
	struct direction *up = &cable->lines[0], *down = &cable->lines[1];
	up->from = down->to = add_end(words[0], words[1], up);
	up->to = down->from = add_end(words[2], words[3], down);
	for (int i = 0; i < 2; i++) {
		cable->lines[i].name = NAMES[i];
		seed(&cable->lines[i], 2 * strtoull(words[5], NULL, 10) + i);
	}
	cable->control = open_control(words[4]);
	cables[cable_count++] = cable;
}

static void read_cables(int count, char **words)
{
	for (int from = 0, to; from < count; from = to + 1) {
		for (to = from; to < count && strcmp(words[to], "--"); to++)
			;
		add_cable(to - from, words + from);
	}
	if (!cable_count)
		usage();
}

static void find_near(void)
{
	for (int i = 0; i < end_count; i++)
		for (int j = 0; j < end_count; j++)
			if (!strcmp(ends[i].namespace, ends[j].namespace))
				ends[i].near[ends[i].near_count++] = &ends[j];
}

int main(int argc, char **argv)
{
	static struct pollfd fds[ENDS + CABLES];
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	read_cables(argc - 1, argv + 1);
	find_near();
	be_punctual();
	puts("ready");
	fflush(stdout);
	for (int i = 0; i < end_count; i++)
		fds[i] = (struct pollfd){ends[i].fd, POLLIN, 0};
	for (int i = 0; i < cable_count; i++)
		fds[end_count + i] = (struct pollfd){cables[i]->control, POLLIN, 0};
	for (;;) {
		int64_t noticed_late_ns = wait_for_work(fds);
		int64_t came = now_ns() - noticed_late_ns;
		for (int i = 0; i < end_count; i++) {
			if (fds[i].revents & POLLIN)
				take_in(&ends[i], came, 0);
			if (fds[i].revents & (POLLERR | POLLHUP | POLLNVAL))
				return 0; /* a namespace was removed, and its device with it */
		}
		deliver_due();
		for (int i = 0; i < cable_count; i++)
			if (fds[end_count + i].revents & POLLIN)
				answer_control(cables[i]);
	}
}
