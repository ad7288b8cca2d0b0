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

void ovl_set_tables(void) {
  ovl_process.table = descriptors;
  ovl_process.slots = slots;
  ovl_process.scratch = scratch[0];
}
