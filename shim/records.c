/* Functions that open a file inside libc: login records and message catalogues, by a path of the
 * caller's, and the profile of a program built with -pg, in its working directory.
 *
 * What may be written is brought to the upper first, and libc gets the real path. Left out on
 * purpose: catopen of a bare name, which is searched for along NLSPATH, and the files that libc
 * names itself (/var/run/utmp). */

#include "hook.h"

#include <stdlib.h>
#include <string.h>

HOOKED(void, updwtmp, const char *path, const struct utmp *record) {
  if (OVL_OFF()) {
    NEXT(updwtmp)(path, record);
    return;
  }
  OVL_PATH(p);
  const long r = ovl_locate(&p, AT_FDCWD, path, OVL_FOLLOW | OVL_COPYUP);
  if (r < 0 && r != OVL_PASS)
    (void)ovl_result(r);
  else
    NEXT(updwtmp)(r == 0 ? p.real : path, record);
}

HOOKED(void, updwtmpx, const char *path, const struct utmpx *record) {
  ovl_hook_updwtmp(path, (const struct utmp *)record);
}

/* The name is kept and opened later, for writing too. */
HOOKED(int, utmpname, const char *path) {
  if (OVL_OFF()) return NEXT(utmpname)(path);
  OVL_PATH(p);
  const long r = ovl_locate(&p, AT_FDCWD, path, OVL_FOLLOW | OVL_COPYUP);
  return NEXT(utmpname)(r == 0 ? p.real : path);
}
HOOK_ALIAS(utmpxname, utmpname);

HOOKED(nl_catd, catopen, const char *name, int flag) {
  if (OVL_OFF() || !ovl_is_readable(name) || strchr(name, '/') == NULL)
    return NEXT(catopen)(name, flag);
  OVL_PATH(p);
  const long r = ovl_locate(&p, AT_FDCWD, name, OVL_FOLLOW);
  return NEXT(catopen)(r == 0 ? p.real : name, flag);
}

/* Where libc will look for the profile's place: gmon.out, or GMON_OUT_PREFIX and the process id. */
static void profile_name(char name[PATH_MAX], const char *prefix) {
  char digits[24];
  int n = 0;
  if (prefix == NULL || ovl_length(prefix) > PATH_MAX - sizeof digits) {
    (void)ovl_append(name, "gmon.out");
    return;
  }
  for (long rest = lx_getpid(); rest > 0; rest /= 10) digits[n++] = (char)('0' + rest % 10);
  char *at = ovl_append(ovl_append(name, prefix), ".");
  while (n > 0) *at++ = digits[--n];
  *at = '\0';
}

/* Writes the profile at exit. The file is made in the upper first; libc then finds it from the
 * upper's directory, and does nothing else by a relative path. */
HOOKED(void, _mcleanup, void) {
  char name[PATH_MAX];
  const char *prefix = secure_getenv("GMON_OUT_PREFIX");
  if (prefix != NULL && *prefix == '\0') prefix = NULL;
  profile_name(name, prefix);
  const int flags = O_CREAT | O_TRUNC | O_WRONLY | O_NOFOLLOW | O_CLOEXEC;
  const long fd = OVL_ON() ? ovl_open(AT_FDCWD, name, flags, 0666, 0) : OVL_PASS;
  if (fd == OVL_PASS) {
    NEXT(_mcleanup)();
    return;
  }
  OVL_PATH(p);
  const long r = fd < 0 ? fd : ovl_locate(&p, AT_FDCWD, name, 0);
  if (fd >= 0) ovl_fd_close((int)fd);
  const char *slash = r == 0 ? strrchr(p.real, '/') : NULL;
  const long back = lx_openat(AT_FDCWD, ".", O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
  if (slash == NULL || slash == p.real || back < 0) {
    ovl_complain(name, ": the profile cannot be written", NULL);
  } else {
    memcpy(name, p.real, (size_t)(slash - p.real));
    name[slash - p.real] = '\0';
    if (lx_chdir(name) == 0) {
      const char *last = prefix != NULL ? strrchr(prefix, '/') : NULL;
      if (last != NULL) (void)setenv("GMON_OUT_PREFIX", last + 1, 1);
      NEXT(_mcleanup)();
      (void)lx_fchdir((int)back);
    }
  }
  if (back >= 0) (void)lx_close((int)back);
}
