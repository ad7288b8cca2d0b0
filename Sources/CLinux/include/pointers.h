#ifndef OVERLOCK_POINTERS_H
#define OVERLOCK_POINTERS_H

/* Pointers of the program's that we read or write before the kernel does: where they lead nowhere the program
 * must get the kernel's EFAULT, not a signal of ours.
 *
 * The kernel is asked once a page: that the page is there is then remembered, so a pointer into the same
 * page costs one load. What goes is not noticed: a pointer into a page that was there for an earlier call and
 * was unmapped since is a SIGSEGV. So is text without an end at the end of a mapping. */

#include "process.h"

/* Asks the kernel, and remembers. */
int ovl_ask_readable(const void *pointer) __attribute__((cold, visibility("hidden")));
/* Whether all of a buffer may be written; asked each time, and one byte of each page is. */
int ovl_is_writable(void *pointer, size_t size) __attribute__((visibility("hidden")));

/* 1: there is memory at the pointer. */
static inline int ovl_is_readable(const void *pointer) {
  const uint64_t page = (uint64_t)(uintptr_t)pointer >> 12;
  const uint64_t *seen = &ovl_process.pages[(page ^ page >> 6) % OVL_PAGES_SEEN];
  if (__builtin_expect(__atomic_load_n(seen, __ATOMIC_RELAXED) == page + 1, 1)) return 1;
  return ovl_ask_readable(pointer);
}

/* The same of a struct, or of a buffer that ends on the next page at most. */
static inline int ovl_is_readable_all(const void *pointer, size_t size) {
  return ovl_is_readable(pointer) && (size == 0 || ovl_is_readable((const char *)pointer + size - 1));
}

#endif
