/* Mappings of files.
 *
 * One of a descriptor on a lower may have to be one of another file than the descriptor's own; the core makes
 * that one itself. What ld.so and libc map for themselves does not come here. */

#include "hook.h"

#include <sys/mman.h>

HOOKED(void *, mmap, void *address, size_t length, int protection, int flags, int fd, off_t offset) {
  /* First what allocators ask for, which may be before anything is started. */
  if ((flags & MAP_ANONYMOUS) == 0 && fd >= 0 && OVL_ON()) {
    const long r = ovl_map(address, length, protection, flags, fd, offset);
    if (r != OVL_PASS) return (void *)ovl_result(r);
  }
  return NEXT(mmap)(address, length, protection, flags, fd, offset);
}
HOOK_ALIAS(mmap64, mmap);
