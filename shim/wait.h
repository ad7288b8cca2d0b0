#ifndef OVERLOCK_WAIT_H
#define OVERLOCK_WAIT_H

/* The time of a wait that is made of several of the kernel's. */

#include <time.h>

/* Not limited: for ever. */
struct wait {
  struct timespec end, left;
  int limited;
};

static inline struct timespec now(void) {
  struct timespec t = {0, 0};
  (void)clock_gettime(CLOCK_MONOTONIC, &t);
  return t;
}

static inline void begin_wait(struct wait *wait, const struct timespec *timeout) {
  wait->limited = timeout != NULL;
  if (timeout == NULL) return;
  wait->left = *timeout;
  if (timeout->tv_sec == 0 && timeout->tv_nsec == 0) return;
  const struct timespec start = now();
  if (__builtin_add_overflow(start.tv_sec, timeout->tv_sec, &wait->end.tv_sec)) wait->limited = 0;
  wait->end.tv_nsec = start.tv_nsec + timeout->tv_nsec;
}

/* 0: the time is over. */
static inline int goes_on(struct wait *wait) {
  if (!wait->limited) return 1;
  if (wait->left.tv_sec == 0 && wait->left.tv_nsec == 0) return 0;
  const struct timespec t = now();
  wait->left.tv_sec = wait->end.tv_sec - t.tv_sec;
  wait->left.tv_nsec = wait->end.tv_nsec - t.tv_nsec;
  while (wait->left.tv_nsec < 0) wait->left.tv_sec--, wait->left.tv_nsec += 1000000000;
  while (wait->left.tv_nsec >= 1000000000) wait->left.tv_sec++, wait->left.tv_nsec -= 1000000000;
  return wait->left.tv_sec >= 0 && (wait->left.tv_sec > 0 || wait->left.tv_nsec > 0);
}

#endif
