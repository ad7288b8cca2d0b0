#ifndef OVERLOCK_OWNER_H
#define OVERLOCK_OWNER_H

/* The owner's power over his own files, where their mode keeps it from him. */

#include "syscalls.h"

#include <errno.h>
#include <linux/sched.h>
#include <sys/wait.h>

static inline long lx_put(const char *path, const char *text, size_t n) {
  const long fd = lx_openat(AT_FDCWD, path, O_WRONLY | O_CLOEXEC, 0);
  if (fd < 0) return fd;
  const long r = lx_write((int)fd, text, n);
  (void)lx_close((int)fd);
  return r;
}

/* "<id> <id> 1": the one line of a map. Its length. */
static inline size_t lx_map_line(char *line, uint32_t id) {
  char digits[10];
  size_t n = 0, end = 0;
  do digits[n++] = (char)('0' + id % 10);
  while ((id /= 10) != 0);
  for (int twice = 0; twice < 2; twice++) {
    for (size_t i = n; i > 0; i--) line[end++] = digits[i - 1];
    line[end++] = ' ';
  }
  line[end++] = '1';
  return end;
}

/* One system call with the power of root in a user namespace in which there are our own user and group
 * alone: there the mode of an object of ours is no hindrance (capabilities(7), CAP_DAC_OVERRIDE;
 * user_namespaces(7)). A child makes it: as with vfork it shares our memory, and the calling thread
 * stands still until it ends; it shares our descriptors too, so what it opens is ours. It is no child
 * that the program's own waits would find. -EACCES: there are no such namespaces here.
 *
 * For housekeeping alone, where the program has the right to what it asked for. Not inlined: the frame
 * that both return into holds nothing that the child changes. */
__attribute__((noinline, unused)) static long lx_owner_call(long n, long a, long b, long c, long d,
                                                            long e) {
  char users[32], groups[32];
  const uint32_t id = (uint32_t)lx_geteuid();
  if (id == 0) return -EACCES;
  const size_t user = lx_map_line(users, id);
  const size_t group = lx_map_line(groups, (uint32_t)lx_call6(SYS_getegid, 0, 0, 0, 0, 0, 0));
  volatile long result = -EACCES;
  const uint64_t mask = lx_block_signals();
  const long child =
      lx_call6(SYS_clone, CLONE_VM | CLONE_VFORK | CLONE_FILES | CLONE_NEWUSER, 0, 0, 0, 0, 0);
  if (child == 0) {
    if (lx_put("/proc/self/setgroups", "deny", 4) == 4 &&
        lx_put("/proc/self/gid_map", groups, group) == (long)group &&
        lx_put("/proc/self/uid_map", users, user) == (long)user)
      result = lx_call6(n, a, b, c, d, e, 0);
    for (;;) lx_call6(SYS_exit, 0, 0, 0, 0, 0, 0);
  }
  if (child > 0)
    while (lx_call6(SYS_wait4, child, 0, (long)__WALL, 0, 0, 0) == -EINTR) {
    }
  lx_restore_signals(mask);
  return result;
}

/* Whether a file is open, or mapped, through no other description than fd's, which is for writing: fs/locks.c
 * gives nobody else a lease for writing. 1, 0, or -errno where it cannot be said: -EACCES it is another
 * user's, -EINVAL a file system without leases.
 *
 * A child asks: who opens the file in the very moment has the lease's owner signalled, and SIGIO kills. */
__attribute__((noinline, unused)) static long lx_is_open_here_alone(int fd) {
  volatile long result = -EAGAIN;
  const uint64_t mask = lx_block_signals();
  const long child = lx_call6(SYS_clone, CLONE_VM | CLONE_VFORK | CLONE_FILES, 0, 0, 0, 0, 0);
  if (child == 0) {
    result = lx_call6(SYS_fcntl, fd, F_SETLEASE, F_WRLCK, 0, 0, 0);
    if (result == 0) lx_call6(SYS_fcntl, fd, F_SETLEASE, F_UNLCK, 0, 0, 0);
    for (;;) lx_call6(SYS_exit, 0, 0, 0, 0, 0, 0);
  }
  if (child < 0) result = child;
  if (child > 0)
    while (lx_call6(SYS_wait4, child, 0, (long)__WALL, 0, 0, 0) == -EINTR) {
    }
  lx_restore_signals(mask);
  return result == 0 ? 1 : result == -EAGAIN ? 0 : result;
}

static inline int lx_is_ours(const char *p) {
  struct stat st;
  return lx_fstatat(AT_FDCWD, p, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_uid == lx_geteuid();
}

/* The calls themselves, and again with that power where the mode refuses it and the object is ours. */
static inline long lx_owner_stat(const char *p, struct stat *s) {
  const long r = lx_fstatat(AT_FDCWD, p, s, AT_SYMLINK_NOFOLLOW);
  if (r != -EACCES) return r;
  return lx_owner_call(SYS_newfstatat, AT_FDCWD, LX_CAST(p), LX_CAST(s), AT_SYMLINK_NOFOLLOW, 0);
}
static inline long lx_owner_open(const char *p, int flags) {
  const long r = lx_openat(AT_FDCWD, p, flags, 0);
  if (r != -EACCES || !lx_is_ours(p)) return r;
  return lx_owner_call(SYS_openat, AT_FDCWD, LX_CAST(p), flags | O_LARGEFILE, 0, 0);
}
static inline long lx_owner_getxattr(const char *p, const char *n, void *v, size_t s) {
  const long r = lx_getxattr(p, n, v, s, 1);
  if (r != -EACCES || !lx_is_ours(p)) return r;
  return lx_owner_call(SYS_lgetxattr, LX_CAST(p), LX_CAST(n), LX_CAST(v), (long)s, 0);
}
static inline long lx_owner_setxattr(const char *p, const char *n, const void *v, size_t s) {
  const long r = lx_setxattr(p, n, v, s, 0, 1);
  if (r != -EACCES || !lx_is_ours(p)) return r;
  return lx_owner_call(SYS_lsetxattr, LX_CAST(p), LX_CAST(n), LX_CAST(v), (long)s, 0);
}
static inline long lx_owner_rename(const char *a, const char *b, unsigned flags) {
  const long r = lx_renameat2(AT_FDCWD, a, AT_FDCWD, b, flags);
  if (r != -EACCES) return r;
  return lx_owner_call(SYS_renameat2, AT_FDCWD, LX_CAST(a), AT_FDCWD, LX_CAST(b), flags);
}

#endif
