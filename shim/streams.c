/* Streams over descriptors of lower files.
 *
 * libc's streams read, seek and stat by functions inside libc, which no hook of read meets. Every stream
 * over a descriptor calls them through one of two tables, for bytes and for wide characters, in which those
 * three places are given functions of ours: so whatever refills a stream, getc's macro and libc's own
 * readers of records among it, sees what a read of the descriptor shows, and nothing is in the way of a
 * character that is in the buffer already. (docs/decisions/0010)
 *
 * The tables lie in memory that ld.so has made read-only; it is writable for the three stores. A place is
 * changed only where it holds the very function that libc exports under the name. This is done when a stream
 * may first stand on a lower file: most programs never pay for it. */

#include "mandatory.h"
#include "reads.h"

#include <sys/mman.h>

/* libio's struct _IO_jump_t is two words and nineteen functions. */
#define TABLE_WORDS 21

typedef ssize_t stream_read(FILE *stream, void *buffer, ssize_t size);
typedef off_t stream_seek(FILE *stream, off_t offset, int whence);
typedef int stream_stat(FILE *stream, void *st);

static stream_read *next_read;
static stream_seek *next_seek;
static stream_stat *next_stat;

static ssize_t read_stream(FILE *stream, void *buffer, ssize_t size) {
  if (OVL_SURELY_HERE(stream->_fileno)) return next_read(stream, buffer, size);
  return ovl_hook_read(stream->_fileno, buffer, (size_t)size);
}

static off_t seek_stream(FILE *stream, off_t offset, int whence) {
  const long r = ovl_seek_data(stream->_fileno, offset, whence);
  return r == OVL_PASS ? next_seek(stream, offset, whence) : ovl_result(r);
}

static int stat_stream(FILE *stream, void *st) {
  if (OVL_HERE(stream->_fileno)) return next_stat(stream, st);
  return ovl_hook_fstat(stream->_fileno, st);
}

static void set(void **table, void *from, void *to) {
  for (int i = 2; i < TABLE_WORDS; i++)
    if (table[i] == from) __atomic_store_n(&table[i], to, __ATOMIC_RELEASE);
}

/* Writable while the process lives where the kernel refuses to take that back: as it was without RELRO. */
static void change_table(void **table) {
  const uintptr_t page = 4095;
  char *start = (char *)((uintptr_t)table & ~page);
  const size_t size = (size_t)((char *)(table + TABLE_WORDS) - start);
  if (lx_call6(SYS_mprotect, (long)start, (long)size, PROT_READ | PROT_WRITE, 0, 0, 0) < 0) return;
  set(table, (void *)next_read, (void *)read_stream);
  set(table, (void *)next_seek, (void *)seek_stream);
  set(table, (void *)next_stat, (void *)stat_stream);
  (void)lx_call6(SYS_mprotect, (long)start, (long)size, PROT_READ, 0, 0, 0);
}

enum { UNCHANGED, CHANGING, CHANGED };
static int state;

void ovl_follow_streams(void) {
  int was = UNCHANGED;
  if (!__atomic_compare_exchange_n(&state, &was, CHANGING, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
    return;
  void *found[5] = {NULL, NULL, NULL, NULL, NULL};
  next_read = (stream_read *)ovl_resolve(&found[0], "_IO_file_read");
  next_seek = (stream_seek *)ovl_resolve(&found[1], "_IO_file_seek");
  next_stat = (stream_stat *)ovl_resolve(&found[2], "_IO_file_stat");
  void *bytes = ovl_resolve(&found[3], "_IO_file_jumps");
  void *wide = ovl_resolve(&found[4], "_IO_wfile_jumps");
  if (ovl_same_object(bytes, (void *)next_read)) change_table(bytes);
  if (ovl_same_object(wide, (void *)next_read)) change_table(wide);
  __atomic_store_n(&state, CHANGED, __ATOMIC_RELEASE);
}

void ovl_streams_after_fork(void) {
  if (state == CHANGING) state = UNCHANGED;
}
