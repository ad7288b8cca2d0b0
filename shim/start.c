/* Start-up of the shim in a process, and what a new program must inherit.
 *
 * Owns ovl_active and ovl_inherited. The library is linked with -z initfirst, so the constructor
 * runs before every other one, libc's own included: environ is not set yet, the environment is the
 * constructor's third argument. A hook that is called even earlier (an IFUNC resolver, a second
 * library with initfirst) starts lazily if environ is there, and passes through if it is not.
 *
 * No libc function is called here that a program may have replaced: its own constructors have not
 * run.
 *
 * A process that cannot be set up must not run on the unprotected tree: it ends with status 125. */

#include "mandatory.h"
#include "reads.h"

#include <sys/mman.h>

#define STATUS_CANNOT_START 125

int ovl_active = -1;
/* Beside what else the start writes. */
struct ovl_inherited ovl_inherited __attribute__((section(".data")));

extern char **environ;

void ovl_complain(const char *first, ...) {
  char line[1024];
  size_t used = 0;
  const char *part = "overlock: ", *next = first;
  va_list parts;
  va_start(parts, first);
  while (part != NULL) {
    for (; *part != '\0' && used < sizeof line - 1; part++) line[used++] = *part;
    part = next;
    if (part != NULL) next = va_arg(parts, const char *);
  }
  va_end(parts);
  line[used++] = '\n';
  (void)lx_write(STDERR_FILENO, line, used);
}

static const char *variable(char *const environment[], const char *name) {
  const size_t length = ovl_length(name);
  for (char *const *e = environment; e != NULL && *e != NULL; e++)
    if (ovl_starts_with(*e, name) && (*e)[length] == '=') return *e + length + 1;
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

/* Copies what children must inherit: programs overwrite their environment strings (setproctitle)
 * and change directory, and the copy must outlive both. */
static long remember(const char *options) {
  const char *name = NULL;
  (void)dl_iterate_phdr(find_own_name, &name);
  if (name == NULL) return -ENOEXEC;
  char directory[PATH_MAX];
  directory[0] = '\0';
  if (name[0] != '/') {
    const long got = lx_getcwd(directory, sizeof directory - 1);
    if (got < 0) return got;
    directory[got - 1] = '/';
    directory[got] = '\0';
  }
  static const char assignment[] = "OVERLOCK=";
  const size_t size = ovl_length(directory) + ovl_length(name) + 1 + sizeof assignment +
                      ovl_length(options) + ovl_length(directory) + ovl_length(name) + sizeof OVL_AUDIT_NAME;
  char *at = ovl_keep(size);
  if (at == NULL) return -ENOMEM;
  ovl_inherited.library = at;
  at = ovl_append(ovl_append(at, directory), name);
  ovl_inherited.library_length = (size_t)(at - ovl_inherited.library);
  ovl_inherited.options = ++at;
  at = ovl_append(ovl_append(at, assignment), options);
  ovl_inherited.options_length = (size_t)(at - ovl_inherited.options);
  ovl_inherited.audit = ++at;
  at = ovl_append(ovl_append(at, directory), name);
  while (at[-1] != '/') at--;
  at = ovl_append(at, OVL_AUDIT_NAME);
  ovl_inherited.audit_length = (size_t)(at - ovl_inherited.audit);
  return 0;
}

static void start(char **environment) {
  ovl_active = 0; /* a hook that the start itself may reach passes through */
  void *first = NULL;
  (void)ovl_resolve(&first, "open"); /* finds the objects while there is one thread */
  const char *options = variable(environment, "OVERLOCK");
  if (options == NULL || *options == '\0') return;
  char message[512] = "";
  long r = ovl_start(options, variable(environment, "OVERLOCK_STATE"), message, sizeof message);
  if (r >= 0 && ovl_overlays > 0) r = remember(options);
  if (r < 0) {
    ovl_complain(message[0] != '\0' ? message : "cannot start in this process", NULL);
    (void)lx_call6(SYS_exit_group, STATUS_CANNOT_START, 0, 0, 0, 0, 0);
  }
  if (ovl_overlays == 0) return;
  ovl_hide_audit(environment);
#ifdef OVERLOCK_STEPS
  const char *step = variable(environment, "OVERLOCK_STEP");
  uint64_t number = 0;
  for (; step != NULL && *step >= '0' && *step <= '9'; step++)
    number = number * 10 + (uint64_t)(*step - '0');
  ovl_fault_step(number);
#endif
  ovl_active = ovl_overlays;
  if (ovl_process.mandatory) ovl_mandatory_streams();
  struct stat st;
  if (lx_fstat(STDIN_FILENO, &st) == 0 && S_ISREG(st.st_mode)) ovl_follow_stream(STDIN_FILENO);
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
