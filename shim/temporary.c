/* Temporary files. libc draws a name and opens it with an open of its own; here the drawing is ours
 * and the open goes through the core. tmpfile, tmpnam and tempnam matter because P_tmpdir may lie
 * in an overlay (target=/). */

#include "hook.h"

#include <stdlib.h>
#include <string.h>

/* As many tries as libc makes: 62 to the third. */
#define TRIES (62 * 62 * 62)
#define LETTERS 6

/* What is done with a drawn name: 0 or more, -EEXIST to draw again, another -errno, or OVL_PASS. */
typedef long attempt(const char *name, int flags);

static long try_open(const char *name, int flags) {
  return ovl_open(AT_FDCWD, name, (flags & ~O_ACCMODE) | O_RDWR | O_CREAT | O_EXCL, 0600, 0);
}

static long try_mkdir(const char *name, int flags) {
  (void)flags;
  return ovl_mkdir(AT_FDCWD, name, 0700);
}

static long try_absent(const char *name, int flags) {
  (void)flags;
  struct stat st;
  const long r = ovl_stat(AT_FDCWD, name, &st, AT_SYMLINK_NOFOLLOW);
  return r == -ENOENT ? 0 : r == 0 ? -EEXIST : r;
}

static void draw(char *letters) {
  static const char alphabet[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
  uint64_t random = 0;
  if (lx_getrandom(&random, sizeof random) != sizeof random) {
    struct timespec now;
    (void)lx_call6(SYS_clock_gettime, CLOCK_MONOTONIC, (long)&now, 0, 0, 0, 0);
    random = (uint64_t)now.tv_nsec * 2862933555777941757u + (uint64_t)lx_gettid();
  }
  for (int i = 0; i < LETTERS; i++, random /= 62) letters[i] = alphabet[random % 62];
}

/* Replaces the template's XXXXXX (before `suffix` more characters) till the attempt is made. After
 * OVL_PASS the template is as it was, for the next function. */
static long generate(char *template, int suffix, int flags, attempt *make) {
  static const char placeholder[] = "XXXXXX";
  const size_t length = strlen(template);
  if (suffix < 0 || length < LETTERS + (size_t)suffix) return -EINVAL;
  char *letters = template + length - (size_t)suffix - LETTERS;
  if (memcmp(letters, placeholder, LETTERS) != 0) return -EINVAL;
  for (int i = 0; i < TRIES; i++) {
    draw(letters);
    const long r = make(template, flags);
    if (r == OVL_PASS) memcpy(letters, placeholder, LETTERS);
    if (r != -EEXIST) return r;
  }
  return -EEXIST;
}

HOOKED(int, mkstemp, char *template) {
  const long r = OVL_ON() ? generate(template, 0, 0, try_open) : OVL_PASS;
  return r == OVL_PASS ? NEXT(mkstemp)(template) : (int)ovl_result(r);
}
HOOK_ALIAS(mkstemp64, mkstemp);

HOOKED(int, mkostemp, char *template, int flags) {
  const long r = OVL_ON() ? generate(template, 0, flags, try_open) : OVL_PASS;
  return r == OVL_PASS ? NEXT(mkostemp)(template, flags) : (int)ovl_result(r);
}
HOOK_ALIAS(mkostemp64, mkostemp);

HOOKED(int, mkstemps, char *template, int suffix) {
  const long r = OVL_ON() ? generate(template, suffix, 0, try_open) : OVL_PASS;
  return r == OVL_PASS ? NEXT(mkstemps)(template, suffix) : (int)ovl_result(r);
}
HOOK_ALIAS(mkstemps64, mkstemps);

HOOKED(int, mkostemps, char *template, int suffix, int flags) {
  const long r = OVL_ON() ? generate(template, suffix, flags, try_open) : OVL_PASS;
  return r == OVL_PASS ? NEXT(mkostemps)(template, suffix, flags) : (int)ovl_result(r);
}
HOOK_ALIAS(mkostemps64, mkostemps);

HOOKED(char *, mkdtemp, char *template) {
  const long r = OVL_ON() ? generate(template, 0, 0, try_mkdir) : OVL_PASS;
  if (r == OVL_PASS) return NEXT(mkdtemp)(template);
  return r < 0 ? ovl_null(r) : template;
}

/* mktemp always returns its argument, emptied on failure. */
HOOKED(char *, mktemp, char *template) {
  const long r = OVL_ON() ? generate(template, 0, 0, try_absent) : OVL_PASS;
  if (r == OVL_PASS) return NEXT(mktemp)(template);
  if (ovl_result(r) < 0) *template = '\0';
  return template;
}

HOOKED(FILE *, tmpfile, void) {
  if (OVL_OFF()) return NEXT(tmpfile)();
  long fd = ovl_open(AT_FDCWD, P_tmpdir, O_TMPFILE | O_RDWR | O_EXCL, 0600, 0);
  if (fd == OVL_PASS) return NEXT(tmpfile)();
  if (fd < 0) { /* no O_TMPFILE on the upper's file system */
    char name[] = P_tmpdir "/tmpfXXXXXX";
    fd = generate(name, 0, 0, try_open);
    if (fd >= 0) (void)ovl_unlink(AT_FDCWD, name, 0);
  }
  if (fd == OVL_PASS) return NEXT(tmpfile)();
  if (fd < 0) return ovl_null(fd);
  FILE *stream = fdopen((int)fd, "w+");
  if (stream == NULL) ovl_fd_close((int)fd);
  return stream;
}
HOOK_ALIAS(tmpfile64, tmpfile);

static int is_directory(const char *path) {
  struct stat st;
  if (path == NULL) return 0;
  long r = ovl_stat(AT_FDCWD, path, &st, 0);
  if (r == OVL_PASS) r = lx_fstatat(AT_FDCWD, path, &st, 0);
  return r == 0 && S_ISDIR(st.st_mode);
}

HOOKED(char *, tempnam, const char *directory, const char *prefix) {
  if (OVL_OFF()) return NEXT(tempnam)(directory, prefix);
  const char *const wanted[] = {secure_getenv("TMPDIR"), directory, P_tmpdir, "/tmp"};
  for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
    if (!is_directory(wanted[i])) continue;
    char *name;
    const int length = prefix == NULL ? 4 : (int)strnlen(prefix, 5);
    if (asprintf(&name, "%s/%.*sXXXXXX", wanted[i], length, prefix == NULL ? "file" : prefix) < 0)
      return NULL;
    (void)ovl_hook_mktemp(name);
    if (*name != '\0') return name;
    free(name);
    return NULL;
  }
  return ovl_null(-ENOENT);
}

HOOKED(char *, tmpnam_r, char *buffer) {
  if (OVL_OFF() || buffer == NULL) return NEXT(tmpnam_r)(buffer);
  (void)stpcpy(buffer, P_tmpdir "/fileXXXXXX");
  const long r = generate(buffer, 0, 0, try_absent);
  if (r == OVL_PASS) return NEXT(tmpnam_r)(buffer);
  return r < 0 ? ovl_null(r) : buffer;
}

HOOKED(char *, tmpnam, char *buffer) {
  static char own[L_tmpnam];
  if (OVL_OFF()) return NEXT(tmpnam)(buffer);
  return ovl_hook_tmpnam_r(buffer != NULL ? buffer : own);
}
