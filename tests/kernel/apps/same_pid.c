/* same_pid: two processes with one pid, one after the other. Each connects, sends a byte, and ends.
 *
 *     same_pid ADDRESS4 PORT
 *
 * The first is called "first", the second "second"; prints the pid they had. The second asks for the first one's
 * pid (clone3, set_tid), which root may. Exit 1 with a message when the kernel gives another one.
 *
 * Build: cc -O2 -o same_pid same_pid.c
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <error.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* Fork; with the given pid, unless it is 0. */
static pid_t fork_as(pid_t wanted)
{
	struct clone_args how = {.exit_signal = SIGCHLD};
	pid_t child;

	how.set_tid = wanted ? (uintptr_t)&wanted : 0;
	how.set_tid_size = wanted != 0;
	child = syscall(SYS_clone3, &how, sizeof(how));
	if (child < 0)
		error(1, errno, "forking as pid %d", wanted);
	return child;
}

static void talk(const char *name, const struct sockaddr_in *server)
{
	int sock = socket(AF_INET, SOCK_STREAM, 0);

	prctl(PR_SET_NAME, name);
	if (connect(sock, (const void *)server, sizeof(*server)) || write(sock, "x", 1) != 1)
		error(1, errno, "talking to the server");
	_exit(0);
}

static pid_t run(const char *name, pid_t wanted, const struct sockaddr_in *server)
{
	pid_t child = fork_as(wanted);
	int status = 0;

	if (child == 0)
		talk(name, server);
	if (waitpid(child, &status, 0) != child || status != 0)
		error(1, 0, "the %s process failed", name);
	return child;
}

int main(int count, char **arguments)
{
	struct sockaddr_in server = {.sin_family = AF_INET};
	pid_t first;

	if (count != 3)
		error(64, 0, "usage: same_pid ADDRESS4 PORT");
	inet_pton(AF_INET, arguments[1], &server.sin_addr);
	server.sin_port = htons(atoi(arguments[2]));
	first = run("first", 0, &server);
	run("second", first, &server);
	printf("%d\n", first);
	return 0;
}
