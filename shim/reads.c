/* Reading and seeking.
 *
 * A descriptor of a lower file that somebody has copied up since must show the copy's data: the core makes
 * the call (ovl_data). Every other call is a jump to the next function, which stays the cancellation point
 * and blocks and is interrupted as ever. */

#include "mandatory.h"
#include "reads.h"

#include <sys/uio.h>

/* The core's call on a regular file: it does not block. */
static ssize_t read_data(struct ovl_data_call *call) {
  pthread_testcancel();
  return ovl_data(call);
}

__attribute__((noinline)) static ssize_t read_far(int fd, void *buffer, size_t size) {
  if (ovl_is_instance(fd)) return ovl_read_watches(fd, buffer, size);
  OVL_ASK_READ(fd, OVL_HERE_ON, size);
  if (!OVL_HERE(fd)) {
    OVL_DATA(call, fd, SYS_pread64, OVL_DATA_ADVANCES, (long)buffer, (long)size);
    const long r = read_data(&call);
    if (r != OVL_PASS) return ovl_result(r);
  }
  return NEXT(read)(fd, buffer, size);
}

HOOKED(ssize_t, read, int fd, void *buffer, size_t size) {
  if (!OVL_SURELY_HERE(fd)) TAIL_CALL read_far(fd, buffer, size);
  TAIL_CALL NEXT(read)(fd, buffer, size);
}
HOOK_ALIAS(__read, read);

/* What _FORTIFY_SOURCE makes of them. That too much was asked for is libc's to say. */
HOOKED(ssize_t, __read_chk, int fd, void *buffer, size_t size, size_t room) {
  if (size <= room && (OVL_MANDATORY() || !OVL_HERE(fd) || ovl_is_instance(fd)))
    return ovl_hook_read(fd, buffer, size);
  TAIL_CALL NEXT(__read_chk)(fd, buffer, size, room);
}

__attribute__((noinline)) static ssize_t pread_far(int fd, void *buffer, size_t size, off_t offset) {
  if (offset >= 0) OVL_ASK_READ(fd, offset, size);
  if (!OVL_HERE(fd)) {
    OVL_DATA(call, fd, SYS_pread64, 0, (long)buffer, (long)size, offset);
    const long r = read_data(&call);
    if (r != OVL_PASS) return ovl_result(r);
  }
  return NEXT(pread)(fd, buffer, size, offset);
}

HOOKED(ssize_t, pread, int fd, void *buffer, size_t size, off_t offset) {
  if (!OVL_SURELY_HERE(fd)) TAIL_CALL pread_far(fd, buffer, size, offset);
  TAIL_CALL NEXT(pread)(fd, buffer, size, offset);
}
HOOK_ALIAS(pread64, pread);
HOOK_ALIAS(__pread64, pread);

HOOKED(ssize_t, __pread_chk, int fd, void *buffer, size_t size, off_t offset, size_t room) {
  if (size <= room && (OVL_MANDATORY() || !OVL_HERE(fd))) return ovl_hook_pread(fd, buffer, size, offset);
  TAIL_CALL NEXT(__pread_chk)(fd, buffer, size, offset, room);
}
HOOK_ALIAS(__pread64_chk, __pread_chk);

HOOKED(ssize_t, readv, int fd, const struct iovec *parts, int count) {
  if (ovl_is_instance(fd) && count > 0 && count <= IOV_MAX &&
      ovl_is_readable_all(parts, (size_t)count * sizeof *parts))
    return ovl_readv_watches(fd, parts, count);
  OVL_ASK_READ(fd, OVL_HERE_ON, ovl_vector_size(parts, count));
  if (!OVL_HERE(fd)) {
    OVL_DATA(call, fd, SYS_preadv, OVL_DATA_ADVANCES, (long)parts, count);
    const long r = read_data(&call);
    if (r != OVL_PASS) return ovl_result(r);
  }
  TAIL_CALL NEXT(readv)(fd, parts, count);
}

HOOKED(ssize_t, preadv, int fd, const struct iovec *parts, int count, off_t offset) {
  if (offset >= 0) OVL_ASK_READ(fd, offset, ovl_vector_size(parts, count));
  if (!OVL_HERE(fd)) {
    OVL_DATA(call, fd, SYS_preadv, 0, (long)parts, count, offset);
    const long r = read_data(&call);
    if (r != OVL_PASS) return ovl_result(r);
  }
  TAIL_CALL NEXT(preadv)(fd, parts, count, offset);
}
HOOK_ALIAS(preadv64, preadv);

/* An offset of -1 is the descriptor's position. */
HOOKED(ssize_t, preadv2, int fd, const struct iovec *parts, int count, off_t offset, int flags) {
  OVL_ASK_READ(fd, offset, ovl_vector_size(parts, count));
  if (!OVL_HERE(fd)) {
    OVL_DATA(call, fd, SYS_preadv2, offset == -1 ? OVL_DATA_ADVANCES : 0, (long)parts, count, offset, 0,
             flags);
    const long r = read_data(&call);
    if (r != OVL_PASS) return ovl_result(r);
  }
  TAIL_CALL NEXT(preadv2)(fd, parts, count, offset, flags);
}
HOOK_ALIAS(preadv64v2, preadv2);

long ovl_seek_data(int fd, off_t offset, int whence) {
  /* Nothing moves, and nothing is looked at but the position. */
  if ((whence == SEEK_CUR && offset == 0) || OVL_HERE(fd)) return OVL_PASS;
  OVL_DATA(call, fd, SYS_lseek, OVL_DATA_SEEKS, offset, whence);
  return ovl_data(&call);
}
