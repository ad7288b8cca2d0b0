/* ftw and nftw, done anew over the hooked calls because libc's walk with calls of their own.
 *
 * One directory is read into memory at a time, so a walk holds one descriptor at most, whatever
 * the caller allows. Directories are named by their path from the start (by their last component
 * with FTW_CHDIR), so without FTW_CHDIR the walk ends where a path grows beyond PATH_MAX. */

#include "hook.h"

#include <search.h>
#include <stdlib.h>
#include <string.h>

struct identity {
  dev_t device;
  ino_t inode;
};

struct walk {
  int (*visit)(struct walk *w, const struct stat *st, int type);
  void *callback;
  int flags;
  dev_t device; /* of the starting point, for FTW_MOUNT */
  void *seen;   /* a tree of directories already entered, for a walk that follows links */
  char *path;   /* the object now visited; grows */
  size_t room;
  struct FTW place;
};

/* ftw knows fewer types: a link that leads nowhere is no file, a link is a file. */
static int visit_plain(struct walk *w, const struct stat *st, int type) {
  type = type == FTW_SLN ? FTW_NS : type == FTW_SL ? FTW_F : type == FTW_DP ? FTW_D : type;
  return ((__ftw_func_t)w->callback)(w->path, st, type);
}

static int visit_placed(struct walk *w, const struct stat *st, int type) {
  return ((__nftw_func_t)w->callback)(w->path, st, type, &w->place);
}

static int compare(const void *a, const void *b) {
  const struct identity *x = a, *y = b;
  if (x->device != y->device) return x->device < y->device ? -1 : 1;
  return x->inode < y->inode ? -1 : x->inode > y->inode;
}

/* 1: first visit, 0: seen before, -1: no memory. */
static int enter_once(struct walk *w, const struct stat *st) {
  struct identity *id = malloc(sizeof *id);
  if (id == NULL) return -1;
  *id = (struct identity){st->st_dev, st->st_ino};
  struct identity **found = tsearch(id, &w->seen, compare);
  if (found != NULL && *found == id) return 1;
  free(id);
  return found == NULL ? -1 : 0;
}

/* How the object is called from the directory that we are in. */
static const char *reach(const struct walk *w) {
  return (w->flags & FTW_CHDIR) != 0 && w->path[w->place.base] != '\0' ? w->path + w->place.base
                                                                       : w->path;
}

/* The type, or -1 with errno for what ends the walk. */
static int examine(const struct walk *w, struct stat *st) {
  const char *name = reach(w);
  const int physical = (w->flags & FTW_PHYS) != 0;
  if ((physical ? ovl_hook_lstat(name, st) : ovl_hook_stat(name, st)) == 0)
    return S_ISDIR(st->st_mode) ? FTW_D : S_ISLNK(st->st_mode) ? FTW_SL : FTW_F;
  if (errno != EACCES && errno != ENOENT) return -1;
  if (!physical && ovl_hook_lstat(name, st) == 0 && S_ISLNK(st->st_mode)) return FTW_SLN;
  memset(st, 0, sizeof *st);
  return FTW_NS;
}

static int walk_entry(struct walk *w);

/* Walks the entries of the directory at w->path. `names` are the NUL-terminated names one after the
 * other, ended by an empty one. */
static int walk_names(struct walk *w, const char *names) {
  const size_t length = strlen(w->path);
  const struct FTW place = w->place;
  const int slash = length == 0 || w->path[length - 1] != '/';
  int r = 0;
  for (; r == 0 && *names != '\0'; names += strlen(names) + 1) {
    const size_t needed = length + strlen(names) + 2;
    if (needed > w->room) {
      char *grown = realloc(w->path, needed * 2);
      if (grown == NULL) return -1;
      w->path = grown;
      w->room = needed * 2;
    }
    w->path[length] = '/';
    (void)strcpy(w->path + length + slash, names);
    w->place = (struct FTW){.base = (int)length + slash, .level = place.level + 1};
    r = walk_entry(w);
    if ((w->flags & FTW_ACTIONRETVAL) != 0 && r == FTW_SKIP_SUBTREE) r = 0;
  }
  w->path[length] = '\0';
  w->place = place;
  return (w->flags & FTW_ACTIONRETVAL) != 0 && r == FTW_SKIP_SIBLINGS ? 0 : r;
}

/* The names in a stream, to be freed; NULL with errno on failure. */
static char *read_names(DIR *stream) {
  size_t used = 0, room = 4096;
  char *names = malloc(room);
  ovl_set_errno(0);
  for (const struct dirent *e; names != NULL && (e = ovl_hook_readdir(stream)) != NULL;) {
    if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
    const size_t size = strlen(e->d_name) + 1;
    if (used + size + 1 > room) {
      char *grown = realloc(names, room *= 2);
      if (grown == NULL) break;
      names = grown;
    }
    memcpy(names + used, e->d_name, size);
    used += size;
  }
  if (names != NULL && errno != 0) {
    KEEPING_ERRNO(free(names));
    return NULL;
  }
  if (names != NULL) names[used] = '\0';
  return names;
}

static int walk_directory(struct walk *w, const struct stat *st) {
  DIR *stream = ovl_hook_opendir(reach(w));
  if (stream == NULL) return errno == EACCES ? w->visit(w, st, FTW_DNR) : -1;
  int r = (w->flags & FTW_DEPTH) != 0 ? 0 : w->visit(w, st, FTW_D);
  char *names = r == 0 ? read_names(stream) : NULL;
  if (r == 0 && names == NULL) r = -1;
  const int chdirs = r == 0 && (w->flags & FTW_CHDIR) != 0;
  int above = -1;
  if (chdirs) {
    above = ovl_open_any(AT_FDCWD, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    if (above < 0 || ovl_hook_fchdir(dirfd(stream)) != 0) r = -1;
  }
  KEEPING_ERRNO((void)ovl_hook_closedir(stream));
  if (r == 0) r = walk_names(w, names);
  if (chdirs && above >= 0) {
    if (ovl_hook_fchdir(above) != 0 && r == 0) r = -1;
    ovl_fd_close(above);
  }
  KEEPING_ERRNO(free(names));
  if (r == 0 && (w->flags & FTW_DEPTH) != 0) r = w->visit(w, st, FTW_DP);
  return r;
}

static int walk_entry(struct walk *w) {
  struct stat st;
  const int type = examine(w, &st);
  if (type < 0) return -1;
  if (type != FTW_NS && (w->flags & FTW_MOUNT) != 0 && st.st_dev != w->device) return 0;
  if (type != FTW_D) return w->visit(w, &st, type);
  if ((w->flags & FTW_PHYS) == 0) {
    const int first = enter_once(w, &st);
    if (first <= 0) return first;
  }
  return walk_directory(w, &st);
}

/* With FTW_CHDIR the starting point is visited from the directory that holds it. */
static int walk_from(struct walk *w) {
  const char *slash = strrchr(w->path, '/');
  w->place.base = slash == NULL ? 0 : (int)(slash + 1 - w->path);
  struct stat st;
  int here = -1, r = 0;
  if ((w->flags & FTW_CHDIR) != 0) {
    here = ovl_open_any(AT_FDCWD, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    if (here < 0) return -1;
    if (w->place.base > 0) {
      char *parent = strndup(w->path, (size_t)w->place.base);
      r = parent == NULL ? -1 : ovl_hook_chdir(parent);
      KEEPING_ERRNO(free(parent));
    }
  }
  if (r == 0 && examine(w, &st) == FTW_NS) r = (int)ovl_result(-ENOENT);
  if (r == 0) {
    w->device = st.st_dev;
    r = walk_entry(w);
    const int actions = (w->flags & FTW_ACTIONRETVAL) != 0;
    if (actions && (r == FTW_SKIP_SUBTREE || r == FTW_SKIP_SIBLINGS)) r = 0;
  }
  if (here >= 0) {
    KEEPING_ERRNO((void)ovl_hook_fchdir(here));
    ovl_fd_close(here);
  }
  return r;
}

static int walk(struct walk *w, const char *path) {
  if (*path == '\0') return (int)ovl_result(-ENOENT);
  size_t length = strlen(path);
  while (length > 1 && path[length - 1] == '/') length--;
  w->room = length + 256;
  w->path = malloc(w->room);
  if (w->path == NULL) return -1;
  memcpy(w->path, path, length);
  w->path[length] = '\0';
  const int r = walk_from(w);
  KEEPING_ERRNO(free(w->path); tdestroy(w->seen, free));
  return r;
}

HOOKED(int, ftw, const char *path, __ftw_func_t visit, int descriptors) {
  if (OVL_OFF()) return NEXT(ftw)(path, visit, descriptors);
  struct walk w = {.visit = visit_plain, .callback = (void *)visit};
  return walk(&w, path);
}
HOOK_ALIAS(ftw64, ftw);

HOOKED(int, nftw, const char *path, __nftw_func_t visit, int descriptors, int flags) {
  const int known = FTW_PHYS | FTW_MOUNT | FTW_CHDIR | FTW_DEPTH | FTW_ACTIONRETVAL;
  if (OVL_OFF() || (flags & ~known) != 0) return NEXT(nftw)(path, visit, descriptors, flags);
  struct walk w = {.visit = visit_placed, .callback = (void *)visit, .flags = flags};
  return walk(&w, path);
}
HOOK_ALIAS(nftw64, nftw);
