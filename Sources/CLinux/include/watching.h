#ifndef OVERLOCK_WATCHING_H
#define OVERLOCK_WATCHING_H

/* inotify(7) by raw calls, and where a process keeps what it knows of its instances. */

#include "process.h"
#include "syscalls.h"

#include <stddef.h>
#include <sys/inotify.h>

static inline long lx_inotify_add_watch(int fd, const char *path, uint32_t mask) {
  return lx_call6(SYS_inotify_add_watch, fd, LX_CAST(path), mask, 0, 0, 0);
}
static inline long lx_inotify_rm_watch(int fd, int wd) {
  return lx_call6(SYS_inotify_rm_watch, fd, wd, 0, 0, 0, 0);
}
static inline long lx_fanotify_mark(int fd, unsigned flags, uint64_t mask, const char *path) {
  return lx_call6(SYS_fanotify_mark, fd, flags, (long)mask, AT_FDCWD, LX_CAST(path), 0);
}
/* Bytes of events that wait to be read, or -errno. */
static inline long lx_queued(int fd) {
  int bytes = 0;
  const long r = lx_ioctl(fd, 0x541B /* FIONREAD */, (unsigned long)&bytes);
  return r < 0 ? r : bytes;
}
/* 1: the pointer was NULL and is `value` now. */
static inline int lx_set_once(char **pointer, char *value) {
  char *expected = NULL;
  return __atomic_compare_exchange_n(pointer, &expected, value, 0, __ATOMIC_ACQ_REL,
                                     __ATOMIC_ACQUIRE);
}
static inline struct ovl_watching *ovl_watching_now(void) { return &ovl_watching; }
static inline void lx_note_kept(void) { __atomic_store_n(&ovl_watching.keeps, 1, __ATOMIC_SEQ_CST); }
static inline struct ovl_watch_list *ovl_watch_list_at(long index) {
  return &ovl_watching.lists[index];
}

#endif
