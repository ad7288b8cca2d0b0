#ifndef OVERLOCK_READS_H
#define OVERLOCK_READS_H

#include "hook.h"

#include <pthread.h>
#include <process.h>

/* 1: the kernel's own call on the descriptor's data is certainly right. Two loads say so of a descriptor that is
 * no lower file's, three more of a lower file's that nobody has copied up. */
__attribute__((always_inline)) static inline int ovl_is_surely_here(int fd) {
  if (__builtin_expect((unsigned)fd >= OVL_TABLE_FDS, 0)) return 0;
  const struct ovl_fd *entry = &ovl_process.table[fd];
  const uint64_t word = __atomic_load_n(&entry->word, __ATOMIC_ACQUIRE);
  if ((word & (OVL_FD_KNOWN | OVL_FD_LOWER | OVL_FD_WATCHES)) == OVL_FD_KNOWN) return 1;
  const struct ovl_overlay *overlay = &ovl_process.overlays[word >> 16 & (OVL_MAX_OVERLAYS - 1)];
  if (overlay->registry == NULL) return 0;
  const uint64_t state = __atomic_load_n((const uint64_t *)(overlay->page + OVL_REGISTRY_STATE), __ATOMIC_ACQUIRE);
  const char *words = __builtin_expect(state == overlay->sole, 1) ? overlay->registry : overlay->page;
  const uint64_t *count = (const uint64_t *)(words + OVL_REGISTRY_COPY_UPS);
  const uint64_t seen = __atomic_load_n(&entry->seen, __ATOMIC_RELAXED);
  return seen == __atomic_load_n(count, __ATOMIC_ACQUIRE) + 1;
}

/* The same before anybody has started us up. What is not sure is left to a function of its own: so that the hook
 * itself needs no frame, and is a jump. */
#define OVL_SURELY_HERE(fd)                                                      \
  (__builtin_expect(ovl_active == 0, 0) ||                                       \
   (__builtin_expect(ovl_active > 0, 1) && __builtin_expect(!ovl_process.mandatory, 1) && \
    __builtin_expect(ovl_is_surely_here(fd), 1)))

static inline int ovl_is_here(int fd) { return ovl_is_surely_here(fd) || ovl_data_is_here(fd); }

#define OVL_HERE(fd) (OVL_OFF() || __builtin_expect(ovl_is_here(fd), 1))

/* A system call on the data of `fd`, which is its first argument. */
#define OVL_DATA(call, fd_, number_, flags_, ...)                               \
  struct ovl_data_call call = {.fd = (fd_),                                     \
                               .flags = (flags_),                               \
                               .number = (number_),                             \
                               .arguments = {(fd_)__VA_OPT__(, ) __VA_ARGS__}}; \
  call.descriptor = &call.arguments[0];                                         \
  call.position = &call.arguments[3]

/* 1: the descriptor is an inotify instance whose events are made of the kernel's: by these. */
static inline int ovl_is_instance(int fd) { return ovl_has_watches() && ovl_fd_watches(fd); }
ssize_t ovl_read_watches(int fd, void *buffer, size_t size);
ssize_t ovl_readv_watches(int fd, const struct iovec *vectors, int count);

/* lseek on a file. OVL_PASS: the next function's. */
long ovl_seek_data(int fd, off_t offset, int whence);

/* SYS_fsync or SYS_fdatasync of an object opened on a lower. OVL_PASS: the next function's. */
long ovl_fsync_lower(int fd, long number);

/* ioctl, where it is about data. */
int ovl_ioctl_data(int fd, unsigned long request, void *argument);

/* Sees to it that libc's streams read by ovl_read_stream & co. (streams.c). */
void ovl_follow_streams(void);
/* In a forked child: nobody is at it any more. */
void ovl_streams_after_fork(void);
/* The same where a stream may come to stand on the descriptor. */
static inline void ovl_follow_stream(int fd) {
  if (fd >= 0 && ovl_fd_is_lower(fd)) ovl_follow_streams();
}

#endif
