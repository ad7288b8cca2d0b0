#!/usr/bin/env bash
# Who is told what, when a file of a lower layer is copied up while somebody watches it: with no overlay, in Overlock, in
# the kernel's overlayfs and in fuse-overlayfs, side by side. Exits non-zero if Overlock's answers are not those of a
# plain directory.
. "$(dirname "${BASH_SOURCE[0]}")/../lib/worlds.bash"
require inotifywait
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
# Shown where they are installed. Debian's watchdog is for its own Python.
entr=$(command -v entr) || echo "entr is not shown: it is not installed"
python=
for candidate in python3 /usr/bin/python3; do
  "$candidate" -c 'import watchdog' 2>/dev/null || continue
  python=$("$candidate" -c 'import sys; print(sys.executable)') # python3 may be a script that picks one
  break
done
[[ $python ]] || echo "watchdog is not shown: it is not installed (python3-watchdog)"

fill() { # DIRECTORY
  local name
  for name in log log2 log3 log4 log5; do echo "one line" >"$1/$name"; done
  mkdir "$1/tree"
  echo "one line" >"$1/tree/file"
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

# What tail tells of a log while a command runs, if it does not just look by itself in a thousand seconds.
follows() { # WORLD OPTION LOG COMMAND
  start "$1" tail -n 1 -s 1000 "$2" "$3"
  await "$scratch/said" 'one line'
  if find "/proc/$watcher/fd" -lname '*inotify*' | grep -q .; then
    within "$1" 1 sh -c "$4"
    await "$scratch/said" 'second line'
    echo "the line, at once"
  else
    echo "nothing: it polls"
  fi
  stop
}

# What watchdog tells of the directory's own names while a command runs.
names() { # WORLD WHERE COMMAND
  start "$1" "$python" "$here/tree.py"
  await "$scratch/said" ready
  within "$1" "$2" sh -c "$3"
  within "$1" 1 sh -c ': >end; rm end'
  await "$scratch/said" 'created end'
  stop
  # What is in a directory that is copied may be told of twice, or missed.
  awk '!/ready|end$|\// && !seen[$0]++' "$scratch/said" | paste -sd' ' | sed 's/^$/nothing/'
}

# What is done, for one world; prints what the watcher was told.
scene() { # SCENE WORLD
  case $1 in
    append) events "$2" log 1 'echo "a second line" >>log' ;;
    again) events "$2" log 1 'echo "a third line" >>log' ;;
    outsider) events "$2" log2 outside 'echo "a second line" >>log2' ;;
    tail) follows "$2" -f log3 'echo "a second line" >>log3' ;;
    rotate) follows "$2" -F log4 'mv log4 log4.1; echo "a second line" >log4' ;;
    entr)
      echo log5 >"$scratch/list"
      start "$2" sh -c 'exec entr -n echo ran <"$0"' "$scratch/list"
      await "$scratch/said" ran
      # What comes in the 50 ms after a run, or after another change, it takes for a part of that.
      until
        within "$2" 1 sh -c 'echo "a second line" >>log5'
        timeout 1 sh -c 'until [ "$(wc -l <"$0")" -gt 1 ]; do :; done' "$scratch/said"
      do kill -0 "$watcher"; done
      echo "it runs"
      stop
      ;;
    moved) names "$2" 1 'mv tree moved' ;;
    made) names "$2" outside 'echo new >direct' ;;
  esac
}
declare -A meaning=(
  [append]='inotifywait: a line is appended to the file'
  [again]='inotifywait: another line, on the copy'
  [outsider]='inotifywait: outside, on the lower'
  [tail]='tail -f prints a line that is appended'
  [rotate]='tail -F, and the log is rotated'
  [entr]='entr runs its command after an append'
  [moved]='watchdog: a directory is renamed'
  [made]='watchdog: outside, a file in the lower'
)

show 28 'what the watcher is told' append again outsider tail rotate ${entr:+entr} ${python:+moved made}
