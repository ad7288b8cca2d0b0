/* The exec forms with a list of arguments. The list is copied to the stack, as libc does, so it
 * must be measured first. With no overlay they still end in libc's execve: execl has no form that
 * takes a va_list on. */

#include "hook.h"

extern char **environ;

static size_t count(va_list arguments) {
  size_t n = 0;
  while (va_arg(arguments, char *) != NULL) n++;
  return n;
}

static void collect(const char **argv, const char *first, va_list arguments) {
  argv[0] = first;
  for (size_t i = 0; argv[i] != NULL; i++) argv[i + 1] = va_arg(arguments, char *);
}

/* Declares argv of the calling variadic function's list, which starts with `arg`; leaves `list` at
 * the argument behind the NULL. */
#define COLLECT(argv, list, arg)                   \
  va_list list;                                    \
  va_start(list, arg);                             \
  const size_t argv##_count = arg ? count(list) : 0; \
  va_end(list);                                    \
  const char *argv[argv##_count + 2];              \
  va_start(list, arg);                             \
  collect(argv, arg, list)

HOOKED(int, execl, const char *path, const char *arg, ...) {
  COLLECT(argv, list, arg);
  va_end(list);
  if (OVL_OFF()) return NEXT(execve)(path, (char *const *)argv, environ);
  return (int)ovl_result(ovl_execve(AT_FDCWD, path, (char *const *)argv, environ, 0));
}

HOOKED(int, execle, const char *path, const char *arg, ...) {
  COLLECT(argv, list, arg);
  char *const *envp = va_arg(list, char *const *);
  va_end(list);
  if (OVL_OFF()) return NEXT(execve)(path, (char *const *)argv, envp);
  return (int)ovl_result(ovl_execve(AT_FDCWD, path, (char *const *)argv, envp, 0));
}

HOOKED(int, execlp, const char *file, const char *arg, ...) {
  COLLECT(argv, list, arg);
  va_end(list);
  if (OVL_OFF()) return NEXT(execvp)(file, (char *const *)argv);
  return (int)ovl_result(ovl_execvpe(file, (char *const *)argv, environ));
}
