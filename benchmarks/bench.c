/* One operation, many times, in the current directory: prints nanoseconds per operation.
 *
 *   bench OPERATION COUNT
 *
 * The clock starts after one unmeasured operation, so neither the start of the process nor the first
 * look-up is in it. COUNT is taken in ten slices and the fastest of them counts: what a slice loses to
 * other processes on the machine is not the operation's. Without a clock around it (strace, callgrind), compare two COUNTs. */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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
