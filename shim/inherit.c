/* What a new program's environment must carry:
 * - LD_PRELOAD with this library in it: an environment made by the caller keeps its own entries and
 *   their order, ours is appended if absent.
 * - OVERLOCK as this process got it. A value that contains ours line by line stays: that is a
 *   nested run that adds overlays.
 * - OVERLOCK_STATE: what the core says now; a stale one is dropped.
 * - LD_AUDIT with the audit library behind the caller's own, where the core says that the program
 *   needs it.
 *
 * Async-signal-safe: the room was reserved with the plan. */

#include "exec.h"

#include <string.h>

int ovl_audited;

static const char preload[] = "LD_PRELOAD=";
static const char options[] = "OVERLOCK=";
static const char state[] = "OVERLOCK_STATE=";
static const char audit[] = "LD_AUDIT=";
static const char search_path[] = "LD_LIBRARY_PATH=";

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

/* 1: the element names a file of that name. */
static int is_named(struct token t, const char *name) {
  const size_t length = ovl_length(name);
  if (t.length < length) return 0;
  const char *last = t.text + t.length - length;
  const int starts = t.length == length || last[-1] == '/' || last[-1] == OVL_AUDIT_MARK;
  return starts && ovl_starts_with(last, name);
}

static int has_our_name(struct token t) {
  return is_named(t, strrchr(ovl_inherited.library, '/') + 1);
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
  size_t text = sizeof preload + ovl_inherited.library_length + sizeof audit +
                ovl_inherited.audit_length;
  for (size_t i = 0; envp != NULL && envp[i] != NULL; i++)
    if (STARTS_WITH(envp[i], preload))
      text += strlen(envp[i]) + ovl_inherited.library_length + 2;
    else if (STARTS_WITH(envp[i], audit))
      text += strlen(envp[i]) + ovl_inherited.audit_length + 2;
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

static size_t length_to_colon(const char *list) {
  size_t n = 0;
  while (list[n] != '\0' && list[n] != ':') n++;
  return n;
}

/* Without the audit library; 1 if it was there and works. */
static int drop_audit(char *list) {
  int works = 0;
  char *to = list;
  for (const char *at = list; *at != '\0';) {
    const struct token t = {at, length_to_colon(at)};
    at += t.length;
    if (*at == ':') at++;
    if (is_named(t, OVL_AUDIT_NAME)) {
      works |= t.text[0] == OVL_AUDIT_MARK;
      continue;
    }
    if (to != list) *to++ = ':';
    for (size_t i = 0; i < t.length; i++) *to++ = t.text[i];
  }
  *to = '\0';
  return works;
}

void ovl_hide_audit(char **environment) {
  for (; environment != NULL && *environment != NULL; environment++) {
    if (!ovl_starts_with(*environment, audit)) continue;
    char *list = *environment + sizeof audit - 1;
    ovl_audited |= drop_audit(list);
    if (*list != '\0') continue;
    for (char **e = environment; (*e = e[1]) != NULL; e++) continue;
    environment--;
  }
}

/* An LD_AUDIT entry with what is in `entry` (NULL: nothing), and the audit library if it is needed.
 * NULL: none. */
static char *with_audit(struct ovl_plan *p, const char *entry) {
  char *made = p->text;
  char *list = stpcpy(made, audit);
  (void)stpcpy(list, entry != NULL ? entry + sizeof audit - 1 : "");
  (void)drop_audit(list);
  char *at = list + strlen(list);
  if (p->exec.audit) {
    if (at != list) *at++ = ':';
    at = stpcpy(at, ovl_inherited.audit);
  }
  if (at == list) return NULL;
  p->text = at + 1;
  return made;
}

const char *ovl_search_path(char *const envp[]) {
  for (size_t i = 0; envp != NULL && envp[i] != NULL; i++)
    if (STARTS_WITH(envp[i], search_path)) return envp[i] + sizeof search_path - 1;
  return NULL;
}

void ovl_inherit(struct ovl_plan *p, char *const envp[]) {
  size_t n = 0;
  int have_preload = 0, have_options = 0, have_audit = 0;
  for (size_t i = 0; envp != NULL && envp[i] != NULL; i++) {
    char *entry = envp[i];
    if (STARTS_WITH(entry, state)) continue;
    if (STARTS_WITH(entry, options)) {
      if (!keeps_options(entry)) continue;
      have_options = 1;
    }
    if (STARTS_WITH(entry, audit)) {
      have_audit = 1;
      entry = with_audit(p, entry);
      if (entry == NULL) continue;
    }
    if (STARTS_WITH(entry, preload)) {
      have_preload = 1;
      if (!loads_ours(entry + sizeof preload - 1)) entry = with_library(p, entry);
    }
    p->environment[n++] = entry;
  }
  if (!have_preload) p->environment[n++] = with_library(p, NULL);
  if (!have_options) p->environment[n++] = (char *)ovl_inherited.options;
  if (!have_audit && p->exec.audit) p->environment[n++] = with_audit(p, NULL);
  if (p->exec.state[0] != '\0') p->environment[n++] = p->exec.state;
  p->environment[n] = NULL;
}
