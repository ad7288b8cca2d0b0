/* Thousands of locks taken and given back leave nothing behind: no descriptor, no memory, no mapping.
 *
 *   leaks CYCLES LOWER UPPER CONTESTED
 *
 * In an overlay LOWER is never copied up, UPPER at the start, CONTESTED while another process holds a lock on it,
 * which it keeps through all cycles. Guards against a hidden descriptor, scratch or mark that outlives its call. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { WARM = 200 };

static void must(int ok, const char *what) {
  if (ok) return;
  printf("%s: %s\n", what, strerror(errno));
  exit(1);
}

static long resident_kb(void) {
  char line[256];
  long kb = -1;
  FILE *file = fopen("/proc/self/status", "r");
  while (file && fgets(line, sizeof line, file)) sscanf(line, "VmRSS: %ld", &kb);
  if (file) fclose(file);
  return kb;
}

static int mappings(void) {
  int n = 0, c;
  FILE *file = fopen("/proc/self/maps", "r");
  while (file && (c = getc(file)) != EOF) n += c == '\n';
  if (file) fclose(file);
  return n;
}

static int first_free(void) {
  const int fd = dup(0);
  close(fd);
  return fd;
}

/* Shared locks: on CONTESTED somebody has one. */
static void cycle(const char *name, int mode) {
  const int fd = open(name, mode);
  struct flock f = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_len = 7};
  must(fd >= 0, name);
  must(flock(fd, LOCK_SH) == 0 && flock(fd, LOCK_EX | LOCK_NB) <= 0 && flock(fd, LOCK_UN) == 0, "flock");
  must(fcntl(fd, F_SETLK, &f) == 0 && fcntl(fd, F_OFD_SETLK, &f) == 0, "lock");
  f.l_type = F_WRLCK;
  must(fcntl(fd, F_GETLK, &f) == 0, "ask");
  f.l_type = F_UNLCK, f.l_whence = SEEK_SET, f.l_start = 2, f.l_len = 1, f.l_pid = 0;
  must(fcntl(fd, F_SETLK, &f) == 0 && fcntl(fd, F_OFD_SETLK, &f) == 0, "split");
  must(close(dup(fd)) == 0 && close(fd) == 0, "close");
}

static void cycles(long count, char **names, int early) {
  struct flock f = {.l_type = F_RDLCK, .l_whence = SEEK_SET};
  for (long i = 0; i < count; i++) {
    cycle(names[0], O_RDONLY);
    cycle(names[1], O_RDWR);
    cycle(names[2], i % 2 ? O_RDWR : O_RDONLY);
    must(flock(early, LOCK_SH) == 0 && flock(early, LOCK_UN) == 0, "early");
    must(fcntl(early, F_OFD_SETLK, &f) == 0, "early");
    f.l_type = f.l_type == F_RDLCK ? F_UNLCK : F_RDLCK;
  }
}

int main(int argc, char **argv) {
  int in[2], out[2], status;
  char byte = 'h';
  if (argc != 5) return 2;
  must(pipe(in) == 0 && pipe(out) == 0, "pipe");
  const pid_t holder = fork();
  if (holder == 0) {
    struct flock f = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 3, .l_len = 1};
    const int fd = open(argv[4], O_RDONLY);
    close(in[1]);
    if (fd < 0 || flock(fd, LOCK_SH) || fcntl(fd, F_SETLK, &f)) _exit(1);
    if (write(out[1], &byte, 1) != 1) _exit(1);
    _exit(read(in[0], &byte, 1) != 0);
  }
  close(in[0]);
  must(read(out[0], &byte, 1) == 1, "holder");
  const int early = open(argv[4], O_RDONLY);
  must(early >= 0 && chmod(argv[3], 0640) == 0 && chmod(argv[4], 0640) == 0, "copy-up");
  cycles(WARM, argv + 2, early);
  (void)resident_kb();
  const int descriptors = first_free(), maps = mappings();
  const long kb = resident_kb();
  cycles(atol(argv[1]), argv + 2, early);
  const long more = resident_kb() - kb;
  printf("descriptors %+d, mappings %+d, memory %s\n", first_free() - descriptors, mappings() - maps,
         more < 64 ? "the same" : "more");
  close(in[1]);
  must(waitpid(holder, &status, 0) == holder && status == 0, "holder ended");
  close(early);
  /* Nobody has it any more: whoever finds out takes the mark away. */
  const int last = open(argv[4], O_RDWR);
  struct flock all = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
  must(flock(last, LOCK_EX | LOCK_NB) == 0 && fcntl(last, F_SETLK, &all) == 0, "free in the end");
  printf("free in the end\n");
  return 0;
}
