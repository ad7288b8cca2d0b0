/* scandir and glob. libc's read directories with calls of their own.
 *
 * scandir is done anew over the hooked stream functions. glob stays libc's: it can be told which
 * functions to use (GLOB_ALTDIRFUNC), and is told ours. Callers bound to glob@GLIBC_2.2.5 get the
 * present version, which differs in finding dangling links. Left out on purpose: wordexp, whose
 * pathname expansion inside libc still sees the layers. */

#include "hook.h"

#include <stdlib.h>
#include <string.h>

struct list {
  struct dirent **entries;
  size_t count, room;
};

static void drop(struct list *l) {
  for (size_t i = 0; i < l->count; i++) free(l->entries[i]);
  free(l->entries);
}

static int keep(struct list *l, const struct dirent *entry) {
  if (l->count == l->room) {
    const size_t room = l->room == 0 ? 16 : l->room * 2;
    struct dirent **grown = realloc(l->entries, room * sizeof *grown);
    if (grown == NULL) return -1;
    l->entries = grown;
    l->room = room;
  }
  struct dirent *copy = malloc(entry->d_reclen);
  if (copy == NULL) return -1;
  l->entries[l->count++] = memcpy(copy, entry, entry->d_reclen);
  return 0;
}

/* Reads the whole stream; -1 with errno on failure. A select function may set errno as it likes. */
static int read_all(DIR *stream, struct list *l, ovl_select *select) {
  for (;;) {
    ovl_set_errno(0);
    const struct dirent *entry = ovl_hook_readdir(stream);
    if (entry == NULL) return errno == 0 ? 0 : -1;
    if ((select == NULL || select(entry) != 0) && keep(l, entry) != 0) return -1;
  }
}

static int scan(int fd, struct dirent ***out, ovl_select *select, ovl_compare *compare) {
  const int before = errno;
  DIR *stream = fdopendir(fd);
  if (stream == NULL) {
    ovl_fd_close(fd);
    return -1;
  }
  struct list l = {NULL, 0, 0};
  const int r = read_all(stream, &l, select);
  KEEPING_ERRNO((void)ovl_hook_closedir(stream));
  if (r != 0) {
    KEEPING_ERRNO(drop(&l));
    return -1;
  }
  if (compare != NULL && l.count > 1)
    qsort(l.entries, l.count, sizeof *l.entries, (__compar_fn_t)(void *)compare);
  ovl_set_errno(before);
  *out = l.entries;
  return (int)l.count;
}

HOOKED(int, scandirat, int dirfd, const char *path, struct dirent ***list, ovl_select *select,
       ovl_compare *compare) {
  if (OVL_OFF()) return NEXT(scandirat)(dirfd, path, list, select, compare);
  const long fd = ovl_open(dirfd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NONBLOCK, 0, 0);
  if (fd == OVL_PASS) return NEXT(scandirat)(dirfd, path, list, select, compare);
  return fd < 0 ? (int)ovl_result(fd) : scan((int)fd, list, select, compare);
}
HOOK_ALIAS(scandirat64, scandirat);

HOOKED(int, scandir, const char *path, struct dirent ***list, ovl_select *select,
       ovl_compare *compare) {
  if (OVL_OFF()) return NEXT(scandir)(path, list, select, compare);
  return ovl_hook_scandirat(AT_FDCWD, path, list, select, compare);
}
HOOK_ALIAS(scandir64, scandir);

static void *glob_opendir(const char *path) { return ovl_hook_opendir(path); }
static struct dirent *glob_readdir(void *stream) { return ovl_hook_readdir(stream); }
static void glob_closedir(void *stream) { (void)ovl_hook_closedir(stream); }

HOOKED(int, glob, const char *pattern, int flags, ovl_glob_error *error, glob_t *result) {
  if (OVL_OFF() || result == NULL || (flags & GLOB_ALTDIRFUNC) != 0)
    return NEXT(glob)(pattern, flags, error, result);
  result->gl_opendir = glob_opendir;
  result->gl_readdir = glob_readdir;
  result->gl_closedir = glob_closedir;
  result->gl_stat = ovl_hook_stat;
  result->gl_lstat = ovl_hook_lstat;
  const int r = NEXT(glob)(pattern, flags | GLOB_ALTDIRFUNC, error, result);
  result->gl_flags &= ~GLOB_ALTDIRFUNC;
  return r;
}
HOOK_ALIAS(glob64, glob);
