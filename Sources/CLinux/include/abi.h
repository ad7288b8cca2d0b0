#ifndef OVERLOCK_ABI_H
#define OVERLOCK_ABI_H

/* The border between the C interposer (shim/) and the Swift core (Sources/OverlockCore/ABI).
 *
 * Every ovl_ function below is written in Swift, makes system calls only (no libc function, no
 * allocator, no lock of the process), never touches errno, and may be called from a signal handler,
 * between vfork and exec, and in a forked child of a threaded program.
 *
 * Return values: 0 or a positive result; -errno (-1 … -4095); or OVL_PASS: the call does not concern
 * an overlay, so call the next libc function with the caller's own arguments. */

#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#define OVL_PASS (-65536L)

/* What a located object is wanted for. */
#define OVL_FOLLOW 1u   /* follow a symbolic link in the last component */
#define OVL_COPYUP 2u   /* the caller is about to change the object: it must be in the upper */
#define OVL_TRUNCATE 4u /* with OVL_COPYUP: the data is about to be thrown away */
#define OVL_CHANGING 16u /* something is about to be changed, without a copy-up yet */
#define OVL_WRITING 256u /* with OVL_COPYUP: the data is about to be changed: ETXTBSY for a program that runs */
/* Who alone may make the change, asked of a lower object before it is copied up: */
#define OVL_OWNER 32u   /* its owner (EPERM) */
#define OVL_WRITER 64u  /* who may write it (EACCES) */
#define OVL_TOUCH 128u  /* either (EACCES) */
#define OVL_MISSING 8u  /* a missing last component is no error: real is where it would be */

#define OVL_PATH_INLINE 640
/* A buffer for any path that the core shows. */
#define OVL_SHOWN_MAX 20736

/* A located object. Filled by ovl_locate*, given back with ovl_path_release (always, also after an
 * error; a zeroed struct is fine). */
struct ovl_path {
  const char *real; /* what to hand to the kernel or the next libc function */
  uint64_t ino;     /* inode number the program must see, 0: the kernel's own */
  int32_t overlay;  /* index of the overlay, -1: outside every overlay (real is the resolved path) */
  int32_t layer;    /* 0: upper, 1…: lowers, top first */
  int32_t kind;     /* enum ovl_kind */
  uint32_t flags;
  uint64_t block; /* scratch in use, 0: none */
  int64_t hold;   /* with block: a descriptor plus one that real begins with (longer than PATH_MAX), or 0 */
  char small[OVL_PATH_INLINE];
};

enum ovl_kind { OVL_NONE = 0, OVL_FILE = 1, OVL_DIR = 2, OVL_LINK = 3, OVL_SPECIAL = 4 };

/* Merged directory listing: linux_dirent64 records, laid out as struct dirent64; d_off of a record is
 * the offset of the next one plus one (so 0 is the start, and telldir/seekdir work on it). */
struct ovl_listing {
  size_t size;  /* bytes of the whole mapping, this header included */
  size_t bytes; /* bytes of records */
  size_t next;  /* offset of the record that is read next */
  size_t count;
  char records[];
};

/* ---- start ------------------------------------------------------------------------------------ */

/* Number of overlays configured: 0 makes every hook a plain call (one predictable branch). */
extern int ovl_overlays __attribute__((visibility("hidden")));

/* Sets the process up. `options` is the value of OVERLOCK (several overlays, one a line), `state`
 * that of OVERLOCK_STATE (what exec carried over: cwd and directory descriptors) or NULL. Writes a
 * one-line message without newline to `message` on failure. Idempotent.
 * Errors: EINVAL options cannot be understood; else as the file system answered. */
long ovl_start(const char *options, const char *state, char *message, size_t capacity);

/* Memory for the life of the process, for its start alone (no two threads at once). NULL: none left. */
void *ovl_keep(size_t size);

/* To be called in the child after fork: drops what other threads held. */
void ovl_after_fork_child(void);

/* Around a true vfork, whose child runs in this memory while its caller sleeps; only asked of a
 * process with one thread. After ovl_lend the core keeps what it then changes (descriptors, working
 * directory) so that ovl_lend_end, called when the caller wakes, puts it back; in between it unmaps
 * nothing that the caller still needs (listings). 1: done; 0: not now (the memory is on loan already),
 * the caller copies the memory instead. */
int ovl_lend(void);
void ovl_lend_end(void);

/* Fault injection, in builds with OVERLOCK_STEPS: SIGKILL at the n-th numbered step (0: never). The
 * second gives the number of steps passed. */
void ovl_fault_step(uint64_t n);
uint64_t ovl_fault_steps(void);

/* ---- objects by path -------------------------------------------------------------------------- */

/* Finds the object, copying it up first if asked (OVL_COPYUP). dirfd may be AT_FDCWD.
 * 0: p->real names it. OVL_PASS: outside. */
long ovl_locate(struct ovl_path *p, int dirfd, const char *path, unsigned intent);

/* The same for an open descriptor. OVL_PASS also when the descriptor's own inode is the right one to
 * work on (it sits on the upper, or only reading is wanted). With OVL_COPYUP on a descriptor of a
 * lower object: copies up, p->real names the upper object. */
long ovl_locate_fd(struct ovl_path *p, int fd, unsigned intent);

void ovl_path_release(struct ovl_path *p);

/* Whole calls. Arguments and errors as the man page's call of that name. */
long ovl_open(int dirfd, const char *path, int flags, mode_t mode, uint64_t resolve);
long ovl_stat(int dirfd, const char *path, struct stat *st, int atflags);
long ovl_statx(int dirfd, const char *path, int atflags, unsigned mask, void *statx);
long ovl_access(int dirfd, const char *path, int mode, int atflags);
long ovl_readlink(int dirfd, const char *path, char *buffer, size_t size); /* bytes, not terminated */
long ovl_mkdir(int dirfd, const char *path, mode_t mode);
long ovl_mknod(int dirfd, const char *path, mode_t mode, dev_t device);
long ovl_symlink(const char *target, int dirfd, const char *path);
long ovl_link(int olddirfd, const char *oldpath, int newdirfd, const char *newpath, int atflags);
long ovl_unlink(int dirfd, const char *path, int atflags); /* AT_REMOVEDIR: rmdir */
long ovl_rename(int olddirfd, const char *oldpath, int newdirfd, const char *newpath, unsigned flags);
long ovl_chmod(int dirfd, const char *path, mode_t mode, int atflags);
long ovl_chown(int dirfd, const char *path, uid_t uid, gid_t gid, int atflags);
long ovl_utimens(int dirfd, const char *path, const struct timespec times[2], int atflags);
long ovl_truncate(const char *path, off_t length);
/* xattrs: nofollow 0 or 1 */
long ovl_getxattr(const char *path, const char *name, void *value, size_t size, int nofollow);
long ovl_listxattr(const char *path, char *list, size_t size, int nofollow);
long ovl_setxattr(const char *path, const char *name, const void *value, size_t size, int flags,
                  int nofollow);
long ovl_removexattr(const char *path, const char *name, int nofollow);

/* ---- working directory ------------------------------------------------------------------------ */

long ovl_chdir(const char *path);
long ovl_fchdir(int fd);
long ovl_getcwd(char *buffer, size_t size); /* bytes with NUL; ERANGE */
/* Canonical path of an existing object as the program must see it. 0, -errno (ENAMETOOLONG: longer than the
 * buffer), PASS */
long ovl_realpath(const char *path, char *buffer, size_t size);

/* ---- descriptors ------------------------------------------------------------------------------ */

/* To be called before the kernel closes or replaces the descriptor / after it made a copy. */
void ovl_fd_closing(int fd);
void ovl_fd_closing_range(unsigned first, unsigned last);
/* Before the process gives a seccomp filter (NULL: strict mode) to itself. 1: with it a look at a descriptor kills;
 * the second is to be called if the filter was taken. */
int ovl_confining(const void *filter);
void ovl_confined(void);
/* A descriptor came from another process. */
void ovl_fd_received(int fd);
void ovl_fd_duplicated(int from, int to);
/* fd (ignored if negative) was opened by a path outside of every overlay: it is a plain descriptor
 * even where it sits on a layer. */
void ovl_fd_outside(int fd);
/* Corrects what fstat/statx said of a descriptor (device and inode number). */
void ovl_fd_fix_stat(int fd, struct stat *st);
void ovl_fd_fix_statx(int fd, void *statx);
/* 1: the descriptor is an overlay's and sits on an object of a lower. */
int ovl_fd_is_lower(int fd);
/* fchmod & co. need this alone: ovl_locate_fd(fd, OVL_COPYUP | …), then the by-path call on p->real,
 * and where it worked: what is cached below a directory may be wrong now. */
void ovl_fd_changed(int fd);
/* What a change of an extended attribute or of the times takes: OVL_OWNER, OVL_WRITER or OVL_TOUCH. */
uint32_t ovl_xattr_intent(const char *name);
uint32_t ovl_times_intent(const struct timespec times[2]);
long ovl_flistxattr_filter(int fd, char *list, size_t length); /* new length, in place */
/* 1: name is one of the overlay's own xattrs, which the program must not see or set. */
int ovl_xattr_hidden(const char *name);

/* ---- directories ------------------------------------------------------------------------------ */

/* The merged listing of the directory open at fd, made when first asked for and kept till the
 * descriptor closes. NULL with *error 0: the kernel's own listing is right, use the next function. */
struct ovl_listing *ovl_listing_of(int fd, long *error);
/* Drops it, so that the next ovl_listing_of reads anew (rewinddir). */
void ovl_listing_drop(int fd);
/* Whether a name that the kernel lists in the directory fd is a whiteout. */
int ovl_hides(int fd, const char *name);
/* getdents64 on fd. OVL_PASS: the kernel's. */
long ovl_getdents64(int fd, void *buffer, size_t size);
/* lseek on a directory descriptor (position in the merged listing). OVL_PASS otherwise. */
long ovl_dir_seek(int fd, off_t offset, int whence);

/* ---- exec ------------------------------------------------------------------------------------- */

struct ovl_exec {
  struct ovl_path file;  /* file.real: what to hand to execve */
  int32_t script;        /* 1: interpreted here; argv becomes interpreter [argument] path argv[1…] */
  int32_t unreached;     /* 0, or why a preload cannot reach it: enum ovl_unreached */
  int32_t refuse;        /* 1: must be refused with EACCES (after the one line on stderr) */
  int32_t warn;          /* 1: one line on stderr */
  int32_t audit;         /* 1: ld.so must be told where the program's libraries are (audit/) */
  const char *interpreter; /* as the program should see it in argv[0] */
  const char *argument;    /* or NULL */
  const char *path;        /* the script as the program should see it */
  const char *search_path; /* given: the new image's LD_LIBRARY_PATH, or NULL */
  char line[1024];
  /* What the new image's environment must carry beside LD_PRELOAD and OVERLOCK; "" for nothing.
   * NAME=VALUE with NAME OVERLOCK_STATE. */
  char state[16640];
};
enum ovl_unreached { OVL_REACHED = 0, OVL_STATIC = 1, OVL_SETUID = 2, OVL_FOREIGN = 3, OVL_RAW = 4 };

/* What to do for execveat(dirfd, path, …, atflags). 0: use *e. OVL_PASS: the file is outside every
 * overlay; then only state, unreached, refuse and warn count. Release e->file afterwards. */
long ovl_exec(struct ovl_exec *e, int dirfd, const char *path, int atflags);

/* ---- shared libraries ------------------------------------------------------------------------- */

/* The audit library's file, beside liboverlock.so, and what replaces the first byte of its element of
 * LD_AUDIT once it works. */
#define OVL_AUDIT_NAME "liboverlock-audit.so"
#define OVL_AUDIT_MARK '\1'

/* What directories of search paths were found to be. Zeroed: nothing is known. To be forgotten where the
 * program may have changed them, or its working directory. */
struct ovl_search_cache {
  uint32_t used;
  char text[6144];
};

/* A loaded object for which a library is looked for. Strings may be NULL where there is none. */
struct ovl_seeker {
  const struct ovl_seeker *loader;  /* for which it was loaded itself; NULL: for none that is known */
  const struct ovl_seeker *program; /* NULL: it is the program, or that is not known */
  const char *origin;               /* $ORIGIN in the merged tree */
  const char *rpath, *runpath;      /* DT_RPATH, DT_RUNPATH */
  const char *search_path;          /* LD_LIBRARY_PATH */
  const char *platform;             /* $PLATFORM */
  struct ovl_search_cache *cache;
  int32_t is_program;
  int32_t plain; /* search the directories as the kernel shows them */
};
/* What a library's file says it needs. */
struct ovl_needs {
  const char *rpath, *runpath, *soname; /* or NULL */
  int32_t count;
  int32_t next;
  const char *names[128];
  char text[16384];
};
struct ovl_library {
  char shown[4096]; /* as ld.so would name it, were the merged tree a plain one */
  char real[4096];  /* to open, with slashes in front: no shorter than `shown` */
  int32_t inside;   /* it is in an overlay */
};

/* Finds a library as ld.so would in a plain tree: by name in the seeker's directories, or by a path,
 * which may hold dynamic string tokens. 1: found. 0: in none of them; the cache and the default directories are not looked into. */
long ovl_library_find(struct ovl_library *library, const char *name, const struct ovl_seeker *seeker);
/* What a candidate of ld.so's own search stands for. 1: library->real; 0: itself; -ENOENT: nothing. */
long ovl_library_candidate(struct ovl_library *library, const char *path,
                           struct ovl_search_cache *cache);
/* The program's directory, or that of a path, in the merged tree. Buffer of PATH_MAX. 0 or -errno. */
long ovl_library_origin(const char *path, char *buffer);
/* Reads what the library at a real path needs. 1: something of it is not for ld.so's default
 * directories alone; 0: nothing, or it is no library that can be read. */
long ovl_library_needs(struct ovl_needs *needs, const char *real);
/* The working directory may have been changed by another copy of the core. */
void ovl_library_moved(void);
/* ---- mappings --------------------------------------------------------------------------------- */

/* mmap(2) where the mapping must be of another file than the descriptor's: an address, or -errno. OVL_PASS: the
 * kernel's own call. */
long ovl_map(void *address, size_t length, int protection, int flags, int fd, long offset);

/* ---- locks ------------------------------------------------------------------------------------ */

/* How a lock call on a descriptor is to be made. `command` is fcntl's (its argument a struct flock), or
 * OVL_FLOCK (flock's operation, as a pointer). */
#define OVL_FLOCK (-1)
enum ovl_lock_course {
  OVL_LOCK_PLAIN,   /* as it is */
  OVL_LOCK_CHECKED, /* as it is; ovl_lock_verify if it took a lock and ovl_lock_disturbed says so */
  OVL_LOCK_ACROSS,  /* by ovl_lock_across instead */
};
/* A word of the registry that changes when an object is copied up or contested, and what it said. */
struct ovl_lock_seen {
  const uint64_t *word;
  uint64_t value;
  const uint64_t *state; /* which segments are in use decides which word counts */
  uint64_t said;
};
int ovl_lock_course(int fd, int command, struct ovl_lock_seen *seen);
static inline int ovl_lock_disturbed(const struct ovl_lock_seen *seen) {
  return __builtin_expect(__atomic_load_n(seen->word, __ATOMIC_ACQUIRE) != seen->value ||
                              __atomic_load_n(seen->state, __ATOMIC_ACQUIRE) != seen->said,
                          0);
}
/* 0; -errno: the lock was given back; OVL_LOCK_AGAIN: so it was, and ovl_lock_across is to wait for it. */
long ovl_lock_verify(int fd, int command, void *argument);
/* After ENOLCK: whether a line is due on what kept a lock from being taken, once a process. */
int ovl_lock_refusal(const char **workdir, const char **reason);
/* A call that concerns two inodes, and may wait. 0 or -errno as fcntl(2) and flock(2), or what the caller is to
 * do before the next call of it with the same words:
 * OVL_LOCK_SLEEP: make the program's own call, with `range` as its words, and return if that fails;
 * OVL_LOCK_AGAIN: nothing, or let the thread be cancelled. Signals may be blocked meanwhile. */
enum { OVL_LOCK_SLEEP = 1, OVL_LOCK_AGAIN = 2 };
struct ovl_lock_wait { /* of zeros before the first call */
  uint64_t mask;       /* the thread's signals, while `blocked` */
  uint32_t blocked;
  uint32_t slept;
  uint32_t rounds;
  uint32_t began;
  struct flock range; /* what is asked for, from the start of the file */
};
long ovl_lock_across(int fd, int command, void *argument, struct ovl_lock_wait *wait);

/* fcntl(2) F_SETLEASE. OVL_PASS: the call is right as it is. */
long ovl_lease(int fd, long type);

/* ---- mandatory locks (ovl_process.mandatory: some overlay has them) ---------------------------- */

/* Before `size` bytes at `offset` (-1: the descriptor's position) are read (F_RDLCK) or written (F_WRLCK): 0,
 * or -errno: EAGAIN, EDEADLK, EINTR. May wait. */
long ovl_mandatory_pass(int fd, int type, off_t offset, size_t size);
/* The same before ftruncate; a shared mapping; and a lock that is to be taken or given up. The last two never
 * wait: EAGAIN. */
long ovl_mandatory_resize(int fd, off_t length);
long ovl_mandatory_map(int fd);
long ovl_mandatory_lock(int fd);
/* ---- data ------------------------------------------------------------------------------------- */

/* A call on the data behind a descriptor of a lower file, which may have been copied up since it was opened:
 * then the data is in the upper (docs/decisions/0010). */

/* 1: the kernel's own call on the descriptor is right; 0: ovl_data says so, or makes it. */
int ovl_data_is_here(int fd);

#define OVL_DATA_ADVANCES 1u /* reads at the descriptor's position, by its result further */
#define OVL_DATA_STANDS 2u   /* the call looks at the descriptor's position */
#define OVL_DATA_SEEKS 4u    /* the result is its new position */
struct ovl_data_call {
  int fd; /* the program's descriptor */
  uint32_t flags;
  long number; /* of the system call */
  long arguments[6];
  long *descriptor; /* where the call takes its descriptor from: an argument, or in a struct of the caller's */
  long *position;   /* with OVL_DATA_ADVANCES: the argument that takes the position */
  /* The core's own. */
  const char *path;
  uint64_t identity, shown, scratch;
  int overlay, open_flags, apart;
  long result;
};
/* The result of the system call, or OVL_PASS. */
long ovl_data(struct ovl_data_call *call);
/* Its part that may have to run in a child. */
void ovl_data_apart(void *call);
/* SYS_fsync or SYS_fdatasync of a directory, SYS_syncfs of anything: on the upper. The result, or OVL_PASS: the
 * kernel's own call on the descriptor is to be made. */
long ovl_synchronize(int fd, long number);
/* ---- watches ---------------------------------------------------------------------------------- */

/* inotify_add_watch(2): a watch descriptor or -errno; never OVL_PASS. */
long ovl_watch_add(int fd, const char *path, uint32_t mask);
/* fanotify_mark(2) of an inode. 0, -errno or OVL_PASS. */
long ovl_fanotify_mark(int fd, unsigned flags, uint64_t mask, int dirfd, const char *path);
/* inotify_rm_watch(2). OVL_PASS: the kernel's own call. */
long ovl_watch_remove(int fd, int wd);
/* 1: what is read from the descriptor goes through ovl_watch_translate. */
int ovl_fd_watches(int fd);
/* Turns what read(2) gave from such a descriptor into the program's events, in place, but for the first `done`
 * bytes, which are: new length, which may be 0. */
long ovl_watch_translate(int fd, void *buffer, size_t length, size_t done);
/* 1: more can be read without waiting, and nobody else does. */
int ovl_watch_has_more(int fd);
/* Around the reading of such a descriptor. The first gives what was kept for it, 0 bytes if nothing, or -EINVAL:
 * there is no room for it. */
long ovl_watch_read_begin(int fd, void *buffer, size_t size);
void ovl_watch_read_end(int fd);
/* Takes what the program is not to see from the front of the queue. 1: there is an event for it. Waits for
 * nothing. */
int ovl_watch_settle(int fd);
/* The same of all that is queued, and keeps it. 1: that is all. */
int ovl_watch_gather(int fd);
/* Bytes of events that are kept for the next read. */
int ovl_watch_keeps(int fd);
/* Makes the kernel, too, call such a descriptor readable. */
void ovl_watch_raise(int fd);
/* Nanoseconds until ovl_watch_settle looks for changes of which the kernel tells nothing; -1: it never does. */
long ovl_watch_due(int fd);

/* ---- AF_UNIX addresses ------------------------------------------------------------------------ */

/* Rewrites a pathname address so that the kernel finds the real socket.
 * 0: *out and *outlen hold it and *hold is a descriptor to close after the call (-1: none).
 * OVL_PASS: leave as it is. */
long ovl_sockaddr(const void *address, unsigned length, void *out /* 128 bytes */, unsigned *outlen,
                  int *hold);
/* bind(2) to a pathname address. OVL_PASS: make the call as it is. */
long ovl_bind(int fd, const void *address, unsigned length);
/* The reverse, in place, for getsockname/getpeername/accept/recvfrom: new length. */
unsigned ovl_sockaddr_shown(void *address, unsigned length, unsigned capacity);

/* ---- file systems ----------------------------------------------------------------------------- */

/* The real path that statfs/statvfs/pathconf must ask about (upper's file system). As ovl_locate. */
long ovl_locate_fs(struct ovl_path *p, const char *path);
/* The same for a descriptor. */
long ovl_locate_fs_fd(struct ovl_path *p, int fd);

#endif
