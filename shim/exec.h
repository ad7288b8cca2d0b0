#ifndef OVERLOCK_EXEC_H
#define OVERLOCK_EXEC_H

/* One exec made ready, for exec.c to do here and for spawn.c to have libc do in a child. */

#include "hook.h"

struct ovl_plan {
  size_t size; /* of the mapping that holds all of it */
  int outside; /* the program is outside every overlay */
  const char *program;
  char *const *argv;  /* the caller's, or a script's */
  char **environment; /* with what the new image must inherit */
  char **arguments;   /* room for a script's argv */
  char *text;         /* room for LD_PRELOAD entries */
  struct ovl_exec exec;
};

/* 0 or -errno. Drop the plan in both cases. */
long ovl_plan_exec(struct ovl_plan **plan, int dirfd, const char *path, char *const argv[],
                   char *const envp[], int flags);
void ovl_plan_drop(struct ovl_plan *plan);

/* At most so many entries does ovl_inherit add to the caller's environment. */
#define OVL_INHERITED_ENTRIES 4

/* Fills plan->environment from the caller's; needs ovl_inherited_text(envp) bytes at plan->text. */
void ovl_inherit(struct ovl_plan *plan, char *const envp[]);
size_t ovl_inherited_text(char *const envp[]);
const char *ovl_search_path(char *const envp[]); /* LD_LIBRARY_PATH, or NULL */

#endif
