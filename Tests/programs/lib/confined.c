/* Reads after the process has taken from itself all system calls but read, write and exit: a pipe that is its input,
 * a pipe of its own, a file that was open before, through libc's functions and streams' buffers.
 *
 *   confined strict|filter|lenient prctl|syscall FILE COMMAND
 *     COMMAND runs when FILE is open; lenient: afterwards, since all is allowed but what nobody calls
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define ALLOW(call) \
  BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (call), 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

static int confine(int strict, int lenient, int by_number) {
  struct sock_filter words[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      ALLOW(SYS_read), ALLOW(SYS_write), ALLOW(SYS_readv), ALLOW(SYS_exit),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ptrace, 2, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_unlinkat, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, lenient ? SECCOMP_RET_ALLOW : SECCOMP_RET_KILL),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL),
  };
  struct sock_fprog filter = {sizeof words / sizeof *words, words};
  if (strict && by_number) return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_STRICT, 0, NULL);
  if (strict) return prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT);
  if (by_number) return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter);
  return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter);
}

static void show(int fd, int vector) {
  char text[64];
  struct iovec v = {text, sizeof text};
  const ssize_t r = vector ? readv(fd, &v, 1) : read(fd, text, sizeof text);
  if (r > 0) (void)!write(1, text, (size_t)r);
  if (r <= 0) (void)!write(1, "nothing\n", 8);
}

int main(int argc, char **argv) {
  int ends[2], other[2];
  if (argc < 5 || pipe(ends) != 0 || pipe(other) != 0) return 1;
  if (write(ends[1], "pipe\n", 5) != 5 || write(other[1], "other\n", 6) != 6) return 1;
  const int strict = strcmp(argv[1], "strict") == 0,
            lenient = strcmp(argv[1], "lenient") == 0, file = open(argv[3], O_RDONLY);
  show(file, 0);
  if (!lenient && system(argv[4]) != 0) return 1;
  /* All five arguments of what is not about this, and errno. */
  char name[16];
  errno = 77;
  printf("%d %d", prctl(PR_SET_NAME, "confined"), prctl(PR_GET_NAME, name));
  printf(" %s %d", name, errno);
  printf(" %d", prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 1) < 0 ? errno : 0);
  printf(" %d\n", prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? errno : 0);
  printf("%d", prctl(PR_SET_SECCOMP, 99L, NULL) < 0 ? errno : 0);
  printf(" %d\n", syscall(SYS_seccomp, 99, 0, NULL) < 0 ? errno : 0);
  fflush(stdout);
  if (confine(strict, lenient, strcmp(argv[2], "syscall") == 0) != 0) return 1;
  if (lenient && system(argv[4]) != 0) return 1;
  show(0, 0);
  show(ends[0], 0);
  show(other[0], !strict);
  show(file, 0);
  syscall(SYS_exit, 0);
}
