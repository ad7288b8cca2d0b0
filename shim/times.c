/* Setting access and modification times: seven forms of utimensat. NULL times mean now; range
 * checks of nanoseconds (and so of microseconds, which are only multiplied) are the kernel's. */

#include "hook.h"

/* A microsecond field so far out of range that it would wrap stays out of range. */
static long nanoseconds(long microseconds) {
  return microseconds >= 0 && microseconds < 1000000 ? microseconds * 1000 : -1;
}

static const struct timespec *from_timeval(const struct timeval tv[2], struct timespec ts[2]) {
  if (tv == NULL) return NULL;
  for (int i = 0; i < 2; i++) {
    ts[i].tv_sec = tv[i].tv_sec;
    ts[i].tv_nsec = nanoseconds(tv[i].tv_usec);
  }
  return ts;
}

/* Neither time is to be set: the kernel says so before it looks at anything. */
static int is_nothing(const struct timespec times[2]) {
  return ovl_is_readable_all(times, 2 * sizeof *times) && times[0].tv_nsec == UTIME_OMIT && times[1].tv_nsec == UTIME_OMIT;
}

/* By descriptor: 0, -errno or OVL_PASS. */
static long set_descriptor(int fd, const struct timespec times[2]) {
  const uint32_t who = ovl_times_intent(times);
  if (who == 0) return OVL_PASS; /* nothing asked for */
  OVL_PATH(p);
  long r = ovl_locate_fd(&p, fd, OVL_COPYUP | who);
  if (r == 0)
    r = lx_call6(SYS_utimensat, AT_FDCWD, (long)p.real, (long)times, AT_SYMLINK_NOFOLLOW, 0, 0);
  return r;
}

HOOKED(int, utime, const char *path, const struct utimbuf *times) {
  if (OVL_OFF()) return NEXT(utime)(path, times);
  struct timespec ts[2] = {{0, 0}, {0, 0}};
  if (times != NULL) {
    ts[0].tv_sec = times->actime;
    ts[1].tv_sec = times->modtime;
  }
  const long r = ovl_utimens(AT_FDCWD, path, times == NULL ? NULL : ts, 0);
  return r == OVL_PASS ? NEXT(utime)(path, times) : (int)ovl_result(r);
}

HOOKED(int, utimes, const char *path, const struct timeval times[2]) {
  if (OVL_OFF()) return NEXT(utimes)(path, times);
  struct timespec ts[2];
  const long r = ovl_utimens(AT_FDCWD, path, from_timeval(times, ts), 0);
  return r == OVL_PASS ? NEXT(utimes)(path, times) : (int)ovl_result(r);
}

HOOKED(int, lutimes, const char *path, const struct timeval times[2]) {
  if (OVL_OFF()) return NEXT(lutimes)(path, times);
  struct timespec ts[2];
  const long r = ovl_utimens(AT_FDCWD, path, from_timeval(times, ts), AT_SYMLINK_NOFOLLOW);
  return r == OVL_PASS ? NEXT(lutimes)(path, times) : (int)ovl_result(r);
}

HOOKED(int, futimes, int fd, const struct timeval times[2]) {
  if (OVL_OFF()) return NEXT(futimes)(fd, times);
  struct timespec ts[2];
  const long r = set_descriptor(fd, from_timeval(times, ts));
  return r == OVL_PASS ? NEXT(futimes)(fd, times) : (int)ovl_result(r);
}

HOOKED(int, futimesat, int dirfd, const char *path, const struct timeval times[2]) {
  if (OVL_OFF()) return NEXT(futimesat)(dirfd, path, times);
  struct timespec ts[2];
  const struct timespec *t = from_timeval(times, ts);
  const long r = path == NULL ? set_descriptor(dirfd, t) : ovl_utimens(dirfd, path, t, 0);
  return r == OVL_PASS ? NEXT(futimesat)(dirfd, path, times) : (int)ovl_result(r);
}

HOOKED(int, utimensat, int dirfd, const char *path, const struct timespec times[2], int flags) {
  if (OVL_OFF() || is_nothing(times)) return NEXT(utimensat)(dirfd, path, times, flags);
  const int empty = (flags & AT_EMPTY_PATH) != 0 && path != NULL && *path == '\0';
  const long r = empty && dirfd >= 0 ? set_descriptor(dirfd, times)
                 /* libc refuses a NULL path here (EINVAL), the kernel takes it for futimens */
                 : path == NULL ? OVL_PASS
                                : ovl_utimens(dirfd, path, times, flags);
  return r == OVL_PASS ? NEXT(utimensat)(dirfd, path, times, flags) : (int)ovl_result(r);
}

HOOKED(int, futimens, int fd, const struct timespec times[2]) {
  if (OVL_OFF() || is_nothing(times)) return NEXT(futimens)(fd, times);
  const long r = set_descriptor(fd, times);
  return r == OVL_PASS ? NEXT(futimens)(fd, times) : (int)ovl_result(r);
}
