/* open(2) and its relations.
 *
 * The mode argument is read only where it exists (OVL_NEEDS_MODE): a caller without O_CREAT and
 * O_TMPFILE may have passed none. Left out on purpose: open_by_handle_at (its handle already names
 * an object, not a path); openat2, which libc does not export, comes through syscall.c. */

#include "hook.h"

static mode_t mode_argument(int flags, va_list arguments) {
  return OVL_NEEDS_MODE(flags) ? va_arg(arguments, mode_t) : 0;
}

int ovl_open_any(int dirfd, const char *path, int flags, mode_t mode) {
  const long r = OVL_ON() ? ovl_open(dirfd, path, flags, mode, 0) : OVL_PASS;
  if (r != OVL_PASS) return (int)ovl_result(r);
  const int fd = NEXT(openat)(dirfd, path, flags, mode);
  if (OVL_ON()) ovl_fd_outside(fd);
  return fd;
}

static int open_on(const char *path, int flags, mode_t mode) {
  const long r = ovl_open(AT_FDCWD, path, flags, mode, 0);
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
