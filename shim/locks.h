#ifndef OVERLOCK_LOCKS_H
#define OVERLOCK_LOCKS_H

#include "hook.h"

/* fcntl's lock commands, by whatever course is right. Here, so that the hook of fcntl is one function: a
 * lock costs the kernel little, and every call beside it shows. */

static inline int ovl_is_lock_command(int command) {
  return (command >= F_GETLK && command <= F_SETLKW) || (command >= F_OFD_GETLK && command <= F_OFD_SETLKW);
}
_Static_assert(F_SETLK == F_GETLK + 1 && F_SETLKW == F_GETLK + 2, "the three are neighbours");
_Static_assert(F_OFD_SETLK == F_OFD_GETLK + 1 && F_OFD_SETLKW == F_OFD_GETLK + 2, "and so are these");

static inline int ovl_lock(int fd, int command, void *argument) {
  struct ovl_lock_seen seen;
  switch (ovl_lock_course(fd, command, &seen)) {
  case OVL_LOCK_ACROSS: return (int)ovl_result(ovl_lock_across(fd, command, argument));
  case OVL_LOCK_CHECKED: {
    const int r = NEXT(fcntl)(fd, command, argument);
    if (r != 0 || !ovl_lock_disturbed(&seen)) return r;
    return (int)ovl_result(ovl_lock_verify(fd, command, argument));
  }
  default: return NEXT(fcntl)(fd, command, argument);
  }
}

#endif
