/* What the locks of one process do to the reads and writes of another: prints what each call of the other one
 * returned.
 *
 *   mandatory FILE [early|never]
 *     early: the other one's descriptor for reading is from before anything is written
 *     never: nothing that waits for a lock
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *file;
static int there[2], back[2];

static void say(const char *what, long r) {
  if (r < 0)
    printf("%s: %s\n", what, strerrorname_np(errno));
  else
    printf("%s: %ld\n", what, r);
  fflush(stdout);
}

static int set(int fd, int command, int type, off_t start, off_t size) {
  struct flock l = {.l_type = (short)type, .l_whence = SEEK_SET, .l_start = start, .l_len = size};
  return fcntl(fd, command, &l);
}

/* The holder does what it is told, one letter each. */
static void holder(void) {
  char order;
  void *map = NULL;
  const int fd = open(file, O_RDWR);
  if (fd < 0) _exit(1);
  while (read(there[0], &order, 1) == 1) {
    int r = 0;
    switch (order) {
    case 'w': r = set(fd, F_SETLK, F_WRLCK, 10, 10); break;
    case 'r': r = set(fd, F_SETLK, F_RDLCK, 10, 10); break;
    case 'o': r = set(fd, F_OFD_SETLK, F_WRLCK, 10, 10); break;
    case 'u': r = set(fd, F_SETLK, F_UNLCK, 0, 0) | set(fd, F_OFD_SETLK, F_UNLCK, 0, 0); break;
    case 'm': map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0); break;
    case 'n': r = munmap(map, 4096); break;
    case 'x': r = (int)pwrite(fd, "own", 3, 12); break;
    case 'd':
      if (write(back[1], "+", 1) != 1) _exit(1);
      r = (int)pwrite(fd, "d", 1, 50);
      (void)set(fd, F_SETLK, F_UNLCK, 0, 0);
      break;
    default: _exit(0);
    }
    if (map == MAP_FAILED) r = -1;
    if (write(back[1], r < 0 ? "-" : "+", 1) != 1) _exit(1);
  }
  _exit(0);
}

static void tell(char order) {
  char answer;
  if (write(there[1], &order, 1) != 1 || read(back[0], &answer, 1) != 1) exit(1);
  if (answer != '+') printf("the holder's %c failed\n", order);
}

static void each(int fd, int wfd) {
  char b[64] = "0123456789abcdef";
  struct iovec v = {b, 16};
  off_t at = 0;
  int p[2];
  if (pipe(p) != 0) exit(1);
  say("read before it", pread(fd, b, 10, 0));
  say("read into it", pread(fd, b, 11, 0));
  say("read behind it", pread(fd, b, 10, 20));
  (void)lseek(fd, 0, SEEK_SET);
  say("read", read(fd, b, 16));
  say("readv", readv(fd, &v, 1));
  say("preadv", preadv(fd, &v, 1, 0));
  say("preadv2", preadv2(fd, &v, 1, -1, 0));
  (void)lseek(fd, 0, SEEK_SET);
  say("by number", syscall(SYS_read, fd, b, 16));
  say("sendfile", sendfile(p[1], fd, &at, 16));
  at = 0;
  say("splice", splice(fd, &at, p[1], NULL, 16, 0));
  char *m = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
  say("shared mapping", m == MAP_FAILED ? -1 : 0);
  if (m != MAP_FAILED) munmap(m, 4096);
  m = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0);
  say("private mapping", m == MAP_FAILED ? -1 : 0);
  if (m != MAP_FAILED) munmap(m, 4096);
  say("write before it", pwrite(wfd, "x", 1, 0));
  say("write into it", pwrite(wfd, "0123456789x", 11, 0));
  (void)lseek(wfd, 0, SEEK_SET);
  say("write", write(wfd, "0123456789abcdef", 16));
  (void)lseek(wfd, 0, SEEK_SET);
  say("writev", writev(wfd, &v, 1));
  say("pwritev2", pwritev2(wfd, &v, 1, 0, 0));
  say("ftruncate into it", ftruncate(wfd, 15));
  (void)ftruncate(wfd, 60);
  say("ftruncate behind it", ftruncate(wfd, 59));
  say("truncate into it", truncate(file, 15));
  say("size kept", lseek(wfd, 0, SEEK_END) >= 15 ? 0 : 1);
  (void)ftruncate(wfd, 60);
  at = 12;
  say("copy_file_range from it", copy_file_range(fd, &at, wfd, &(off_t){30}, 4, 0));
  at = 30;
  say("copy_file_range into it", copy_file_range(fd, &at, wfd, &(off_t){12}, 4, 0));
  const int t = open(file, O_RDWR | O_TRUNC | O_NONBLOCK);
  say("open with O_TRUNC", t < 0 ? -1 : 0);
  if (t >= 0) close(t);
  (void)ftruncate(wfd, 60);
  const int plain = open(file, O_RDWR);
  say("open", plain < 0 ? -1 : 0);
  close(plain);
  FILE *f = fdopen(dup(fd), "r");
  rewind(f);
  say("fgetc", fgetc(f) == EOF ? -1 : 0);
  fclose(f);
  f = fdopen(dup(wfd), "r+");
  rewind(f);
  say("fputs", fputs("0123456789abcdef", f) == EOF ? -1 : 0);
  say("fflush", fflush(f) == EOF ? -1 : 0);
  fclose(f);
  close(p[0]);
  close(p[1]);
}

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

static void rang(int signal) { (void)signal; }

/* One who waits, seen to sleep; then the lock goes, or a signal comes. */
static void waiter(const char *what, int reads, int interrupts, int locks) {
  const pid_t pid = fork();
  if (pid == 0) {
    char b[16];
    const int fd = open(file, O_RDWR);
    if (locks && set(fd, F_SETLK, F_WRLCK, 50, 1) != 0) _exit(200);
    if (interrupts) sigaction(SIGALRM, &(struct sigaction){.sa_handler = rang}, NULL);
    const long r = reads ? pread(fd, b, 4, 12) : pwrite(fd, "wxyz", 4, 12);
    _exit(r < 0 ? errno : 100 + (int)r);
  }
  while (state_of(pid) != 'S') {}
  int status;
  if (interrupts) {
    do { kill(pid, SIGALRM); usleep(1000); } while (waitpid(pid, &status, WNOHANG) == 0);
  } else {
    tell('u');
    waitpid(pid, &status, 0);
  }
  printf("%s: %d\n", what, WEXITSTATUS(status));
  fflush(stdout);
}

/* Each has a lock and writes where the other's is: one of them is refused, the other gets on. */
static void circle(pid_t pid) {
  char answer;
  const int fd = open(file, O_RDWR);
  tell('w');
  (void)set(fd, F_SETLK, F_WRLCK, 50, 1);
  tell('d');
  while (state_of(pid) != 'S') {}
  const long r = pwrite(fd, "d", 1, 12);
  const int deadlock = r < 0 && errno == EDEADLK;
  (void)set(fd, F_SETLK, F_UNLCK, 0, 0);
  if (read(back[0], &answer, 1) != 1) exit(1);
  printf("circle: %s\n", deadlock != (answer == '-') && (deadlock || r == 1) ? "one is refused" : "not seen");
  close(fd);
}

struct writer {
  int fd;
  long result;
  pid_t thread;
};

static void *writes(void *argument) {
  struct writer *w = argument;
  __atomic_store_n(&w->thread, gettid(), __ATOMIC_RELEASE);
  w->result = pwrite(w->fd, "01234567890123456789", 20, 0);
  return NULL;
}

/* One thread waits to write where another takes the process's first lock meanwhile, which must stay. */
static void threads(void) {
  struct writer w = {.fd = open(file, O_RDWR)};
  pthread_t thread;
  pid_t waits;
  tell('w');
  if (pthread_create(&thread, NULL, writes, &w) != 0) exit(1);
  while ((waits = __atomic_load_n(&w.thread, __ATOMIC_ACQUIRE)) == 0 || state_of(waits) != 'S') {}
  say("lock meanwhile", set(w.fd, F_SETLK, F_WRLCK, 0, 5));
  tell('u');
  pthread_join(thread, NULL);
  printf("writer: %ld\n", w.result);
  fflush(stdout);
  const pid_t other = fork();
  if (other == 0) {
    say("other's lock", set(open(file, O_RDWR), F_SETLK, F_WRLCK, 0, 5));
    _exit(0);
  }
  waitpid(other, NULL, 0);
  close(w.fd);
}

int main(int argc, char **argv) {
  file = argv[1];
  const int never = argc > 2 && strcmp(argv[2], "never") == 0;
  const int early = argc > 2 && !never ? open(file, O_RDONLY | O_NONBLOCK) : -1;
  if (pipe(there) != 0 || pipe(back) != 0) return 1;
  const pid_t pid = fork();
  if (pid == 0) holder();
  const int fd = early >= 0 ? early : open(file, O_RDONLY | O_NONBLOCK);
  const int wfd = open(file, O_RDWR | O_NONBLOCK);
  if (ftruncate(wfd, 60) != 0) return 1;
  static const struct {
    char order;
    const char *name;
  } kinds[] = {{'w', "write lock"}, {'r', "read lock"}, {'o', "description's write lock"}};
  for (int i = 0; i < 3; i++) {
    printf("-- %s\n", kinds[i].name);
    tell(kinds[i].order);
    each(fd, wfd);
    tell('u');
  }
  if (!never) {
    printf("-- threads\n");
    threads();
  }
  printf("-- own lock\n");
  say("lock", set(wfd, F_SETLK, F_WRLCK, 10, 10));
  say("write", pwrite(wfd, "own", 3, 12));
  say("unlock", set(wfd, F_SETLK, F_UNLCK, 0, 0));
  if (never) {
    kill(pid, SIGKILL);
    return 0;
  }
  tell('w');
  tell('x');
  printf("-- waits\n");
  waiter("reader", 1, 0, 0);
  tell('w');
  waiter("writer", 0, 0, 0);
  tell('r');
  waiter("writer with locks of its own", 0, 0, 1);
  tell('w');
  waiter("reader, interrupted", 1, 1, 0);
  waiter("reader with locks of its own, interrupted", 1, 1, 1);
  tell('u');
  circle(pid);
  printf("-- mappings\n");
  tell('m');
  say("lock of a mapped file", set(wfd, F_SETLK, F_WRLCK, 10, 10));
  say("asked", set(wfd, F_GETLK, F_WRLCK, 10, 10));
  tell('n');
  say("lock", set(wfd, F_SETLK, F_WRLCK, 10, 10));
  say("mode", fchmod(wfd, 0644));
  tell('x');
  if (write(there[1], "q", 1) != 1) return 1;
  waitpid(pid, NULL, 0);
  return 0;
}
