/* Extended attributes. The path forms are the core's as a whole. The descriptor forms work on the
 * object's present inode: a change through a descriptor of a lower object copies it up first, and
 * what the overlay itself keeps there is hidden by name, on any descriptor: ENODATA when read or
 * removed, EPERM when set, absent from a list. */

#include "hook.h"

HOOKED(ssize_t, getxattr, const char *path, const char *name, void *value, size_t size) {
  if (OVL_OFF()) return NEXT(getxattr)(path, name, value, size);
  const long r = ovl_getxattr(path, name, value, size, 0);
  return r == OVL_PASS ? NEXT(getxattr)(path, name, value, size) : ovl_result(r);
}

HOOKED(ssize_t, lgetxattr, const char *path, const char *name, void *value, size_t size) {
  if (OVL_OFF()) return NEXT(lgetxattr)(path, name, value, size);
  const long r = ovl_getxattr(path, name, value, size, 1);
  return r == OVL_PASS ? NEXT(lgetxattr)(path, name, value, size) : ovl_result(r);
}

HOOKED(ssize_t, fgetxattr, int fd, const char *name, void *value, size_t size) {
  if (OVL_OFF()) return NEXT(fgetxattr)(fd, name, value, size);
  if (ovl_xattr_hidden(name)) return ovl_result(-ENODATA);
  OVL_PATH(p);
  const long r = ovl_locate_fd(&p, fd, 0);
  if (r == 0) return NEXT(lgetxattr)(p.real, name, value, size);
  return r == OVL_PASS ? NEXT(fgetxattr)(fd, name, value, size) : ovl_result(r);
}

HOOKED(ssize_t, listxattr, const char *path, char *list, size_t size) {
  if (OVL_OFF()) return NEXT(listxattr)(path, list, size);
  const long r = ovl_listxattr(path, list, size, 0);
  return r == OVL_PASS ? NEXT(listxattr)(path, list, size) : ovl_result(r);
}

HOOKED(ssize_t, llistxattr, const char *path, char *list, size_t size) {
  if (OVL_OFF()) return NEXT(llistxattr)(path, list, size);
  const long r = ovl_listxattr(path, list, size, 1);
  return r == OVL_PASS ? NEXT(llistxattr)(path, list, size) : ovl_result(r);
}

/* Asked for the size alone, the kernel's answer counts hidden names too: an upper bound, which is
 * what callers use it for. */
HOOKED(ssize_t, flistxattr, int fd, char *list, size_t size) {
  if (OVL_OFF()) return NEXT(flistxattr)(fd, list, size);
  OVL_PATH(p);
  const long r = ovl_locate_fd(&p, fd, 0);
  if (r < 0 && r != OVL_PASS) return ovl_result(r);
  const ssize_t length =
      r == 0 ? NEXT(llistxattr)(p.real, list, size) : NEXT(flistxattr)(fd, list, size);
  return length > 0 && size > 0 ? ovl_flistxattr_filter(fd, list, (size_t)length) : length;
}

HOOKED(int, setxattr, const char *path, const char *name, const void *value, size_t size,
       int flags) {
  if (OVL_OFF()) return NEXT(setxattr)(path, name, value, size, flags);
  const long r = ovl_setxattr(path, name, value, size, flags, 0);
  return r == OVL_PASS ? NEXT(setxattr)(path, name, value, size, flags) : (int)ovl_result(r);
}

HOOKED(int, lsetxattr, const char *path, const char *name, const void *value, size_t size,
       int flags) {
  if (OVL_OFF()) return NEXT(lsetxattr)(path, name, value, size, flags);
  const long r = ovl_setxattr(path, name, value, size, flags, 1);
  return r == OVL_PASS ? NEXT(lsetxattr)(path, name, value, size, flags) : (int)ovl_result(r);
}

HOOKED(int, fsetxattr, int fd, const char *name, const void *value, size_t size, int flags) {
  if (OVL_OFF()) return NEXT(fsetxattr)(fd, name, value, size, flags);
  if (ovl_xattr_hidden(name)) return (int)ovl_result(-EPERM);
  OVL_PATH(p);
  const long r = ovl_locate_fd(&p, fd, OVL_COPYUP | ovl_xattr_intent(name));
  if (r != 0 && r != OVL_PASS) return (int)ovl_result(r);
  const int done = r == 0 ? NEXT(lsetxattr)(p.real, name, value, size, flags)
                          : NEXT(fsetxattr)(fd, name, value, size, flags);
  if (done == 0) ovl_fd_changed(fd);
  return done;
}

HOOKED(int, removexattr, const char *path, const char *name) {
  if (OVL_OFF()) return NEXT(removexattr)(path, name);
  const long r = ovl_removexattr(path, name, 0);
  return r == OVL_PASS ? NEXT(removexattr)(path, name) : (int)ovl_result(r);
}

HOOKED(int, lremovexattr, const char *path, const char *name) {
  if (OVL_OFF()) return NEXT(lremovexattr)(path, name);
  const long r = ovl_removexattr(path, name, 1);
  return r == OVL_PASS ? NEXT(lremovexattr)(path, name) : (int)ovl_result(r);
}

HOOKED(int, fremovexattr, int fd, const char *name) {
  if (OVL_OFF()) return NEXT(fremovexattr)(fd, name);
  if (ovl_xattr_hidden(name)) return (int)ovl_result(-ENODATA);
  OVL_PATH(p);
  const long r = ovl_locate_fd(&p, fd, OVL_COPYUP | ovl_xattr_intent(name));
  if (r != 0 && r != OVL_PASS) return (int)ovl_result(r);
  const int done = r == 0 ? NEXT(lremovexattr)(p.real, name) : NEXT(fremovexattr)(fd, name);
  if (done == 0) ovl_fd_changed(fd);
  return done;
}
