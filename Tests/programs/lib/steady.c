/* A lock that nobody else wants is never refused, at whatever moment somebody copies the file up.
 *
 *   steady DIRECTORY FILES
 *
 * One process locks and unlocks f0, f1, … through descriptors for reading, without waiting, while another one opens
 * them for writing one after the other. Guards against the copy-up's look at the origin, which takes a lock to see
 * whether it can. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv) {
  if (argc != 3) return 2;
  const int files = atoi(argv[2]);
  long refused = 0, locked = 0;
  int status;
  atomic_int *copied = mmap(NULL, sizeof *copied, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  int start[2];
  if (copied == MAP_FAILED || pipe(start)) return 1;
  const pid_t copier = fork();
  if (copier == 0) {
    for (int i = 0; i < files; i++) {
      char name[4096], byte;
      if (read(start[0], &byte, 1) != 1) _exit(1);
      snprintf(name, sizeof name, "%s/f%d", argv[1], i);
      const int fd = open(name, O_WRONLY);
      if (fd < 0 || close(fd)) _exit(1);
      *copied = i + 1;
    }
    _exit(0);
  }
  for (int i = 0; i < files; i++) {
    char name[4096];
    snprintf(name, sizeof name, "%s/f%d", argv[1], i);
    const int fd = open(name, O_RDONLY);
    if (fd < 0 || write(start[1], "s", 1) != 1) return 1;
    errno = 0;
    do {
      const int r = flock(fd, LOCK_EX | LOCK_NB);
      if (r == 0 ? errno != 0 : errno != EWOULDBLOCK) printf("%s: %d, errno %d\n", name, r, errno);
      r == 0 ? locked++ : refused++;
      errno = 0;
      if (r == 0) flock(fd, LOCK_UN);
    } while (*copied <= i && kill(copier, 0) == 0);
    close(fd);
  }
  if (waitpid(copier, &status, 0) != copier || status != 0) return 1;
  printf("%s, refused %ld times\n", locked >= files ? "locked" : "not locked", refused);
  return 0;
}
