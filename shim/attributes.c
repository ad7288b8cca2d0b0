/* Mode, owner, length and inode flags. The times are in times.c, extended attributes in xattrs.c.
 *
 * The descriptor forms matter: fchmod through a read-only descriptor of a lower file is allowed by
 * the kernel and would change the lower. ovl_locate_fd with OVL_COPYUP brings the object up and
 * names it; then the call goes there by path. Left out on purpose: ftruncate and fallocate, which
 * refuse a read-only descriptor by themselves. */

#include "reads.h"

#include <linux/fs.h>
#include <linux/fscrypt.h>
#include <linux/fsverity.h>
#include <sys/ioctl.h>

/* Numbers of single file systems, whose headers not every system has or that would bring more. */
#define EXT4_SETVERSION _IOW('f', 4, long)
#define EXT4_SETVERSION32 _IOW('f', 4, int)
#define EXT4_MIGRATE _IO('f', 9)
#define FAT_SET_ATTRIBUTES _IOW('r', 0x11, uint32_t)
#define BTRFS 0x94

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

/* btrfs: subvolumes made and removed by a name in the directory, and marks of a subvolume. */
static int changes_subvolume(unsigned long request) {
  if (_IOC_TYPE(request) != BTRFS) return 0;
  switch (_IOC_NR(request)) {
  case 1: case 14: case 15: /* SNAP_CREATE, SUBVOL_CREATE, SNAP_DESTROY */
  case 23: case 24: case 63: /* the same, second version */
  case 26: case 37: /* SUBVOL_SETFLAGS, SET_RECEIVED_SUBVOL */
    return 1;
  default: return 0;
  }
}

/* The requests that change an object through a read-only descriptor. What wants a writable one
 * (FICLONE, the space calls of XFS, EXT4_IOC_MOVE_EXT) refuses a lower's by itself. */
static int changes_inode(unsigned long request) {
  switch (request) {
  case FS_IOC_SETFLAGS: case FS_IOC32_SETFLAGS:
  case FS_IOC_SETVERSION: case FS_IOC32_SETVERSION:
  case EXT4_SETVERSION: case EXT4_SETVERSION32: case EXT4_MIGRATE:
  case FS_IOC_FSSETXATTR:
  case FS_IOC_ENABLE_VERITY: case FS_IOC_SET_ENCRYPTION_POLICY:
  case FAT_SET_ATTRIBUTES:
    return 1;
  default: return changes_subvolume(request);
  }
}

/* 1: an object of a lower is among those whose blocks would be shared. Its owner may ask for that
 * through a read-only descriptor. */
static int dedupes_lower(const struct file_dedupe_range *range) {
  if (!ovl_is_readable_all(range, sizeof *range)) return 0;
  for (unsigned i = 0; i < range->dest_count; i++)
    if (ovl_fd_is_lower((int)range->info[i].dest_fd)) return 1;
  return 0;
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
  if (OVL_ON() && request == FIDEDUPERANGE && dedupes_lower(argument))
    return (int)ovl_result(-EOPNOTSUPP);
  if (request == FIONREAD && ovl_has_watches() && ovl_fd_watches(fd))
    return ovl_queued_events(fd, argument);
  return ovl_ioctl_data(fd, request, argument);
}
