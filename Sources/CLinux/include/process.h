#ifndef OVERLOCK_PROCESS_H
#define OVERLOCK_PROCESS_H

/* What one process knows: its overlays and its descriptors. Zero is the initial state of everything
 * (the structs live in .bss). All of it is private memory; what is shared is behind `registry`. */

#include <stddef.h>
#include <stdint.h>

#include "abi.h"

#define OVL_MAX_OVERLAYS 16
#define OVL_MAX_LAYERS 512 /* lowers plus the upper */
#define OVL_TABLE_FDS 4096 /* descriptors with an entry in the table; higher ones have it in one of their own */
#define OVL_FAR_FDS 65536u
#define OVL_FAR_TABLES 32768
#define OVL_SLOT_FDS 1024
#define OVL_SLOT_PATH 264
#define OVL_PATH_MAX 4096
/* Of a canonical path: relative paths lead to directories that no path of PATH_MAX does. */
#define OVL_DEEP_MAX 16384

/* Flag of a layer: an empty regular file in it may be a whiteout in the xattr form, also where its directory does
 * not say so: the upper's whiteouts are made so, or the root of the lower says it. */
#define OVL_LAYER_FILE_WHITEOUTS 1u
#define OVL_LAYER_POLLED 2u /* its changes are looked for (PolledFileSystems.swift) */

/* A layer's root. Paths are canonical and absolute, without a trailing slash ("" for the file
 * system's root). */
struct ovl_layer {
  const char *path;
  uint32_t length;
  uint32_t flags;
  uint64_t device;
  uint64_t ino_high; /* or-ed into inode numbers: tells several file systems of one overlay apart */
};

/* Flags of an overlay. */
#define OVL_HAS_UPPER 1u
#define OVL_USERXATTR 2u        /* user.overlay.* instead of trusted.overlay.* */
#define OVL_TARGET_IS_LOWER 4u  /* the target is one of the lowers */
#define OVL_ONE_DEVICE 8u       /* all layers on one file system: inode numbers need no mapping */
#define OVL_XATTR_WHITEOUTS 16u /* the upper takes no device nodes */
#define OVL_UNREACHED_ALLOW 32u
#define OVL_UNREACHED_WARN 64u
#define OVL_UNREACHED_REFUSE 128u
#define OVL_NO_XATTRS 256u /* the upper takes neither kind: opaque and redirect cannot be written */
#define OVL_SEALED 512u
#define OVL_LOCKS_ORIGIN 1024u  /* locks=origin: a copied-up object's origin is always asked */
#define OVL_LOCKS_OVERLAY 2048u /* locks=overlay: locks of others on lowers do not count after copy-up */
#define OVL_MAND 4096u /* mandatory locks */

struct ovl_overlay {
  const char *target;
  const char *work; /* workdir/overlock */
  uint32_t target_length;
  uint32_t work_length;
  uint32_t layer_count; /* slot 0 is the upper's, also when there is none */
  uint32_t flags;
  uint64_t device; /* the st_dev that every object shows */
  uint64_t id;
  struct ovl_layer *layers;
  char *registry; /* the mapped segment; NULL: none, nothing is cached */
  char *page;     /* where its segments meet (Rendezvous.swift); the segment itself without an upper */
  uint64_t sole;  /* what the page says while this segment is the only one */
  uint64_t key0, key1;
  uint64_t root_ino; /* shown for the target itself */
  uint64_t poll_ns;  /* how often layers with OVL_LAYER_POLLED are looked at */
};

/* Flags of a descriptor's entry. */
#define OVL_FD_KNOWN 1u   /* the entry says all there is: a plain descriptor unless OVL_FD_OURS */
#define OVL_FD_OURS 2u    /* sits on an object of overlay `overlay` */
#define OVL_FD_DIR 4u     /* a directory: slot and listing may hold more */
#define OVL_FD_LOWER 8u   /* the inode is a lower one */
#define OVL_FD_LINKED 16u /* has, or had, several hard links */
#define OVL_FD_RECORD 32u /* POSIX record locks were asked for through it */
#define OVL_FD_MARKED 64u /* locks=overlay: its object's origin is marked as locked through the overlay */
#define OVL_FD_STRANGE 128u /* not known, and not opened here: what it is matters when it is closed */
#define OVL_FD_WATCHES 256u /* an inotify instance with watches of our own making: `ino` is its table's number */
#define OVL_FD_COPIED 512u /* a lower file that was found to have been copied up */
#define OVL_FD_FRESH 1024u /* `seen` is the open's: a copy may have been on its way, which locks must know */
#define OVL_FD_GONE 2048u  /* a lower file that had no name left, and no copy, under the count `seen` */

struct ovl_fd {
  uint64_t word; /* flags:16 overlay:16 layer:32 */
  uint64_t ino;  /* shown inode number, 0: the kernel's */
  uint64_t listing;
  uint64_t seen; /* a lower file: the registry's count of copy-ups under which it was not copied up */
};

/* Where the registry counts copy-ups. */
#define OVL_REGISTRY_COPY_UPS 80
#define OVL_REGISTRY_STATE 24 /* of the page: `sole` while the registry is the only segment in use */

/* Where a directory is: the working directory, or what a small descriptor has open. */
struct ovl_place {
  uint32_t stamp;   /* odd: being written */
  int32_t overlay;  /* -1: outside, the path is absolute */
  uint32_t length;  /* bytes of the path plus one, 0: not known */
  uint32_t layer;   /* of the real directory */
  uint32_t direct;  /* 1: the real directory is the layer's root plus the path */
  uint32_t inside;  /* of the working directory: 1: in an overlay when somebody last looked */
  uint64_t epoch;   /* the registry's `positions` under which this holds */
  uint64_t hash[4]; /* of the path, and of the directory that it is in */
  /* and the path, up to the capacity of the struct that this begins */
};

struct ovl_slot {
  struct ovl_place place;
  char path[OVL_SLOT_PATH];
};

struct ovl_cwd {
  struct ovl_place place;
  char path[OVL_DEEP_MAX];
};

/* What a vfork child, which runs in this memory, has changed of its parent's: put back when the parent
 * wakes. */
#define OVL_LOAN_ENTRIES 64
struct ovl_loan {
  uint32_t active;
  uint32_t count;
  uint64_t scratch; /* scratch_busy when it began */
  int fds[OVL_LOAN_ENTRIES];
  struct ovl_fd entries[OVL_LOAN_ENTRIES];
  struct ovl_cwd cwd;
};

#define OVL_TURNS_IN_FLIGHT 64
#define OVL_SCRATCH_BLOCKS 32
#define OVL_SCRATCH_SIZE 233472

/* What the start of a process writes, and what every call reads. It lies with the initialised data: ld.so
 * has touched that page already, and page faults are most of what a start costs. */
#define OVL_ARENA_NEAR 640
#define OVL_PAGES_SEEN 64
struct ovl_process {
  struct ovl_fd *table; /* NULL before the start */
  struct ovl_slot *slots;
  char *scratch;
  uint64_t scratch_busy;
  uint64_t outside_key;   /* tells this set of overlays apart in caches about outside paths */
  uint32_t longest_layer; /* bytes of the longest layer path */
  uint32_t started;
  uint32_t mandatory;    /* 1: some overlay has OVL_MAND */
  uint32_t confined;     /* 1: seccomp kills for a look at a descriptor (Confinement) */
  uint32_t unmarked;     /* 1: seccomp kills for what a Marker needs */
  uint32_t record_locks; /* 0: no POSIX record locks were asked for on objects of overlays (RecordLocks) */
  uint32_t lock_refused; /* 1: a lock was refused since the workdir could not be used; 2: and that was said */
  uint32_t program; /* index plus one of the overlay from whose lower, not its target, the program comes */
  uint32_t near_used; /* of the two arenas */
  uint32_t far_used;
  int32_t refused_by; /* the overlay of that lock, */
  int32_t refused_why; /* and the errno */
  uint64_t steps; /* numbered steps passed (fault injection) */
  uint64_t step_to_die;
  uint64_t pages[OVL_PAGES_SEEN]; /* of the program's memory, numbers plus one (pointers.h) */
  char arena[OVL_ARENA_NEAR];
  struct ovl_overlay overlays[OVL_MAX_OVERLAYS];
};

/* inotify instances that watch objects of lowers (Watches). */
struct ovl_watch_list {
  uint32_t made; /* 1: this process has one; a forked child has not */
  uint32_t used; /* records */
  uint32_t directories; /* and of the list of directories */
  uint64_t name;
};
struct ovl_watching {
  uint32_t reach; /* one more than the highest descriptor of such an instance; 0: there is none */
  uint32_t polled; /* 1: some instance has a watch whose changes are looked for */
  uint32_t keeps; /* 0: no instance keeps events for its next read */
  char *tables;   /* NULL before the first watch */
  struct ovl_watch_list lists[OVL_MAX_OVERLAYS];
};

#define OVL_HIDDEN_DATA extern __attribute__((visibility("hidden")))
OVL_HIDDEN_DATA struct ovl_process ovl_process;
OVL_HIDDEN_DATA struct ovl_cwd ovl_cwd;
OVL_HIDDEN_DATA struct ovl_loan ovl_loan;
OVL_HIDDEN_DATA struct ovl_watching ovl_watching;
OVL_HIDDEN_DATA uint64_t ovl_turns_held[OVL_TURNS_IN_FLIGHT]; /* descriptor plus one of each */
OVL_HIDDEN_DATA char ovl_arena_far[16384];

/* The entry of a descriptor with a number of OVL_TABLE_FDS or more; its table is made if asked for. NULL: there is
 * none. */
struct ovl_fd *ovl_far_fd(int fd, int make) __attribute__((visibility("hidden")));
/* One more than the highest number that may have an entry. */
unsigned ovl_fd_limit(void) __attribute__((visibility("hidden")));

/* Gives the process its tables: address space that is touched as needed. */
void ovl_set_tables(void) __attribute__((visibility("hidden")));

static inline struct ovl_process *ovl_self(void) { return &ovl_process; }
static inline struct ovl_overlay *ovl_overlay_at(long index) { return &ovl_process.overlays[index]; }
static inline struct ovl_loan *ovl_loan_now(void) { return &ovl_loan; }
/* Arrays inside structs: Swift sees those as tuples, or not at all. */
static inline struct ovl_place *ovl_cwd_place(void) { return &ovl_cwd.place; }
static inline struct ovl_place *ovl_slot_place(int fd) { return &ovl_process.slots[fd].place; }
static inline uint8_t *ovl_place_path(struct ovl_place *p) { return (uint8_t *)(p + 1); }
static inline uint64_t *ovl_place_hash(struct ovl_place *p) { return p->hash; }
static inline int *ovl_loan_fds(void) { return ovl_loan.fds; }
static inline struct ovl_fd *ovl_loan_entries(void) { return ovl_loan.entries; }
static inline struct ovl_place *ovl_loan_cwd(void) { return &ovl_loan.cwd.place; }
static inline uint64_t *ovl_turns(void) { return ovl_turns_held; }
static inline uint8_t *ovl_near(void) { return (uint8_t *)ovl_process.arena; }
static inline uint8_t *ovl_far(void) { return (uint8_t *)ovl_arena_far; }
static inline size_t ovl_far_size(void) { return sizeof ovl_arena_far; }
static inline uint8_t *ovl_path_small(struct ovl_path *p) { return (uint8_t *)p->small; }
static inline struct ovl_path *ovl_exec_file(struct ovl_exec *e) { return &e->file; }
static inline uint8_t *ovl_exec_line(struct ovl_exec *e) { return (uint8_t *)e->line; }
static inline const char **ovl_needs_names(struct ovl_needs *n) { return n->names; }
static inline int ovl_needs_max(void) { return sizeof ((struct ovl_needs *)0)->names / sizeof(char *); }
static inline uint8_t *ovl_needs_text(struct ovl_needs *n) { return (uint8_t *)n->text; }
static inline int ovl_needs_text_size(void) { return sizeof ((struct ovl_needs *)0)->text; }
static inline uint8_t *ovl_search_text(struct ovl_search_cache *c) { return (uint8_t *)c->text; }
static inline int ovl_search_text_size(void) {
  return sizeof ((struct ovl_search_cache *)0)->text;
}
static inline uint8_t *ovl_library_shown(struct ovl_library *l) { return (uint8_t *)l->shown; }
static inline uint8_t *ovl_library_real(struct ovl_library *l) { return (uint8_t *)l->real; }
static inline uint8_t *ovl_exec_state(struct ovl_exec *e) { return (uint8_t *)e->state; }
static inline size_t ovl_exec_state_size(void) { return sizeof ((struct ovl_exec *)0)->state; }

static inline int ovl_overlay_count(void) { return ovl_overlays; }
static inline void ovl_set_overlay_count(int n) { ovl_overlays = n; }

#endif
