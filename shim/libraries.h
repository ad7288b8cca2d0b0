#ifndef OVERLOCK_LIBRARIES_H
#define OVERLOCK_LIBRARIES_H

#include "hook.h"

/* 1: what `caller` opens by that name or path is in an overlay. */
int ovl_find_library(struct ovl_library *library, const char *name, const void *caller);

/* Opens it, after what it needs from an overlay. A handle, or NULL with dlerror's words. */
void *ovl_open_library(const struct ovl_library *library, int mode);

#endif
