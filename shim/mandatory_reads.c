/* Mandatory locks: calls that read data, move it between descriptors, or map it. */

#include "mandatory.h"

#include <sys/mman.h>
#include <sys/sendfile.h>

HOOKED(ssize_t, read, int fd, void *buffer, size_t size) {
  const long r = ovl_mandatory_read(fd, OVL_HERE_ON, size);
  if (__builtin_expect(r < 0, 0)) return ovl_result(r);
  TAIL_CALL NEXT(read)(fd, buffer, size);
}
HOOK_ALIAS(__read, read);

/* What _FORTIFY_SOURCE makes of it. That too much was asked for is libc's to say. */
HOOKED(ssize_t, __read_chk, int fd, void *buffer, size_t size, size_t room) {
  const long r = size > room ? 0 : ovl_mandatory_read(fd, OVL_HERE_ON, size);
  if (__builtin_expect(r < 0, 0)) return ovl_result(r);
  TAIL_CALL NEXT(__read_chk)(fd, buffer, size, room);
}

HOOKED(ssize_t, pread, int fd, void *buffer, size_t size, off_t offset) {
  const long r = offset < 0 ? 0 : ovl_mandatory_read(fd, offset, size);
  if (__builtin_expect(r < 0, 0)) return ovl_result(r);
  TAIL_CALL NEXT(pread)(fd, buffer, size, offset);
}
HOOK_ALIAS(pread64, pread);
HOOK_ALIAS(__pread64, pread);

HOOKED(ssize_t, __pread_chk, int fd, void *buffer, size_t size, off_t offset, size_t room) {
  const long r = size > room || offset < 0 ? 0 : ovl_mandatory_read(fd, offset, size);
  if (__builtin_expect(r < 0, 0)) return ovl_result(r);
  TAIL_CALL NEXT(__pread_chk)(fd, buffer, size, offset, room);
}
HOOK_ALIAS(__pread64_chk, __pread_chk);

HOOKED(ssize_t, readv, int fd, const struct iovec *parts, int count) {
  if (OVL_MANDATORY()) {
    const long r = ovl_mandatory_read(fd, OVL_HERE_ON, ovl_vector_size(parts, count));
    if (r < 0) return ovl_result(r);
  }
  TAIL_CALL NEXT(readv)(fd, parts, count);
}

HOOKED(ssize_t, preadv, int fd, const struct iovec *parts, int count, off_t offset) {
  if (OVL_MANDATORY() && offset >= 0) {
    const long r = ovl_mandatory_read(fd, offset, ovl_vector_size(parts, count));
    if (r < 0) return ovl_result(r);
  }
  TAIL_CALL NEXT(preadv)(fd, parts, count, offset);
}
HOOK_ALIAS(preadv64, preadv);

HOOKED(ssize_t, preadv2, int fd, const struct iovec *parts, int count, off_t offset, int flags) {
  if (OVL_MANDATORY()) {
    const long r = ovl_mandatory_read(fd, offset, ovl_vector_size(parts, count));
    if (r < 0) return ovl_result(r);
  }
  TAIL_CALL NEXT(preadv2)(fd, parts, count, offset, flags);
}
HOOK_ALIAS(preadv64v2, preadv2);

/* From one file into another, or a pipe or socket: those pass at once. */
static long move_between(int in, const off_t *from, int out, const off_t *to, size_t size) {
  const long r = ovl_mandatory_read(in, ovl_offset_of(from), size);
  return r < 0 ? r : ovl_mandatory_write(out, ovl_offset_of(to), size);
}

HOOKED(ssize_t, sendfile, int out, int in, off_t *offset, size_t size) {
  if (OVL_MANDATORY()) {
    const long r = move_between(in, offset, out, NULL, size);
    if (r < 0) return ovl_result(r);
  }
  TAIL_CALL NEXT(sendfile)(out, in, offset, size);
}
HOOK_ALIAS(sendfile64, sendfile);

HOOKED(ssize_t, copy_file_range, int in, off_t *from, int out, off_t *to, size_t size, unsigned flags) {
  if (OVL_MANDATORY()) {
    const long r = move_between(in, from, out, to, size);
    if (r < 0) return ovl_result(r);
  }
  TAIL_CALL NEXT(copy_file_range)(in, from, out, to, size, flags);
}

HOOKED(ssize_t, splice, int in, off_t *from, int out, off_t *to, size_t size, unsigned flags) {
  if (OVL_MANDATORY()) {
    const long r = move_between(in, from, out, to, size);
    if (r < 0) return ovl_result(r);
  }
  TAIL_CALL NEXT(splice)(in, from, out, to, size, flags);
}
