/* What an fsync reaches through descriptors of `src` and `README` from before a change: every result in a line. */
#define _GNU_SOURCE
#include <aio.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

static void say(const char *what, long result) { printf("%s %ld %d\n", what, result, result < 0 ? errno : 0); }

static void say_aio(const char *what, int fd, int operation) {
  struct aiocb request = {.aio_fildes = fd};
  const struct aiocb *list[] = {&request};
  say(what, aio_fsync(operation, &request));
  while (aio_error(&request) == EINPROGRESS) aio_suspend(list, 1, NULL);
  say(what, aio_return(&request));
}

int main(void) {
  const int directory = open("src", O_RDONLY | O_DIRECTORY), file = open("README", O_RDONLY);
  const int path = open("src", O_PATH);
  say("before", fsync(directory));
  close(open("src/made", O_CREAT | O_WRONLY, 0600));
  const int writer = open("README", O_WRONLY | O_APPEND);
  if (write(writer, "x", 1) != 1) return 1;
  say("fsync", fsync(directory));
  say("fdatasync", fdatasync(file));
  say("syncfs", syncfs(directory));
  say("syscall fsync", syscall(SYS_fsync, directory));
  say("syscall syncfs", syscall(SYS_syncfs, file));
  say_aio("aio_fsync", directory, O_SYNC);
  say_aio("aio_fsync", file, O_DSYNC);
  say("O_PATH", fsync(path));
  say("O_PATH syncfs", syncfs(path));
  say("bad", syncfs(-1));
  return 0;
}
