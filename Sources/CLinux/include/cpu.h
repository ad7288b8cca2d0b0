#ifndef OVERLOCK_CPU_H
#define OVERLOCK_CPU_H

/* The processor's level among glibc-hwcaps' directories (x86-64-v2 … v4); 0 where there are none. */

#if defined(__x86_64__)
/* Not <cpuid.h>: it belongs to a module of the compiler's that brings in all intrinsics. */
struct lx_cpuid {
  unsigned a, b, c, d;
};
static inline struct lx_cpuid lx_cpuid(unsigned leaf) {
  struct lx_cpuid r = {0, 0, 0, 0};
  unsigned highest, b, c, d;
  __asm__("cpuid" : "=a"(highest), "=b"(b), "=c"(c), "=d"(d) : "a"(leaf & 0x80000000u), "c"(0));
  if (leaf <= highest)
    __asm__("cpuid" : "=a"(r.a), "=b"(r.b), "=c"(r.c), "=d"(r.d) : "a"(leaf), "c"(0));
  return r;
}

/* 1: all of these bits. */
static inline int lx_cpu_all(unsigned have, unsigned bits) { return (have & bits) == bits; }

static inline int lx_cpu_level(void) {
  const unsigned c1 = lx_cpuid(1).c, b7 = lx_cpuid(7).b, c8 = lx_cpuid(0x80000001u).c;
  /* SSE3 SSSE3 CMPXCHG16B SSE4.1 SSE4.2 POPCNT; LAHF */
  const unsigned second = 1u << 0 | 1u << 9 | 1u << 13 | 1u << 19 | 1u << 20 | 1u << 23;
  if (!lx_cpu_all(c1, second) || !lx_cpu_all(c8, 1)) return 1;
  /* FMA MOVBE OSXSAVE AVX F16C; BMI1 AVX2 BMI2; LZCNT */
  const unsigned third = 1u << 12 | 1u << 22 | 1u << 27 | 1u << 28 | 1u << 29;
  if (!lx_cpu_all(c1, third) || !lx_cpu_all(b7, 1u << 3 | 1u << 5 | 1u << 8) ||
      !lx_cpu_all(c8, 1u << 5))
    return 2;
  unsigned state, high;
  __asm__("xgetbv" : "=a"(state), "=d"(high) : "c"(0));
  if (!lx_cpu_all(state, 6)) return 2;
  /* AVX512 F DQ CD BW VL */
  const unsigned fourth = 1u << 16 | 1u << 17 | 1u << 28 | 1u << 30 | 1u << 31;
  return lx_cpu_all(b7, fourth) && lx_cpu_all(state, 0xe6) ? 4 : 3;
}
#else
static inline int lx_cpu_level(void) { return 0; }
#endif

#endif
