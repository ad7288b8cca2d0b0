/* Children of every kind, of a process that holds record locks and flocks on a file: theirs is not the parent's record
 * lock, whatever they open and close, and they share its flock.
 *
 *   spawned FILE
 *
 * FILE is opened for reading first; children open it for writing, which copies a lower file up. Guards against a child,
 * or the way it is made, that opens and closes the file in the parent, and against a vfork child that writes into the
 * parent's tables. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;
static const char *self = "/proc/self/exe", *name;
static int fd, ask[2], told[2];

static void must(int ok, const char *what) {
  if (ok) return;
  printf("%s: %s\n", what, strerror(errno));
  exit(1);
}

static int record(int file, int type) {
  struct flock f = {.l_type = (short)type, .l_whence = SEEK_SET};
  return fcntl(file, F_SETLK, &f);
}

/* A process from before all this, which knows nothing of our memory: tries for an exclusive lock of each kind. */
static void judge(void) {
  char byte;
  while (read(ask[0], &byte, 1) == 1) {
    const int file = open(name, O_RDWR);
    char answer[2] = {record(file, F_WRLCK) == 0 ? 'f' : 'h', flock(file, LOCK_EX | LOCK_NB) == 0 ? 'f' : 'h'};
    close(file);
    if (write(told[1], answer, 2) != 2) break;
  }
  _exit(0);
}

static void see(const char *what) {
  char answer[2] = {'?', '?'};
  must(write(ask[1], "?", 1) == 1 && read(told[0], answer, 2) == 2, "judge");
  printf("%s: record lock %s, flock %s\n", what, answer[0] == 'h' ? "held" : "lost", answer[1] == 'h' ? "held" : "lost");
}

static void end(pid_t pid) {
  int status;
  must(pid > 0 && waitpid(pid, &status, 0) == pid, "wait");
  printf("  child %d\n", WIFEXITED(status) ? WEXITSTATUS(status) : -1);
}

/* What the new program does: 1 if it gets a record lock, 2 if it gets a flock by a descriptor of its own. */
static int child(int inherited) {
  const int file = open(name, O_RDWR);
  const int result = (record(file, F_WRLCK) == 0) | (flock(file, LOCK_EX | LOCK_NB) == 0) << 1 |
                     (inherited >= 0 && flock(inherited, LOCK_SH) == 0) << 2;
  close(file);
  close(inherited);
  return result;
}

static pid_t by_spawn(int opens) {
  posix_spawn_file_actions_t actions;
  char *arguments[] = {"spawned", (char *)name, opens ? "-1" : "7", NULL};
  pid_t pid;
  posix_spawn_file_actions_init(&actions);
  if (opens) {
    posix_spawn_file_actions_addopen(&actions, 20, name, O_RDWR, 0);
    posix_spawn_file_actions_adddup2(&actions, 20, fd);
    posix_spawn_file_actions_addclose(&actions, 20);
    posix_spawn_file_actions_addclose(&actions, fd);
  } else {
    posix_spawn_file_actions_adddup2(&actions, fd, 7);
  }
  const int r = posix_spawn(&pid, self, &actions, NULL, arguments, environ);
  posix_spawn_file_actions_destroy(&actions);
  errno = r;
  must(r == 0, "posix_spawn");
  return pid;
}

static pid_t by_vfork(void) {
  const pid_t pid = vfork();
  if (pid == 0) {
    close(fd);
    dup2(1, fd);
    execl(self, "spawned", name, "-1", (char *)NULL);
    _exit(99);
  }
  return pid;
}

static void *idle(void *pipe_end) {
  char byte;
  (void)!read(*(int *)pipe_end, &byte, 1);
  return NULL;
}

static void every_kind(void) {
  char command[4096];
  snprintf(command, sizeof command, "exec 5<>%s; exec 5>&-", name);
  end(by_vfork());
  see("vfork");
  end(by_spawn(0));
  see("posix_spawn");
  end(by_spawn(1));
  see("posix_spawn that opens");
  must(system(command) == 0, "system");
  see("system");
  FILE *stream = popen(command, "r");
  must(stream && pclose(stream) == 0, "popen");
  see("popen");
  const pid_t pid = fork();
  if (pid == 0) {
    close(open(name, O_RDWR));
    _exit(child(fd));
  }
  end(pid);
  see("fork");
}

int main(int argc, char **argv) {
  pthread_t thread;
  int wait_for[2];
  if (argc == 3) return name = argv[1], child(atoi(argv[2]));
  if (argc != 2) return 2;
  name = argv[1];
  setvbuf(stdout, NULL, _IONBF, 0);
  must(pipe2(ask, O_CLOEXEC) == 0 && pipe2(told, O_CLOEXEC) == 0, "pipe");
  const pid_t judging = fork();
  if (judging == 0) {
    close(ask[1]);
    judge();
  }
  fd = open(name, O_RDONLY);
  must(fd >= 0 && record(fd, F_RDLCK) == 0 && flock(fd, LOCK_SH) == 0, name);
  every_kind();
  const int both = open(name, O_RDWR);
  must(record(both, F_WRLCK) == 0, "on the copy");
  see("on the copy too");
  /* With threads vfork goes another way. */
  must(pipe(wait_for) == 0 && pthread_create(&thread, NULL, idle, &wait_for[0]) == 0, "thread");
  every_kind();
  close(wait_for[1]);
  pthread_join(thread, NULL);
  close(both);
  see("closed");
  close(ask[1]);
  end(judging);
  return 0;
}
