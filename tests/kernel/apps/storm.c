/* storm: open and close TCP connections over loopback as fast as the machine can.
 *
 *     storm [-n CONNECTIONS] [-p PAIRS] [-r ROUNDS] [-q REQUEST_BYTES] [-a REPLY_BYTES]
 *
 * forks PAIRS servers, each with a listener of its own on 127.0.0.1, and as many clients, which share the
 * CONNECTIONS out among them. On each connection the client ROUNDS times sends a request and reads the reply;
 * then the client closes and the server, at its end of file, closes too. With ROUNDS 0 nothing is sent.
 * Defaults: 20000 connections, 2 pairs, 1 round, 100 bytes up, 1000 down: small HTTP requests.
 *
 * prints at the end, as JSON: connections, elapsed_s (first connect to last close), cpu_s (user and system of all
 * processes), servers and clients (pids, in the order of ports), ports. Exit 1 with a message when anything fails.
 *
 * Build: cc -O2 -o storm storm.c
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <error.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MOST_PAIRS 64
#define MOST_BYTES (1 << 20)

struct plan {
	long connections, pairs, rounds, request, reply;
};

struct pair {
	int listener;
	struct sockaddr_in address;
	pid_t server, client;
};

static char buffer[MOST_BYTES];

static void need(int holds, const char *doing)
{
	if (!holds)
		error(1, errno, "%s", doing);
}

static double now_s(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec + now.tv_nsec / 1e9;
}

static void send_all(int sock, long size)
{
	for (long sent; size > 0; size -= sent) {
		sent = send(sock, buffer, size, MSG_NOSIGNAL);
		need(sent > 0, "sending");
	}
}

/* Read exactly so much; 0 at the end of file before the first byte. */
static int read_all(int sock, long size)
{
	for (long left = size, got; left > 0; left -= got) {
		got = recv(sock, buffer, left, 0);
		if (got == 0 && left == size)
			return 0;
		need(got > 0, "receiving");
	}
	return 1;
}

static void serve(int listener, const struct plan *plan, long connections)
{
	while (connections-- > 0) {
		int sock = accept(listener, NULL, NULL);

		need(sock >= 0, "accepting");
		for (long round = 0; round < plan->rounds && read_all(sock, plan->request); round++)
			send_all(sock, plan->reply);
		need(recv(sock, buffer, 1, 0) == 0, "waiting for the client's end");
		close(sock);
	}
}

static void call(const struct sockaddr_in *server, const struct plan *plan)
{
	int sock = socket(AF_INET, SOCK_STREAM, 0), on = 1;

	need(sock >= 0, "making a socket");
	setsockopt(sock, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	need(connect(sock, (const void *)server, sizeof(*server)) == 0, "connecting");
	for (long round = 0; round < plan->rounds; round++) {
		send_all(sock, plan->request);
		need(read_all(sock, plan->reply), "waiting for the reply");
	}
	close(sock);
}

static void listen_on(struct pair *pair)
{
	socklen_t size = sizeof(pair->address);

	pair->address.sin_family = AF_INET;
	pair->address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	pair->listener = socket(AF_INET, SOCK_STREAM, 0);
	need(bind(pair->listener, (void *)&pair->address, size) == 0, "binding");
	need(listen(pair->listener, 1024) == 0, "listening");
	getsockname(pair->listener, (void *)&pair->address, &size);
}

static pid_t fork_child(void)
{
	pid_t child = fork();

	need(child >= 0, "forking");
	if (child == 0)
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	return child;
}

static void start_server(struct pair *pair, const struct plan *plan, long connections)
{
	listen_on(pair);
	pair->server = fork_child();
	if (pair->server == 0) {
		serve(pair->listener, plan, connections);
		_exit(0);
	}
	close(pair->listener);
}

static void start_client(struct pair *pair, const struct plan *plan, long connections)
{
	pair->client = fork_child();
	if (pair->client != 0)
		return;
	while (connections-- > 0)
		call(&pair->address, plan);
	_exit(0);
}

static int ended_well(pid_t child)
{
	int status = 0;

	return waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static long share(const struct plan *plan, long pair)
{
	return plan->connections / plan->pairs + (pair < plan->connections % plan->pairs);
}

static void print_list(const char *name, const struct pair *pairs, long count, int which)
{
	printf(", \"%s\": [", name);
	for (long i = 0; i < count; i++)
		printf("%s%d", i ? ", " : "",
		       which == 0 ? pairs[i].server : which == 1 ? pairs[i].client : ntohs(pairs[i].address.sin_port));
	printf("]");
}

static double cpu_s(void)
{
	struct rusage used;

	getrusage(RUSAGE_CHILDREN, &used);
	return used.ru_utime.tv_sec + used.ru_stime.tv_sec + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

static struct plan read_plan(int count, char **arguments)
{
	struct plan plan = {20000, 2, 1, 100, 1000};

	for (int option; (option = getopt(count, arguments, "n:p:r:q:a:")) != -1;) {
		long *value = option == 'n' ? &plan.connections : option == 'p' ? &plan.pairs :
			      option == 'r' ? &plan.rounds : option == 'q' ? &plan.request :
			      option == 'a' ? &plan.reply : NULL;

		if (!value || (*value = atol(optarg)) < 0)
			error(64, 0, "usage: see the head of storm.c");
	}
	if (plan.pairs < 1 || plan.pairs > MOST_PAIRS || plan.request < 1 || plan.request > MOST_BYTES ||
	    plan.reply < 1 || plan.reply > MOST_BYTES)
		error(64, 0, "1 to %d pairs, 1 to %d bytes", MOST_PAIRS, MOST_BYTES);
	return plan;
}

int main(int count, char **arguments)
{
	struct plan plan = read_plan(count, arguments);
	static struct pair pairs[MOST_PAIRS];
	double began, elapsed;

	for (long i = 0; i < plan.pairs; i++)
		start_server(&pairs[i], &plan, share(&plan, i));
	began = now_s();
	for (long i = 0; i < plan.pairs; i++)
		start_client(&pairs[i], &plan, share(&plan, i));
	for (long i = 0; i < plan.pairs; i++)
		if (!ended_well(pairs[i].client) || !ended_well(pairs[i].server))
			error(1, 0, "a process of the storm failed");
	elapsed = now_s() - began;
	printf("{\"connections\": %ld, \"elapsed_s\": %.6f, \"cpu_s\": %.6f", plan.connections, elapsed, cpu_s());
	print_list("servers", pairs, plan.pairs, 0);
	print_list("clients", pairs, plan.pairs, 1);
	print_list("ports", pairs, plan.pairs, 2);
	printf("}\n");
	return 0;
}
