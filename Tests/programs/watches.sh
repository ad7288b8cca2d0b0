# inotify watches on files of lowers: they see what others do through the overlay after the file was copied up, and
# nothing of the copying. In each check another process makes the changes.
. "$HERE/lib/harness.bash"
needs_program "watches" python3 || exit 0
make_fixture
cp "$HERE/lib/watching.py" "$AUX/watching.py"

like_plain "a watcher is told of every step, copied up or not" <<'BODY'
"$PYTHON" "$AUX/watching.py" told 'cat README' 'echo more >>README' 'cat README' 'chmod 600 README' \
  'mv README other' 'truncate -s 3 other' 'touch other' 'mv src/u1.c other' 'echo new >README'
BODY

like_plain "a watched lower file is cut by an open, and removed" <<'BODY'
"$PYTHON" "$AUX/watching.py" told ': >README' 'rm README' 'echo new >README'
BODY

like_plain "a watched lower file is removed, or replaced, while it is on the lower" <<'BODY'
"$PYTHON" "$AUX/watching.py" told 'rm README' 'echo new >README'
BODY
like_plain "a watched lower file is replaced while it is on the lower" <<'BODY'
"$PYTHON" "$AUX/watching.py" told 'mv src/u1.c README' 'echo more >>README'
BODY

like_plain "a child waits in read for what another process writes" <<'BODY'
"$PYTHON" "$AUX/watching.py" waits 'chmod 600 README; echo more >>README'
BODY

like_plain "poll and select end for what read returns" <<'BODY'
"$PYTHON" "$AUX/watching.py" ready
BODY

if [[ $(uname -m) == x86_64 ]]; then
  like_plain "waits by number end for what read returns" <<'BODY'
"$PYTHON" "$AUX/watching.py" by_number
BODY
else
  skip "waits by number end for what read returns" "the numbers are those of x86_64"
fi

like_plain "epoll ends for what read returns" <<'BODY'
"$PYTHON" "$AUX/watching.py" epoll
BODY

like_plain "poll and select of a watcher with pointers that lead nowhere" <<'BODY'
"$PYTHON" "$AUX/watching.py" nowhere
BODY

like_plain "watchers from before and after a copy-up" <<'BODY'
"$PYTHON" "$AUX/watching.py" again
BODY

like_plain "a read through a descriptor from before the copy-up is a read alone" <<'BODY'
"$PYTHON" "$AUX/watching.py" older
BODY

like_plain "several such reads at once, and readers that are killed" <<'BODY'
"$PYTHON" "$AUX/watching.py" together 3
BODY

like_plain "every way to read, with every size of buffer" <<'BODY'
"$PYTHON" "$AUX/watching.py" buffers
BODY

if needs_program "an instance that is read through a stream" gcc; then
  gcc -Wall -Wextra "$HERE/lib/streamed.c" -o "$AUX/streamed"
  like_plain "an instance that is read through a stream" <<'BODY'
"$AUX/streamed" 'echo more >>README' 'chmod 600 README' 'echo new >src/new' 'rm src/new src/u1.c' 'mv src/u2.c src/u3.c' \
  'echo more >>README; cat README >/dev/null'
BODY
fi

if needs_program "fanotify marks" gcc && needs_root "fanotify marks"; then
  gcc -Wall -Wextra "$HERE/lib/fanotify.c" -o "$AUX/fanotify"
  may=0
  (cd "$FIXTURE" && "$AUX/fanotify" >/dev/null 2>&1) || may=$?
  if ((may == 77)); then
    skip "fanotify marks" "the kernel refuses a group (CAP_SYS_ADMIN)"
  else
    like_plain "fanotify marks on a file and on the files of a directory" <<'BODY'
"$AUX/fanotify" 'echo more >>README' 'echo more >>src/u1.c' 'echo new >src/new' 'cat src/u2.c >/dev/null' \
  'echo m >>src/u3.c; mv src/u3.c src/other; echo m >>src/other' 'rm src/u4.c; echo again >src/u4.c' 'mv src there' \
  'echo m >>there/u5.c; mv there src' 'echo more >>src/u6.c; echo more >>README'
BODY
  fi
fi

like_plain "files are copied up by processes that are killed at any moment" <<'BODY'
"$PYTHON" "$AUX/watching.py" killed 120
BODY

# In a plain directory too inotifywait was seen to wait for ever for the DELETE_SELF of a removed file.
if [[ ${QUICK:-} ]]; then
  skip "inotifywait -m on a lower file" "in full runs alone: it has hung in a plain directory"
elif needs_program "inotifywait" inotifywait; then
  like_plain "inotifywait -m on a lower file" <<'BODY'
: >"$AUX/said" >"$AUX/seen"
inotifywait -m --format '%w %e' README big >>"$AUX/seen" 2>>"$AUX/said" &
watcher=$!
until grep -q established "$AUX/said"; do kill -0 $watcher; done
echo more >>README
cat README >/dev/null
chmod 600 big
mv big bigger
rm bigger
until grep -q 'big DELETE_SELF' "$AUX/seen"; do :; done
kill $watcher
wait $watcher || true
uniq "$AUX/seen"
BODY
fi

# inotify of the file and of its directory; polling would print it after a thousand seconds.
needing=held like_plain "tail -f prints at once what another process appends to a lower file" <<'BODY'
: >"$OUT/printed"
tail -n 1 -s 1000 -f README >>"$OUT/printed" &
tail=$!
until grep -q third "$OUT/printed"; do :; done
echo more >>README
until grep -q more "$OUT/printed"; do :; done
kill $tail
wait $tail || true
cat "$OUT/printed"
BODY

# Starts a watcher of $1 in the overlay; `told WHAT` prints what it saw since the last, `told_end` ends it.
told_of() { # NAME [MASK]
  coproc WATCHER { in_overlay "$PYTHON" "$AUX/watching.py" serve "$@"; }
  watcher=$WATCHER_PID
  exec {answers}<&"${WATCHER[0]}" {questions}>&"${WATCHER[1]}"
  told set >/dev/null
}
told() {
  local line
  echo >&"$questions"
  IFS= read -r line <&"$answers"
  echo "$1: $line"
}
told_end() {
  echo end >&"$questions"
  wait "$watcher"
  exec {questions}>&- {answers}<&-
}
expect_told() { # NAME EXPECTED, lines joined by |
  local got
  got=$(paste -sd'|' "$SCRATCH/told")
  if [[ $got == "$2" ]]; then pass "$1"; else fail "$1" "expected $2 got $got"; fi
}

name="a direct change of the lower is seen until the file is copied up"
if needs_overlock "$name"; then
  place
  told_of README
  {
    echo direct >>"$T/README"
    told directly
    in_overlay sh -c 'chmod 600 README'
    told overlay
    echo direct >>"$T/README"
    told hidden
    in_overlay sh -c 'echo more >>README'
    told overlay
  } >"$SCRATCH/told"
  told_end
  expect_told "$name" "directly: OPEN MODIFY CLOSE_WRITE|overlay: ATTRIB|hidden: |overlay: OPEN MODIFY CLOSE_WRITE"
fi

name="direct changes in a lower directory are seen of names that nothing above has"
if needs_overlock "$name"; then
  place
  # MODIFY, ATTRIB, CREATE, DELETE, MOVED_FROM, MOVED_TO
  told_of src 0x3c6
  {
    echo direct >>"$T/src/u1.c"
    told directly
    echo new >"$T/src/new"
    mv "$T/src/new" "$T/src/newer"
    rm "$T/src/newer"
    told directly
    in_overlay sh -c 'echo more >>src/u1.c; rm src/u2.c; mv src/u3.c src/u30.c'
    told overlay
    echo direct >>"$T/src/u1.c"
    rm "$T/src/u2.c"
    echo direct >>"$T/src/u3.c"
    rm "$T/src/u1.c"
    told hidden
    in_overlay sh -c 'echo anew >src/u2.c'
    told overlay
    echo direct >>"$T/src/u4.c"
    told directly
  } >"$SCRATCH/told"
  told_end
  expect_told "$name" "directly: MODIFY|u1.c|directly: CREATE|new MODIFY|new MOVED_FROM|new MOVED_TO|newer\
 DELETE|newer|overlay: MODIFY|u1.c DELETE|u2.c MOVED_FROM|u3.c MOVED_TO|u30.c|hidden: |overlay: CREATE|u2.c\
 MODIFY|u2.c|directly: MODIFY|u4.c"
fi

name="two overlays over one lower: each shows its watcher what it shows"
if needs_overlock "$name"; then
  place
  second="lowerdir=$LOWER,upperdir=$SCRATCH/upper2,workdir=$SCRATCH/work2,target=$T"
  rm -rf "$SCRATCH/upper2" "$SCRATCH/work2"
  mkdir "$SCRATCH/upper2" "$SCRATCH/work2"
  first=("${OVERLAYS[@]}")
  in_second() (
    OVERLAYS=("$second")
    in_overlay "$@"
  )
  OVERLAYS=("$second")
  told_of src 0x3c6
  OVERLAYS=("${first[@]}")
  {
    in_overlay sh -c 'echo more >>src/u1.c; rm src/u2.c'
    told "the other overlay"
    echo direct >>"$T/src/u1.c"
    told directly
    in_second sh -c 'rm src/u1.c; mkdir src/u1.c'
    told overlay
    in_overlay sh -c 'rm src/u1.c'
    rm "$T/src/u1.c"
    told hidden
    rm "$T/src/u2.c"
    told directly
  } >"$SCRATCH/told"
  told_end
  expect_told "$name" "the other overlay: |directly: MODIFY|u1.c|overlay: DELETE|u1.c CREATE|u1.c|hidden: |\
directly: DELETE|u2.c"
fi

name="nothing is left of watches that nobody has"
if needs_overlock "$name"; then
  place
  in_overlay "$PYTHON" -c 'import sys; sys.path.insert(0, sys.argv[1]); import watching
w = watching.Watcher()
for i in range(1, 101): w.add(f"many/{i}.txt")' "$AUX"
  # When a sweep is due depends on how long the last one took.
  left=1 limit=$((SECONDS + 30))
  until ((left == 0 || SECONDS > limit)); do
    in_overlay true
    left=$(find "$SCRATCH/work/overlock/anchors" "$SCRATCH/work/overlock/watchers" -type f | wc -l)
  done
  if ((left == 0)); then pass "$name"; else fail "$name" "$left files"; fi
fi
