/* What compilers call in code that has no libc, and what the Swift runtime's unused parts name. */

#define _GNU_SOURCE 1
#include <stddef.h>
#include <stdint.h>
#include <syscalls.h>

#include <errno.h>
#include <time.h>

void *memcpy(void *restrict to, const void *restrict from, size_t size) {
  char *t = to;
  const char *f = from;
  for (size_t i = 0; i < size; i++) t[i] = f[i];
  return to;
}

void *memmove(void *to, const void *from, size_t size) {
  char *t = to;
  const char *f = from;
  if ((uintptr_t)t - (uintptr_t)f >= size) return memcpy(to, from, size);
  while (size-- > 0) t[size] = f[size];
  return to;
}

void *memset(void *to, int byte, size_t size) {
  char *t = to;
  for (size_t i = 0; i < size; i++) t[i] = (char)byte;
  return to;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
  return lx_call6(SYS_clock_gettime, clock, LX_CAST(now), 0, 0, 0, 0) < 0 ? -1 : 0;
}

/* The core allocates nothing: nothing reaches these. */
void free(void *memory) { (void)memory; }
int posix_memalign(void **memory, size_t alignment, size_t size) {
  (void)memory, (void)alignment, (void)size;
  return ENOMEM;
}
size_t strlen(const char *text) {
  size_t n = 0;
  while (text[n] != '\0') {
    __asm__ volatile("" ::: "memory"); /* or the loop becomes a call of itself */
    n++;
  }
  return n;
}

void arc4random_buf(void *buffer, size_t size) { (void)memset(buffer, 0, size); }
_Noreturn void __stack_chk_fail(void) { __builtin_trap(); }
