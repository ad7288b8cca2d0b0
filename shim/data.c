/* Data that the kernel moves, writes out or counts for a descriptor: as in reads.c, on the copy
 * where a lower file was copied up after it was opened.
 *
 * Left out on purpose: io_uring and libaio, which make their system calls themselves. */

#include "mandatory.h"
#include "reads.h"

#include <linux/fs.h>
#include <linux/fiemap.h>
#include <sys/mman.h>
#include <sys/sendfile.h>

/* A call that takes `fd` in another place, and the address of an offset, or NULL for the position: the kernel
 * itself moves that without any lock between its look and its change. */
static long move_data(struct ovl_data_call *call, int place, int where, off_t *offset) {
  call->descriptor = &call->arguments[place];
  off_t position = 0;
  if (offset == NULL) {
    position = lx_lseek(call->fd, 0, SEEK_CUR);
    if (position < 0) return OVL_PASS; /* of a FIFO or socket: what the kernel says depends on the call */
    call->arguments[where] = (long)&position;
  }
  const long r = ovl_data(call);
  if (offset == NULL && r > 0) (void)lx_lseek(call->fd, position, SEEK_SET);
  return r;
}

HOOKED(ssize_t, sendfile, int out, int in, off_t *offset, size_t size) {
  OVL_ASK_MOVE(in, offset, out, NULL, size);
  if (!OVL_HERE(in)) {
    struct ovl_data_call call = {
        .fd = in, .number = SYS_sendfile, .arguments = {out, in, (long)offset, (long)size}};
    const long r = move_data(&call, 1, 2, offset);
    if (r != OVL_PASS) return ovl_result(r);
  }
  TAIL_CALL NEXT(sendfile)(out, in, offset, size);
}
HOOK_ALIAS(sendfile64, sendfile);

/* Between the layers of one overlay that are on different file systems, where the kernel has EXDEV to say:
 * the program sees one. */
static int crosses_layers(int in, int out) {
  struct stat source, target;
  int same = 0;
  if (!ovl_fd_is_lower(in)) return 0;
  same = ovl_hook_fstat(in, &source) == 0 && ovl_hook_fstat(out, &target) == 0 &&
         source.st_dev == target.st_dev;
  return same;
}

static long copy_between(int in, off_t *from, int out, off_t *to, size_t size) {
  enum { STEP = 1 << 17, MOST = 0x7ffff000 };
  const off_t start = from != NULL ? *from : lx_lseek(in, 0, SEEK_CUR);
  const off_t end = to != NULL ? *to : lx_lseek(out, 0, SEEK_CUR);
  if (start < 0 || end < 0) return -EINVAL;
  char *step = lx_mmap(STEP, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
  if (step == NULL) return -ENOMEM;
  if (size > MOST) size = MOST;
  size_t done = 0;
  long r = 0;
  while (done < size) {
    const size_t left = size - done < STEP ? size - done : STEP;
    r = lx_pread(in, step, left, start + (off_t)done);
    if (r <= 0) break;
    r = lx_call6(SYS_pwrite64, out, (long)step, r, end + (off_t)done, 0, 0);
    if (r <= 0) break;
    done += (size_t)r;
  }
  (void)lx_munmap(step, STEP);
  if (done == 0) return r;
  if (from != NULL) *from = start + (off_t)done;
  else (void)lx_lseek(in, start + (off_t)done, SEEK_SET);
  if (to != NULL) *to = end + (off_t)done;
  else (void)lx_lseek(out, end + (off_t)done, SEEK_SET);
  return (long)done;
}

HOOKED(ssize_t, copy_file_range, int in, off_t *from, int out, off_t *to, size_t size,
       unsigned flags) {
  OVL_ASK_MOVE(in, from, out, to, size);
  if (!OVL_HERE(in)) {
    struct ovl_data_call call = {.fd = in,
                                 .number = SYS_copy_file_range,
                                 .arguments = {in, (long)from, out, (long)to, (long)size, flags}};
    pthread_testcancel();
    const long r = move_data(&call, 0, 1, from);
    if (r != OVL_PASS) return ovl_result(r);
  }
  if (OVL_OFF()) return NEXT(copy_file_range)(in, from, out, to, size, flags);
  const int kept_errno = errno;
  ssize_t r = NEXT(copy_file_range)(in, from, out, to, size, flags);
  if (r < 0 && errno == EXDEV && crosses_layers(in, out)) {
    r = ovl_result(copy_between(in, from, out, to, size));
    if (r >= 0) ovl_set_errno(kept_errno);
  }
  return r;
}

HOOKED(ssize_t, splice, int in, off_t *from, int out, off_t *to, size_t size, unsigned flags) {
  OVL_ASK_MOVE(in, from, out, to, size);
  if (!OVL_HERE(in)) {
    struct ovl_data_call call = {.fd = in,
                                 .number = SYS_splice,
                                 .arguments = {in, (long)from, out, (long)to, (long)size, flags}};
    pthread_testcancel();
    const long r = move_data(&call, 0, 1, from);
    if (r != OVL_PASS) return ovl_result(r);
  }
  TAIL_CALL NEXT(splice)(in, from, out, to, size, flags);
}

long ovl_fsync_lower(int fd, long number) {
  if (OVL_HERE(fd)) return ovl_synchronize(fd, number);
  OVL_DATA(call, fd, number, 0);
  return ovl_data(&call);
}

HOOKED(int, fsync, int fd) {
  if (OVL_ON() && ovl_fd_is_lower(fd)) {
    pthread_testcancel();
    const long r = ovl_fsync_lower(fd, SYS_fsync);
    if (r != OVL_PASS) return (int)ovl_result(r);
  }
  TAIL_CALL NEXT(fsync)(fd);
}

HOOKED(int, fdatasync, int fd) {
  if (OVL_ON() && ovl_fd_is_lower(fd)) {
    pthread_testcancel();
    const long r = ovl_fsync_lower(fd, SYS_fdatasync);
    if (r != OVL_PASS) return (int)ovl_result(r);
  }
  TAIL_CALL NEXT(fdatasync)(fd);
}

HOOKED(int, syncfs, int fd) {
  if (OVL_ON() && ovl_fd_is_lower(fd)) {
    const long r = ovl_synchronize(fd, SYS_syncfs);
    if (r != OVL_PASS) return (int)ovl_result(r);
  }
  TAIL_CALL NEXT(syncfs)(fd);
}

/* Which pages the cache keeps is the inode's affair, how far ahead is read the description's: that is lost. */
HOOKED(int, posix_fadvise, int fd, off_t offset, off_t size, int advice) {
  if (!OVL_HERE(fd)) {
    OVL_DATA(call, fd, SYS_fadvise64, 0, offset, size, advice);
    const long r = ovl_data(&call);
    if (r != OVL_PASS) return (int)-r;
  }
  TAIL_CALL NEXT(posix_fadvise)(fd, offset, size, advice);
}
HOOK_ALIAS(posix_fadvise64, posix_fadvise);

HOOKED(ssize_t, readahead, int fd, off_t offset, size_t size) {
  if (!OVL_HERE(fd)) {
    OVL_DATA(call, fd, SYS_readahead, 0, offset, (long)size);
    const long r = ovl_data(&call);
    if (r != OVL_PASS) return ovl_result(r);
  }
  TAIL_CALL NEXT(readahead)(fd, offset, size);
}

/* The file whose blocks a request shares with another, or -1. */
static int clone_source(unsigned long request, void *argument) {
  if (request == FICLONE) return (int)(long)argument;
  if (request == FICLONERANGE && ovl_is_readable_all(argument, sizeof(struct file_clone_range)))
    return (int)((struct file_clone_range *)argument)->src_fd;
  return -1;
}

static long clone_data(int fd, unsigned long request, void *argument, int source) {
  struct ovl_data_call call = {
      .fd = source, .number = SYS_ioctl, .arguments = {fd, (long)request, (long)argument}};
  struct file_clone_range range;
  if (request == FICLONE) {
    call.descriptor = &call.arguments[2];
  } else {
    range = *(struct file_clone_range *)argument;
    call.arguments[2] = (long)&range;
    _Static_assert(sizeof range.src_fd == sizeof(long), "the core writes a long");
    call.descriptor = (long *)&range.src_fd;
  }
  return ovl_data(&call);
}

int ovl_ioctl_data(int fd, unsigned long request, void *argument) {
  switch (request) {
  case FICLONE:
  case FICLONERANGE: {
    const int source = clone_source(request, argument);
    if (source < 0 || OVL_HERE(source)) break;
    const long r = clone_data(fd, request, argument, source);
    if (r != OVL_PASS) return (int)ovl_result(r);
    break;
  }
  case FIONREAD:
  case FIDEDUPERANGE:
  case FS_IOC_FIEMAP:
  case FS_IOC_GETFLAGS:
  case FS_IOC_FSGETXATTR: {
    if (OVL_HERE(fd)) break;
    OVL_DATA(call, fd, SYS_ioctl, request == FIONREAD ? OVL_DATA_STANDS : 0, (long)request,
             (long)argument);
    const long r = ovl_data(&call);
    if (r != OVL_PASS) return (int)ovl_result(r);
    break;
  }
  default: break;
  }
  return NEXT(ioctl)(fd, request, argument);
}
