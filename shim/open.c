/* open(2) and its relations.
 *
 * The mode argument is read only where it exists (OVL_NEEDS_MODE): a caller without O_CREAT and
 * O_TMPFILE may have passed none. Left out on purpose: openat2, which libc does not export, comes
 * through syscall.c; open_tree with OPEN_TREE_CLONE, which makes a mount of a layer as mount does. */

#include "reads.h"

#include <process.h>
#include <sys/mount.h>

#ifndef OPEN_TREE_CLONE
#define OPEN_TREE_CLONE 1
#endif

static mode_t mode_argument(int flags, va_list arguments) {
  return OVL_NEEDS_MODE(flags) ? va_arg(arguments, mode_t) : 0;
}

int ovl_open_any(int dirfd, const char *path, int flags, mode_t mode) {
  const long r = OVL_ON() ? ovl_open(dirfd, path, flags, mode, 0) : OVL_PASS;
  if (r == STDIN_FILENO) ovl_follow_stream(STDIN_FILENO);
  if (r != OVL_PASS) return (int)ovl_result(r);
  const int fd = NEXT(openat)(dirfd, path, flags, mode);
  if (OVL_ON()) ovl_fd_outside(fd);
  return fd;
}

static int open_on(const char *path, int flags, mode_t mode) {
  const long r = ovl_open(AT_FDCWD, path, flags, mode, 0);
  if (r == STDIN_FILENO) ovl_follow_stream(STDIN_FILENO);
  if (r != OVL_PASS) return (int)ovl_result(r);
  const int fd = NEXT(open)(path, flags, mode);
  ovl_fd_outside(fd);
  return fd;
}

HOOKED(int, open, const char *path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = mode_argument(flags, arguments);
  va_end(arguments);
  if (OVL_OFF()) return NEXT(open)(path, flags, mode);
  return open_on(path, flags, mode);
}
HOOK_ALIAS(open64, open);
HOOK_ALIAS(__open, open);
HOOK_ALIAS(__open64, open);

HOOKED(int, openat, int dirfd, const char *path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = mode_argument(flags, arguments);
  va_end(arguments);
  return ovl_open_any(dirfd, path, flags, mode);
}
HOOK_ALIAS(openat64, openat);

HOOKED(int, creat, const char *path, mode_t mode) {
  if (OVL_OFF()) return NEXT(creat)(path, mode);
  return open_on(path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}
HOOK_ALIAS(creat64, creat);

/* What _FORTIFY_SOURCE makes of an open without mode. With flags that need one, libc's ends the
 * program: that stays its business. */
HOOKED(int, __open_2, const char *path, int flags) {
  if (OVL_OFF() || OVL_NEEDS_MODE(flags)) return NEXT(__open_2)(path, flags);
  const long r = ovl_open(AT_FDCWD, path, flags, 0, 0);
  return r == OVL_PASS ? NEXT(__open_2)(path, flags) : (int)ovl_result(r);
}
HOOK_ALIAS(__open64_2, __open_2);

HOOKED(int, __openat_2, int dirfd, const char *path, int flags) {
  if (OVL_OFF() || OVL_NEEDS_MODE(flags)) return NEXT(__openat_2)(dirfd, path, flags);
  const long r = ovl_open(dirfd, path, flags, 0, 0);
  return r == OVL_PASS ? NEXT(__openat_2)(dirfd, path, flags) : (int)ovl_result(r);
}
HOOK_ALIAS(__openat64_2, __openat_2);

/* 1: the object open at `fd` is on a layer's file system, and has no path there: nobody can tell
 * whether it is a lower's. */
static int is_lost(int fd, const char *link) {
  char path[PATH_MAX];
  struct stat own, named;
  if (lx_fstat(fd, &own) < 0) return 1;
  const long length = lx_readlinkat(AT_FDCWD, link, path, sizeof path - 1);
  if (length < 0) return 1;
  path[length] = '\0';
  if (lx_fstatat(AT_FDCWD, path, &named, AT_SYMLINK_NOFOLLOW) == 0 &&
      named.st_dev == own.st_dev && named.st_ino == own.st_ino)
    return 0;
  for (int i = 0; i < ovl_overlays; i++) {
    const struct ovl_overlay *o = &ovl_self()->overlays[i];
    for (uint32_t layer = (o->flags & OVL_HAS_UPPER) ? 0 : 1; layer < o->layer_count; layer++)
      if (o->layers[layer].device == own.st_dev) return 1;
  }
  return 0;
}

/* A handle names an inode, which may be a lower's: looked at without opening, then opened where its
 * path leads. */
HOOKED(int, open_by_handle_at, int mount, struct file_handle *handle, int flags) {
  if (OVL_OFF()) return NEXT(open_by_handle_at)(mount, handle, flags);
  const int seen = NEXT(open_by_handle_at)(mount, handle, O_PATH | O_CLOEXEC);
  if (seen < 0) return seen;
  char link[32] = "/proc/self/fd/";
  char digits[12];
  int n = 0;
  for (int rest = seen; rest > 0 || n == 0; rest /= 10) digits[n++] = (char)('0' + rest % 10);
  for (size_t at = ovl_length(link); n > 0; link[at] = '\0') link[at++] = digits[--n];
  long r = is_lost(seen, link) ? -ESTALE : ovl_open(AT_FDCWD, link, flags, 0, 0);
  ovl_fd_close(seen);
  if (r == OVL_PASS) return NEXT(open_by_handle_at)(mount, handle, flags);
  /* The number that a plain open would have given is free again. */
  if (r > seen) {
    const long lower = lx_fcntl((int)r, (flags & O_CLOEXEC) ? F_DUPFD_CLOEXEC : F_DUPFD, seen);
    if (lower >= 0 && lower < r) {
      ovl_fd_duplicated((int)r, (int)lower);
      ovl_fd_close((int)r);
      r = lower;
    } else if (lower >= 0) {
      (void)lx_close((int)lower);
    }
  }
  return (int)ovl_result(r);
}

/* Without OPEN_TREE_CLONE it is an open with O_PATH. */
HOOKED(int, open_tree, int dirfd, const char *path, unsigned flags) {
  if (OVL_OFF() || (flags & (OPEN_TREE_CLONE | AT_EMPTY_PATH)) != 0)
    return NEXT(open_tree)(dirfd, path, flags);
  const int how = O_PATH | ((flags & O_CLOEXEC) ? O_CLOEXEC : 0) |
                  ((flags & AT_SYMLINK_NOFOLLOW) ? O_NOFOLLOW : 0);
  const long r = ovl_open(dirfd, path, how, 0, 0);
  return r == OVL_PASS ? NEXT(open_tree)(dirfd, path, flags) : (int)ovl_result(r);
}
