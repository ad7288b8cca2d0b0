/* The audit library: ld.so asks it (rtld-audit(7)) where each shared library is, and it answers with
 * the merged tree. The exec hooks name it in LD_AUDIT for the programs that need it, no others: it is
 * a second copy of the core in the process, loaded before the program's own libraries.
 *
 * Invariants:
 * - It links no libc: ld.so gives every audit library a name space of its own, in which libc would be
 *   loaded a second time. freestanding.c has what compilers call.
 * - ld.so calls it under its own lock: one thread at a time, and none of it is shared.
 * - The program sees the name that ld.so would have in a plain tree: a library is opened by its real
 *   path, with so many slashes in front that the shown path fits into the memory ld.so made for it;
 *   la_objopen writes it there, before anybody reads it.
 * - ld.so never looks again where it has seen no directory, so the search is done here as a whole
 *   (LA_SER_ORIG) and ld.so's own candidates in RPATH, RUNPATH and LD_LIBRARY_PATH come too late to
 *   find anything else. What the search does not find goes on to ld.so, which then says so itself. */

#define _GNU_SOURCE 1
#include <abi.h>
#include <syscalls.h>

#include <elf.h>
#include <link.h>
#include <linux/limits.h>
#include <stdint.h>

#define EXPORTED __attribute__((visibility("default")))

/* One object in the process. */
struct object {
  struct object *next; /* all of them */
  const struct link_map *map; /* NULL: free */
  struct ovl_seeker seeker;
  char *origin; /* PATH_MAX bytes, made when it is needed */
};

static struct object *objects;
static struct object *program;
static const char *search_path;
static const char *platform;
static const char *argument; /* of ld.so, if that was started: the program; else NULL */
static int ready;   /* there are overlays */
static int running; /* the program's own code may have run: it may have changed directory */

static struct ovl_search_cache cache;

/* What was found last, till ld.so has opened it. */
static struct ovl_library found;
static struct object *found_for;

static size_t length(const char *string) {
  size_t n = 0;
  while (string[n] != '\0') n++;
  return n;
}

static int same(const char *a, const char *b) {
  while (*a != '\0' && *a == *b) a++, b++;
  return *a == *b;
}

static const char *value(const char *entry, const char *name) {
  while (*name != '\0' && *entry == *name) entry++, name++;
  return *name == '\0' && *entry == '=' ? entry + 1 : NULL;
}

static const char *variable(char *const *environment, const char *name) {
  for (; *environment != NULL; environment++) {
    const char *found_value = value(*environment, name);
    if (found_value != NULL) return found_value;
  }
  return NULL;
}

/* Programs overwrite their environment. */
static const char *keep(const char *string) {
  if (string == NULL) return NULL;
  const size_t size = length(string) + 1;
  char *copy = ovl_keep(size);
  for (size_t i = 0; copy != NULL && i < size; i++) copy[i] = string[i];
  return copy;
}

/* Tells liboverlock.so, which reads the environment after us, that ld.so asks us: the first byte of our
 * element of LD_AUDIT becomes OVL_AUDIT_MARK. */
static void report(char *const *environment) {
  static const char own[] = "/" OVL_AUDIT_NAME;
  const char *list = variable(environment, "LD_AUDIT");
  if (list == NULL) return;
  for (char *at = (char *)list; *at != '\0';) {
    char *end = at;
    while (*end != '\0' && *end != ':') end++;
    const size_t size = (size_t)(end - at);
    if (size >= sizeof own - 1) {
      const char *name = end - (sizeof own - 1);
      size_t i = 0;
      while (i < sizeof own - 1 && name[i] == own[i]) i++;
      if (i == sizeof own - 1) *at = OVL_AUDIT_MARK;
    }
    at = *end == ':' ? end + 1 : end;
  }
}

/* 1: ld.so itself was started, with the program as its argument. */
static int is_loader(void) {
  char exe[PATH_MAX];
  const long n = lx_readlinkat(AT_FDCWD, "/proc/self/exe", exe, sizeof exe - 1);
  if (n <= 0) return 0;
  const char *name = exe + n;
  exe[n] = '\0';
  while (name > exe && name[-1] != '/') name--;
  return name[0] == 'l' && name[1] == 'd' && (name[2] == '-' || name[2] == '.');
}

__attribute__((constructor)) static void begin(int argc, char **argv, char **environment) {
  if (environment == NULL) return;
  const char *options = variable(environment, "OVERLOCK");
  if (options == NULL || *options == '\0') return;
  char message[512];
  /* What cannot be set up is reported, and ends the process, in liboverlock.so. */
  if (ovl_start(options, variable(environment, "OVERLOCK_STATE"), message, sizeof message) < 0) return;
  search_path = keep(variable(environment, "LD_LIBRARY_PATH"));
  char *const *end = environment;
  while (*end != NULL) end++;
  for (const ElfW(auxv_t) *a = (const ElfW(auxv_t) *)(end + 1); a->a_type != AT_NULL; a++)
    if (a->a_type == AT_PLATFORM) platform = (const char *)a->a_un.a_val;
  if (argc > 0 && is_loader()) argument = keep(argv[0]);
  ready = 1;
  report(environment);
}

EXPORTED unsigned la_version(unsigned version) {
  return !ready ? 0 : version < LAV_CURRENT ? version : LAV_CURRENT;
}

EXPORTED void la_preinit(uintptr_t *cookie) {
  (void)cookie;
  running = 1;
}

static struct object *make_object(const struct link_map *map) {
  struct object *o = objects;
  while (o != NULL && o->map != NULL) o = o->next;
  if (o == NULL) {
    o = ovl_keep(sizeof *o);
    if (o == NULL) return NULL;
    *o = (struct object){.next = objects};
    objects = o;
  }
  o->map = map;
  return o;
}

/* DT_RPATH and DT_RUNPATH. ld.so has relocated the section's addresses, unless it is read-only. */
static void read_paths(struct ovl_seeker *s, const struct link_map *map) {
  const char *strings = NULL;
  const ElfW(Dyn) *rpath = NULL, *runpath = NULL;
  for (const ElfW(Dyn) *d = map->l_ld; d != NULL && d->d_tag != DT_NULL; d++) {
    if (d->d_tag == DT_STRTAB)
      strings = (const char *)(d->d_un.d_ptr + (d->d_un.d_ptr < map->l_addr ? map->l_addr : 0));
    if (d->d_tag == DT_RPATH) rpath = d;
    if (d->d_tag == DT_RUNPATH) runpath = d;
  }
  s->rpath = strings != NULL && rpath != NULL ? strings + rpath->d_un.d_val : NULL;
  s->runpath = strings != NULL && runpath != NULL ? strings + runpath->d_un.d_val : NULL;
}

/* $ORIGIN, which holds for the object's life: a relative name is read in the working directory of now. */
static void set_origin(struct object *o) {
  if (o->origin == NULL) o->origin = ovl_keep(PATH_MAX);
  const char *name = o->seeker.is_program ? argument : o->map->l_name;
  if (o->origin != NULL && ovl_library_origin(name, o->origin) == 0) o->seeker.origin = o->origin;
}

/* The library that was found is the one being opened: it gets the name that it is shown under. */
static void show_name(struct link_map *map) {
  size_t i = 0;
  do map->l_name[i] = found.shown[i];
  while (found.shown[i++] != '\0');
}

EXPORTED unsigned la_objopen(struct link_map *map, Lmid_t space, uintptr_t *cookie) {
  (void)space;
  *cookie = 0;
  struct object *o = make_object(map);
  if (o == NULL) return 0; /* searched for by ld.so itself */
  o->seeker = (struct ovl_seeker){.search_path = search_path, .platform = platform, .cache = &cache};
  read_paths(&o->seeker, map);
  if (found_for != NULL && same(map->l_name, found.real)) {
    o->seeker.loader = &found_for->seeker;
    show_name(map);
  }
  found_for = NULL;
  const int is_program = program == NULL;
  if (is_program) program = o;
  o->seeker.is_program = is_program;
  o->seeker.program = is_program ? NULL : &program->seeker;
  if (o->seeker.rpath != NULL || o->seeker.runpath != NULL || map->l_name[0] != '/') set_origin(o);
  *cookie = (uintptr_t)o;
  return 0;
}

EXPORTED unsigned la_objclose(uintptr_t *cookie) {
  struct object *o = (struct object *)*cookie;
  if (o == NULL) return 0;
  for (struct object *other = objects; other != NULL; other = other->next)
    if (other->seeker.loader == &o->seeker) other->seeker.loader = NULL;
  o->map = NULL;
  return 0;
}

/* 1: the path is that of liboverlock.so, which is outside every overlay. */
static int is_ours(const char *path) {
  static const char own[] = "/liboverlock.so";
  const size_t size = length(path);
  return size >= sizeof own - 1 && same(path + size - (sizeof own - 1), own);
}

EXPORTED char *la_objsearch(const char *name, uintptr_t *cookie, unsigned kind) {
  static struct ovl_library candidate;
  struct object *o = (struct object *)*cookie;
  if (o == NULL) return (char *)name;
  if (running) {
    ovl_library_moved();
    cache.used = 0;
  }
  if (kind == LA_SER_ORIG) {
    found_for = NULL;
    if (!running && is_ours(name)) return (char *)name;
    if (o->seeker.origin == NULL) set_origin(o);
    if (ovl_library_find(&found, name, &o->seeker) != 1) return (char *)name;
    found_for = o;
    return found.real;
  }
  /* Looked into already; but --library-path of ld.so itself is a list that is not known here. */
  if (kind == LA_SER_RUNPATH || (kind == LA_SER_LIBPATH && search_path != NULL)) return NULL;
  const long r = ovl_library_candidate(&candidate, name, &cache);
  return r < 0 ? NULL : r == 1 ? candidate.real : (char *)name;
}
