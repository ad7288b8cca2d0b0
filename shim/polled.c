/* A read of an inotify instance with polled watches waits as a poll does, look by look.
 *
 * The kernel's own read starts again after a signal if the handler was installed so (SA_RESTART), which a wait with a
 * limit does not. It is started again here unless a handler is installed that ends calls: which one ran nobody
 * says, so where both kinds are installed each of them ends the read. */

#include "polled.h"

#include <watching.h>

#include <poll.h>

static int ends_calls(void) {
  for (int signal = 1; signal < NSIG; signal++)
    if (lx_ends_calls(signal)) return 1;
  return 0;
}

long ovl_await_polled(int fd) {
  const int before = errno;
  const long flags = lx_call6(SYS_fcntl, fd, F_GETFL, 0, 0, 0, 0);
  const int waits = flags >= 0 && (flags & O_NONBLOCK) == 0;
  struct polled_wait polled;
  begin_polled(&polled, 1);
  long r;
  for (;;) {
    (void)ovl_watch_settle(fd);
    r = ovl_watch_keeps(fd) > 0;
    if (r > 0 || !waits) break;
    const long due = ovl_watch_due(fd);
    if (due < 0 || lx_queued(fd) < 0) break;
    struct pollfd p = {.fd = fd, .events = POLLIN};
    if (NEXT(ppoll)(&p, 1, sooner(&polled, NULL, due), &polled.let_in) < 0 && errno == EINTR && ends_calls()) {
      r = -EINTR;
      break;
    }
  }
  end_polled(&polled);
  ovl_set_errno(before);
  return r;
}
