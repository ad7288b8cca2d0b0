/* Directory streams.
 *
 * A stream is libc's DIR over a descriptor that the core opened; what is read from it is the core's
 * merged listing where there is one. The listing belongs to the descriptor and lives till that is
 * closed, so records handed out stay valid at least till the next read, as readdir(3) asks. A
 * position (telldir, d_off) is the offset of a record plus one; 0 is the start.
 *
 * Left out on purpose: fdopendir, dirfd, alphasort, versionsort: they are right as they are. */

#include "hook.h"

#include <string.h>

HOOKED(DIR *, opendir, const char *path) {
  if (OVL_OFF()) return NEXT(opendir)(path);
  const long fd = ovl_open(AT_FDCWD, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NONBLOCK, 0, 0);
  if (fd == OVL_PASS) return NEXT(opendir)(path);
  if (fd < 0) return ovl_null(fd);
  DIR *stream = fdopendir((int)fd);
  if (stream == NULL) ovl_fd_close((int)fd);
  return stream;
}

/* The merged listing of a stream; NULL with *error 0: libc's own reading is right. */
static struct ovl_listing *listing(DIR *stream, long *error) {
  *error = 0;
  return OVL_ON() ? ovl_listing_of(dirfd(stream), error) : NULL;
}

/* A removed directory has no entries: to readdir that is the end, as libc has it. */
static int is_removed(long error) { return error == -ENOENT; }

/* The next record, NULL at the end. */
static struct dirent *take(struct ovl_listing *l) {
  if (l->next >= l->bytes) return NULL;
  struct dirent *entry = (struct dirent *)(void *)(l->records + l->next);
  l->next += entry->d_reclen;
  return entry;
}

/* A directory that one layer has alone is read by libc itself, whiteouts among the rest. */
static int is_hidden(int fd, const struct dirent *entry) {
  return (entry->d_type == DT_CHR || entry->d_type == DT_UNKNOWN) && OVL_ON() &&
         ovl_hides(fd, entry->d_name);
}

HOOKED(struct dirent *, readdir, DIR *stream) {
  long error;
  struct ovl_listing *l = listing(stream, &error);
  if (l != NULL) return take(l);
  if (error != 0) return is_removed(error) ? NULL : ovl_null(error);
  struct dirent *entry;
  do entry = NEXT(readdir)(stream);
  while (entry != NULL && is_hidden(dirfd(stream), entry));
  return entry;
}
HOOK_ALIAS(readdir64, readdir);

HOOKED(int, readdir_r, DIR *stream, struct dirent *entry, struct dirent **result) {
  long error;
  struct ovl_listing *l = listing(stream, &error);
  if (l == NULL && error == 0) {
    int r;
    do r = NEXT(readdir_r)(stream, entry, result);
    while (r == 0 && *result != NULL && is_hidden(dirfd(stream), *result));
    return r;
  }
  *result = NULL;
  if (l == NULL) return is_removed(error) ? 0 : (int)-error;
  const struct dirent *next = take(l);
  if (next == NULL) return 0;
  const size_t size = next->d_reclen < sizeof *entry ? next->d_reclen : sizeof *entry;
  *result = memcpy(entry, next, size);
  return 0;
}
HOOK_ALIAS(readdir64_r, readdir_r);

HOOKED(long, telldir, DIR *stream) {
  long error;
  const struct ovl_listing *l = listing(stream, &error);
  if (l == NULL) return NEXT(telldir)(stream);
  return l->next == 0 ? 0 : (long)l->next + 1;
}

HOOKED(void, seekdir, DIR *stream, long position) {
  long error;
  struct ovl_listing *l = listing(stream, &error);
  if (l == NULL) {
    NEXT(seekdir)(stream, position);
    return;
  }
  const size_t offset = position > 0 ? (size_t)position - 1 : 0;
  l->next = offset < l->bytes ? offset : l->bytes;
}

/* The drop comes first: libc forgets what it has buffered, and the next read lists anew. */
HOOKED(void, rewinddir, DIR *stream) {
  if (OVL_ON()) ovl_listing_drop(dirfd(stream));
  NEXT(rewinddir)(stream);
}

HOOKED(int, closedir, DIR *stream) {
  if (OVL_ON() && stream != NULL) ovl_fd_closing(dirfd(stream));
  return NEXT(closedir)(stream);
}

/* Takes the whiteouts out of what the kernel listed; the new length. */
static ssize_t without_hidden(int fd, char *buffer, ssize_t length) {
  ssize_t kept = 0;
  for (ssize_t at = 0; at < length;) {
    const struct dirent *entry = (const struct dirent *)(const void *)(buffer + at);
    const size_t size = entry->d_reclen;
    at += (ssize_t)size;
    if (is_hidden(fd, entry)) continue;
    if (buffer + kept != (const char *)entry) memmove(buffer + kept, entry, size);
    kept += (ssize_t)size;
  }
  return kept;
}

HOOKED(ssize_t, getdents64, int fd, void *buffer, size_t size) {
  if (OVL_OFF()) return NEXT(getdents64)(fd, buffer, size);
  const long r = ovl_getdents64(fd, buffer, size);
  if (r != OVL_PASS) return ovl_result(r);
  ssize_t listed, kept;
  do {
    listed = NEXT(getdents64)(fd, buffer, size);
    kept = listed > 0 ? without_hidden(fd, buffer, listed) : listed;
  } while (kept == 0 && listed > 0);
  return kept;
}

HOOKED(ssize_t, getdirentries, int fd, char *buffer, size_t size, off_t *base) {
  if (OVL_OFF()) return NEXT(getdirentries)(fd, buffer, size, base);
  const long position = ovl_dir_seek(fd, 0, SEEK_CUR);
  const long r = ovl_getdents64(fd, buffer, size);
  if (r == OVL_PASS) {
    ssize_t listed, kept;
    do {
      listed = NEXT(getdirentries)(fd, buffer, size, base);
      kept = listed > 0 ? without_hidden(fd, buffer, listed) : listed;
    } while (kept == 0 && listed > 0);
    return kept;
  }
  if (r >= 0 && position >= 0) *base = position;
  return ovl_result(r);
}
HOOK_ALIAS(getdirentries64, getdirentries);
