/* libc's syscall(): every call that a hook covers is routed to that hook, which has the same
 * results and errno. Programs come this way for what their libc lacked (libuv's statx, coreutils'
 * renameat2).
 *
 * syscall is variadic in C, but its arguments sit where those of a function of seven longs sit, on
 * x86_64 and aarch64 alike; declared so, an unknown call is passed on by a jump, with registers and
 * stack as they were. That is what clone and vfork need, whose child returns from the same call on
 * another stack.
 *
 * Left out on purpose: memory-sharing clone, vfork (the child borrows our tables: it may exec and
 * exit, which harms nothing), io_uring, and calls that only take descriptors as they are. */

#include "reads.h"

#include <process.h>

#include <linux/openat2.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/select.h>

/* What the hooks do not have as one function. */

/* openat2 refuses what open ignores (fs/open.c, build_open_flags): the kernel says so itself. */
static int is_valid(const struct open_how *how) {
  const uint64_t path_flags = O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, all_flags = 0x7fffc3;
  const uint64_t scopes = RESOLVE_BENEATH | RESOLVE_IN_ROOT;
  if ((how->flags & ~all_flags) != 0 || (how->resolve & ~(uint64_t)0x3f) != 0) return 0;
  if ((how->flags & O_PATH) != 0 && (how->flags & ~path_flags) != 0) return 0;
  if ((how->resolve & scopes) == scopes) return 0;
  return (how->mode & ~(uint64_t)(OVL_NEEDS_MODE(how->flags) ? 07777 : 0)) == 0;
}

static long open_how(int dirfd, const char *path, const struct open_how *how, size_t size) {
  /* A longer struct may ask for what is not known here: as on a kernel that does not know it, all
   * that is behind must be zero. */
  if (size > sizeof *how && size <= 4096 && ovl_is_readable_all(how, size)) {
    for (size_t i = sizeof *how; i < size; i++)
      if (((const char *)how)[i] != 0) return ovl_result(-E2BIG);
  }
  const int known = size >= sizeof *how && size <= 4096 && ovl_is_readable_all(how, size) && is_valid(how);
  const long r =
      known ? ovl_open(dirfd, path, (int)how->flags, (mode_t)how->mode, how->resolve) : OVL_PASS;
  if (r != OVL_PASS) return ovl_result(r);
  return NEXT(syscall)(SYS_openat2, dirfd, (long)path, (long)how, (long)size, 0, 0);
}

/* The system call gives the length, not the buffer. */
static long current_directory(char *buffer, size_t size) {
  const long r = ovl_getcwd(buffer, size);
  return r == OVL_PASS ? NEXT(syscall)(SYS_getcwd, (long)buffer, (long)size, 0, 0, 0, 0)
                       : ovl_result(r);
}

/* A NULL path is the kernel's futimens. */
static long set_times(int dirfd, const char *path, const struct timespec *times, int flags) {
  if (path == NULL) return ovl_hook_futimens(dirfd, times);
  return ovl_hook_utimensat(dirfd, path, times, flags);
}

/* A clone that copies the memory, on the same stack, is a fork. */
static long fork_by_call(long number, long a, long b, long c, long d, long e, long f) {
  const long pid = NEXT(syscall)(number, a, b, c, d, e, f);
  if (pid == 0) ovl_after_fork_child();
  return pid;
}

static int is_fork(long number, long flags) {
#ifdef SYS_fork
  if (number == SYS_fork) return 1;
#endif
  return number == SYS_clone && (flags & (CLONE_VM | CLONE_VFORK)) == 0;
}

/* Calls that exist on old architectures only: the forms without a directory descriptor. */
#ifdef SYS_open
static long legacy(long n, long a, long b, long c, long d, long *result) {
  switch (n) {
  case SYS_open: *result = ovl_hook_open((char *)a, (int)b, (mode_t)c); return 1;
  case SYS_creat: *result = ovl_hook_creat((char *)a, (mode_t)b); return 1;
  case SYS_stat: *result = ovl_hook_stat((char *)a, (struct stat *)b); return 1;
  case SYS_lstat: *result = ovl_hook_lstat((char *)a, (struct stat *)b); return 1;
  case SYS_access: *result = ovl_hook_access((char *)a, (int)b); return 1;
  case SYS_readlink: *result = ovl_hook_readlink((char *)a, (char *)b, (size_t)c); return 1;
  case SYS_mkdir: *result = ovl_hook_mkdir((char *)a, (mode_t)b); return 1;
  case SYS_mknod: *result = ovl_hook_mknod((char *)a, (mode_t)b, (dev_t)c); return 1;
  case SYS_symlink: *result = ovl_hook_symlink((char *)a, (char *)b); return 1;
  case SYS_link: *result = ovl_hook_link((char *)a, (char *)b); return 1;
  case SYS_unlink: *result = ovl_hook_unlink((char *)a); return 1;
  case SYS_rmdir: *result = ovl_hook_rmdir((char *)a); return 1;
  case SYS_rename: *result = ovl_hook_rename((char *)a, (char *)b); return 1;
  case SYS_chmod: *result = ovl_hook_chmod((char *)a, (mode_t)b); return 1;
  case SYS_chown: *result = ovl_hook_chown((char *)a, (uid_t)b, (gid_t)c); return 1;
  case SYS_lchown: *result = ovl_hook_lchown((char *)a, (uid_t)b, (gid_t)c); return 1;
  case SYS_utime: *result = ovl_hook_utime((char *)a, (struct utimbuf *)b); return 1;
  case SYS_utimes: *result = ovl_hook_utimes((char *)a, (struct timeval *)b); return 1;
  case SYS_futimesat:
    *result = ovl_hook_futimesat((int)a, (char *)b, (struct timeval *)c);
    return 1;
  case SYS_dup2: *result = ovl_hook_dup2((int)a, (int)b); return 1;
  default: (void)d; return 0;
  }
}
#else
static long legacy(long n, long a, long b, long c, long d, long *result) {
  (void)n, (void)a, (void)b, (void)c, (void)d, (void)result;
  return 0;
}
#endif

/* The calls that work on paths. 1: *result is what syscall returns. */
static long by_path(long n, long a, long b, long c, long d, long e, long *result) {
  switch (n) {
  case SYS_openat: *result = ovl_hook_openat((int)a, (char *)b, (int)c, (mode_t)d); break;
  case SYS_openat2: *result = open_how((int)a, (char *)b, (struct open_how *)c, (size_t)d); break;
  case SYS_newfstatat:
    *result = ovl_hook_fstatat((int)a, (char *)b, (struct stat *)c, (int)d);
    break;
  case SYS_statx:
    *result = ovl_hook_statx((int)a, (char *)b, (int)c, (unsigned)d, (struct statx *)e);
    break;
  case SYS_faccessat: *result = ovl_hook_faccessat((int)a, (char *)b, (int)c, 0); break;
  case SYS_faccessat2: *result = ovl_hook_faccessat((int)a, (char *)b, (int)c, (int)d); break;
  case SYS_readlinkat:
    *result = ovl_hook_readlinkat((int)a, (char *)b, (char *)c, (size_t)d);
    break;
  case SYS_mkdirat: *result = ovl_hook_mkdirat((int)a, (char *)b, (mode_t)c); break;
  case SYS_mknodat: *result = ovl_hook_mknodat((int)a, (char *)b, (mode_t)c, (dev_t)d); break;
  case SYS_symlinkat: *result = ovl_hook_symlinkat((char *)a, (int)b, (char *)c); break;
  case SYS_linkat:
    *result = ovl_hook_linkat((int)a, (char *)b, (int)c, (char *)d, (int)e);
    break;
  case SYS_unlinkat: *result = ovl_hook_unlinkat((int)a, (char *)b, (int)c); break;
#ifdef SYS_renameat
  case SYS_renameat: *result = ovl_hook_renameat((int)a, (char *)b, (int)c, (char *)d); break;
#endif
  case SYS_renameat2:
    *result = ovl_hook_renameat2((int)a, (char *)b, (int)c, (char *)d, (unsigned)e);
    break;
  case SYS_fchmodat: *result = ovl_hook_fchmodat((int)a, (char *)b, (mode_t)c, 0); break;
#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452
#endif
  case SYS_fchmodat2: *result = ovl_hook_fchmodat((int)a, (char *)b, (mode_t)c, (int)d); break;
  /* setxattrat … removexattrat, file_getattr, file_setattr: younger than their callers' fallbacks. */
  case 463: case 464: case 465: case 466: case 468: case 469:
    *result = ovl_result(-ENOSYS);
    break;
  case SYS_fchownat:
    *result = ovl_hook_fchownat((int)a, (char *)b, (uid_t)c, (gid_t)d, (int)e);
    break;
  case SYS_utimensat:
    *result = set_times((int)a, (char *)b, (struct timespec *)c, (int)d);
    break;
  case SYS_truncate: *result = ovl_hook_truncate((char *)a, b); break;
  case SYS_chdir: *result = ovl_hook_chdir((char *)a); break;
  case SYS_chroot: *result = ovl_hook_chroot((char *)a); break;
  case SYS_getcwd: *result = current_directory((char *)a, (size_t)b); break;
  case SYS_statfs: *result = ovl_hook_statfs((char *)a, (struct statfs *)b); break;
  case SYS_execve: *result = ovl_hook_execve((char *)a, (char **)b, (char **)c); break;
  case SYS_execveat:
    *result = ovl_hook_execveat((int)a, (char *)b, (char **)c, (char **)d, (int)e);
    break;
  case SYS_inotify_add_watch:
    *result = ovl_hook_inotify_add_watch((int)a, (char *)b, (uint32_t)c);
    break;
  case SYS_fanotify_mark:
    *result = ovl_hook_fanotify_mark((int)a, (unsigned)b, (uint64_t)c, (int)d, (char *)e);
    break;
  case SYS_open_by_handle_at:
    *result = ovl_hook_open_by_handle_at((int)a, (void *)b, (int)c);
    break;
  case SYS_open_tree: *result = ovl_hook_open_tree((int)a, (char *)b, (unsigned)c); break;
  case SYS_name_to_handle_at:
    *result = ovl_hook_name_to_handle_at((int)a, (char *)b, (void *)c, (int *)d, (int)e);
    break;
  default: return 0;
  }
  return 1;
}

static long by_xattr(long n, long a, long b, long c, long d, long e, long *result) {
  const char *path = (const char *)a, *name = (const char *)b;
  void *value = (void *)c;
  const size_t size = (size_t)d;
  switch (n) {
  case SYS_getxattr: *result = ovl_hook_getxattr(path, name, value, size); break;
  case SYS_lgetxattr: *result = ovl_hook_lgetxattr(path, name, value, size); break;
  case SYS_fgetxattr: *result = ovl_hook_fgetxattr((int)a, name, value, size); break;
  case SYS_listxattr: *result = ovl_hook_listxattr(path, (char *)b, (size_t)c); break;
  case SYS_llistxattr: *result = ovl_hook_llistxattr(path, (char *)b, (size_t)c); break;
  case SYS_flistxattr: *result = ovl_hook_flistxattr((int)a, (char *)b, (size_t)c); break;
  case SYS_setxattr: *result = ovl_hook_setxattr(path, name, value, size, (int)e); break;
  case SYS_lsetxattr: *result = ovl_hook_lsetxattr(path, name, value, size, (int)e); break;
  case SYS_fsetxattr: *result = ovl_hook_fsetxattr((int)a, name, value, size, (int)e); break;
  case SYS_removexattr: *result = ovl_hook_removexattr(path, name); break;
  case SYS_lremovexattr: *result = ovl_hook_lremovexattr(path, name); break;
  case SYS_fremovexattr: *result = ovl_hook_fremovexattr((int)a, name); break;
  default: return 0;
  }
  return 1;
}

/* The 32-bit getdents record has no type and another layout: only the merged one is refused. */
static long old_getdents(int fd, long a, long b, long c) {
  long error = 0;
  if (ovl_listing_of(fd, &error) != NULL) return ovl_result(-ENOSYS);
  return error != 0 ? ovl_result(error) : NEXT(syscall)(a, fd, b, c, 0, 0, 0);
}

static long by_descriptor(long n, long a, long b, long c, long *result) {
  const int fd = (int)a;
  switch (n) {
  case SYS_fstat: *result = ovl_hook_fstat(fd, (struct stat *)b); break;
  case SYS_close: *result = ovl_hook_close(fd); break;
  case SYS_close_range: *result = ovl_hook_close_range((unsigned)a, (unsigned)b, (int)c); break;
  case SYS_dup: *result = ovl_hook_dup(fd); break;
  case SYS_dup3: *result = ovl_hook_dup3(fd, (int)b, (int)c); break;
  case SYS_fcntl: *result = ovl_hook_fcntl(fd, (int)b, (void *)c); break;
  case SYS_inotify_rm_watch: *result = ovl_hook_inotify_rm_watch(fd, (int)b); break;
  case SYS_flock: *result = ovl_hook_flock(fd, (int)b); break;
  case SYS_ioctl: *result = ovl_hook_ioctl(fd, (unsigned long)b, (void *)c); break;
  case SYS_lseek: *result = ovl_hook_lseek(fd, b, (int)c); break;
  case SYS_getdents64: *result = ovl_hook_getdents64(fd, (void *)b, (size_t)c); break;
#ifdef SYS_getdents
  case SYS_getdents: *result = old_getdents(fd, SYS_getdents, b, c); break;
#endif
  case SYS_fstatfs: *result = ovl_hook_fstatfs(fd, (struct statfs *)b); break;
  case SYS_fchdir: *result = ovl_hook_fchdir(fd); break;
  case SYS_fchmod: *result = ovl_hook_fchmod(fd, (mode_t)b); break;
  case SYS_fchown: *result = ovl_hook_fchown(fd, (uid_t)b, (gid_t)c); break;
  default: return 0;
  }
  return 1;
}

/* The descriptor whose data a call is about, -1: none. */
static int data_source(long n, long a, long b) {
  switch (n) {
  case SYS_read: case SYS_pread64: case SYS_readv: case SYS_preadv: case SYS_preadv2:
  case SYS_copy_file_range: case SYS_splice:
  case SYS_readahead: case SYS_fadvise64:
    return (int)a;
  case SYS_sendfile: return (int)b;
  default: return -1;
  }
}

/* Only where the hook would do more than the call itself, which is no cancellation point here. The arguments
 * of the preadv and pwritev calls are the kernel's: their fifth is the offset's upper half. */
static long by_data(long n, long a, long b, long c, long d, long e, long f, long *result) {
  const int source = data_source(n, a, b), fd = (int)a;
  if (!ovl_process.mandatory && (source < 0 || (OVL_HERE(source) && !ovl_is_instance(source))))
    return 0;
  switch (n) {
  case SYS_read: *result = ovl_hook_read(fd, (void *)b, (size_t)c); break;
  case SYS_write: *result = ovl_hook_write(fd, (void *)b, (size_t)c); break;
  case SYS_pread64: *result = ovl_hook_pread(fd, (void *)b, (size_t)c, d); break;
  case SYS_pwrite64: *result = ovl_hook_pwrite(fd, (void *)b, (size_t)c, d); break;
  case SYS_readv: *result = ovl_hook_readv(fd, (void *)b, (int)c); break;
  case SYS_writev: *result = ovl_hook_writev(fd, (void *)b, (int)c); break;
  case SYS_preadv: *result = ovl_hook_preadv(fd, (void *)b, (int)c, d); break;
  case SYS_pwritev: *result = ovl_hook_pwritev(fd, (void *)b, (int)c, d); break;
  case SYS_preadv2: *result = ovl_hook_preadv2(fd, (void *)b, (int)c, d, (int)f); break;
  case SYS_pwritev2: *result = ovl_hook_pwritev2(fd, (void *)b, (int)c, d, (int)f); break;
  case SYS_sendfile: *result = ovl_hook_sendfile(fd, (int)b, (void *)c, (size_t)d); break;
  case SYS_copy_file_range:
    *result = ovl_hook_copy_file_range(fd, (void *)b, (int)c, (void *)d, (size_t)e, (unsigned)f);
    break;
  case SYS_splice:
    *result = ovl_hook_splice(fd, (void *)b, (int)c, (void *)d, (size_t)e, (unsigned)f);
    break;
  case SYS_readahead: *result = ovl_hook_readahead(fd, b, (size_t)c); break;
  case SYS_fadvise64: *result = ovl_result(-ovl_hook_posix_fadvise(fd, b, c, (int)d)); break;
  case SYS_ftruncate: *result = ovl_hook_ftruncate(fd, b); break;
  default: return 0;
  }
  return 1;
}

/* As by_data: the hooks are cancellation points. */
static long by_sync(long n, long a, long *result) {
  const int fd = (int)a;
  if (n != SYS_fsync && n != SYS_fdatasync && n != SYS_syncfs) return 0;
  if (!ovl_fd_is_lower(fd)) return 0;
  switch (n) {
  case SYS_fsync: *result = ovl_hook_fsync(fd); break;
  case SYS_fdatasync: *result = ovl_hook_fdatasync(fd); break;
  default: *result = ovl_hook_syncfs(fd);
  }
  return 1;
}

static long by_socket(long n, long a, long b, long c, long d, long e, long f, long *result) {
  const int fd = (int)a;
  struct sockaddr *address = (struct sockaddr *)b;
  switch (n) {
  case SYS_bind: *result = ovl_hook_bind(fd, address, (socklen_t)c); break;
  case SYS_connect: *result = ovl_hook_connect(fd, address, (socklen_t)c); break;
  case SYS_getsockname: *result = ovl_hook_getsockname(fd, address, (socklen_t *)c); break;
  case SYS_getpeername: *result = ovl_hook_getpeername(fd, address, (socklen_t *)c); break;
  case SYS_accept: *result = ovl_hook_accept(fd, address, (socklen_t *)c); break;
  case SYS_accept4: *result = ovl_hook_accept4(fd, address, (socklen_t *)c, (int)d); break;
  case SYS_sendto:
    *result = ovl_hook_sendto(fd, (void *)b, (size_t)c, (int)d, (struct sockaddr *)e, (socklen_t)f);
    break;
  case SYS_recvfrom:
    *result =
        ovl_hook_recvfrom(fd, (void *)b, (size_t)c, (int)d, (struct sockaddr *)e, (socklen_t *)f);
    break;
  case SYS_sendmsg: *result = ovl_hook_sendmsg(fd, (struct msghdr *)b, (int)c); break;
  case SYS_recvmsg: *result = ovl_hook_recvmsg(fd, (struct msghdr *)b, (int)c); break;
  default: return 0;
  }
  return 1;
}

static long by_mapping(long n, long a, long b, long c, long d, long e, long f, long *result) {
  if (n != SYS_mmap) return 0;
  *result = (long)ovl_hook_mmap((void *)a, (size_t)b, (int)c, (int)d, (int)e, f);
  return 1;
}

/* The kernel's signal mask is a word. 0: it is the kernel's to refuse. */
static int mask_of(const void *mask, size_t size, sigset_t *set) {
  if (mask == NULL) return 1;
  if (size != sizeof(uint64_t) || !ovl_is_readable_all(mask, size)) return 0;
  memset(set, 0, sizeof *set);
  memcpy(set, mask, size);
  return 1;
}

/* Waits, of a process that has inotify instances with watches of ours. What is left of the time, which the kernel
 * writes to a timespec, is not told. */
static long by_wait(long n, long a, long b, long c, long d, long e, long f, long *result) {
  sigset_t set;
  const struct {
    const void *mask;
    size_t size;
  } *pair = (void *)f;
  if (!ovl_has_watches()) return 0;
  switch (n) {
#ifdef SYS_poll
  case SYS_poll: *result = ovl_hook_poll((struct pollfd *)a, (nfds_t)b, (int)c); return 1;
  case SYS_select:
    *result = ovl_hook_select((int)a, (fd_set *)b, (fd_set *)c, (fd_set *)d, (struct timeval *)e);
    return 1;
  case SYS_epoll_wait: *result = ovl_hook_epoll_wait((int)a, (struct epoll_event *)b, (int)c, (int)d); return 1;
#endif
  case SYS_ppoll:
    if (!mask_of((void *)d, (size_t)e, &set)) return 0;
    *result = ovl_hook_ppoll((struct pollfd *)a, (nfds_t)b, (struct timespec *)c, d ? &set : NULL);
    return 1;
  case SYS_pselect6:
    if (pair != NULL && !ovl_is_readable_all(pair, sizeof *pair)) return 0;
    if (!mask_of(pair ? pair->mask : NULL, pair ? pair->size : 0, &set)) return 0;
    *result = ovl_hook_pselect((int)a, (fd_set *)b, (fd_set *)c, (fd_set *)d, (struct timespec *)e,
                               pair && pair->mask ? &set : NULL);
    return 1;
  case SYS_epoll_pwait:
    if (!mask_of((void *)e, (size_t)f, &set)) return 0;
    *result = ovl_hook_epoll_pwait((int)a, (struct epoll_event *)b, (int)c, (int)d, e ? &set : NULL);
    return 1;
  case SYS_epoll_pwait2:
    if (!mask_of((void *)e, (size_t)f, &set)) return 0;
    *result = ovl_hook_epoll_pwait2((int)a, (struct epoll_event *)b, (int)c, (struct timespec *)d, e ? &set : NULL);
    return 1;
  default: return 0;
  }
}

static long by_filter(long n, long a, long b, long c, long d, long e, long *result) {
  switch (n) {
  case SYS_prctl:
    if ((int)a != PR_SET_SECCOMP) return 0;
    *result = ovl_hook_prctl((int)a, b, c, d, e);
    return 1;
  case SYS_seccomp: *result = ovl_seccomp(a, b, c); return 1;
  default: return 0;
  }
}

/* 1: the call was one of ours. Kept out of the hook, whose own frame must be a plain jump's. */
__attribute__((noinline)) static long route(long n, long a, long b, long c, long d, long e, long f,
                                            long *result) {
  if (is_fork(n, a)) {
    *result = fork_by_call(n, a, b, c, d, e, f);
    return 1;
  }
  return by_path(n, a, b, c, d, e, result) || by_descriptor(n, a, b, c, result) ||
         legacy(n, a, b, c, d, result) || by_xattr(n, a, b, c, d, e, result) ||
         by_socket(n, a, b, c, d, e, f, result) || by_mapping(n, a, b, c, d, e, f, result) ||
         by_data(n, a, b, c, d, e, f, result) || by_sync(n, a, result) ||
         by_wait(n, a, b, c, d, e, f, result) || by_filter(n, a, b, c, d, e, result);
}

struct answer {
  long ours, result;
};

__attribute__((noinline)) static struct answer ask(long n, long a, long b, long c, long d, long e,
                                                   long f) {
  struct answer answer = {0, 0};
  answer.ours = route(n, a, b, c, d, e, f, &answer.result);
  return answer;
}

HOOKED(long, syscall, long number, long a, long b, long c, long d, long e, long f) {
  if (OVL_ON()) {
    const struct answer answer = ask(number, a, b, c, d, e, f);
    if (answer.ours) return answer.result;
  }
  TAIL_CALL NEXT(syscall)(number, a, b, c, d, e, f);
}
