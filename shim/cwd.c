/* The working directory, and canonical paths.
 *
 * The kernel's working directory of a process inside an overlay lies in one of the layers; the core
 * knows which merged directory that stands for. So everything that names the directory is asked of
 * the core first. libc's getwd, get_current_dir_name and realpath call its own getcwd and readlink
 * and have to be replaced as a whole. Known limit: after chroot to a directory inside an overlay,
 * paths below the new root are the layer's, not merged. */

#include "hook.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

HOOKED(int, chdir, const char *path) {
  if (OVL_OFF()) return NEXT(chdir)(path);
  const long r = ovl_chdir(path);
  return r == OVL_PASS ? NEXT(chdir)(path) : (int)ovl_result(r);
}

HOOKED(int, fchdir, int fd) {
  if (OVL_OFF()) return NEXT(fchdir)(fd);
  const long r = ovl_fchdir(fd);
  return r == OVL_PASS ? NEXT(fchdir)(fd) : (int)ovl_result(r);
}

HOOKED(int, chroot, const char *path) {
  if (OVL_OFF()) return NEXT(chroot)(path);
  OVL_PATH(p);
  const long r = ovl_locate(&p, AT_FDCWD, path, OVL_FOLLOW);
  if (r == 0) return NEXT(chroot)(p.real);
  return r == OVL_PASS ? NEXT(chroot)(path) : (int)ovl_result(r);
}

/* getcwd with a buffer that libc is to make: of `size` bytes, or as long as needed when 0. */
static char *allocate_cwd(size_t size) {
  char path[PATH_MAX];
  long r = ovl_getcwd(path, sizeof path);
  if (r == OVL_PASS) return NEXT(getcwd)(NULL, size);
  /* Deeper than a path may be. */
  const int deep = r == -ERANGE && (size == 0 || size > sizeof path);
  if (r < 0 && !deep) return ovl_null(r);
  if (!deep && size != 0 && (size_t)r > size) return ovl_null(-ERANGE);
  char *buffer = malloc(size != 0 ? size : deep ? OVL_SHOWN_MAX : (size_t)r);
  if (buffer == NULL) return NULL;
  if (!deep) return memcpy(buffer, path, (size_t)r);
  r = ovl_getcwd(buffer, size != 0 ? size : OVL_SHOWN_MAX);
  if (r >= 0) return buffer;
  free(buffer);
  return r == OVL_PASS ? NEXT(getcwd)(NULL, size) : ovl_null(r);
}

HOOKED(char *, getcwd, char *buffer, size_t size) {
  if (OVL_OFF()) return NEXT(getcwd)(buffer, size);
  if (buffer == NULL) return allocate_cwd(size);
  if (size == 0) return ovl_null(-EINVAL);
  const long r = ovl_getcwd(buffer, size);
  if (r == OVL_PASS) return NEXT(getcwd)(buffer, size);
  return r < 0 ? ovl_null(r) : buffer;
}

HOOKED(char *, __getcwd_chk, char *buffer, size_t size, size_t room) {
  if (OVL_OFF() || size > room) return NEXT(__getcwd_chk)(buffer, size, room);
  return ovl_hook_getcwd(buffer, size);
}

HOOKED(char *, getwd, char *buffer) {
  if (OVL_OFF()) return NEXT(getwd)(buffer);
  if (buffer == NULL) return ovl_null(-EINVAL);
  const long r = ovl_getcwd(buffer, PATH_MAX);
  if (r == OVL_PASS) return NEXT(getwd)(buffer);
  if (r >= 0) return buffer;
  /* On failure getwd leaves a message in place of the path. */
  const char *message = strerrordesc_np((int)-r);
  stpncpy(buffer, message != NULL ? message : "getwd", PATH_MAX - 1)[0] = '\0';
  return ovl_null(r);
}

HOOKED(char *, __getwd_chk, char *buffer, size_t room) {
  if (OVL_OFF() || room < PATH_MAX) return NEXT(__getwd_chk)(buffer, room);
  return ovl_hook_getwd(buffer);
}

/* $PWD if it is the working directory, as get_current_dir_name(3) promises. */
HOOKED(char *, get_current_dir_name, void) {
  if (OVL_OFF()) return NEXT(get_current_dir_name)();
  struct stat here, named;
  const char *pwd = getenv("PWD");
  int same = 0;
  if (pwd != NULL && pwd[0] == '/')
    KEEPING_ERRNO(same = ovl_hook_stat(".", &here) == 0 && ovl_hook_stat(pwd, &named) == 0 &&
                         here.st_dev == named.st_dev && here.st_ino == named.st_ino);
  return same ? strdup(pwd) : ovl_hook_getcwd(NULL, 0);
}

HOOKED(char *, realpath, const char *path, char *resolved) {
  if (OVL_OFF() || path == NULL) return NEXT(realpath)(path, resolved);
  char real[PATH_MAX];
  long r = ovl_realpath(path, real, sizeof real);
  if (r == OVL_PASS) return NEXT(realpath)(path, resolved);
  if (r == -ENAMETOOLONG && resolved == NULL && strlen(path) < PATH_MAX) {
    /* In a buffer of its own the answer may be longer than a path may be. */
    char *deep = malloc(OVL_SHOWN_MAX);
    if (deep == NULL) return NULL;
    r = ovl_realpath(path, deep, OVL_SHOWN_MAX);
    if (r == 0) return deep;
    free(deep);
    if (r == OVL_PASS) return NEXT(realpath)(path, resolved);
  }
  if (r < 0) return ovl_null(r);
  return resolved == NULL ? strdup(real) : strcpy(resolved, real);
}

HOOKED(char *, __realpath_chk, const char *path, char *resolved, size_t room) {
  if (OVL_OFF() || room < PATH_MAX) return NEXT(__realpath_chk)(path, resolved, room);
  return ovl_hook_realpath(path, resolved);
}

HOOKED(char *, canonicalize_file_name, const char *path) {
  if (OVL_OFF()) return NEXT(canonicalize_file_name)(path);
  return ovl_hook_realpath(path, NULL);
}
