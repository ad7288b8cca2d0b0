# The worlds a program can be run in. OVERLAYS holds one option string per overlay, in the words of
# Overlock's own options: lowerdir=A:B,upperdir=U,workdir=W,target=T.

# A hang is a failure, not a wait: nothing here takes a minute, but for the builds.
: "${LIMIT_S:=120}"

option() { # STRING KEY: the value of KEY
  tr ',' '\n' <<<"$1" | sed -n "s/^$2=//p"
}

# Runs a command in the world, in the target of the first overlay.
in_overlay() {
  local target
  target=$(option "${OVERLAYS[0]}" target)
  case $WORLD in
    plain) (cd "$target" && exec timeout -k 5 "$LIMIT_S" "$@") ;;
    overlock)
      (
        cd "$target" || exit 125
        configuration=$(printf "%s,registry=$REGISTRY\n" "${OVERLAYS[@]}")
        exec timeout -k 5 "$LIMIT_S" env OVERLOCK="$configuration" LD_PRELOAD="$LIBRARY" "$@"
      )
      ;;
    kernel)
      # redirect_dir and index are the kernel's best: without them directories do not rename and
      # hard links break.
      local script='set -e; first=
        while [ "$1" != -- ]; do
          mount -t overlay overlay -o "$2" "$1"; first=${first:-$1}; shift 2
        done; shift; cd "$first"; exec "$@"'
      local mounts=() o t
      for o in "${OVERLAYS[@]}"; do
        t=$(option "$o" target)
        o=${o%,target=*}
        [[ $o == *upperdir=* ]] && o+=,redirect_dir=on,index=on
        mounts+=("$t" "$o")
      done
      timeout -k 5 "$LIMIT_S" unshare -m sh -c "$script" sh "${mounts[@]}" -- "$@"
      ;;
  esac
}

# Is the world one with layers? Prints the skip line if not.
needs_layers() { # NAME
  [[ $WORLD != plain ]] || { skip "$1" "a plain directory has no layers"; return 1; }
}
needs_overlock() { # NAME
  [[ $WORLD == overlock ]] || { skip "$1" "about Overlock itself, not the $WORLD world"; return 1; }
}
needs_root() { # NAME
  [[ $(id -u) == 0 ]] || { skip "$1" "needs root to prepare"; return 1; }
}
needs_program() { # NAME PROGRAM…
  local name=$1 program
  shift
  for program; do
    command -v "$program" >/dev/null || { skip "$name" "$program is not installed"; return 1; }
  done
}
