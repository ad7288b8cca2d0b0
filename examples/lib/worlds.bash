# Four worlds side by side: a plain directory, Overlock, the kernel's overlayfs and fuse-overlayfs. To be sourced by
# an example, which then has `worlds`, `scratch` and `within`.
set -euo pipefail

examples=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
# Mounts live and die with a namespace of our own.
if [[ ! ${EXAMPLE_NAMESPACE-} ]] && unshare -m true 2>/dev/null; then
  EXAMPLE_NAMESPACE=1 exec unshare -m "$0" "$@"
fi
overlock=$(realpath -m -- "${OVERLOCK_BUILD:-$examples/../.build/release}")/overlock

require() { # PROGRAM…
  local program
  for program in "$overlock" "$@"; do
    command -v "$program" >/dev/null || { echo "$program is missing" >&2; exit 1; }
  done
}

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

make_worlds() {
  # Each world has a lower of its own, which `fill DIRECTORY` fills, and two overlays over it.
  worlds=(plain overlock)
  for world in plain overlock kernel fuse; do
    mkdir -p "$scratch/$world"/{lower,merged1,upper1,work1,merged2,upper2,work2}
    fill "$scratch/$world/lower"
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
}

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

# Prints a table of what `scene SCENE WORLD` says, with a line's meaning from `meaning`. Fails if Overlock's answers are
# not those of the plain directory.
show() { # WIDTH HEADING SCENE…
  local status=0 scene world width=$1
  local -A answer
  shift
  printf '%-46s' "$1"
  shift
  printf "%-${width}s" "${worlds[@]}"
  printf '\n'
  for scene; do
    printf '%-46s' "${meaning[$scene]}"
    for world in "${worlds[@]}"; do
      answer[$world]=$(scene "$scene" "$world")
      printf "%-${width}s" "${answer[$world]}"
    done
    printf '\n'
    if [[ ${answer[overlock]} != "${answer[plain]}" ]]; then
      echo "wrong: Overlock's answer is not that of a plain directory" >&2
      status=1
    fi
  done
  return "$status"
}
