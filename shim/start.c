/* Start-up of the shim in a process, and what a new program must inherit.
 *
 * Owns ovl_active and ovl_inherited. The library is linked with -z initfirst, so the constructor runs
 * before every other one, libc's own included: environ is not set yet, the environment is the
 * constructor's third argument. A hook that is called even earlier (an IFUNC resolver, a second
 * library with initfirst) starts lazily if environ is there, and passes through if it is not.
 *
 * A process that cannot be set up must not run on the unprotected tree: it ends with status 125. */

#include "hook.h"

#include <string.h>
#include <sys/mman.h>

#define STATUS_CANNOT_START 125

int ovl_active = -1;
struct ovl_inherited ovl_inherited;

extern char **environ;
int __register_atfork(void (*)(void), void (*)(void), void (*)(void), void *);
extern void *__dso_handle __attribute__((visibility("hidden")));

void ovl_complain(const char *first, ...) {
  char line[1024];
  size_t used = 0;
  const char *part = "overlock: ";
  va_list parts;
  va_start(parts, first);
  for (const char *next = first; part != NULL; part = next, next = next ? va_arg(parts, char *) : NULL)
    for (; *part != '\0' && used < sizeof line - 1; part++) line[used++] = *part;
  va_end(parts);
  line[used++] = '\n';
  (void)lx_write(STDERR_FILENO, line, used);
}

const char *ovl_variable(char *const environment[], const char *name) {
  const size_t length = strlen(name);
  for (char *const *e = environment; e != NULL && *e != NULL; e++)
    if (strncmp(*e, name, length) == 0 && (*e)[length] == '=') return *e + length + 1;
  return NULL;
}

static int find_own_name(struct dl_phdr_info *info, size_t size, void *name) {
  (void)size;
  for (int i = 0; i < info->dlpi_phnum; i++) {
    const ElfW(Phdr) *p = &info->dlpi_phdr[i];
    if (p->p_type != PT_LOAD) continue;
    if ((uintptr_t)&find_own_name - (info->dlpi_addr + p->p_vaddr) < p->p_memsz) {
      *(const char **)name = info->dlpi_name;
      return 1;
    }
  }
  return 0;
}

/* Copies what children must inherit: programs overwrite their environment strings (setproctitle) and
 * change directory, and the copy must outlive both. */
static long remember(const char *options) {
  const char *name = NULL;
  (void)dl_iterate_phdr(find_own_name, &name);
  if (name == NULL) return -ENOEXEC;
  char directory[PATH_MAX];
  size_t prefix = 0;
  if (name[0] != '/') {
    const long got = lx_call6(SYS_getcwd, (long)directory, sizeof directory, 0, 0, 0, 0);
    if (got < 0) return got;
    prefix = (size_t)got - 1;
    directory[prefix++] = '/';
  }
  static const char assignment[] = "OVERLOCK=";
  const size_t library = prefix + strlen(name);
  const size_t text = sizeof assignment - 1 + strlen(options);
  void *memory = mmap(NULL, library + text + 2, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                      -1, 0);
  if (memory == MAP_FAILED) return -ENOMEM;
  char *at = memory;
  ovl_inherited.library = at;
  ovl_inherited.library_length = library;
  memcpy(at, directory, prefix);
  memcpy(at + prefix, name, library - prefix + 1);
  at += library + 1;
  ovl_inherited.options = at;
  ovl_inherited.options_length = text;
  memcpy(at, assignment, sizeof assignment - 1);
  memcpy(at + sizeof assignment - 1, options, text - (sizeof assignment - 1) + 1);
  return 0;
}

static void start(char **environment) {
  ovl_active = 0; /* a hook that the start itself may reach passes through */
  void *first = NULL;
  (void)ovl_resolve(&first, "open"); /* finds the objects while there is one thread */
  const char *options = ovl_variable(environment, "OVERLOCK");
  if (options == NULL || *options == '\0') return;
  char message[512] = "";
  long r = ovl_start(options, ovl_variable(environment, "OVERLOCK_STATE"), message, sizeof message);
  if (r >= 0 && ovl_overlays > 0) r = remember(options);
  if (r < 0) {
    ovl_complain(message[0] != '\0' ? message : "cannot start in this process", NULL);
    (void)lx_call6(SYS_exit_group, STATUS_CANNOT_START, 0, 0, 0, 0, 0);
  }
  if (ovl_overlays == 0) return;
  /* Registered first, so it runs before the child handlers of the program, which may call hooks.
   * _Fork, vfork and clone run no handlers and are hooked. */
  (void)__register_atfork(NULL, NULL, ovl_after_fork_child, __dso_handle);
  ovl_active = ovl_overlays;
}

int ovl_start_now(void) {
  if (ovl_active < 0 && environ != NULL) KEEPING_ERRNO(start(environ));
  return ovl_active > 0;
}

__attribute__((constructor)) static void begin(int argc, char **argv, char **environment) {
  (void)argc;
  (void)argv;
  if (ovl_active < 0) start(environment != NULL ? environment : environ);
}
