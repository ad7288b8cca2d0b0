#ifndef OVERLOCK_APART_H
#define OVERLOCK_APART_H

/* Work in a child that shares our memory, while the calling thread stands still, and has a copy of our
 * descriptors: what it opens and closes is its own, no lock of ours is dropped (POSIX record locks belong to
 * a descriptor table), and it may close any to make room. What it maps is mapped here.
 *
 * All signals are blocked in it, so that no handler of the program runs twice; its end raises none and is
 * seen by no wait of the program. */

#include "abi.h"
#include "syscalls.h"

/* 0, or -errno: it did not run. Not inlined: the frame that both return into holds nothing that the child
 * changes. */
__attribute__((noinline, unused)) static long lx_run_apart(void (*body)(void *), void *argument) {
  const uint64_t mask = lx_block_signals();
  const long child = lx_call6(SYS_clone, CLONE_VM | CLONE_VFORK, 0, 0, 0, 0, 0);
  if (child == 0) {
    body(argument);
    for (;;) lx_call6(SYS_exit, 0, 0, 0, 0, 0, 0);
  }
  /* Somebody who waits for everything may have been faster. */
  if (child > 0)
    while (lx_call6(SYS_wait4, child, 0, (long)__WALL, 0, 0, 0) == -EINTR) {
    }
  lx_restore_signals(mask);
  return child < 0 ? child : 0;
}

struct lx_open_question {
  const char *path;
  int answer;
};
__attribute__((unused)) static void lx_ask_open(void *question) {
  struct lx_open_question *q = question;
  const int flags = O_RDONLY | O_NONBLOCK | O_NOCTTY | O_NOFOLLOW | O_CLOEXEC;
  const long fd = lx_openat(AT_FDCWD, q->path, flags, 0);
  long r = fd;
  if (fd >= 0) {
    r = lx_call6(SYS_fcntl, fd, F_SETLEASE, F_WRLCK, 0, 0, 0);
    if (r == -EAGAIN) r = -EWOULDBLOCK;
  }
  /* To open it is refused where somebody has a lease. */
  q->answer = r == -EWOULDBLOCK ? 1 : r >= 0 || r == -ENOENT ? 0 : -1;
}
/* 1: a file is open somewhere. 0: nowhere. -1: there is no way to tell. In a child, since a lease that somebody
 * breaks at this very moment raises a signal, by which a program ends. */
static inline int lx_is_open_elsewhere(const char *path) {
  struct lx_open_question question = {path, -1};
  return lx_run_apart(lx_ask_open, &question) == 0 ? question.answer : -1;
}

static inline long lx_data_apart(struct ovl_data_call *call) {
  return lx_run_apart(ovl_data_apart, call);
}

static inline long lx_data_call(const struct ovl_data_call *c) {
  const long *a = c->arguments;
  return lx_call6(c->number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* 1: the number is among the arguments: it may be another descriptor that the call needs. */
static inline int lx_data_names(const struct ovl_data_call *c, int fd) {
  for (int i = 0; i < 6; i++)
    if (c->arguments[i] == fd) return 1;
  return 0;
}

#endif
