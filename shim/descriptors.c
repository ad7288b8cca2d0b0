/* Calls that make, copy, replace or end descriptors.
 *
 * The core keeps a table of what it knows of each descriptor (its place in an overlay, a merged
 * listing). Order: forget before the kernel closes, since another thread may be given the number
 * the moment it is free; learn after the kernel copied. Left out on purpose: descriptors that
 * appear by SCM_RIGHTS, pidfd_getfd or exec: the core recognises what it does not know by its
 * inode. */

#include "locks.h"
#include "mandatory.h"
#include "reads.h"

#include <limits.h>
#include <linux/close_range.h>

HOOKED(int, close, int fd) {
  if (OVL_ON()) ovl_fd_closing(fd);
  return NEXT(close)(fd);
}
HOOK_ALIAS(__close, close);

void ovl_fd_close(int fd) {
  ovl_fd_closing(fd);
  (void)lx_close(fd);
}

long ovl_fd_move(int from, int to, int cloexec) {
  if (from == to) return 0;
  ovl_fd_closing(to);
  const long r = lx_call6(SYS_dup3, from, to, cloexec ? O_CLOEXEC : 0, 0, 0, 0);
  if (r >= 0) ovl_fd_duplicated(from, to);
  ovl_fd_close(from);
  return r < 0 ? r : 0;
}

HOOKED(int, dup, int fd) {
  const int r = NEXT(dup)(fd);
  if (OVL_ON() && r >= 0) ovl_fd_duplicated(fd, r);
  return r;
}

/* dup2 and dup3 leave `to` as it is when `from` is no descriptor: then nothing may be forgotten. */
static void before_replacing(int from, int to) {
  if (from != to && to >= 0 && ovl_is_open(from)) ovl_fd_closing(to);
}

HOOKED(int, dup2, int from, int to) {
  if (OVL_OFF()) return NEXT(dup2)(from, to);
  before_replacing(from, to);
  const int r = NEXT(dup2)(from, to);
  if (r >= 0 && from != to) ovl_fd_duplicated(from, to);
  if (r == STDIN_FILENO) ovl_follow_stream(r);
  return r;
}
HOOK_ALIAS(__dup2, dup2);

HOOKED(int, dup3, int from, int to, int flags) {
  if (OVL_OFF()) return NEXT(dup3)(from, to, flags);
  if ((flags & ~O_CLOEXEC) == 0) before_replacing(from, to);
  const int r = NEXT(dup3)(from, to, flags);
  if (r >= 0) ovl_fd_duplicated(from, to);
  if (r == STDIN_FILENO) ovl_follow_stream(r);
  return r;
}

HOOKED(int, fcntl, int fd, int command, ...) {
  va_list arguments;
  va_start(arguments, command);
  void *argument = va_arg(arguments, void *);
  va_end(arguments);
  if (OVL_ON() && ovl_is_lock_command(command)) {
    if (OVL_MANDATORY() && command != F_GETLK && command != F_OFD_GETLK) {
      const long refused = ovl_mandatory_lock(fd);
      if (refused < 0) return (int)ovl_result(refused);
    }
    return ovl_lock(fd, command, argument);
  }
  if (OVL_ON() && command == F_SETLEASE) {
    /* An int to the kernel. */
    const long r = ovl_lease(fd, (int)(intptr_t)argument);
    if (r != OVL_PASS) return (int)ovl_result(r);
  }
  const int r = NEXT(fcntl)(fd, command, argument);
  if (OVL_ON() && r >= 0 && (command == F_DUPFD || command == F_DUPFD_CLOEXEC))
    ovl_fd_duplicated(fd, r);
  return r;
}
HOOK_ALIAS(fcntl64, fcntl);
HOOK_ALIAS(__fcntl, fcntl);

HOOKED(int, close_range, unsigned first, unsigned last, int flags) {
  const int closes = (flags & (int)CLOSE_RANGE_CLOEXEC) == 0;
  if (OVL_ON() && closes && first <= last) ovl_fd_closing_range(first, last);
  return NEXT(close_range)(first, last, flags);
}

HOOKED(void, closefrom, int first) {
  if (OVL_ON()) ovl_fd_closing_range(first < 0 ? 0 : (unsigned)first, UINT_MAX);
  NEXT(closefrom)(first);
}

HOOKED(off_t, lseek, int fd, off_t offset, int whence) {
  if (OVL_OFF()) return NEXT(lseek)(fd, offset, whence);
  long r = ovl_dir_seek(fd, offset, whence);
  if (r == OVL_PASS) r = ovl_seek_data(fd, offset, whence);
  return r == OVL_PASS ? NEXT(lseek)(fd, offset, whence) : ovl_result(r);
}
HOOK_ALIAS(lseek64, lseek);
HOOK_ALIAS(__lseek, lseek);
HOOK_ALIAS(llseek, lseek);
