/* POSIX asynchronous reads and fsyncs: libc's threads make them by functions inside libc.
 *
 * What reads a lower file that was copied up is done at once, and is told as libc tells it, and so is an fsync
 * of what was opened on a lower; everything else goes to libc as it came. */

#include "reads.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

struct telling {
  void (*function)(union sigval);
  union sigval value;
};

static void *call_back(void *given) {
  const struct telling telling = *(struct telling *)given;
  free(given);
  telling.function(telling.value);
  return NULL;
}

static int start_thread(const struct sigevent *event) {
  struct telling *telling = malloc(sizeof *telling);
  if (telling == NULL) return -1;
  *telling = (struct telling){event->sigev_notify_function, event->sigev_value};
  pthread_attr_t attributes;
  const pthread_attr_t *wanted = event->sigev_notify_attributes;
  if (wanted == NULL) {
    (void)pthread_attr_init(&attributes);
    (void)pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    wanted = &attributes;
  }
  pthread_t thread;
  const int failed = pthread_create(&thread, wanted, call_back, telling);
  if (failed) free(telling);
  if (wanted == &attributes) (void)pthread_attr_destroy(&attributes);
  return failed ? -1 : 0;
}

/* As libc's own: what cannot be told is not told. */
static void tell(const struct sigevent *event) {
  if (event->sigev_notify == SIGEV_THREAD) (void)start_thread(event);
  if (event->sigev_notify != SIGEV_SIGNAL) return;
  siginfo_t info;
  memset(&info, 0, sizeof info);
  info.si_signo = event->sigev_signo;
  info.si_code = SI_ASYNCIO;
  info.si_pid = (pid_t)lx_getpid();
  info.si_uid = (uid_t)lx_getuid();
  info.si_value = event->sigev_value;
  (void)lx_call6(SYS_rt_sigqueueinfo, info.si_pid, event->sigev_signo, (long)&info, 0, 0, 0);
}

static void finish(struct aiocb *request, long r) {
  request->__return_value = r < 0 ? -1 : r;
  __atomic_store_n(&request->__error_code, r < 0 ? (int)-r : 0, __ATOMIC_RELEASE);
  KEEPING_ERRNO(tell(&request->aio_sigevent));
}

/* 1: done. */
static int read_now(struct aiocb *request) {
  const int fd = request->aio_fildes;
  if (OVL_HERE(fd)) return 0;
  OVL_DATA(call, fd, SYS_pread64, 0, (long)request->aio_buf, (long)request->aio_nbytes,
           request->aio_offset);
  const long r = ovl_data(&call);
  if (r == OVL_PASS) return 0;
  finish(request, r);
  return 1;
}

/* A priority that libc refuses is its to refuse. */
static int is_valid(const struct aiocb *request) {
  return request->aio_reqprio >= 0 && request->aio_reqprio <= 20;
}

HOOKED(int, aio_read, struct aiocb *request) {
  if (OVL_ON() && is_valid(request) && read_now(request)) return 0;
  return NEXT(aio_read)(request);
}
HOOK_ALIAS(aio_read64, aio_read);

/* Nobody writes through a descriptor of a lower object: there are no requests before it to wait for. */
HOOKED(int, aio_fsync, int operation, struct aiocb *request) {
  if ((operation == O_SYNC || operation == O_DSYNC) && OVL_ON() && ovl_fd_is_lower(request->aio_fildes)) {
    const long r = ovl_fsync_lower(request->aio_fildes, operation == O_SYNC ? SYS_fsync : SYS_fdatasync);
    if (r != OVL_PASS) {
      finish(request, r);
      return 0;
    }
  }
  return NEXT(aio_fsync)(operation, request);
}
HOOK_ALIAS(aio_fsync64, aio_fsync);

static int is_moved(const struct aiocb *request) {
  return request->aio_lio_opcode == LIO_READ && is_valid(request) && !OVL_HERE(request->aio_fildes);
}

HOOKED(int, lio_listio, int mode, struct aiocb *const list[], int count, struct sigevent *event) {
  if (OVL_OFF()) return NEXT(lio_listio)(mode, list, count, event);
  int moved = 0, failed = 0;
  for (int i = 0; i < count; i++) moved += list[i] != NULL && is_moved(list[i]);
  if (moved == 0) return NEXT(lio_listio)(mode, list, count, event);
  struct aiocb **rest = malloc((size_t)count * sizeof *rest); /* libc passes by what is NULL */
  if (rest == NULL) return (int)ovl_result(-EAGAIN);
  for (int i = 0; i < count; i++) {
    rest[i] = list[i];
    if (list[i] == NULL || !is_moved(list[i]) || !read_now(list[i])) continue;
    failed |= list[i]->__error_code != 0;
    rest[i] = NULL;
  }
  const int r = NEXT(lio_listio)(mode, rest, count, event);
  KEEPING_ERRNO(free(rest));
  return r == 0 && failed && mode == LIO_WAIT ? (int)ovl_result(-EIO) : r;
}
HOOK_ALIAS(lio_listio64, lio_listio);
