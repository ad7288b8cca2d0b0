/* Calls that make, remove, move or read names. A mixed pair of paths (one inside an overlay, one
 * outside) is the core's to refuse; OVL_PASS means that neither concerns us. */

#include "hook.h"

HOOKED(int, link, const char *from, const char *to) {
  if (OVL_OFF()) return NEXT(link)(from, to);
  const long r = ovl_link(AT_FDCWD, from, AT_FDCWD, to, 0);
  return r == OVL_PASS ? NEXT(link)(from, to) : (int)ovl_result(r);
}

HOOKED(int, linkat, int fromfd, const char *from, int tofd, const char *to, int flags) {
  if (OVL_OFF()) return NEXT(linkat)(fromfd, from, tofd, to, flags);
  const long r = ovl_link(fromfd, from, tofd, to, flags);
  return r == OVL_PASS ? NEXT(linkat)(fromfd, from, tofd, to, flags) : (int)ovl_result(r);
}

HOOKED(int, symlink, const char *target, const char *path) {
  if (OVL_OFF()) return NEXT(symlink)(target, path);
  const long r = ovl_symlink(target, AT_FDCWD, path);
  return r == OVL_PASS ? NEXT(symlink)(target, path) : (int)ovl_result(r);
}

HOOKED(int, symlinkat, const char *target, int dirfd, const char *path) {
  if (OVL_OFF()) return NEXT(symlinkat)(target, dirfd, path);
  const long r = ovl_symlink(target, dirfd, path);
  return r == OVL_PASS ? NEXT(symlinkat)(target, dirfd, path) : (int)ovl_result(r);
}

HOOKED(int, unlink, const char *path) {
  if (OVL_OFF()) return NEXT(unlink)(path);
  const long r = ovl_unlink(AT_FDCWD, path, 0);
  return r == OVL_PASS ? NEXT(unlink)(path) : (int)ovl_result(r);
}

HOOKED(int, unlinkat, int dirfd, const char *path, int flags) {
  if (OVL_OFF()) return NEXT(unlinkat)(dirfd, path, flags);
  const long r = ovl_unlink(dirfd, path, flags);
  return r == OVL_PASS ? NEXT(unlinkat)(dirfd, path, flags) : (int)ovl_result(r);
}

HOOKED(int, rmdir, const char *path) {
  if (OVL_OFF()) return NEXT(rmdir)(path);
  const long r = ovl_unlink(AT_FDCWD, path, AT_REMOVEDIR);
  return r == OVL_PASS ? NEXT(rmdir)(path) : (int)ovl_result(r);
}

HOOKED(int, remove, const char *path) {
  if (OVL_OFF()) return NEXT(remove)(path);
  long r = ovl_unlink(AT_FDCWD, path, 0);
  if (r == -EISDIR) r = ovl_unlink(AT_FDCWD, path, AT_REMOVEDIR);
  return r == OVL_PASS ? NEXT(remove)(path) : (int)ovl_result(r);
}

HOOKED(int, rename, const char *from, const char *to) {
  if (OVL_OFF()) return NEXT(rename)(from, to);
  const long r = ovl_rename(AT_FDCWD, from, AT_FDCWD, to, 0);
  return r == OVL_PASS ? NEXT(rename)(from, to) : (int)ovl_result(r);
}

HOOKED(int, renameat, int fromfd, const char *from, int tofd, const char *to) {
  if (OVL_OFF()) return NEXT(renameat)(fromfd, from, tofd, to);
  const long r = ovl_rename(fromfd, from, tofd, to, 0);
  return r == OVL_PASS ? NEXT(renameat)(fromfd, from, tofd, to) : (int)ovl_result(r);
}

HOOKED(int, renameat2, int fromfd, const char *from, int tofd, const char *to, unsigned flags) {
  if (OVL_OFF()) return NEXT(renameat2)(fromfd, from, tofd, to, flags);
  const long r = ovl_rename(fromfd, from, tofd, to, flags);
  return r == OVL_PASS ? NEXT(renameat2)(fromfd, from, tofd, to, flags) : (int)ovl_result(r);
}

HOOKED(int, mkdir, const char *path, mode_t mode) {
  if (OVL_OFF()) return NEXT(mkdir)(path, mode);
  const long r = ovl_mkdir(AT_FDCWD, path, mode);
  return r == OVL_PASS ? NEXT(mkdir)(path, mode) : (int)ovl_result(r);
}

HOOKED(int, mkdirat, int dirfd, const char *path, mode_t mode) {
  if (OVL_OFF()) return NEXT(mkdirat)(dirfd, path, mode);
  const long r = ovl_mkdir(dirfd, path, mode);
  return r == OVL_PASS ? NEXT(mkdirat)(dirfd, path, mode) : (int)ovl_result(r);
}

HOOKED(int, mknod, const char *path, mode_t mode, dev_t device) {
  if (OVL_OFF()) return NEXT(mknod)(path, mode, device);
  const long r = ovl_mknod(AT_FDCWD, path, mode, device);
  return r == OVL_PASS ? NEXT(mknod)(path, mode, device) : (int)ovl_result(r);
}

HOOKED(int, mknodat, int dirfd, const char *path, mode_t mode, dev_t device) {
  if (OVL_OFF()) return NEXT(mknodat)(dirfd, path, mode, device);
  const long r = ovl_mknod(dirfd, path, mode, device);
  return r == OVL_PASS ? NEXT(mknodat)(dirfd, path, mode, device) : (int)ovl_result(r);
}

/* _MKNOD_VER_LINUX is 0 wherever the 64-bit ABI has these forms. */
HOOKED(int, __xmknod, int version, const char *path, mode_t mode, dev_t *device) {
  const long r = OVL_ON() && version == 0 ? ovl_mknod(AT_FDCWD, path, mode, *device) : OVL_PASS;
  return r == OVL_PASS ? NEXT(__xmknod)(version, path, mode, device) : (int)ovl_result(r);
}

HOOKED(int, __xmknodat, int version, int dirfd, const char *path, mode_t mode, dev_t *device) {
  const long r = OVL_ON() && version == 0 ? ovl_mknod(dirfd, path, mode, *device) : OVL_PASS;
  return r == OVL_PASS ? NEXT(__xmknodat)(version, dirfd, path, mode, device)
                       : (int)ovl_result(r);
}

HOOKED(int, mkfifo, const char *path, mode_t mode) {
  if (OVL_OFF()) return NEXT(mkfifo)(path, mode);
  const long r = ovl_mknod(AT_FDCWD, path, mode | S_IFIFO, 0);
  return r == OVL_PASS ? NEXT(mkfifo)(path, mode) : (int)ovl_result(r);
}

HOOKED(int, mkfifoat, int dirfd, const char *path, mode_t mode) {
  if (OVL_OFF()) return NEXT(mkfifoat)(dirfd, path, mode);
  const long r = ovl_mknod(dirfd, path, mode | S_IFIFO, 0);
  return r == OVL_PASS ? NEXT(mkfifoat)(dirfd, path, mode) : (int)ovl_result(r);
}

HOOKED(ssize_t, readlink, const char *path, char *buffer, size_t size) {
  if (OVL_OFF()) return NEXT(readlink)(path, buffer, size);
  const long r = ovl_readlink(AT_FDCWD, path, buffer, size);
  return r == OVL_PASS ? NEXT(readlink)(path, buffer, size) : ovl_result(r);
}

HOOKED(ssize_t, readlinkat, int dirfd, const char *path, char *buffer, size_t size) {
  if (OVL_OFF()) return NEXT(readlinkat)(dirfd, path, buffer, size);
  const long r = ovl_readlink(dirfd, path, buffer, size);
  return r == OVL_PASS ? NEXT(readlinkat)(dirfd, path, buffer, size) : ovl_result(r);
}

/* The fortified forms: a size beyond the buffer is libc's to end the program for. */
HOOKED(ssize_t, __readlink_chk, const char *path, char *buffer, size_t size, size_t room) {
  const long r = OVL_ON() && size <= room ? ovl_readlink(AT_FDCWD, path, buffer, size) : OVL_PASS;
  return r == OVL_PASS ? NEXT(__readlink_chk)(path, buffer, size, room) : ovl_result(r);
}

HOOKED(ssize_t, __readlinkat_chk, int dirfd, const char *path, char *buffer, size_t size,
       size_t room) {
  const long r = OVL_ON() && size <= room ? ovl_readlink(dirfd, path, buffer, size) : OVL_PASS;
  return r == OVL_PASS ? NEXT(__readlinkat_chk)(dirfd, path, buffer, size, room) : ovl_result(r);
}
