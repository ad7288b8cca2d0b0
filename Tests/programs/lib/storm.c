/* A storm of signals whose handlers open, lock and unlock files while eight threads do the same: nobody gets a lock
 * that another one has, nothing hangs, no descriptor is left over, errno stays what it was.
 *
 *   storm DIRECTORY FILES SIGNALS
 *
 * FILES files f0, f1, … each are locked through descriptors for reading and for both, so that in an overlay they are
 * copied up at some time. SIGNALS: how many are to be handled. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

enum { THREADS = 8, MOST = 256 };
static const char *directory;
static int files;
static long wanted;
static pthread_t threads[THREADS];
static atomic_int owners[MOST], running, wrong, failed;
static atomic_long handled, locked;

static unsigned next_number(unsigned *state) { return *state = *state * 1103515245u + 12345u, *state >> 8; }

/* Locks one file, if it can be had, and looks whether it is alone. */
static void visit(unsigned *state, int wait) {
  char name[512];
  struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
  const int index = (int)(next_number(state) % (unsigned)files), writes = next_number(state) % 4 == 0;
  const int kind = index % 3; /* of one file all take locks of one kind */
  int n = 0, r;
  for (const char *p = directory; *p; p++) name[n++] = *p;
  name[n++] = '/', name[n++] = 'f';
  if (index >= 100) name[n++] = (char)('0' + index / 100);
  if (index >= 10) name[n++] = (char)('0' + index / 10 % 10);
  name[n++] = (char)('0' + index % 10), name[n] = 0;
  /* An exclusive lock of a range needs a descriptor for writing; a shared one shows nothing here but that it is had. */
  const int fd = open(name, kind == 1 || writes ? O_RDWR : O_RDONLY);
  if (fd < 0) {
    failed++;
    return;
  }
  if (kind == 2) {
    /* All threads are one owner: never refused. Copy-ups must not open and close files in this process any more. */
    if (!writes) whole.l_type = F_RDLCK;
    if (fcntl(fd, wait ? F_SETLKW : F_SETLK, &whole) != 0 && errno != EINTR) failed++;
    close(fd);
    return;
  }
  if (kind == 1)
    r = fcntl(fd, wait ? F_OFD_SETLKW : F_OFD_SETLK, &whole);
  else
    r = flock(fd, LOCK_EX | (wait ? 0 : LOCK_NB));
  if (r == 0) {
    if (atomic_fetch_add(&owners[index], 1) != 0) wrong++;
    sched_yield();
    atomic_fetch_sub(&owners[index], 1);
    locked++;
    if (kind == 1) {
      whole.l_type = F_UNLCK;
      fcntl(fd, F_OFD_SETLK, &whole);
    } else {
      flock(fd, LOCK_UN);
    }
  } else if (errno != EAGAIN && errno != EINTR) {
    failed++;
  }
  close(fd);
}

static void handler(int signal) {
  static _Thread_local unsigned state;
  const int kept = errno;
  if (state == 0) state = (unsigned)(size_t)&state | 1u;
  (void)signal;
  /* Never waits: the thread itself may have the lock. */
  visit(&state, 0);
  handled++;
  errno = kept;
}

static void *work(void *number) {
  unsigned state = 7u + 31u * (unsigned)(size_t)number;
  while (handled < wanted) visit(&state, next_number(&state) % 2);
  running--;
  return NULL;
}

int main(int argc, char **argv) {
  struct sigaction action = {.sa_handler = handler};
  unsigned state = 1;
  if (argc != 4) return 2;
  directory = argv[1], files = atoi(argv[2]), wanted = atol(argv[3]);
  if (files < 1 || files > MOST) return 2;
  const int before = dup(0);
  close(before);
  sigaction(SIGUSR1, &action, NULL);
  running = THREADS;
  for (size_t i = 0; i < THREADS; i++) pthread_create(&threads[i], NULL, work, (void *)i);
  while (running > 0) {
    pthread_kill(threads[next_number(&state) % THREADS], SIGUSR1);
    sched_yield();
  }
  for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
  const int after = dup(0);
  printf("wrong %d, failed %d, %s\n", (int)wrong, (int)failed,
         before == after ? "no descriptor is left" : "descriptors are left");
  fprintf(stderr, "%ld locks, %ld signals\n", (long)locked, (long)handled);
  return 0;
}
