/* dlopen of what is in an overlay, in a process whose ld.so does not ask the audit library: the exec
 * hooks saw no need of it (an interpreter outside that loads a module of the overlay).
 *
 * ld.so gets the real path, and afterwards the library's name is the one that the program gave, in the
 * memory that ld.so made for it: the real path has slashes in front, so that there is room.
 * What the library needs by RPATH or RUNPATH in another layer than ld.so would look into is opened
 * first: ld.so takes an object that is there for what is needed. While that lasts, an object's name is
 * the one that it is needed by, unless its own DT_SONAME says the same.
 *
 * A library's constructor still sees the real path, and what was opened first finds symbols of its own
 * libraries before those of who needs it. */

#include "libraries.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH_MAX 32

/* One that was opened before what needs it. */
struct opened {
  struct opened *next;
  struct link_map *map;
  int renamed;
  struct ovl_library library;
};

/* Gives an object the name, if it is the one just opened by the real path. */
static void set_name(struct link_map *map, const struct ovl_library *library, const char *name) {
  if (strcmp(map->l_name, library->real) == 0) strcpy(map->l_name, name);
}

static const char *soname(const struct dl_phdr_info *info) {
  const ElfW(Dyn) *d = NULL;
  for (int i = 0; i < info->dlpi_phnum; i++)
    if (info->dlpi_phdr[i].p_type == PT_DYNAMIC)
      d = (const ElfW(Dyn) *)(info->dlpi_addr + info->dlpi_phdr[i].p_vaddr);
  ElfW(Addr) strings = 0, name = 0;
  for (; d != NULL && d->d_tag != DT_NULL; d++) {
    if (d->d_tag == DT_STRTAB) strings = d->d_un.d_ptr;
    if (d->d_tag == DT_SONAME) name = d->d_un.d_val;
  }
  if (strings == 0 || name == 0) return "";
  return (const char *)((strings < info->dlpi_addr ? info->dlpi_addr : 0) + strings + name);
}

/* An object of that name, as ld.so would take for a needed one. */
struct match {
  const char *name;
  char path[PATH_MAX]; /* its own name */
};

static int has_name(struct dl_phdr_info *info, size_t size, void *passed_match) {
  (void)size;
  struct match *m = passed_match;
  if (strcmp(info->dlpi_name, m->name) != 0 && strcmp(soname(info), m->name) != 0) return 0;
  if (strlen(info->dlpi_name) >= sizeof m->path) return 0;
  strcpy(m->path, info->dlpi_name);
  return 1;
}

static int is_loaded(const char *name) {
  struct match m = {.name = name};
  return dl_iterate_phdr(has_name, &m);
}

/* A reference to an object of that name; another thread may be about to close it. NULL: there is none. */
static void *hold(const char *name) {
  struct match m = {.name = name};
  if (dl_iterate_phdr(has_name, &m) == 0) return NULL;
  return NEXT(dlopen)(m.path, RTLD_LAZY | RTLD_NOLOAD);
}

/* 1: the kernel's own view of the directories leads to the same file. */
static int is_found_plainly(const char *real, const char *name, const struct ovl_seeker *seeker,
                            const char *real_origin) {
  struct ovl_library *plain = malloc(sizeof *plain);
  if (plain == NULL) return 1;
  struct ovl_seeker s = *seeker;
  s.plain = 1;
  s.origin = real_origin;
  struct stat a, b;
  const int same = strchr(name, '/') == NULL && ovl_library_find(plain, name, &s) == 1 &&
                   lx_fstatat(AT_FDCWD, plain->real, &a, 0) == 0 &&
                   lx_fstatat(AT_FDCWD, real, &b, 0) == 0 && a.st_ino == b.st_ino &&
                   a.st_dev == b.st_dev;
  free(plain);
  return same;
}

static void open_needed(struct opened **all, const char *shown, const char *real,
                        const struct ovl_seeker *loader, int depth);

/* Opens one needed library, what it needs itself first. */
static void open_one(struct opened **all, const char *name, const struct ovl_seeker *seeker,
                     const char *real_origin, int depth) {
  struct opened *o = malloc(sizeof *o);
  if (o == NULL) return;
  o->renamed = 0;
  o->map = hold(name);
  if (o->map != NULL) {
    o->next = *all;
    *all = o;
    return;
  }
  if (ovl_library_find(&o->library, name, seeker) != 1) {
    free(o);
    return;
  }
  open_needed(all, o->library.shown, o->library.real, seeker, depth + 1);
  if (is_found_plainly(o->library.real, name, seeker, real_origin) ||
      (o->map = NEXT(dlopen)(o->library.real, RTLD_LAZY)) == NULL) {
    free(o);
    return;
  }
  set_name(o->map, &o->library, o->library.shown);
  o->renamed = !is_loaded(name) && strlen(name) <= strlen(o->map->l_name);
  if (o->renamed) strcpy(o->map->l_name, name);
  o->next = *all;
  *all = o;
}

static void open_needed(struct opened **all, const char *shown, const char *real,
                        const struct ovl_seeker *loader, int depth) {
  if (depth == DEPTH_MAX) return;
  struct {
    struct ovl_needs needs;
    char origin[PATH_MAX];
    char real_origin[PATH_MAX];
  } *m = malloc(sizeof *m);
  if (m == NULL) return;
  if (ovl_library_needs(&m->needs, real) == 1 && ovl_library_origin(shown, m->origin) == 0) {
    const char *end = strrchr(real, '/');
    *(char *)mempcpy(m->real_origin, real, (size_t)(end - real)) = '\0';
    const struct ovl_seeker seeker = {.loader = loader,
                                      .origin = m->origin,
                                      .rpath = m->needs.rpath,
                                      .runpath = m->needs.runpath};
    for (int i = 0; i < m->needs.count; i++)
      open_one(all, m->needs.names[i], &seeker, m->real_origin, depth);
  }
  free(m);
}

void *ovl_open_library(const struct ovl_library *library, int mode) {
  struct opened *all = NULL;
  if ((mode & RTLD_NOLOAD) == 0) open_needed(&all, library->shown, library->real, NULL, 0);
  struct link_map *map = NEXT(dlopen)(library->real, mode);
  if (map != NULL) set_name(map, library, library->shown);
  while (all != NULL) {
    struct opened *o = all;
    all = o->next;
    if (o->renamed) strcpy(o->map->l_name, o->library.shown);
    /* What was opened holds it now. After a failure closing it would lose dlerror's words: it stays. */
    if (map != NULL) (void)dlclose(o->map);
    free(o);
  }
  return map;
}

/* $ORIGIN and search paths of the object that an address is in. 0: it has no search path. */
static int seeker_at(const void *address, struct ovl_seeker *seeker, char origin[PATH_MAX]) {
  Dl_info info;
  struct link_map *map = NULL;
  if (dladdr1(address, &info, (void **)&map, RTLD_DL_LINKMAP) == 0 || map == NULL) return 0;
  const char *strings = NULL;
  ElfW(Xword) rpath = 0, runpath = 0;
  for (const ElfW(Dyn) *d = map->l_ld; d != NULL && d->d_tag != DT_NULL; d++) {
    if (d->d_tag == DT_STRTAB)
      strings = (const char *)(d->d_un.d_ptr + (d->d_un.d_ptr < map->l_addr ? map->l_addr : 0));
    if (d->d_tag == DT_RPATH) rpath = d->d_un.d_val;
    if (d->d_tag == DT_RUNPATH) runpath = d->d_un.d_val;
  }
  if (strings == NULL || (rpath == 0 && runpath == 0)) return 0;
  const char *name = map->l_name[0] != '\0' ? map->l_name : NULL;
  if (ovl_library_origin(name, origin) != 0) return 0;
  *seeker = (struct ovl_seeker){.origin = origin,
                                .rpath = rpath != 0 ? strings + rpath : NULL,
                                .runpath = runpath != 0 ? strings + runpath : NULL,
                                .is_program = name == NULL};
  return 1;
}

int ovl_find_library(struct ovl_library *library, const char *name, const void *caller) {
  char origin[PATH_MAX];
  struct ovl_seeker seeker = {.origin = NULL};
  const int is_path = strchr(name, '/') != NULL;
  if (!is_path || strchr(name, '$') != NULL) {
    if (!seeker_at(caller, &seeker, origin) && !is_path) return 0;
  }
  /* One outside is ld.so's own affair: it finds it by the same path. */
  return ovl_library_find(library, name, &seeker) == 1 &&
         (library->inside || strcmp(library->real, library->shown) != 0);
}
