# Leases on files that begin on a lower: given, refused and broken as on a plain file, whenever the file is copied up.
. "$HERE/lib/harness.bash"
make_fixture
needs_program "leases" gcc || exit 0
gcc -O1 -Wall "$HERE/lib/leases.c" -o "$AUX/leases"

for when in never first before after; do
  ignoring='many' like_plain "leases are broken by whoever opens the file; it is copied up: $when" <<BODY
"\$AUX/leases" $when many/{1..19}.txt
BODY
done

gcc -O1 -Wall "$HERE/lib/lease-race.c" -o "$AUX/lease-race"
mkdir "$FIXTURE/raced"
for i in {0..99}; do echo data >"$FIXTURE/raced/f$i"; done
for seed in 1 2 3; do
  ignoring='raced' like_plain "nobody writes a file on which somebody has an unbroken lease (seed $seed)" <<BODY
"\$AUX/lease-race" raced 100 $seed 2>/dev/null
BODY
done

if [[ $WORLD == overlock ]]; then
  cat >"$AUX/holder.c" <<'C'
/* holder FILE [write]: holds a lease till it is asked for, and says so. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>
int main(int argc, char **argv) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGIO);
  sigprocmask(SIG_BLOCK, &set, NULL);
  const int fd = open(argv[1], O_RDONLY);
  if (fcntl(fd, F_SETLEASE, argc > 2 ? F_WRLCK : F_RDLCK) != 0) return 1;
  puts("held");
  fflush(stdout);
  siginfo_t info;
  sigwaitinfo(&set, &info);
  puts(fcntl(fd, F_GETLEASE) == F_UNLCK ? "asked for by a writer" : "asked for by a reader");
  fflush(stdout);
  fcntl(fd, F_SETLEASE, F_UNLCK);
  return 0;
}
C
  gcc -O1 -Wall "$AUX/holder.c" -o "$AUX/holder"
  cat >"$AUX/functions" <<'BASH'
hold() { # FILE [write]: what it says is read with `said`
  rm -f "$AUX/said"
  mkfifo "$AUX/said"
  "$AUX/holder" "$@" >"$AUX/said" &
  holder=$!
  exec 5<"$AUX/said"
  said
}
said() { read -r line <&5 && echo "$line"; }
without() { env -u LD_PRELOAD -u OVERLOCK "$@"; }
BASH

  place
  says "an outsider who opens the source for writing breaks a lease; reading does not" $'held\nasked for by a writer' <<'BODY'
. "$AUX/functions"
hold README
without cat "$T/README" >/dev/null
without dd if=/dev/null of="$T/README" conv=notrunc status=none
said
wait "$holder"
BODY

  place
  mkdir -p "$SCRATCH/upper2" "$SCRATCH/work2"
  second="lowerdir=$T,upperdir=$SCRATCH/upper2,workdir=$SCRATCH/work2,target=$T"
  export second
  UNTOUCHED=("$T")
  says "a second overlay's reader breaks a write lease, its writer no read lease" \
    $'held\nasked for by a reader\nheld\nwritten\nasked for by a writer' <<'BODY'
elsewhere() { OVERLOCK=$second LD_PRELOAD=$LD_PRELOAD "$@"; }
. "$AUX/functions"
hold README write
elsewhere cat README >/dev/null
said
wait "$holder"
hold src/u1.c
elsewhere sh -c 'echo more >>src/u1.c && echo written'
echo more >>src/u1.c
said
wait "$holder"
BODY
  rm -rf "$SCRATCH/upper2" "$SCRATCH/work2"

  place
  says "somebody else's write lease on a lower holds a change of its mode up, no longer" $'held\nasked for by a reader\n600' <<'BODY'
. "$AUX/functions"
hold README write
chmod 600 README
said
stat -c %a README
wait "$holder"
BODY

  # The holder interrupts who waits for it; one who has record locks waits in another way.
  like_plain "who waits for a lease to be broken is interrupted by a signal" <<'BODY'
"$PYTHON" - <<'PY'
import fcntl, os, signal

class Interrupted(Exception):
    pass

def interrupted(*_):
    raise Interrupted

opener = os.getpid()
ready, say = os.pipe()
for name in "README", "src/u1.c":
    holder = os.fork()
    if holder == 0:
        signal.signal(signal.SIGIO, lambda *_: os.kill(opener, signal.SIGUSR1))
        fcntl.fcntl(os.open(name, os.O_RDONLY), fcntl.F_SETLEASE, fcntl.F_RDLCK)
        os.write(say, b"x")
        while True:
            signal.pause()
    os.read(ready, 1)
    signal.signal(signal.SIGUSR1, interrupted)
    before = os.stat(name).st_size
    try:
        os.open(name, os.O_WRONLY | os.O_TRUNC)
        print("opened")
    except Interrupted:
        print("interrupted", os.stat(name).st_size == before)
    os.kill(holder, signal.SIGKILL)
    os.waitpid(holder, 0)
    fcntl.lockf(os.open("big", os.O_RDWR), fcntl.LOCK_EX)
PY
BODY

  place
  says "the mark of a lease goes with the first writer after it, also after a SIGKILL" $'held\n1\n0' <<'BODY'
. "$AUX/functions"
hold README
kill -KILL "$holder"
{ wait "$holder" || true; } 2>/dev/null
without ls "$SCRATCH/work/overlock/leased" | wc -l
: >>README
without ls "$SCRATCH/work/overlock/leased" | wc -l
BODY
fi
