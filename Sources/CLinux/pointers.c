#include "CLinux.h"

int ovl_ask_readable(const void *pointer) {
  const uintptr_t address = (uintptr_t)pointer;
  if (address < 4096) return 0; /* NULL would ask nothing */
  /* The set of signals is read before it is seen that no such change of the mask exists. */
  const long r = lx_call6(SYS_rt_sigprocmask, INT_MAX, (long)(address & ~(uintptr_t)7), 0, 8, 0, 0);
  if (r == -EFAULT) return 0;
  const uint64_t page = (uint64_t)address >> 12;
  __atomic_store_n(&ovl_process.pages[(page ^ page >> 6) % OVL_PAGES_SEEN], page + 1, __ATOMIC_RELAXED);
  return 1;
}

int ovl_is_writable(void *pointer, size_t size) {
  /* mincore writes one byte for one page; ours is there. */
  const uintptr_t own = (uintptr_t)&ovl_process & ~(uintptr_t)4095;
  const uintptr_t start = (uintptr_t)pointer;
  if (start + size < start) return 0;
  for (uintptr_t at = start; at < start + size; at = (at | 4095) + 1)
    if (lx_call6(SYS_mincore, (long)own, 1, (long)at, 0, 0, 0) == -EFAULT) return 0;
  return 1;
}
