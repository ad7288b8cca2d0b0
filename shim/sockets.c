/* Socket calls that carry an address. Only a pathname address of AF_UNIX concerns us; everything
 * else costs one compare of the family. The core rewrites such an address to the real socket
 * (through a held descriptor where the path is too long for sun_path) and translates back what the
 * kernel tells. */

#include "hook.h"

#include <stddef.h>
#include <string.h>
#include <sys/un.h>

#define PATH_OFFSET offsetof(struct sockaddr_un, sun_path)

static int is_pathname(const void *address, socklen_t length) {
  const struct sockaddr_un *un = address;
  return length > PATH_OFFSET && ovl_is_readable_all(un, length < sizeof *un ? length : sizeof *un) && un->sun_family == AF_UNIX && un->sun_path[0] != '\0';
}

/* The address a call is to use in place of the program's. */
struct rewritten {
  const struct sockaddr *address;
  socklen_t length;
  int hold; /* a descriptor to close after the call, -1: none */
  char bytes[128];
};

/* 0 or -errno. */
static long rewrite(struct rewritten *out, const void *address, socklen_t length) {
  out->address = address;
  out->length = length;
  out->hold = -1;
  if (!is_pathname(address, length)) return 0;
  unsigned written = sizeof out->bytes;
  const long r = ovl_sockaddr(address, length, out->bytes, &written, &out->hold);
  if (r == OVL_PASS) return 0;
  if (r < 0) return r;
  out->address = (const struct sockaddr *)(const void *)out->bytes;
  out->length = written;
  return 0;
}

static void release(const struct rewritten *r) {
  if (r->hold >= 0) (void)lx_close(r->hold);
}

/* What the kernel wrote, as the program must see it. `room` is what the program gave. */
static void show(void *address, socklen_t *length, socklen_t room) {
  if (length == NULL || !is_pathname(address, *length < room ? *length : room)) return;
  *length = ovl_sockaddr_shown(address, *length, room);
}

HOOKED(int, bind, int fd, const struct sockaddr *address, socklen_t length) {
  if (OVL_OFF() || !is_pathname(address, length)) return NEXT(bind)(fd, address, length);
  const long r = ovl_bind(fd, address, length);
  return r == OVL_PASS ? NEXT(bind)(fd, address, length) : (int)ovl_result(r);
}

HOOKED(int, connect, int fd, const struct sockaddr *address, socklen_t length) {
  if (OVL_OFF()) return NEXT(connect)(fd, address, length);
  struct rewritten to;
  const long r = rewrite(&to, address, length);
  if (r < 0) return (int)ovl_result(r);
  const int done = NEXT(connect)(fd, to.address, to.length);
  release(&to);
  return done;
}
HOOK_ALIAS(__connect, connect);

HOOKED(ssize_t, sendto, int fd, const void *data, size_t size, int flags,
       const struct sockaddr *address, socklen_t length) {
  if (OVL_OFF()) return NEXT(sendto)(fd, data, size, flags, address, length);
  struct rewritten to;
  const long r = rewrite(&to, address, length);
  if (r < 0) return ovl_result(r);
  const ssize_t done = NEXT(sendto)(fd, data, size, flags, to.address, to.length);
  release(&to);
  return done;
}

HOOKED(ssize_t, sendmsg, int fd, const struct msghdr *message, int flags) {
  if (OVL_OFF() || message == NULL || !is_pathname(message->msg_name, message->msg_namelen))
    return NEXT(sendmsg)(fd, message, flags);
  struct rewritten to;
  const long r = rewrite(&to, message->msg_name, message->msg_namelen);
  if (r < 0) return ovl_result(r);
  struct msghdr copy = *message;
  copy.msg_name = (void *)to.address;
  copy.msg_namelen = to.length;
  const ssize_t done = NEXT(sendmsg)(fd, &copy, flags);
  release(&to);
  return done;
}

/* Messages with a pathname address go one by one: an error after the first is not reported, as the
 * kernel does. */
HOOKED(int, sendmmsg, int fd, struct mmsghdr *messages, unsigned count, int flags) {
  int named = 0;
  for (unsigned i = 0; OVL_ON() && i < count && !named; i++)
    named = is_pathname(messages[i].msg_hdr.msg_name, messages[i].msg_hdr.msg_namelen);
  if (!named) return NEXT(sendmmsg)(fd, messages, count, flags);
  const int before = errno;
  for (unsigned i = 0; i < count; i++) {
    const ssize_t sent = ovl_hook_sendmsg(fd, &messages[i].msg_hdr, flags);
    if (sent < 0) {
      if (i == 0) return -1;
      ovl_set_errno(before);
      return (int)i;
    }
    messages[i].msg_len = (unsigned)sent;
  }
  return (int)count;
}

HOOKED(int, getsockname, int fd, struct sockaddr *address, socklen_t *length) {
  const socklen_t room = OVL_ON() && length != NULL ? *length : 0;
  const int r = NEXT(getsockname)(fd, address, length);
  if (r == 0 && room != 0) show(address, length, room);
  return r;
}

HOOKED(int, getpeername, int fd, struct sockaddr *address, socklen_t *length) {
  const socklen_t room = OVL_ON() && length != NULL ? *length : 0;
  const int r = NEXT(getpeername)(fd, address, length);
  if (r == 0 && room != 0) show(address, length, room);
  return r;
}

HOOKED(int, accept, int fd, struct sockaddr *address, socklen_t *length) {
  const socklen_t room = OVL_ON() && address != NULL && length != NULL ? *length : 0;
  const int r = NEXT(accept)(fd, address, length);
  if (r >= 0 && room != 0) show(address, length, room);
  return r;
}

HOOKED(int, accept4, int fd, struct sockaddr *address, socklen_t *length, int flags) {
  const socklen_t room = OVL_ON() && address != NULL && length != NULL ? *length : 0;
  const int r = NEXT(accept4)(fd, address, length, flags);
  if (r >= 0 && room != 0) show(address, length, room);
  return r;
}

HOOKED(ssize_t, recvfrom, int fd, void *data, size_t size, int flags, struct sockaddr *address,
       socklen_t *length) {
  const socklen_t room = OVL_ON() && address != NULL && length != NULL ? *length : 0;
  const ssize_t r = NEXT(recvfrom)(fd, data, size, flags, address, length);
  if (r >= 0 && room != 0) show(address, length, room);
  return r;
}

HOOKED(ssize_t, __recvfrom_chk, int fd, void *data, size_t size, size_t capacity, int flags,
       struct sockaddr *address, socklen_t *length) {
  const socklen_t room = OVL_ON() && address != NULL && length != NULL ? *length : 0;
  const ssize_t r = NEXT(__recvfrom_chk)(fd, data, size, capacity, flags, address, length);
  if (r >= 0 && room != 0) show(address, length, room);
  return r;
}

/* Descriptors that came with a message. */
static void receive(struct msghdr *message) {
  for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c != NULL; c = CMSG_NXTHDR(message, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; i++) {
      int fd;
      memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
      ovl_fd_received(fd);
    }
  }
}

HOOKED(ssize_t, recvmsg, int fd, struct msghdr *message, int flags) {
  const socklen_t room =
      OVL_ON() && message != NULL && message->msg_name != NULL ? message->msg_namelen : 0;
  const ssize_t r = NEXT(recvmsg)(fd, message, flags);
  if (r >= 0 && room != 0) show(message->msg_name, &message->msg_namelen, room);
  if (OVL_ON() && r >= 0) receive(message);
  return r;
}

/* msg_namelen in is overwritten, so what the program gave is taken for what the kernel may use: the
 * longest pathname address, and no more than the kernel says it wrote. */
HOOKED(int, recvmmsg, int fd, struct mmsghdr *messages, unsigned count, int flags,
       struct timespec *timeout) {
  const int r = NEXT(recvmmsg)(fd, messages, count, flags, timeout);
  for (int i = 0; OVL_ON() && i < r; i++) {
    struct msghdr *m = &messages[i].msg_hdr;
    if (m->msg_name != NULL) show(m->msg_name, &m->msg_namelen, m->msg_namelen);
    receive(m);
  }
  return r;
}
