/* Questions about the file system behind a path, and marks set by path.
 *
 * statfs and pathconf ask the upper's file system, so that a program sees the type its files will
 * live on (tail and others stop using inotify where they see overlayfs or FUSE). fanotify's marks go to the
 * object that the path stands for now, and miss what happens after a copy-up. */

#include "hook.h"

#include <sys/fanotify.h>

HOOKED(int, statfs, const char *path, struct statfs *st) {
  if (OVL_OFF()) return NEXT(statfs)(path, st);
  OVL_PATH(p);
  const long r = ovl_locate_fs(&p, path);
  if (r < 0 && r != OVL_PASS) return (int)ovl_result(r);
  return NEXT(statfs)(r == 0 ? p.real : path, st);
}
HOOK_ALIAS(statfs64, statfs);
HOOK_ALIAS(__statfs, statfs);

HOOKED(int, statvfs, const char *path, struct statvfs *st) {
  if (OVL_OFF()) return NEXT(statvfs)(path, st);
  OVL_PATH(p);
  const long r = ovl_locate_fs(&p, path);
  if (r < 0 && r != OVL_PASS) return (int)ovl_result(r);
  return NEXT(statvfs)(r == 0 ? p.real : path, st);
}
HOOK_ALIAS(statvfs64, statvfs);

HOOKED(long, pathconf, const char *path, int name) {
  if (OVL_OFF()) return NEXT(pathconf)(path, name);
  OVL_PATH(p);
  const long r = ovl_locate_fs(&p, path);
  if (r < 0 && r != OVL_PASS) return ovl_result(r);
  return NEXT(pathconf)(r == 0 ? p.real : path, name);
}

HOOKED(int, fstatfs, int fd, struct statfs *st) {
  if (OVL_OFF()) return NEXT(fstatfs)(fd, st);
  OVL_PATH(p);
  return ovl_locate_fs_fd(&p, fd) == 0 ? NEXT(statfs)(p.real, st) : NEXT(fstatfs)(fd, st);
}
HOOK_ALIAS(fstatfs64, fstatfs);

HOOKED(int, fstatvfs, int fd, struct statvfs *st) {
  if (OVL_OFF()) return NEXT(fstatvfs)(fd, st);
  OVL_PATH(p);
  return ovl_locate_fs_fd(&p, fd) == 0 ? NEXT(statvfs)(p.real, st) : NEXT(fstatvfs)(fd, st);
}
HOOK_ALIAS(fstatvfs64, fstatvfs);

/* What is asked of the object's type and not of the file system is the descriptor's own. */
HOOKED(long, fpathconf, int fd, int name) {
  if (OVL_OFF() || name == _PC_PIPE_BUF || name == _PC_ASYNC_IO) return NEXT(fpathconf)(fd, name);
  OVL_PATH(p);
  return ovl_locate_fs_fd(&p, fd) == 0 ? NEXT(pathconf)(p.real, name) : NEXT(fpathconf)(fd, name);
}

HOOKED(int, fanotify_mark, int fd, unsigned flags, uint64_t mask, int dirfd, const char *path) {
  /* A NULL path marks the directory open at dirfd; a flush takes no path at all. */
  if (OVL_OFF() || path == NULL || (flags & FAN_MARK_FLUSH) != 0)
    return NEXT(fanotify_mark)(fd, flags, mask, dirfd, path);
  if ((flags & (FAN_MARK_MOUNT | FAN_MARK_FILESYSTEM)) == 0) {
    const long marked = ovl_fanotify_mark(fd, flags, mask, dirfd, path);
    if (marked != OVL_PASS) return (int)ovl_result(marked);
    return NEXT(fanotify_mark)(fd, flags, mask, dirfd, path);
  }
  OVL_PATH(p);
  const unsigned follow = (flags & FAN_MARK_DONT_FOLLOW) != 0 ? 0 : OVL_FOLLOW;
  const long r = ovl_locate(&p, dirfd, path, follow);
  if (r == 0) return NEXT(fanotify_mark)(fd, flags, mask, AT_FDCWD, p.real);
  if (r != OVL_PASS) return (int)ovl_result(r);
  return NEXT(fanotify_mark)(fd, flags, mask, dirfd, path);
}

HOOKED(int, name_to_handle_at, int dirfd, const char *path, struct file_handle *handle, int *mount,
       int flags) {
  const int empty = (flags & AT_EMPTY_PATH) != 0 && (path == NULL || *path == '\0');
  if (OVL_OFF() || empty) return NEXT(name_to_handle_at)(dirfd, path, handle, mount, flags);
  OVL_PATH(p);
  const long r = ovl_locate(&p, dirfd, path, (flags & AT_SYMLINK_FOLLOW) != 0 ? OVL_FOLLOW : 0);
  if (r == 0) return NEXT(name_to_handle_at)(AT_FDCWD, p.real, handle, mount, flags);
  if (r != OVL_PASS) return (int)ovl_result(r);
  return NEXT(name_to_handle_at)(dirfd, path, handle, mount, flags);
}
