#!/usr/bin/env bash
# Who is told what, when a file of a lower layer is copied up while somebody watches it: with no overlay, in Overlock, in
# the kernel's overlayfs and in fuse-overlayfs, side by side. Exits non-zero if Overlock's answers are not those of a
# plain directory.
. "$(dirname "${BASH_SOURCE[0]}")/../lib/worlds.bash"
require inotifywait

fill() { # DIRECTORY
  local name
  for name in log log2 log3; do echo "one line" >"$1/$name"; done
}
make_worlds

# A change of mode is what every world tells: what comes before it is all that there was.
END=ATTRIB

# Waits for what is to appear in a file, and gives up when there is no hope left.
await() { # FILE WORD
  timeout 60 sh -c 'until grep -q "$2" "$1"; do :; done' await "$@" && return
  echo "no $2 came in $1" >&2
  [[ ! ${watcher-} ]] || kill "$watcher"
  exit 1
}

# A program that runs until `stop`, as the process `$watcher`.
start() { # WORLD COMMAND…
  local world=$1
  shift
  : >"$scratch/said" >"$scratch/said.err" >"$scratch/pid"
  within "$world" 1 sh -c 'echo $$ >"$0"; exec "$@"' "$scratch/pid" "$@" >"$scratch/said" 2>"$scratch/said.err" &
  await "$scratch/pid" .
  watcher=$(<"$scratch/pid")
}
stop() {
  kill "$watcher"
  wait
}

# What inotifywait prints of a file while a command runs.
events() { # WORLD FILE WHERE COMMAND
  start "$1" inotifywait -m -e modify,close_write,open,move_self,attrib --format %e "$2"
  await "$scratch/said.err" established
  within "$1" "$3" sh -c "$4"
  within "$1" 1 chmod 600 "$2"
  await "$scratch/said" "$END"
  stop
  sed "/$END/,\$d" "$scratch/said" | uniq | cut -d, -f1 | paste -sd' ' | sed 's/^$/nothing/'
}

# What is done, for one world; prints what the watcher was told.
scene() { # SCENE WORLD
  case $1 in
    append) events "$2" log 1 'echo "a second line" >>log' ;;
    again) events "$2" log 1 'echo "a third line" >>log' ;;
    outsider) events "$2" log2 outside 'echo "a second line" >>log2' ;;
    tail)
      # It would look by itself in a thousand seconds.
      start "$2" tail -n 1 -s 1000 -f log3
      await "$scratch/said" 'one line'
      if find "/proc/$watcher/fd" -lname '*inotify*' | grep -q .; then
        within "$2" 1 sh -c 'echo "a second line" >>log3'
        await "$scratch/said" 'second line'
        echo "the line, at once"
      else
        echo "nothing: it polls"
      fi
      stop
      ;;
  esac
}
declare -A meaning=(
  [append]='inotifywait: a line is appended to the file'
  [again]='inotifywait: another line, on the copy'
  [outsider]='inotifywait: outside, on the lower'
  [tail]='tail -f prints a line that is appended'
)

show 26 'what the watcher is told' append again outsider tail
