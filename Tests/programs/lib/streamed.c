/* Reads an inotify instance through a stream (fdopen, fread), after each of some commands: what a file and a directory
 * are told. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/inotify.h>

int main(int argc, char **argv) {
  const int instance = inotify_init1(IN_NONBLOCK);
  const int file = inotify_add_watch(instance, "README", IN_MODIFY | IN_ATTRIB | IN_CLOSE_WRITE);
  const int directory = inotify_add_watch(instance, "src", IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO);
  FILE *stream = fdopen(instance, "r");
  if (file < 0 || directory < 0 || stream == NULL) return 1;
  for (int i = 1; i < argc; i++) {
    struct inotify_event event;
    if (system(argv[i]) != 0) return 1;
    printf("%s\n", argv[i]);
    while (fread(&event, sizeof event, 1, stream) == 1) {
      char name[256] = "";
      if (event.len > sizeof name || fread(name, 1, event.len, stream) != event.len) return 1;
      printf("  %s %x %s\n", event.wd == file ? "file" : event.wd == directory ? "directory" : "?", event.mask, name);
    }
    clearerr(stream);
  }
  return 0;
}
