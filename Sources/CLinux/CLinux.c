#include "CLinux.h"

/* The one copy of what a process knows. In the preloaded library this is hidden by the version
 * script; the command-line tool and the tests have one of their own. */
struct ovl_process ovl_process;
int ovl_overlays;
