/* Loading libraries and asking for symbols at run time.
 *
 * - dlopen with RTLD_DEEPBIND would let the library find libc before us: the flag is taken off.
 * - A path into an overlay becomes the object's real path.
 * - dlsym(handle of libc, "open") would answer libc's own function: for a hooked name ours is
 *   given.
 *
 * libc asks for the return address: RTLD_NEXT and RTLD_DEFAULT search from the caller's place,
 * dlopen of a bare name uses the caller's RUNPATH. Those calls are jumps (TAIL_CALL), so that libc
 * sees the program. With RTLD_DEFAULT and RTLD_NEXT the order of the libraries already gives our
 * functions.
 *
 * Known limits: dlmopen makes a second libc that no hook reaches; dependencies, of a program too, are
 * searched for by the loader itself, in the layers' real directories. */

#include "hook.h"

#include <dlfcn.h>
#include <string.h>

/* No handle and not NULL either: the path is not one of ours. */
#define NOT_OURS ((void *)-1)

static void *open_located(Lmid_t space, const char *path, int mode) {
  if (path == NULL || strchr(path, '/') == NULL) return NOT_OURS;
  OVL_PATH(p);
  const long r = ovl_locate(&p, AT_FDCWD, path, OVL_FOLLOW);
  /* Where it cannot be found, libc finds the words for dlerror. */
  if (r != 0 || strcmp(p.real, path) == 0) return NOT_OURS;
  return space == LM_ID_BASE ? NEXT(dlopen)(p.real, mode) : NEXT(dlmopen)(space, p.real, mode);
}

HOOKED(void *, dlopen, const char *path, int mode) {
  if (OVL_ON()) {
    mode &= ~RTLD_DEEPBIND;
    if (ovl_audited) TAIL_CALL NEXT(dlopen)(path, mode); /* ld.so asks where it is */
    void *handle = open_located(LM_ID_BASE, path, mode);
    if (handle != NOT_OURS) return handle;
  }
  TAIL_CALL NEXT(dlopen)(path, mode);
}

HOOKED(void *, dlmopen, Lmid_t space, const char *path, int mode) {
  if (OVL_ON() && !ovl_audited) {
    void *handle = open_located(space, path, mode);
    if (handle != NOT_OURS) return handle;
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
