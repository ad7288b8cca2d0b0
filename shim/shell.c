/* system and popen. libc's start /bin/sh by an exec of its own: it would miss a shell inside an
 * overlay, would not carry the working directory over, and would run unprotected if the program has
 * cleared its environment. So both are done anew over our posix_spawn.
 *
 * Two locks, held for no longer than a list or a counter needs: the hooks' only ones, as libc has
 * them here. Left out on purpose: system as a cancellation point; the wait is not interrupted. */

#include "hook.h"

#include <paths.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

extern char **environ;

static long wait_for(pid_t pid, int *status) {
  long r;
  do r = lx_call6(SYS_wait4, pid, (long)status, 0, 0, 0, 0);
  while (r == -EINTR);
  return r;
}

/* ---- system ------------------------------------------------------------------------------------
 * */

/* While any thread is in system, SIGINT and SIGQUIT are ignored; the last one out restores them. */
static pthread_mutex_t system_lock = PTHREAD_MUTEX_INITIALIZER;
static int system_users;
static struct sigaction interrupt_before, quit_before;

static void ignore_keys(void) {
  const struct sigaction ignore = {.sa_handler = SIG_IGN};
  (void)pthread_mutex_lock(&system_lock);
  if (system_users++ == 0) {
    (void)sigaction(SIGINT, &ignore, &interrupt_before);
    (void)sigaction(SIGQUIT, &ignore, &quit_before);
  }
  (void)pthread_mutex_unlock(&system_lock);
}

static void restore_keys(void) {
  (void)pthread_mutex_lock(&system_lock);
  if (--system_users == 0) {
    (void)sigaction(SIGINT, &interrupt_before, NULL);
    (void)sigaction(SIGQUIT, &quit_before, NULL);
  }
  (void)pthread_mutex_unlock(&system_lock);
}

/* The shell's status as wait gives it; 127 as exit status if it could not be started. */
static int run_shell(const char *command, const sigset_t *mask) {
  sigset_t defaults;
  (void)sigemptyset(&defaults);
  if (interrupt_before.sa_handler != SIG_IGN) (void)sigaddset(&defaults, SIGINT);
  if (quit_before.sa_handler != SIG_IGN) (void)sigaddset(&defaults, SIGQUIT);
  posix_spawnattr_t attr;
  (void)posix_spawnattr_init(&attr);
  (void)posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
  (void)posix_spawnattr_setsigdefault(&attr, &defaults);
  (void)posix_spawnattr_setsigmask(&attr, mask);
  char *const argv[] = {"sh", "-c", (char *)command, NULL};
  pid_t pid;
  int status = 127 << 8;
  const int error = ovl_hook_posix_spawn(&pid, _PATH_BSHELL, NULL, &attr, argv, environ);
  (void)posix_spawnattr_destroy(&attr);
  if (error != 0) {
    ovl_set_errno(error);
    return status;
  }
  const long r = wait_for(pid, &status);
  return r < 0 ? (int)ovl_result(r) : status;
}

HOOKED(int, system, const char *command) {
  if (OVL_OFF()) return NEXT(system)(command);
  if (command == NULL) return ovl_hook_system("exit 0") == 0;
  sigset_t child, mask;
  (void)sigemptyset(&child);
  (void)sigaddset(&child, SIGCHLD);
  ignore_keys();
  (void)pthread_sigmask(SIG_BLOCK, &child, &mask);
  const int status = run_shell(command, &mask);
  restore_keys();
  (void)pthread_sigmask(SIG_SETMASK, &mask, NULL);
  return status;
}

/* ---- popen -------------------------------------------------------------------------------------
 * */

struct piped {
  struct piped *next;
  FILE *stream;
  pid_t pid;
};

static pthread_mutex_t piped_lock = PTHREAD_MUTEX_INITIALIZER;
static struct piped *piped;

/* 'r' or 'w' once and any number of 'e'; -EINVAL for another mode. */
static long parse_mode(const char *mode, int *reads, int *cloexec) {
  int directions = 0;
  *cloexec = 0;
  for (; *mode != '\0'; mode++) {
    if (*mode == 'r' || *mode == 'w') {
      directions++;
      *reads = *mode == 'r';
    } else if (*mode == 'e') {
      *cloexec = 1;
    } else {
      return -EINVAL;
    }
  }
  return directions == 1 ? 0 : -EINVAL;
}

/* Starts the shell on its end of the pipe. Ends of earlier popens are not to be inherited (POSIX).
 * Called with piped_lock held. An error number. */
static int start_shell(pid_t *pid, const char *command, int end, int number) {
  posix_spawn_file_actions_t actions;
  (void)posix_spawn_file_actions_init(&actions);
  int error = posix_spawn_file_actions_adddup2(&actions, end, number);
  for (const struct piped *p = piped; p != NULL && error == 0; p = p->next)
    if (p->stream->_fileno >= 0 && p->stream->_fileno != number)
      error = posix_spawn_file_actions_addclose(&actions, p->stream->_fileno);
  char *const argv[] = {"sh", "-c", (char *)command, NULL};
  if (error == 0)
    error = ovl_hook_posix_spawn(pid, _PATH_BSHELL, &actions, NULL, argv, environ);
  (void)posix_spawn_file_actions_destroy(&actions);
  return error;
}

HOOKED(FILE *, popen, const char *command, const char *mode) {
  if (OVL_OFF()) return NEXT(popen)(command, mode);
  int reads = 0, cloexec, ends[2];
  const long valid = parse_mode(mode, &reads, &cloexec);
  if (valid < 0) return ovl_null(valid);
  if (pipe2(ends, O_CLOEXEC) != 0) return NULL;
  const int ours = ends[!reads], theirs = ends[reads];
  struct piped *p = malloc(sizeof *p);
  FILE *stream = p == NULL ? NULL : fdopen(ours, reads ? "r" : "w");
  if (stream == NULL) {
    KEEPING_ERRNO(free(p));
    (void)lx_close(ours);
    (void)lx_close(theirs);
    return NULL;
  }
  (void)pthread_mutex_lock(&piped_lock);
  const int error = start_shell(&p->pid, command, theirs, reads ? STDOUT_FILENO : STDIN_FILENO);
  if (error == 0) {
    p->stream = stream;
    p->next = piped;
    piped = p;
  }
  (void)pthread_mutex_unlock(&piped_lock);
  (void)lx_close(theirs);
  if (error != 0) {
    (void)NEXT(fclose)(stream);
    free(p);
    return ovl_null(-error);
  }
  if (!cloexec) (void)lx_fcntl(ours, F_SETFD, 0);
  return stream;
}
HOOK_ALIAS(_IO_popen, popen);

int ovl_pclose_ours(FILE *stream, int *status) {
  if (__atomic_load_n(&piped, __ATOMIC_RELAXED) == NULL) return 0;
  struct piped *found = NULL;
  (void)pthread_mutex_lock(&piped_lock);
  for (struct piped **p = &piped; *p != NULL; p = &(*p)->next)
    if ((*p)->stream == stream) {
      found = *p;
      *p = found->next;
      break;
    }
  (void)pthread_mutex_unlock(&piped_lock);
  if (found == NULL) return 0;
  ovl_fd_closing(stream->_fileno);
  (void)NEXT(fclose)(stream);
  const long r = wait_for(found->pid, status);
  if (r < 0) *status = (int)ovl_result(r);
  free(found);
  return 1;
}

HOOKED(int, pclose, FILE *stream) {
  int status;
  if (OVL_ON() && ovl_pclose_ours(stream, &status)) return status;
  return NEXT(pclose)(stream);
}
