/* Streams that are opened by path. libc's fopen calls an open of its own, so the file is opened
 * here and given to libc as a descriptor.
 *
 * Where libc insists on opening something itself (freopen; a ",ccs=" character set, which fdopen
 * does not parse) it opens /dev/null with the caller's mode, and the true description then takes
 * the place of that one under the same number. Left out on purpose: the stream functions on memory.
 */

#include "reads.h"

#include <mntent.h>
#include <stdio_ext.h>
#include <string.h>

static const char stand_in[] = "/dev/null";

/* open(2) flags of a mode string, -1: no valid one. libc looks at seven characters. */
static int open_flags(const char *mode) {
  int flags = *mode == 'r'   ? O_RDONLY
              : *mode == 'w' ? O_WRONLY | O_CREAT | O_TRUNC
              : *mode == 'a' ? O_WRONLY | O_CREAT | O_APPEND
                             : -1;
  if (flags < 0) return -1;
  for (int i = 1; i < 7 && mode[i] != '\0' && mode[i] != ','; i++) {
    if (mode[i] == '+') flags = (flags & ~O_ACCMODE) | O_RDWR;
    if (mode[i] == 'x') flags |= O_EXCL;
    if (mode[i] == 'e') flags |= O_CLOEXEC;
  }
  return flags;
}

/* The mode for a stream that libc makes: without 'x', which the stand-in would fail, and without 'm', since a
 * stream that maps a lower file where nobody sees it goes on showing that. */
static void plain_mode(char out[64], const char *mode) {
  size_t used = 0;
  for (int in_options = 0; *mode != '\0' && used < 63; mode++) {
    in_options |= *mode == ',';
    if ((*mode != 'x' && *mode != 'm') || in_options) out[used++] = *mode;
  }
  out[used] = '\0';
}

/* Puts the description open at `fd` under the stream, which libc opened on the stand-in. Closes fd.
 * A stream for appending starts at the end, as libc's own would. */
static FILE *take_place(FILE *stream, int fd, int flags) {
  if (stream == NULL) {
    ovl_fd_close(fd);
    return NULL;
  }
  if ((flags & (O_APPEND | O_ACCMODE)) == (O_APPEND | O_WRONLY)) (void)lx_lseek(fd, 0, SEEK_END);
  const long r = ovl_fd_move(fd, stream->_fileno, (flags & O_CLOEXEC) != 0);
  if (r == 0) {
    ovl_follow_stream(stream->_fileno);
    return stream;
  }
  KEEPING_ERRNO((void)fclose(stream));
  return ovl_null(r);
}

HOOKED(FILE *, fdopen, int fd, const char *mode) {
  if (OVL_OFF() || !ovl_fd_is_lower(fd)) return NEXT(fdopen)(fd, mode);
  char plain[64];
  plain_mode(plain, mode);
  ovl_follow_streams();
  return NEXT(fdopen)(fd, plain);
}
HOOK_ALIAS(_IO_fdopen, fdopen);

HOOKED(FILE *, fopen, const char *path, const char *mode) {
  if (OVL_OFF()) return NEXT(fopen)(path, mode);
  const int flags = open_flags(mode);
  if (flags < 0) return NEXT(fopen)(path, mode); /* EINVAL is libc's to say */
  const long fd = ovl_open(AT_FDCWD, path, flags, 0666, 0);
  if (fd == OVL_PASS) return NEXT(fopen)(path, mode);
  if (fd < 0) return ovl_null(fd);
  char plain[64];
  plain_mode(plain, mode);
  if (strstr(mode, ",ccs=") != NULL)
    return take_place(NEXT(fopen)(stand_in, plain), (int)fd, flags);
  FILE *stream = ovl_hook_fdopen((int)fd, mode);
  if (stream == NULL) ovl_fd_close((int)fd);
  return stream;
}
HOOK_ALIAS(fopen64, fopen);
HOOK_ALIAS(_IO_fopen, fopen);

HOOKED(FILE *, freopen, const char *path, const char *mode, FILE *stream) {
  if (OVL_OFF()) return NEXT(freopen)(path, mode, stream);
  const int flags = open_flags(mode);
  const int old = stream->_fileno;
  if (flags < 0) return NEXT(freopen)(path, mode, stream);
  /* No path: the same file in another mode, which libc reaches through /proc as we do. */
  char same[32];
  if (path == NULL) (void)snprintf(same, sizeof same, "/proc/self/fd/%d", old);
  const long fd = ovl_open(AT_FDCWD, path != NULL ? path : same, flags, 0666, 0);
  if (old >= 0) {
    KEEPING_ERRNO((void)fflush_unlocked(stream)); /* while the core still knows the descriptor */
    ovl_fd_closing(old);
  }
  if (fd == OVL_PASS) return NEXT(freopen)(path, mode, stream);
  if (fd < 0) {
    /* The stream is closed all the same: let libc fail on a path that cannot exist. */
    (void)NEXT(freopen)("", mode, stream);
    return ovl_null(fd);
  }
  char plain[64];
  plain_mode(plain, mode);
  return take_place(NEXT(freopen)(stand_in, plain, stream), (int)fd, flags);
}
HOOK_ALIAS(freopen64, freopen);

HOOKED(int, fclose, FILE *stream) {
  if (OVL_OFF()) return NEXT(fclose)(stream);
  int status;
  if (ovl_pclose_ours(stream, &status)) return status;
  if (stream->_fileno >= 0) ovl_fd_closing(stream->_fileno);
  return NEXT(fclose)(stream);
}
HOOK_ALIAS(_IO_fclose, fclose);

/* A mount table is a stream without locking, kept from exec'd programs. */
HOOKED(FILE *, setmntent, const char *path, const char *mode) {
  if (OVL_OFF()) return NEXT(setmntent)(path, mode);
  char with_cloexec[16];
  const size_t length = strnlen(mode, sizeof with_cloexec);
  if (length + 2 > sizeof with_cloexec) return NEXT(setmntent)(path, mode);
  memcpy(with_cloexec, mode, length);
  memcpy(with_cloexec + length, "e", 2);
  FILE *stream = ovl_hook_fopen(path, with_cloexec);
  if (stream != NULL) (void)__fsetlocking(stream, FSETLOCKING_BYCALLER);
  return stream;
}
HOOK_ALIAS(__setmntent, setmntent);

/* libc's would close the descriptor without a word to the core. */
HOOKED(int, endmntent, FILE *stream) {
  if (OVL_OFF()) return NEXT(endmntent)(stream);
  if (stream != NULL) KEEPING_ERRNO((void)ovl_hook_fclose(stream));
  return 1;
}
HOOK_ALIAS(__endmntent, endmntent);
