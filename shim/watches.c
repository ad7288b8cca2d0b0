/* inotify: where watches are set, and what is read from an instance that has some of ours.
 *
 * The kernel's own call reads; the core then makes the program's events of what it gave, in the program's
 * buffer. Where none is left, the next read waits or does not, as the descriptor says.
 * So does a stream over it (streams.c). */

#include "hook.h"
#include "polled.h"
#include "reads.h"

#include <sys/inotify.h>
#include <sys/uio.h>

HOOKED(int, inotify_add_watch, int fd, const char *path, uint32_t mask) {
  if (OVL_OFF()) return NEXT(inotify_add_watch)(fd, path, mask);
  const long r = ovl_watch_add(fd, path, mask);
  if (r >= 0 && ovl_fd_watches(fd)) ovl_follow_streams();
  return (int)ovl_result(r);
}

HOOKED(int, inotify_rm_watch, int fd, int wd) {
  if (OVL_ON() && ovl_has_watches()) {
    const long r = ovl_watch_remove(fd, wd);
    if (r != OVL_PASS) return (int)ovl_result(r);
  }
  return NEXT(inotify_rm_watch)(fd, wd);
}

ssize_t ovl_read_watches(int fd, void *buffer, size_t size) {
  const int before = errno;
  const int is_polled = ovl_has_polled() && ovl_watch_due(fd) >= 0;
  long r, found = 0;
  do {
    if (is_polled && (found = ovl_await_polled(fd)) < 0) return ovl_result(found);
    if (found > 0 && size >= sizeof(struct inotify_event) && !ovl_is_writable(buffer, 1)) return ovl_result(-EFAULT);
    r = ovl_watch_read_begin(fd, buffer, size);
    /* Another thread has taken it: nobody waits in the kernel's read. */
    if (found > 0 && r == 0) ovl_watch_read_end(fd);
  } while (found > 0 && r == 0);
  if (r < 0) r = ovl_result(r);
  while (r == 0) {
    r = NEXT(read)(fd, buffer, size);
    if (r < 0 && errno == EINVAL && size >= sizeof(struct inotify_event)) {
      /* What has no room may be a longer event that the program is not to see. */
      ovl_watch_read_end(fd);
      const int is_any = ovl_watch_settle(fd);
      r = ovl_watch_read_begin(fd, buffer, size);
      if (r == 0 && is_any) r = -EINVAL;
      r = ovl_result(r);
      if (r > 0) ovl_set_errno(before);
      continue;
    }
    if (r <= 0) break;
    r = ovl_watch_translate(fd, buffer, (size_t)r, 0);
    if (r > 0) ovl_set_errno(before);
  }
  /* As the kernel gives all that there is room for. */
  if (r > 0 && size - (size_t)r >= sizeof(struct inotify_event) && ovl_watch_has_more(fd)) {
    const long more = NEXT(read)(fd, (char *)buffer + r, size - (size_t)r);
    if (more > 0) r = ovl_watch_translate(fd, buffer, (size_t)(r + more), (size_t)r);
    ovl_set_errno(before);
  }
  ovl_watch_read_end(fd);
  return r;
}

int ovl_queued_events(int fd, int *bytes) {
  const int is_all = ovl_watch_gather(fd);
  const int r = NEXT(ioctl)(fd, FIONREAD, bytes);
  /* What has come since is not counted: it may be nobody's. */
  if (r == 0) *bytes = (is_all ? 0 : *bytes) + ovl_watch_keeps(fd);
  return r;
}

/* The kernel reads such a descriptor once for each vector, too. */
ssize_t ovl_readv_watches(int fd, const struct iovec *vectors, int count) {
  ssize_t sum = 0;
  for (int i = 0; i < count; i++) {
    if (vectors[i].iov_len == 0) continue;
    const int before = errno;
    const ssize_t r = ovl_read_watches(fd, vectors[i].iov_base, vectors[i].iov_len);
    if (r < 0 && sum > 0) ovl_set_errno(before);
    if (r < 0) return sum > 0 ? sum : r;
    sum += r;
    if ((size_t)r != vectors[i].iov_len) break;
  }
  return sum;
}
