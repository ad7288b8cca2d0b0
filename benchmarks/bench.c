/* One operation, many times, in the current directory: prints nanoseconds per operation.
 *
 *   bench OPERATION COUNT
 *
 * The clock starts after one unmeasured operation, so neither the start of the process nor the first
 * look-up is in it. COUNT is taken in ten slices and the fastest of them counts: what a slice loses to
 * other processes on the machine is not the operation's. Without a clock around it (strace, callgrind), compare two COUNTs. */

#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static void must(int ok, const char *what) {
  if (ok) return;
  fprintf(stderr, "bench: %s: %s\n", what, strerror(errno));
  exit(1);
}

static void open_close(void) {
  int fd = open("file", O_RDONLY);
  must(fd >= 0 && close(fd) == 0, "open file");
}

static void open_deep(void) {
  int fd = open("a/b/c/d/e/file", O_RDONLY);
  must(fd >= 0 && close(fd) == 0, "open a/b/c/d/e/file");
}

static void stat_file(void) {
  struct stat st;
  must(stat("file", &st) == 0, "stat file");
}

static void lstat_missing(void) {
  struct stat st;
  must(lstat("missing", &st) != 0 && errno == ENOENT, "lstat missing");
}

static void access_file(void) { must(access("file", R_OK) == 0, "access file"); }

static void readdir_1000(void) {
  DIR *dir = opendir("thousand");
  int n = 0;
  must(dir != NULL, "opendir thousand");
  while (readdir(dir)) n++;
  closedir(dir);
  must(n == 1002, "entries of thousand");
}

static void create_unlink(void) {
  int fd = open("new", O_WRONLY | O_CREAT | O_EXCL, 0644);
  must(fd >= 0 && close(fd) == 0, "create new");
  must(unlink("new") == 0, "unlink new");
}

static void rename_back(void) { /* two renames */
  must(rename("moving", "moved") == 0, "rename moving");
  must(rename("moved", "moving") == 0, "rename moved");
}

static void append(void) {
  int fd = open("written", O_WRONLY | O_APPEND);
  must(fd >= 0 && close(fd) == 0, "open written");
}

static int lower_fd = -1;
static void pread_lower(void) {
  char buffer[4096];
  if (lower_fd < 0) lower_fd = open("file", O_RDONLY);
  must(pread(lower_fd, buffer, sizeof buffer, 0) > 0, "pread file");
}

/* ---- locks: taken and given back, on a file of the upper and on one of a lower */
enum kind { RECORD, OFD, FLOCK };
static void lock_and_unlock(int *fd, const char *name, enum kind kind) {
  struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
  int ok;
  /* Only a descriptor that writes may have a write lock: of a lower, a read lock. */
  if (*fd < 0) *fd = open(name, strcmp(name, "file") ? O_RDWR : O_RDONLY);
  if (!strcmp(name, "file")) whole.l_type = F_RDLCK;
  if (kind == FLOCK) {
    must(flock(*fd, LOCK_EX) == 0 && flock(*fd, LOCK_UN) == 0, "flock");
    return;
  }
  ok = fcntl(*fd, kind == OFD ? F_OFD_SETLK : F_SETLK, &whole) == 0;
  whole.l_type = F_UNLCK;
  must(ok && fcntl(*fd, kind == OFD ? F_OFD_SETLK : F_SETLK, &whole) == 0, "lock");
}

static int upper_fd = -1;
static void record_upper(void) { lock_and_unlock(&upper_fd, "written", RECORD); }
static void ofd_upper(void) { lock_and_unlock(&upper_fd, "written", OFD); }
static void flock_upper(void) { lock_and_unlock(&upper_fd, "written", FLOCK); }
static void record_lower(void) { lock_and_unlock(&lower_fd, "file", RECORD); }
static void ofd_lower(void) { lock_and_unlock(&lower_fd, "file", OFD); }
static void flock_lower(void) { lock_and_unlock(&lower_fd, "file", FLOCK); }

/* The first lock on a file of a lower since it was opened: never the same file twice. */
static void first_lock(void) {
  static int n;
  char name[40];
  struct flock whole = {.l_type = F_RDLCK, .l_whence = SEEK_SET};
  snprintf(name, sizeof name, "thousand/entry-%d", n++ % 1000 + 1);
  const int fd = open(name, O_RDONLY);
  must(fd >= 0 && fcntl(fd, F_SETLK, &whole) == 0 && close(fd) == 0, name);
}

/* A lock that goes to and fro between two processes: each gives one file up and waits for the other. */
static void hand_off(void) {
  static pid_t partner;
  static int ping[2], pong[2];
  char byte = 0;
  if (!partner) {
    must(pipe(ping) == 0 && pipe(pong) == 0, "pipe");
    if ((partner = fork()) == 0) {
      int fd = open("written", O_RDWR);
      close(ping[1]);
      while (read(ping[0], &byte, 1) == 1)
        must(flock(fd, LOCK_EX) == 0 && flock(fd, LOCK_UN) == 0 && write(pong[1], &byte, 1) == 1, "partner");
      _exit(0);
    }
    upper_fd = open("written", O_RDWR);
  }
  must(flock(upper_fd, LOCK_EX) == 0 && write(ping[1], &byte, 1) == 1, "flock written");
  must(flock(upper_fd, LOCK_UN) == 0 && read(pong[0], &byte, 1) == 1, "hand written over");
}

static void reap(pid_t pid) {
  int status;
  must(waitpid(pid, &status, 0) == pid && status == 0, "true");
}

static void spawn_true(void) {
  char *argv[] = {"true", NULL};
  pid_t pid;
  errno = posix_spawn(&pid, "/bin/true", NULL, NULL, argv, environ);
  must(errno == 0, "posix_spawn");
  reap(pid);
}

static void vfork_true(void) {
  char *argv[] = {"true", NULL};
  pid_t pid = vfork();
  if (pid == 0) {
    execve("/bin/true", argv, environ);
    _exit(127);
  }
  must(pid > 0, "vfork");
  reap(pid);
}

/* What another process writes in a watched directory, until its watcher has said so. */
static void told(const char *name) {
  static pid_t partner;
  static int fd, pong[2];
  char byte = 0;
  if (!partner) {
    must(pipe(pong) == 0, "pipe");
    int instance = inotify_init1(0);
    must(instance >= 0 && inotify_add_watch(instance, ".", IN_MODIFY) > 0, "watch .");
    if ((partner = fork()) == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      char events[4096];
      while (read(instance, events, sizeof events) > 0) must(write(pong[1], &byte, 1) == 1, "partner");
      _exit(0);
    }
    close(instance);
    /* What is told is the writing alone. */
    must((fd = open(name, O_WRONLY)) >= 0, name);
  }
  must(pwrite(fd, "x", 1, 0) == 1 && read(pong[0], &byte, 1) == 1, "be told");
}
static void told_upper(void) { told("written"); }

static int watcher(void) {
  static int instance = -1;
  if (instance < 0) {
    instance = inotify_init1(IN_NONBLOCK);
    must(inotify_add_watch(instance, "a", IN_CREATE) > 0 && inotify_add_watch(instance, "file", IN_MODIFY) > 0, "watch");
  }
  return instance;
}

static int other_end(void) {
  static int ends[2];
  if (ends[0] == 0) must(pipe(ends) == 0, "pipe");
  return ends[0];
}

static void poll_other(void) {
  struct pollfd p = {.fd = other_end(), .events = POLLIN};
  must(poll(&p, 1, 0) == 0, "poll");
}
static void poll_watching(void) {
  (void)watcher();
  poll_other();
}

static void wait_epoll(void) {
  static int epoll = 0;
  struct epoll_event event = {.events = EPOLLIN};
  if (epoll == 0) {
    epoll = epoll_create1(0);
    must(epoll_ctl(epoll, EPOLL_CTL_ADD, other_end(), &event) == 0, "epoll_ctl");
  }
  must(epoll_wait(epoll, &event, 1, 0) == 0, "epoll_wait");
}
static void epoll_watching(void) {
  (void)watcher();
  wait_epoll();
}

static void watch_directory(void) {
  const int wd = inotify_add_watch(watcher(), "thousand", IN_CREATE);
  must(wd > 0 && inotify_rm_watch(watcher(), wd) == 0, "watch thousand");
  char events[4096];
  while (read(watcher(), events, sizeof events) > 0) continue;
}

static const struct {
  const char *name;
  void (*run)(void);
  int operations; /* in one run */
} table[] = {
    {"open+close", open_close, 1},     {"open+close-deep", open_deep, 1},
    {"stat", stat_file, 1},            {"lstat-missing", lstat_missing, 1},
    {"access", access_file, 1},        {"pread-4k", pread_lower, 1},
    {"readdir-1000", readdir_1000, 1}, {"create+unlink", create_unlink, 1},
    {"rename", rename_back, 2},        {"open-append", append, 1},
    {"posix_spawn", spawn_true, 1},    {"vfork+exec", vfork_true, 1},
    {"record-upper", record_upper, 1}, {"record-lower", record_lower, 1},
    {"ofd-upper", ofd_upper, 1},       {"ofd-lower", ofd_lower, 1},
    {"flock-upper", flock_upper, 1},   {"flock-lower", flock_lower, 1},
    {"first-lock", first_lock, 1},
    {"hand-off", hand_off, 1},         {"told", told_upper, 1},
    {"poll", poll_other, 1},           {"poll-watching", poll_watching, 1},
    {"epoll", wait_epoll, 1},          {"epoll-watching", epoll_watching, 1},
    {"watch", watch_directory, 1},
};

int main(int argc, char **argv) {
  if (argc == 3) {
    long count = strtol(argv[2], NULL, 10);
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
      struct timespec from, to;
      double best = 0;
      if (strcmp(table[i].name, argv[1])) continue;
      table[i].run();
      for (int slice = 0; slice < 10; slice++) {
        long last = count * (slice + 1) / 10, first = count * slice / 10;
        clock_gettime(CLOCK_MONOTONIC, &from);
        for (long n = first; n < last; n++) table[i].run();
        clock_gettime(CLOCK_MONOTONIC, &to);
        double ns = (to.tv_sec - from.tv_sec) * 1e9 + (double)(to.tv_nsec - from.tv_nsec);
        ns /= (double)(last - first) * table[i].operations;
        if (slice == 0 || ns < best) best = ns;
      }
      printf("%.1f\n", best);
      return 0;
    }
  }
  if (argc == 2 && !strcmp(argv[1], "wait")) { /* for the memory measurement */
    char byte;
    open_close();
    stat_file();
    must(write(1, "r", 1) == 1, "write");
    return read(0, &byte, 1) != 0;
  }
  fprintf(stderr, "usage: bench OPERATION COUNT | bench wait\noperations:");
  for (size_t i = 0; i < sizeof table / sizeof *table; i++) fprintf(stderr, " %s", table[i].name);
  fprintf(stderr, "\n");
  return 2;
}
