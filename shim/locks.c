/* Locks: fcntl's, flock's and lockf's.
 *
 * The kernel's own call through the next function, so that it is the cancellation point it always was and
 * another preloaded library sees it; the core is asked before how to make it, and where a descriptor is on
 * a lower also after. */

#include "locks.h"
#include "mandatory.h"

#include <pthread.h>
#include <sys/file.h>

/* A lock that could not be had for the workdir's sake: ENOLCK is all that the program is told. */
static int refused(long r) {
  const char *workdir, *reason;
  if (r == -ENOLCK && ovl_lock_refusal(&workdir, &reason))
    ovl_complain(workdir, ": ", reason, ": locks that need it are refused (ENOLCK)", NULL);
  return (int)ovl_result(r);
}

int ovl_lock_waiting(int fd, int command, void *argument) {
  struct ovl_lock_wait wait = {0};
  for (;;) {
    const long r = ovl_lock_across(fd, command, argument, &wait);
    if (r == OVL_LOCK_SLEEP) {
      const int slept = command == OVL_FLOCK ? NEXT(flock)(fd, (int)(intptr_t)argument)
                                             : NEXT(fcntl)(fd, command, &wait.range);
      if (slept != 0) return slept;
    } else if (r == OVL_LOCK_AGAIN) {
      /* As in the kernel's call; flock is no cancellation point. */
      if (command != OVL_FLOCK) pthread_testcancel();
    } else {
      return refused(r);
    }
  }
}

int ovl_lock_again(int fd, int command, void *argument) {
  const long r = ovl_lock_verify(fd, command, argument);
  return r == OVL_LOCK_AGAIN ? ovl_lock_waiting(fd, command, argument) : refused(r);
}

HOOKED(int, flock, int fd, int operation) {
  /* What is given up was taken on this very inode. */
  if (OVL_OFF() || operation == LOCK_UN) return NEXT(flock)(fd, operation);
  void *argument = (void *)(intptr_t)operation;
  struct ovl_lock_seen seen;
  switch (ovl_lock_course(fd, OVL_FLOCK, &seen)) {
  case OVL_LOCK_ACROSS: return ovl_lock_waiting(fd, OVL_FLOCK, argument);
  case OVL_LOCK_CHECKED: {
    const int before = errno, r = NEXT(flock)(fd, operation);
    if (!ovl_lock_disturbed(&seen)) return r;
    if (r == 0) return ovl_lock_again(fd, OVL_FLOCK, argument);
    if (errno != EWOULDBLOCK) return r;
    /* It may be the copy-up that looks whether somebody has a lock here. */
    ovl_set_errno(before);
    return ovl_lock_waiting(fd, OVL_FLOCK, argument);
  }
  default: return NEXT(flock)(fd, operation);
  }
}

/* libc's lockf calls its own fcntl. */
HOOKED(int, lockf, int fd, int command, off_t length) {
  if (OVL_OFF()) return NEXT(lockf)(fd, command, length);
  struct flock f = {.l_type = F_WRLCK, .l_whence = SEEK_CUR, .l_len = length};
  if (OVL_MANDATORY() && (command == F_ULOCK || command == F_LOCK || command == F_TLOCK)) {
    const long refused = ovl_mandatory_lock(fd);
    if (refused < 0) return (int)ovl_result(refused);
  }
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
