# Descriptors, streams and new mappings of a lower file go on showing the file when another process has
# copied it up and changed it.
. "$HERE/lib/harness.bash"
make_fixture
needs_program "reads" gcc || exit 0

gcc -O1 -Wall -D_FORTIFY_SOURCE=2 -pthread "$HERE/lib/reads.c" -o "$AUX/reads"
seq -f '%07.0f' 0 3999 >"$FIXTURE/numbers"
{ head -c 9000 /dev/zero | tr '\0' x; echo; seq 3000; } >"$FIXTURE/long"

like_plain "every call through an old descriptor shows what another process wrote" <<'BODY'
"$AUX/reads" calls README
"$AUX/reads" calls numbers
BODY

like_plain "every stream goes on with what another process wrote" <<'BODY'
"$AUX/reads" streams README
"$AUX/reads" streams long
BODY

like_plain "four processes that share a position read every byte once while a fifth copies up" <<'BODY'
"$AUX/reads" shared numbers 4
BODY

like_plain "record locks on the changed file outlive reads through the old descriptor" <<'BODY'
"$AUX/reads" locks README
BODY

for i in '' 2 3; do cp "$FIXTURE/README" "$FIXTURE/old$i"; done
like_plain "what was changed and then removed or replaced is still shown by who has it open" <<'BODY'
"$AUX/reads" removed old
BODY

says "no copy is kept longer than somebody has its origin open" "1 kept
0 kept" <<'BODY'
kept() { find "$SCRATCH/work/overlock/kept" -type f | wc -l; }
exec 7<src/u3.c
echo changed >>src/u3.c
rm src/u3.c
echo "$(OVERLOCK='' kept) kept"
exec 7<&-
echo changed >>src/u4.c
exec 8<src/u5.c
echo changed >>src/u5.c
rm src/u4.c src/u5.c
exec 8<&-
echo changed >>src/u6.c
exec 8<src/u6.c
rm src/u6.c
echo "$(OVERLOCK='' kept) kept"
BODY

like_plain "with no descriptor left to open, an old one still shows the changed file" <<'BODY'
"$AUX/reads" crowded README
BODY

like_plain "threads and a signal handler on one position read every line once" <<'BODY'
"$AUX/reads" signals numbers
BODY

like_plain "asynchronous reads show what another process wrote" <<'BODY'
"$AUX/reads" aio README
BODY

gcc -O1 -Wall "$HERE/lib/confined.c" -o "$AUX/confined"
like_plain "seccomp that kills: reads go on after strict mode, and after a filter" <<'BODY'
for mode in strict filter; do
  for way in prctl syscall; do
    echo "input of $mode" | "$AUX/confined" $mode $way many/100.txt 'echo more >>src/u1.c' 2>&1 || echo "status $?"
    echo "input of $mode" | "$AUX/confined" $mode $way numbers 'echo more >>src/u1.c' 2>&1 || echo "status $?"
  done
done
for way in prctl syscall; do
  echo "input" | "$AUX/confined" lenient $way many/99.txt 'echo more >>many/99.txt'
done
BODY

like_plain "the same while somebody watches the directory" <<'BODY'
exec {watching}> >("$PYTHON" -c 'import ctypes, sys
c = ctypes.CDLL(None); c.inotify_add_watch(c.inotify_init1(0), b"many", 4095)
open("watched", "w"); sys.stdin.read()')
until [[ -e watched ]]; do :; done
# Who writes is not confined.
(until [[ -e go ]]; do :; done; echo more >>many/99.txt; : >done) &
echo "input" | "$AUX/confined" lenient prctl many/99.txt ': >go; until [ -e done ]; do :; done' 2>&1 || echo "status $?"
wait $!
exec {watching}>&-
rm watched go done
BODY

# Written through the overlay by one process, followed by another that has had it open all the time.
like_plain "tail -f prints the lines that another process appends" <<'BODY'
tail ---disable-inotify -f -s .05 -n 1 README >seen &
tail=$!
until [[ -s seen ]]; do :; done
for i in 1 2 3; do
  echo "line $i" >>README
  until grep -q "line $i" seen; do :; done
done
kill "$tail"
wait "$tail" || true
cat seen
BODY

like_plain "a shell's redirected input goes on with what others appended" <<'BODY'
{
  read -r first
  echo "more" >>README
  sort
} <README
BODY

gcc -O1 -Wall "$HERE/lib/sync.c" -o "$AUX/sync"
like_plain "fsync and syncfs answer as in a plain directory" <<'BODY'
"$AUX/sync"
BODY

name="fsync through a descriptor from before the change reaches the upper"
if needs_overlock "$name" && needs_program "$name" strace; then
  L=$SCRATCH/sync
  mkdir -p "$L"/{lower/src,upper,work}
  echo a >"$L/lower/README"
  overlay="lowerdir=$L/lower,upperdir=$L/upper,workdir=$L/work,target=$L/lower,registry=$REGISTRY"
  # Outside, so that it names the layers.
  (cd "$L/lower" && strace -qq -f -y -e trace=fsync,fdatasync,syncfs -e status=successful -o "$SCRATCH/trace" \
    -E OVERLOCK="$overlay" -E LD_PRELOAD="$LIBRARY" "$AUX/sync" >/dev/null)
  sed "s/^[0-9]* *//; s#<$L/#<#; s/([0-9]*/(/; s/ *= 0$//" "$SCRATCH/trace" >"$SCRATCH/said"
  cat >"$SCRATCH/expected" <<'EXPECTED'
fsync(<lower/src>)
fsync(<upper/src>)
fdatasync(<upper/README>)
syncfs(<upper>)
syncfs(<lower/src>)
fsync(<upper/src>)
syncfs(<upper>)
syncfs(<lower/README>)
fsync(<upper/src>)
fdatasync(<upper/README>)
EXPECTED
  if diff "$SCRATCH/expected" "$SCRATCH/said"; then pass "$name"; else fail "$name" "see above"; fi
fi

name="a file that can no longer be reached by its name is read through a descriptor"
if needs_root "$name"; then
  mkdir "$AUX/prison" "$FIXTURE/closed"
  chmod 700 "$FIXTURE/closed"
  cp "$FIXTURE/README" "$FIXTURE/closed/file"
  like_plain "$name, after chroot" <<'BODY'
"$AUX/reads" confined README src/u1.c chroot "$AUX/prison"
BODY
  like_plain "$name, after setuid" <<'BODY'
"$AUX/reads" confined closed/file src/u1.c setuid
BODY
fi

name="a process for which the upper and workdir are read-only reads and maps what others write"
if needs_root "$name" && unshare -m true 2>/dev/null; then
  like_plain "$name" <<'BODY'
"$AUX/reads" readonly README "$SCRATCH/upper" "$SCRATCH/work"
BODY
fi

name="what needs a child, where none can be started, does not say that somebody is in the way"
if needs_overlock "$name"; then
  place
  says "$name" "read: Cannot allocate memory
pread: Cannot allocate memory" <<'BODY'
"$AUX/reads" childless README
BODY
fi
