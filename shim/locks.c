/* Locks: fcntl's, flock's and lockf's.
 *
 * The kernel's own call through the next function, so that it is the cancellation point it always was and
 * another preloaded library sees it; the core is asked before how to make it, and where a descriptor is on
 * a lower also after. */

#include "hook.h"

#include <sys/file.h>

int ovl_is_lock_command(int command) {
  switch (command) {
  case F_GETLK:
  case F_SETLK:
  case F_SETLKW:
  case F_OFD_GETLK:
  case F_OFD_SETLK:
  case F_OFD_SETLKW: return 1;
  default: return 0;
  }
}

int ovl_lock(int fd, int command, void *argument) {
  uint64_t seen;
  switch (ovl_lock_course(fd, command, &seen)) {
  case OVL_LOCK_ACROSS: return (int)ovl_result(ovl_lock_across(fd, command, argument));
  case OVL_LOCK_CHECKED: {
    const int r = NEXT(fcntl)(fd, command, argument);
    return r != 0 ? r : (int)ovl_result(ovl_lock_verify(fd, command, argument, seen));
  }
  default: return NEXT(fcntl)(fd, command, argument);
  }
}

HOOKED(int, flock, int fd, int operation) {
  if (OVL_OFF()) return NEXT(flock)(fd, operation);
  void *argument = (void *)(intptr_t)operation;
  uint64_t seen;
  switch (ovl_lock_course(fd, OVL_FLOCK, &seen)) {
  case OVL_LOCK_ACROSS: return (int)ovl_result(ovl_lock_across(fd, OVL_FLOCK, argument));
  case OVL_LOCK_CHECKED: {
    const int r = NEXT(flock)(fd, operation);
    return r != 0 ? r : (int)ovl_result(ovl_lock_verify(fd, OVL_FLOCK, argument, seen));
  }
  default: return NEXT(flock)(fd, operation);
  }
}

/* libc's lockf calls its own fcntl. */
HOOKED(int, lockf, int fd, int command, off_t length) {
  if (OVL_OFF()) return NEXT(lockf)(fd, command, length);
  struct flock f = {.l_type = F_WRLCK, .l_whence = SEEK_CUR, .l_len = length};
  switch (command) {
  case F_TEST:
    f.l_type = F_RDLCK;
    if (ovl_lock(fd, F_GETLK, &f) < 0) return -1;
    if (f.l_type == F_UNLCK || f.l_pid == getpid()) return 0;
    return (int)ovl_result(-EACCES);
  case F_ULOCK: f.l_type = F_UNLCK; return ovl_lock(fd, F_SETLK, &f);
  case F_LOCK: return ovl_lock(fd, F_SETLKW, &f);
  case F_TLOCK: return ovl_lock(fd, F_SETLK, &f);
  default: return (int)ovl_result(-EINVAL);
  }
}
HOOK_ALIAS(lockf64, lockf);
