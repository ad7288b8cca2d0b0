/* Locks and copy-ups by processes that are killed at any instruction: what nobody alive holds is free, what somebody
 * holds excludes, and no file is half a file.
 *
 *   killed DIRECTORY FILES KILLS SEED
 *
 * Eight processes go through the files f0, f1, … of DIRECTORY, which hold PIECES times their own name: each opens one
 * for reading or for writing (which copies a lower file up), or changes its mode, or takes a descriptor that it kept
 * from before; locks it in one of three ways, and sees who else is inside. All the while one after the other is killed
 * and started anew; the files are spread over the run, so that there is always one to be copied up. In the end every
 * file must be free and whole. The moment of a kill is drawn; nothing waits for a time. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { WHOLE, RECORD, DESCRIPTION, KINDS, PROCESSES = 8, MOST = 4096, PIECES = 400, KEPT = 8 };

/* Who is where: 1 shared, 2 exclusive. Who is doomed counts no more: the kernel frees his locks before we clear. */
static struct shared {
  volatile int inside[MOST][PROCESSES], doomed[PROCESSES], first;
  volatile long wrong, entered, failed;
} *shared;
static const char *directory;
static int files, kept[KEPT], kept_file[KEPT];

static void die(const char *what) {
  fprintf(stderr, "%s: %s\n", what, strerror(errno));
  exit(2);
}

static int lock(int fd, int kind, int type, int waits) {
  if (kind == WHOLE)
    return flock(fd, (type == F_WRLCK ? LOCK_EX : type == F_RDLCK ? LOCK_SH : LOCK_UN) | (waits ? 0 : LOCK_NB));
  struct flock f = {.l_type = (short)type};
  if (kind == RECORD) return fcntl(fd, waits ? F_SETLKW : F_SETLK, &f);
  return fcntl(fd, waits ? F_OFD_SETLKW : F_OFD_SETLK, &f);
}

static void look(int file, int me, int exclusive) {
  for (int i = 0; i < PROCESSES; i++) {
    const int other = shared->inside[file][i];
    if (i != me && other != 0 && (exclusive || other == 2) && !shared->doomed[i] && !shared->doomed[me])
      (void)__sync_fetch_and_add(&shared->wrong, 1);
  }
}

static void visit(int file, int me) {
  char name[4096];
  snprintf(name, sizeof name, "%s/f%d", directory, file);
  const int kind = file % KINDS, writes = rand() % 3 == 0;
  const int exclusive = kind == WHOLE ? rand() % 2 : writes;
  const int slot = file % KEPT, keeps = kept[slot] >= 0 && kept_file[slot] == file && !writes && rand() % 2;
  if (rand() % 8 == 0) (void)chmod(name, 0640);
  const int fd = keeps ? kept[slot] : open(name, writes ? O_RDWR : O_RDONLY);
  if (fd < 0) {
    (void)__sync_fetch_and_add(&shared->failed, 1);
    return;
  }
  if (lock(fd, kind, exclusive ? F_WRLCK : F_RDLCK, rand() % 2) == 0) {
    shared->inside[file][me] = exclusive + 1;
    (void)__sync_fetch_and_add(&shared->entered, 1);
    for (int i = rand() % 10; i >= 0; i--) {
      look(file, me, exclusive);
      sched_yield();
    }
    shared->inside[file][me] = 0;
    if (keeps || rand() % 2) (void)lock(fd, kind, F_UNLCK, 0);
  } else if (errno != EAGAIN && errno != EACCES && errno != EDEADLK) {
    (void)__sync_fetch_and_add(&shared->failed, 1);
  }
  if (keeps) return;
  if (writes || rand() % 2) {
    close(fd);
    return;
  }
  (void)lock(fd, kind, F_UNLCK, 0);
  if (kept[slot] >= 0) close(kept[slot]);
  kept[slot] = fd, kept_file[slot] = file;
}

static pid_t start(int me, unsigned seed) {
  for (int file = 0; file < files; file++) shared->inside[file][me] = 0;
  shared->doomed[me] = 0;
  const pid_t pid = fork();
  if (pid < 0) die("fork");
  if (pid != 0) return pid;
  srand(seed);
  memset(kept, -1, sizeof kept);
  for (;;) {
    const int file = shared->first + rand() % 16;
    visit(file < files ? file : rand() % files, me);
  }
}

static void end(int me, pid_t pid) {
  int status;
  shared->doomed[me] = 1;
  __sync_synchronize();
  if (kill(pid, SIGKILL) != 0 || waitpid(pid, &status, 0) != pid) die("kill");
  if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL) {
    printf("a process ended by itself: %d\n", status);
    exit(1);
  }
}

/* 1: every lock of the file can be had, and it is as it was. */
static int is_free_and_whole(int file) {
  char name[4096], text[16], data[16];
  snprintf(name, sizeof name, "%s/f%d", directory, file);
  const int fd = open(name, O_RDWR), size = snprintf(text, sizeof text, "f%d\n", file);
  int good = fd >= 0;
  for (int kind = 0; good && kind < KINDS; kind++) {
    good = lock(fd, kind, F_WRLCK, 0) == 0 && lock(fd, kind, F_UNLCK, 0) == 0;
    if (!good) printf("%s: a lock of kind %d is left: %s\n", name, kind, strerror(errno));
  }
  for (int i = 0; good && i < PIECES; i++) {
    good = read(fd, data, (size_t)size) == size && memcmp(data, text, (size_t)size) == 0;
    if (!good) printf("%s: not whole\n", name);
  }
  if (fd >= 0) close(fd);
  return good;
}

int main(int argc, char **argv) {
  if (argc != 5) return 2;
  directory = argv[1], files = atoi(argv[2]);
  if (files < 1 || files > MOST) return 2;
  const long kills = atol(argv[3]);
  const unsigned seed = (unsigned)atoi(argv[4]);
  pid_t pids[PROCESSES];
  shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED) die("mmap");
  srand(seed);
  for (int i = 0; i < PROCESSES; i++) pids[i] = start(i, seed * 1000 + (unsigned)i);
  for (long n = 0; n < kills; n++) {
    const struct timespec moment = {.tv_nsec = rand() % 2000000};
    shared->first = (int)(n * files / kills);
    nanosleep(&moment, NULL);
    const int victim = rand() % PROCESSES;
    end(victim, pids[victim]);
    pids[victim] = start(victim, (unsigned)rand());
  }
  for (int i = 0; i < PROCESSES; i++) end(i, pids[i]);
  int good = 0;
  for (int file = 0; file < files; file++) good += is_free_and_whole(file);
  printf("%s, wrong %ld, failed %ld, %d of %d free and whole\n", shared->entered > kills ? "entered" : "hardly entered",
         shared->wrong, shared->failed, good, files);
  return shared->wrong != 0 || shared->failed != 0 || good != files;
}
