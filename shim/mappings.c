/* Mappings of files.
 *
 * One of a descriptor on a lower may have to be one of another file than the descriptor's own; the
 * core makes that one itself. What ld.so and libc map for themselves does not come here. */

#include "mandatory.h"

#include <sys/mman.h>

/* Kept out of the hook, which then needs no frame for what allocators ask for. */
__attribute__((noinline)) static void *map_file(void *address, size_t length, int protection,
                                                int flags, int fd, off_t offset) {
  if ((flags & MAP_ANONYMOUS) == 0 && fd >= 0 && OVL_ON()) {
    const long refused = (flags & MAP_SHARED) != 0 && OVL_MANDATORY() ? ovl_mandatory_map(fd) : 0;
    if (refused < 0) return (void *)ovl_result(refused);
    const long r = ovl_map(address, length, protection, flags, fd, offset);
    if (r != OVL_PASS) return (void *)ovl_result(r);
  }
  return NEXT(mmap)(address, length, protection, flags, fd, offset);
}

/* Allocators call this, and may before anything is set up. */
HOOKED(void *, mmap, void *address, size_t length, int protection, int flags, int fd,
       off_t offset) {
  const __typeof__(&ovl_hook_mmap) next =
      (__typeof__(&ovl_hook_mmap))__atomic_load_n(&ovl_next.mmap, __ATOMIC_RELAXED);
  if ((flags & MAP_ANONYMOUS) != 0 && next != NULL)
    TAIL_CALL next(address, length, protection, flags, fd, offset);
  TAIL_CALL map_file(address, length, protection, flags, fd, offset);
}
HOOK_ALIAS(mmap64, mmap);
