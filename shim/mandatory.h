#ifndef OVERLOCK_MANDATORY_H
#define OVERLOCK_MANDATORY_H

/* Mandatory locks (option `mand`): what is asked before the data of a descriptor is read or changed. One branch
 * where no overlay has the option. */

#include "hook.h"

#include <process.h>
#include <sys/uio.h>

#define OVL_MANDATORY() (OVL_ON() && __builtin_expect(ovl_process.mandatory, 0))

/* The descriptor's position, as an offset. */
#define OVL_HERE_ON (-1L)

/* 0, or -errno: EAGAIN, EDEADLK, EINTR. May wait. */
static inline long ovl_mandatory_read(int fd, off_t offset, size_t size) {
  return OVL_MANDATORY() ? ovl_mandatory_pass(fd, F_RDLCK, offset, size) : 0;
}
static inline long ovl_mandatory_write(int fd, off_t offset, size_t size) {
  return OVL_MANDATORY() ? ovl_mandatory_pass(fd, F_WRLCK, offset, size) : 0;
}

/* Bytes of a vector, as far as the kernel would take it; what it refuses is left to it. */
static inline size_t ovl_vector_size(const struct iovec *parts, int count) {
  size_t size = 0;
  if (count < 0 || count > IOV_MAX || !ovl_is_readable_all(parts, (size_t)count * sizeof *parts)) return 0;
  for (int i = 0; i < count; i++)
    if (__builtin_add_overflow(size, parts[i].iov_len, &size)) return SIZE_MAX >> 1;
  return size;
}

/* The same for an offset that a call is given by address, NULL: the position. */
static inline off_t ovl_offset_of(const off_t *offset) {
  return offset == NULL ? OVL_HERE_ON : ovl_is_readable_all(offset, sizeof *offset) ? *offset : -2;
}

/* The first thing that a hook does: what is refused ends it. An offset that the kernel refuses is left to it. */
#define OVL_ASK_READ(fd, offset, size)                                                  \
  do {                                                                                  \
    if (OVL_MANDATORY()) {                                                              \
      const long refused_ = (offset) < OVL_HERE_ON ? 0 : ovl_mandatory_read(fd, offset, size); \
      if (refused_ < 0) return ovl_result(refused_);                                    \
    }                                                                                   \
  } while (0)
#define OVL_ASK_MOVE(in, from, out, to, size)                                           \
  do {                                                                                  \
    if (OVL_MANDATORY()) {                                                              \
      long refused_ = ovl_mandatory_read(in, ovl_offset_of(from), size);                \
      if (refused_ >= 0) refused_ = ovl_mandatory_write(out, ovl_offset_of(to), size);  \
      if (refused_ < 0) return ovl_result(refused_);                                    \
    }                                                                                   \
  } while (0)

/* Has libc's streams ask, too (mandatory_streams.c). */
void ovl_mandatory_streams(void);

#endif
