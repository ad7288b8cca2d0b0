/* seccomp: what the process may do no more is done before. (libseccomp makes its system calls by syscall(2),
 * which comes here from syscall.c.) */

#include "hook.h"

#include <linux/seccomp.h>
#include <stdarg.h>
#include <sys/prctl.h>

HOOKED(int, prctl, int option, ...) {
  va_list arguments;
  va_start(arguments, option);
  const unsigned long a = va_arg(arguments, unsigned long), b = va_arg(arguments, unsigned long),
                      c = va_arg(arguments, unsigned long), d = va_arg(arguments, unsigned long);
  va_end(arguments);
  if (OVL_OFF() || option != PR_SET_SECCOMP) return NEXT(prctl)(option, a, b, c, d);
  KEEPING_ERRNO(ovl_confinement_prepare());
  const int r = NEXT(prctl)(option, a, b, c, d);
  if (r == 0) ovl_confinement_begin();
  return r;
}

/* seccomp(2), and prctl(2) as a system call. */
long ovl_confine(long n, long a, long b, long c, long d, long e) {
  KEEPING_ERRNO(ovl_confinement_prepare());
  const long r = lx_call6(n, a, b, c, d, e, 0);
  if (r >= 0) ovl_confinement_begin();
  return ovl_result(r);
}
