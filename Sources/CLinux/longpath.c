#include "CLinux.h"

static long length_of(const char *p) {
  long n = 0;
  while (p[n] != '\0') n++;
  return n;
}

long lx_long_prefix(const char *p, const char **rest) {
  long left = length_of(p);
  if (p[0] != '/' || left < PATH_MAX) return -ENAMETOOLONG;
  char *piece = lx_mmap(PATH_MAX, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
  if (piece == NULL) return -ENOMEM;
  long at = AT_FDCWD;
  while (left > LX_PIECE) {
    long end = LX_PIECE;
    while (end > 0 && p[end] != '/') end--;
    if (end == 0) { /* no such name */
      if (at >= 0) (void)lx_close((int)at);
      at = -ENAMETOOLONG;
      break;
    }
    for (long i = 0; i < end; i++) piece[i] = p[i];
    piece[end] = '\0';
    const long next = lx_call6(SYS_openat, at, LX_CAST(piece), O_PATH | O_DIRECTORY | O_CLOEXEC, 0, 0, 0);
    if (at >= 0) (void)lx_close((int)at);
    at = next;
    if (at < 0) break;
    while (p[end] == '/') end++;
    p += end;
    left -= end;
  }
  (void)lx_munmap(piece, PATH_MAX);
  *rest = p;
  return at;
}

long lx_long_at(long n, int d, const char *p, long a, long b, long c) {
  const char *rest;
  (void)d; /* the path is absolute */
  const long at = lx_long_prefix(p, &rest);
  if (at < 0) return at;
  const long r = lx_call6(n, at, LX_CAST(rest[0] != '\0' ? rest : "."), a, b, c, 0);
  (void)lx_close((int)at);
  return r;
}

long lx_long_plain(long n, const char *p, long a, long b, long c, long d) {
  const char *rest;
  const long at = lx_long_prefix(p, &rest);
  if (at < 0) return at;
  long r = -ENOMEM;
  char *path = lx_mmap(PATH_MAX, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
  if (path != NULL) {
    lx_descriptor_path(path, (int)at, rest);
    r = lx_call6(n, LX_CAST(path), a, b, c, d, 0);
    (void)lx_munmap(path, PATH_MAX);
  }
  (void)lx_close((int)at);
  return r;
}

long lx_long_pair(long n, int d, const char *p, int e, const char *q, long f) {
  const char *rest = p, *other = q;
  const long at = length_of(p) < PATH_MAX ? d : lx_long_prefix(p, &rest);
  if (at < 0 && at != AT_FDCWD) return at;
  const long to = length_of(q) < PATH_MAX ? e : lx_long_prefix(q, &other);
  long r = to;
  if (to >= 0 || to == AT_FDCWD)
    r = rest == p && other == q ? -ENAMETOOLONG
                                : lx_call6(n, at, LX_CAST(rest), to, LX_CAST(other), f, 0);
  if (rest != p && at >= 0) (void)lx_close((int)at);
  if (other != q && to >= 0) (void)lx_close((int)to);
  return r;
}
