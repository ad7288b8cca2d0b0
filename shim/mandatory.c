/* Mandatory locks: calls that change data. (Those that read: reads.c, data.c; stdio: mandatory_streams.c; O_TRUNC
 * and truncate are the core's.)
 *
 * The position that a write is asked for at is the descriptor's also with O_APPEND, as in the kernel. */

#include "mandatory.h"

HOOKED(ssize_t, write, int fd, const void *data, size_t size) {
  const long r = ovl_mandatory_write(fd, OVL_HERE_ON, size);
  if (__builtin_expect(r < 0, 0)) return ovl_result(r);
  TAIL_CALL NEXT(write)(fd, data, size);
}
HOOK_ALIAS(__write, write);

HOOKED(ssize_t, pwrite, int fd, const void *data, size_t size, off_t offset) {
  const long r = offset < 0 ? 0 : ovl_mandatory_write(fd, offset, size);
  if (__builtin_expect(r < 0, 0)) return ovl_result(r);
  TAIL_CALL NEXT(pwrite)(fd, data, size, offset);
}
HOOK_ALIAS(pwrite64, pwrite);
HOOK_ALIAS(__pwrite64, pwrite);

HOOKED(ssize_t, writev, int fd, const struct iovec *parts, int count) {
  if (OVL_MANDATORY()) {
    const long r = ovl_mandatory_write(fd, OVL_HERE_ON, ovl_vector_size(parts, count));
    if (r < 0) return ovl_result(r);
  }
  TAIL_CALL NEXT(writev)(fd, parts, count);
}

HOOKED(ssize_t, pwritev, int fd, const struct iovec *parts, int count, off_t offset) {
  if (OVL_MANDATORY() && offset >= 0) {
    const long r = ovl_mandatory_write(fd, offset, ovl_vector_size(parts, count));
    if (r < 0) return ovl_result(r);
  }
  TAIL_CALL NEXT(pwritev)(fd, parts, count, offset);
}
HOOK_ALIAS(pwritev64, pwritev);

/* An offset of -1 is the position. */
HOOKED(ssize_t, pwritev2, int fd, const struct iovec *parts, int count, off_t offset, int flags) {
  if (OVL_MANDATORY()) {
    const long r = ovl_mandatory_write(fd, offset, ovl_vector_size(parts, count));
    if (r < 0) return ovl_result(r);
  }
  TAIL_CALL NEXT(pwritev2)(fd, parts, count, offset, flags);
}
HOOK_ALIAS(pwritev64v2, pwritev2);

HOOKED(int, ftruncate, int fd, off_t length) {
  if (OVL_MANDATORY()) {
    const long r = ovl_mandatory_resize(fd, length);
    if (r < 0) return (int)ovl_result(r);
  }
  TAIL_CALL NEXT(ftruncate)(fd, length);
}
HOOK_ALIAS(ftruncate64, ftruncate);
