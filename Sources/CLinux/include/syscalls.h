#ifndef OVERLOCK_SYSCALLS_H
#define OVERLOCK_SYSCALLS_H

/* Raw system calls: -errno on failure, errno itself untouched, no hook of ours in between, usable in
 * a signal handler and in a vfork child. */

#include "longpath.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdint.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

/* Inlined always: a child that shares the stack returns from it before its parent does (apart.h). */
#if defined(__x86_64__)
__attribute__((always_inline)) static inline long lx_call6(long n, long a, long b, long c, long d, long e, long f) {
  long r;
  register long r10 __asm__("r10") = d;
  register long r8 __asm__("r8") = e;
  register long r9 __asm__("r9") = f;
  __asm__ volatile("syscall"
                   : "=a"(r)
                   : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                   : "rcx", "r11", "memory");
  return r;
}
#elif defined(__aarch64__)
__attribute__((always_inline)) static inline long lx_call6(long n, long a, long b, long c, long d, long e, long f) {
  register long x8 __asm__("x8") = n;
  register long x0 __asm__("x0") = a;
  register long x1 __asm__("x1") = b;
  register long x2 __asm__("x2") = c;
  register long x3 __asm__("x3") = d;
  register long x4 __asm__("x4") = e;
  register long x5 __asm__("x5") = f;
  __asm__ volatile("svc 0"
                   : "+r"(x0)
                   : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
                   : "memory");
  return x0;
}
#else
#error "Overlock knows the system call convention of x86_64 and aarch64 only"
#endif

#define LX_CAST(x) ((long)(x))

/* A call that writes what the program has not asked for. A file that may not get so big (RLIMIT_FSIZE) is EFBIG: the
 * SIGXFSZ with it, which is the calling thread's and there when the call returns, is taken away. */
__attribute__((noinline, unused)) static long lx_unasked(long n, long a, long b, long c, long d, long e) {
  const uint64_t limit = 1ULL << (SIGXFSZ - 1);
  const struct timespec none = {0, 0};
  uint64_t old = 0, pending = 0;
  lx_call6(SYS_rt_sigprocmask, SIG_BLOCK, LX_CAST(&limit), LX_CAST(&old), 8, 0, 0);
  const int was_blocked = (old & limit) != 0;
  if (was_blocked) lx_call6(SYS_rt_sigpending, LX_CAST(&pending), 8, 0, 0, 0, 0);
  const long r = lx_call6(n, a, b, c, d, e, 0);
  if (r == -EFBIG && (pending & limit) == 0)
    lx_call6(SYS_rt_sigtimedwait, LX_CAST(&limit), 0, LX_CAST(&none), 8, 0, 0);
  if (!was_blocked) lx_call6(SYS_rt_sigprocmask, SIG_UNBLOCK, LX_CAST(&limit), 0, 8, 0, 0);
  return r;
}

/* A call on a path, which may be longer than the kernel takes if it is one of ours (longpath.h). */
static inline long lx_at(long n, int d, const char *p, long a, long b, long c) {
  const long r = lx_call6(n, d, LX_CAST(p), a, b, c, 0);
  return LX_IS_LONG(r) ? lx_long_at(n, d, p, a, b, c) : r;
}
static inline long lx_plain(long n, const char *p, long a, long b, long c, long d) {
  const long r = lx_call6(n, LX_CAST(p), a, b, c, d, 0);
  return LX_IS_LONG(r) ? lx_long_plain(n, p, a, b, c, d) : r;
}
static inline long lx_pair(long n, int d, const char *p, int e, const char *q, long f) {
  const long r = lx_call6(n, d, LX_CAST(p), e, LX_CAST(q), f, 0);
  return LX_IS_LONG(r) ? lx_long_pair(n, d, p, e, q, f) : r;
}

static inline long lx_openat(int d, const char *p, int f, unsigned m) {
  return lx_at(SYS_openat, d, p, f | O_LARGEFILE, m, 0);
}
static inline long lx_openat2(int d, const char *p, uint64_t f, uint64_t m,
                              uint64_t resolve) {
  struct open_how how = {.flags = f, .mode = m, .resolve = resolve};
  return lx_at(SYS_openat2, d, p, LX_CAST(&how), sizeof how, 0);
}
static inline long lx_bind(int fd, const void *address, unsigned length) {
  return lx_call6(SYS_bind, fd, LX_CAST(address), length, 0, 0, 0);
}
static inline long lx_close(int fd) { return lx_call6(SYS_close, fd, 0, 0, 0, 0, 0); }
static inline long lx_read(int fd, void *b, size_t n) {
  return lx_call6(SYS_read, fd, LX_CAST(b), (long)n, 0, 0, 0);
}
static inline long lx_pread(int fd, void *b, size_t n, long o) {
  return lx_call6(SYS_pread64, fd, LX_CAST(b), (long)n, o, 0, 0);
}
static inline long lx_pwrite(int fd, const void *b, size_t n, long o) {
  return lx_unasked(SYS_pwrite64, fd, LX_CAST(b), (long)n, o, 0);
}
static inline long lx_write(int fd, const void *b, size_t n) {
  return lx_unasked(SYS_write, fd, LX_CAST(b), (long)n, 0, 0);
}
static inline long lx_lseek(int fd, long o, int w) {
  return lx_call6(SYS_lseek, fd, o, w, 0, 0, 0);
}
static inline long lx_fstatat(int d, const char *p, struct stat *s, int f) {
  return lx_at(SYS_newfstatat, d, p, LX_CAST(s), f, 0);
}
static inline long lx_fstat(int fd, struct stat *s) {
  return lx_call6(SYS_fstat, fd, LX_CAST(s), 0, 0, 0, 0);
}
static inline long lx_statx(int d, const char *p, int f, unsigned m, void *s) {
  return lx_at(SYS_statx, d, p, f, m, LX_CAST(s));
}
/* What tells a directory from every other, also from one that gets its inode number later: device,
 * inode, time of birth (0 where the file system keeps none). */
static inline long lx_identity(const char *p, uint64_t w[5]) {
  struct statx s;
  const long r = lx_at(SYS_statx, AT_FDCWD, p, 0, STATX_INO | STATX_BTIME, LX_CAST(&s));
  if (r < 0) return r;
  w[0] = ((uint64_t)s.stx_dev_major << 32) | s.stx_dev_minor;
  w[1] = s.stx_ino;
  w[2] = s.stx_mask & STATX_BTIME ? (uint64_t)s.stx_btime.tv_sec : 0;
  w[3] = s.stx_mask & STATX_BTIME ? s.stx_btime.tv_nsec : 0;
  w[4] = 0;
  return 0;
}
/* Inode, time of birth in ns (0: not kept) and file type, which tell an object from one that gets its
 * inode number later. */
static inline long lx_birth(const char *p, int flags, uint64_t *inode, uint64_t *birth,
                            unsigned *type) {
  struct statx s;
  const unsigned mask = STATX_INO | STATX_BTIME | STATX_TYPE;
  const long r = lx_at(SYS_statx, AT_FDCWD, p, flags, mask, LX_CAST(&s));
  if (r < 0) return r;
  *inode = s.stx_ino;
  *birth = 0;
  if (s.stx_mask & STATX_BTIME)
    *birth = (uint64_t)s.stx_btime.tv_sec * 1000000000ULL + s.stx_btime.tv_nsec;
  *type = s.stx_mode & S_IFMT;
  return 0;
}
static inline long lx_readlinkat(int d, const char *p, char *b, size_t n) {
  return lx_at(SYS_readlinkat, d, p, LX_CAST(b), (long)n, 0);
}
static inline long lx_faccessat2(int d, const char *p, int m, int f) {
  return lx_at(f == 0 ? SYS_faccessat : SYS_faccessat2, d, p, m, f, 0);
}
static inline long lx_mkdirat(int d, const char *p, unsigned m) {
  return lx_at(SYS_mkdirat, d, p, m, 0, 0);
}
static inline long lx_mknodat(int d, const char *p, unsigned m, uint64_t v) {
  return lx_at(SYS_mknodat, d, p, m, (long)v, 0);
}
static inline long lx_symlinkat(const char *t, int d, const char *p) {
  /* The path that is made is the last argument; the text is anybody's. */
  const long r = lx_call6(SYS_symlinkat, LX_CAST(t), d, LX_CAST(p), 0, 0, 0);
  if (!LX_IS_LONG(r)) return r;
  const char *rest;
  const long at = lx_long_prefix(p, &rest);
  if (at < 0) return at;
  const long again = lx_call6(SYS_symlinkat, LX_CAST(t), at, LX_CAST(rest), 0, 0, 0);
  (void)lx_call6(SYS_close, at, 0, 0, 0, 0, 0);
  return again;
}
static inline long lx_linkat(int a, const char *b, int c, const char *d, int f) {
  return lx_pair(SYS_linkat, a, b, c, d, f);
}
static inline long lx_unlinkat(int d, const char *p, int f) {
  return lx_at(SYS_unlinkat, d, p, f, 0, 0);
}
static inline long lx_renameat2(int a, const char *b, int c, const char *d, unsigned f) {
  return lx_pair(SYS_renameat2, a, b, c, d, f);
}
static inline long lx_fchmodat(int d, const char *p, unsigned m) {
  return lx_at(SYS_fchmodat, d, p, m, 0, 0);
}
static inline long lx_fchmodat2(int d, const char *p, unsigned m, int f) {
#ifdef SYS_fchmodat2
  return lx_at(SYS_fchmodat2, d, p, m, f, 0);
#else
  return lx_at(452, d, p, m, f, 0);
#endif
}
static inline long lx_fchmod(int fd, unsigned m) { return lx_call6(SYS_fchmod, fd, m, 0, 0, 0, 0); }
static inline long lx_fchownat(int d, const char *p, unsigned u, unsigned g, int f) {
  return lx_at(SYS_fchownat, d, p, u, g, f);
}
static inline long lx_utimensat(int d, const char *p, const struct timespec *t, int f) {
  return lx_at(SYS_utimensat, d, p, LX_CAST(t), f, 0);
}
static inline long lx_truncate(const char *p, long n) {
  return lx_plain(SYS_truncate, p, n, 0, 0, 0);
}
static inline long lx_ftruncate(int fd, long n) {
  return lx_unasked(SYS_ftruncate, fd, n, 0, 0, 0);
}
static inline long lx_fallocate(int fd, int m, long o, long n) {
  return lx_unasked(SYS_fallocate, fd, m, o, n, 0);
}
static inline long lx_copy_file_range(int i, int64_t *io, int o, int64_t *oo, size_t n) {
  return lx_unasked(SYS_copy_file_range, i, LX_CAST(io), o, LX_CAST(oo), (long)n);
}
static inline long lx_ioctl(int fd, unsigned long r, unsigned long a) {
  return lx_call6(SYS_ioctl, fd, (long)r, (long)a, 0, 0, 0);
}
/* Asks a file system that copies on write to write this empty file in place: then a full disk refuses no write. */
static inline long lx_keep_in_place(int fd) {
  unsigned flags = 0;
  const long r = lx_ioctl(fd, 0x80086601UL /* FS_IOC_GETFLAGS */, (unsigned long)&flags);
  if (r < 0) return r;
  flags |= 0x00800000U; /* FS_NOCOW_FL */
  return lx_ioctl(fd, 0x40086602UL /* FS_IOC_SETFLAGS */, (unsigned long)&flags);
}
static inline long lx_getxattr(const char *p, const char *n, void *v, size_t s, int nofollow) {
  return lx_plain(nofollow ? SYS_lgetxattr : SYS_getxattr, p, LX_CAST(n), LX_CAST(v), (long)s, 0);
}
static inline long lx_setxattr(const char *p, const char *n, const void *v, size_t s, int f,
                               int nofollow) {
  return lx_plain(nofollow ? SYS_lsetxattr : SYS_setxattr, p, LX_CAST(n), LX_CAST(v), (long)s, f);
}
static inline long lx_listxattr(const char *p, char *l, size_t s, int nofollow) {
  return lx_plain(nofollow ? SYS_llistxattr : SYS_listxattr, p, LX_CAST(l), (long)s, 0, 0);
}
static inline long lx_removexattr(const char *p, const char *n, int nofollow) {
  return lx_plain(nofollow ? SYS_lremovexattr : SYS_removexattr, p, LX_CAST(n), 0, 0, 0);
}
static inline long lx_fgetxattr(int fd, const char *n, void *v, size_t s) {
  return lx_call6(SYS_fgetxattr, fd, LX_CAST(n), LX_CAST(v), (long)s, 0, 0);
}
static inline long lx_getdents64(int fd, void *b, size_t n) {
  return lx_call6(SYS_getdents64, fd, LX_CAST(b), (long)n, 0, 0, 0);
}
/* "/proc/self/fd/N/rest", at most LX_PIECE + 32 bytes. The length. */
static inline size_t lx_descriptor_path(char *to, int fd, const char *rest) {
  const char *start = "/proc/self/fd/";
  char digits[12];
  size_t n = 0, end = 0;
  while (start[end] != '\0') to[end] = start[end], end++;
  do digits[n++] = (char)('0' + fd % 10);
  while ((fd /= 10) != 0);
  while (n > 0) to[end++] = digits[--n];
  to[end++] = '/';
  for (; *rest != '\0'; rest++) to[end++] = *rest;
  to[end] = '\0';
  return end;
}
static inline long lx_getcwd(char *b, size_t n) {
  return lx_call6(SYS_getcwd, LX_CAST(b), (long)n, 0, 0, 0, 0);
}
static inline long lx_chdir(const char *p) { return lx_plain(SYS_chdir, p, 0, 0, 0, 0); }
static inline long lx_fchdir(int fd) { return lx_call6(SYS_fchdir, fd, 0, 0, 0, 0, 0); }
static inline long lx_fcntl(int fd, int c, uint64_t a) {
  return lx_call6(SYS_fcntl, fd, c, (long)a, 0, 0, 0);
}
/* 1: the file is on a file system, or reached by a mount, that is read-only. */
static inline int lx_is_on_read_only(int fd) {
  struct statfs f;
  return lx_call6(SYS_fstatfs, fd, LX_CAST(&f), 0, 0, 0, 0) == 0 && (f.f_flags & ST_RDONLY) != 0;
}
static inline long lx_geteuid(void) { return lx_call6(SYS_geteuid, 0, 0, 0, 0, 0, 0); }
/* Whether a capability is effective. */
static inline int lx_capable(unsigned capability) {
  struct {
    uint32_t version;
    int pid;
  } header = {0x20080522, 0};
  struct {
    uint32_t effective, permitted, inheritable;
  } sets[2] = {{0, 0, 0}, {0, 0, 0}};
  if (lx_call6(SYS_capget, LX_CAST(&header), LX_CAST(sets), 0, 0, 0, 0) < 0) return 0;
  return (int)(sets[capability >> 5].effective >> (capability & 31) & 1);
}
static inline long lx_getegid(void) { return lx_call6(SYS_getegid, 0, 0, 0, 0, 0, 0); }
static inline long lx_getuid(void) { return lx_call6(SYS_getuid, 0, 0, 0, 0, 0, 0); }
static inline long lx_getppid(void) { return lx_call6(SYS_getppid, 0, 0, 0, 0, 0, 0); }
static inline long lx_getpid(void) { return lx_call6(SYS_getpid, 0, 0, 0, 0, 0, 0); }
static inline long lx_gettid(void) { return lx_call6(SYS_gettid, 0, 0, 0, 0, 0, 0); }
static inline long lx_umask(unsigned m) { return lx_call6(SYS_umask, m, 0, 0, 0, 0, 0); }
static inline long lx_kill(int p, int s) { return lx_call6(SYS_kill, p, s, 0, 0, 0, 0); }
static inline long lx_getrandom(void *b, size_t n) {
  return lx_call6(SYS_getrandom, LX_CAST(b), (long)n, 0, 0, 0, 0);
}
static inline long lx_flock(int fd, int op) { return lx_call6(SYS_flock, fd, op, 0, 0, 0, 0); }
/* Whether somebody has a flock that is in the way of one of ours on a description of ours. What was taken is given
 * up before the close: a child that another thread forks meanwhile has the description too. */
static inline int lx_flock_is_refused(int fd, int operation) {
  const long r = lx_flock(fd, operation | LOCK_NB);
  if (r == 0) (void)lx_flock(fd, LOCK_UN);
  return r == -EWOULDBLOCK;
}
static inline long lx_dup3(int from, int to, int flags) {
  return lx_call6(SYS_dup3, from, to, flags, 0, 0, 0);
}
/* A file in memory without a name. */
static inline long lx_memory_file(void) {
  return lx_call6(SYS_memfd_create, LX_CAST("overlock"), 1 /* MFD_CLOEXEC */, 0, 0, 0, 0);
}
/* Whether a descriptor is on procfs. */
static inline int lx_is_proc(int fd) {
  struct statfs s;
  return lx_call6(SYS_fstatfs, fd, LX_CAST(&s), 0, 0, 0, 0) == 0 && s.f_type == 0x9fa0;
}
/* NULL on failure. */
static inline void *lx_mmap(size_t n, int prot, int flags, int fd) {
  long r = lx_call6(SYS_mmap, 0, (long)n, prot, flags, fd, 0);
  return (unsigned long)r > -4096UL ? (void *)0 : (void *)r;
}
static inline long lx_munmap(void *p, size_t n) {
  return lx_call6(SYS_munmap, LX_CAST(p), (long)n, 0, 0, 0, 0);
}
/* Private memory is zeros again. */
static inline long lx_discard(void *p, size_t n) {
  return lx_call6(SYS_madvise, LX_CAST(p), (long)n, 4 /* MADV_DONTNEED */, 0, 0, 0);
}
/* Blocks every signal; gives the old mask. A change of several steps must not be interrupted by a
 * handler that changes the same directory. */
static inline uint64_t lx_block_signals(void) {
  uint64_t all = ~0ULL, old = 0;
  lx_call6(SYS_rt_sigprocmask, SIG_SETMASK, LX_CAST(&all), LX_CAST(&old), 8, 0, 0);
  return old;
}
static inline void lx_restore_signals(uint64_t old) {
  lx_call6(SYS_rt_sigprocmask, SIG_SETMASK, LX_CAST(&old), 0, 8, 0, 0);
}
/* Open file description lock on one range: l_type, wait or not. */
static inline long lx_ofd_lock(int fd, int type, int64_t start, int64_t length, int wait) {
  struct flock f = {.l_type = (short)type, .l_whence = SEEK_SET, .l_start = start, .l_len = length};
  return lx_call6(SYS_fcntl, fd, wait ? F_OFD_SETLKW : F_OFD_SETLK, LX_CAST(&f), 0, 0, 0);
}
/* A lock request as fcntl(2) takes it. */
static inline long lx_lock(int fd, int command, struct flock *f) {
  return lx_call6(SYS_fcntl, fd, command, LX_CAST(f), 0, 0, 0);
}
/* A child with a copy of the memory and a descriptor table of its own, whose end raises no signal and is
 * seen by no wait of the program; the caller sleeps till it is gone. */
static inline long lx_fork_apart(void) { return lx_call6(SYS_clone, CLONE_VFORK, 0, 0, 0, 0, 0); }
/* Its exit status, or -errno. */
static inline long lx_wait_apart(long pid) {
  int status = 0;
  long r;
  do r = lx_call6(SYS_wait4, pid, LX_CAST(&status), __WALL, 0, 0, 0);
  while (r == -EINTR);
  if (r < 0) return r;
  return WIFEXITED(status) ? WEXITSTATUS(status) : -EIO;
}
static inline void lx_exit(int status) { (void)lx_call6(SYS_exit_group, status, 0, 0, 0, 0, 0); }
/* Whether a signal has a handler that ends a waiting call (it is not installed with SA_RESTART). */
static inline int lx_ends_calls(int signal) {
  struct {
    void (*handler)(int);
    unsigned long flags;
    void (*restorer)(void);
    uint64_t mask;
  } action;
  if (lx_call6(SYS_rt_sigaction, signal, 0, LX_CAST(&action), 8, 0, 0) < 0) return 0;
  if (action.handler == SIG_IGN || action.handler == SIG_DFL) return 0;
  return (action.flags & SA_RESTART) == 0;
}
/* With all signals blocked: whether one that `mask` lets through is pending and its handler ends a waiting
 * call. */
static inline int lx_is_interrupted(uint64_t mask) {
  uint64_t pending = 0;
  lx_call6(SYS_rt_sigpending, LX_CAST(&pending), 8, 0, 0, 0, 0);
  for (pending &= ~mask; pending != 0; pending &= pending - 1)
    if (lx_ends_calls(__builtin_ctzll(pending) + 1)) return 1;
  return 0;
}
/* What a seccomp filter is told of the architecture (linux/audit.h). */
#if defined(__x86_64__)
#define OVL_AUDIT_ARCH 0xc000003eu
#else
#define OVL_AUDIT_ARCH 0xc00000b7u
#endif

/* With all signals blocked: handles those that are pending and that `mask` lets through. 1: one of them ends a
 * waiting call. */
static inline int lx_let_signals_in(uint64_t mask) {
  uint64_t pending = 0;
  lx_call6(SYS_rt_sigpending, LX_CAST(&pending), 8, 0, 0, 0, 0);
  if ((pending & ~mask) == 0) return 0;
  const int interrupted = lx_is_interrupted(mask);
  lx_restore_signals(mask);
  (void)lx_block_signals();
  return interrupted;
}
static inline void lx_pause(long ns) {
  const struct timespec when = {.tv_sec = 0, .tv_nsec = ns};
  (void)lx_call6(SYS_nanosleep, LX_CAST(&when), 0, 0, 0, 0, 0);
}
/* The vDSO; no system call. */
static inline uint64_t lx_coarse_seconds(void) {
  struct timespec t = {0, 0};
  clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
  return (uint64_t)t.tv_sec;
}
static inline uint64_t lx_monotonic_ns(void) {
  struct timespec t = {0, 0};
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}
static inline uint64_t lx_realtime_ns(void) {
  struct timespec t = {0, 0};
  clock_gettime(CLOCK_REALTIME, &t);
  return (uint64_t)t.tv_sec * 1000000000ULL + (uint64_t)t.tv_nsec;
}
static inline unsigned lx_major(uint64_t d) {
  return (unsigned)(((d >> 8) & 0xfff) | ((d >> 32) & ~0xfffULL));
}
static inline unsigned lx_minor(uint64_t d) {
  return (unsigned)((d & 0xff) | ((d >> 12) & ~0xffULL));
}
/* What stat says, as statx's basic statistics; `buffer` is a struct statx. */
static inline void lx_statx_from(const struct stat *s, void *buffer) {
  struct statx x = {0};
  x.stx_mask = STATX_BASIC_STATS;
  x.stx_blksize = (uint32_t)s->st_blksize;
  x.stx_nlink = (uint32_t)s->st_nlink;
  x.stx_uid = s->st_uid;
  x.stx_gid = s->st_gid;
  x.stx_mode = (uint16_t)s->st_mode;
  x.stx_ino = s->st_ino;
  x.stx_size = (uint64_t)s->st_size;
  x.stx_blocks = (uint64_t)s->st_blocks;
  x.stx_atime.tv_sec = s->st_atim.tv_sec;
  x.stx_atime.tv_nsec = (uint32_t)s->st_atim.tv_nsec;
  x.stx_mtime.tv_sec = s->st_mtim.tv_sec;
  x.stx_mtime.tv_nsec = (uint32_t)s->st_mtim.tv_nsec;
  x.stx_ctime.tv_sec = s->st_ctim.tv_sec;
  x.stx_ctime.tv_nsec = (uint32_t)s->st_ctim.tv_nsec;
  x.stx_dev_major = lx_major(s->st_dev);
  x.stx_dev_minor = lx_minor(s->st_dev);
  __builtin_memcpy(buffer, &x, sizeof x);
}
static inline struct timespec lx_atime(const struct stat *s) { return s->st_atim; }
static inline struct timespec lx_mtime(const struct stat *s) { return s->st_mtim; }

#endif
