/* Shared mappings of files that somebody else changes: what each call answers and what the mapping
 * shows.
 *
 *   mapped SCENARIO FILE [ARGUMENT…]
 *
 * Prints what happened; the same on a plain file. The other process is a child that the parent
 * waits for. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

static size_t page;

static void die(const char *what) {
  fprintf(stderr, "%s: %s\n", what, strerror(errno));
  exit(2);
}

static int opened(const char *path, int flags) {
  const int fd = open(path, flags, 0644);
  if (fd < 0) die(path);
  return fd;
}

static char *mapped(int fd, size_t length, int protection, int flags, off_t offset) {
  void *m = mmap(NULL, length, protection, flags, fd, offset);
  if (m == MAP_FAILED) die("mmap");
  return m;
}

/* Maps a file for reading and closes it. */
static char *view(const char *path, size_t length) {
  const int fd = opened(path, O_RDONLY);
  char *m = mapped(fd, length, PROT_READ, MAP_SHARED, 0);
  close(fd);
  return m;
}

/* Whether a function in another process did all it wanted. */
#define ELSEWHERE(...)                                             \
  do {                                                             \
    fflush(stdout);                                                \
    const pid_t child = fork();                                    \
    if (child == 0) {                                              \
      __VA_ARGS__;                                                 \
      _exit(0);                                                    \
    }                                                              \
    int status;                                                    \
    if (waitpid(child, &status, 0) != child || status != 0) die("the other process"); \
  } while (0)

static void put(const char *path, off_t at, const char *text) {
  const int fd = opened(path, O_RDWR);
  if (pwrite(fd, text, strlen(text), at) != (ssize_t)strlen(text)) die("pwrite");
  close(fd);
}

static void store(const char *path, size_t at, const char *text) {
  const int fd = opened(path, O_RDWR);
  char *m = mapped(fd, at + strlen(text), PROT_READ | PROT_WRITE, MAP_SHARED, 0);
  memcpy(m + at, text, strlen(text));
  close(fd);
}

static sigjmp_buf back;
static void on_bus(int signal) {
  (void)signal;
  siglongjmp(back, 1);
}

static void show(const char *what, const volatile char *m, size_t count) {
  printf("%s: ", what);
  if (sigsetjmp(back, 1) != 0) {
    puts("SIGBUS");
    return;
  }
  for (size_t i = 0; i < count; i++) {
    const char byte = m[i];
    if (byte >= ' ' && byte <= '~') putchar(byte);
    else printf("\\%02x", (unsigned char)byte);
  }
  putchar('\n');
}

static void answer(const char *what, const void *m) {
  printf("%s: %s\n", what, m == MAP_FAILED ? strerror(errno) : "mapped");
}

static const char *granted(int r) { return r == 0 ? "granted" : strerror(errno); }

static void follow(const char *path) {
  char *m = view(path, 4 * page), *whole = view(path, 4 * page);
  show("before", m, 12);
  ELSEWHERE(put(path, 0, "written"));
  show("after write", m, 12);
  ELSEWHERE(store(path, 3, "STORED"));
  show("after a store through a mapping", m, 12);
  show("through a second mapping", whole, 12);
  ELSEWHERE(if (truncate(path, (off_t)page) != 0) die("truncate"));
  show("within the truncated file", m + page - 4, 4);
  show("beyond it", m + page, 4);
  ELSEWHERE(if (truncate(path, (off_t)(3 * page)) != 0) die("truncate"));
  show("within the extended file", m + page, 4);
  ELSEWHERE(put(path, (off_t)(2 * page), "far"));
  show("written there", m + 2 * page, 4);
  show("beyond that", m + 3 * page, 4);
  ELSEWHERE({ int fd = opened(path, O_WRONLY | O_TRUNC); (void)fd; });
  show("after O_TRUNC", m, 4);
  ELSEWHERE(put(path, 0, "anew"));
  show("and written anew", m, 8);
}

static void truncated(const char *path) {
  char *m = view(path, page);
  ELSEWHERE({ int fd = opened(path, O_WRONLY | O_TRUNC); (void)fd; });
  show("after O_TRUNC", m, 4);
  ELSEWHERE(put(path, 0, "anew"));
  show("written anew", m, 8);
}

static void empty(const char *path) {
  char *m = view(path, page);
  show("empty", m, 4);
  ELSEWHERE(put(path, 0, "no more"));
  show("written", m, 8);
}

static void calls(const char *path) {
  const int fd = opened(path, O_RDONLY), named = opened(path, O_PATH);
  answer("PROT_WRITE", mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
  answer("no length", mmap(NULL, 0, PROT_READ, MAP_SHARED, fd, 0));
  answer("an offset within a page", mmap(NULL, page, PROT_READ, MAP_SHARED, fd, 100));
  answer("too long", mmap(NULL, SIZE_MAX & ~(page - 1), PROT_READ, MAP_SHARED, fd, 0));
  answer("no type", mmap(NULL, page, PROT_READ, 0, fd, 0));
  answer("O_PATH", mmap(NULL, page, PROT_READ, MAP_SHARED, named, 0));
  answer("a closed descriptor", mmap(NULL, page, PROT_READ, MAP_SHARED, 1000, 0));
  answer("no descriptor", mmap(NULL, page, PROT_READ, MAP_SHARED, -1, 0));
  answer("an unknown flag", mmap(NULL, page, PROT_READ, MAP_SHARED_VALIDATE | 1 << 25, fd, 0));
  answer("MAP_SYNC", mmap(NULL, page, PROT_READ, MAP_SHARED_VALIDATE | MAP_SYNC, fd, 0));
  answer("MAP_SHARED_VALIDATE", mmap(NULL, page, PROT_READ, MAP_SHARED_VALIDATE, fd, 0));
  answer("MAP_HUGETLB", mmap(NULL, page, PROT_READ, MAP_SHARED | MAP_HUGETLB, fd, 0));
  answer("PROT_NONE", mmap(NULL, page, PROT_NONE, MAP_SHARED, fd, 0));

  char *m = mapped(fd, 2 * page, PROT_READ, MAP_SHARED | MAP_POPULATE, (off_t)page);
  show("at an offset", m, 8);
  show("far beyond the end", mapped(fd, page, PROT_READ, MAP_SHARED, (off_t)(1000 * page)), 4);
  char *at = mmap(m, page, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0);
  printf("MAP_FIXED: %s\n", at == m ? "there" : "elsewhere");
  show("over the old one", m, 8);
  show("behind it", m + page, 8);
  answer("MAP_FIXED_NOREPLACE", mmap(m, page, PROT_READ, MAP_SHARED | MAP_FIXED_NOREPLACE, fd, 0));
  char *raw = (char *)syscall(SYS_mmap, NULL, page, PROT_READ, MAP_SHARED, fd, 0);
  show("by syscall(2)", raw, 8);
  printf("mprotect: %s\n", granted(mprotect(raw, page, PROT_READ | PROT_WRITE)));
  printf("msync: %d %d\n", msync(raw, page, MS_SYNC), msync(raw, page, MS_ASYNC | MS_INVALIDATE));
  printf("madvise: %d\n", madvise(raw, page, MADV_WILLNEED));
  printf("madvise to remove: %s\n", granted(madvise(raw, page, MADV_REMOVE)));
  char *longer = mremap(raw, page, 3 * page, MREMAP_MAYMOVE);
  show("mremap, the second page", longer + page, 8);
  const off_t position = lseek(fd, 0, SEEK_CUR);
  ELSEWHERE(put(path, 0, "changed."));
  show("by syscall(2) and mremap, changed", longer, 8);
  show("at MAP_FIXED, changed", m, 8);
  ELSEWHERE({
    if (memcmp(longer, "changed.", 8) != 0) _exit(1);
    put(path, 0, "forked..");
    if (memcmp(longer, "forked..", 8) != 0) _exit(1);
  });
  show("changed by a child that inherited the mapping", longer, 8);
  printf("the offset: %ld %ld\n", (long)position, (long)lseek(fd, 0, SEEK_CUR));
  munmap(longer, 3 * page);
}

/* A descriptor from before the copy-up, mapped after it. */
static void stale(const char *path) {
  const int fd = opened(path, O_RDONLY);
  ELSEWHERE(put(path, 0, "written"));
  show("shared", mapped(fd, page, PROT_READ, MAP_SHARED, 0), 12);
  show("private", mapped(fd, page, PROT_READ | PROT_WRITE, MAP_PRIVATE, 0), 12);
  answer("PROT_WRITE", mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
  char *m = mapped(fd, page, PROT_READ, MAP_SHARED, 0);
  ELSEWHERE(put(path, 0, "further"));
  show("shared, written again", m, 12);
  /* Record locks that are not the mapping's business. */
  const int writing = opened(path, O_RDWR);
  struct flock lock = {.l_type = F_WRLCK};
  if (fcntl(writing, F_SETLK, &lock) != 0) die("fcntl");
  show("with a lock", mapped(fd, page, PROT_READ, MAP_SHARED, 0), 12);
  answer("PROT_WRITE with a lock", mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
  ELSEWHERE({
    struct flock asked = {.l_type = F_WRLCK};
    const int mine = opened(path, O_RDWR);
    if (fcntl(mine, F_GETLK, &asked) != 0) die("F_GETLK");
    printf("the lock: %s\n", asked.l_type == F_UNLCK ? "lost" : "kept");
    fflush(stdout);
  });
}

static void private(const char *path) {
  const int fd = opened(path, O_RDONLY);
  char *m = mapped(fd, page, PROT_READ | PROT_WRITE, MAP_PRIVATE, 0);
  memcpy(m, "mine", 4);
  show("private", m, 8);
  char *other = view(path, page);
  show("the file", other, 8);
  ELSEWHERE(put(path, 0, "theirs"));
  show("private, written elsewhere", m, 4);
  show("the file, written elsewhere", other, 8);
}

/* One name of a file is mapped, the other written. */
static void linked(const char *path, const char *other) {
  char *m = view(path, page), *n = view(other, page);
  ELSEWHERE(put(other, 0, "by the other name"));
  show("mapped by the first", m, 17);
  show("mapped by the second", n, 17);
  ELSEWHERE(put(path, 0, "BY"));
  show("written by the first", n, 17);
  char *late = view(path, page);
  show("mapped late", late, 17);
}

/* The name goes elsewhere, or away. */
static void moved(const char *path, const char *other) {
  char *m = view(path, page);
  ELSEWHERE(if (rename(path, other) != 0) die("rename"); put(other, 0, "renamed"));
  show("renamed and written", m, 8);
  const int fd = opened(other, O_RDWR);
  ELSEWHERE(if (unlink(other) != 0) die("unlink"));
  if (pwrite(fd, "no name", 7, 0) != 7) die("pwrite");
  show("written without a name", m, 8);
}

static void attributes(const char *path) {
  char *m = view(path, page);
  struct stat before, after;
  if (stat(path, &before) != 0) die("stat");
  ELSEWHERE(if (chmod(path, 0400) != 0) die("chmod"));
  if (stat(path, &after) != 0) die("stat");
  printf("%o %lu %d %d %d\n", after.st_mode, (unsigned long)after.st_nlink,
         memcmp(&after.st_mtim, &before.st_mtim, sizeof after.st_mtim) == 0,
         after.st_ino == before.st_ino, after.st_uid == before.st_uid);
  ELSEWHERE(if (chmod(path, 0600) != 0) die("chmod"); put(path, 0, "written"));
  show("written after chmod", m, 8);
}

static void cycles(const char *path, int count) {
  int wrong = 0;
  for (int i = 0; i < count; i++) {
    char name[4096];
    (void)snprintf(name, sizeof name, "%s/f%d", path, i % 100);
    char *m = view(name, page);
    wrong += strncmp(m, "data", 4) != 0;
    if (munmap(m, page) != 0) die("munmap");
  }
  printf("%d of %d wrong\n", wrong, count);
}

/* Processes map the files f0, f1, … in an order of their own, now and then twice, while every file is
 * written by one of them: at the end every mapping, from before, in or after the copy-up, shows it. */
static void storm_process(const char *path, int files, int processes, int me, unsigned seed,
                          const int done[2], const int go[2]) {
  char name[4096], **kept = calloc((size_t)files, sizeof *kept);
  int *order = calloc((size_t)files, sizeof *order), wrong = 0;
  if (kept == NULL || order == NULL) die("calloc");
  srand(seed + (unsigned)me);
  for (int i = 0; i < files; i++) {
    const int j = rand() % (i + 1);
    order[i] = order[j];
    order[j] = i;
  }
  for (int i = 0; i < files; i++) {
    const int file = order[i];
    (void)snprintf(name, sizeof name, "%s/f%d", path, file);
    if (rand() % 2 != 0) munmap(view(name, page), page);
    if (rand() % 8 == 0) { /* a start of a process looks for what nobody has mapped */
      ELSEWHERE(execlp("true", "true", (char *)NULL));
    }
    if (file % processes == me && rand() % 2 != 0) put(name, 0, "done");
    kept[file] = view(name, page);
    if (file % processes == me) put(name, 0, "done");
  }
  char byte = 0;
  close(go[1]);
  if (write(done[1], &byte, 1) != 1 || read(go[0], &byte, 1) != 0) die("pipe");
  for (int i = 0; i < files; i++) wrong += memcmp(kept[i], "done", 4) != 0;
  _exit(wrong > 100 ? 100 : wrong);
}

static void storm(const char *path, int files, int processes, unsigned seed) {
  int wrong = 0, done[2], go[2];
  char byte;
  if (pipe(done) != 0 || pipe(go) != 0) die("pipe");
  for (int i = 0; i < processes; i++)
    if (fork() == 0) storm_process(path, files, processes, i, seed, done, go);
  close(done[1]);
  for (int i = 0; i < processes && read(done[0], &byte, 1) == 1;) i++;
  close(go[1]);
  for (int i = 0; i < processes; i++) {
    int status;
    if (wait(&status) < 0 || !WIFEXITED(status)) die("a process");
    wrong += WEXITSTATUS(status);
  }
  printf("%d wrong\n", wrong);
}

/* Maps until it is killed; says who it is. */
static void wait_mapped(const char *path) {
  (void)view(path, page);
  printf("%d\n", getpid());
  fflush(stdout);
  for (;;) pause();
}

/* The last bytes of a file; then, if told, its first ones after another process wrote them. */
static void ends(const char *path, const char *how) {
  struct stat st;
  if (stat(path, &st) != 0) die("stat");
  char *m = view(path, (size_t)st.st_size);
  show("the end", m + st.st_size - 8, 8);
  if (strcmp(how, "write") != 0) return;
  ELSEWHERE(put(path, 0, "written"));
  show("the start", m, 8);
}

int main(int count, char **words) {
  page = (size_t)sysconf(_SC_PAGESIZE);
  struct sigaction bus = {.sa_handler = on_bus};
  sigaction(SIGBUS, &bus, NULL);
  if (count < 3) return 2;
  const char *what = words[1], *path = words[2];
  if (strcmp(what, "follow") == 0) follow(path);
  else if (strcmp(what, "truncated") == 0) truncated(path);
  else if (strcmp(what, "empty") == 0) empty(path);
  else if (strcmp(what, "calls") == 0) calls(path);
  else if (strcmp(what, "stale") == 0) stale(path);
  else if (strcmp(what, "private") == 0) private(path);
  else if (strcmp(what, "linked") == 0 && count > 3) linked(path, words[3]);
  else if (strcmp(what, "moved") == 0 && count > 3) moved(path, words[3]);
  else if (strcmp(what, "attributes") == 0) attributes(path);
  else if (strcmp(what, "cycles") == 0 && count > 3) cycles(path, atoi(words[3]));
  else if (strcmp(what, "ends") == 0 && count > 3) ends(path, words[3]);
  else if (strcmp(what, "storm") == 0 && count > 5)
    storm(path, atoi(words[3]), atoi(words[4]), (unsigned)atoi(words[5]));
  else if (strcmp(what, "wait") == 0) wait_mapped(path);
  else return 2;
  return 0;
}
