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

if [[ $WORLD == overlock ]]; then
  cat >"$AUX/holder.c" <<'C'
/* Holds a read lease till it is asked for; says so. holder FILE, and what to do meanwhile on descriptor 3's other end. */
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

  place
  says "an outsider who opens the source for writing breaks a lease; reading does not" $'held\nasked for by a writer' <<'BODY'
coproc holder { exec "$AUX/holder" README; }
read -r line <&"${holder[0]}" && echo "$line"
env -u LD_PRELOAD -u OVERLOCK cat "$T/README" >/dev/null
env -u LD_PRELOAD -u OVERLOCK dd if=/dev/null of="$T/README" conv=notrunc status=none
read -r line <&"${holder[0]}" && echo "$line"
wait "$holder_PID"
BODY

  place
  mkdir -p "$SCRATCH/upper2" "$SCRATCH/work2"
  second="lowerdir=$T,upperdir=$SCRATCH/upper2,workdir=$SCRATCH/work2,target=$T"
  export second
  UNTOUCHED=("$T")
  says "a second overlay's reader breaks a write lease, its writer no read lease" \
    $'held\nasked for by a reader\nheld\nwritten\nasked for by a writer' <<'BODY'
elsewhere() { OVERLOCK=$second LD_PRELOAD=$LD_PRELOAD "$@"; }
coproc holder { exec "$AUX/holder" README write; }
read -r line <&"${holder[0]}" && echo "$line"
elsewhere cat README >/dev/null
read -r line <&"${holder[0]}" && echo "$line"
wait "$holder_PID"
coproc holder { exec "$AUX/holder" src/u1.c; }
read -r line <&"${holder[0]}" && echo "$line"
elsewhere sh -c 'echo more >>src/u1.c && echo written'
echo more >>src/u1.c
read -r line <&"${holder[0]}" && echo "$line"
wait "$holder_PID"
BODY
  rm -rf "$SCRATCH/upper2" "$SCRATCH/work2"

  place
  says "somebody else's write lease on a lower holds a change of its mode up, no longer" $'held\nasked for by a reader\n600' <<'BODY'
coproc holder { exec "$AUX/holder" README write; }
read -r line <&"${holder[0]}" && echo "$line"
chmod 600 README
read -r line <&"${holder[0]}" && echo "$line"
stat -c %a README
wait "$holder_PID"
BODY

  place
  says "the mark of a lease goes with the first writer after it, also after a SIGKILL" $'held\n1\n0' <<'BODY'
coproc holder { exec "$AUX/holder" README; }
read -r line <&"${holder[0]}" && echo "$line"
kill -KILL "$holder_PID"
wait "$holder_PID" || true
env -u LD_PRELOAD -u OVERLOCK ls "$SCRATCH/work/overlock/leased" | wc -l
: >>README
env -u LD_PRELOAD -u OVERLOCK ls "$SCRATCH/work/overlock/leased" | wc -l
BODY
fi
