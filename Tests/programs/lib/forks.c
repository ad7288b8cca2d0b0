/* A flock that was given up stays so, whatever another thread forks at any moment: children hold on to no lock.
 *
 *   forks FILE CHILDREN
 *
 * One thread locks and unlocks FILE through a descriptor for reading from before somebody opened it for writing, while
 * the other one forks children that live to the end. Guards against a lock that is taken for a look and lives on in
 * a child that was forked meanwhile. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

static int early;
static atomic_int forked, stop, wrong;

static void *lock_and_unlock(void *unused) {
  (void)unused;
  for (int count = 0; !stop || count < 10; count++) {
    if (flock(early, LOCK_EX | LOCK_NB) != 0) wrong++;
    if (flock(early, LOCK_UN) != 0) wrong++;
    forked++;
  }
  return NULL;
}

int main(int argc, char **argv) {
  pthread_t thread;
  int ends[2], status, bad = 0;
  char byte;
  if (argc != 3) return 2;
  const int children = atoi(argv[2]);
  early = open(argv[1], O_RDONLY);
  if (early < 0 || close(open(argv[1], O_RDWR)) || pipe(ends)) return 1;
  if (pthread_create(&thread, NULL, lock_and_unlock, NULL)) return 1;
  for (int i = 0; i < children; i++) {
    /* Not before the thread has gone on: else all are forked at one point of it. */
    const int before = forked;
    while (forked == before) {}
    const pid_t pid = fork();
    if (pid < 0) return 1;
    if (pid == 0) {
      close(ends[1]);
      _exit(read(ends[0], &byte, 1) != 0);
    }
  }
  stop = 1;
  pthread_join(thread, NULL);
  const int late = open(argv[1], O_RDWR);
  printf("wrong %d, %s\n", (int)wrong, flock(late, LOCK_EX | LOCK_NB) == 0 ? "free" : "still locked");
  close(ends[1]);
  while (wait(&status) > 0) bad |= status;
  return bad != 0;
}
