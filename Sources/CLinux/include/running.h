#ifndef OVERLOCK_RUNNING_H
#define OVERLOCK_RUNNING_H

/* Whether a program file runs: asked of the kernel's own count of who denies writing it, without writing. */

#include "syscalls.h"

#include <errno.h>
#include <linux/landlock.h>
#include <linux/sched.h>
#include <sys/prctl.h>
#include <sys/wait.h>

/* An open for writing meets the deny count (ETXTBSY) before the security modules are asked, and these
 * before a lease is broken or an event raised (fs/open.c, do_dentry_open). A child that Landlock forbids to
 * write any file therefore learns the one thing, and nothing else happens to the file. As with vfork it
 * shares our memory and the calling thread stands still; its descriptors are its own, so that no close of
 * its drops a lock of ours. It is no child that the program's own waits would find.
 *
 * 1: it runs. 0: it does not, or the kernel has no Landlock, or the file system may not be written at all. */
__attribute__((noinline, unused)) static int lx_is_running(const char *path) {
  volatile int busy = 0;
  const uint64_t mask = lx_block_signals();
  const long child = lx_call6(SYS_clone, CLONE_VM | CLONE_VFORK, 0, 0, 0, 0, 0);
  if (child == 0) {
    const struct {
      uint64_t handled;
    } rules = {LANDLOCK_ACCESS_FS_WRITE_FILE};
    const long set = lx_call6(SYS_landlock_create_ruleset, LX_CAST(&rules), sizeof rules, 0, 0, 0, 0);
    if (set >= 0 && lx_call6(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0) == 0) {
      /* 1: the refusal is no matter for the audit log (Linux 6.15; before that the flag is unknown). */
      long r = lx_call6(SYS_landlock_restrict_self, set, 1, 0, 0, 0, 0);
      if (r == -EINVAL) r = lx_call6(SYS_landlock_restrict_self, set, 0, 0, 0, 0, 0);
      if (r == 0) busy = lx_openat(AT_FDCWD, path, O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0) == -ETXTBSY;
    }
    for (;;) lx_call6(SYS_exit, 0, 0, 0, 0, 0, 0);
  }
  if (child > 0)
    while (lx_call6(SYS_wait4, child, 0, (long)__WALL, 0, 0, 0) == -EINTR) {
    }
  lx_restore_signals(mask);
  return busy;
}

#endif
