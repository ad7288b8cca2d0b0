# Layers of whose changes inotify tells nothing: a directory on FUSE (bindfs) that is changed behind its back, as a server
# is by another client. Watchers are told all the same, whatever they wait with; once of what inotify tells itself;
# and nothing of what the overlay hides.
. "$HERE/lib/harness.bash"
needs_overlock "polled layers" && needs_program "polled layers" python3 || exit 0

BACK=$SCRATCH/back LOWER=$SCRATCH/lower ASK=$SCRATCH/ask ANSWER=$SCRATCH/answer
export BACK LOWER ASK ANSWER HERE

# Runs a command of lib/polled.py in an overlay over bindfs, or over the directory itself where `directly` is 1. What
# it prints must be what is read here.
directly=
polls() { # NAME OPTIONS COMMAND…
  local name=$1 options=$2 outsider
  shift 2
  cat >"$SCRATCH/expected"
  rm -rf "$BACK" "$LOWER" "$SCRATCH/upper" "$SCRATCH/work" "$ASK" "$ANSWER"
  mkdir -p "$BACK"/{dir,marks} "$LOWER" "$SCRATCH/upper" "$SCRATCH/work"
  echo 1 | tee "$BACK/file" "$BACK/dir/one" "$BACK/dir/two" >/dev/null
  mkfifo "$ASK" "$ANSWER"
  [[ $options == *upperdir* ]] || options="upperdir=$SCRATCH/upper,workdir=$SCRATCH/work,$options"
  [[ $options != *upperdir=none* ]] || options=${options#upperdir=none,}
  export OPTIONS="lowerdir=$LOWER,target=$LOWER,registry=$REGISTRY,${options%,}" DIRECTLY=$directly LIBRARY
  timeout -k 5 "$LIMIT_S" unshare -m bash -c '
    if [[ $DIRECTLY ]]; then mount --bind "$BACK" "$LOWER"
    else bindfs -o attr_timeout=0,entry_timeout=0,negative_timeout=0 "$BACK" "$LOWER"
    fi || { echo "cannot mount"; exit; }
    cd "$LOWER"
    "$PYTHON" "$HERE/lib/polled.py" outsider &
    OVERLOCK=$OPTIONS LD_PRELOAD=$LIBRARY "${@:-true}"
    status=$?
    kill $! 2>/dev/null
    wait $! 2>/dev/null
    cd / && umount "$LOWER"
    exit $status' bash "$@" >"$SCRATCH/said" 2>&1 || echo "status $?" >>"$SCRATCH/said"
  if grep -q 'cannot mount' "$SCRATCH/said"; then
    skip "$name" "$(head -n 1 "$SCRATCH/said")"
  elif cmp -s "$SCRATCH/expected" "$SCRATCH/said"; then
    pass "$name"
  else
    fail "$name" "expected/got: $(diff "$SCRATCH/expected" "$SCRATCH/said" | grep '^[<>]' | head -n 4 | paste -sd'|')"
  fi
}
watcher=("$PYTHON" "$HERE/lib/polled.py")

needs_root "polled layers" && needs_program "polled layers" unshare && unshare -m true 2>/dev/null || exit 0

directly=1
polls "a file that is written through a mapping, with poll= on any file system" poll=0.05 \
  "${watcher[@]}" mapped <<<'mapped -> .:MODIFY:file file:MODIFY:'
directly=

[[ -e /dev/fuse ]] || { skip "polled layers on FUSE" "there is no /dev/fuse"; exit 0; }
needs_program "polled layers on FUSE" bindfs || exit 0

story='written -> file:MODIFY:
mode -> file:ATTRIB:
made -> dir:CREATE:empty dir:CREATE:link dir:CREATE:new dir:CREATE|ISDIR:sub dir:MODIFY:new
changed -> dir:ATTRIB:two dir:MODIFY:one
below -> 
replaced -> dir:CREATE:two dir:DELETE:two
renamed -> dir:CREATE:uno dir:DELETE:one dir:MODIFY:uno
removed -> dir:DELETE:link dir:DELETE:new dir:DELETE|ISDIR:sub
newlines -> dir:CREATE:a
b dir:MODIFY:a
b
gone -> file:ATTRIB: file:DELETE_SELF: file:IGNORED:
many -> dir:600:events
deletions -> dir:DELETE:many2'
for how in poll select epoll read; do
  polls "every kind of change, told in $how" poll=0.05 "${watcher[@]}" story "$how" <<<"$story"
done
for how in epoll read; do
  polls "the same without an upper, in $how" upperdir=none,poll=0.05 "${watcher[@]}" story "$how" <<<"$story"
done
polls "FUSE is polled without being asked" "" "${watcher[@]}" hidden <<'END'
hidden -> 
shown -> dir:CREATE:three dir:MODIFY:three
END
polls "what the overlay hides is not told of" poll=0.05 "${watcher[@]}" hidden <<'END'
hidden -> 
shown -> dir:CREATE:three dir:MODIFY:three
END
for interval in 0.001 0.05; do
  polls "what inotify tells is told once, with a look every $interval s" "poll=$interval" "${watcher[@]}" once <<'END'
dir as without an overlay
file as without an overlay
END
done
polls "poll=0" poll=0 "${watcher[@]}" never <<'END'
nothing
inotify's own -> file:ATTRIB:
END
polls "signals come into a read that waits" poll=0.05 "${watcher[@]}" signals <<'END'
starts again: ['MODIFY']
ends the read EINTR
END

if needs_program "inotifywait" inotifywait; then
  polls "inotifywait -m" poll=0.05 bash -c '
    seen=$BACK/../seen
    : >"$seen" >"$seen.said"
    inotifywait -m --format "%w%f %e" -e create,modify,delete dir file >>"$seen" 2>>"$seen.said" &
    watcher=$!
    until grep -q established "$seen.said"; do kill -0 $watcher; done
    exec 3>"$ASK" 4<"$ANSWER"
    echo "[\"echo x >dir/new; rm dir/one; echo x >>file\", \"$BACK\"]" >&3 && read -r _ <&4
    until [[ $(wc -l <"$seen") -ge 4 ]]; do kill -0 $watcher; done
    kill $watcher
    wait $watcher 2>/dev/null
    sort "$seen"' <<'END'
dir/new CREATE
dir/new MODIFY
dir/one DELETE
file MODIFY
END
fi
