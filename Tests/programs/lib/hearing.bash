# For bodies of checks: a program that watches, and what it says line by line. Nothing is waited for by the clock: a
# step is over when the watcher has said what was to come last, and what has not come in a minute is named.
steps=0

# watch COMMAND…: starts it; what it says is for `hear`.
watch() {
  exec {heard}< <(exec "$@" 2>&1)
  watcher=$!
}

# hear PATTERN: prints what the watcher says up to the first line that matches. Equal neighbours count once: inotify
# merges them if nobody has read the first.
hear() {
  local line status=0 before=
  while IFS= read -r -t "${HEARING_LIMIT_S:-60}" line <&"$heard" || { status=$? && false; }; do
    [[ $line == "$before" ]] || printf '%s\n' "$line"
    before=$line
    # shellcheck disable=SC2053 # a pattern
    [[ $line != $1 ]] || return 0
  done
  if ((status > 128)); then echo "never came: $1"; else echo "ended before: $1"; fi
  kill -KILL "$watcher" 2>/dev/null || true
  exit 1
}

# step COMMAND: another process does it; then what the watcher says, up to a new file that ends the step. `order=any`
# sorts it by what comes first in a line: events of one directory stay in order. `order=set` sorts it all.
step() {
  echo "== $1"
  bash -euc "$1"
  steps=$((steps + 1))
  bash -c ": >step$steps."
  case ${order:-} in
    any | set) hear "*step$steps.*" >"$OUT/step" || { cat "$OUT/step" && exit 1; }
      if [[ $order == set ]]; then sort -u "$OUT/step"; else sort -s -k1,1 "$OUT/step" | uniq; fi
      rm "$OUT/step" ;;
    *) hear "*step$steps.*" ;;
  esac
}

# For a watcher that does not say when he watches: files are made until he speaks.
knock() {
  local line n=0
  until IFS= read -r -t 0.2 line <&"$heard"; do
    n=$((n + 1))
    : >"knock$n"
    kill -0 "$watcher"
  done
  : >knocked
  hear '*knocked*' >/dev/null
  rm knock*
}

# answered COMMAND PATTERN [PATIENCE_S]: the same for one that overlooks what happens while he is busy: it is done until
# he says a line that matches, which is printed. What he says besides may be of the last time.
answered() {
  local line until_s=$((SECONDS + ${HEARING_LIMIT_S:-60}))
  bash -euc "$1"
  # shellcheck disable=SC2053 # a pattern
  until IFS= read -r -t "${3:-0.2}" line <&"$heard" && [[ $line == $2 ]]; do
    ((SECONDS < until_s)) && kill -0 "$watcher" || { echo "never came: $2" && exit 1; }
    [[ $line ]] || bash -euc "$1"
  done
  printf '%s\n' "$line"
}

# end [SIGNAL]
end() {
  kill "-${1:-TERM}" "$watcher" 2>/dev/null || true
  wait "$watcher" 2>/dev/null || true
  exec {heard}<&-
}

# What can happen in a tree, by other processes.
tour() {
  step 'echo new >src/new'
  step 'echo more >>src/u1.c'
  step 'echo other >src/t; mv src/t src/u2.c'
  step 'chmod 600 src/u3.c src/u12.c'
  step 'cat src/u5.c >/dev/null'
  step 'rm src/u4.c; echo again >src/u4.c'
  step 'rm src/u11.c many/21.txt'
  step 'mkdir src/made'
  step 'echo a >src/made/a; echo b >src/made/b'
  step 'mv src/made/a src/u6.c'
  step 'mv src/u7.c src/deep/u7.c; mv many/12.txt many/22.txt'
  step 'mv doc papers'
  step 'echo x >papers/x; mv src/u12.c papers/locked'
  step 'mkdir doc; touch -d 2021-01-01 README src'
  step 'rm -r src/deep'
  step 'rmdir empty-dir; mkdir empty-dir'
  step 'ln README many/link; ln -s README src/soft; mkfifo src/pipe'
  step 'tar -C src -c u8.c u9.c | tar -x -C many; tar -C many -c u8.c | tar -x -C src'
}
