#ifndef OVERLOCK_BIND_H
#define OVERLOCK_BIND_H

#include "syscalls.h"

#include <linux/sched.h>
#include <sys/wait.h>

/* bind(2) of an address relative to a directory that is not the working directory. A child makes it, which as
 * with vfork shares our memory and our descriptors, and has a working directory of its own; the calling thread
 * stands still, and no wait of the program's finds the child. The kernel keeps the name as it is bound. */
__attribute__((noinline, unused)) static long lx_bind_in(const char *directory, int fd, const void *address,
                                                         unsigned length) {
  volatile long result = -EINTR;
  const uint64_t mask = lx_block_signals();
  const long child = lx_call6(SYS_clone, CLONE_VM | CLONE_VFORK | CLONE_FILES, 0, 0, 0, 0, 0);
  if (child == 0) {
    const long r = lx_chdir(directory);
    result = r < 0 ? r : lx_bind(fd, address, length);
    for (;;) lx_call6(SYS_exit, 0, 0, 0, 0, 0, 0);
  }
  if (child > 0)
    while (lx_call6(SYS_wait4, child, 0, (long)__WALL, 0, 0, 0) == -EINTR) {
    }
  else
    result = child;
  lx_restore_signals(mask);
  return result;
}

#endif
