/* Loading libraries and asking for symbols at run time.
 *
 * - dlopen with RTLD_DEEPBIND would let the library find libc before us: the flag is taken off.
 * - A path into an overlay becomes the object's real path (libraries.c), unless ld.so asks the audit
 *   library for it (audit/).
 * - dlsym(handle of libc, "open") would answer libc's own function: for a hooked name ours is
 *   given.
 *
 * libc asks for the return address: RTLD_NEXT and RTLD_DEFAULT search from the caller's place,
 * dlopen of a bare name uses the caller's RUNPATH. Those calls are jumps (TAIL_CALL), so that libc
 * sees the program. With RTLD_DEFAULT and RTLD_NEXT the order of the libraries already gives our
 * functions.
 *
 * Known limit: dlmopen makes a second libc that no hook reaches. */

#include "libraries.h"

#include <dlfcn.h>
#include <string.h>

HOOKED(void *, dlopen, const char *path, int mode) {
  if (OVL_OFF()) TAIL_CALL NEXT(dlopen)(path, mode);
  mode &= ~RTLD_DEEPBIND;
  if (!ovl_audited && path != NULL) {
    struct ovl_library library;
    int found;
    KEEPING_ERRNO(found = ovl_find_library(&library, path, __builtin_return_address(0)));
    if (found) return ovl_open_library(&library, mode);
  }
  TAIL_CALL NEXT(dlopen)(path, mode);
}

HOOKED(void *, dlmopen, Lmid_t space, const char *path, int mode) {
  if (OVL_ON() && !ovl_audited && path != NULL && strchr(path, '/') != NULL) {
    OVL_PATH(p);
    /* Where it cannot be found, libc finds the words for dlerror. */
    if (ovl_locate(&p, AT_FDCWD, path, OVL_FOLLOW) == 0 && strcmp(p.real, path) != 0)
      return NEXT(dlmopen)(space, p.real, mode);
  }
  TAIL_CALL NEXT(dlmopen)(space, path, mode);
}

struct export {
  const char *name;
  void *ours;
};

static const struct export exports[] = {
#define HOOK(ret, name, params, family) {#name, (void *)&ovl_hook_##name},
#define ALIAS(name, target, family) {#name, (void *)&ovl_hook_##target},
#include "hooks.def"
#undef HOOK
#undef ALIAS
};

/* Our function in place of libc's own of that name; what another library defines stays. */
static void *ours_for(const char *name, void *found) {
  if (found == NULL || !ovl_same_object(found, (void *)NEXT(dlsym))) return found;
  for (size_t i = 0; i < sizeof exports / sizeof exports[0]; i++)
    if (strcmp(exports[i].name, name) == 0) return exports[i].ours;
  return found;
}

HOOKED(void *, dlsym, void *handle, const char *name) {
  if (OVL_OFF() || handle == RTLD_NEXT || handle == RTLD_DEFAULT)
    TAIL_CALL NEXT(dlsym)(handle, name);
  return ours_for(name, NEXT(dlsym)(handle, name));
}

HOOKED(void *, dlvsym, void *handle, const char *name, const char *version) {
  if (OVL_OFF() || handle == RTLD_NEXT || handle == RTLD_DEFAULT)
    TAIL_CALL NEXT(dlvsym)(handle, name, version);
  return ours_for(name, NEXT(dlvsym)(handle, name, version));
}
