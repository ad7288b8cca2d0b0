/* The exec family. All forms end in ovl_execve, which asks the core what the path stands for,
 * builds the arguments of an interpreted script, and gives the new image what it must inherit
 * (inherit.c).
 *
 * Async-signal-safe, for the child of a threaded program: no malloc, no lock. The arrays live in
 * one anonymous mapping, so no environment is too large for a small stack; a successful exec takes
 * the mapping along with the rest of the memory. */

#include "exec.h"

#include <limits.h>
#include <paths.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

extern char **environ;

static size_t count(char *const list[]) {
  size_t n = 0;
  while (list != NULL && list[n] != NULL) n++;
  return n;
}

static struct ovl_plan *make_plan(char *const argv[], char *const envp[]) {
  const size_t entries = count(envp) + OVL_INHERITED_ENTRIES + 1;
  const size_t pointers = entries + count(argv) + 4; /* interpreter, its argument, path, NULL */
  const size_t size =
      sizeof(struct ovl_plan) + pointers * sizeof(char *) + ovl_inherited_text(envp);
  struct ovl_plan *p = lx_mmap(size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
  if (p == NULL) return NULL;
  p->size = size;
  p->environment = (char **)(p + 1);
  p->arguments = p->environment + entries;
  p->text = (char *)(p->environment + pointers);
  return p;
}

void ovl_plan_drop(struct ovl_plan *p) {
  if (p == NULL) return;
  ovl_path_release(&p->exec.file);
  (void)lx_munmap(p, p->size);
}

/* A script's arguments: interpreter [argument] path argv[1…]. */
static char *const *script_arguments(struct ovl_plan *p, char *const argv[]) {
  size_t n = 0;
  p->arguments[n++] = (char *)p->exec.interpreter;
  if (p->exec.argument != NULL) p->arguments[n++] = (char *)p->exec.argument;
  p->arguments[n++] = (char *)p->exec.path;
  for (size_t i = 1; argv != NULL && argv[0] != NULL && argv[i] != NULL; i++)
    p->arguments[n++] = argv[i];
  p->arguments[n] = NULL;
  return p->arguments;
}

static const char *reason(int unreached) {
  return unreached == OVL_STATIC   ? ": statically linked: preloading cannot reach it"
         : unreached == OVL_SETUID
             ? ": gets rights from its file (setuid, setgid, capabilities): preloading cannot reach it"
         : unreached == OVL_RAW
             ? ": a Go program, which calls the kernel itself: preloading cannot reach it"
         : unreached == OVL_FOREIGN
             ? ": made for another architecture or libc: preloading cannot reach it"
             : ": preloading cannot reach it";
}

/* Says what must be said of a program out of reach. 0: go on. */
static long judge(const struct ovl_exec *e, const char *path) {
  const char *name = ovl_is_readable(path) && *path != '\0' ? path : "(program given as a descriptor)";
  if (e->refuse) {
    ovl_complain(name, reason(e->unreached),
                 "; refused because its target is also a lower layer (unreached=allow overrides)",
                 NULL);
    return -EACCES;
  }
  if (e->warn) ovl_complain(name, reason(e->unreached), NULL);
  return 0;
}

long ovl_plan_exec(struct ovl_plan **out, int dirfd, const char *path, char *const argv[],
                   char *const envp[], int flags) {
  struct ovl_plan *p = *out = make_plan(argv, envp);
  if (p == NULL) return -ENOMEM;
  struct ovl_exec *e = &p->exec;
  e->search_path = ovl_search_path(envp);
  long r = ovl_exec(e, dirfd, path, flags);
  p->outside = r == OVL_PASS;
  if (p->outside) r = 0;
  if (r == 0) r = judge(e, path);
  if (r < 0) return r;
  ovl_inherit(p, envp);
  p->program = p->outside ? path : e->file.real;
  p->argv = !p->outside && e->script ? script_arguments(p, argv) : argv;
  return 0;
}

long ovl_execve(int dirfd, const char *path, char *const argv[], char *const envp[], int flags) {
  struct ovl_plan *p;
  long r = ovl_plan_exec(&p, dirfd, path, argv, envp, flags);
  if (r == 0) {
    if (ovl_lent) {
      ovl_lent_memory = p;
      ovl_lent_size = p->size;
    }
    if (p->outside && (dirfd != AT_FDCWD || flags != 0))
      (void)NEXT(execveat)(dirfd, path, p->argv, p->environment, flags);
    else
      (void)NEXT(execve)(p->program, p->argv, p->environment);
    r = -errno;
    if (ovl_lent) ovl_lent_memory = NULL;
  }
  ovl_plan_drop(p);
  return r;
}

/* execvp runs what the kernel takes for no program as a shell script. The arguments go on the
 * stack, as in libc: a mapping would be left behind in the parent of a vfork child. */
static long execve_or_shell(const char *path, char *const argv[], char *const envp[]) {
  const long r = ovl_execve(AT_FDCWD, path, argv, envp, 0);
  if (r != -ENOEXEC) return r;
  const size_t n = count(argv);
  char *shell[n + 3];
  memset(shell, 0, sizeof shell);
  shell[0] = (char *)_PATH_BSHELL;
  shell[1] = (char *)path;
  for (size_t i = 1; i < n; i++) shell[i + 1] = argv[i];
  return ovl_execve(AT_FDCWD, _PATH_BSHELL, shell, envp, 0);
}

long ovl_find_program(const char *file, char candidate[OVL_CANDIDATE_MAX], const char **rest) {
  const size_t length = strlen(file);
  if (length == 0) return -ENOENT;
  if (length > NAME_MAX) return -ENAMETOOLONG;
  long failure = -ENOENT;
  for (const char *at = *rest; at != NULL;) {
    const char *end = strchrnul(at, ':');
    const size_t directory = (size_t)(end - at);
    const char *element = at;
    at = *end == ':' ? end + 1 : NULL;
    if (directory >= PATH_MAX) continue;
    memcpy(candidate, element, directory);
    candidate[directory] = '/';
    memcpy(candidate + directory + (directory > 0), file, length + 1);
    long r = ovl_access(AT_FDCWD, candidate, X_OK, AT_EACCESS);
    if (r == OVL_PASS) r = lx_faccessat2(AT_FDCWD, candidate, X_OK, AT_EACCESS);
    if (r == 0) {
      *rest = at;
      return 0;
    }
    if (r == -EACCES) failure = r;
  }
  return failure;
}

long ovl_execvpe(const char *file, char *const argv[], char *const envp[]) {
  if (*file == '\0') return -ENOENT;
  if (strchr(file, '/') != NULL) return execve_or_shell(file, argv, envp);
  const char *rest = getenv("PATH");
  if (rest == NULL) rest = "/bin:/usr/bin";
  char candidate[OVL_CANDIDATE_MAX];
  long failure = -ENOENT;
  while (rest != NULL) {
    long r = ovl_find_program(file, candidate, &rest);
    if (r < 0) return r == -ENOENT ? failure : r;
    r = execve_or_shell(candidate, argv, envp);
    if (r == -EACCES) failure = r;
    if (r != -EACCES && r != -ENOENT && r != -ENOTDIR && r != -ESTALE) return r;
  }
  return failure;
}

HOOKED(int, execve, const char *path, char *const argv[], char *const envp[]) {
  if (OVL_OFF()) return NEXT(execve)(path, argv, envp);
  return (int)ovl_result(ovl_execve(AT_FDCWD, path, argv, envp, 0));
}

HOOKED(int, execv, const char *path, char *const argv[]) {
  if (OVL_OFF()) return NEXT(execv)(path, argv);
  return (int)ovl_result(ovl_execve(AT_FDCWD, path, argv, environ, 0));
}

HOOKED(int, execvp, const char *file, char *const argv[]) {
  if (OVL_OFF()) return NEXT(execvp)(file, argv);
  return (int)ovl_result(ovl_execvpe(file, argv, environ));
}

HOOKED(int, execvpe, const char *file, char *const argv[], char *const envp[]) {
  if (OVL_OFF()) return NEXT(execvpe)(file, argv, envp);
  return (int)ovl_result(ovl_execvpe(file, argv, envp));
}

HOOKED(int, fexecve, int fd, char *const argv[], char *const envp[]) {
  if (OVL_OFF()) return NEXT(fexecve)(fd, argv, envp);
  if (fd < 0 || argv == NULL || envp == NULL) return (int)ovl_result(-EINVAL);
  return (int)ovl_result(ovl_execve(fd, "", argv, envp, AT_EMPTY_PATH));
}

HOOKED(int, execveat, int dirfd, const char *path, char *const argv[], char *const envp[],
       int flags) {
  if (OVL_OFF()) return NEXT(execveat)(dirfd, path, argv, envp, flags);
  return (int)ovl_result(ovl_execve(dirfd, path, argv, envp, flags));
}
