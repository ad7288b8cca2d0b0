/* A process that confines itself goes on reading what it has open: strictly, and with a filter that kills for what
 * only others than it would do. */
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
#include <sys/wait.h>
#include <unistd.h>

#define ALLOW(call) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_##call, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

static struct sock_filter filter[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
                                      ALLOW(read), ALLOW(write), ALLOW(pread64), ALLOW(exit), ALLOW(exit_group),
                                      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS)};
static const struct sock_fprog program = {.len = sizeof filter / sizeof *filter, .filter = filter};

static int confine(char how) {
  if (how == 's') return prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT);
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return -1;
  if (how == 'f') return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
  if (how == 'p') return (int)syscall(SYS_prctl, PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0);
  return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program);
}

static void show(int fd) {
  char data[64];
  const ssize_t n = read(fd, data, sizeof data);
  if (n > 0) (void)!write(1, data, (size_t)n);
}

/* README from before, a pipe, standard input. */
static void run(char how) {
  int ends[2];
  const int file = open("README", O_RDONLY);
  if (pipe(ends) != 0 || write(ends[1], "pipe\n", 5) != 5) exit(1);
  if (confine(how) != 0) exit(2);
  show(ends[0]);
  show(0);
  show(file);
  syscall(SYS_exit, 0);
}

int main(void) {
  for (const char *how = "sfpc"; *how; how++) {
    int input[2], status;
    if (pipe(input) != 0 || write(input[1], "input\n", 6) != 6) return 1;
    if (fork() == 0) {
      dup2(input[0], 0);
      run(*how);
    }
    close(input[0]), close(input[1]);
    wait(&status);
    printf("%c: %d\n", *how, status);
    fflush(stdout);
  }
  errno = 0;
  printf("%d", prctl(PR_SET_SECCOMP, 99, 0, 0, 0));
  printf(" %s\n", strerror(errno));
  char name[16];
  printf("%d %d", prctl(PR_SET_NAME, "a name"), prctl(PR_GET_NAME, name));
  printf(" %s %d %d\n", name, prctl(PR_SET_PDEATHSIG, 0), prctl(-1));
  return 0;
}
