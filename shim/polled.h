#ifndef OVERLOCK_POLLED_H
#define OVERLOCK_POLLED_H

/* Waits of which the core looks, from time to time, for changes that the kernel tells nothing of
 * (Watches/Polling.swift). Such a wait is made of several: signals come in in those alone, so that each ends the
 * program's call as it would end one. */

#include "hook.h"

#include <signal.h>
#include <string.h>
#include <time.h>

/* No shorter wait than that: who cannot look just now does not spin. */
#define LEAST_NS 1000000L

/* 1: some instance of this process is looked at. */
static inline int ovl_has_polled(void) {
  return __builtin_expect(__atomic_load_n(&ovl_watching.polled, __ATOMIC_RELAXED) != 0, 0);
}

/* The signals of a wait: the caller's mask, in words for both the kernel and libc. */
struct polled_wait {
  int is_polled;
  uint64_t before;
  sigset_t let_in;
  struct timespec room;
};

static inline void begin_polled(struct polled_wait *p, int is_polled) {
  p->is_polled = is_polled;
  if (!is_polled) return;
  p->before = lx_block_signals();
  memset(&p->let_in, 0, sizeof p->let_in);
  memcpy(&p->let_in, &p->before, sizeof p->before);
}
static inline void end_polled(const struct polled_wait *p) {
  if (p->is_polled) lx_restore_signals(p->before);
}
/* Which signals a wait of the kernel's lets in. */
static inline const sigset_t *polled_mask(const struct polled_wait *p, const sigset_t *mask) {
  return p->is_polled && mask == NULL ? &p->let_in : mask;
}

/* The sooner of two looks, in nanoseconds; -1: there is none. */
static inline long sooner_look(long a, long b) { return b < 0 || (a >= 0 && a < b) ? a : b; }

/* The sooner of a limit (NULL: there is none) and a look that is due. */
static inline const struct timespec *sooner(struct polled_wait *p, const struct timespec *limit, long due) {
  if (due < 0) return limit;
  const long ns = due < LEAST_NS ? LEAST_NS : due;
  if (limit != NULL && (limit->tv_sec < ns / 1000000000 ||
                        (limit->tv_sec == ns / 1000000000 && limit->tv_nsec <= ns % 1000000000)))
    return limit;
  p->room = (struct timespec){ns / 1000000000, ns % 1000000000};
  return &p->room;
}

/* Waits until there is something to read of a polled instance. 1: there is; 0: its descriptor does not wait, or is
 * not polled any more; or -EINTR. */
long ovl_await_polled(int fd);

#endif
