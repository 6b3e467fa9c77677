/* What a test puts between the exporter and the system, by LD_PRELOAD: errors of accept, and a clock
   that jumps. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* ACCEPT_ERRORS: what each call fails with, one after the other; 0 lets a call through. */
int accept4(int listener, struct sockaddr *address, socklen_t *length, int flags)
{
	static char *next;
	if (!next)
		next = getenv("ACCEPT_ERRORS");
	if (next && *next) {
		int error = strtol(next, &next, 10);
		next += *next == ',';
		if (error) {
			errno = error;
			return -1;
		}
	}
	return syscall(SYS_accept4, listener, address, length, flags);
}

/* CLOCK: a file that says by how many seconds Unix time is ahead. CLOCK_MONOTONIC, on which an Instant and
   a sleep go by, is left alone: so it is, too, when a machine has slept. */
int clock_gettime(clockid_t clock, struct timespec *time)
{
	int result = syscall(SYS_clock_gettime, clock, time);
	long seconds = 0;
	FILE *file = clock == CLOCK_REALTIME ? fopen(getenv("CLOCK") ?: "", "r") : NULL;
	if (file) {
		if (fscanf(file, "%ld", &seconds) == 1)
			time->tv_sec += seconds;
		fclose(file);
	}
	return result;
}
