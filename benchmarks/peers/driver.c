/* The kernel's side of each measurement of benchmarks/wire.py, as a client. It prints one JSON line.
 *
 *   driver HOST PORT sink    SECONDS   connect, write 128 KB at a time, shutdown, wait for the peer's end: bytes over all that time
 *   driver HOST PORT source  SECONDS   connect, read 256 KB at a time
 *   driver HOST PORT rr      SECONDS   one byte there, one byte back, one connection
 *   driver HOST PORT crr     SECONDS   connect, shutdown, read to the end, close; one connection after the other
 *   driver HOST PORT idle    COUNT     connect COUNT times, print, wait for a line on standard input, have one byte echoed on each
 *
 * Whatever fails ends it with a status that is not 0: a figure with errors in it is none.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PATIENCE 20 /* seconds that a connect, read or write may take */

static struct sockaddr_in peer;
static char buf[1 << 18];

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec * 1e-9;
}

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static int connected(void)
{
	int one = 1, s = socket(AF_INET, SOCK_STREAM, 0);
	struct timeval patience = { PATIENCE, 0 };

	if (s < 0)
		die("socket");
	setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	setsockopt(s, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	if (connect(s, (struct sockaddr *)&peer, sizeof(peer)))
		die("connect");
	return s;
}

static void read_end(int s)
{
	ssize_t n = read(s, buf, 1);

	if (n < 0)
		die("read");
	if (n > 0) {
		fprintf(stderr, "the peer sent something instead of its end\n");
		exit(1);
	}
}

static void sink(double seconds)
{
	int s = connected();
	double began = now(), elapsed;
	uint64_t bytes = 0;

	while (now() - began < seconds) {
		ssize_t n = write(s, buf, 128 << 10);

		if (n < 0)
			die("write");
		bytes += n;
	}
	shutdown(s, SHUT_WR);
	read_end(s);
	elapsed = now() - began;
	printf("{\"bytes\": %lu, \"seconds\": %.6f}\n", bytes, elapsed);
}

static void source(double seconds)
{
	int s = connected();
	double began = now(), elapsed;
	uint64_t bytes = 0;

	while ((elapsed = now() - began) < seconds) {
		ssize_t n = read(s, buf, sizeof(buf));

		if (n <= 0)
			die("read");
		bytes += n;
	}
	printf("{\"bytes\": %lu, \"seconds\": %.6f}\n", bytes, elapsed);
}

static int by_value(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;

	return (x > y) - (x < y);
}

static void rr(double seconds)
{
	int s = connected();
	size_t room = 1 << 22, n = 0;
	float *took = calloc(room, sizeof(*took));
	double began = now(), before = began, after = began;

	while (after - began < seconds && n < room) {
		before = after;
		if (write(s, "x", 1) != 1)
			die("write");
		if (read(s, buf, 1) != 1)
			die("read");
		after = now();
		took[n++] = after - before;
	}
	qsort(took, n, sizeof(*took), by_value);
	printf("{\"count\": %zu, \"seconds\": %.6f, \"p50_us\": %.1f, \"p99_us\": %.1f}\n", n, after - began,
	       took[n / 2] * 1e6, took[n * 99 / 100] * 1e6);
}

static void crr(double seconds)
{
	double began = now(), elapsed;
	uint64_t count = 0;

	while ((elapsed = now() - began) < seconds) {
		int s = connected();

		shutdown(s, SHUT_WR);
		read_end(s);
		close(s);
		count++;
	}
	printf("{\"count\": %lu, \"seconds\": %.6f}\n", count, elapsed);
}

static void idle(int count)
{
	struct rlimit files = { count + 16, count + 16 };
	int *fds = calloc(count, sizeof(*fds));

	setrlimit(RLIMIT_NOFILE, &files);
	for (int i = 0; i < count; i++)
		fds[i] = connected();
	printf("open\n");
	fflush(stdout);
	if (!fgets(buf, sizeof(buf), stdin))
		exit(1);
	for (int i = 0; i < count; i++)
		if (write(fds[i], "x", 1) != 1 || read(fds[i], buf, 1) != 1)
			die("an idle connection");
	printf("{\"count\": %d}\n", count);
}

int main(int argc, char **argv)
{
	if (argc != 5) {
		fprintf(stderr, "driver HOST PORT sink|source|rr|crr|idle SECONDS|COUNT\n");
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	peer.sin_family = AF_INET;
	peer.sin_port = htons(atoi(argv[2]));
	if (inet_pton(AF_INET, argv[1], &peer.sin_addr) != 1) {
		fprintf(stderr, "%s is not an IPv4 address\n", argv[1]);
		return 2;
	}
	if (!strcmp(argv[3], "sink"))
		sink(atof(argv[4]));
	else if (!strcmp(argv[3], "source"))
		source(atof(argv[4]));
	else if (!strcmp(argv[3], "rr"))
		rr(atof(argv[4]));
	else if (!strcmp(argv[3], "crr"))
		crr(atof(argv[4]));
	else if (!strcmp(argv[3], "idle"))
		idle(atoi(argv[4]));
	else
		return 2;
	return 0;
}
