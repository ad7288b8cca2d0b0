#!/usr/bin/env bash
# Who excludes whom, when a file of a lower layer is copied up while somebody has it locked: with no overlay, in
# Overlock, in the kernel's overlayfs and in fuse-overlayfs, side by side. Exits non-zero if Overlock's answers are
# not those of a plain directory.
. "$(dirname "${BASH_SOURCE[0]}")/../lib/worlds.bash"
require flock sqlite3

fill() { # DIRECTORY
  local name
  for name in log log2 config; do echo "one line" >"$1/$name"; done
  sqlite3 "$1/base" 'create table t(x); insert into t values(1);'
}
make_worlds

# Somebody who locks, says so, and holds the lock until told to end.
hold() { # WORLD WHERE SCRIPT
  coproc HOLDER { within "$1" "$2" sh -c "$3"; }
  local said
  IFS= read -r said <&"${HOLDER[0]}"
  [[ $said == held* ]] || { echo "the holder in $1 said: $said" >&2; exit 1; }
}
release() {
  local to=${HOLDER[1]} pid=$HOLDER_PID
  exec {to}>&-
  wait "$pid" || true
}

lock='exec 8<$FILE; flock 8 && echo held; read -r _ || :'
try='exec 9>>$FILE; if flock -n 9; then echo granted; else echo refused; fi'
read_base='{ echo "begin; select \"held\" from t;"; cat; } | sqlite3 -readonly base'
write_base='if sqlite3 base "insert into t values(2)" 2>/dev/null; then echo granted; else echo refused; fi'

# What is done, for one world; prints the answer while the lock is held and the one afterwards.
scene() { # SCENE WORLD
  local during
  case $1 in
    flock)
      hold "$2" 1 "${lock//\$FILE/log}"
      within "$2" 1 sh -c 'echo "a second line" >>log'
      during=$(within "$2" 1 sh -c "${try//\$FILE/log}")
      release
      echo "$during, then $(within "$2" 1 sh -c "${try//\$FILE/log}")"
      ;;
    sqlite3)
      hold "$2" 1 "$read_base"
      during=$(within "$2" 1 sh -c "$write_base")
      release
      echo "$during, then $(within "$2" 1 sh -c "$write_base")"
      ;;
    outsider)
      hold "$2" outside "${lock//\$FILE/log2}"
      within "$2" 1 sh -c 'echo "a second line" >>log2'
      during=$(within "$2" 1 sh -c "${try//\$FILE/log2}")
      release
      echo "$during, then $(within "$2" 1 sh -c "${try//\$FILE/log2}")"
      ;;
    overlay)
      hold "$2" 1 "${lock//\$FILE/config}"
      during=$(within "$2" 2 sh -c 'if flock -n config true; then echo granted; else echo refused; fi')
      release
      echo "$during, then $(within "$2" 2 sh -c 'if flock -n config true; then echo granted; else echo refused; fi')"
      ;;
  esac
}
declare -A meaning=(
  [flock]='flock, held since before a line was appended'
  [sqlite3]='sqlite3: a reader, and one who commits'
  [outsider]='flock, held outside on the lower'
  [overlay]='flock, held in another overlay on one lower'
)

show 24 'what a second one gets, then after the first' flock sqlite3 outsider overlay
