#include "CLinux.h"

/* The one copy of what a process knows. In the preloaded library this is hidden by the version
 * script; the command-line tool and the tests have one of their own. */
struct ovl_process ovl_process __attribute__((section(".data")));
int ovl_overlays __attribute__((section(".data")));
struct ovl_cwd ovl_cwd;
struct ovl_loan ovl_loan;
struct ovl_watching ovl_watching;
uint64_t ovl_turns_held[OVL_TURNS_IN_FLIGHT];
char ovl_arena_far[16384];

static struct ovl_fd descriptors[OVL_TABLE_FDS];
static struct ovl_slot slots[OVL_SLOT_FDS];
static char scratch[OVL_SCRATCH_BLOCKS][OVL_SCRATCH_SIZE];

/* Tables of high numbers: made when first needed, and never taken back. */
static struct ovl_fd *far_tables[OVL_FAR_TABLES];
static unsigned far_limit; /* one more than the highest index with a table */

struct ovl_fd *ovl_far_fd(int fd, int make) {
  const unsigned index = (unsigned)fd / OVL_FAR_FDS;
  if (!make && index >= __atomic_load_n(&far_limit, __ATOMIC_ACQUIRE)) return NULL;
  struct ovl_fd *table = __atomic_load_n(&far_tables[index], __ATOMIC_ACQUIRE);
  if (table == NULL) {
    if (!make) return NULL;
    const size_t size = OVL_FAR_FDS * sizeof *table;
    table = lx_mmap(size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1);
    if (table == NULL) return NULL;
    struct ovl_fd *others = NULL;
    if (!__atomic_compare_exchange_n(&far_tables[index], &others, table, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
      (void)lx_munmap(table, size);
      table = others;
    }
    unsigned limit = __atomic_load_n(&far_limit, __ATOMIC_RELAXED);
    while (limit <= index && !__atomic_compare_exchange_n(&far_limit, &limit, index + 1, 0, __ATOMIC_RELEASE,
                                                          __ATOMIC_RELAXED)) {
    }
  }
  return table + (unsigned)fd % OVL_FAR_FDS;
}

unsigned ovl_fd_limit(void) {
  const unsigned limit = __atomic_load_n(&far_limit, __ATOMIC_ACQUIRE);
  return limit > 0 ? limit * OVL_FAR_FDS : OVL_TABLE_FDS;
}

void ovl_set_tables(void) {
  ovl_process.table = descriptors;
  ovl_process.slots = slots;
  ovl_process.scratch = scratch[0];
}
