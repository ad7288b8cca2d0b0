# What every subject uses: one line per check, and the comparison with a plain directory.
: "${SCRATCH:?start the subjects through run.sh}"
# shellcheck source=world.bash
. "$HERE/lib/world.bash"
. "$HERE/lib/built.bash"

pass() { echo "ok $1" | tee -a "$RESULTS"; }
fail() { echo "FAIL $1: ${2:0:400}" | tee -a "$RESULTS"; }
skip() { echo "skip $1: $2" | tee -a "$RESULTS"; }

# python3 may be a wrapper script that picks a version; the checks want the program itself.
PYTHON=$(python3 -c 'import sys; print(sys.executable)')
export PYTHON

ledger() { "$PYTHON" -I -S "$HERE/lib/ledger.py" "$1"; }

# What a program sees of the tree it stands in, with the tools that people look with. Sizes and link
# counts of directories are left out (file systems differ), and times of what was changed just now.
view_raw='
  find . -printf "%y %m %U:%G %s %n %T@ %P -> %l\n" | sort -k 7
  find . -type f -print0 | sort -z | xargs -0 -r sha256sum'
view_normal() {
  awk -v ignoring="${ignoring:-^$}" '
    $0 ~ ignoring { next }
    $1 == "d" { $4 = $5 = "-" }
    $1 == "p" { $6 = "any" } # whoever writes into a FIFO moves its times
    $6 ~ /^[0-9]+\.[0-9]+$/ && $6 > 1600000000 { $6 = "now" }
    { print }'
}

# First line in which two files differ, for the report.
first_difference() { # PLAIN OVERLAY
  diff "$1" "$2" | sed -n '/^[<>]/ { s/^</plain:/; s/^>/overlay:/; p }' | head -n 2 | cut -c1-160 |
    paste -sd'|'
}

T=$SCRATCH/t           # the target, which is also the lower: the usual case
FIXTURE=$SCRATCH/fixture
AUX=$SCRATCH/aux       # things outside the overlay that bodies read, and OUT, which they write
mkdir -p "$AUX"
export T AUX OUT=$SCRATCH/out

# Starts a check afresh: $T is a copy of the fixture, the upper and workdir are empty. With `elsewhere=1` the
# lower is another copy, and the overlay covers that in $T.
place() {
  chmod -R u+w "$T" 2>/dev/null || true
  rm -rf "$T" "$SCRATCH/upper" "$SCRATCH/work" "$OUT"
  mkdir "$SCRATCH/upper" "$SCRATCH/work" "$OUT"
  cp -a "$FIXTURE" "$T"
  # As for the kernel, the merged root's attributes are those of the upper itself.
  chmod --reference="$T" "$SCRATCH/upper"
  touch -r "$T" "$SCRATCH/upper"
  LOWER=$T
  if [[ ${elsewhere:-} ]]; then
    LOWER=$SCRATCH/lower
    chmod -R u+w "$LOWER" 2>/dev/null || true
    rm -rf "$LOWER"
    cp -a "$FIXTURE" "$LOWER"
  fi
  OVERLAYS=("lowerdir=$LOWER,upperdir=$SCRATCH/upper,workdir=$SCRATCH/work,target=$T")
}

# Moves some of the files of $T into a lower above it, some into the upper, and some directories whole; every second of
# the moved leaves another file below.
spread_out() {
  local above=$SCRATCH/above name n=0
  rm -rf "$above"
  mkdir "$above"
  for name in src/u{1,3,11,12}.c src/deep/er many/{1,12,21}.txt doc; do
    (cd "$T" && cp -a --parents -t "$SCRATCH/upper" "$name")
    hide "$name"
  done
  for name in src/u{2,5,7}.c many/{2,22,31}.txt README; do
    (cd "$T" && cp -a --parents -t "$above" "$name")
    hide "$name"
  done
  find "$T" "$above" "$SCRATCH/upper" -type d -exec touch -d '2020-02-03 04:05:06.123456789' {} +
  OVERLAYS=("lowerdir=$above:$T,upperdir=$SCRATCH/upper,workdir=$SCRATCH/work,target=$T")
}
hide() {
  n=$((n + 1))
  if ((n % 2 == 0)) && [[ -f $T/$1 ]]; then echo "below" >"$T/$1"; else rm -rf "${T:?}/$1"; fi
}

run_body() { # STEM COMMAND-PREFIX…: output to STEM.out, status as its last line
  local stem=$1 status=0
  shift
  "$@" bash -euo pipefail "$SCRATCH/body" >"$stem.out" 2>&1 </dev/null || status=$?
  echo "exit status $status" >>"$stem.out"
}

# The differential check. The body (stdin) runs in a plain copy of the fixture and in an overlay over
# another copy, both at path $T: what it prints, its status, the tree it leaves as a later process
# sees it, and what it leaves in $OUT must be equal, and the lower untouched.
# `ignoring=REGEX like_plain …` leaves lines of the tree out that differ between two plain runs;
# `needing='CAPABILITY…' like_plain …` skips while one of these is not built (lib/built.bash).
like_plain() { # NAME
  local name=$1 p=$SCRATCH/plain o=$SCRATCH/overlay
  cat >"$SCRATCH/body"
  # shellcheck disable=SC2086 # split on purpose
  built "$name" ${needing:-} || return 0

  place
  run_body "$p" in_plain
  (cd "$T" && bash -c "$view_raw") 2>&1 | view_normal >"$p.tree"
  (cd "$OUT" && bash -c "$view_raw") 2>&1 | view_normal >"$p.left"
  if ! tail -n 1 "$p.out" | grep -qx 'exit status 0'; then
    fail "$name" "does not even work in a plain directory: $(tail -n 3 "$p.out" | paste -sd'|')"
    return 0
  fi

  place
  if [[ ${spread:-} && $WORLD != plain ]]; then spread_out; fi
  ledger "$LOWER" >"$SCRATCH/before"
  run_body "$o" in_overlay
  in_overlay bash -c "$view_raw" 2>&1 | view_normal >"$o.tree"
  (cd "$OUT" && bash -c "$view_raw") 2>&1 | view_normal >"$o.left"
  ledger "$LOWER" >"$SCRATCH/after"

  if ! cmp -s "$p.out" "$o.out"; then
    fail "$name" "other output: $(first_difference "$p.out" "$o.out")"
  elif ! cmp -s "$p.tree" "$o.tree"; then
    fail "$name" "other tree: $(first_difference "$p.tree" "$o.tree")"
  elif ! cmp -s "$p.left" "$o.left"; then
    fail "$name" "other results outside: $(first_difference "$p.left" "$o.left")"
  elif [[ $WORLD != plain ]] && ! cmp -s "$SCRATCH/before" "$SCRATCH/after"; then
    fail "$name" "lower changed: $(diff "$SCRATCH/before" "$SCRATCH/after" | grep '^[<>]' | head -n 2 | paste -sd'|')"
  else
    pass "$name"
  fi
}
in_plain() { (cd "$T" && exec timeout -k 5 "$LIMIT_S" "$@"); }

# The check with an answer known beforehand, for overlays that a plain directory cannot be compared
# with: the body (stdin) must print exactly EXPECTED. Directories named in UNTOUCHED must stay so.
UNTOUCHED=()
says() { # NAME EXPECTED
  local name=$1 expected=$2 o=$SCRATCH/says directory
  cat >"$SCRATCH/body"
  for directory in "${UNTOUCHED[@]}"; do ledger "$directory"; done >"$SCRATCH/before"
  run_body "$o" in_overlay
  for directory in "${UNTOUCHED[@]}"; do ledger "$directory"; done >"$SCRATCH/after"
  printf '%s\nexit status 0\n' "$expected" >"$o.expected"
  if ! cmp -s "$o.expected" "$o.out"; then
    fail "$name" "expected/got: $(first_difference "$o.expected" "$o.out" | sed 's/plain:/expected:/g; s/overlay:/got:/g')"
  elif ! cmp -s "$SCRATCH/before" "$SCRATCH/after"; then
    fail "$name" "lower changed: $(diff "$SCRATCH/before" "$SCRATCH/after" | grep '^[<>]' | head -n 2 | paste -sd'|')"
  else
    pass "$name"
  fi
}

# A small tree with one of everything, last changed in 2020 so that a later change shows.
make_fixture() {
  rm -rf "$FIXTURE"
  mkdir -p "$FIXTURE"/{src/deep/er,bin,many,empty-dir,doc}
  (
    cd "$FIXTURE"
    printf 'first line\nsecond line\nthird line\n' >README
    : >empty
    echo 'a name with spaces' >'a name'
    for i in {1..12}; do printf '/* unit %d */\nint f%d(void) { return %d; }\n' "$i" "$i" "$i" >"src/u$i.c"; done
    echo deep >src/deep/er/file
    printf '#!/bin/sh\necho "script $0 in $(pwd)"\n' >bin/script
    chmod 755 bin/script
    for i in {1..250}; do echo "$i" >"many/$i.txt"; done
    ln -s README link
    ln -s src/deep linkdir
    ln -s nowhere dangling
    ln -s "$T/README" absolute
    echo twice >hard1
    ln hard1 hard2
    mkfifo fifo
    echo 'keep me' >doc/locked
    chmod 444 doc/locked
    # 1 MiB of hole, then data
    truncate -s 1M big
    seq 1 150000 >>big
    find . -depth -exec touch -h -d '2020-02-03 04:05:06.123456789' {} +
  )
}
