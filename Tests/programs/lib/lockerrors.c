/* Every lock call with every kind of wrong argument, on descriptors of several kinds, one of them on a file that was
 * copied up behind it, free and with another process's locks in the way: prints what each answers. Guards against a
 * check of the kernel's that the way over two inodes leaves out, or makes in another order.
 *
 *   lockerrors FILE OTHER DIRECTORY
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static const struct {
  const char *name;
  int command;
} commands[] = {{"GETLK", F_GETLK},         {"SETLK", F_SETLK},         {"SETLKW", F_SETLKW},
                {"OFD_GETLK", F_OFD_GETLK}, {"OFD_SETLK", F_OFD_SETLK}, {"OFD_SETLKW", F_OFD_SETLKW}};
static const struct {
  const char *name;
  struct flock words;
} requests[] = {
    {"read all", {F_RDLCK, SEEK_SET, 0, 0, 0}},
    {"write all", {F_WRLCK, SEEK_SET, 0, 0, 0}},
    {"unlock all", {F_UNLCK, SEEK_SET, 0, 0, 0}},
    {"type 3", {3, SEEK_SET, 0, 0, 0}},
    {"type -1", {-1, SEEK_SET, 0, 0, 0}},
    {"whence 3", {F_RDLCK, 3, 0, 0, 0}},
    {"whence -1", {F_RDLCK, -1, 0, 0, 0}},
    {"before the start", {F_RDLCK, SEEK_SET, -1, 0, 0}},
    {"before the start by length", {F_RDLCK, SEEK_SET, 5, -6, 0}},
    {"backwards", {F_RDLCK, SEEK_SET, 5, -5, 0}},
    {"from the end", {F_RDLCK, SEEK_END, -1, 1, 0}},
    {"before the start from the end", {F_RDLCK, SEEK_END, LONG_MIN / 2, 1, 0}},
    {"from here", {F_RDLCK, SEEK_CUR, 0, 1, 0}},
    {"past the end of numbers", {F_RDLCK, SEEK_SET, LONG_MAX, 2, 0}},
    {"far from here", {F_RDLCK, SEEK_END, LONG_MAX, 1, 0}},
    {"to the end of numbers", {F_RDLCK, SEEK_SET, LONG_MAX, 1, 0}},
    {"with a process", {F_RDLCK, SEEK_SET, 0, 1, 7}},
    {"split", {F_UNLCK, SEEK_SET, 3, 1, 0}},
};
static const int operations[] = {LOCK_SH | LOCK_NB, LOCK_EX | LOCK_NB, LOCK_UN, LOCK_UN | LOCK_NB, LOCK_SH | LOCK_EX | LOCK_NB,
                                 0, LOCK_NB, 16, 32, LOCK_MAND | LOCK_READ, -1};

static void say(const char *file, const char *call, const char *what, long r, const struct flock *words) {
  printf("%s %s %s: ", file, call, what);
  if (r != 0)
    printf("%s\n", strerrorname_np(errno));
  else if (words)
    printf("ok %d %d %ld %ld %d\n", words->l_type, words->l_whence, (long)words->l_start, (long)words->l_len,
           words->l_pid == 0 ? 0 : words->l_pid == getpid() ? 1 : words->l_pid == -1 ? -1 : 2);
  else
    printf("ok\n");
  errno = 0;
}

/* Commands that could wait for `busy` ones are left out. */
static void all(const char *file, int fd, void *unmapped, int busy) {
  for (size_t c = 0; c < sizeof commands / sizeof *commands; c++) {
    const int command = commands[c].command;
    if (busy && (command == F_SETLKW || command == F_OFD_SETLKW)) continue;
    for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
      struct flock words = requests[i].words;
      long r = fcntl(fd, command, &words);
      say(file, commands[c].name, requests[i].name, r, &words);
      words = requests[i].words;
      r = syscall(SYS_fcntl, fd, command, &words);
      say(file, "syscall", requests[i].name, r, &words);
    }
    say(file, commands[c].name, "NULL", fcntl(fd, command, NULL), NULL);
    say(file, commands[c].name, "4095", fcntl(fd, command, (void *)4095), NULL);
    say(file, commands[c].name, "no address", fcntl(fd, command, (void *)(1ull << 63)), NULL);
    say(file, commands[c].name, "not mapped", fcntl(fd, command, unmapped), NULL);
    /* Words of which the second half is not mapped. */
    say(file, commands[c].name, "half mapped", fcntl(fd, command, (char *)unmapped - 16), NULL);
    struct flock free = {F_UNLCK, SEEK_SET, 0, 0, 0};
    fcntl(fd, command < F_OFD_GETLK ? F_SETLK : F_OFD_SETLK, &free);
    errno = 0;
  }
  for (size_t i = 0; i < sizeof operations / sizeof *operations; i++) {
    char what[16];
    snprintf(what, sizeof what, "%d", operations[i]);
    say(file, "flock", what, flock(fd, operations[i]), NULL);
    say(file, "syscall flock", what, syscall(SYS_flock, fd, operations[i]), NULL);
  }
  flock(fd, LOCK_UN);
  errno = 0;
  for (int command = -1; command <= 5; command++)
    for (int i = 0; i < 4; i++) {
      const off_t lengths[] = {0, 3, -3, LONG_MAX};
      char what[32];
      if (busy && command == F_LOCK) continue;
      snprintf(what, sizeof what, "%d %d", command, i);
      say(file, "lockf", what, lockf(fd, command, lengths[i]), NULL);
      say(file, "lockf64", what, lockf64(fd, command, lengths[i]), NULL);
    }
  lockf(fd, F_ULOCK, 0);
  errno = 0;
}

/* Another process with locks of every kind on a file, until the pipe is closed. */
static int start_holder(const char *name, pid_t *holder) {
  int in[2], out[2];
  char byte = 'h';
  if (pipe(in) || pipe(out)) return -1;
  *holder = fork();
  if (*holder == 0) {
    int file = open(name, O_RDWR), whole = open(name, O_RDONLY);
    struct flock first = {F_WRLCK, SEEK_SET, 0, 1, 0}, third = {F_RDLCK, SEEK_SET, 2, 1, 0};
    close(in[1]);
    if (fcntl(file, F_SETLK, &first) || fcntl(file, F_OFD_SETLK, &third) || flock(whole, LOCK_SH)) _exit(1);
    if (write(out[1], &byte, 1) != 1) _exit(1);
    _exit(read(in[0], &byte, 1) != 0);
  }
  close(in[0]);
  close(out[1]);
  const int ready = *holder > 0 && read(out[0], &byte, 1) == 1;
  close(out[0]);
  return ready ? in[1] : -1;
}

int main(int argc, char **argv) {
  int pipes[2], status;
  pid_t holder;
  if (argc != 4) return 2;
  setvbuf(stdout, NULL, _IOFBF, 1 << 16);
  char *pages = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (pages == MAP_FAILED || mprotect(pages + 4096, 4096, PROT_NONE)) return 1;
  void *unmapped = pages + 4096;
  /* In the half that is mapped, a request that is right. */
  memset(pages, 0, 4096);
  int lower = open(argv[1], O_RDONLY), copied = open(argv[2], O_RDONLY), upper = open(argv[2], O_RDWR);
  int writer = open(argv[2], O_WRONLY), path = open(argv[1], O_PATH), upper_path = open(argv[2], O_PATH);
  int directory = open(argv[3], O_RDONLY | O_DIRECTORY), null = open("/dev/null", O_RDWR);
  if (lower < 0 || copied < 0 || upper < 0 || writer < 0 || path < 0 || upper_path < 0) return 1;
  if (directory < 0 || null < 0 || pipe(pipes)) return 1;
  all("lower", lower, unmapped, 0);
  all("copied up", copied, unmapped, 0);
  all("upper", upper, unmapped, 0);
  all("writer", writer, unmapped, 0);
  all("path", path, unmapped, 0);
  all("upper path", upper_path, unmapped, 0);
  all("directory", directory, unmapped, 0);
  chmod(argv[3], 0700);
  all("directory copied up", directory, unmapped, 0);
  all("pipe", pipes[0], unmapped, 0);
  all("null", null, unmapped, 0);
  all("closed", 999, unmapped, 0);
  all("closed and far", 100000, unmapped, 0);
  all("negative", -1, unmapped, 0);
  const int keep = start_holder(argv[2], &holder);
  if (keep < 0) return 1;
  all("copied up, busy", copied, unmapped, 1);
  all("upper, busy", upper, unmapped, 1);
  all("writer, busy", writer, unmapped, 1);
  close(keep);
  return waitpid(holder, &status, 0) != holder || status != 0;
}
