/* Calls that could reach a lower behind the overlay's back, or bring their host down. One case a run:
 * `untouched CASE OUT`, in the overlay's target; OUT is a directory outside. It prints what a plain
 * directory would answer too; what may differ is called without a word. */

#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <linux/openat2.h>
#include <nl_types.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <utmp.h>
#include <utmpx.h>

static char target[PATH_MAX];
static const char *out;

static int say(const char *what, long result) {
  if (result < 0)
    printf("%s: %s\n", what, strerrorname_np(errno));
  else
    printf("%s: ok\n", what);
  errno = 0;
  return (int)result;
}

/* Writes a line through the descriptor and closes it. */
static void add(const char *what, int fd) {
  if (say(what, fd) < 0) return;
  if (write(fd, "added\n", 6) != 6) perror(what);
  close(fd);
}

static void show(const char *path) {
  struct stat st;
  if (stat(path, &st) != 0)
    say(path, -1);
  else if (S_ISDIR(st.st_mode))
    printf("%s: mode %o\n", path, st.st_mode);
  else
    printf("%s: mode %o size %ld\n", path, st.st_mode, (long)st.st_size);
}

/* One of the last four stays readable. */
__attribute__((format(printf, 1, 2))) static char *text(const char *format, ...) {
  static char buffers[4][PATH_MAX + 64];
  static int next;
  char *buffer = buffers[next++ % 4];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(buffer, sizeof buffers[0], format, arguments);
  va_end(arguments);
  return buffer;
}

/* A link that somebody without the preload makes: the system call itself. */
static void foreign_link(const char *to, const char *path) {
#if defined(__x86_64__)
  long result;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "a"(SYS_symlinkat), "D"(to), "S"(AT_FDCWD), "d"(path)
                   : "rcx", "r11", "memory");
#elif defined(__aarch64__)
  register long x8 __asm__("x8") = SYS_symlinkat;
  register long result __asm__("x0") = (long)to;
  register long x1 __asm__("x1") = AT_FDCWD;
  register long x2 __asm__("x2") = (long)path;
  __asm__ volatile("svc 0" : "+r"(result) : "r"(x8), "r"(x1), "r"(x2) : "memory");
#endif
  if (result != 0) printf("symlinkat %s: %ld\n", path, result);
}

/* Descriptors 3 (a file) and 4 (a directory with a file x) came through exec. */
static void inherited(void) {
  const struct timespec times[2] = {{1, 0}, {2, 0}};
  struct stat st;
  say("fchmod", fchmod(3, 0600));
  say("futimens", futimens(3, times));
  add("open /proc/self/fd/3", open("/proc/self/fd/3", O_WRONLY | O_APPEND));
  add("openat new", openat(4, "new", O_CREAT | O_WRONLY, 0644));
  say("unlinkat x", unlinkat(4, "x", 0));
  say("fstatat x", fstatat(4, "x", &st, 0));
  say("fchmod of the directory", fchmod(4, 0700));
  say("fchdir", fchdir(4));
  say("mkdir", mkdir("made", 0755));
  add("open by the working directory", open("newer", O_CREAT | O_WRONLY, 0644));
  say("chmod .", chmod(".", 0750));
  say("rename", rename("newer", "newest"));
}

/* That a path led to nothing a moment ago says nothing about a call that changes something. */
static void remembered(void) {
  const struct timespec times[2] = {{1, 0}, {2, 0}};
  struct stat st;
  for (int i = 0; i < 14; i++) {
    char *file = text("%s/d%d/u%d.c", out, i, i + 1);
    char *other = text("%s/d%d/other", out, i);
    stat(file, &st);
    lstat(file, &st);
    stat(other, &st);
    lstat(other, &st);
    stat(text("%s/d%d", out, i), &st);
    foreign_link(text("%s/src", target), text("%s/d%d", out, i));
    switch (i) {
    case 0: say("truncate", truncate(file, 3)); break;
    case 1: say("chmod", chmod(file, 0600)); break;
    case 2: say("chown", chown(file, getuid(), getgid())); break;
    case 3: say("unlink", unlink(file)); break;
    case 4: say("rename", rename(file, other)); break;
    case 5: say("link", link(file, text("%s/d%d/linked", out, i))); break;
    case 6: say("mkdir", mkdir(text("%s/d%d/made", out, i), 0755)); break;
    case 7: say("symlink", symlink("x", text("%s/d%d/symlink", out, i))); break;
    case 8: say("mkfifo", mkfifo(text("%s/d%d/fifo", out, i), 0644)); break;
    case 9: say("utimensat", utimensat(AT_FDCWD, file, times, 0)); break;
    case 10: say("setxattr", setxattr(file, "user.a", "b", 1, 0)); break;
    case 11: add("open", open(file, O_WRONLY | O_APPEND)); break;
    case 12: add("creat", creat(text("%s/d%d/created", out, i), 0644)); break;
    case 13: {
      FILE *stream = fopen(text("%s/d%d/stream", out, i), "w");
      say("fopen", stream == NULL ? -1 : 0);
      if (stream != NULL) fclose(stream);
      break;
    }
    }
  }
  stat(text("%s/l", out), &st);
  foreign_link(text("%s/README", target), text("%s/l", out));
  say("truncate by a link", truncate(text("%s/l", out), 5));
  /* A link made by a path that leads through the overlay and out again. */
  stat(text("%s/m", out), &st);
  say("symlink", symlink(target, text("%s/../%s/m", target, strrchr(out, '/') + 1)));
  say("unlink", unlink(text("%s/m/empty", out)));
  show("empty");
}

static void proc(void) {
  const int file = open("README", O_RDONLY), directory = open("src", O_RDONLY | O_DIRECTORY);
  add("/proc/self/root", open(text("/proc/self/root%s/README", target), O_WRONLY | O_APPEND));
  add("/proc/PID/root", open(text("/proc/%d/root%s/README", getpid(), target), O_WRONLY | O_APPEND));
  add("/proc/PPID/root", open(text("/proc/%d/root%s/README", getppid(), target), O_WRONLY));
  add("/proc/self/fd/N", open(text("/proc/self/fd/%d", file), O_WRONLY | O_APPEND));
  add("/dev/fd/N", open(text("/dev/fd/%d", file), O_WRONLY | O_APPEND));
  add("/proc/self/task/TID/fd/N",
      open(text("/proc/self/task/%d/fd/%d", getpid(), file), O_WRONLY | O_APPEND));
  add("/proc/self/fd/N/u1.c", open(text("/proc/self/fd/%d/u1.c", directory), O_WRONLY));
  add("/proc/self/fd/N/../empty", open(text("/proc/self/fd/%d/../empty", directory), O_WRONLY));
  add("/proc/self/cwd", open("/proc/self/cwd/src/u2.c", O_WRONLY));
  add("/proc/thread-self/cwd", open("/proc/thread-self/cwd/src/u3.c", O_WRONLY | O_TRUNC));
  add("/proc/PPID/cwd", open(text("/proc/%d/cwd/src/u4.c", getppid()), O_WRONLY | O_APPEND));
  add("/proc/self/cwd/new", open("/proc/self/cwd/new", O_WRONLY | O_CREAT, 0644));
  const int other = open("doc/locked", O_RDONLY);
  say("chmod", chmod(text("/proc/self/fd/%d", other), 0600));
  say("truncate", truncate(text("/proc/self/fd/%d", other), 2));
  say("setxattr", setxattr(text("/proc/self/fd/%d", other), "user.a", "b", 1, 0));
  say("unlink", unlink(text("/proc/self/root%s/src/u5.c", target)));
  say("rename", rename("/proc/self/cwd/src/u6.c", text("/proc/self/fd/%d/six", directory)));
  say("mkdir", mkdir(text("/proc/self/root%s/made", target), 0755));
}

/* A link to a lower's inode: inside the overlay it is one of the merged file. */
static void descriptor_link(void) {
  const int file = open("README", O_RDONLY);
  say("linkat", linkat(file, "", AT_FDCWD, "linked", AT_EMPTY_PATH));
  add("open", open("linked", O_WRONLY | O_APPEND));
  show("README");
  show("linked");
}
static void descriptor_link_outside(void) {
  const int file = open("README", O_RDONLY);
  say("linkat", linkat(file, "", AT_FDCWD, text("%s/x", out), AT_EMPTY_PATH));
  add("open", open(text("%s/x", out), O_WRONLY | O_APPEND));
}

static void deleted_names(void) {
  char where[PATH_MAX];
  int fd = open("n (deleted)", O_RDONLY);
  say("fchmod", fchmod(fd, 0600));
  show("n (deleted)");
  fd = open("m (deleted)", O_RDONLY);
  add("open", open(text("/proc/self/fd/%d", fd), O_WRONLY | O_APPEND));
  show("m (deleted)");
  fd = open("d (deleted)", O_RDONLY | O_DIRECTORY);
  add("openat", openat(fd, "made", O_WRONLY | O_CREAT, 0644));
  say("fchdir", fchdir(fd));
  puts(getcwd(where, sizeof where) == NULL ? "no directory" : strrchr(where, '/'));
  add("open", open("f", O_WRONLY | O_APPEND));
  show("f");
}

/* Calls that libc has no name for, by number; the old ones of setxattrat and file_setattr's age may
 * be refused as on an older kernel, but not reach the lower. */
static void by_number(void) {
  struct {
    unsigned long value;
    unsigned size, flags;
  } value = {(unsigned long)"v", 1, 0};
  unsigned char attributes[24] = {0x80};
  say("fchmodat2", syscall(452, AT_FDCWD, "README", 0600, 0));
  show("README");
  (void)syscall(463, AT_FDCWD, "empty", 0, "user.x", &value, sizeof value);
  (void)syscall(466, AT_FDCWD, "empty", 0, "user.x");
  (void)syscall(469, AT_FDCWD, "empty", attributes, sizeof attributes, 0);
}

static void rewinding(void) {
  DIR *stream = opendir("src");
  close(open("src/new", O_WRONLY | O_CREAT, 0644));
  const struct dirent *entry = readdir(stream);
  rewinddir(stream);
  puts(entry->d_name[0] != '\0' ? "readable" : "empty");
  int seen = 0;
  while ((entry = readdir(stream)) != NULL) seen += strcmp(entry->d_name, "new") == 0;
  printf("new: %d\n", seen);
  unlink("src/new");
  rewinddir(stream);
  for (seen = 0; (entry = readdir(stream)) != NULL;) seen += strcmp(entry->d_name, "new") == 0;
  printf("new: %d\n", seen);
  closedir(stream);
}

static void seeking(void) {
  char records[64];
  close(open("src/new", O_WRONLY | O_CREAT, 0644));
  const int fd = open("src", O_RDONLY | O_DIRECTORY);
  puts(syscall(SYS_getdents64, fd, records, sizeof records) > 0 ? "read" : "not read");
  puts(lseek(fd, LLONG_MAX, SEEK_CUR) < 0 ? "refused" : "moved");
  puts(lseek(fd, LLONG_MIN, SEEK_CUR) < 0 ? "refused" : "moved");
  puts(lseek(fd, LLONG_MIN, SEEK_SET) < 0 ? "refused" : "moved");
  (void)lseek(fd, LLONG_MAX, SEEK_SET);
  (void)lseek(fd, LLONG_MAX, SEEK_END);
  say("lseek", lseek(fd, 0, SEEK_SET));
  int bytes = 0;
  for (long n; (n = syscall(SYS_getdents64, fd, records, sizeof records)) > 0;) bytes += (int)n;
  printf("%d bytes\n", bytes);
}

static void bad_pointers(void) {
  struct stat st;
  static const unsigned long addresses[] = {1, 8, 4095};
  for (unsigned i = 0; i < sizeof addresses / sizeof *addresses; i++) {
    char *volatile bad = (char *)addresses[i];
    char *const arguments[] = {"x", NULL};
    say("open", open(bad, O_RDONLY));
    say("creat", creat(bad, 0644));
    say("stat", stat(bad, &st));
    say("lstat", lstat(bad, &st));
    say("access", access(bad, R_OK));
    say("chmod", chmod(bad, 0644));
    say("chown", chown(bad, 0, 0));
    say("truncate", truncate(bad, 0));
    say("mkdir", mkdir(bad, 0755));
    say("rmdir", rmdir(bad));
    say("unlink", unlink(bad));
    say("rename from", rename(bad, "x"));
    say("rename to", rename("README", bad));
    say("link from", link(bad, "x"));
    say("link of a descriptor", linkat(AT_FDCWD, bad, AT_FDCWD, "x", AT_EMPTY_PATH));
    say("link to", link("README", bad));
    say("symlink at", symlink("x", bad));
    say("symlink to", symlink(bad, "x"));
    say("readlink", readlink(bad, (char[8]){0}, 8));
    say("readlink into", readlink("link", bad, 8));
    say("stat into", stat("README", (struct stat *)bad));
    say("chdir", chdir(bad));
    say("execve", execve(bad, arguments, environ));
    say("getxattr", getxattr(bad, "user.a", NULL, 0));
    say("getxattr of", getxattr("README", bad, NULL, 0));
    say("setxattr", setxattr(bad, "user.a", "b", 1, 0));
    say("utimensat", utimensat(AT_FDCWD, bad, NULL, 0));
    say("openat", openat(AT_FDCWD, bad, O_RDONLY));
    say("listxattr", listxattr("README", bad, 4096));
    say("getcwd", syscall(SYS_getcwd, bad, 4096));
    say("openat2", syscall(SYS_openat2, AT_FDCWD, "README", bad, 24));
    say("bind", bind(socket(AF_UNIX, SOCK_STREAM, 0), (void *)bad, 20));
    close(open("src/new", O_WRONLY | O_CREAT, 0644));
    const int fd = open("src", O_RDONLY | O_DIRECTORY);
    say("getdents64", syscall(SYS_getdents64, fd, bad, 4096));
    close(fd);
  }
}

static void reused_names(void) {
  const struct timespec times[2] = {{1, 0}, {2, 0}};
  struct stat st;
  for (int i = 1; i <= 2; i++) {
    char *name = text("src/u%d.c", i);
    const int fd = open(name, O_RDONLY);
    if (i == 1) {
      say("unlink", unlink(name));
      add("creat", open(name, O_WRONLY | O_CREAT | O_EXCL, 0644));
    } else {
      add("creat", open("src/other", O_WRONLY | O_CREAT, 0644));
      say("rename", rename("src/other", name));
    }
    (void)fchmod(fd, 0111);
    (void)fchown(fd, 1, 1);
    (void)futimens(fd, times);
    (void)fsetxattr(fd, "user.a", "b", 1, 0);
    show(name);
    printf("attribute: %zd\n", getxattr(name, "user.a", NULL, 0));
    stat(name, &st);
    printf("owner %d, %s\n", st.st_uid == 1, st.st_mtime > 2 ? "new" : "old");
  }
}

static struct sockaddr_un address(const char *path) {
  struct sockaddr_un a = {.sun_family = AF_UNIX};
  strcpy(a.sun_path, path);
  return a;
}
static void failed_bind(void) {
  const int plain = open("/dev/null", O_RDONLY), fd = socket(AF_UNIX, SOCK_STREAM, 0);
  struct sockaddr_un a = address(text("%s/README", target));
  say("unlink", unlink("README"));
  say("bind of a file", bind(plain, (void *)&a, sizeof a));
  show("README");
  a = address("never");
  say("bind of a file", bind(plain, (void *)&a, sizeof a));
  show("never");
  say("bind", bind(fd, (void *)&a, sizeof a));
  a = address(text("%s/README", target));
  say("bind again", bind(fd, (void *)&a, sizeof a));
  show("README");
  a = address("src/u1.c");
  say("bind over a file", bind(socket(AF_UNIX, SOCK_STREAM, 0), (void *)&a, sizeof a));
  show("src/u1.c");
}

static void longer_how(void) {
  struct {
    unsigned long flags, mode, resolve, more;
  } how = {O_WRONLY | O_APPEND, 0, 0, 0};
  add("zeros behind", (int)syscall(SYS_openat2, AT_FDCWD, "README", &how, sizeof how));
  how.more = 1;
  add("more behind", (int)syscall(SYS_openat2, AT_FDCWD, "README", &how, sizeof how));
  add("too short", (int)syscall(SYS_openat2, AT_FDCWD, "README", &how, 8L));
  add("too long", (int)syscall(SYS_openat2, AT_FDCWD, "README", &how, 8192L));
  show("README");
}

/* A lower directory whose rename fails keeps its place for those who stand in it. */
static void failed_rename(void) {
  char where[PATH_MAX];
  const int fd = open("src/deep", O_RDONLY | O_DIRECTORY);
  say("chdir", chdir("src/deep"));
  say("rename", rename(text("%s/src/deep", target), text("%s/src/deeper", target)));
  say("openat", openat(fd, "er/file", O_RDONLY));
  puts(getcwd(where, sizeof where) == NULL ? "no directory" : strrchr(where, '/'));
  say("open", open("er/file", O_RDONLY));
}

/* Requests that change an inode through a read-only descriptor. What a file system does not know is
 * refused; what it knows must not happen to the lower. */
static void requests(void) {
  int fd = open("README", O_RDONLY), generation = 12345, flags = 0;
  const int known = ioctl(fd, FS_IOC_GETVERSION, &(int){0}) == 0;
  (void)ioctl(fd, _IOW('f', 4, long), &generation); /* EXT4_IOC_SETVERSION */
  close(fd);
  fd = open("README", O_RDONLY);
  if (known && ioctl(fd, FS_IOC_GETVERSION, &flags) == 0) printf("generation %d\n", flags);
  close(fd);
  fd = open("src/u1.c", O_RDONLY);
  if (ioctl(fd, FS_IOC_GETFLAGS, &flags) == 0) {
    flags |= FS_NODUMP_FL;
    say("FS_IOC_SETFLAGS", ioctl(fd, FS_IOC_SETFLAGS, &flags));
    close(fd);
    fd = open("src/u1.c", O_RDONLY);
    say("FS_IOC_GETFLAGS", ioctl(fd, FS_IOC_GETFLAGS, &flags));
    puts(flags & FS_NODUMP_FL ? "kept" : "lost");
  }
  struct fsxattr attributes;
  fd = open("src/u2.c", O_RDONLY);
  if (ioctl(fd, FS_IOC_FSGETXATTR, &attributes) == 0) {
    attributes.fsx_xflags |= FS_XFLAG_NODUMP;
    say("FS_IOC_FSSETXATTR", ioctl(fd, FS_IOC_FSSETXATTR, &attributes));
  }
  (void)ioctl(open("src/u3.c", O_RDONLY), _IO('f', 9)); /* EXT4_IOC_MIGRATE */
  const int other = open("src/u4.c", O_RDONLY), source = open("src/u5.c", O_RDONLY);
  say("FICLONE", ioctl(other, FICLONE, source) < 0 ? 0 : -1);
  struct {
    struct file_dedupe_range range;
    struct file_dedupe_range_info info;
  } dedupe = {{.src_length = 4096, .dest_count = 1}, {.dest_fd = other}};
  (void)ioctl(source, FIDEDUPERANGE, &dedupe);
  say("bad request", ioctl(source, FIDEDUPERANGE, (void *)8));
}

static void handles(void) {
  struct {
    struct file_handle handle;
    char bytes[MAX_HANDLE_SZ];
  } h;
  int mount;
  const int at = open(".", O_RDONLY | O_DIRECTORY);
  h.handle.handle_bytes = MAX_HANDLE_SZ;
  say("name_to_handle_at", name_to_handle_at(AT_FDCWD, "README", &h.handle, &mount, 0));
  const int first = open("/dev/null", O_RDONLY);
  close(first);
  const int fd = open_by_handle_at(at, &h.handle, O_WRONLY | O_APPEND);
  if (fd >= 0) puts(fd == first ? "the lowest number" : "another number");
  add("open_by_handle_at", fd);
  show("README");
  h.handle.handle_bytes = MAX_HANDLE_SZ;
  say("name_to_handle_at", name_to_handle_at(AT_FDCWD, "src/u1.c", &h.handle, &mount, 0));
  const int reading = open_by_handle_at(at, &h.handle, O_RDONLY);
  say("open_by_handle_at", reading);
  say("fchmod", fchmod(reading, 0600));
  show("src/u1.c");
  h.handle.handle_bytes = MAX_HANDLE_SZ;
  say("name_to_handle_at", name_to_handle_at(AT_FDCWD, "src", &h.handle, &mount, 0));
  const int directory = (int)syscall(SYS_open_by_handle_at, at, &h.handle, O_RDONLY | O_DIRECTORY);
  add("openat", openat(directory, "new", O_CREAT | O_WRONLY, 0644));
  h.handle.handle_bytes = MAX_HANDLE_SZ;
  say("name_to_handle_at", name_to_handle_at(AT_FDCWD, "link", &h.handle, &mount, 0));
  say("open_by_handle_at", open_by_handle_at(at, &h.handle, O_RDONLY));
  say("open_by_handle_at", open_by_handle_at(at, &h.handle, O_PATH));
  h.handle.handle_type = 200;
  say("open_by_handle_at", open_by_handle_at(at, &h.handle, O_RDONLY));
}

/* The directory that a relative path starts in is renamed, by somebody else too. */
static void foreign_rename(const char *from, const char *to) {
  if (vfork() == 0) {
    execle("/bin/sh", "sh", "-c", "exec env -u LD_PRELOAD -u OVERLOCK mv \"$0\" \"$1\"", from, to, NULL,
           (char *[]){"PATH=/bin:/usr/bin", NULL});
    _exit(127);
  }
  wait(NULL);
}
static void moved_start(void) {
  const char *name = strrchr(target, '/') + 1, *beside = strrchr(out, '/') + 1;
  struct stat st;
  for (int foreign = 0; foreign <= 1; foreign++) {
    char *from = strdup(text("%s/A/x", out)), *to = strdup(text("%s/../x", out));
    char *up = strdup(text("../%s", name));
    mkdir(text("%s/A", out), 0755);
    mkdir(from, 0755);
    const int fd = open(from, O_RDONLY | O_DIRECTORY);
    say("chdir", chdir(from));
    stat(text("%s/README", up), &st);
    fstatat(fd, text("%s/README", up), &st, 0);
    say("stat", stat(text("../../../%s/README", name), &st));
    foreign ? foreign_rename(from, to) : say("rename", rename(from, to));
    add("open", open(text("%s/README", up), O_WRONLY | O_APPEND));
    add("openat", openat(fd, text("%s/README", up), O_WRONLY | O_APPEND));
    say("chmod", fchmodat(fd, text("%s/src/u%d.c", up, foreign + 1), 0600, 0));
    say("unlink", unlink(text("%s/src/u%d.c", up, foreign + 3)));
    say("stat", stat(text("../../../%s/README", name), &st));
    foreign ? foreign_rename(to, text("../%s/y", beside)) : say("rename", rename(to, text("../%s/y", beside)));
    say("open", open(text("%s/README", up), O_WRONLY | O_APPEND));
    say("mkdir", mkdir(text("../../%s/made%d", name, foreign), 0755));
    say("mkdirat", mkdirat(fd, text("../../%s/madeat%d", name, foreign), 0755));
    chdir(target);
    rmdir(text("%s/y", out));
  }
}

static void high_descriptors(void) {
  const struct rlimit many = {100000, 100000};
  struct stat st;
  if (setrlimit(RLIMIT_NOFILE, &many) != 0) return;
  const int fd = fcntl(open("README", O_RDONLY), F_DUPFD, 70000);
  const int directory = fcntl(open("src", O_RDONLY | O_DIRECTORY), F_DUPFD, 70000);
  say("F_DUPFD", directory);
  say("fchmod", fchmod(fd, 0600));
  show("README");
  say("fstat", fstat(directory, &st));
  add("openat", openat(directory, "new", O_CREAT | O_WRONLY, 0644));
  say("unlinkat", unlinkat(directory, "u1.c", 0));
  say("fchdir", fchdir(directory));
  say("mkdir", mkdir("made", 0755));
  add("/proc", open(text("/proc/self/fd/%d", fd), O_WRONLY | O_APPEND));
}

static int restricted(int dirfd, const char *path, int flags, unsigned long resolve) {
  const struct open_how how = {(unsigned)flags, (flags & O_CREAT) != 0 ? 0644 : 0, resolve};
  return (int)syscall(SYS_openat2, dirfd, path, &how, sizeof how);
}
static void restrictions(void) {
  const int src = open("src", O_RDONLY | O_DIRECTORY), here = open(".", O_RDONLY | O_DIRECTORY);
  const int above = open("..", O_RDONLY | O_DIRECTORY), write = O_WRONLY | O_APPEND;
  symlink("/u1.c", "src/rooted");
  symlink("../README", "src/up");
  symlink("deep", "src/beside");
  symlink("/proc/self/cwd", "src/magic");
  static const struct {
    const char *name;
    unsigned long bits;
  } ways[] = {{"beneath", RESOLVE_BENEATH},
              {"in root", RESOLVE_IN_ROOT},
              {"no links", RESOLVE_NO_SYMLINKS},
              {"no magic", RESOLVE_NO_MAGICLINKS},
              {"one mount, beneath", RESOLVE_NO_XDEV | RESOLVE_BENEATH},
              {"both", RESOLVE_IN_ROOT | RESOLVE_BENEATH},
              {"unknown", 0x400}};
  static const char *const paths[] = {
      "u1.c",     "/u1.c",    "../README", "deep/../u1.c", "deep/../../README", "..",       "rooted",
      "up",       "beside/er/file", "magic/README", "deep/er/../../../../README", "nothing", "nothing/x", ".",
      "/../u2.c", "/deep/er/file",  "u1.c/",        "/",                          "../src/u2.c"};
  for (unsigned w = 0; w < sizeof ways / sizeof *ways; w++)
    for (unsigned p = 0; p < sizeof paths / sizeof *paths; p++) {
      say(text("%s: write %s", ways[w].name, paths[p]), restricted(src, paths[p], write, ways[w].bits));
      say(text("%s: read %s", ways[w].name, paths[p]), restricted(src, paths[p], O_RDONLY, ways[w].bits));
      say(text("%s: O_PATH|O_NOFOLLOW %s", ways[w].name, paths[p]),
          restricted(src, paths[p], O_PATH | O_NOFOLLOW, ways[w].bits));
    }
  add("in root", restricted(src, "/u3.c", write, RESOLVE_IN_ROOT));
  add("in root, made", restricted(src, "/../new", write | O_CREAT, RESOLVE_IN_ROOT));
  add("in root, by a link", restricted(src, "rooted", write, RESOLVE_IN_ROOT));
  add("beneath", restricted(here, "linkdir/er/file", write, RESOLVE_BENEATH));
  say("absolute link beneath", restricted(here, "absolute", write, RESOLVE_BENEATH));
  add("working directory", restricted(AT_FDCWD, "src/u4.c", write, RESOLVE_BENEATH));
  say("out of the working directory", restricted(AT_FDCWD, "../x", write, RESOLVE_BENEATH));
  char *inside = text("%s/src/u5.c", strrchr(target, '/') + 1);
  add("from outside, beneath", restricted(above, inside, write, RESOLVE_BENEATH));
  add("from outside, in root", restricted(above, text("/%s", inside), write, RESOLVE_IN_ROOT));
  say("from outside and back", restricted(above, text("/../%s/../../%s", strrchr(target, '/') + 1, inside), write,
                                          RESOLVE_IN_ROOT));
  say("mode without O_CREAT",
      syscall(SYS_openat2, src, "u1.c", &(struct open_how){O_RDONLY, 0644, 0}, sizeof(struct open_how)));
  say("unknown flag",
      syscall(SYS_openat2, src, "u1.c", &(struct open_how){1ul << 40, 0, 0}, sizeof(struct open_how)));
  say("O_PATH for writing",
      syscall(SYS_openat2, src, "u1.c", &(struct open_how){O_PATH | O_RDWR, 0, 0}, sizeof(struct open_how)));
}

/* Functions of libc that open a file of the caller's choice themselves. */
static void by_libc(void) {
  struct utmpx record;
  memset(&record, 'x', sizeof record);
  updwtmpx("empty", &record);
  show("empty");
  updwtmp("src/u1.c", (struct utmp *)&record);
  show("src/u1.c");
  record.ut_type = USER_PROCESS;
  say("utmpname", utmpname("src/u2.c"));
  setutxent();
  pututxline(&record);
  endutxent();
  show("src/u2.c");
  puts(catopen("./README", 0) == (nl_catd)-1 ? "no catalogue" : "a catalogue");
  struct stat st;
  const int fd = open_tree(AT_FDCWD, "src/u3.c", 0);
  say("open_tree", fd);
  say("fstat", fstat(fd, &st));
  say("open", open(text("/proc/self/fd/%d", fd), O_WRONLY | O_TRUNC));
  show("src/u3.c");
}

static const struct {
  const char *name;
  void (*run)(void);
} cases[] = {
    {"inherited", inherited},
    {"remembered", remembered},
    {"proc", proc},
    {"descriptor-link", descriptor_link},
    {"descriptor-link-outside", descriptor_link_outside},
    {"deleted-names", deleted_names},
    {"by-number", by_number},
    {"rewinding", rewinding},
    {"seeking", seeking},
    {"bad-pointers", bad_pointers},
    {"reused-names", reused_names},
    {"failed-bind", failed_bind},
    {"longer-how", longer_how},
    {"failed-rename", failed_rename},
    {"requests", requests},
    {"handles", handles},
    {"moved-start", moved_start},
    {"high-descriptors", high_descriptors},
    {"restrictions", restrictions},
    {"by-libc", by_libc},
};

int main(int argc, char **argv) {
  if (argc != 3 || getcwd(target, sizeof target) == NULL) return 2;
  out = argv[2];
  errno = 0;
  for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
    if (strcmp(argv[1], cases[i].name) != 0) continue;
    cases[i].run();
    return fflush(stdout);
  }
  return 2;
}
