/* Processes that take leases on many files and others that write them, at once: nobody has an unbroken lease while
 * a writer has the file open. A share of the files is copied up by every round.
 *
 *   lease-race DIRECTORY FILES SEED
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { HOLDERS = 3, WRITERS = 3, ROUNDS = 400 };

static struct {
  _Atomic int open_for_writing[512];
  _Atomic long wrong, leases, broken, writes;
  _Atomic unsigned turn, started;
} *shared;

static void name_of(char *path, size_t size, const char *directory, unsigned i) {
  snprintf(path, size, "%s/f%u", directory, i);
}

static void hold(const char *path, unsigned i, int type) {
  const int fd = open(path, O_RDONLY);
  if (fd < 0) return;
  if (fcntl(fd, F_SETLEASE, type) == 0) {
    shared->leases++;
    for (int look = 0; look < 20; look++) {
      const int writers = shared->open_for_writing[i];
      const int has = fcntl(fd, F_GETLEASE);
      if (has != type) {
        shared->broken++;
        break;
      }
      usleep(20);
      if (writers > 0) shared->wrong++;
    }
    fcntl(fd, F_SETLEASE, F_UNLCK);
  }
  close(fd);
}

static void write_to(const char *path, unsigned i, int flags) {
  const int fd = open(path, O_RDWR | flags);
  if (fd < 0) return;
  shared->open_for_writing[i]++;
  shared->writes++;
  (void)!pwrite(fd, "x", 1, 0);
  usleep(50);
  shared->open_for_writing[i]--;
  close(fd);
}

int main(int argc, char **argv) {
  if (argc < 4) return 2;
  const unsigned files = (unsigned)atoi(argv[2]);
  shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  signal(SIGIO, SIG_IGN);
  for (int who = 0; who < HOLDERS + WRITERS; who++) {
    if (fork() != 0) continue;
    unsigned state = (unsigned)atoi(argv[3]) * 100 + (unsigned)who;
    shared->started++;
    while (shared->started < HOLDERS + WRITERS) {}
    for (unsigned round = 0; round < ROUNDS; round++) {
      char path[256];
      const unsigned i = shared->turn++ / 20 % files;
      name_of(path, sizeof path, argv[1], i);
      if (who < HOLDERS)
        hold(path, i, rand_r(&state) % 3 ? F_RDLCK : F_WRLCK);
      else
        write_to(path, i, rand_r(&state) % 2 ? O_NONBLOCK : 0);
    }
    _exit(0);
  }
  while (wait(NULL) > 0) {}
  fprintf(stderr, "%ld leases, %ld of them broken, %ld writes\n", shared->leases, shared->broken, shared->writes);
  printf("wrong: %ld, any: %d\n", shared->wrong, shared->broken > 0 && shared->writes > 0);
  return 0;
}
