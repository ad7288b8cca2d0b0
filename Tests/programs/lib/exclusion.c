/* Do locks exclude, whatever is copied up meanwhile?
 *
 *   exclusion DIRECTORY FILES PROCESSES SEED
 *
 * The processes go through the files f0, f1, …: each opens one for reading or for writing (which copies a
 * lower file up), locks it by flock, record locks or open file description locks, and sees who else is
 * inside. Prints how many times somebody was where he should not have been. */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { WHOLE, RECORD, DESCRIPTION, KINDS };

struct section {
  volatile int writers, readers;
  volatile long wrong, entered;
};

static void die(const char *what) {
  fprintf(stderr, "%s: %s\n", what, strerror(errno));
  exit(2);
}

static int lock(int fd, int kind, int type, int waits) {
  if (kind == WHOLE)
    return flock(fd, (type == F_WRLCK ? LOCK_EX : type == F_RDLCK ? LOCK_SH : LOCK_UN) |
                         (waits ? 0 : LOCK_NB));
  struct flock f = {.l_type = (short)type};
  if (kind == RECORD) return fcntl(fd, waits ? F_SETLKW : F_SETLK, &f);
  return fcntl(fd, waits ? F_OFD_SETLKW : F_OFD_SETLK, &f);
}

static void enter(struct section *s, int exclusive) {
  volatile int *mine = exclusive ? &s->writers : &s->readers;
  (void)__sync_fetch_and_add(&s->entered, 1);
  const int now = __sync_add_and_fetch(mine, 1);
  for (int i = rand() % 20; i >= 0; i--) {
    if (exclusive ? now != 1 || s->writers != 1 || s->readers != 0 : s->writers != 0)
      (void)__sync_fetch_and_add(&s->wrong, 1);
    sched_yield();
  }
  (void)__sync_sub_and_fetch(mine, 1);
}

static void visit(const char *name, int kind, struct section *s) {
  const int writes = rand() % 3 == 0, waits = rand() % 2;
  const int exclusive = kind == WHOLE ? rand() % 3 != 0 : writes;
  const int fd = open(name, writes ? O_RDWR : O_RDONLY);
  if (fd < 0) die(name);
  if (rand() % 4 == 0) { /* somebody copies it up at this very moment */
    const int other = open(name, O_WRONLY);
    if (other < 0) die(name);
    close(other);
  }
  if (lock(fd, kind, exclusive ? F_WRLCK : F_RDLCK, waits) == 0) {
    enter(s, exclusive);
    if (rand() % 2 && lock(fd, kind, F_UNLCK, 0) != 0) die("unlock");
  } else if (errno != EAGAIN && errno != EACCES) {
    die("lock");
  }
  close(fd);
}

int main(int argc, char **argv) {
  if (argc != 5) return 2;
  const int files = atoi(argv[2]), processes = atoi(argv[3]), seed = atoi(argv[4]);
  struct section *sections = mmap(NULL, (size_t)files * sizeof *sections, PROT_READ | PROT_WRITE,
                                  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (sections == MAP_FAILED) die("mmap");
  for (int p = 0; p < processes; p++) {
    if (fork() != 0) continue;
    srand((unsigned)(seed * 100 + p));
    for (int i = 0; i < files * 6; i++) {
      char name[4096];
      snprintf(name, sizeof name, "%s/f%d", argv[1], i / 6);
      visit(name, i / 6 % KINDS, &sections[i / 6]);
    }
    exit(0);
  }
  int status, failed = 0;
  while (wait(&status) > 0) failed |= status;
  long wrong = 0, entered = 0;
  for (int i = 0; i < files; i++) wrong += sections[i].wrong, entered += sections[i].entered;
  printf("%s, seed %d: %ld times wrong\n", entered > files ? "entered" : "nobody entered", seed, wrong);
  return wrong != 0 || failed != 0;
}
