/* posix_spawn and posix_spawnp. They return an error number and leave errno alone.
 *
 * libc's child calls open, chdir and execve of its own, which no hook reaches. Two ways:
 * - As a rule the exec is made ready here, in the parent (real program, script arguments,
 *   environment), and libc's posix_spawn does it: its child shares our memory but calls no hook, so
 *   the core's tables stay as they are, and it costs what it always costs.
 * - Where a file action depends on the overlay (opens a path in it, changes directory, or copies or
 *   closes a directory's descriptor, which the new image is told about), a child of our own with a
 *   copy of the memory performs the actions through the hooks. The parent waits till it has exec'd,
 *   and learns of a failure through a shared page.
 * Opening in the parent instead would do for most, but closing there again would drop the record
 * locks that the parent holds on that file.
 *
 * One export serves posix_spawn@GLIBC_2.2.5 too; only in that old version a file without a known
 * format was run by the shell. */

#include "exec.h"

#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define STATUS_NOT_SPAWNED 127

/* libc's private layout of a file action, the same since the interface exists; later versions only
 * added tags. */
enum action_tag { DO_CLOSE, DO_DUP2, DO_OPEN, DO_CHDIR, DO_FCHDIR, DO_CLOSEFROM, DO_TCSETPGRP };

struct __spawn_action {
  int tag;
  union {
    struct {
      int fd, newfd;
    } descriptor; /* close, fchdir, closefrom, tcsetpgrp: fd alone */
    struct {
      int fd;
      char *path;
      int flags;
      mode_t mode;
    } open;
    struct {
      char *path;
    } directory;
  };
};

struct request {
  const char *file;
  int search; /* posix_spawnp */
  const posix_spawn_file_actions_t *actions;
  const posix_spawnattr_t *attr;
  char *const *argv;
  char *const *envp;
};

static int is_directory(int fd) {
  struct stat st;
  return lx_fstat(fd, &st) == 0 && S_ISDIR(st.st_mode);
}

static int is_outside(const char *path) {
  OVL_PATH(p);
  return ovl_locate(&p, AT_FDCWD, path, OVL_FOLLOW | OVL_MISSING) == OVL_PASS;
}

/* Whether libc's own child would do something else than the hooks would. An action that is not
 * known here cannot be performed here either. */
static int needs_own_child(const posix_spawn_file_actions_t *actions) {
  int needs = 0;
  for (int i = 0; actions != NULL && i < actions->__used; i++) {
    const struct __spawn_action *a = &actions->__actions[i];
    switch (a->tag) {
    case DO_CLOSE: needs |= is_directory(a->descriptor.fd); break;
    case DO_DUP2:
      needs |= is_directory(a->descriptor.fd) || is_directory(a->descriptor.newfd);
      break;
    case DO_OPEN: needs |= !is_outside(a->open.path) || is_directory(a->open.fd); break;
    case DO_CHDIR:
    case DO_FCHDIR: needs = 1; break;
    case DO_CLOSEFROM:
    case DO_TCSETPGRP: break;
    default: return 0;
    }
  }
  return needs;
}

/* ---- the own child: everything here runs in it and gives 0 or -errno ----------------------------
 * */

static long done(int r) { return r < 0 ? -errno : 0; }

static long perform(const struct __spawn_action *a) {
  const int fd = a->descriptor.fd;
  switch (a->tag) {
  case DO_CLOSE:
    if (fd < 0) return -EBADF;
    (void)ovl_hook_close(fd); /* one that is not open is no error */
    return 0;
  case DO_DUP2:
    if (fd == a->descriptor.newfd) return done(fcntl(fd, F_SETFD, 0));
    return done(ovl_hook_dup2(fd, a->descriptor.newfd));
  case DO_OPEN: {
    (void)ovl_hook_close(fd);
    const int opened = ovl_open_any(AT_FDCWD, a->open.path, a->open.flags, a->open.mode);
    if (opened < 0) return -errno;
    return ovl_fd_move(opened, fd, (a->open.flags & O_CLOEXEC) != 0);
  }
  case DO_CHDIR: return done(ovl_hook_chdir(a->directory.path));
  case DO_FCHDIR: return done(ovl_hook_fchdir(fd));
  case DO_CLOSEFROM: ovl_hook_closefrom(fd); return 0;
  default: return done(tcsetpgrp(fd, getpgrp()));
  }
}

/* Handlers must not run in the child; what is ignored stays so unless the attributes say otherwise.
 * */
static void reset_signals(const posix_spawnattr_t *attr, short flags) {
  sigset_t defaults;
  (void)sigemptyset(&defaults);
  if ((flags & POSIX_SPAWN_SETSIGDEF) != 0) (void)posix_spawnattr_getsigdefault(attr, &defaults);
  for (int signal = 1; signal < NSIG; signal++) {
    struct sigaction now;
    if (sigismember(&defaults, signal) != 1 &&
        (sigaction(signal, NULL, &now) != 0 || now.sa_handler == SIG_IGN ||
         now.sa_handler == SIG_DFL))
      continue;
    const struct sigaction plain = {.sa_handler = SIG_DFL};
    (void)sigaction(signal, &plain, NULL);
  }
}

static long set_scheduling(const posix_spawnattr_t *attr, short flags) {
  struct sched_param parameters;
  int policy;
  (void)posix_spawnattr_getschedparam(attr, &parameters);
  (void)posix_spawnattr_getschedpolicy(attr, &policy);
  if ((flags & POSIX_SPAWN_SETSCHEDULER) != 0)
    return done(sched_setscheduler(0, policy, &parameters));
  if ((flags & POSIX_SPAWN_SETSCHEDPARAM) != 0) return done(sched_setparam(0, &parameters));
  return 0;
}

/* By system call: libc's setters would signal threads that the child does not have. */
static long reset_ids(void) {
  const long gid = lx_call6(SYS_getgid, 0, 0, 0, 0, 0, 0);
  const long r = lx_call6(SYS_setresgid, -1, gid, -1, 0, 0, 0);
  return r < 0 ? r : lx_call6(SYS_setresuid, -1, lx_getuid(), -1, 0, 0, 0);
}

static long apply_attributes(const posix_spawnattr_t *attr, short flags) {
  long r = set_scheduling(attr, flags);
  if (r == 0 && (flags & POSIX_SPAWN_SETSID) != 0) r = done(setsid());
  if (r == 0 && (flags & POSIX_SPAWN_SETPGROUP) != 0) {
    pid_t group = 0;
    (void)posix_spawnattr_getpgroup(attr, &group);
    r = done(setpgid(0, group));
  }
  if (r == 0 && (flags & POSIX_SPAWN_RESETIDS) != 0) r = reset_ids();
  return r;
}

static long exec_searching(const struct request *q) {
  if (!q->search || strchr(q->file, '/') != NULL)
    return ovl_execve(AT_FDCWD, q->file, q->argv, q->envp, 0);
  const char *rest = getenv("PATH");
  if (rest == NULL) rest = "/bin:/usr/bin";
  char candidate[OVL_CANDIDATE_MAX];
  long failure = -ENOENT;
  while (rest != NULL) {
    long r = ovl_find_program(q->file, candidate, &rest);
    if (r == -ENOENT) break;
    if (r == 0) r = ovl_execve(AT_FDCWD, candidate, q->argv, q->envp, 0);
    if (r != -EACCES && r != -ENOENT && r != -ENOTDIR) return r;
    if (r == -EACCES) failure = r;
  }
  return failure;
}

static long run_child(const struct request *q, const sigset_t *mask) {
  short flags = 0;
  if (q->attr != NULL) (void)posix_spawnattr_getflags(q->attr, &flags);
  reset_signals(q->attr, flags);
  long r = q->attr != NULL ? apply_attributes(q->attr, flags) : 0;
  for (int i = 0; r == 0 && q->actions != NULL && i < q->actions->__used; i++)
    r = perform(&q->actions->__actions[i]);
  if (r < 0) return r;
  sigset_t wanted = *mask;
  if ((flags & POSIX_SPAWN_SETSIGMASK) != 0) (void)posix_spawnattr_getsigmask(q->attr, &wanted);
  (void)sigprocmask(SIG_SETMASK, &wanted, NULL);
  return exec_searching(q);
}

/* ---- the parent: an error number, 0 for success ------------------------------------------------
 * */

static int spawn_own(pid_t *pid, const struct request *q) {
  volatile long *failure = lx_mmap(sizeof *failure, PROT_READ | PROT_WRITE,
                                   MAP_SHARED | MAP_ANONYMOUS, -1);
  if (failure == NULL) return ENOMEM;
  sigset_t all, mask;
  (void)sigfillset(&all);
  (void)pthread_sigmask(SIG_BLOCK, &all, &mask);
  const long child = ovl_fork_and_wait();
  if (child == 0) {
    *failure = run_child(q, &mask);
    (void)lx_call6(SYS_exit_group, STATUS_NOT_SPAWNED, 0, 0, 0, 0, 0);
  }
  const long error = child < 0 ? child : *failure;
  if (child > 0 && error != 0)
    while (lx_call6(SYS_wait4, child, 0, 0, 0, 0, 0) == -EINTR) continue;
  (void)pthread_sigmask(SIG_SETMASK, &mask, NULL);
  (void)lx_munmap((void *)failure, sizeof *failure);
  if (error == 0 && pid != NULL) *pid = (pid_t)child;
  return (int)-error;
}

static int spawn_next(pid_t *pid, const struct request *q, const char *path) {
  struct ovl_plan *plan;
  const long r = ovl_plan_exec(&plan, AT_FDCWD, path, q->argv, q->envp, 0);
  const int error = r < 0 ? (int)-r
                          : NEXT(posix_spawn)(pid, plan->program, q->actions, q->attr, plan->argv,
                                              plan->environment);
  ovl_plan_drop(plan);
  return error;
}

static int spawn(pid_t *pid, const struct request *q) {
  if (needs_own_child(q->actions)) return spawn_own(pid, q);
  if (!q->search || strchr(q->file, '/') != NULL) return spawn_next(pid, q, q->file);
  const char *rest = getenv("PATH");
  if (rest == NULL) rest = "/bin:/usr/bin";
  char candidate[OVL_CANDIDATE_MAX];
  int failure = ENOENT;
  while (rest != NULL) {
    const long r = ovl_find_program(q->file, candidate, &rest);
    if (r == -ENOENT) break;
    const int error = r < 0 ? (int)-r : spawn_next(pid, q, candidate);
    if (error != EACCES && error != ENOENT && error != ENOTDIR) return error;
    if (error == EACCES) failure = error;
  }
  return failure;
}

HOOKED(int, posix_spawn, pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,
       const posix_spawnattr_t *attr, char *const argv[], char *const envp[]) {
  if (OVL_OFF()) return NEXT(posix_spawn)(pid, path, actions, attr, argv, envp);
  const struct request q = {path, 0, actions, attr, argv, envp};
  int error;
  KEEPING_ERRNO(error = spawn(pid, &q));
  return error;
}

HOOKED(int, posix_spawnp, pid_t *pid, const char *file, const posix_spawn_file_actions_t *actions,
       const posix_spawnattr_t *attr, char *const argv[], char *const envp[]) {
  if (OVL_OFF()) return NEXT(posix_spawnp)(pid, file, actions, attr, argv, envp);
  const struct request q = {file, 1, actions, attr, argv, envp};
  int error;
  KEEPING_ERRNO(error = spawn(pid, &q));
  return error;
}
