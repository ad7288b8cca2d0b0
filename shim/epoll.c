/* epoll on inotify instances with watches of ours: ready is what read would return.
 *
 * As in ready.c, but an event does not say which descriptor it is of, and nobody asks at each wait what is registered:
 * the kernel tells both in /proc/self/fdinfo. That is read only where an instance turns out to have nothing for
 * the program. An event that a look has kept for the next read is no more in the kernel's queue: before a wait
 * something else is put there.
 *
 * Left out: instances that share their data word with another descriptor, and those in an epoll in an epoll, of
 * which the kernel's events are reported; in a forked child an event that was kept, which is in nobody's queue until
 * the next one comes. */

#include "hook.h"
#include "polled.h"
#include "wait.h"

#include <watching.h>

#include <signal.h>
#include <string.h>
#include <sys/epoll.h>

#define READING (EPOLLIN | EPOLLRDNORM)

/* How a descriptor is registered: the data word, and which bits the kernel keeps when an event was told. */
struct registration {
  uint64_t data;
  uint32_t events;
};

/* Reads /proc/self/fdinfo/N in pieces: one line after the other, none of which is longer than a piece. */
struct lines {
  long fd;
  size_t from, to;
  char piece[512];
};

static int open_lines(struct lines *lines, int epoll) {
  char path[40] = "/proc/self/fdinfo/", digits[12];
  size_t n = sizeof "/proc/self/fdinfo/" - 1, d = 0;
  for (unsigned v = (unsigned)epoll; d == 0 || v > 0; v /= 10) digits[d++] = (char)('0' + v % 10);
  while (d > 0) path[n++] = digits[--d];
  path[n] = 0;
  lines->from = lines->to = 0;
  lines->fd = lx_openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
  return lines->fd >= 0;
}

/* The next line, which ends in 0; NULL: there is none. */
static char *next_line(struct lines *lines) {
  for (;;) {
    char *start = lines->piece + lines->from;
    char *end = memchr(start, '\n', lines->to - lines->from);
    if (end != NULL) {
      *end = 0;
      lines->from = (size_t)(end - lines->piece) + 1;
      return start;
    }
    const size_t left = lines->to - lines->from;
    memmove(lines->piece, start, left);
    lines->from = 0;
    lines->to = left;
    const long n = lx_read((int)lines->fd, lines->piece + left, sizeof lines->piece - left);
    if (n <= 0) return NULL;
    lines->to += (size_t)n;
  }
}

/* The number after a name in a line, in base 10 or 16. */
static int number(const char *line, const char *name, unsigned base, uint64_t *value) {
  const char *at = strstr(line, name);
  if (at == NULL) return 0;
  at += strlen(name);
  while (*at == ' ') at++;
  uint64_t v = 0;
  int digits = 0;
  for (;; at++, digits++) {
    const unsigned c = (unsigned char)*at;
    const unsigned digit = c - '0' < 10 ? c - '0' : c - 'a' < 6 ? c - 'a' + 10 : 99;
    if (digit >= base) break;
    v = v * base + digit;
  }
  *value = v;
  return digits > 0;
}

/* 1: it is registered, and no other descriptor with the same data. */
static int find(int epoll, int fd, struct registration *found) {
  struct lines lines;
  uint64_t data = 0;
  int is_there = 0, sharers = 0;
  for (int pass = 0; pass < 2; pass++) {
    if (!open_lines(&lines, epoll)) return 0;
    for (char *line; (line = next_line(&lines)) != NULL;) {
      uint64_t its_fd, its_events, its_data;
      if (!number(line, "tfd:", 10, &its_fd) || !number(line, "events:", 16, &its_events) ||
          !number(line, "data:", 16, &its_data))
        continue;
      if (pass == 0 && its_fd == (uint64_t)fd) {
        is_there = 1;
        data = its_data;
        *found = (struct registration){data, (uint32_t)its_events};
      }
      sharers += pass == 1 && its_data == data;
    }
    (void)lx_close((int)lines.fd);
    if (!is_there) return 0;
  }
  return sharers == 1;
}

/* Takes an instance's events out of what was told, and arms it again where they were its only ones. The new count. */
static int leave_out(int epoll, int fd, struct epoll_event *events, int count) {
  struct registration its;
  if (!find(epoll, fd, &its)) return count;
  int left = 0;
  for (int i = 0; i < count; i++) {
    if (events[i].data.u64 != its.data || (events[i].events & ~(uint32_t)READING) != 0) {
      events[left++] = events[i];
      continue;
    }
    if ((its.events & EPOLLONESHOT) == 0) continue;
    struct epoll_event again = {.events = events[i].events | its.events, .data.u64 = its.data};
    (void)lx_call6(SYS_epoll_ctl, epoll, EPOLL_CTL_MOD, fd, (long)&again, 0, 0);
  }
  return left;
}

/* Takes out the events of instances that have nothing for the program. */
static int settle(int epoll, struct epoll_event *events, int count) {
  int readable = 0;
  for (int i = 0; i < count; i++) readable |= (events[i].events & READING) != 0;
  if (!readable) return count;
  const int reach = (int)__atomic_load_n(&ovl_watching.reach, __ATOMIC_RELAXED);
  for (int fd = 0; fd < reach && count > 0; fd++) {
    /* With nothing in the queue it is not the kernel who called it readable. */
    if (!ovl_fd_watches(fd) || ovl_watch_keeps(fd) || lx_queued(fd) <= 0) continue;
    if (!ovl_watch_settle(fd)) count = leave_out(epoll, fd, events, count);
  }
  return count;
}

static int none_kept(void) { return __atomic_load_n(&ovl_watching.keeps, __ATOMIC_SEQ_CST) == 0; }

static void raise_kept(void) {
  if (none_kept()) return;
  const int reach = (int)__atomic_load_n(&ovl_watching.reach, __ATOMIC_RELAXED);
  /* Before the look: what is kept from now on is noted again. */
  __atomic_store_n(&ovl_watching.keeps, 0, __ATOMIC_SEQ_CST);
  for (int fd = 0; fd < reach; fd++) {
    if (!ovl_fd_watches(fd) || !ovl_watch_keeps(fd)) continue;
    lx_note_kept();
    ovl_watch_raise(fd);
  }
}

/* Looks at what is due. Returns when the next look is, -1: never. */
static long look(void) {
  const int reach = (int)__atomic_load_n(&ovl_watching.reach, __ATOMIC_RELAXED);
  long next = -1;
  for (int fd = 0; fd < reach; fd++) {
    if (!ovl_fd_watches(fd)) continue;
    if (ovl_watch_due(fd) == 0) (void)ovl_watch_settle(fd);
    next = sooner_look(next, ovl_watch_due(fd));
  }
  return next;
}

struct epoll_call {
  int epoll, most, precise;
  struct epoll_event *events;
  const sigset_t *mask;
};

/* Whole milliseconds, and one more for what is over: never less than was asked for. */
static int milliseconds(const struct timespec *limit) {
  if (limit == NULL) return -1;
  if (limit->tv_sec >= INT32_MAX / 1000) return INT32_MAX;
  return (int)(limit->tv_sec * 1000 + (limit->tv_nsec + 999999) / 1000000);
}

static int wait_once(const struct epoll_call *call, const struct timespec *limit, const sigset_t *mask) {
  if (call->precise) return NEXT(epoll_pwait2)(call->epoll, call->events, call->most, limit, mask);
  return NEXT(epoll_pwait)(call->epoll, call->events, call->most, milliseconds(limit), mask);
}

__attribute__((noinline)) static int wait_for(const struct epoll_call *call, const struct timespec *timeout) {
  const int before = errno;
  struct wait wait;
  struct polled_wait polled;
  begin_polled(&polled, ovl_has_polled());
  begin_wait(&wait, timeout);
  do {
    const long due = polled.is_polled ? look() : -1;
    raise_kept();
    ovl_set_errno(before);
    const struct timespec *limit = sooner(&polled, wait.limited ? &wait.left : NULL, due);
    int r = wait_once(call, limit, polled_mask(&polled, call->mask));
    if (r > 0) {
      r = settle(call->epoll, call->events, r);
      ovl_set_errno(before);
    } else if (r == 0 && limit != &polled.room) {
      end_polled(&polled);
      return 0;
    }
    if (r != 0) {
      end_polled(&polled);
      return r;
    }
  } while (goes_on(&wait));
  end_polled(&polled);
  ovl_set_errno(before);
  return 0;
}

/* The usual wait: nothing is kept, nothing is looked for. Of one with an end the time would have to be taken. */
static inline int is_usual(int timeout) { return timeout <= 0 && !ovl_has_polled() && none_kept(); }

__attribute__((noinline)) static int wait_ms(const struct epoll_call *call, int timeout) {
  const struct timespec t = {.tv_sec = timeout / 1000, .tv_nsec = timeout % 1000 * 1000000L};
  return wait_for(call, timeout < 0 ? NULL : &t);
}

/* After a usual wait that told something: what is the program's of it, or the wait goes on. */
__attribute__((noinline)) static int told(const struct epoll_call *call, int count, int timeout) {
  const int before = errno;
  const int r = settle(call->epoll, call->events, count);
  ovl_set_errno(before);
  return r == 0 && timeout < 0 ? wait_ms(call, timeout) : r;
}

HOOKED(int, epoll_wait, int epoll, struct epoll_event *events, int most, int timeout) {
  if (!ovl_has_watches()) TAIL_CALL NEXT(epoll_wait)(epoll, events, most, timeout);
  int r = 0;
  if (is_usual(timeout)) {
    r = NEXT(epoll_wait)(epoll, events, most, timeout);
    if (r <= 0) return r;
  }
  const struct epoll_call call = {.epoll = epoll, .most = most, .events = events};
  return r > 0 ? told(&call, r, timeout) : wait_ms(&call, timeout);
}

HOOKED(int, epoll_pwait, int epoll, struct epoll_event *events, int most, int timeout, const sigset_t *mask) {
  if (!ovl_has_watches()) TAIL_CALL NEXT(epoll_pwait)(epoll, events, most, timeout, mask);
  int r = 0;
  if (is_usual(timeout)) {
    r = NEXT(epoll_pwait)(epoll, events, most, timeout, mask);
    if (r <= 0) return r;
  }
  const struct epoll_call call = {.epoll = epoll, .most = most, .events = events, .mask = mask};
  return r > 0 ? told(&call, r, timeout) : wait_ms(&call, timeout);
}

/* A time that the kernel refuses is its to refuse. */
HOOKED(int, epoll_pwait2, int epoll, struct epoll_event *events, int most, const struct timespec *timeout,
       const sigset_t *mask) {
  if (!ovl_has_watches() ||
      (timeout != NULL && (!ovl_is_readable_all(timeout, sizeof *timeout) || timeout->tv_sec < 0 ||
                           timeout->tv_nsec < 0 || timeout->tv_nsec > 999999999)))
    TAIL_CALL NEXT(epoll_pwait2)(epoll, events, most, timeout, mask);
  const struct epoll_call call = {.epoll = epoll, .most = most, .precise = 1, .events = events, .mask = mask};
  return wait_for(&call, timeout);
}
