# `overlock check`: what killed processes left in the workdir and among the registries is named, and removed with
# --repair; what living ones need stays, and goes on to work.
. "$HERE/lib/harness.bash"
needs_overlock "overlock check" || exit 0
[[ -x $CLI ]] || { skip "overlock check" "no $CLI"; exit 0; }
needs_program "overlock check" python3 || exit 0
make_fixture
# Segments of other subjects' overlays name the same workdir.
REGISTRY=$REGISTRY/check
mkdir -m 700 "$REGISTRY"
export REGISTRY
cp "$HERE/lib/watching.py" "$AUX/watching.py"
export XDG_STATE_HOME=$SCRATCH/state

# From outside: what is said, without the numbers of this time, sorted; the status last.
check() { # ARGUMENT…
  local status=0 said
  said=$("$CLI" check "$@" 2>&1) || status=$?
  [[ ! $said ]] || sed "s,$SCRATCH/,," <<<"$said" | sed -E 's/[0-9a-f]{16}/N/g' | LC_ALL=C sort
  echo "status $status"
}
# The check with an answer known beforehand: what the function of that name prints.
expect() { # NAME EXPECTED FUNCTION
  local got
  place
  got=$("$3" 2>&1) || got+=" (status $?)"
  if [[ $got == "$2" ]]; then pass "$1"; else fail "$1" "expected $2 got $got"; fi
}
work=$SCRATCH/work/overlock

# Watches what it is given, prints what it is told when it is asked.
cat >"$AUX/watcher.py" <<'PYTHON'
import os, sys

sys.path.insert(0, os.environ["AUX"])
import watching

w = watching.Watcher()
for path in sys.argv[1:]:
    w.add(path)
print("ready", flush=True)
for _ in sys.stdin:
    print("told:", *(event for _, event in w.events()), flush=True)
PYTHON
watcher() { # PATH…
  coproc WATCHER {
    cd "$T" && OVERLOCK="${OVERLAYS[0]},registry=$REGISTRY" LD_PRELOAD=$LIBRARY exec "$PYTHON" "$AUX/watcher.py" "$@"
  }
  watcher=$WATCHER_PID
  exec {answers}<&"${WATCHER[0]}" {questions}>&"${WATCHER[1]}"
  # The shell is not to tell that it was killed.
  disown "$watcher"
  answer >/dev/null
}
answer() {
  local line
  IFS= read -r line <&"$answers"
  echo "$line"
}
killed() {
  kill -9 "$watcher"
  exec {questions}>&- {answers}<&-
  until ! kill -0 "$watcher" 2>/dev/null; do :; done
}

watched() {
  watcher README
  check --registry "$REGISTRY"
  check --repair --registry "$REGISTRY"
  # It lost nothing.
  in_overlay sh -c 'echo more >>README'
  echo >&"$questions"
  answer
  killed
  check --registry "$REGISTRY"
}
expect "overlock check: what a living watcher needs is no leftover, and nothing is taken from it" "status 0
status 0
told: OPEN MODIFY CLOSE_WRITE
bell work/overlock/watchers/N.N
watch list work/overlock/watchers/N
status 1" watched

# Everything that a process may leave that is killed at some instant: check_crash.py finds the instants.
leave() {
  in_overlay true
  watcher README src
  killed
  : >"$work/copyup/0/00000000000000ab"
  : >"$work/create/0/001.00000000000000ab"
  mknod "$work/whiteout/0/3ff.00000000000000ab" p
  mkdir "$work/gone/0/0a0.00000000000000ab.src"
  ln -s nowhere "$work/moved/0a0.00000000000000ac"
  : >"$work/watchers/00000000000000abd"
  # As of a group whose names have gone.
  "$PYTHON" - "$work/index/00000000000000ab" <<'PYTHON'
import os, sys
open(sys.argv[1], "w")
try:
    os.setxattr(sys.argv[1], "trusted.overlay.nlink", b"U-1")
except OSError:
    os.setxattr(sys.argv[1], "user.overlay.nlink", b"U-1")
PYTHON
  # Lasting, or nobody's:
  ln -s place "$work/moved/00000000000000ab"
  : >"$work/create/0/other"
}
left="anchor work/overlock/anchors/N.N@
bell work/overlock/watchers/N.N@
copy work/overlock/copyup/0/N@
hard links without a name work/overlock/index/N@
marker folder work/overlock/markers/N@
new object work/overlock/create/0/001.N@
note of a move work/overlock/moved/0a0.N@
replaced object work/overlock/gone/0/0a0.N.src@
watch list work/overlock/watchers/N@
watch list work/overlock/watchers/Nd@
watch list work/overlock/watchers/Nd@
whiteout work/overlock/whiteout/0/3ff.N@
status 1"
leftovers() {
  leave
  check --registry "$REGISTRY"
  check --repair --registry "$REGISTRY"
  check --registry "$REGISTRY"
  (cd "$work" && find anchors watchers markers copyup/0 create/0 whiteout/0 gone/0 moved -mindepth 1)
}
expect "overlock check --repair removes each kind of leftover, and nothing else" "${left//@/}
${left//@/: removed}
status 0
create/0/other
moved/00000000000000ab" leftovers

without_registry() {
  leave
  rm -r "$REGISTRY"/* "$work/running"
  check -o "${OVERLAYS[0]}"
  # It only looks.
  [[ ! -e $work/running ]] || echo made
  in_overlay true
  check -o "${OVERLAYS[0]}"
}
expect "overlock check -o finds them without a registry, and so does the next program" "${left//@/}
watch list work/overlock/watchers/Nd
status 1" without_registry

# Whoever is at work holds the turn of the entry: here, of every one.
busy() {
  leave
  "$PYTHON" - "$work/lock" "$CLI" "$REGISTRY" <<'PYTHON'
import fcntl, struct, subprocess, sys

lock = open(sys.argv[1], "r+")
fcntl.fcntl(lock, 37, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0))  # F_OFD_SETLK
for _ in range(2):
    out = subprocess.run([sys.argv[2], "check", "--repair", "--registry", sys.argv[3]], capture_output=True, text=True)
    print(*sorted(" ".join(line.split()[:2]) for line in out.stdout.splitlines()), out.returncode, sep=", ")
PYTHON
  find "$work/anchors" "$work/copyup/0" "$work/gone/0" -mindepth 1 | wc -l
}
expect "overlock check waits for nobody and takes nothing from who holds the turns" \
  "watch list, watch list, watch list, 1
0
3" busy

registries() {
  in_overlay true
  rm -r "$SCRATCH/upper"
  mkdir "$SCRATCH/upper"
  check --registry "$REGISTRY"
  check --repair --registry "$REGISTRY"
  check --registry "$REGISTRY"
}
expect "overlock check: the registry of an overlay that is no more" "segment $REGISTRY/N
status 1
segment $REGISTRY/N: removed
status 1
status 0" registries

named() {
  (cd "$T" && "$CLI" run --name kept -- sh -c 'echo more >>README')
  : >"$XDG_STATE_HOME/overlock/kept/work/overlock/create/0/001.00000000000000ab"
  check --name kept
  # Among all, of which others may have left something, too.
  "$CLI" check | grep -c "$XDG_STATE_HOME" || true
  # As after a restart of the machine.
  rm /dev/shm/overlock-"$(id -u)"/"$("$CLI" check --name kept --json | sed -n 's/.*"overlay" : "\(.*\)".*/\1/p')"
  "$CLI" check | grep -c "$XDG_STATE_HOME" || true
  check --name kept --repair
  check --name kept
  check --name other
  "$CLI" check --json --name kept
}
expect "overlock check --name" "new object state/overlock/kept/work/overlock/create/0/001.N
status 1
1
1
new object state/overlock/kept/work/overlock/create/0/001.N: removed
status 1
status 0
overlock: --name other: state/overlock/other: No such file or directory; no overlay was given this name
status 125
[

]" named

refused() {
  check --registry /nowhere
  check -o upperdir=/tmp,workdir="$SCRATCH/nowhere"
  # Nobody was ever in it, and nothing is made in it.
  check -o "${OVERLAYS[0]}"
  ls -A "$SCRATCH/work"
  in_overlay true
  check -o "upperdir=$SCRATCH/upper,workdir=$SCRATCH/work"
}
want="overlock: --registry /nowhere: No such file or directory; create it, or correct the path
status 125
overlock: workdir nowhere: No such file or directory; create it, or correct the path
status 125
status 0
overlock: lowerdir= is missing; see 'overlock run --help'
status 125"
expect "overlock check says what it cannot look at" "$want" refused
