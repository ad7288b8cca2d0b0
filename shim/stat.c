/* The stat and access families.
 *
 * On LP64 struct stat is struct stat64 and the kernel's own, so the 64 names, the __xstat forms
 * that binaries from before glibc 2.33 import, and the plain names answer alike. A descriptor is
 * asked of the kernel first; the core then corrects device and inode number. */

#include "hook.h"

/* The version argument of the __xstat forms: the kernel's struct is 0 everywhere, on x86_64 also 1
 * (_STAT_VER_LINUX). Anything else is libc's to refuse. */
static int known_version(int version) { return version == 0 || version == 1; }

static int is_empty(const char *path) { return path == NULL || *path == '\0'; }

HOOKED(int, stat, const char *path, struct stat *st) {
  if (OVL_OFF()) return NEXT(stat)(path, st);
  const long r = ovl_stat(AT_FDCWD, path, st, 0);
  return r == OVL_PASS ? NEXT(stat)(path, st) : (int)ovl_result(r);
}
HOOK_ALIAS(stat64, stat);

HOOKED(int, lstat, const char *path, struct stat *st) {
  if (OVL_OFF()) return NEXT(lstat)(path, st);
  const long r = ovl_stat(AT_FDCWD, path, st, AT_SYMLINK_NOFOLLOW);
  return r == OVL_PASS ? NEXT(lstat)(path, st) : (int)ovl_result(r);
}
HOOK_ALIAS(lstat64, lstat);

HOOKED(int, fstat, int fd, struct stat *st) {
  const int r = NEXT(fstat)(fd, st);
  if (OVL_ON() && r == 0) ovl_fd_fix_stat(fd, st);
  return r;
}
HOOK_ALIAS(fstat64, fstat);

/* fstatat on a descriptor itself; AT_FDCWD means the working directory. */
static int stat_descriptor(int dirfd, const char *path, struct stat *st, int flags) {
  if (dirfd == AT_FDCWD) {
    const long r = ovl_stat(AT_FDCWD, ".", st, flags & ~AT_EMPTY_PATH);
    if (r != OVL_PASS) return (int)ovl_result(r);
  }
  const int r = NEXT(fstatat)(dirfd, path, st, flags);
  if (r == 0 && dirfd != AT_FDCWD) ovl_fd_fix_stat(dirfd, st);
  return r;
}

HOOKED(int, fstatat, int dirfd, const char *path, struct stat *st, int flags) {
  if (OVL_OFF()) return NEXT(fstatat)(dirfd, path, st, flags);
  if ((flags & AT_EMPTY_PATH) != 0 && is_empty(path))
    return stat_descriptor(dirfd, path, st, flags);
  const long r = ovl_stat(dirfd, path, st, flags);
  return r == OVL_PASS ? NEXT(fstatat)(dirfd, path, st, flags) : (int)ovl_result(r);
}
HOOK_ALIAS(fstatat64, fstatat);

HOOKED(int, statx, int dirfd, const char *path, int flags, unsigned mask, struct statx *stx) {
  if (OVL_OFF()) return NEXT(statx)(dirfd, path, flags, mask, stx);
  if ((flags & AT_EMPTY_PATH) != 0 && is_empty(path)) {
    if (dirfd != AT_FDCWD) {
      const int r = NEXT(statx)(dirfd, path, flags, mask, stx);
      if (r == 0) ovl_fd_fix_statx(dirfd, stx);
      return r;
    }
    const long r = ovl_statx(AT_FDCWD, ".", flags & ~AT_EMPTY_PATH, mask, stx);
    if (r != OVL_PASS) return (int)ovl_result(r);
    return NEXT(statx)(dirfd, path, flags, mask, stx);
  }
  const long r = ovl_statx(dirfd, path, flags, mask, stx);
  return r == OVL_PASS ? NEXT(statx)(dirfd, path, flags, mask, stx) : (int)ovl_result(r);
}

HOOKED(int, __xstat, int version, const char *path, struct stat *st) {
  if (OVL_OFF() || !known_version(version)) return NEXT(__xstat)(version, path, st);
  const long r = ovl_stat(AT_FDCWD, path, st, 0);
  return r == OVL_PASS ? NEXT(__xstat)(version, path, st) : (int)ovl_result(r);
}
HOOK_ALIAS(__xstat64, __xstat);

HOOKED(int, __lxstat, int version, const char *path, struct stat *st) {
  if (OVL_OFF() || !known_version(version)) return NEXT(__lxstat)(version, path, st);
  const long r = ovl_stat(AT_FDCWD, path, st, AT_SYMLINK_NOFOLLOW);
  return r == OVL_PASS ? NEXT(__lxstat)(version, path, st) : (int)ovl_result(r);
}
HOOK_ALIAS(__lxstat64, __lxstat);

HOOKED(int, __fxstat, int version, int fd, struct stat *st) {
  const int r = NEXT(__fxstat)(version, fd, st);
  if (OVL_ON() && r == 0) ovl_fd_fix_stat(fd, st);
  return r;
}
HOOK_ALIAS(__fxstat64, __fxstat);

HOOKED(int, __fxstatat, int version, int dirfd, const char *path, struct stat *st, int flags) {
  if (OVL_OFF() || !known_version(version))
    return NEXT(__fxstatat)(version, dirfd, path, st, flags);
  if ((flags & AT_EMPTY_PATH) != 0 && is_empty(path))
    return stat_descriptor(dirfd, path, st, flags);
  const long r = ovl_stat(dirfd, path, st, flags);
  return r == OVL_PASS ? NEXT(__fxstatat)(version, dirfd, path, st, flags) : (int)ovl_result(r);
}
HOOK_ALIAS(__fxstatat64, __fxstatat);

HOOKED(int, access, const char *path, int mode) {
  if (OVL_OFF()) return NEXT(access)(path, mode);
  const long r = ovl_access(AT_FDCWD, path, mode, 0);
  return r == OVL_PASS ? NEXT(access)(path, mode) : (int)ovl_result(r);
}

HOOKED(int, faccessat, int dirfd, const char *path, int mode, int flags) {
  if (OVL_OFF()) return NEXT(faccessat)(dirfd, path, mode, flags);
  const long r = ovl_access(dirfd, path, mode, flags);
  return r == OVL_PASS ? NEXT(faccessat)(dirfd, path, mode, flags) : (int)ovl_result(r);
}

HOOKED(int, eaccess, const char *path, int mode) {
  if (OVL_OFF()) return NEXT(eaccess)(path, mode);
  const long r = ovl_access(AT_FDCWD, path, mode, AT_EACCESS);
  return r == OVL_PASS ? NEXT(eaccess)(path, mode) : (int)ovl_result(r);
}
HOOK_ALIAS(euidaccess, eaccess);

/* libc's calls its own stat: two programs would agree on a key only by chance after a copy-up. */
HOOKED(key_t, ftok, const char *path, int project) {
  struct stat st;
  const long r = OVL_ON() ? ovl_stat(AT_FDCWD, path, &st, 0) : OVL_PASS;
  if (r == OVL_PASS) return NEXT(ftok)(path, project);
  if (r < 0) return (key_t)ovl_result(r);
  return (key_t)((st.st_ino & 0xffff) | ((st.st_dev & 0xff) << 16) |
                 (((unsigned)project & 0xff) << 24));
}
