/* Functions that are given the path of a file that libc then opens itself: login records and message
 * catalogues.
 *
 * What may be written is brought to the upper first, and libc gets the real path. Left out on
 * purpose: catopen of a bare name, which is searched for along NLSPATH, and the files that libc
 * names itself (/var/run/utmp). */

#include "hook.h"

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
  if (OVL_OFF() || !ovl_is_mapped(name) || strchr(name, '/') == NULL)
    return NEXT(catopen)(name, flag);
  OVL_PATH(p);
  const long r = ovl_locate(&p, AT_FDCWD, name, OVL_FOLLOW);
  return NEXT(catopen)(r == 0 ? p.real : name, flag);
}
