#!/usr/bin/env bash
# Who excludes whom, when a file of a lower layer is copied up while somebody has it locked: with no overlay, in
# Overlock, in the kernel's overlayfs and in fuse-overlayfs, side by side. Exits non-zero if Overlock's answers are
# not those of a plain directory.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
# Mounts live and die with a namespace of our own.
if [[ ! ${EXAMPLE_NAMESPACE-} ]] && unshare -m true 2>/dev/null; then
  EXAMPLE_NAMESPACE=1 exec unshare -m "${BASH_SOURCE[0]}" "$@"
fi
overlock=$(realpath -m -- "${OVERLOCK_BUILD:-$here/../../.build/release}")/overlock
for program in "$overlock" flock sqlite3; do
  command -v "$program" >/dev/null || { echo "$program is missing" >&2; exit 1; }
done

scratch=$(realpath "$(mktemp -d)")
finish() {
  cd /
  for world in kernel fuse; do
    for n in 1 2; do
      if mountpoint -q "$scratch/$world/merged$n"; then umount "$scratch/$world/merged$n"; fi
    done
  done
  rm -rf "$scratch"
}
trap finish EXIT

# Each world has a lower of its own, and two overlays over it.
worlds=(plain overlock)
for world in plain overlock kernel fuse; do
  mkdir -p "$scratch/$world"/{lower,merged1,upper1,work1,merged2,upper2,work2}
  for name in log log2 config; do echo "one line" >"$scratch/$world/lower/$name"; done
  sqlite3 "$scratch/$world/lower/base" 'create table t(x); insert into t values(1);'
done
for world in kernel fuse; do
  mounted=1
  for n in 1 2; do
    layers=lowerdir=$scratch/$world/lower,upperdir=$scratch/$world/upper$n,workdir=$scratch/$world/work$n
    case $world in
      kernel) command=(mount -t overlay overlay -o "$layers" "$scratch/kernel/merged$n") ;;
      fuse) command=(fuse-overlayfs -o "$layers" "$scratch/fuse/merged$n") ;;
    esac
    if [[ ! ${EXAMPLE_NAMESPACE-} ]] || ! "${command[@]}" 2>"$scratch/why"; then
      echo "no $world overlay is shown: $(head -n 1 "$scratch/why" 2>/dev/null || echo 'needs root')"
      mounted=
      break
    fi
  done
  if [[ $mounted ]]; then worlds+=("$world"); fi
done

# A command in the N-th overlay of a world, or outside of all, in the lower.
within() { # WORLD 1|2|outside COMMAND…
  local world=$1 n=$2 directory=$scratch/$1
  shift 2
  case $world-$n in
    plain-* | *-outside) cd "$directory/lower" && "$@" ;;
    overlock-*)
      cd "$directory/lower" && "$overlock" run -o \
        "lowerdir=$directory/lower,upperdir=$directory/upper$n,workdir=$directory/work$n,target=$directory/lower" \
        -- "$@"
      ;;
    *) cd "$directory/merged$n" && "$@" ;;
  esac
}

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

declare -A answer
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

printf '%-46s' 'what a second one gets, then after the first'
printf '%-24s' "${worlds[@]}"
printf '\n'
status=0
for scene in flock sqlite3 outsider overlay; do
  printf '%-46s' "${meaning[$scene]}"
  for world in "${worlds[@]}"; do
    answer[$world]=$(scene "$scene" "$world")
    printf '%-24s' "${answer[$world]}"
  done
  printf '\n'
  if [[ ${answer[overlock]} != "${answer[plain]}" ]]; then
    echo "wrong: Overlock's answer is not that of a plain directory" >&2
    status=1
  fi
done
exit "$status"
