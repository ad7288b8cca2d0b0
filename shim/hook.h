#ifndef OVERLOCK_HOOK_H
#define OVERLOCK_HOOK_H

/* How a hook is written, and all that hooks share.
 *
 * Invariants:
 * - With no overlay configured a hook costs one predictable branch and the call of the next
 *   function.
 * - errno is set in ovl_set_errno alone; a call that succeeds leaves it as it was.
 * - A hook is the hidden function ovl_hook_NAME; libc's name is an exported alias. So no attribute
 *   of libc's own declaration (nonnull, returns_twice, fortify redirection) touches our definition,
 *   a NULL path travels to the kernel as it came, and hooks that call hooks are not caught by a
 *   program that has a function of its own called link, remove or glob.
 * - What the program asked for goes to the next libc function, so that another preloaded library
 *   (fakeroot) still sees it; the shim's own housekeeping uses the raw calls of syscalls.h, which
 *   leave errno alone and cannot meet a hook.
 * - Hooks take no lock and allocate nothing, except where libc's function itself allocates. */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <abi.h>
#include <pointers.h>
#include <process.h>
#include <syscalls.h>

#include <aio.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <ftw.h>
#include <glob.h>
#include <limits.h>
#include <link.h>
#include <nl_types.h>
#include <poll.h>
#include <spawn.h>
#include <stdarg.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <termios.h>
#include <unistd.h>
#include <utmp.h>
#include <utmpx.h>
#include <utime.h>

_Static_assert(sizeof(off_t) == 8 && sizeof(long) == 8, "NAME64 is an alias of NAME on LP64 only");
_Static_assert(sizeof(struct dirent) == sizeof(struct dirent64), "one readdir for both names");

typedef int ovl_select(const struct dirent *);
typedef int ovl_compare(const struct dirent **, const struct dirent **);
typedef int ovl_glob_error(const char *path, int error);
typedef int ovl_fts_compare(const FTSENT **, const FTSENT **);
typedef int ovl_clone_body(void *);

/* Says of a variable of another file that it is in this library: no detour through the GOT. */
#define OVL_HIDDEN __attribute__((visibility("hidden")))

/* ---- the table --------------------------------------------------------------------------------
 * */

#define HOOK(ret, name, params, family) ret ovl_hook_##name params OVL_HIDDEN;
#define ALIAS(name, target, family)
#include "hooks.def"
#undef HOOK
#undef ALIAS

/* What each hook calls when the call is not ours: filled at first use, never changed afterwards. */
struct ovl_next {
#define HOOK(ret, name, params, family) void *name;
#define ALIAS(name, target, family)
#include "hooks.def"
#undef HOOK
#undef ALIAS
};
extern struct ovl_next ovl_next OVL_HIDDEN;

/* Finds the next definition of `name` after this library's in the link order, and keeps it in
 * `slot`. Async-signal-safe, takes no lock. A function that libc lacks becomes one that fails with
 * ENOSYS. */
void *ovl_resolve(void **slot, const char *name);

static inline void *ovl_next_function(void **slot, const char *name) {
  void *function = __atomic_load_n(slot, __ATOMIC_RELAXED);
  return __builtin_expect(function != NULL, 1) ? function : ovl_resolve(slot, name);
}

#define NEXT(name) ((__typeof__(&ovl_hook_##name))ovl_next_function(&ovl_next.name, #name))

/* Exports the hook `target`, defined in the same file, under libc's `name`. */
#define HOOK_ALIAS(name, target)                                        \
  extern __typeof__(ovl_hook_##target) ovl_export_##name __asm__(#name) \
      __attribute__((alias("ovl_hook_" #target), visibility("default")))

#define HOOKED(ret, name, ...) \
  HOOK_ALIAS(name, name);      \
  ret ovl_hook_##name(__VA_ARGS__)

/* A call in tail position that must be a jump: libc asks for its return address to learn who calls.
 * gcc 12 has no attribute for it, but makes sibling calls at -O2. */
#if defined(__has_attribute)
#if __has_attribute(musttail)
#define TAIL_CALL __attribute__((musttail)) return
#endif
#endif
#ifndef TAIL_CALL
#define TAIL_CALL return
#endif

/* 1: both addresses lie in one object of those that were loaded after this library at start. */
int ovl_same_object(const void *a, const void *b);

/* ---- on or off --------------------------------------------------------------------------------
 * */

/* -1: not started yet; 0: no overlay; else the number of overlays (ovl_overlays, once known). */
extern int ovl_active OVL_HIDDEN;

/* Starts the process up if nobody has; 1: there are overlays. */
int ovl_start_now(void);

#define OVL_ON() (__builtin_expect(ovl_active != 0, 0) && (ovl_active > 0 || ovl_start_now()))
#define OVL_OFF() (!OVL_ON())

/* 1: an inotify instance of this process has watches of ours. */
static inline int ovl_has_watches(void) {
  return __builtin_expect(__atomic_load_n(&ovl_watching.reach, __ATOMIC_RELAXED) != 0, 0);
}

/* ---- results ----------------------------------------------------------------------------------
 * */

/* The one place that sets errno. */
static inline void ovl_set_errno(int error) { errno = error; }

/* What a hook returns for what the core returned. */
static inline long ovl_result(long r) {
  if (r >= 0) return r;
  ovl_set_errno((int)-r);
  return -1;
}

/* The same for functions that return a pointer. */
static inline void *ovl_null(long r) {
  (void)ovl_result(r);
  return NULL;
}

/* Runs a libc call that may set errno although the hook as a whole succeeds. */
#define KEEPING_ERRNO(statement)   \
  do {                             \
    const int kept_errno = errno;  \
    statement;                     \
    ovl_set_errno(kept_errno);     \
  } while (0)

/* A located object, released when it goes out of scope. */
#define OVL_PATH(p) \
  __attribute__((cleanup(ovl_path_release))) struct ovl_path p; \
  p.block = 0

/* The mode argument of the open family is there only when a file may be made. */
#define OVL_NEEDS_MODE(flags) (((flags)&O_CREAT) != 0 || ((flags)&O_TMPFILE) == O_TMPFILE)

/* Strings without libc, for what runs before every constructor: a program may have a strcmp of its
 * own that is not ready yet (a sanitizer's). The barrier keeps compilers from making strlen of it.
 * */
static inline size_t ovl_length(const char *string) {
  size_t n = 0;
  for (; string[n] != '\0'; n++) __asm__ volatile("");
  return n;
}

/* 1: `string` starts with `prefix`. */
static inline int ovl_starts_with(const char *string, const char *prefix) {
  while (*prefix != '\0' && *string == *prefix) string++, prefix++;
  return *prefix == '\0';
}

static inline char *ovl_append(char *to, const char *from) {
  for (; *from != '\0'; from++) {
    *to++ = *from;
    __asm__ volatile("");
  }
  *to = '\0';
  return to;
}

/* 1: the descriptor is open. */
static inline int ovl_is_open(int fd) { return lx_fcntl(fd, F_GETFD, 0) >= 0; }

/* ---- shared between families ------------------------------------------------------------------
 * */

/* Opens as open(2) does: through the core, or the next openat when the path is none of ours.
 * Returns a descriptor or -1 with errno. */
int ovl_open_any(int dirfd, const char *path, int flags, mode_t mode);

/* Gives the description open at `from` the number `to` (or makes `to` a copy of it) with the core's
 * knowledge, and closes `from`. 0 or -errno; `from` is closed in both cases. */
long ovl_fd_move(int from, int to, int cloexec);

/* Closes with the core's knowledge; errno untouched. */
void ovl_fd_close(int fd);

/* All of the exec family. Returns only on failure: -errno. */
long ovl_execve(int dirfd, const char *path, char *const argv[], char *const envp[], int flags);

/* The next program of that name in the directories that *rest lists (a value of PATH); *rest moves
 * on behind it, NULL at the end. 0 or -errno (EACCES: only such that may not be run). */
#define OVL_CANDIDATE_MAX (PATH_MAX + NAME_MAX + 2)
long ovl_find_program(const char *file, char candidate[OVL_CANDIDATE_MAX], const char **rest);

/* Searches PATH as execvp does. Returns only on failure: -errno. */
long ovl_execvpe(const char *file, char *const argv[], char *const envp[]);

/* fork in all but the process's name: a copy of memory and the core told, no atfork handler run.
 * The parent waits till the child has exec'd or is gone, as after vfork. A process id, 0, or
 * -errno. */
long ovl_fork_and_wait(void);

/* 1: we are a vfork child in our parent's memory. An exec that succeeds leaves its mapping behind
 * in the parent, which then finds it here and unmaps it. */
extern int ovl_lent OVL_HIDDEN;
extern void *ovl_lent_memory OVL_HIDDEN;
extern size_t ovl_lent_size OVL_HIDDEN;

/* 1 if the stream was made by our popen (and is then closed with its exit status in *status). */
int ovl_pclose_ours(FILE *stream, int *status);

/* seccomp(2) by number. */
long ovl_seccomp(long operation, long flags, long filter);

/* FIONREAD of an inotify instance with watches of ours: more than nothing where there is something to read. */
int ovl_queued_events(int fd, int *bytes);

/* What the loader must find in a new program's environment, learned at start. */
struct ovl_inherited {
  const char *library;  /* absolute path of this library */
  size_t library_length;
  const char *options;  /* "OVERLOCK=…" */
  size_t options_length;
  const char *audit;    /* absolute path of the audit library, beside this one */
  size_t audit_length;
};
extern struct ovl_inherited ovl_inherited OVL_HIDDEN;

/* 1: the audit library tells ld.so here where libraries are (audit/). */
extern int ovl_audited OVL_HIDDEN;

/* Takes the audit library out of the environment, where the program has no use for it. Sets
 * ovl_audited. */
void ovl_hide_audit(char **environment);

/* One line on stderr: "overlock: " and the parts up to a NULL. */
void ovl_complain(const char *first, ...) __attribute__((sentinel));

#endif
