# `overlock run` as a user types it: the current directory by default, --over, --name, and what the
# environment of the command looks like.
. "$HERE/lib/harness.bash"
needs_overlock "the command line" || exit 0
[[ -x $CLI ]] || { skip "the command line" "no $CLI"; exit 0; }
make_fixture
export XDG_STATE_HOME=$SCRATCH/state CLI

# The body runs outside every overlay, in $T, and calls $CLI itself.
outside() { # NAME EXPECTED
  local name=$1 expected=$2
  cat >"$SCRATCH/body"
  place
  rm -rf "$XDG_STATE_HOME"
  ledger "$T" >"$SCRATCH/before"
  run_body "$SCRATCH/o" in_plain
  ledger "$T" >"$SCRATCH/after"
  printf '%s\nexit status 0\n' "$expected" >"$SCRATCH/o.expected"
  if ! cmp -s "$SCRATCH/o.expected" "$SCRATCH/o.out"; then
    fail "$name" "expected/got: $(first_difference "$SCRATCH/o.expected" "$SCRATCH/o.out" |
      sed 's/plain:/expected:/g; s/overlay:/got:/g')"
  elif ! cmp -s "$SCRATCH/before" "$SCRATCH/after"; then
    fail "$name" "lower changed: $(diff "$SCRATCH/before" "$SCRATCH/after" | grep -m 1 '^[<>]')"
  else
    pass "$name"
  fi
}

outside "run overlays the current directory and keeps what was written" "inside
third line
$XDG_STATE_HOME/overlock" <<'BODY'
"$CLI" run --name kept -- sh -c 'echo inside >>README; tail -n 1 README'
tail -n 1 README
find "$XDG_STATE_HOME" -name README | grep -o "^$XDG_STATE_HOME/overlock"
BODY

outside "run --name: the next command finds what the last one left, another name does not" "one
third line" <<'BODY'
"$CLI" run --name a -- sh -c 'echo one >>README'
"$CLI" run --name a -- tail -n 1 README
"$CLI" run --name b -- tail -n 1 README
BODY

outside "run --over twice, from elsewhere" "x
y
12 250" <<'BODY'
cd /
"$CLI" run --over "$T/src" --over "$T/many" --name two -- sh -c '
  echo x >"$T/src/new"; echo y >"$T/many/new"; cat "$T/src/new" "$T/many/new"'
echo "$(ls "$T"/src/*.c | wc -l) $(ls "$T/many" | wc -l)"
BODY

outside "run passes standard input, statuses, signals and arguments through" "typed
a b|c|
3
143" <<'BODY'
echo typed | "$CLI" run --name t -- cat
"$CLI" run --name t -- sh -c 'printf "%s|" "$@"; echo' sh 'a b' c
"$CLI" run --name t -- sh -c 'exit 3' || echo $?
# The shell that waits for a killed program says "Terminated": that is its own affair.
bash -c '"$CLI" run --name t -- sh -c "kill -TERM \$\$"; exit $?' 2>/dev/null || echo $?
BODY

outside "run from a directory below, and of a program that lies in the overlay" "$T/src/deep
script bin/script in $T
u1.c" <<'BODY'
"$CLI" run --over . --name d -- sh -c 'cd src/deep && pwd -P'
"$CLI" run --name d -- bin/script
"$CLI" run --name d -- sh -c 'cp "$(command -v ls)" bin/list'
"$CLI" run --name d -- bin/list src | grep "^u1\.c"
BODY
