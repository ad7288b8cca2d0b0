# Wrong options, broken and hostile surroundings: the command line says one clear line and fails; a
# program gets the right errno; nothing is lost and the lower stays untouched.
. "$HERE/lib/harness.bash"
needs_overlock "bad input" || exit 0
make_fixture
UPPER=$SCRATCH/upper WORK=$SCRATCH/work
export PYTHON

# A configuration that must be refused, by the command line and by the library itself.
refused() { # NAME WORD-IN-THE-MESSAGE OPTIONS [HOW…]
  local name=$1 word=$2 options=$3 status=0 how hows=(cli preload)
  (($# < 4)) || hows=("${@:4}")
  ledger "$T" >"$SCRATCH/before"
  for how in "${hows[@]}"; do
    status=0
    rm -f "$SCRATCH/ran"
    if [[ $how == cli ]]; then
      [[ -x $CLI ]] || { skip "$name (command line)" "no $CLI"; continue; }
      (cd "$T" && timeout -k 5 60 "$CLI" run -o "$options" -- sh -c 'echo x >>README; : >"$0"' "$SCRATCH/ran") \
        >"$SCRATCH/said" 2>&1 || status=$?
    else
      (cd "$T" && OVERLOCK=$options LD_PRELOAD=$LIBRARY timeout -k 5 60 sh -c 'echo x >>README; : >"$0"' "$SCRATCH/ran") \
        >"$SCRATCH/said" 2>&1 || status=$?
    fi
    if ((status == 0)); then
      fail "$name ($how)" "exit status 0"
    elif ((status == 124 || status > 125)); then
      fail "$name ($how)" "exit status $status: $(head -n 2 "$SCRATCH/said" | paste -sd'|')"
    elif [[ -e $SCRATCH/ran ]]; then
      fail "$name ($how)" "the command ran nevertheless"
    elif [[ $(wc -l <"$SCRATCH/said") != 1 ]]; then
      fail "$name ($how)" "not one line: $(head -n 4 "$SCRATCH/said" | paste -sd'|')"
    elif ! grep -qi -- "$word" "$SCRATCH/said"; then
      fail "$name ($how)" "does not say '$word': $(cat "$SCRATCH/said")"
    elif ledger "$T" >"$SCRATCH/after" && ! cmp -s "$SCRATCH/before" "$SCRATCH/after"; then
      fail "$name ($how)" "the lower changed"
    else
      pass "$name ($how)"
    fi
  done
}

place
layers="upperdir=$UPPER,workdir=$WORK"
refused "missing lower" "$SCRATCH/none" "lowerdir=$SCRATCH/none,$layers,target=$T"
refused "a lower that is a file" README "lowerdir=$T/README,$layers,target=$T"
refused "missing upper" "$SCRATCH/none" "lowerdir=$T,upperdir=$SCRATCH/none,workdir=$WORK,target=$T"
refused "missing workdir option" workdir "lowerdir=$T,upperdir=$UPPER,target=$T"
refused "no lowerdir option" lowerdir "$layers,target=$T"
refused "no target option" target "lowerdir=$T,$layers"
refused "missing target" "$SCRATCH/none" "lowerdir=$T,$layers,target=$SCRATCH/none"
# The command makes paths absolute itself.
refused "relative target" absolute "lowerdir=$T,$layers,target=t" preload
refused "misspelt option" uperdir "lowerdir=$T,uperdir=$UPPER,workdir=$WORK,target=$T"
refused "misspelt value" locks "lowerdir=$T,$layers,target=$T,locks=sometimes"
refused "empty options" lowerdir ",,,"
refused "the same directory as upper and workdir" workdir "lowerdir=$T,upperdir=$UPPER,workdir=$UPPER,target=$T"
refused "workdir inside the upper" workdir "lowerdir=$T,upperdir=$UPPER,workdir=$UPPER/w,target=$T"
refused "upper inside the workdir" "upper\|workdir" "lowerdir=$T,upperdir=$WORK/u,workdir=$WORK,target=$T"
refused "the upper is a lower too" "upper" "lowerdir=$T,upperdir=$T,workdir=$WORK,target=$T"
refused "one lower twice" "lower\|layer" "lowerdir=$T:$T,$layers,target=$T"
refused "one lower inside another" "lower\|layer" "lowerdir=$T:$T/src,$layers,target=$T"
mkdir -p "$UPPER/inner"
refused "target inside the upper" "target" "lowerdir=$T,$layers,target=$UPPER/inner"
refused "an option longer than a path may be" "File name too long" "lowerdir=$T,$layers,target=/$(printf 'x%.0s' {1..5000})"

if [[ $(stat -f -c %i /dev/shm) != $(stat -f -c %i "$SCRATCH") ]]; then
  other_system=$(mktemp -d /dev/shm/overlock-workdir.XXXXXX)
  refused "workdir on another file system" workdir "lowerdir=$T,upperdir=$UPPER,workdir=$other_system,target=$T"
  rm -rf "$other_system"
else
  skip "workdir on another file system" "no second file system"
fi

if [[ -x $CLI ]]; then
  name="command line: a command that is missing, and one that fails, give the shell's statuses"
  place
  said=
  for command in "$SCRATCH/no-such-command" /etc/passwd false 'sh -c "exit 7"' 'sh -c "kill -9 \$\$"'; do
    status=0
    eval "cd '$T' && timeout -k 5 60 '$CLI' run -o 'lowerdir=$T,$layers,target=$T' -- $command" >"$SCRATCH/said" 2>&1 || status=$?
    said+="$status "
  done
  if [[ $said == '127 126 1 7 137 ' ]]; then pass "$name"; else fail "$name" "expected 127 126 1 7 137, got $said"; fi
  for arguments in '' 'run' 'run --' 'run -o' 'run --nonsense -- true' 'nonsense'; do
    status=0
    # shellcheck disable=SC2086 # split on purpose
    (cd "$T" && timeout -k 5 60 "$CLI" $arguments </dev/null) >"$SCRATCH/said" 2>"$SCRATCH/err" || status=$?
    if [[ -z $arguments ]] || { ((status != 0 && status != 124 && status <= 125)) && [[ -s $SCRATCH/err ]]; }; then
      pass "command line: overlock $arguments"
    else
      fail "command line: overlock $arguments" "status $status, stderr: $(head -n 2 "$SCRATCH/err" | paste -sd'|')"
    fi
  done
fi

# A program that works step by step while something happens to the registry between the steps.
registry_survives() { # NAME COMMAND (on each registry file, as $1)
  local name=$1 break=$2 without=
  place
  ledger "$T" >"$SCRATCH/before"
  # What is not built yet is left out of the program; the check itself stays.
  has mapped || without+='s/ \$(tail -n 1 <&8)/ y/;'
  sed "$without" >"$SCRATCH/steps" <<'BODY'
exec 8<src/u9.c
exec 9<README; flock -x 9
say() { echo "step $1: $2"; read -r _; }
echo a >>README; rm src/u1.c; mv src/deep deep; say 1 "$(tail -n 1 README) $(ls src | wc -l)"
flock -n README true && echo 'lock lost'
echo b >>README; echo x >src/u2.c; mkdir new; say 2 "$(cat src/u2.c) $(cat deep/er/file) $(ls | wc -l)"
flock -n README true && echo 'lock lost'
rm -r many; mv new newer; echo y >>src/u9.c; say 3 "$(tail -n 2 README | paste -sd' ') $(tail -n 1 <&8) $(ls -d newer)"
sh -c 'echo c >>README; ls | wc -l'
BODY
  coproc STEPS { in_overlay bash -euo pipefail "$SCRATCH/steps" 2>&1; }
  local line got='' pid=$STEPS_PID out in
  # Copies: bash closes its own as soon as the coprocess has ended.
  exec {out}<&"${STEPS[0]}" {in}>&"${STEPS[1]}"
  while IFS= read -r -t 60 line <&"$out"; do
    got+="$line;"
    if [[ $line == step* ]]; then
      find "$REGISTRY" -type f -exec sh -c "$break" sh {} \;
      echo go >&"$in"
    fi
  done
  exec {in}>&- {out}<&-
  local status=0
  wait "$pid" || status=$?
  ledger "$T" >"$SCRATCH/after"
  local want='step 1: a 11;step 2: x deep 18;step 3: a b y newer;17;'
  if [[ $break == *urandom* && $got == *overlock:*registry* ]]; then
    : # programs that start after it may refuse to share what another build seems to have made
  elif [[ $got != "$want" || $status != 0 ]]; then
    fail "$name" "status $status, expected $want got $got"
    return
  fi
  if ! cmp -s "$SCRATCH/before" "$SCRATCH/after"; then
    fail "$name" "lower changed"
  else
    pass "$name"
  fi
}
built "the registry broken while a program reads on what somebody else copied up" mapped || true
registry_survives "the registry left alone" ':'
registry_survives "the registry removed while a program runs" 'rm "$1"'
registry_survives "the registry overwritten with zeros" 'dd if=/dev/zero of="$1" bs=64k count=$(($(stat -c %s "$1") / 65536 + 1)) conv=notrunc status=none; truncate -s "$(stat -c %s "$1")" "$1"'
registry_survives "the registry overwritten with noise" 'head -c "$(stat -c %s "$1")" /dev/urandom | dd of="$1" bs=64k conv=notrunc iflag=fullblock status=none'

# The next program finds a registry that is not one.
for kind in noise empty directory link; do
  place
  rm -rf "${REGISTRY:?}"/*
  in_overlay cat README >/dev/null || true
  case $kind in
    noise) find "$REGISTRY" -type f -exec sh -c 'head -c "$(stat -c %s "$1")" /dev/urandom >"$1.n"; mv "$1.n" "$1"' sh {} \; ;;
    empty) find "$REGISTRY" -type f -exec truncate -s 0 {} \; ;;
    directory) find "$REGISTRY" -type f -exec sh -c 'rm "$1"; mkdir "$1"' sh {} \; ;;
    link) echo precious >"$SCRATCH/precious"; find "$REGISTRY" -type f -exec ln -sf "$SCRATCH/precious" {} \; ;;
  esac
  UNTOUCHED=("$T")
  if [[ $kind == noise || $kind == empty ]]; then
    says "a registry that is $kind when a program starts" "x
gone" <<'BODY'
echo x >>README; tail -n 1 README; rm src/u1.c; [[ -e src/u1.c ]] || echo gone
BODY
  else
    # Either it works or it says so; it must neither follow the link nor write into the lower.
    ledger "$T" >"$SCRATCH/before"
    in_overlay sh -c 'echo x >>README' >"$SCRATCH/said" 2>&1 || true
    ledger "$T" >"$SCRATCH/after"
    if ! cmp -s "$SCRATCH/before" "$SCRATCH/after"; then
      fail "a registry that is a $kind when a program starts" "lower changed; said: $(head -n 1 "$SCRATCH/said")"
    elif [[ $kind == link && $(cat "$SCRATCH/precious") != precious ]]; then
      fail "a registry that is a $kind when a program starts" "the link was followed"
    else
      pass "a registry that is a $kind when a program starts"
    fi
  fi
  rm -rf "${REGISTRY:?}"/*
done

# An upper and workdir that were removed and made anew: often the same inode numbers, so the old
# registry segment is found again.
place
in_overlay sh -c 'echo old >>README; rm -r many src; echo x >new' || true
rm -rf "$UPPER" "$WORK" && mkdir "$UPPER" "$WORK"
UNTOUCHED=("$T")
says "a new upper at the old place remembers nothing" "third line
250
0" <<'BODY'
tail -n 1 README; ls many | wc -l; ls | grep -c '^new$' || true
BODY
in_overlay sh -c 'echo old >>README; rm -r many' || true
rm -rf "${UPPER:?}"/* # by hand, behind the overlay's back, but with nobody in it
says "an upper emptied by hand shows the lower again" "third line
250" <<'BODY'
tail -n 1 README; ls many | wc -l
BODY

if needs_root "disk full" && unshare -m true 2>/dev/null; then
  place
  mkdir -p "$SCRATCH/small"
  cat >"$SCRATCH/full" <<'BODY'
ls="$(ls -l big | awk '{ print $5 }')"
(echo more >>big) 2>"$OUT/e" || sed 's/.*: //' "$OUT/e"
[[ $(stat -c %s big) == "$ls" ]] && cmp -n 2000000 big "$OUT/big" && echo 'big is whole'
(dd if=/dev/zero of=filler bs=64k count=40 2>&1 || true) | grep -o 'No space left on device'
(chmod 600 src/u1.c) 2>/dev/null || true; cat src/u1.c | wc -l
rm -f filler; rm -r many; echo small >>README && tail -n 1 README; cat src/u1.c | wc -l
ls many 2>/dev/null | wc -l
find . -type f -size -2000k -newer "$OUT/big" | sort
BODY
  cp -p "$T/big" "$OUT/big"
  ledger "$T" >"$SCRATCH/before"
  status=0
  (cd "$T" && LIMIT_S=60 timeout -k 5 90 unshare -m bash -c '
    mount -t tmpfs -o size=512k,mode=755 tmpfs "$SCRATCH/small" && mkdir "$SCRATCH/small/u" "$SCRATCH/small/w" &&
    OVERLOCK="lowerdir=$T,upperdir=$SCRATCH/small/u,workdir=$SCRATCH/small/w,target=$T,registry=$REGISTRY" LD_PRELOAD=$LIBRARY bash -uo pipefail "$SCRATCH/full"; echo "partial:$(find "$SCRATCH/small/u" -name big)"') \
    >"$SCRATCH/said" 2>&1 || status=$?
  ledger "$T" >"$SCRATCH/after"
  want='No space left on device|big is whole|No space left on device|2|small|2|0|./README|partial:'
  got=$(grep -v '^./src/u1.c$' "$SCRATCH/said" | paste -sd'|')
  if [[ $got != "$want" ]]; then
    fail "disk full: ENOSPC, the lower file stays visible, nothing half-copied" "expected $want got $got"
  elif ! cmp -s "$SCRATCH/before" "$SCRATCH/after"; then
    fail "disk full: ENOSPC, the lower file stays visible, nothing half-copied" "lower changed"
  else
    pass "disk full: ENOSPC, the lower file stays visible, nothing half-copied"
  fi
fi

# As somebody else: needs a scratch directory that nobody may enter.
if needs_root "an upper that may not be written" && needs_program "an upper that may not be written" setpriv; then
  open=$(mktemp -d /var/tmp/overlock-programs.XXXXXX)
  chmod 755 "$open"
  cp -a "$FIXTURE" "$open/t"
  mkdir "$open/upper" "$open/work" "$open/registry" "$open/build"
  cp "$LIBRARY" "$open/build/"
  chown 65534:65534 "$open/registry" && chmod 700 "$open/registry"
  as_nobody() {
    (cd "$open/t" && timeout -k 5 60 setpriv --reuid 65534 --regid 65534 --clear-groups env \
      OVERLOCK="lowerdir=$open/t,upperdir=$open/upper,workdir=$open/work,target=$open/t,registry=$open/registry" \
      LD_PRELOAD="$open/build/$(basename "$LIBRARY")" "$@")
  }
  ledger "$open/t" >"$SCRATCH/before"
  status=0
  as_nobody sh -c 'tail -n 1 README; echo x >>README' >"$SCRATCH/said" 2>&1 || status=$?
  ledger "$open/t" >"$SCRATCH/after"
  if ((status == 0)); then
    fail "an upper that may not be written" "exit status 0"
  elif ! grep -qiE 'permission|read-only|upper|workdir' "$SCRATCH/said"; then
    fail "an upper that may not be written" "said: $(paste -sd'|' "$SCRATCH/said")"
  elif ! cmp -s "$SCRATCH/before" "$SCRATCH/after"; then
    fail "an upper that may not be written" "lower changed"
  else
    pass "an upper that may not be written"
  fi

  # An ordinary user with an ordinary upper, on a lower of his own: the everyday case without root.
  chown -R 65534:65534 "$open/t" "$open/upper" "$open/work"
  ledger "$open/t" >"$SCRATCH/before"
  status=0
  as_nobody bash -euc 'echo x >>README; rm -r many src/u1.c; mkdir many; mv src source; ls many | wc -l; tail -n 1 README; ls source | wc -l; chmod 0 doc/locked; cat doc/locked 2>&1 | sed "s/.*: //"' \
    >"$SCRATCH/said" 2>&1 || status=$?
  as_nobody ls many source >>"$SCRATCH/said" 2>&1 || status=$?
  ledger "$open/t" >"$SCRATCH/after"
  got=$(head -n 4 "$SCRATCH/said" | paste -sd'|')
  if [[ $got != '0|x|12|Permission denied' || $status != 0 ]]; then
    fail "an ordinary user: whiteouts, opaque and renamed directories" "status $status: $(head -n 6 "$SCRATCH/said" | paste -sd'|')"
  elif ! cmp -s "$SCRATCH/before" "$SCRATCH/after"; then
    fail "an ordinary user: whiteouts, opaque and renamed directories" "lower changed"
  else
    pass "an ordinary user: whiteouts, opaque and renamed directories"
  fi

  if unshare -m sh -c 'mount -t ramfs none "$1"' sh "$open/upper" 2>/dev/null; then
    status=0
    export open LIBRARY
    (cd "$open/t" && timeout -k 5 60 unshare -m bash -c '
      mount -t ramfs none "$open/upper" && mkdir "$open/upper/u" "$open/upper/w" && chown -R 65534:65534 "$open/upper"
      exec setpriv --reuid 65534 --regid 65534 --clear-groups env \
        OVERLOCK="lowerdir=$open/t,upperdir=$open/upper/u,workdir=$open/upper/w,target=$open/t,registry=$open/registry" \
        LD_PRELOAD="$open/build/$(basename "$LIBRARY")" sh -c "echo x >>README; rm -r many"') >"$SCRATCH/said" 2>&1 || status=$?
    ledger "$open/t" >"$SCRATCH/after"
    if ! cmp -s "$SCRATCH/before" "$SCRATCH/after"; then
      fail "an upper without user xattrs is said at start" "lower changed"
    elif [[ $(grep -ci 'xattr\|extended attribute' "$SCRATCH/said") == 0 ]]; then
      fail "an upper without user xattrs is said at start" "status $status, said: $(head -n 2 "$SCRATCH/said" | paste -sd'|')"
    else
      pass "an upper without user xattrs is said at start"
    fi
  else
    skip "an upper without user xattrs is said at start" "cannot mount a ramfs"
  fi
  rm -rf "$open"
fi

# Programs that the preload cannot reach must not write into the lower without a word.
if needs_program "a static program" gcc; then
  place
  if printf '#include <fcntl.h>\n#include <unistd.h>\nint main(void) { int fd = open("README", O_WRONLY | O_APPEND); return write(fd, "static\\n", 7) != 7; }\n' |
    gcc -static -xc - -o "$AUX/static" 2>/dev/null; then
    ledger "$T" >"$SCRATCH/before"
    status=0
    in_overlay sh -c "'$AUX/static'" >"$SCRATCH/said" 2>&1 || status=$?
    ledger "$T" >"$SCRATCH/after"
    if ((status != 126)) || [[ ! -s $SCRATCH/said ]]; then
      fail "a static program is refused (EACCES) with a line on stderr" "status $status: $(head -n 2 "$SCRATCH/said" | paste -sd'|')"
    elif ! cmp -s "$SCRATCH/before" "$SCRATCH/after"; then
      fail "a static program is refused (EACCES) with a line on stderr" "it wrote into the lower"
    else
      pass "a static program is refused (EACCES) with a line on stderr"
    fi
  else
    skip "a static program" "no static libc to link with"
  fi
fi

# Others that a preload does not reach, told by their files alone: each is refused, with a line that says why.
if needs_program "programs out of reach" gcc; then
  place
  echo 'int main(void) { return 0; }' >"$SCRATCH/nothing.c"
  cat >"$SCRATCH/note.s" <<'ASM'
.section .note.go.buildid, "a", @note
.long 4, 4, 4
.asciz "Go\0"
.long 0
.section .note.GNU-stack, "", @progbits
ASM
  out_of_reach() { # NAME WORDS COMPILER-ARGUMENT…
    local name=$1 words=$2 status=0
    shift 2
    gcc "$SCRATCH/nothing.c" "$@" -o "$AUX/strange" 2>"$SCRATCH/said" ||
      { fail "$name" "$(head -n 1 "$SCRATCH/said")"; return; }
    in_overlay sh -c "'$AUX/strange'" >"$SCRATCH/said" 2>&1 || status=$?
    if ((status == 126)) && grep -q "$words" "$SCRATCH/said"; then pass "$name"; else
      fail "$name" "status $status: $(paste -sd'|' "$SCRATCH/said")"
    fi
  }
  out_of_reach "a Go program that is linked to libc is refused" "a Go program" "$SCRATCH/note.s"
  out_of_reach "a program for musl is refused" "another architecture or libc" -Wl,--dynamic-linker=/lib/ld-musl-x86_64.so.1
fi
