/* What fanotify marks on a file and on a directory's files tell of each of some commands: the events and whose they are.
 * Not compared: opens and closes for reading, since copies are read, too. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/fanotify.h>
#include <unistd.h>

int main(int argc, char **argv) {
  const uint64_t writes = FAN_MODIFY | FAN_CLOSE_WRITE;
  const int group = fanotify_init(FAN_CLASS_NOTIF | FAN_NONBLOCK | FAN_CLOEXEC, O_RDONLY);
  if (group < 0 && errno == EPERM) return 77;
  if (group < 0 || fanotify_mark(group, FAN_MARK_ADD, writes | FAN_EVENT_ON_CHILD, AT_FDCWD, "src") != 0 ||
      fanotify_mark(group, FAN_MARK_ADD, writes, AT_FDCWD, "README") != 0) {
    perror("fanotify");
    return 1;
  }
  for (int i = 1; i < argc; i++) {
    if (i == argc - 1 && fanotify_mark(group, FAN_MARK_REMOVE, writes | FAN_EVENT_ON_CHILD, AT_FDCWD, "src") != 0)
      perror("FAN_MARK_REMOVE");
    if (system(argv[i]) != 0) return 1;
    printf("%s\n", argv[i]);
    char buffer[8192];
    for (long n; (n = read(group, buffer, sizeof buffer)) > 0;) {
      for (struct fanotify_event_metadata *event = (void *)buffer; FAN_EVENT_OK(event, n);
           event = FAN_EVENT_NEXT(event, n)) {
        char link[64], path[4096];
        snprintf(link, sizeof link, "/proc/self/fd/%d", event->fd);
        const long length = readlink(link, path, sizeof path - 1);
        printf("  %llx %.*s\n", (unsigned long long)event->mask, (int)(length < 0 ? 0 : length), path);
        close(event->fd);
      }
    }
  }
  printf("%d\n", fanotify_mark(group, FAN_MARK_ADD, writes, AT_FDCWD, "none") == 0 ? 0 : errno);
  return 0;
}
