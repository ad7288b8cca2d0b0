# New processes: what a child does to its own descriptors and working directory is not its parent's, even
# where the two share their memory.
. "$HERE/lib/harness.bash"
make_fixture
needs_program "processes" gcc || exit 0

cat >"$SCRATCH/vfork.c" <<'C'
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static void must(int ok, const char *what) {
  if (ok) return;
  printf("%s: errno %d\n", what, errno);
  exit(1);
}

static int entries(DIR *stream) {
  int n = 0;
  rewinddir(stream);
  while (readdir(stream) != NULL) n++;
  return n;
}

int main(void) {
  char before[4096], after[4096];
  struct stat one, other;
  must(getcwd(before, sizeof before) != NULL, "getcwd");
  DIR *stream = opendir(".");
  must(stream != NULL, "opendir");
  const int n = entries(stream);
  const int directory = open("src", O_RDONLY | O_DIRECTORY), file = open("README", O_RDONLY);
  must(directory >= 0 && file >= 0, "open");
  enum { EXECS, KILLED, FAILS_TO_EXEC, ROUNDS };
  for (volatile int round = 0; round < ROUNDS; round++) {
    const pid_t child = vfork();
    if (child == 0) {
      if (chdir("src/deep") != 0) _exit(10);
      close(directory), close(dirfd(stream)), close(file);
      const int er = open("er", O_RDONLY | O_DIRECTORY);
      if (er < 0 || dup2(er, directory) < 0 || dup2(er, file) < 0) _exit(11);
      for (int i = 20; i < 200; i++) (void)dup2(er, i); /* more than anybody keeps notes of */
      const int made = open("made", O_CREAT | O_WRONLY, 0644);
      if (made < 0 || mkdir("directory", 0755) != 0 || rmdir("directory") != 0) _exit(12);
      if (rename("made", "renamed") != 0 || unlink("renamed") != 0) _exit(13);
      if (round == KILLED) kill(getpid(), SIGKILL);
      if (round == EXECS) execl("/bin/true", "true", (char *)NULL);
      execl("/nonexistent", "nonexistent", (char *)NULL);
      _exit(errno == ENOENT ? 14 : 15);
    }
    int status;
    must(child > 0 && waitpid(child, &status, 0) == child, "vfork");
    printf("round %d: status %x\n", round, status);
    must(getcwd(after, sizeof after) != NULL && strcmp(before, after) == 0, "the same directory");
    must(stat("README", &one) == 0, "a relative path");
    must(fstatat(directory, "deep", &one, 0) == 0 && stat("src/deep", &other) == 0, "a descriptor");
    must(one.st_ino == other.st_ino && one.st_dev == other.st_dev, "the same object");
    must(openat(file, "file", O_RDONLY) < 0 && errno == ENOTDIR, "ENOTDIR");
    must(openat(30, "file", O_RDONLY) < 0 && errno == EBADF, "EBADF");
    must(fstat(file, &one) == 0 && stat("README", &other) == 0 && one.st_ino == other.st_ino, "fstat");
    must(entries(stream) == n, "the same entries");
  }
  puts("unchanged");
}
C
gcc -O1 -Wall "$SCRATCH/vfork.c" -o "$AUX/vfork"
like_plain "what a vfork child changes is its own" <<'BODY'
"$AUX/vfork"
BODY
# The child shares the memory, as it natively does: no copy of a large program's page tables.
if [[ $WORLD == overlock ]] && needs_program "a vfork is one" strace; then
  place
  in_overlay strace -f -qq -e trace=vfork,clone,fork,clone3 -o "$SCRATCH/trace" "$AUX/vfork" >/dev/null || true
  if [[ $(grep -c 'vfork(' "$SCRATCH/trace") == 3 && $(grep -c 'clone(' "$SCRATCH/trace") == 0 ]]; then
    pass "a vfork is one"
  else
    fail "a vfork is one" "$(head -n 3 "$SCRATCH/trace" | paste -sd'|')"
  fi
fi
