/* What a new program's environment must carry:
 * - LD_PRELOAD with this library in it: an environment made by the caller keeps its own entries and
 *   their order, ours is appended if absent.
 * - OVERLOCK as this process got it. A value that contains ours line by line stays: that is a
 *   nested run that adds overlays.
 * - OVERLOCK_STATE: what the core says now; a stale one is dropped.
 *
 * Async-signal-safe: the room was reserved with the plan. */

#include "exec.h"

#include <string.h>

static const char preload[] = "LD_PRELOAD=";
static const char options[] = "OVERLOCK=";
static const char state[] = "OVERLOCK_STATE=";

#define STARTS_WITH(string, prefix) (strncmp(string, prefix, sizeof prefix - 1) == 0)

/* An element of LD_PRELOAD. */
struct token {
  const char *text;
  size_t length;
};

/* The next element from *at on, which moves behind it; length 0 at the end. */
static struct token next_token(const char **at) {
  *at += strspn(*at, ": ");
  const struct token t = {*at, strcspn(*at, ": ")};
  *at += t.length;
  return t;
}

/* 1: the element names a file of this library's name. */
static int has_our_name(struct token t) {
  const char *name = strrchr(ovl_inherited.library, '/') + 1;
  const size_t length = strlen(name);
  return t.length >= length && memcmp(t.text + t.length - length, name, length) == 0 &&
         (t.length == length || t.text[t.length - length - 1] == '/');
}

/* 1: wherever the program then is, the element still means what it says. */
static int is_anchored(struct token t) { return t.text[0] == '/' || t.text[0] == '$'; }

/* Whether an LD_PRELOAD value will load this library. */
static int loads_ours(const char *value) {
  for (struct token t; (t = next_token(&value)).length > 0;)
    if (is_anchored(t) && has_our_name(t)) return 1;
  return 0;
}

/* Whether an OVERLOCK entry holds all of ours as whole lines. */
static int keeps_options(const char *entry) {
  const char *ours = ovl_inherited.options + sizeof options - 1;
  const size_t length = ovl_inherited.options_length - (sizeof options - 1);
  for (const char *at = entry + sizeof options - 1; at != NULL;) {
    if (strncmp(at, ours, length) == 0 && (at[length] == '\0' || at[length] == '\n')) return 1;
    at = strchr(at, '\n');
    if (at != NULL) at++;
  }
  return 0;
}

size_t ovl_inherited_text(char *const envp[]) {
  size_t text = sizeof preload + ovl_inherited.library_length;
  for (size_t i = 0; envp != NULL && envp[i] != NULL; i++)
    if (STARTS_WITH(envp[i], preload))
      text += strlen(envp[i]) + ovl_inherited.library_length + 2;
  return text;
}

/* An LD_PRELOAD entry with the elements of `entry` (NULL: none) and our library, in the plan's
 * text. The relative path that we may once have been given is replaced: it may lead nowhere now. */
static char *with_library(struct ovl_plan *p, const char *entry) {
  char *made = p->text;
  char *at = stpcpy(made, preload);
  const char *value = entry != NULL ? entry + sizeof preload - 1 : "";
  for (struct token t; (t = next_token(&value)).length > 0;) {
    if (has_our_name(t)) continue;
    at = mempcpy(at, t.text, t.length);
    *at++ = ':';
  }
  p->text = stpcpy(at, ovl_inherited.library) + 1;
  return made;
}

void ovl_inherit(struct ovl_plan *p, char *const envp[]) {
  size_t n = 0;
  int have_preload = 0, have_options = 0;
  for (size_t i = 0; envp != NULL && envp[i] != NULL; i++) {
    char *entry = envp[i];
    if (STARTS_WITH(entry, state)) continue;
    if (STARTS_WITH(entry, options)) {
      if (!keeps_options(entry)) continue;
      have_options = 1;
    }
    if (STARTS_WITH(entry, preload)) {
      have_preload = 1;
      if (!loads_ours(entry + sizeof preload - 1)) entry = with_library(p, entry);
    }
    p->environment[n++] = entry;
  }
  if (!have_preload) p->environment[n++] = with_library(p, NULL);
  if (!have_options) p->environment[n++] = (char *)ovl_inherited.options;
  if (p->exec.state[0] != '\0') p->environment[n++] = p->exec.state;
  p->environment[n] = NULL;
}
