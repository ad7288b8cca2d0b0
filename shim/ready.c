/* poll, select and their kin on inotify instances with watches of ours: ready is what read would return.
 *
 * After the kernel's own call the core takes from the instance what the program is not to see, up to its first
 * event, which it keeps for the next read; where there is none the wait goes on. A process without such an
 * instance jumps to the next function.
 *
 * epoll is in epoll.c. Left out: select of more than FD_SETSIZE descriptors, which reports the kernel's events. */

#include "hook.h"
#include "polled.h"
#include "wait.h"

#include <mapping.h>

#include <poll.h>
#include <signal.h>
#include <sys/select.h>

#define READING (POLLIN | POLLRDNORM)

static int is_watched(const struct pollfd *p) {
  return p->fd >= 0 && (p->events & READING) != 0 && ovl_fd_watches(p->fd);
}

#define ENTRIES_A_PAGE (4096 / sizeof(struct pollfd))

/* What the kernel refuses, too many entries (poll(2), EINVAL) or some without memory (EFAULT), is left to it. */
static int concerns(const struct pollfd *fds, nfds_t count) {
  if (!ovl_has_watches() || (count > FD_SETSIZE && count > lx_descriptor_limit())) return 0;
  int watched = 0;
  for (nfds_t i = 0; i < count; i++) {
    const nfds_t left = count - i, some = left < ENTRIES_A_PAGE ? left : ENTRIES_A_PAGE;
    if (i % ENTRIES_A_PAGE == 0 && !ovl_is_readable_all(&fds[i], some * sizeof *fds)) return 0;
    watched = watched || is_watched(&fds[i]);
  }
  return watched;
}

__attribute__((noinline)) static int poll_watches(struct pollfd *fds, nfds_t count,
                                                  const struct timespec *timeout,
                                                  const sigset_t *mask) {
  const int before = errno;
  struct wait wait;
  struct polled_wait polled;
  begin_polled(&polled, ovl_has_polled());
  begin_wait(&wait, timeout);
  do {
    const struct timespec none = {0, 0};
    int kept = 0;
    long due = -1;
    for (nfds_t i = 0; i < count; i++) {
      if (!is_watched(&fds[i])) continue;
      kept |= ovl_watch_keeps(fds[i].fd);
      if (polled.is_polled) due = sooner_look(due, ovl_watch_due(fds[i].fd));
    }
    const struct timespec *limit = wait.limited ? &wait.left : NULL;
    int r = NEXT(ppoll)(fds, count, kept ? &none : sooner(&polled, limit, due), polled_mask(&polled, mask));
    if (r < 0) {
      end_polled(&polled);
      return r;
    }
    for (nfds_t i = 0; i < count; i++) {
      struct pollfd *p = &fds[i];
      if (!is_watched(p)) continue;
      const short was = p->revents;
      if ((was & READING) == 0 && polled.is_polled && ovl_watch_due(p->fd) == 0) (void)ovl_watch_settle(p->fd);
      if ((was & READING) != 0 ? ovl_watch_settle(p->fd) : ovl_watch_keeps(p->fd))
        p->revents |= p->events & READING;
      else
        p->revents &= ~READING;
      r += (p->revents != 0) - (was != 0);
    }
    if (r > 0) {
      end_polled(&polled);
      ovl_set_errno(before);
      return r;
    }
  } while (goes_on(&wait));
  end_polled(&polled);
  ovl_set_errno(before);
  return 0;
}

static int poll_ms(struct pollfd *fds, nfds_t count, int timeout) {
  const struct timespec t = {.tv_sec = timeout / 1000, .tv_nsec = timeout % 1000 * 1000000L};
  return poll_watches(fds, count, timeout < 0 ? NULL : &t, NULL);
}

HOOKED(int, poll, struct pollfd *fds, nfds_t count, int timeout) {
  if (concerns(fds, count)) return poll_ms(fds, count, timeout);
  TAIL_CALL NEXT(poll)(fds, count, timeout);
}
HOOK_ALIAS(__poll, poll);

HOOKED(int, __poll_chk, struct pollfd *fds, nfds_t count, int timeout, size_t room) {
  if (count <= room / sizeof *fds && concerns(fds, count)) return poll_ms(fds, count, timeout);
  TAIL_CALL NEXT(__poll_chk)(fds, count, timeout, room);
}

HOOKED(int, ppoll, struct pollfd *fds, nfds_t count, const struct timespec *timeout,
       const sigset_t *mask) {
  if (concerns(fds, count)) return poll_watches(fds, count, timeout, mask);
  TAIL_CALL NEXT(ppoll)(fds, count, timeout, mask);
}

HOOKED(int, __ppoll_chk, struct pollfd *fds, nfds_t count, const struct timespec *timeout,
       const sigset_t *mask, size_t room) {
  if (count <= room / sizeof *fds && concerns(fds, count))
    return poll_watches(fds, count, timeout, mask);
  TAIL_CALL NEXT(__ppoll_chk)(fds, count, timeout, mask, room);
}

#define WORDS(count) (((count) + NFDBITS - 1) / NFDBITS)

/* 1: there is a set of so many descriptors in memory, or none is given. */
static int is_readable_set(const fd_set *set, int count) {
  return set == NULL || ovl_is_readable_all(set, (size_t)WORDS(count) * sizeof(fd_mask));
}

/* Sets without memory are left to the kernel. */
static int selects_watches(int count, const fd_set *reading, const fd_set *writing, const fd_set *failing) {
  if (!ovl_has_watches() || reading == NULL || count <= 0 || count > FD_SETSIZE) return 0;
  if (!is_readable_set(reading, count) || !is_readable_set(writing, count) || !is_readable_set(failing, count))
    return 0;
  for (int fd = 0; fd < count; fd++)
    if (FD_ISSET(fd, reading) && ovl_fd_watches(fd)) return 1;
  return 0;
}

/* Only the words that the caller's sets have for certain are touched. */
static void copy_set(fd_set *to, const fd_set *from, int count) {
  if (to == NULL || from == NULL) return;
  for (int i = 0; i < WORDS(count); i++) to->fds_bits[i] = from->fds_bits[i];
}

__attribute__((noinline)) static int select_watches(int count, fd_set *reading, fd_set *writing,
                                                    fd_set *failing,
                                                    const struct timespec *timeout,
                                                    const sigset_t *mask, struct wait *wait) {
  const int before = errno;
  fd_set r0, w0, f0;
  copy_set(&r0, reading, count);
  copy_set(&w0, writing, count);
  copy_set(&f0, failing, count);
  struct polled_wait polled;
  begin_polled(&polled, ovl_has_polled());
  begin_wait(wait, timeout);
  for (int again = 0;; again = 1) {
    const struct timespec none = {0, 0};
    int kept = 0;
    long due = -1;
    for (int fd = 0; fd < count; fd++) {
      if (!FD_ISSET(fd, &r0) || !ovl_fd_watches(fd)) continue;
      kept |= ovl_watch_keeps(fd);
      if (polled.is_polled) due = sooner_look(due, ovl_watch_due(fd));
    }
    /* What the kernel has written before can be written. */
    if (again) {
      copy_set(reading, &r0, count);
      copy_set(writing, writing == NULL ? NULL : &w0, count);
      copy_set(failing, failing == NULL ? NULL : &f0, count);
    }
    const struct timespec *limit = wait->limited ? &wait->left : NULL;
    int r = NEXT(pselect)(count, reading, writing, failing, kept ? &none : sooner(&polled, limit, due),
                          polled_mask(&polled, mask));
    if (r < 0) {
      end_polled(&polled);
      return r;
    }
    for (int fd = 0; fd < count; fd++) {
      if (!FD_ISSET(fd, &r0) || !ovl_fd_watches(fd)) continue;
      const int was = FD_ISSET(fd, reading) != 0;
      if (!was && polled.is_polled && ovl_watch_due(fd) == 0) (void)ovl_watch_settle(fd);
      const int is = was ? ovl_watch_settle(fd) : ovl_watch_keeps(fd);
      if (is) FD_SET(fd, reading);
      else FD_CLR(fd, reading);
      r += (is != 0) - was;
    }
    if (r > 0) {
      end_polled(&polled);
      ovl_set_errno(before);
      return r;
    }
    if (!goes_on(wait)) break;
  }
  end_polled(&polled);
  ovl_set_errno(before);
  return 0;
}

HOOKED(int, select, int count, fd_set *reading, fd_set *writing, fd_set *failing,
       struct timeval *timeout) {
  if (timeout != NULL && (timeout->tv_sec < 0 || timeout->tv_usec < 0 || timeout->tv_usec > 999999))
    TAIL_CALL NEXT(select)(count, reading, writing, failing, timeout);
  if (!selects_watches(count, reading, writing, failing))
    TAIL_CALL NEXT(select)(count, reading, writing, failing, timeout);
  struct timespec t = {0, 0};
  if (timeout != NULL) t = (struct timespec){timeout->tv_sec, timeout->tv_usec * 1000};
  struct wait wait;
  const int r = select_watches(count, reading, writing, failing, timeout != NULL ? &t : NULL, NULL,
                               &wait);
  /* As the kernel does: what is left. */
  if (timeout != NULL) {
    const int some = goes_on(&wait) && wait.limited;
    timeout->tv_sec = some ? wait.left.tv_sec : 0;
    timeout->tv_usec = some ? wait.left.tv_nsec / 1000 : 0;
  }
  return r;
}
HOOK_ALIAS(__select, select);

HOOKED(int, pselect, int count, fd_set *reading, fd_set *writing, fd_set *failing,
       const struct timespec *timeout, const sigset_t *mask) {
  if (!selects_watches(count, reading, writing, failing))
    TAIL_CALL NEXT(pselect)(count, reading, writing, failing, timeout, mask);
  struct wait wait;
  return select_watches(count, reading, writing, failing, timeout, mask, &wait);
}
