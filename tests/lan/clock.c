/* Lets a process sleep through half an hour: its clocks run ahead of the machine's by as many nanoseconds as the file
   in LAB_CLOCK says at that moment (eight bytes, little-endian). Preloaded into the processes of one test (tests/lan/clock.py).
   Absolute deadlines that are handed to the C library are given back to it by the machine's clock. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile long long *ahead;
static int (*real_clock)(clockid_t, struct timespec *);
static int (*real_sem)(sem_t *, clockid_t, const struct timespec *);
static int (*real_sem_timed)(sem_t *, const struct timespec *);
static int (*real_cond)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
static int (*real_cond_clock)(pthread_cond_t *, pthread_mutex_t *, clockid_t, const struct timespec *);

__attribute__((constructor)) static void begin(void) {
    real_clock = dlsym(RTLD_NEXT, "clock_gettime");
    real_sem = dlsym(RTLD_NEXT, "sem_clockwait");
    real_sem_timed = dlsym(RTLD_NEXT, "sem_timedwait");
    real_cond = dlsym(RTLD_NEXT, "pthread_cond_timedwait");
    real_cond_clock = dlsym(RTLD_NEXT, "pthread_cond_clockwait");
    const char *path = getenv("LAB_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file >= 0) {
        void *page = mmap(NULL, sizeof *ahead, PROT_READ, MAP_SHARED, file, 0);
        ahead = page == MAP_FAILED ? NULL : page;
        close(file);
    }
}

static struct timespec moved(struct timespec time, long long by) {
    long long whole = time.tv_sec * 1000000000LL + time.tv_nsec + by;
    time.tv_sec = whole / 1000000000LL;
    time.tv_nsec = whole % 1000000000LL;
    return time;
}

static long long lead(void) { return ahead ? *ahead : 0; }

int clock_gettime(clockid_t clock, struct timespec *time) {
    if (!real_clock) begin();
    int failed = real_clock(clock, time);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_MONOTONIC || clock == CLOCK_BOOTTIME)) {
        *time = moved(*time, lead());
    }
    return failed;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone) {
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    time->tv_sec = now.tv_sec;
    time->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *place) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (place) *place = now.tv_sec;
    return now.tv_sec;
}

int sem_clockwait(sem_t *semaphore, clockid_t clock, const struct timespec *until) {
    struct timespec real = moved(*until, -lead());
    return real_sem(semaphore, clock, &real);
}

int sem_timedwait(sem_t *semaphore, const struct timespec *until) {
    struct timespec real = moved(*until, -lead());
    return real_sem_timed(semaphore, &real);
}

int pthread_cond_timedwait(pthread_cond_t *condition, pthread_mutex_t *mutex, const struct timespec *until) {
    struct timespec real = moved(*until, -lead());
    return real_cond(condition, mutex, &real);
}

int pthread_cond_clockwait(pthread_cond_t *condition, pthread_mutex_t *mutex, clockid_t clock,
                           const struct timespec *until) {
    struct timespec real = moved(*until, -lead());
    return real_cond_clock(condition, mutex, clock, &real);
}
