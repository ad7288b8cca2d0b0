/* Mandatory locks: libc's streams, which write by a function inside libc that no hook meets. Its places in libc's
 * tables get a function of ours, as those of reading do (streams.c), in processes with an overlay that has the
 * option, and before any stream does anything. */

#include "mandatory.h"
#include "reads.h"

#include <sys/mman.h>

/* libio's struct _IO_jump_t is two words and nineteen functions. */
#define TABLE_WORDS 21

typedef ssize_t stream_call(FILE *stream, void *data, ssize_t size);
static stream_call *next_write;

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
  for (int i = 2; i < TABLE_WORDS; i++)
    if (table[i] == (void *)next_write) table[i] = (void *)write_stream;
  (void)lx_call6(SYS_mprotect, (long)start, size, PROT_READ, 0, 0, 0);
}

void ovl_mandatory_streams(void) {
  ovl_follow_streams();
  void *found[3] = {NULL, NULL, NULL};
  next_write = (stream_call *)ovl_resolve(&found[0], "_IO_file_write");
  void *bytes = ovl_resolve(&found[1], "_IO_file_jumps");
  void *wide = ovl_resolve(&found[2], "_IO_wfile_jumps");
  if (ovl_same_object(bytes, (void *)next_write)) change_table(bytes);
  if (ovl_same_object(wide, (void *)next_write)) change_table(wide);
}
