/* Mode, owner, length and inode flags. The times are in times.c, extended attributes in xattrs.c.
 *
 * The descriptor forms matter: fchmod through a read-only descriptor of a lower file is allowed by
 * the kernel and would change the lower. ovl_locate_fd with OVL_COPYUP brings the object up and
 * names it; then the call goes there by path. Left out on purpose: ftruncate and fallocate, which
 * refuse a read-only descriptor by themselves. */

#include "hook.h"

#include <linux/fs.h>
#include <sys/ioctl.h>

HOOKED(int, chmod, const char *path, mode_t mode) {
  if (OVL_OFF()) return NEXT(chmod)(path, mode);
  const long r = ovl_chmod(AT_FDCWD, path, mode, 0);
  return r == OVL_PASS ? NEXT(chmod)(path, mode) : (int)ovl_result(r);
}

HOOKED(int, lchmod, const char *path, mode_t mode) {
  if (OVL_OFF()) return NEXT(lchmod)(path, mode);
  const long r = ovl_chmod(AT_FDCWD, path, mode, AT_SYMLINK_NOFOLLOW);
  return r == OVL_PASS ? NEXT(lchmod)(path, mode) : (int)ovl_result(r);
}

HOOKED(int, fchmod, int fd, mode_t mode) {
  if (OVL_OFF()) return NEXT(fchmod)(fd, mode);
  OVL_PATH(p);
  const long r = ovl_locate_fd(&p, fd, OVL_COPYUP | OVL_OWNER);
  if (r != 0 && r != OVL_PASS) return (int)ovl_result(r);
  const int done = r == 0 ? NEXT(chmod)(p.real, mode) : NEXT(fchmod)(fd, mode);
  if (done == 0) ovl_fd_changed(fd);
  return done;
}

HOOKED(int, fchmodat, int dirfd, const char *path, mode_t mode, int flags) {
  if (OVL_OFF()) return NEXT(fchmodat)(dirfd, path, mode, flags);
  const long r = ovl_chmod(dirfd, path, mode, flags);
  return r == OVL_PASS ? NEXT(fchmodat)(dirfd, path, mode, flags) : (int)ovl_result(r);
}

HOOKED(int, chown, const char *path, uid_t uid, gid_t gid) {
  if (OVL_OFF()) return NEXT(chown)(path, uid, gid);
  const long r = ovl_chown(AT_FDCWD, path, uid, gid, 0);
  return r == OVL_PASS ? NEXT(chown)(path, uid, gid) : (int)ovl_result(r);
}

HOOKED(int, lchown, const char *path, uid_t uid, gid_t gid) {
  if (OVL_OFF()) return NEXT(lchown)(path, uid, gid);
  const long r = ovl_chown(AT_FDCWD, path, uid, gid, AT_SYMLINK_NOFOLLOW);
  return r == OVL_PASS ? NEXT(lchown)(path, uid, gid) : (int)ovl_result(r);
}

/* Nothing asked for is nobody's alone. */
static uint32_t chown_intent(uid_t uid, gid_t gid) {
  return uid != (uid_t)-1 || gid != (gid_t)-1 ? OVL_OWNER : 0;
}

HOOKED(int, fchown, int fd, uid_t uid, gid_t gid) {
  if (OVL_OFF()) return NEXT(fchown)(fd, uid, gid);
  OVL_PATH(p);
  const long r = ovl_locate_fd(&p, fd, OVL_COPYUP | chown_intent(uid, gid));
  if (r != 0 && r != OVL_PASS) return (int)ovl_result(r);
  const int done = r == 0 ? NEXT(lchown)(p.real, uid, gid) : NEXT(fchown)(fd, uid, gid);
  if (done == 0) ovl_fd_changed(fd);
  return done;
}

HOOKED(int, fchownat, int dirfd, const char *path, uid_t uid, gid_t gid, int flags) {
  if (OVL_OFF()) return NEXT(fchownat)(dirfd, path, uid, gid, flags);
  if ((flags & AT_EMPTY_PATH) != 0 && dirfd >= 0 && (path == NULL || *path == '\0')) {
    OVL_PATH(p);
    const long located = ovl_locate_fd(&p, dirfd, OVL_COPYUP | chown_intent(uid, gid));
    if (located != 0 && located != OVL_PASS) return (int)ovl_result(located);
    const int done = located == 0 ? NEXT(lchown)(p.real, uid, gid)
                                  : NEXT(fchownat)(dirfd, path, uid, gid, flags);
    if (done == 0) ovl_fd_changed(dirfd);
    return done;
  }
  const long r = ovl_chown(dirfd, path, uid, gid, flags);
  return r == OVL_PASS ? NEXT(fchownat)(dirfd, path, uid, gid, flags) : (int)ovl_result(r);
}

HOOKED(int, truncate, const char *path, off_t length) {
  if (OVL_OFF()) return NEXT(truncate)(path, length);
  const long r = ovl_truncate(path, length);
  return r == OVL_PASS ? NEXT(truncate)(path, length) : (int)ovl_result(r);
}
HOOK_ALIAS(truncate64, truncate);

/* The requests that change an object through a read-only descriptor. */
static int changes_inode(unsigned long request) {
  return request == FS_IOC_SETFLAGS || request == FS_IOC32_SETFLAGS ||
         request == FS_IOC_FSSETXATTR || request == FS_IOC_SETVERSION ||
         request == FS_IOC32_SETVERSION;
}

static int change_upper(int fd, unsigned long request, void *argument) {
  OVL_PATH(p);
  const long r = ovl_locate_fd(&p, fd, OVL_COPYUP | OVL_OWNER);
  if (r == OVL_PASS) return NEXT(ioctl)(fd, request, argument);
  if (r < 0) return (int)ovl_result(r);
  const long upper = lx_openat(AT_FDCWD, p.real, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW, 0);
  if (upper < 0) return (int)ovl_result(upper);
  const int done = NEXT(ioctl)((int)upper, request, argument);
  (void)lx_close((int)upper);
  return done;
}

HOOKED(int, ioctl, int fd, unsigned long request, ...) {
  va_list arguments;
  va_start(arguments, request);
  void *argument = va_arg(arguments, void *);
  va_end(arguments);
  if (OVL_ON() && changes_inode(request)) return change_upper(fd, request, argument);
  return NEXT(ioctl)(fd, request, argument);
}
