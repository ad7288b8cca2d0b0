/* Mandatory locks: libc's streams, which read and write by functions inside libc that no hook meets.
 *
 * Every stream over a descriptor calls them through one of two tables, for bytes and for wide characters; in these
 * the places of the two functions get functions of ours, in processes with an overlay that has the option, and
 * before any stream does anything. The tables lie in memory that ld.so has made read-only; it is writable for the
 * stores. A place is changed only where it holds the very function that libc exports under the name. */

#include "mandatory.h"

#include <sys/mman.h>

/* libio's struct _IO_jump_t is two words and nineteen functions. */
#define TABLE_WORDS 21

typedef ssize_t stream_call(FILE *stream, void *data, ssize_t size);
static stream_call *next_read, *next_write;

static ssize_t read_stream(FILE *stream, void *buffer, ssize_t size) {
  const long r = ovl_mandatory_read(stream->_fileno, OVL_HERE_ON, (size_t)size);
  return r < 0 ? ovl_result(r) : next_read(stream, buffer, size);
}

/* As _IO_file_write: what was written, less than all of it after an error. */
static ssize_t write_stream(FILE *stream, void *data, ssize_t size) {
  const long r = ovl_mandatory_write(stream->_fileno, OVL_HERE_ON, (size_t)size);
  if (r >= 0) return next_write(stream, data, size);
  stream->_flags |= _IO_ERR_SEEN;
  (void)ovl_result(r);
  return 0;
}

static void change_table(void **table) {
  char *start = (char *)((uintptr_t)table & ~(uintptr_t)4095);
  const long size = (char *)(table + TABLE_WORDS) - start;
  if (lx_call6(SYS_mprotect, (long)start, size, PROT_READ | PROT_WRITE, 0, 0, 0) < 0) return;
  for (int i = 2; i < TABLE_WORDS; i++) {
    if (table[i] == (void *)next_read) table[i] = (void *)read_stream;
    if (table[i] == (void *)next_write) table[i] = (void *)write_stream;
  }
  (void)lx_call6(SYS_mprotect, (long)start, size, PROT_READ, 0, 0, 0);
}

void ovl_mandatory_streams(void) {
  void *found[4] = {NULL, NULL, NULL, NULL};
  next_read = (stream_call *)ovl_resolve(&found[0], "_IO_file_read");
  next_write = (stream_call *)ovl_resolve(&found[1], "_IO_file_write");
  void *bytes = ovl_resolve(&found[2], "_IO_file_jumps");
  void *wide = ovl_resolve(&found[3], "_IO_wfile_jumps");
  if (ovl_same_object(bytes, (void *)next_read)) change_table(bytes);
  if (ovl_same_object(wide, (void *)next_read)) change_table(wide);
}
