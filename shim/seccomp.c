/* prctl and seccomp, where the process forbids itself system calls that the core makes: the core is told before.
 *
 * prctl is variadic in C; declared as what libc's passes on, five words, every other option is a jump (see
 * syscall.c). */

#include "hook.h"

#include <linux/seccomp.h>
#include <sys/prctl.h>

__attribute__((noinline)) static int prctl_seccomp(long mode, long filter, long c, long d) {
  const int kills = mode == SECCOMP_MODE_STRICT ? ovl_confining(NULL)
                    : mode == SECCOMP_MODE_FILTER && filter != 0 && ovl_confining((void *)filter);
  const int r = NEXT(prctl)(PR_SET_SECCOMP, mode, filter, c, d);
  if (kills && r == 0) ovl_confined();
  return r;
}

HOOKED(int, prctl, int option, long a, long b, long c, long d) {
  if (option == PR_SET_SECCOMP && OVL_ON()) return prctl_seccomp(a, b, c, d);
  TAIL_CALL NEXT(prctl)(option, a, b, c, d);
}

long ovl_seccomp(long operation, long flags, long filter) {
  const int kills = operation == SECCOMP_SET_MODE_STRICT ? ovl_confining(NULL)
                    : operation == SECCOMP_SET_MODE_FILTER && filter != 0 && ovl_confining((void *)filter);
  const long r = NEXT(syscall)(SYS_seccomp, operation, flags, filter, 0, 0, 0);
  /* A descriptor is a success, a thread that does not follow is not. */
  if (kills && (r == 0 || (r > 0 && (flags & SECCOMP_FILTER_FLAG_NEW_LISTENER) != 0))) ovl_confined();
  return r;
}
