/* The kernel's own TCP as the other end of benchmarks/wire.py: what each program of programs.py does, in C, one thread over epoll.
 *
 *   port 7   sends back what it gets, and closes when the peer does
 *   port 9   reads and forgets, and closes when the peer does
 *   port 19  writes 128 KB at a time until the peer is gone
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define ECHO 7
#define SINK 9
#define SOURCE 19
#define FILES 65536

static char buf[1 << 18];
static int service[FILES]; /* by descriptor: the port, negative for its listener */

static void watch(int ep, int fd, unsigned int events)
{
	struct epoll_event event = { .events = events, .data = { .fd = fd } };

	epoll_ctl(ep, EPOLL_CTL_ADD, fd, &event);
}

static void listen_on(int ep, int port)
{
	struct sockaddr_in any = { .sin_family = AF_INET, .sin_port = htons(port) };
	int one = 1, s = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);

	setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(s, (struct sockaddr *)&any, sizeof(any)) || listen(s, 4096)) {
		perror("bind");
		exit(1);
	}
	service[s] = -port;
	watch(ep, s, EPOLLIN);
}

static void accept_one(int ep, int listener)
{
	int one = 1, s = accept4(listener, NULL, NULL, SOCK_NONBLOCK);

	if (s < 0)
		return;
	setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	service[s] = -service[listener];
	watch(ep, s, service[s] == SOURCE ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

/* 0, or -1 when the connection is over. */
static int serve(int fd, unsigned int events)
{
	ssize_t n;

	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
		n = read(fd, buf, sizeof(buf));
		if (n == 0 || (n < 0 && errno != EAGAIN))
			return -1;
		if (n > 0 && service[fd] == ECHO && write(fd, buf, n) != n)
			return -1;
	}
	if (events & EPOLLOUT) {
		n = write(fd, buf, 128 << 10);
		if (n < 0 && errno != EAGAIN)
			return -1;
	}
	return 0;
}

int main(void)
{
	struct rlimit files = { FILES, FILES };
	struct epoll_event events[256];
	int ep = epoll_create1(0);

	signal(SIGPIPE, SIG_IGN);
	setrlimit(RLIMIT_NOFILE, &files);
	listen_on(ep, ECHO);
	listen_on(ep, SINK);
	listen_on(ep, SOURCE);
	printf("ready\n");
	fflush(stdout);
	for (;;) {
		int n = epoll_wait(ep, events, 256, -1);

		for (int i = 0; i < n; i++) {
			int fd = events[i].data.fd;

			if (service[fd] < 0)
				accept_one(ep, fd);
			else if (serve(fd, events[i].events))
				close(fd);
		}
	}
}
