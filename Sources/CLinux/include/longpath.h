#ifndef OVERLOCK_LONGPATH_H
#define OVERLOCK_LONGPATH_H

/* Calls on a real path that may be longer than the kernel takes (PATH_MAX): a layer's root and what is below
 * it, or a directory so deep that only relative paths led there. The kernel's refusal costs an ordinary call
 * one compare; the path's beginning is then opened as a directory, piece by piece, and the call made
 * relative to that. Only for absolute paths that we made ourselves: a program's own path that is too long
 * is refused before. */

#include <errno.h>
#include <stddef.h>

/* The longest path that is handed to the kernel in one piece. */
#define LX_PIECE 4000

#define LX_IS_LONG(r) __builtin_expect((r) == -ENAMETOOLONG, 0)

/* n(d, p, a, b, c): the path is the second argument. */
long lx_long_at(long n, int d, const char *p, long a, long b, long c)
    __attribute__((cold, visibility("hidden")));
/* n(p, a, b, c, d): a call that knows no directory descriptors. */
long lx_long_plain(long n, const char *p, long a, long b, long c, long d)
    __attribute__((cold, visibility("hidden")));
/* n(d, p, e, q, f): two paths. */
long lx_long_pair(long n, int d, const char *p, int e, const char *q, long f)
    __attribute__((cold, visibility("hidden")));

/* An O_PATH descriptor of a directory on the way, and what is left of the path from there, at most LX_PIECE
 * bytes; or -errno. -ENAMETOOLONG: it is not so long, some name in it is. */
long lx_long_prefix(const char *p, const char **rest) __attribute__((cold, visibility("hidden")));

#endif
