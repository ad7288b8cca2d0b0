# Whose locks count: the option locks=, two overlays over one lower, outsiders, a lower with locks of its own,
# and a workdir that cannot be used.
. "$HERE/lib/harness.bash"
needs_overlock "whose locks" || exit 0
needs_program "whose locks" python3 || exit 0
make_fixture

scenarios=(outsider_before outsider_after reader_of_the_overlay two_overlays one_copied_it_up both_copied_it_up)
set_up() { # OPTION: two overlays A and B over $SCRATCH/lower, with a target each
  chmod -R u+w "$SCRATCH"/{lower,A,B,upper-A,upper-B,work-A,work-B} 2>/dev/null || true
  rm -rf "$SCRATCH"/{lower,A,B,upper-A,upper-B,work-A,work-B} "${REGISTRY:?}"/*
  mkdir "$SCRATCH"/{lower,A,B,upper-A,upper-B,work-A,work-B}
  local scenario kind name
  for scenario in "${scenarios[@]}"; do
    for kind in flock record description; do echo data >"$SCRATCH/lower/$scenario.$kind"; done
  done
  for name in A B; do
    export "OVERLOCK_$name=lowerdir=${2:-$SCRATCH/lower},upperdir=$SCRATCH/upper-$name,workdir=$SCRATCH/work-$name,target=$SCRATCH/$name,registry=$REGISTRY$1"
    export "$name=$SCRATCH/$name"
  done
  export LOWER=$SCRATCH/lower LIBRARY
}
answers() { # NAME EXPECTED (a line for each scenario, all kinds being alike) [PROGRAM]
  local name=$1 scenario kind expected
  timeout -k 5 "$LIMIT_S" "$PYTHON" "${3:-$HERE/lib/whose.py}" "${scenarios[@]}" >"$SCRATCH/said" 2>&1 || echo "status $?" >>"$SCRATCH/said"
  while read -r scenario expected; do
    for kind in flock record description; do
      # Two readers' record locks go together.
      if [[ $scenario == two_overlays && $kind != flock ]]; then
        echo "$scenario $kind ok EAGAIN ok EAGAIN ok"
      else
        echo "$scenario $kind $expected"
      fi
    done
  done <<<"$2" >"$SCRATCH/expected"
  if cmp -s "$SCRATCH/said" "$SCRATCH/expected"; then
    pass "$name"
  else
    fail "$name" "$(diff "$SCRATCH/expected" "$SCRATCH/said" | grep '^[<>]' | head -n 4 | paste -sd'|')"
  fi
}

source_answers='outsider_before ok EAGAIN ok
outsider_after ok ok ok
reader_of_the_overlay ok EAGAIN ok EAGAIN ok
two_overlays ok EAGAIN EAGAIN ok EAGAIN ok
one_copied_it_up ok ok ok
both_copied_it_up ok ok'
for option in '' ,locks=source; do
  set_up "$option"
  answers "locks as they are at the copy-up count (${option:+said: }locks=source)" "$source_answers"
done
grep -v description "$SCRATCH/expected" >"$SCRATCH/expected-source"
set_up ,locks=origin
answers "locks on the origin count for ever (locks=origin)" 'outsider_before ok EAGAIN ok
outsider_after ok EAGAIN ok
reader_of_the_overlay ok EAGAIN ok EAGAIN ok
two_overlays ok EAGAIN EAGAIN ok EAGAIN ok
one_copied_it_up ok EAGAIN ok
both_copied_it_up ok ok'
set_up ,locks=overlay
answers "locks of others do not count once the file is copied up (locks=overlay)" 'outsider_before ok ok ok
outsider_after ok ok ok
reader_of_the_overlay ok EAGAIN ok EAGAIN ok
two_overlays ok EAGAIN EAGAIN ok EAGAIN ok
one_copied_it_up ok ok ok
both_copied_it_up ok ok'

name="locks of two users who share an upper"
if needs_root "$name" && needs_program "$name" setpriv; then
  all=("${scenarios[@]}") scenarios=(two_users)
  set_up ""
  chmod 755 "$SCRATCH" && install -m 755 "$LIBRARY" "$SCRATCH/liboverlock.so"
  install -m 644 "$HERE/lib/whose.py" "$SCRATCH/whose.py"
  chgrp -R 12300 "$SCRATCH"/{lower,upper-A,work-A} && chmod -R g+w "$SCRATCH"/{lower,upper-A,work-A}
  interpreter=$PYTHON library=$LIBRARY
  [[ ! -x /usr/bin/python3 ]] || PYTHON=/usr/bin/python3
  LIBRARY=$SCRATCH/liboverlock.so
  answers "$name" 'two_users ok EAGAIN ok EAGAIN ok' "$SCRATCH/whose.py"
  PYTHON=$interpreter LIBRARY=$library scenarios=("${all[@]}")
fi

# A lower whose file system has locks of its own: a lock through the overlay is its server's to grant, and is
# seen by who locks there without the overlay, behind the mount. Without open file description locks: bindfs itself
# goes on answering F_OFD_GETLK with those of descriptions that are no more.
name="a lower on FUSE that forwards locks"
if needs_root "$name" && needs_program "$name" bindfs unshare && unshare -m true 2>/dev/null; then
  mkdir -p "$SCRATCH/fuse"
  set_up "" "$SCRATCH/fuse"
  export SCRATCH HERE
  timeout -k 5 "$LIMIT_S" unshare -m bash -c '
    bindfs --enable-lock-forwarding --multithreaded "$SCRATCH/lower" "$SCRATCH/fuse" || { echo "cannot mount"; exit 0; }
    "$PYTHON" "$HERE/lib/whose.py" "$@"
    umount "$SCRATCH/fuse"' bash "${scenarios[@]}" >"$SCRATCH/said" 2>&1 || true
  if grep -q 'cannot mount' "$SCRATCH/said"; then
    skip "$name" "$(head -n 1 "$SCRATCH/said")"
  elif sed -i '/description/d' "$SCRATCH/said" && cmp -s "$SCRATCH/said" "$SCRATCH/expected-source"; then
    pass "$name"
  else
    fail "$name" "$(diff "$SCRATCH/expected-source" "$SCRATCH/said" | grep '^[<>]' | head -n 4 | paste -sd'|')"
  fi
fi

# A lock that needs a mark in the workdir, which is full or read-only: ENOLCK, said once, and no lock is held.
cat >"$AUX/refused.py" <<'PYTHON'
import errno, fcntl, os, struct, subprocess, sys


def attempt(kind, fd, type_):
    try:
        if kind == "flock":
            fcntl.flock(fd, type_ | fcntl.LOCK_NB)
        else:
            words = struct.pack("hhqqi4x", {fcntl.LOCK_SH: 0, fcntl.LOCK_UN: 2}[type_], 0, 0, 0, 0)
            fcntl.fcntl(fd, 6 if kind == "record" else 37, words)
        return "ok"
    except OSError as error:
        return errno.errorcode[error.errno]


kinds = "flock", "record", "description"
files = {kind: os.open(kind, os.O_RDONLY) for kind in kinds}
plain = os.open("plain", os.O_RDONLY)
subprocess.run(["sh", "-c", "for i in flock record description; do echo more >>$i; done"], check=True)
print("ready", flush=True)
sys.stdin.readline()
for kind in kinds:
    print(kind, attempt(kind, files[kind], fcntl.LOCK_SH), attempt(kind, files[kind], fcntl.LOCK_SH))
print("not copied up", attempt("flock", plain, fcntl.LOCK_SH), attempt("record", plain, fcntl.LOCK_SH))
with open("/proc/locks") as locks:
    own = [line.split() for line in locks if f" {os.getpid()} " in line]
inodes = {str(os.fstat(fd).st_ino) for fd in files.values()}
print("held", sum(words[5].split(":")[2] in inodes for words in own))
for kind in kinds:
    print(kind, "given up", attempt(kind, files[kind], fcntl.LOCK_UN))
PYTHON
refused_as() { # NAME REASON MOUNT BREAK (shell words, in a mount namespace, with $SMALL the file system of the upper)
  local name=$1 reason=$2
  place
  rm -rf "${REGISTRY:?}"/* "$SCRATCH"/{small,below,go,said-there}
  mkdir -p "$SCRATCH/small" "$SCRATCH/below"
  export SMALL=$SCRATCH/small BELOW=$SCRATCH/below SCRATCH REGISTRY LIBRARY MOUNT=$3 BREAK=$4 AUX
  local i
  for i in flock record description plain; do echo data >"$BELOW/$i"; done
  timeout -k 5 "$LIMIT_S" unshare -m bash -c '
    eval "$MOUNT" || exit 9
    mkdir "$SMALL/upper" "$SMALL/work"
    cd "$BELOW" && export OVERLOCK="lowerdir=$BELOW,upperdir=$SMALL/upper,workdir=$SMALL/work,target=$BELOW,registry=$REGISTRY"
    mkfifo "$SCRATCH/go" "$SCRATCH/said-there"
    LD_PRELOAD=$LIBRARY "$PYTHON" "$AUX/refused.py" <"$SCRATCH/go" >"$SCRATCH/said-there" &
    exec 3>"$SCRATCH/go" 4<"$SCRATCH/said-there"
    read -r _ <&4 && eval "$BREAK" && echo go >&3 && cat <&4' >"$SCRATCH/said" 2>"$SCRATCH/err" || echo "status $?" >>"$SCRATCH/said"
  local expected='flock ENOLCK ENOLCK|record ENOLCK ENOLCK|description ENOLCK ENOLCK|not copied up ok ok|held 0|flock given up ok|record given up ok|description given up ok'
  if [[ $(paste -sd'|' "$SCRATCH/said") != "$expected" ]]; then
    fail "$name" "$(paste -sd'|' "$SCRATCH/said") $(head -n 1 "$SCRATCH/err" | paste -sd'|')"
  elif [[ $(wc -l <"$SCRATCH/err") != 1 ]] || ! grep -q "^overlock: $SMALL/work/overlock: $reason: .*ENOLCK" "$SCRATCH/err"; then
    fail "$name" "stderr: $(paste -sd'|' "$SCRATCH/err")"
  else
    pass "$name"
  fi
}
if needs_root "a workdir that cannot be used" && unshare -m true 2>/dev/null; then
  refused_as "a lock that needs a full workdir is ENOLCK" "No space left on device" \
    'mount -t tmpfs -o size=256k,nr_inodes=64 tmpfs "$SMALL"' \
    'for ((i = 0; i < 99; i++)); do : >"$SMALL/filler$i"; done 2>/dev/null; cat /dev/zero >"$SMALL/filler0" 2>/dev/null; true'
  refused_as "a lock that needs a workdir behind a read-only bind mount is ENOLCK" "Read-only file system" \
    'mount -t tmpfs -o size=1m tmpfs "$SMALL"' \
    'mount --bind "$SMALL/work" "$SMALL/work" && mount -o remount,bind,ro "$SMALL/work"'
fi
