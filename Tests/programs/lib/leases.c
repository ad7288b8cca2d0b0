/* Leases on one file after the other, as a schedule whose every step waits for what it needs: prints what each call
 * returned and each signal said. The same lines come out in a plain directory and in an overlay.
 *
 *   leases WHEN FILE…   WHEN the file is brought to the upper, by a change that breaks no lease:
 *     never   first: it is opened there   before: after it was opened, before the lease   after: after the lease
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *when;
static const char *file;
static int names;

static void say(const char *what, long r) {
  if (r < 0)
    printf("%s: %s\n", what, strerrorname_np(errno));
  else
    printf("%s: %ld\n", what, r);
  fflush(stdout);
}

static void die(const char *what) {
  perror(what);
  exit(1);
}

static int in_child(int (*body)(void)) {
  const pid_t pid = fork();
  if (pid == 0) _exit(body());
  int status;
  if (pid < 0 || waitpid(pid, &status, 0) != pid) die("child");
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int change(void) { return chmod(file, 0644) == 0 ? 0 : errno; }

/* A file of its own for each case, with a descriptor on it and its lease. */
static int held(int type, int lease_is_own) {
  if (strcmp(when, "first") == 0) (void)in_child(change);
  const int fd = open(file, type == F_RDLCK || names % 2 ? O_RDONLY : O_RDWR);
  if (fd < 0) die(file);
  if (strcmp(when, "before") == 0) (void)in_child(change);
  if (fcntl(fd, F_SETSIG, SIGRTMIN + 1) != 0) die("F_SETSIG");
  say("lease", fcntl(fd, F_SETLEASE, type));
  if (strcmp(when, "after") == 0) {
    if (lease_is_own)
      say("change", change());
    else
      say("change", in_child(change));
  }
  say("has", fcntl(fd, F_GETLEASE));
  return fd;
}

static void signals_said(int fd) {
  sigset_t set;
  siginfo_t info;
  sigemptyset(&set);
  sigaddset(&set, SIGRTMIN + 1);
  const struct timespec long_time = {.tv_sec = 20};
  if (sigtimedwait(&set, &info, &long_time) < 0) die("no signal");
  printf("signal %d, code %d, %s descriptor, band %lx\n", info.si_signo - SIGRTMIN, info.si_code,
         info.si_fd == fd ? "its" : "another", (long)info.si_band);
  printf("has %d, another signal %d\n", fcntl(fd, F_GETLEASE),
         sigtimedwait(&set, &info, &(struct timespec){0}) > 0);
  fflush(stdout);
}

static int flags_of_opener;
static int opener(void) {
  const int fd = open(file, flags_of_opener);
  return fd < 0 ? errno : 0;
}
static int opens(int flags) {
  flags_of_opener = flags;
  return in_child(opener);
}

static int truncater(void) { return truncate(file, 2) == 0 ? 0 : errno; }

static char state_of(pid_t pid) {
  char path[64], line[512] = "";
  snprintf(path, sizeof path, "/proc/%d/stat", pid);
  FILE *f = fopen(path, "r");
  if (f == NULL) return '-';
  if (fgets(line, sizeof line, f) == NULL) line[0] = 0;
  fclose(f);
  const char *after = strrchr(line, ')');
  return after ? after[2] : '-';
}

/* Who waits is seen to sleep, not by a clock. It has no part in the lease's description, whose close is to end it. */
static pid_t sleeper(int (*body)(void), int without) {
  const pid_t pid = fork();
  if (pid == 0) {
    if (without >= 0) close(without);
    _exit(body());
  }
  return pid;
}
static void until_it_sleeps(pid_t pid) {
  while (state_of(pid) != 'S')
    if (waitpid(pid, NULL, WNOHANG) != 0) die("it did not wait");
}
static int end_of(pid_t pid) {
  int status;
  waitpid(pid, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static long size_of(const char *path) {
  struct stat st;
  return stat(path, &st) == 0 ? (long)st.st_size : -1;
}

static void readers_break_none(void) {
  const int fd = held(F_RDLCK, 0);
  printf("reader %d\n", opens(O_RDONLY));
  printf("reader without waiting %d\n", opens(O_RDONLY | O_NONBLOCK));
  say("has", fcntl(fd, F_GETLEASE));
  say("release", fcntl(fd, F_SETLEASE, F_UNLCK));
  say("has", fcntl(fd, F_GETLEASE));
  say("release again", fcntl(fd, F_SETLEASE, F_UNLCK));
  close(fd);
}

static void writer_without_waiting(int flags) {
  const int fd = held(F_RDLCK, 0);
  printf("writer %d\n", opens(flags | O_NONBLOCK));
  signals_said(fd);
  printf("writer again %d\n", opens(flags | O_NONBLOCK));
  printf("size %ld\n", size_of(file));
  say("release", fcntl(fd, F_SETLEASE, F_UNLCK));
  printf("writer %d\n", opens(flags | O_NONBLOCK));
  say("new lease", fcntl(fd, F_SETLEASE, F_RDLCK));
  close(fd);
}

static void waits(int type, int flags, int (*body)(void)) {
  const int fd = held(type, 1);
  flags_of_opener = flags;
  const pid_t pid = sleeper(body, fd);
  signals_said(fd);
  until_it_sleeps(pid);
  printf("size %ld\n", size_of(file));
  say("release", fcntl(fd, F_SETLEASE, F_UNLCK));
  const int end = end_of(pid);
  printf("waiter %d, size %ld\n", end, size_of(file));
  close(fd);
}

static void downgrade(void) {
  const int fd = held(F_WRLCK, 1);
  printf("reader %d\n", opens(O_RDONLY | O_NONBLOCK));
  signals_said(fd);
  say("downgrade", fcntl(fd, F_SETLEASE, F_RDLCK));
  printf("reader %d\n", opens(O_RDONLY | O_NONBLOCK));
  flags_of_opener = O_WRONLY;
  const pid_t pid = sleeper(opener, fd);
  signals_said(fd);
  say("close", close(fd));
  printf("writer %d\n", end_of(pid));
}

static void refused(void) {
  const int fd = held(F_RDLCK, 0);
  const int other = open(file, O_RDONLY);
  say("write lease beside a reader", fcntl(fd, F_SETLEASE, F_WRLCK));
  say("has", fcntl(fd, F_GETLEASE));
  say("second read lease", fcntl(other, F_SETLEASE, F_RDLCK));
  close(other);
  say("release", fcntl(fd, F_SETLEASE, F_UNLCK));
  const int writer = open(file, O_WRONLY);
  say("read lease beside a writer", fcntl(fd, F_SETLEASE, F_RDLCK));
  say("write lease beside a writer", fcntl(fd, F_SETLEASE, F_WRLCK));
  close(writer);
  say("read lease", fcntl(fd, F_SETLEASE, F_RDLCK));
  say("nonsense", fcntl(fd, F_SETLEASE, 77));
  say("by number", syscall(SYS_fcntl, fd, F_GETLEASE, 0));
  say("by number", syscall(SYS_fcntl, fd, F_SETLEASE, F_UNLCK));
  close(fd);
}

static void names_change(void) {
  char moved[256];
  snprintf(moved, sizeof moved, "%s.moved", file);
  const int fd = held(F_RDLCK, 0);
  say("rename", rename(file, moved));
  const char *old = file;
  file = moved;
  say("has", fcntl(fd, F_GETLEASE));
  printf("writer %d\n", opens(O_WRONLY | O_NONBLOCK));
  signals_said(fd);
  say("unlink", unlink(moved));
  say("release", fcntl(fd, F_SETLEASE, F_UNLCK));
  say("lease on a removed file", fcntl(fd, F_SETLEASE, F_RDLCK));
  say("has", fcntl(fd, F_GETLEASE));
  close(fd);
  file = old;
}

static int (*kill_me)[2];
static int holder(void) {
  const int fd = held(F_RDLCK, 0);
  (void)fd;
  if (write((*kill_me)[1], "h", 1) != 1) return 1;
  for (;;) pause();
}
static void killed(void) {
  int pipe_[2];
  char byte;
  if (pipe(pipe_) != 0) die("pipe");
  kill_me = &pipe_;
  const pid_t pid = fork();
  if (pid == 0) _exit(holder());
  if (read(pipe_[0], &byte, 1) != 1) die("holder");
  flags_of_opener = O_RDWR;
  const pid_t waiter = sleeper(opener, -1);
  until_it_sleeps(waiter);
  kill(pid, SIGKILL);
  const int end = end_of(pid);
  printf("holder %d, waiter %d\n", end, end_of(waiter));
  printf("writer %d\n", opens(O_WRONLY | O_NONBLOCK));
}

static void rang(int signal) { (void)signal; }
static int interrupted(void) {
  sigaction(SIGALRM, &(struct sigaction){.sa_handler = rang}, NULL);
  struct sigaction restart = {.sa_handler = rang, .sa_flags = SA_RESTART};
  sigaction(SIGUSR1, &restart, NULL);
  raise(SIGUSR1);
  ualarm(30000, 0);
  return opener();
}
static void alarms(void) {
  const int fd = held(F_RDLCK, 0);
  flags_of_opener = O_WRONLY;
  printf("interrupted %d\n", in_child(interrupted));
  signals_said(fd);
  close(fd);
}

static int lease_fd;
static int child_releases(void) { return fcntl(lease_fd, F_SETLEASE, F_UNLCK) == 0 ? 0 : errno; }
static void descriptions(void) {
  const int fd = held(F_RDLCK, 0);
  lease_fd = dup(fd);
  close(fd);
  say("has", fcntl(lease_fd, F_GETLEASE));
  printf("writer %d\n", opens(O_WRONLY | O_NONBLOCK));
  signals_said(fd);
  printf("child releases %d\n", in_child(child_releases));
  printf("writer %d\n", opens(O_WRONLY | O_NONBLOCK));
  close(lease_fd);
}

static void to_another(void) {
  const int fd = held(F_RDLCK, 0);
  int told[2];
  char byte;
  if (pipe(told) != 0) die("pipe");
  const pid_t pid = fork();
  if (pid == 0) {
    if (write(told[1], "r", 1) != 1) _exit(1);
    signals_said(fd);
    _exit(0);
  }
  if (read(told[0], &byte, 1) != 1) die("other");
  const struct f_owner_ex owner = {.type = F_OWNER_PID, .pid = pid};
  say("owner", fcntl(fd, F_SETOWN_EX, &owner));
  printf("writer %d\n", opens(O_WRONLY | O_NONBLOCK));
  printf("other %d\n", end_of(pid));
  close(fd);
}

static int stranger(void) {
  const int fd = open(file, O_RDONLY);
  if (fd < 0 || setresuid(65534, 65534, 65534) != 0) return 1;
  return fcntl(fd, F_SETLEASE, F_RDLCK) == 0 ? 0 : errno;
}
static void strangers(void) {
  if (geteuid() == 0) printf("stranger %d\n", in_child(stranger));
  const int dir = open(".", O_RDONLY | O_DIRECTORY);
  say("lease on a directory", fcntl(dir, F_SETLEASE, F_RDLCK));
  close(dir);
  say("lease on nothing", fcntl(1234, F_SETLEASE, F_RDLCK));
}

/* A record lock of the opener's own on the same file must outlive what it does about leases. */
static int locked_opener(void) {
  struct flock l = {.l_type = F_RDLCK, .l_whence = SEEK_SET};
  const int mine = open(file, O_RDONLY);
  if (mine < 0 || fcntl(mine, F_SETLK, &l) != 0) return 1;
  const int e = opener();
  return e;
}
static void locks(void) {
  const int fd = held(F_RDLCK, 0);
  flags_of_opener = O_WRONLY;
  const pid_t pid = sleeper(locked_opener, fd);
  signals_said(fd);
  say("release", fcntl(fd, F_SETLEASE, F_UNLCK));
  printf("locked opener %d\n", end_of(pid));
  close(fd);
}

int main(int argc, char **argv) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGRTMIN + 1);
  sigprocmask(SIG_BLOCK, &set, NULL);
  when = argv[1];
  for (names = 0; names + 2 < argc; names++) {
    file = argv[names + 2];
    printf("-- case %d\n", names);
    fflush(stdout);
    switch (names) {
    case 0: readers_break_none(); break;
    case 1: writer_without_waiting(O_WRONLY); break;
    case 2: writer_without_waiting(O_WRONLY | O_TRUNC); break;
    case 3: writer_without_waiting(O_RDWR | O_CREAT); break;
    case 4: waits(F_RDLCK, O_RDWR, opener); break;
    case 5: waits(F_WRLCK, O_RDONLY, opener); break;
    case 6: waits(F_RDLCK, 0, truncater); break;
    case 7: waits(F_WRLCK, O_WRONLY | O_TRUNC, opener); break;
    case 8: waits(F_WRLCK, O_RDONLY, opener); break;
    case 9: waits(F_WRLCK, 0, truncater); break;
    case 10: refused(); break;
    case 11: downgrade(); break;
    case 12: names_change(); break;
    case 13: killed(); break;
    case 14: alarms(); break;
    case 15: descriptions(); break;
    case 16: to_another(); break;
    case 17: strangers(); break;
    case 18: locks(); break;
    default: return 0;
    }
  }
  return 0;
}
