/* A wait for a lock that somebody else has, through a descriptor from before this process copied the file up: what
 * ends it, and what does not, besides the holder.
 *
 *   waits record|ofd|flock cancel|jump|restart|stop FILE
 *
 * Prints what happened; the same on a plain file. Nothing here waits for a time: timers only interrupt. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *kind;
static int fd, holder_in, holder_out;
static pid_t holder;
static sigjmp_buf back;
static volatile sig_atomic_t signals;
static volatile pid_t thread_id;

static void must(int ok, const char *what) {
  if (ok) return;
  printf("%s: %s\n", what, strerror(errno));
  exit(1);
}

static int lock(int file, int exclusive, int wait) {
  struct flock f = {.l_type = exclusive ? F_WRLCK : F_RDLCK, .l_whence = SEEK_SET};
  if (!strcmp(kind, "flock")) return flock(file, (exclusive ? LOCK_EX : LOCK_SH) | (wait ? 0 : LOCK_NB));
  if (!strcmp(kind, "ofd")) return fcntl(file, wait ? F_OFD_SETLKW : F_OFD_SETLK, &f);
  return fcntl(file, wait ? F_SETLKW : F_SETLK, &f);
}

/* Opens the file for reading, locks it, gives the lock up when told. */
static void start_holder(const char *name) {
  int in[2], out[2];
  char byte = 'h';
  must(pipe(in) == 0 && pipe(out) == 0, "pipe");
  holder = fork();
  if (holder == 0) {
    int file = open(name, O_RDONLY);
    must(file >= 0 && lock(file, 0, 0) == 0, "hold");
    must(write(out[1], &byte, 1) == 1 && read(in[0], &byte, 1) == 1, "holder");
    _exit(0);
  }
  holder_in = in[1], holder_out = out[0];
  must(read(holder_out, &byte, 1) == 1, "holder");
}
static void release(void) { must(write(holder_in, "u", 1) == 1, "release"); }

static char state_of(pid_t pid, pid_t task) {
  char name[64], text[512];
  FILE *file;
  size_t n;
  snprintf(name, sizeof name, "/proc/%d/task/%d/stat", (int)pid, (int)task);
  file = fopen(name, "r");
  if (!file) return '?';
  n = fread(text, 1, sizeof text - 1, file);
  text[n] = 0;
  fclose(file);
  return strrchr(text, ')')[2];
}

static void *waiting_thread(void *unused) {
  thread_id = (pid_t)syscall(SYS_gettid);
  if (lock(fd, 1, 1) != 0) printf("thread: %s\n", strerror(errno));
  pthread_testcancel();
  return unused;
}

static void cancel(void) {
  pthread_t thread;
  void *result;
  pthread_create(&thread, NULL, waiting_thread, NULL);
  while (thread_id == 0 || state_of(getpid(), thread_id) != 'S') {}
  pthread_cancel(thread);
  /* flock is no cancellation point: it is left with the lock. */
  if (!strcmp(kind, "flock")) release();
  pthread_join(thread, &result);
  printf("%s\n", result == PTHREAD_CANCELED ? "cancelled" : "not cancelled");
  if (strcmp(kind, "flock")) release();
}

static void jump(int signal) {
  (void)signal;
  siglongjmp(back, 1);
}
static void count(int signal) {
  (void)signal;
  if (++signals == 50) release();
}

static void timer(long microseconds, int every) {
  struct itimerval t = {.it_value = {0, microseconds}};
  if (every) t.it_interval = t.it_value;
  must(setitimer(ITIMER_REAL, &t, NULL) == 0, "setitimer");
}

static void jumps(void) {
  struct sigaction action = {.sa_handler = jump};
  volatile int n = 0;
  sigaction(SIGALRM, &action, NULL);
  if (sigsetjmp(back, 1) != 0) n++;
  if (n < 200) {
    timer(1000 + n * 37, 0);
    must(lock(fd, 1, 1) == 0, "wait");
    printf("locked although held\n");
  }
  release();
  must(lock(fd, 1, 1) == 0, "lock after the jumps");
  printf("locked after %d jumps\n", n);
}

static void restarts(void) {
  struct sigaction action = {.sa_handler = count, .sa_flags = SA_RESTART};
  sigaction(SIGALRM, &action, NULL);
  timer(1000, 1);
  int r = lock(fd, 1, 1);
  timer(0, 0);
  printf("%s, %s\n", r == 0 ? "locked" : strerror(errno), signals >= 50 ? "after the signals" : "too early");
}

static void stopped(const char *name) {
  int status;
  char byte = 'l';
  int out[2];
  must(pipe(out) == 0, "pipe");
  pid_t waiter = fork();
  if (waiter == 0) {
    int mine = open(name, O_RDWR);
    must(lock(mine, 1, 1) == 0 && write(out[1], &byte, 1) == 1, "waiter");
    _exit(0);
  }
  while (state_of(waiter, waiter) != 'S') {}
  kill(waiter, SIGSTOP);
  waitpid(waiter, &status, WUNTRACED);
  release();
  waitpid(holder, &status, 0);
  kill(waiter, SIGCONT);
  must(read(out[0], &byte, 1) == 1, "waiter");
  waitpid(waiter, &status, 0);
  printf("locked after it went on: %d\n", status);
}

int main(int argc, char **argv) {
  char before[32], after[32];
  if (argc != 4) return 2;
  kind = argv[1];
  start_holder(argv[3]);
  fd = open(argv[3], O_RDWR);
  must(fd >= 0, argv[3]);
  snprintf(before, sizeof before, "%d", dup(0));
  close(atoi(before));
  if (!strcmp(argv[2], "cancel")) cancel();
  if (!strcmp(argv[2], "jump")) jumps();
  if (!strcmp(argv[2], "restart")) restarts();
  if (!strcmp(argv[2], "stop")) stopped(argv[3]);
  snprintf(after, sizeof after, "%d", dup(0));
  printf("%s %s %s: %s\n", argv[1], argv[2], argv[3],
         strcmp(before, after) ? "a descriptor is left open" : "no descriptor is left open");
  /* Nobody has it now but perhaps this process: another one does what it may. */
  close(fd);
  waitpid(holder, NULL, 0);
  fd = open(argv[3], O_RDWR);
  printf("%s\n", lock(fd, 1, 0) == 0 ? "free" : "still locked");
  return 0;
}
