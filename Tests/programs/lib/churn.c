/* Four processes make, append to, rename and remove the files of one directory as fast as they can, and a watcher
 * keeps a model of it from the stream of its inotify instance alone.
 *
 *   churn DIRECTORY EVENTS SEED [kills]
 *
 * Wrong is an event that the model contradicts, a move whose halves are not one after the other, and a name in which
 * model and listing differ at the end. Lost is what a writer did to a name and the watcher was not told of, by number.
 * Each of both is 0, or what was seen first is printed.
 *
 * kills: the four are killed at any instant, and others follow. What a step that was cut off did is told in part: the
 * model may have too much, and there may be more events of a name than writers lived to count; never less.
 *
 * No queue overflows: after BATCH operations each waits until the watcher has read so far.
 *
 * CHURN_FIGURES: a file to which a line of figures is added, which are never twice the same. */

#define _GNU_SOURCE
#include <dirent.h>
#include <err.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { WRITERS = 4, NAMES = 300, BATCH = 48, PATIENCE_S = 60 };

/* What writers count for each name, and the watcher too. */
enum { MADE, REMOVED, MOVED_AWAY, MOVED_HERE, STEPS };

static struct {
  _Atomic long events;           /* that the watcher has read */
  _Atomic long done[STEPS][NAMES + 1];
  _Atomic long kills;
  _Atomic long fence[WRITERS];   /* the last of each writer that the watcher has seen */
  _Atomic long batch[WRITERS];
} *shared;

static long wanted;

static uint64_t next_random(uint64_t *state) {
  *state ^= *state << 13;
  *state ^= *state >> 7;
  return *state ^= *state << 17;
}

static void count(int step, unsigned name) { shared->done[step][name]++; }

/* What fails because another was faster is no error. */
static void operate(uint64_t *state) {
  char from[32], to[32];
  const uint64_t r = next_random(state);
  const unsigned a = (unsigned)(r >> 8) % NAMES + 1, b = (unsigned)(r >> 32) % NAMES + 1;
  sprintf(from, "%u.txt", a);
  sprintf(to, "%u.txt", b);
  int fd = -1;
  switch (r % 8) {
  case 0: case 1: case 2: /* O_EXCL, so that it is known who made it */
    fd = open(from, O_WRONLY | O_CREAT | O_EXCL, 0644);
    if (fd >= 0) count(MADE, a);
    else if (r % 8 == 2) fd = open(from, O_WRONLY | O_TRUNC);
    break;
  case 3: fd = open(from, O_WRONLY | O_APPEND); break;
  case 4: case 5:
    if (a != b && rename(from, to) == 0) count(MOVED_AWAY, a), count(MOVED_HERE, b);
    break;
  default: if (unlink(from) == 0) count(REMOVED, a);
  }
  if (fd < 0) return;
  if (write(fd, "word\n", 5) != 5) err(1, "write");
  close(fd);
}

static void work(int writer, uint64_t seed) {
  uint64_t state = seed * 0x9e3779b97f4a7c15 + 1;
  while (shared->events < wanted) {
    for (int i = 0; i < BATCH; i++) operate(&state);
    char fence[64];
    const long batch = ++shared->batch[writer];
    sprintf(fence, "fence.%d.%ld", writer, batch);
    close(open(fence, O_WRONLY | O_CREAT, 0600));
    while (shared->fence[writer] < batch) sched_yield();
    unlink(fence);
  }
  _exit(0);
}

static pid_t start(int writer, uint64_t seed) {
  const pid_t pid = fork();
  if (pid < 0) err(1, "fork");
  if (pid == 0) work(writer, seed);
  return pid;
}

static void manage(uint64_t seed, int kills) {
  pid_t writers[WRITERS];
  uint64_t state = seed;
  for (int i = 0; i < WRITERS; i++) writers[i] = start(i, seed + (uint64_t)i);
  while (kills && shared->events < wanted) {
    const int i = (int)(next_random(&state) % WRITERS);
    const long until = shared->events + (long)(next_random(&state) % 40);
    while (shared->events < until && shared->events < wanted) sched_yield();
    for (uint64_t n = next_random(&state) % 20000; n > 0; n--) __asm__ volatile("");
    kill(writers[i], SIGKILL);
    if (waitpid(writers[i], NULL, 0) < 0) err(1, "waitpid");
    shared->kills++;
    writers[i] = start(i, next_random(&state));
  }
  for (int i = 0; i < WRITERS; i++) {
    int status;
    if (wait(&status) < 0) err(1, "wait");
    if (status != 0) errx(1, "a writer ended with %x", status);
  }
  close(open("end", O_WRONLY | O_CREAT, 0600));
  _exit(0);
}

/* The watcher's: the model has numbered names alone. */
static unsigned char model[NAMES + 1];
static long told[STEPS][NAMES + 1], wrong;
static uint32_t moving; /* the cookie of the half that has come */

static int number_of(const char *name) {
  char *end;
  const long n = strtol(name, &end, 10);
  return n > 0 && n <= NAMES && strcmp(end, ".txt") == 0 ? (int)n : 0;
}

static void list(unsigned char *names) {
  DIR *directory = opendir(".");
  if (directory == NULL) err(1, "opendir");
  for (struct dirent *entry; (entry = readdir(directory)) != NULL;) names[number_of(entry->d_name)] = 1;
  closedir(directory);
}

static void contradict(const struct inotify_event *event, const char *why) {
  if (wrong++ < 5) printf("event %ld, %x %s: %s\n", shared->events, event->mask, event->name, why);
}

/* 0: it was the last. */
static int hear(const struct inotify_event *event, int kills) {
  if (event->mask & IN_Q_OVERFLOW) errx(1, "the queue overflowed");
  if (event->len == 0) return 1;
  int writer;
  long batch;
  if (event->mask & IN_CREATE) {
    if (strcmp(event->name, "end") == 0) return 0;
    if (sscanf(event->name, "fence.%d.%ld", &writer, &batch) == 2) shared->fence[writer] = batch;
  }
  const int n = number_of(event->name);
  if (n == 0) return 1;
  shared->events++;
  if (event->mask & (IN_MODIFY | IN_CLOSE_WRITE)) return 1;
  const int step = event->mask & IN_CREATE ? MADE : event->mask & IN_DELETE ? REMOVED
    : event->mask & IN_MOVED_FROM ? MOVED_AWAY : MOVED_HERE;
  told[step][n]++;
  if (!kills && moving != (step == MOVED_HERE ? event->cookie : 0))
    contradict(event, "between the halves of a move, or one without the other");
  moving = step == MOVED_AWAY ? event->cookie : 0;
  if (!kills && step == MADE && model[n]) contradict(event, "made, and was there");
  if (!kills && (step == REMOVED || step == MOVED_AWAY) && !model[n]) contradict(event, "gone, and was not there");
  model[n] = step == MADE || step == MOVED_HERE;
  return 1;
}

static double now_s(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

int main(int argc, char **argv) {
  if (argc < 4) errx(2, "churn DIRECTORY EVENTS SEED [kills]");
  const uint64_t seed = strtoull(argv[3], NULL, 10) + 1;
  const int kills = argc > 4;
  const char *figures = getenv("CHURN_FIGURES");
  wanted = atol(argv[2]);
  if (chdir(argv[1]) < 0) err(1, "%s", argv[1]);
  shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  int go[2];
  if (shared == MAP_FAILED || pipe(go) < 0) err(1, "mmap, pipe");
  /* Without the instance, and in processes of their own. */
  const pid_t manager = fork();
  if (manager == 0) {
    char c;
    close(go[1]);
    if (read(go[0], &c, 1) == 1) manage(seed, kills);
    _exit(1);
  }
  close(go[0]);
  const int fd = inotify_init1(IN_CLOEXEC);
  const uint32_t mask = IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_MODIFY | IN_CLOSE_WRITE;
  if (fd < 0 || inotify_add_watch(fd, ".", mask) < 0) err(1, "inotify");
  list(model);
  const double from_s = now_s();
  if (write(go[1], "g", 1) != 1) err(1, "write");
  char buffer[65536] __attribute__((aligned(8)));
  for (int goes = 1; goes;) {
    alarm(PATIENCE_S); /* a fence that is never told of */
    const ssize_t length = read(fd, buffer, sizeof buffer);
    if (length <= 0) err(1, "read");
    for (ssize_t at = 0; at < length;) {
      const struct inotify_event *event = (const void *)(buffer + at);
      goes = hear(event, kills) && goes;
      at += (ssize_t)(sizeof *event + event->len);
    }
  }
  alarm(0);
  const double took_s = now_s() - from_s;
  if (waitpid(manager, NULL, 0) < 0) err(1, "waitpid");
  unsigned char names[NAMES + 1] = {0};
  list(names);
  static const char *const words[STEPS] = {"made", "removed", "moved away", "moved here"};
  long lost = 0, done[STEPS] = {0};
  for (int n = 1; n <= NAMES; n++) {
    if (names[n] > model[n] || (!kills && names[n] != model[n]))
      if (wrong++ < 10) printf("%d.txt is%s there, and the events say the other\n", n, names[n] ? "" : " not");
    for (int step = 0; step < STEPS; step++) {
      const long was = shared->done[step][n], heard = told[step][n];
      done[step] += was;
      if (heard == was || (kills && heard > was)) continue;
      if (lost + wrong < 10) printf("%d.txt was %s %ld times, and %ld were told\n", n, words[step], was, heard);
      if (heard < was) lost += was - heard;
      else wrong += heard - was;
    }
  }
  printf("%ld lost, %ld wrong%s\n", lost, wrong, shared->events >= wanted ? "" : ", and too few events");
  if (figures) {
    FILE *file = fopen(figures, "a");
    if (file == NULL) err(1, "%s", figures);
    fprintf(file, "%ld events of %ld made, %ld removed, %ld moved, %ld killed: %ld lost, %ld wrong, %.1f s\n",
        shared->events, done[MADE], done[REMOVED], done[MOVED_AWAY], shared->kills, lost, wrong, took_s);
    fclose(file);
  }
  return lost + wrong > 0;
}
