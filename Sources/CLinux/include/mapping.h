#ifndef OVERLOCK_MAPPING_H
#define OVERLOCK_MAPPING_H

/* Mapping files for the program, and seeing whether anybody has one mapped. */

#include "syscalls.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/vfs.h>

/* The words of one mmap call but for the descriptor. */
struct lx_mapping {
  void *address;
  size_t length;
  int protection, flags;
  long offset;
};

/* An address or -errno. */
static inline long lx_map(int fd, const struct lx_mapping *m) {
  return lx_call6(SYS_mmap, LX_CAST(m->address), (long)m->length, m->protection, m->flags, fd,
                  m->offset);
}

/* The same of a file that this process must not open, since its close would drop POSIX record
 * locks, or cannot, since it has no descriptor left: a child that shares the memory, but not the
 * descriptors, opens and maps it, and closes its copies of others where it needs room. As with vfork
 * the calling thread stands still until it ends, and no wait of the program finds it. *opened gets
 * what open answered. Not inlined: the frame that both return into holds nothing that the child
 * changes. */
__attribute__((noinline, unused)) static long lx_map_apart(const char *path, int flags,
                                                           const struct lx_mapping *m,
                                                           long *opened) {
  volatile long result = -EAGAIN, fd = -EAGAIN;
  const uint64_t mask = lx_block_signals();
  const long child = lx_call6(SYS_clone, CLONE_VM | CLONE_VFORK, 0, 0, 0, 0, 0);
  if (child == 0) {
    fd = lx_openat(AT_FDCWD, path, flags, 0);
    for (int next = 0; fd == -EMFILE && next < 1 << 16; next++)
      if (lx_close(next) == 0) fd = lx_openat(AT_FDCWD, path, flags, 0);
    if (fd >= 0) result = lx_map((int)fd, m);
    for (;;) lx_call6(SYS_exit, 0, 0, 0, 0, 0, 0);
  }
  if (child > 0)
    while (lx_call6(SYS_wait4, child, 0, (long)__WALL, 0, 0, 0) == -EINTR) {
    }
  lx_restore_signals(mask);
  *opened = child > 0 ? fd : child;
  return result;
}

/* 0: nobody else has the file open or mapped, for then alone is a write lease on it granted
 * (fcntl(2), F_SETLEASE), which is given back at once; -EAGAIN: somebody has. Who opens the file in
 * that moment has a SIGURG sent to us, which does nothing, instead of the SIGIO that kills. */
static inline long lx_claim_alone(int fd) {
  (void)lx_fcntl(fd, F_SETSIG, SIGURG);
  const long r = lx_fcntl(fd, F_SETLEASE, F_WRLCK);
  if (r == 0) (void)lx_fcntl(fd, F_SETLEASE, F_UNLCK);
  return r;
}

/* Bytes that an unprivileged user may still fill on the file system of a descriptor. */
static inline uint64_t lx_free_bytes(int fd) {
  struct statfs s;
  if (lx_call6(SYS_fstatfs, fd, LX_CAST(&s), 0, 0, 0, 0) < 0) return 0;
  return (uint64_t)s.f_bavail * (uint64_t)s.f_bsize;
}

/* The type of the file system that a path is on (statfs(2)), 0: it cannot be told. */
static inline uint32_t lx_file_system(const char *path) {
  struct statfs s;
  if (lx_call6(SYS_statfs, LX_CAST(path), LX_CAST(&s), 0, 0, 0, 0) < 0) return 0;
  return (uint32_t)s.f_type;
}

/* Of a struct stat inode, mode, owner, links, size and times of modification and change, and the
 * time of birth in ns (0: not kept), in one call. */
static inline long lx_stat_with_birth(int d, const char *path, int flags, struct stat *st,
                                      uint64_t *birth) {
  struct statx s;
  const unsigned mask = STATX_BASIC_STATS | STATX_BTIME;
  const long r = lx_call6(SYS_statx, d, LX_CAST(path), flags, mask, LX_CAST(&s), 0);
  if (r < 0) return r;
  *st = (struct stat){.st_ino = s.stx_ino, .st_mode = s.stx_mode, .st_uid = s.stx_uid,
                      .st_size = (off_t)s.stx_size, .st_nlink = s.stx_nlink,
                      .st_mtim = {s.stx_mtime.tv_sec, s.stx_mtime.tv_nsec},
                      .st_ctim = {s.stx_ctime.tv_sec, s.stx_ctime.tv_nsec}};
  *birth = 0;
  if (s.stx_mask & STATX_BTIME)
    *birth = (uint64_t)s.stx_btime.tv_sec * 1000000000ULL + s.stx_btime.tv_nsec;
  return 0;
}

/* The size that a file may be given: beyond it the kernel sends SIGXFSZ. */
static inline uint64_t lx_file_size_limit(void) {
  struct rlimit64 limit = {0, 0};
  lx_call6(SYS_prlimit64, 0, RLIMIT_FSIZE, 0, LX_CAST(&limit), 0, 0);
  return limit.rlim_cur;
}

/* One more than the highest number that a new descriptor may have. */
static inline uint64_t lx_descriptor_limit(void) {
  struct rlimit64 limit = {0, 0};
  lx_call6(SYS_prlimit64, 0, RLIMIT_NOFILE, 0, LX_CAST(&limit), 0, 0);
  return limit.rlim_cur;
}

static inline struct timespec lx_ctime(const struct stat *s) { return s->st_ctim; }

/* Sets times through a descriptor. */
static inline long lx_futimens(int fd, struct timespec access, struct timespec modification) {
  const struct timespec times[2] = {access, modification};
  return lx_call6(SYS_utimensat, fd, 0, LX_CAST(times), 0, 0, 0);
}

#endif
