/* fts(3), done anew over the hooked calls because libc's walks with calls of its own.
 *
 * The working directory is never changed, as with FTS_NOCHDIR; callers may not rely on it and use
 * fts_accpath, which here is the path from the start. Every entry owns its path, so that of a
 * parent stays whole too. States follow fts(3): an entry is on one list (siblings by fts_link,
 * upwards by fts_parent); fts_cur is the one last returned, fts_child a list read ahead by
 * fts_children. Known limit: a path that grows beyond PATH_MAX ends in FTS_NS. */

#include "hook.h"

#include <stdlib.h>
#include <string.h>

/* Private fts_info and fts_options values, as in <fts.h>. */
#define ANY_OPTION (FTS_COMFOLLOW | FTS_LOGICAL | FTS_NOCHDIR | FTS_NOSTAT | FTS_PHYSICAL | \
                    FTS_SEEDOT | FTS_XDEV | FTS_WHITEOUT)

enum purpose { TO_READ, TO_LIST, TO_LIST_NAMES };

static int is_dot(const char *name) {
  return name[0] == '.' && (name[1] == '\0' || (name[1] == '.' && name[2] == '\0'));
}

/* The entry, its stat and its path in one block, so that free() of the entry ends all of it. */
static FTSENT *make_entry(FTSENT *parent, const char *name) {
  const char *above = parent->fts_level >= FTS_ROOTLEVEL ? parent->fts_path : "";
  const size_t length = strlen(name), above_length = strlen(above);
  const size_t slash = above_length > 0 && above[above_length - 1] != '/';
  const size_t align = _Alignof(struct stat);
  const size_t head = (sizeof(FTSENT) + length + 1 + align - 1) / align * align;
  FTSENT *e = calloc(1, head + sizeof(struct stat) + above_length + slash + length + 1);
  if (e == NULL) return NULL;
  e->fts_statp = (struct stat *)(void *)((char *)e + head);
  e->fts_path = (char *)(e->fts_statp + 1);
  memcpy(e->fts_path, above, above_length);
  e->fts_path[above_length] = '/';
  memcpy(e->fts_path + above_length + slash, name, length + 1);
  memcpy(e->fts_name, name, length + 1);
  e->fts_accpath = e->fts_path;
  e->fts_pathlen = (unsigned short)(above_length + slash + length);
  e->fts_namelen = (unsigned short)length;
  e->fts_parent = parent;
  e->fts_level = (short)(parent->fts_level + 1);
  e->fts_instr = FTS_NOINSTR;
  return e;
}

static void drop_list(FTSENT *e) {
  while (e != NULL) {
    FTSENT *next = e->fts_link;
    free(e);
    e = next;
  }
}

static unsigned short directory_info(FTSENT *e) {
  e->fts_dev = e->fts_statp->st_dev;
  e->fts_ino = e->fts_statp->st_ino;
  e->fts_nlink = e->fts_statp->st_nlink;
  if (is_dot(e->fts_name)) return FTS_DOT;
  for (FTSENT *t = e->fts_parent; t->fts_level >= FTS_ROOTLEVEL; t = t->fts_parent)
    if (t->fts_ino == e->fts_ino && t->fts_dev == e->fts_dev) {
      e->fts_cycle = t;
      return FTS_DC;
    }
  return FTS_D;
}

static unsigned short examine(const FTS *walk, FTSENT *e, int follow) {
  struct stat *st = e->fts_statp;
  if ((walk->fts_options & FTS_LOGICAL) != 0 || follow) {
    if (ovl_hook_stat(e->fts_accpath, st) != 0) {
      const int error = errno;
      if (ovl_hook_lstat(e->fts_accpath, st) == 0) {
        ovl_set_errno(0);
        return FTS_SLNONE;
      }
      e->fts_errno = error;
      memset(st, 0, sizeof *st);
      return FTS_NS;
    }
  } else if (ovl_hook_lstat(e->fts_accpath, st) != 0) {
    e->fts_errno = errno;
    memset(st, 0, sizeof *st);
    return FTS_NS;
  }
  if (S_ISDIR(st->st_mode)) return directory_info(e);
  e->fts_dev = st->st_dev;
  e->fts_ino = st->st_ino;
  e->fts_nlink = st->st_nlink;
  return S_ISLNK(st->st_mode) ? FTS_SL : S_ISREG(st->st_mode) ? FTS_F : FTS_DEFAULT;
}

/* Sorts a list of `count` entries; in the given order if there is no memory for it. */
static FTSENT *sort(const FTS *walk, FTSENT *head, size_t count) {
  if (walk->fts_compar == NULL || count < 2) return head;
  FTSENT **array = malloc(count * sizeof *array);
  if (array == NULL) return head;
  size_t n = 0;
  for (FTSENT *e = head; e != NULL; e = e->fts_link) array[n++] = e;
  qsort(array, n, sizeof *array, (__compar_fn_t)walk->fts_compar);
  for (size_t i = 0; i < n; i++) array[i]->fts_link = i + 1 < n ? array[i + 1] : NULL;
  head = array[0];
  free(array);
  return head;
}

static int wants_stat(const FTS *walk, enum purpose purpose, unsigned char type) {
  if (purpose == TO_LIST_NAMES) return 0;
  const int spare = FTS_NOSTAT | FTS_PHYSICAL;
  return (walk->fts_options & spare) != spare || type == DT_DIR || type == DT_UNKNOWN;
}

/* Reads the directory fts_cur. NULL: nothing in it, or an error told by its fts_info. */
static FTSENT *build(FTS *walk, enum purpose purpose) {
  FTSENT *directory = walk->fts_cur, *head = NULL, **tail = &head;
  size_t count = 0;
  DIR *stream = ovl_hook_opendir(directory->fts_accpath);
  if (stream == NULL) {
    if (purpose == TO_READ) {
      directory->fts_info = FTS_DNR;
      directory->fts_errno = errno;
    }
    return NULL;
  }
  for (const struct dirent *d; (d = ovl_hook_readdir(stream)) != NULL;) {
    if ((walk->fts_options & FTS_SEEDOT) == 0 && is_dot(d->d_name)) continue;
    FTSENT *e = make_entry(directory, d->d_name);
    if (e == NULL) {
      KEEPING_ERRNO(drop_list(head); (void)ovl_hook_closedir(stream));
      directory->fts_info = FTS_ERR;
      walk->fts_options |= FTS_STOP;
      return NULL;
    }
    e->fts_info = wants_stat(walk, purpose, d->d_type) ? examine(walk, e, 0) : FTS_NSOK;
    *tail = e;
    tail = &e->fts_link;
    count++;
  }
  (void)ovl_hook_closedir(stream);
  if (head == NULL && purpose == TO_READ) directory->fts_info = FTS_DP;
  return sort(walk, head, count);
}

/* The starting points: their path is the argument, their name its last component. */
static FTSENT *make_roots(const FTS *walk, FTSENT *above, char *const *paths) {
  FTSENT *head = NULL, **tail = &head;
  size_t count = 0;
  for (; *paths != NULL; paths++, count++) {
    FTSENT *e = **paths == '\0' ? ovl_null(-ENOENT) : make_entry(above, *paths);
    if (e == NULL) {
      KEEPING_ERRNO(drop_list(head));
      return NULL;
    }
    e->fts_info = examine(walk, e, (walk->fts_options & FTS_COMFOLLOW) != 0);
    if (e->fts_info == FTS_DOT) e->fts_info = FTS_D;
    *tail = e;
    tail = &e->fts_link;
  }
  return sort(walk, head, count);
}

/* Done when the entry is returned: a comparison function may want the whole argument before. */
static void load_root(FTS *walk, FTSENT *e) {
  walk->fts_dev = e->fts_dev;
  const char *slash = strrchr(e->fts_name, '/');
  if (slash == NULL || (slash == e->fts_name && slash[1] == '\0')) return;
  e->fts_namelen = (unsigned short)strlen(++slash);
  memmove(e->fts_name, slash, e->fts_namelen + 1u);
}

HOOKED(FTS *, fts_open, char *const *paths, int options, ovl_fts_compare *compare) {
  if (OVL_OFF()) return NEXT(fts_open)(paths, options, compare);
  if ((options & ~ANY_OPTION) != 0) return ovl_null(-EINVAL);
  FTS *walk = calloc(1, sizeof *walk);
  FTSENT *above = calloc(1, sizeof *above), *first = calloc(1, sizeof *first);
  if (walk != NULL && above != NULL && first != NULL) {
    walk->fts_options = options;
    walk->fts_compar = (int (*)(const void *, const void *))(void *)compare;
    walk->fts_rfd = -1;
    above->fts_level = FTS_ROOTPARENTLEVEL;
    first->fts_level = FTS_ROOTLEVEL;
    first->fts_parent = above;
    first->fts_info = FTS_INIT;
    walk->fts_cur = first;
    first->fts_link = make_roots(walk, above, paths);
    if (first->fts_link != NULL || *paths == NULL) return walk;
  }
  KEEPING_ERRNO(free(walk); free(above); free(first));
  return NULL;
}
HOOK_ALIAS(fts64_open, fts_open);

/* Goes on to `e`; what fts_set said of it while it waited counts now. NULL: it is to be skipped. */
static FTSENT *arrive(FTS *walk, FTSENT *e) {
  if (e->fts_instr == FTS_SKIP && e->fts_level > FTS_ROOTLEVEL) return NULL;
  if (e->fts_instr == FTS_FOLLOW) {
    e->fts_info = examine(walk, e, 1);
    e->fts_instr = FTS_NOINSTR;
  }
  if (e->fts_level == FTS_ROOTLEVEL) load_root(walk, e);
  return walk->fts_cur = e;
}

/* The entry behind `e` in a walk: its next sibling, else its parent a second time. */
static FTSENT *advance(FTS *walk, FTSENT *e) {
  for (;;) {
    FTSENT *next = e->fts_link, *parent = e->fts_parent;
    free(e);
    if (next == NULL) {
      if (parent->fts_level == FTS_ROOTPARENTLEVEL) {
        free(parent);
        ovl_set_errno(0);
        return walk->fts_cur = NULL;
      }
      parent->fts_info = parent->fts_errno != 0 ? FTS_ERR : FTS_DP;
      return walk->fts_cur = parent;
    }
    FTSENT *reached = arrive(walk, next);
    if (reached != NULL) return reached;
    e = next;
  }
}

static void drop_children(FTS *walk) {
  drop_list(walk->fts_child);
  walk->fts_child = NULL;
}

/* The first child of the directory fts_cur, or the directory itself where there is none. */
static FTSENT *descend(FTS *walk, FTSENT *directory) {
  if ((walk->fts_options & FTS_NAMEONLY) != 0) { /* a list of names only is no list to walk */
    walk->fts_options &= ~FTS_NAMEONLY;
    drop_children(walk);
  }
  FTSENT *child = walk->fts_child != NULL ? walk->fts_child : build(walk, TO_READ);
  walk->fts_child = NULL;
  if (child == NULL) return (walk->fts_options & FTS_STOP) != 0 ? NULL : directory;
  FTSENT *reached = arrive(walk, child);
  return reached != NULL ? reached : advance(walk, child);
}

HOOKED(FTSENT *, fts_read, FTS *walk) {
  if (OVL_OFF()) return NEXT(fts_read)(walk);
  FTSENT *e = walk->fts_cur;
  if (e == NULL || (walk->fts_options & FTS_STOP) != 0) return NULL;
  const unsigned short instruction = e->fts_instr;
  e->fts_instr = FTS_NOINSTR;
  if (instruction == FTS_AGAIN ||
      (instruction == FTS_FOLLOW && (e->fts_info == FTS_SL || e->fts_info == FTS_SLNONE))) {
    e->fts_info = examine(walk, e, instruction == FTS_FOLLOW);
    return e;
  }
  if (e->fts_info != FTS_D) return advance(walk, e);
  const int elsewhere = (walk->fts_options & FTS_XDEV) != 0 && e->fts_dev != walk->fts_dev;
  if (instruction == FTS_SKIP || elsewhere) {
    drop_children(walk);
    e->fts_info = FTS_DP;
    return e;
  }
  return descend(walk, e);
}
HOOK_ALIAS(fts64_read, fts_read);

HOOKED(FTSENT *, fts_children, FTS *walk, int options) {
  if (OVL_OFF()) return NEXT(fts_children)(walk, options);
  if (options != 0 && options != FTS_NAMEONLY) return ovl_null(-EINVAL);
  ovl_set_errno(0);
  FTSENT *e = walk->fts_cur;
  if (e == NULL || (walk->fts_options & FTS_STOP) != 0) return NULL;
  if (e->fts_info == FTS_INIT) return e->fts_link;
  if (e->fts_info != FTS_D) return NULL;
  drop_children(walk);
  if (options == FTS_NAMEONLY) walk->fts_options |= FTS_NAMEONLY;
  return walk->fts_child = build(walk, options == FTS_NAMEONLY ? TO_LIST_NAMES : TO_LIST);
}
HOOK_ALIAS(fts64_children, fts_children);

HOOKED(int, fts_set, FTS *walk, FTSENT *entry, int instruction) {
  if (OVL_OFF()) return NEXT(fts_set)(walk, entry, instruction);
  const int known = instruction == 0 || instruction == FTS_AGAIN || instruction == FTS_FOLLOW ||
                    instruction == FTS_NOINSTR || instruction == FTS_SKIP;
  if (!known) {
    ovl_set_errno(EINVAL);
    return 1;
  }
  entry->fts_instr = (unsigned short)instruction;
  return 0;
}
HOOK_ALIAS(fts64_set, fts_set);

HOOKED(int, fts_close, FTS *walk) {
  if (OVL_OFF()) return NEXT(fts_close)(walk);
  FTSENT *e = walk->fts_cur;
  while (e != NULL) {
    FTSENT *next = e->fts_link != NULL ? e->fts_link : e->fts_parent;
    free(e);
    e = next;
  }
  drop_children(walk);
  free(walk);
  return 0;
}
HOOK_ALIAS(fts64_close, fts_close);
