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

/* A call that concerns two inodes, until it has an answer; one after which the other inode is to be asked. */
int ovl_lock_waiting(int fd, int command, void *argument);
int ovl_lock_again(int fd, int command, void *argument);

static inline int ovl_lock(int fd, int command, void *argument) {
  struct ovl_lock_seen seen;
  switch (ovl_lock_course(fd, command, &seen)) {
  case OVL_LOCK_ACROSS: return ovl_lock_waiting(fd, command, argument);
  case OVL_LOCK_CHECKED: {
    const int r = NEXT(fcntl)(fd, command, argument);
    if (r != 0 || !ovl_lock_disturbed(&seen)) return r;
    return ovl_lock_again(fd, command, argument);
  }
  default: return NEXT(fcntl)(fd, command, argument);
  }
}

#endif
