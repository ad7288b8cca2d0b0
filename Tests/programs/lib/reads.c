/* A descriptor or stream that was opened for reading before somebody else changed the file.
 *
 *   reads calls FILE       every call that shows data, after another process has appended to FILE
 *   reads streams FILE     the same for libc's streams
 *   reads shared FILE N    N processes share one position and read FILE while another copies it up; every
 *                          byte is read by one of them
 *   reads locks FILE       a record lock on the changed file outlives reads through the old descriptor
 *   reads removed FILE     the changed file is removed, or another one renamed over it
 *   reads crowded FILE     there is no descriptor left to open
 *   reads signals FILE     reads by two threads and a signal handler on one description
 *   reads aio FILE         POSIX asynchronous reads
 *   reads confined FILE OTHER HOW [DIR]
 *                          the process can no longer reach FILE by its name: HOW is `chroot`, into DIR, or
 *                          `setuid`. OTHER is changed then
 *   reads childless FILE   no process can be started; there are record locks on FILE
 *   reads readonly FILE DIR…
 *                          FILE is changed by another process for which the DIRs are not read-only
 *
 * What is printed must be the same in a plain directory. Ends with 1 at the first call that fails
 * unexpectedly. */

#define _GNU_SOURCE
#include <aio.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>
#include <wchar.h>

#define CHECK(x)                                                \
  do {                                                          \
    if (!(x)) {                                                 \
      printf("line %d: %s: %s\n", __LINE__, #x, strerror(errno)); \
      exit(1);                                                  \
    }                                                           \
  } while (0)

/* In another process. */
static void change(void (*how)(const char *), const char *path) {
  fflush(NULL);
  const pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    how(path);
    _exit(0);
  }
  int status;
  CHECK(waitpid(child, &status, 0) == child && status == 0);
}

static void append(const char *path) {
  const int fd = open(path, O_WRONLY | O_APPEND);
  CHECK(fd >= 0 && write(fd, "appended\n", 9) == 9 && close(fd) == 0);
}

static void overwrite(const char *path) {
  const int fd = open(path, O_WRONLY);
  CHECK(fd >= 0 && write(fd, "OVERWRITTEN", 11) == 11 && close(fd) == 0);
}

static void say(const char *what, long r, const char *data) {
  if (r < 0) printf("%s: %s\n", what, strerror(errno));
  else printf("%s: %ld %.*s\n", what, r, data == NULL ? 0 : (int)r, data == NULL ? "" : data);
}

/* What is in a pipe or temporary file by now. */
static void drain(const char *what, int fd, long r) {
  char data[4096];
  const ssize_t n = r > 0 ? read(fd, data, sizeof data) : 0;
  say(what, r < 0 ? r : n, data);
}

static void calls(const char *path) {
  char b[4096], c[4096];
  const int fd = open(path, O_RDONLY);
  CHECK(fd >= 0);
  say("read before", read(fd, b, 6), b);
  const int other = dup(fd);
  change(append, path);
  change(overwrite, path);
  const off_t size = lseek(fd, 0, SEEK_END);
  say("SEEK_END", size, NULL);
  say("read at the end", read(fd, b, 10), b);
  say("SEEK_END -9", lseek(fd, -9, SEEK_END), NULL);
  say("dup's position", lseek(other, 0, SEEK_CUR), NULL);
  say("read by the dup", read(other, b, 100), b);
  say("read after it", read(fd, b, 100), b);
  say("SEEK_END before the start", lseek(fd, -size - 1, SEEK_END), NULL);
  say("SEEK_SET", lseek(fd, 3, SEEK_SET), NULL);
  say("SEEK_CUR", lseek(fd, 2, SEEK_CUR), NULL);
  say("SEEK_CUR before the start", lseek(fd, -6, SEEK_CUR), NULL);
  int left = -1;
  say("FIONREAD", ioctl(fd, FIONREAD, &left), NULL);
  printf("FIONREAD gives %d\n", left);
  say("SEEK_DATA", lseek(fd, 1, SEEK_DATA), NULL);
  say("SEEK_HOLE", lseek(fd, 1, SEEK_HOLE), NULL);
  say("SEEK_DATA behind", lseek(fd, size, SEEK_DATA), NULL);
  say("SEEK_SET", lseek(fd, 0, SEEK_SET), NULL);
  say("pread", pread(fd, b, 11, 0), b);
  say("pread behind", pread(fd, b, 11, size + 5), b);
  say("pread before", pread(fd, b, 11, -1), b);
  say("position", lseek(fd, 0, SEEK_CUR), NULL);
  struct iovec parts[2] = {{b, 4}, {c, 4}};
  say("readv", readv(fd, parts, 2), NULL);
  printf("%.4s|%.4s\n", b, c);
  volatile int none = -1;
  say("readv of -1", readv(fd, parts, none), NULL);
  say("preadv", preadv(fd, parts, 2, 1), NULL);
  printf("%.4s|%.4s\n", b, c);
  say("preadv2", preadv2(fd, parts, 2, -1, 0), NULL);
  printf("%.4s|%.4s\n", b, c);
  say("preadv2 at", preadv2(fd, parts, 2, 2, 0), NULL);
  printf("%.4s|%.4s\n", b, c);
  say("position", lseek(fd, 0, SEEK_CUR), NULL);
  say("read of nothing", read(fd, b, 0), b);
  void *volatile nowhere = (void *)8;
  say("read into nowhere", read(fd, nowhere, 5), NULL);
  say("position", lseek(fd, 0, SEEK_CUR), NULL);
  char *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(page != MAP_FAILED && munmap(page + 4096, 4096) == 0);
  CHECK(lseek(fd, 0, SEEK_SET) == 0);
  say("read across a hole in memory", read(fd, page + 4090, 20) > 0 ? 1 : 0, NULL);
  CHECK(lseek(fd, 0, SEEK_SET) == 0);
  say("syscall read", syscall(SYS_read, fd, b, 11), b);
  say("syscall pread64", syscall(SYS_pread64, fd, b, 11, 1), b);
  say("syscall lseek", syscall(SYS_lseek, fd, 0, SEEK_END), NULL);
  char *map = mmap(NULL, (size_t)size + 4096, PROT_READ, MAP_SHARED, fd, 0);
  CHECK(map != MAP_FAILED);
  printf("shared: %.11s\n", map);
  change(append, path);
  printf("shared again: %.9s\n", map + size);
  map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
  CHECK(map != MAP_FAILED);
  map[0] = 'P';
  printf("private: %.11s\n", map);
  printf("writable: %s\n", mmap(NULL, 4096, PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED ? strerror(errno) : "yes");
  int ends[2];
  CHECK(pipe(ends) == 0);
  CHECK(lseek(fd, 0, SEEK_SET) == 0);
  drain("sendfile", ends[0], sendfile(ends[1], fd, NULL, 11));
  off_t at = 2;
  drain("sendfile at", ends[0], sendfile(ends[1], fd, &at, 7));
  printf("at %ld, position %ld\n", (long)at, (long)lseek(fd, 0, SEEK_CUR));
  drain("splice", ends[0], splice(fd, NULL, ends[1], NULL, 9, 0));
  at = 1;
  drain("splice at", ends[0], splice(fd, &at, ends[1], NULL, 9, 0));
  printf("at %ld, position %ld\n", (long)at, (long)lseek(fd, 0, SEEK_CUR));
  CHECK(lseek(fd, 0, SEEK_SET) == 0);
  char where[64];
  snprintf(where, sizeof where, "%s.copy", path);
  const int target = open(where, O_RDWR | O_CREAT, 0644);
  CHECK(target >= 0);
  say("copy_file_range", copy_file_range(fd, NULL, target, NULL, 11, 0), NULL);
  say("copied", pread(target, b, 100, 0), b);
  printf("position %ld\n", (long)lseek(fd, 0, SEEK_CUR));
  say("fsync", fsync(fd), NULL);
  say("fdatasync", fdatasync(fd), NULL);
  printf("posix_fadvise: %d\n", posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED));
  printf("posix_fadvise: %d\n", posix_fadvise(fd, 0, 0, 99));
  say("readahead", readahead(fd, 0, 4096), NULL);
  struct stat st;
  CHECK(fstat(fd, &st) == 0);
  printf("size %ld\n", (long)st.st_size);
  const int looking = open(path, O_PATH);
  say("O_PATH", read(looking, b, 5), b);
  say("write", write(fd, "x", 1), NULL);
  say("closed", close(fd), NULL);
  say("read closed", read(fd, b, 5), b);
}

static void streams(const char *path) {
  char line[256], *more = NULL;
  wchar_t wide[256];
  size_t room = 0;
  FILE *bytes = fopen(path, "r"), *characters = fopen(path, "r"), *mapped = fopen(path, "rm");
  CHECK(bytes != NULL && characters != NULL && mapped != NULL);
  /* Of a file longer than the buffers, which keep what they have. */
  CHECK(fgets(line, sizeof line, bytes) != NULL);
  printf("fgets: %s", line);
  CHECK(fgetws(wide, 256, characters) != NULL);
  printf("fgetws: %ls", wide);
  change(append, path);
  change(overwrite, path);
  printf("getc: %c\n", getc(bytes));
  printf("ungetc: %c\n", ungetc('!', bytes));
  printf("getc_unlocked: %c\n", getc_unlocked(bytes));
  char *big = malloc(1 << 20);
  const size_t n = fread(big, 1, 1 << 20, bytes);
  printf("fread: %zu, eof %d, ends in %.9s", n, feof(bytes) != 0, big + n - 9);
  wint_t last = 0, now;
  long count = 0;
  while ((now = fgetwc(characters)) != WEOF) last = now, count++;
  printf("fgetwc: %ld, last %d\n", count, (int)last);
  change(append, path);
  clearerr(bytes);
  clearerr(characters);
  printf("getline: %zd %s", getline(&more, &room, bytes), more);
  CHECK(fgetws(wide, 256, characters) != NULL);
  printf("fgetws: %ls", wide);
  printf("getc at the end: %d\n", getc(bytes));
  printf("fseek: %d", fseek(bytes, -9, SEEK_END));
  printf(", ftell %ld\n", ftell(bytes));
  CHECK(fscanf(bytes, "%255s", line) == 1);
  printf("fscanf: %s\n", line);
  rewind(bytes);
  CHECK(getdelim(&more, &room, 'N', bytes) > 0);
  printf("getdelim: %s\n", more);
  printf("fseek: %d", fseek(bytes, 4, SEEK_SET));
  printf(", ftell %ld, getc %c\n", ftell(bytes), getc(bytes));
  printf("mapped: %s", fgets(line, sizeof line, mapped));
  printf("fseek: %d, ftell %ld\n", fseek(mapped, 0, SEEK_END), ftell(mapped));
  printf("fileno's position %ld\n", (long)lseek(fileno(bytes), 0, SEEK_CUR) > 5 ? 1L : 0L);
  const int fd = open(path, O_RDONLY);
  FILE *given = fdopen(fd, "r");
  CHECK(given != NULL && setvbuf(given, NULL, _IONBF, 0) == 0);
  printf("unbuffered: %c", getc(given));
  change(append, path);
  printf("%c\n", getc(given));
  CHECK(fclose(given) == 0 && fclose(bytes) == 0 && fclose(characters) == 0 && fclose(mapped) == 0);
}

static int compare(const void *a, const void *b) { return *(const int *)a - *(const int *)b; }

/* FILE holds lines of eight bytes with their numbers. Each read takes one; all are read once. */
static void shared(const char *path, int processes) {
  const int fd = open(path, O_RDONLY);
  int ends[2];
  CHECK(fd >= 0 && pipe(ends) == 0);
  for (int i = 0; i < processes; i++) {
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
      char line[8];
      ssize_t n;
      while ((n = read(fd, line, 8)) == 8) {
        const int number = atoi(line);
        CHECK(write(ends[1], &number, sizeof number) == sizeof number);
      }
      _exit(n == 0 ? 0 : 1);
    }
  }
  const pid_t changer = fork();
  if (changer == 0) {
    const int out = open(path, O_WRONLY);
    CHECK(out >= 0 && pwrite(out, "0000000\n", 8, 0) == 8);
    _exit(0);
  }
  close(ends[1]);
  static int seen[1 << 16];
  int count = 0, status;
  for (int number; read(ends[0], &number, sizeof number) == sizeof number;)
    if (count < 1 << 16) seen[count++] = number;
  while (wait(&status) > 0) CHECK(status == 0);
  qsort(seen, (size_t)count, sizeof seen[0], compare);
  for (int i = 0; i < count; i++)
    if (seen[i] != i) {
      printf("line %d: read %s\n", i, seen[i] < i ? "twice" : "by nobody");
      exit(1);
    }
  printf("%d lines, each read once\n", count);
}

/* Whether another process meets a lock of ours there. */
static int is_locked(const char *path) {
  const pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    const int fd = open(path, O_RDWR);
    struct flock f = {.l_type = F_WRLCK};
    _exit(fd < 0 || fcntl(fd, F_GETLK, &f) < 0 ? 2 : f.l_type != F_UNLCK);
  }
  int status;
  CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status));
  return WEXITSTATUS(status);
}

static void locks(const char *path) {
  char b[64];
  const int old = open(path, O_RDONLY);
  CHECK(old >= 0);
  change(append, path);
  for (int mode = O_WRONLY; mode <= O_RDWR; mode++) {
    const int fd = open(path, mode);
    struct flock f = {.l_type = F_WRLCK};
    CHECK(fd >= 0 && fcntl(fd, F_SETLK, &f) == 0);
    say("read", read(old, b, 5), b);
    say("pread", pread(old, b, 5, 0), b);
    say("end", lseek(old, 0, SEEK_END), NULL);
    CHECK(lseek(old, 0, SEEK_SET) == 0);
    char *map = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, old, 0);
    CHECK(map != MAP_FAILED);
    printf("mapped %.5s, locked %d\n", map, is_locked(path));
    CHECK(close(fd) == 0);
    printf("closed: locked %d\n", is_locked(path));
  }
}

static void remove_it(const char *path) { CHECK(unlink(path) == 0); }

static void replace(const char *path) {
  char other[4096];
  snprintf(other, sizeof other, "%s.new", path);
  const int fd = open(other, O_WRONLY | O_CREAT, 0644);
  CHECK(fd >= 0 && write(fd, "another file\n", 13) == 13 && rename(other, path) == 0);
}

static void move_and_remove(const char *path) {
  char other[4096];
  snprintf(other, sizeof other, "%s.moved", path);
  CHECK(rename(path, other) == 0 && unlink(other) == 0);
}

/* FILE, FILE2 and FILE3 are alike. */
static void removed(const char *path) {
  void (*const ways[])(const char *) = {remove_it, replace, move_and_remove};
  for (int i = 0; i < 3; i++) {
    char b[64], name[4096];
    struct stat st;
    snprintf(name, sizeof name, i == 0 ? "%s" : "%s%d", path, i + 1);
    const int fd = open(name, O_RDONLY), untouched = open("src/u1.c", O_RDONLY);
    CHECK(fd >= 0 && untouched >= 0);
    change(overwrite, name);
    const int writer = open(name, O_RDWR);
    change(ways[i], name);
    say("read", read(fd, b, 11), b);
    CHECK(fstat(fd, &st) == 0);
    printf("links %d, size %ld\n", (int)st.st_nlink, (long)st.st_size);
    CHECK(fstat(writer, &st) == 0);
    printf("links %d, size %ld\n", (int)st.st_nlink, (long)st.st_size);
    CHECK(pwrite(writer, "later", 5, 0) == 5);
    say("pread", pread(fd, b, 11, 0), b);
    say("fchmod", fchmod(fd, 0640), NULL);
    CHECK(fstat(writer, &st) == 0);
    printf("mode %o\n", st.st_mode);
    close(writer);
    say("pread", pread(fd, b, 11, 0), b);
    close(fd);
  }
  /* Never copied up, and changed without a name. */
  const int fd = open("src/u2.c", O_RDONLY);
  char b[64];
  struct stat st;
  CHECK(fd >= 0);
  change(remove_it, "src/u2.c");
  say("read", read(fd, b, 10), b);
  say("fchmod", fchmod(fd, 0600), NULL);
  CHECK(fstat(fd, &st) == 0);
  printf("links %d, mode %o\n", (int)st.st_nlink, st.st_mode);
  say("read", read(fd, b, 10), b);
}

static void crowded(const char *path) {
  char b[64];
  const int fd = open(path, O_RDONLY);
  CHECK(fd >= 0);
  change(append, path);
  const struct rlimit limit = {64, 64};
  CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
  while (dup(0) >= 0)
    ;
  say("dup", dup(0), NULL);
  say("read", read(fd, b, 5), b);
  say("pread", pread(fd, b, 5, 1), b);
  say("end", lseek(fd, -9, SEEK_END), NULL);
  say("read", read(fd, b, 50), b);
  for (int i = 0; i < 2; i++) {
    const char *map = mmap(NULL, 4096, PROT_READ, i == 0 ? MAP_SHARED : MAP_PRIVATE, fd, 0);
    CHECK(map != MAP_FAILED);
    printf("mapped: %s\n", map);
  }
  for (int i = 0; i < 64; i++) CHECK(fcntl(i, F_GETFD) >= 0);
}

static int handled_fd;
static volatile sig_atomic_t handled;
static char heard[1 << 16];

static void on_signal(int signal) {
  (void)signal;
  const int error = errno;
  char line[8];
  if (read(handled_fd, line, 8) == 8) heard[atoi(line)]++, handled = 1;
  errno = error;
}

static void *read_lines(void *argument) {
  (void)argument;
  char line[8];
  while (read(handled_fd, line, 8) == 8) __atomic_fetch_add(&heard[atoi(line)], 1, __ATOMIC_RELAXED);
  return NULL;
}

static void add_line(const char *path) {
  const int fd = open(path, O_WRONLY | O_APPEND);
  CHECK(fd >= 0 && write(fd, "0004000\n", 8) == 8 && close(fd) == 0);
}

static void signals(const char *path) {
  handled_fd = open(path, O_RDONLY);
  CHECK(handled_fd >= 0);
  change(add_line, path);
  struct stat st;
  CHECK(fstat(handled_fd, &st) == 0);
  struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
  CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
  pthread_t threads[2];
  for (int i = 0; i < 2; i++) CHECK(pthread_create(&threads[i], NULL, read_lines, NULL) == 0);
  for (int i = 0; i < 50; i++) (void)pthread_kill(threads[i & 1], SIGUSR1);
  for (int i = 0; i < 2; i++) CHECK(pthread_join(threads[i], NULL) == 0);
  for (int i = 0; i < st.st_size / 8; i++)
    if (heard[i] != 1) {
      printf("line %d was read %d times\n", i, heard[i]);
      exit(1);
    }
  printf("all lines read once\n");
}

static void on_aio(union sigval value) { CHECK(write(value.sival_int, "n", 1) == 1); }

static void asynchronous(const char *path) {
  char b[64] = "", c[64] = "";
  const int fd = open(path, O_RDONLY);
  CHECK(fd >= 0);
  change(overwrite, path);
  change(append, path);
  struct aiocb one = {.aio_fildes = fd, .aio_buf = b, .aio_nbytes = 11};
  const struct aiocb *list[1] = {&one};
  CHECK(aio_read(&one) == 0);
  while (aio_error(&one) == EINPROGRESS) CHECK(aio_suspend(list, 1, NULL) == 0);
  say("aio_read", aio_return(&one), b);
  int ends[2];
  CHECK(pipe(ends) == 0);
  struct aiocb two = {.aio_fildes = fd, .aio_buf = c, .aio_nbytes = 5, .aio_offset = 2,
                      .aio_lio_opcode = LIO_READ};
  two.aio_sigevent.sigev_notify = SIGEV_THREAD;
  two.aio_sigevent.sigev_notify_function = on_aio;
  two.aio_sigevent.sigev_value.sival_int = ends[1];
  struct aiocb *both[2] = {&two, NULL};
  CHECK(lio_listio(LIO_WAIT, both, 2, NULL) == 0);
  char told;
  CHECK(read(ends[0], &told, 1) == 1);
  say("lio_listio", aio_return(&two), c);
}

/* Starts a process that will append to the file when `go` is called, with the rights of now. */
static int start_ends[2], done_ends[2];
static void await(void (*how)(const char *), const char *path) {
  CHECK(pipe(start_ends) == 0 && pipe(done_ends) == 0);
  fflush(NULL);
  const pid_t child = fork();
  CHECK(child >= 0);
  if (child != 0) return;
  char byte;
  CHECK(read(start_ends[0], &byte, 1) == 1);
  how(path);
  CHECK(write(done_ends[1], "d", 1) == 1);
  _exit(0);
}
static void go(void) {
  char byte;
  CHECK(write(start_ends[1], "g", 1) == 1 && read(done_ends[0], &byte, 1) == 1);
}

static void look(int fd, FILE *stream) {
  char b[64];
  say("read", read(fd, b, 5), b);
  say("pread", pread(fd, b, 5, 1), b);
  say("end", lseek(fd, 0, SEEK_END), NULL);
  say("back", lseek(fd, 3, SEEK_SET), NULL);
  printf("fgets: %s\n", fgets(b, sizeof b, stream) != NULL ? b : strerror(errno));
}

static void confined(const char *path, const char *other, const char *how, const char *directory) {
  const int fd = open(path, O_RDONLY), second = open(path, O_RDONLY);
  FILE *stream = fopen(path, "r"), *later = fopen(path, "r");
  CHECK(fd >= 0 && second >= 0 && stream != NULL && later != NULL);
  await(append, other);
  if (strcmp(how, "chroot") == 0) CHECK(chroot(directory) == 0 && chdir("/") == 0);
  else CHECK(setgid(65534) == 0 && setuid(65534) == 0);
  look(fd, stream);
  go();
  look(fd, later);
  look(second, stream);
}

/* clone fails, as at RLIMIT_NPROC. */
static void forbid_children(void) {
  struct sock_filter program[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EAGAIN),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const struct sock_fprog filter = {sizeof program / sizeof program[0], program};
  CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
  CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0);
}

static void childless(const char *path) {
  char b[64];
  const int fd = open(path, O_RDONLY);
  CHECK(fd >= 0);
  change(append, path);
  const int writer = open(path, O_WRONLY);
  struct flock f = {.l_type = F_WRLCK};
  CHECK(writer >= 0 && fcntl(writer, F_SETLK, &f) == 0);
  forbid_children();
  say("read", read(fd, b, 5), b);
  say("pread", pread(fd, b, 5, 0), b);
}

static void readonly(const char *path, char **directories) {
  char b[64];
  const int fd = open(path, O_RDONLY), mapped = open(path, O_RDONLY);
  FILE *stream = fopen(path, "r");
  CHECK(fd >= 0 && mapped >= 0 && stream != NULL);
  await(overwrite, path);
  CHECK(unshare(CLONE_NEWNS) == 0 && mount("", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
  for (char **d = directories; *d != NULL; d++)
    CHECK(mount(*d, *d, NULL, MS_BIND, NULL) == 0 &&
          mount("", *d, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL) == 0);
  go();
  const char *map = mmap(NULL, 4096, PROT_READ, MAP_SHARED, mapped, 0);
  CHECK(map != MAP_FAILED);
  printf("shared: %.11s\n", map);
  look(fd, stream);
  say("dup", read(dup(fd), b, 9), b);
  say("after it", read(fd, b, 9), b);
}

int main(int argc, char **argv) {
  CHECK(argc >= 3);
  const char *what = argv[1], *path = argv[2];
  if (strcmp(what, "calls") == 0) calls(path);
  if (strcmp(what, "streams") == 0) streams(path);
  if (strcmp(what, "shared") == 0) shared(path, atoi(argv[3]));
  if (strcmp(what, "locks") == 0) locks(path);
  if (strcmp(what, "removed") == 0) removed(path);
  if (strcmp(what, "crowded") == 0) crowded(path);
  if (strcmp(what, "signals") == 0) signals(path);
  if (strcmp(what, "aio") == 0) asynchronous(path);
  if (strcmp(what, "confined") == 0) confined(path, argv[3], argv[4], argc > 5 ? argv[5] : NULL);
  if (strcmp(what, "readonly") == 0) readonly(path, argv + 3);
  if (strcmp(what, "childless") == 0) childless(path);
  return 0;
}
