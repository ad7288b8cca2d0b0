# Overlays that a plain directory cannot be compared with: several lowers with whiteouts and opaque
# directories in the kernel's format, two overlays at once, no upper, very many lowers, target=/.
. "$HERE/lib/harness.bash"

L=$SCRATCH/l
fresh() { # DIRECTORY…: empty directories below $L, and nothing else there
  rm -rf "$L" && mkdir -p "$L"
  local d
  for d; do mkdir -p "$L/$d"; done
}
# The kernel reads trusted.* for root and user.* (mount option userxattr) otherwise; so does Overlock.
opaque() {
  "$PYTHON" -c 'import os, sys
name = "trusted" if os.getuid() == 0 else "user"
os.setxattr(sys.argv[1], name + ".overlay.opaque", b"y")' "$1"
}

if needs_layers "three lowers: upper ones win, whiteouts hide, opaque directories cut off"; then
  fresh a b c upper work t
  mkdir -p "$L"/{a,b,c}/dir "$L"/{b,c}/cut/deep "$L/c/gone"
  echo a >"$L/a/f"; echo b | tee "$L/b/f" "$L/b/g" "$L/b/dir/b" >"$L/b/cut/b"
  echo c | tee "$L/c/f" "$L/c/g" "$L/c/h" "$L/c/hidden" "$L/c/dir/c" "$L/c/cut/c" "$L/c/gone/x" "$L/c/turned" >"$L/c/cut/deep/c"
  echo a >"$L/a/dir/a"; mkdir "$L/a/turned" && echo a >"$L/a/turned/into-a-directory"
  if mknod "$L/a/hidden" c 0 0 2>/dev/null && mknod "$L/b/gone" c 0 0; then
    opaque "$L/b/cut"
    OVERLAYS=("lowerdir=$L/a:$L/b:$L/c,upperdir=$L/upper,workdir=$L/work,target=$L/t")
    UNTOUCHED=("$L/a" "$L/b" "$L/c")
    says "three lowers: upper ones win, whiteouts hide, opaque directories cut off" \
      ". ./cut ./cut/b ./cut/deep ./dir ./dir/a ./dir/b ./dir/c ./f ./g ./h ./turned ./turned/into-a-directory
a b c a
no hidden, no gone" <<'BODY'
find . | sort | paste -sd' '
cat f g h dir/a | paste -sd' '
[[ ! -e hidden && ! -e gone/x && ! -e cut/c ]] && echo 'no hidden, no gone'
BODY
    says "three lowers: changes through every layer, seen by the same process" \
      "new c2
dir: a b2 c
cut: 
anew: x
c
x2" <<'BODY'
echo new >hidden; echo c2 >>h; echo "$(cat hidden) $(tail -n 1 h)"
rm dir/b; echo x >dir/b2; echo "dir: $(ls dir | paste -sd' ')"
rm -r cut; mkdir cut; echo "cut: $(ls -A cut)"
mkdir gone && echo x >gone/x && mv gone anew && echo "anew: $(ls anew)"
rm f
[[ ! -e f ]]
mv g f
cat f | sed s/b/c/
mv dir/c dir/c2 && rm -r dir/a
mv anew/x dir/
echo 2 | tr -d '\n' >n
paste -d '' dir/x n
rm n
BODY
    says "three lowers: the next process sees the same" "./anew ./cut ./dir ./dir/b2 ./dir/c2 ./dir/x ./f ./h ./hidden ./turned ./turned/into-a-directory" <<'BODY'
find . -mindepth 1 | sort | paste -sd' '
BODY
  else
    skip "three lowers: upper ones win, whiteouts hide, opaque directories cut off" "no right to make a whiteout"
  fi
fi

# Two unions that use one upper in turn count the links of the lower's hard-link group each in its
# own way: without the capability, its counts are left out.
shared_view() {
  if has shared-links; then cat; else awk '$7 ~ /^hard[12]$/ { $5 = "-" } { print }'; fi
}
if needs_layers "the upper reads back the same in the kernel's own overlayfs" &&
  needs_root "the upper reads back the same in the kernel's own overlayfs"; then
  make_fixture
  place
  UNTOUCHED=("$T")
  cat >"$SCRATCH/body" <<'BODY'
rm -r many src/u1.c
mkdir many
echo x >many/x
echo y >>README
mv src/u2.c doc/
rm hard1
ln README r
mkfifo src/p
ln -sfn doc linkdir
chmod 700 doc
rmdir empty-dir
mv src/deep .
BODY
  run_body "$SCRATCH/o" in_overlay
  in_overlay bash -c "$view_raw" 2>&1 | view_normal | shared_view >"$SCRATCH/here"
  WORLD=kernel in_overlay bash -c "$view_raw" 2>&1 | view_normal | shared_view >"$SCRATCH/kernel"
  if ! grep -qx 'exit status 0' "$SCRATCH/o.out"; then
    fail "the upper reads back the same in the kernel's own overlayfs" "$(paste -sd'|' "$SCRATCH/o.out")"
  elif cmp -s "$SCRATCH/here" "$SCRATCH/kernel"; then
    pass "the upper reads back the same in the kernel's own overlayfs"
  else
    fail "the upper reads back the same in the kernel's own overlayfs" "$(first_difference "$SCRATCH/kernel" "$SCRATCH/here" | sed 's/plain:/kernel:/g')"
  fi
  if [[ $WORLD == overlock ]]; then
    place
    WORLD=kernel run_body "$SCRATCH/o" in_overlay
    WORLD=kernel in_overlay bash -c "$view_raw" 2>&1 | view_normal | shared_view >"$SCRATCH/kernel"
    in_overlay bash -c "$view_raw" 2>&1 | view_normal | shared_view >"$SCRATCH/here"
    if cmp -s "$SCRATCH/here" "$SCRATCH/kernel"; then
      pass "an upper written by the kernel's overlayfs reads the same here"
    else
      fail "an upper written by the kernel's overlayfs reads the same here" "$(first_difference "$SCRATCH/kernel" "$SCRATCH/here" | sed 's/plain:/kernel:/g')"
    fi
  fi
  built "link counts of an upper that both use in turn" shared-links || true
fi

if needs_layers "two overlays in one process"; then
  fresh one two u1 w1 u2 w2
  echo one | tee "$L/one/f" >"$L/one/only"; echo two >"$L/two/f"; mkdir "$L/one/d"
  ln -s "$L/two/f" "$L/one/across"
  OVERLAYS=("lowerdir=$L/one,upperdir=$L/u1,workdir=$L/w1,target=$L/one"
    "lowerdir=$L/two,upperdir=$L/u2,workdir=$L/w2,target=$L/two")
  UNTOUCHED=("$L/one" "$L/two")
  export L
  says "two overlays in one process: copies, links and moves between them" "one
one
two
two more
one more
Invalid cross-device link
gone
one" <<'BODY'
cp f ../two/from-one; cat ../two/from-one; cat only
cat across; echo more | sed 's/^/two /' >>across; tail -n 1 ../two/f
echo 'one more' >>"$L/one/f"; tail -n 1 f
ln only ../two/only 2>&1 | sed 's/.*: //' || true
mv only ../two/moved
[[ -e only ]] || echo gone
cat "$L/two/moved"
mv ../two/moved only
mv d ../two/
ls -A ../two >/dev/null
BODY
  says "two overlays in one process: each wrote into its own upper" "one/only two/d two/f two/from-one" <<'BODY'
cd ..; for n in one two; do for f in only d moved f from-one; do [[ -e $n/$f && ! ( $n == one && ( $f == f ) ) ]] && echo "$n/$f"; done; done | sort | paste -sd' ' 
BODY
fi

if needs_layers "two overlays over one lower"; then
  fresh low u1 w1 u2 w2 t1 t2
  echo low >"$L/low/f"
  OVERLAYS=("lowerdir=$L/low,upperdir=$L/u1,workdir=$L/w1,target=$L/t1"
    "lowerdir=$L/low,upperdir=$L/u2,workdir=$L/w2,target=$L/t2")
  UNTOUCHED=("$L/low")
  says "two overlays over one lower are independent" "low
low
x1
x2
low" <<'BODY'
cat f ../t2/f; echo x1 >f; rm ../t2/f; echo x2 >../t2/f; cat f ../t2/f ../low/f
BODY
fi

if needs_layers "no upper: a read-only overlay"; then
  fresh a b t
  echo a >"$L/a/f"; echo b >"$L/b/g"; mkdir "$L/b/d"
  OVERLAYS=("lowerdir=$L/a:$L/b,target=$L/t")
  UNTOUCHED=("$L/a" "$L/b")
  export PYTHON
  says "no upper: reading works, every change is EROFS" "d f g
EROFS open-write
EROFS open-create
EROFS open-truncate
EROFS mkdir
EROFS unlink
EROFS rmdir
EROFS rename
EROFS link
EROFS symlink
EROFS chmod
EROFS utime
EROFS truncate
EROFS setxattr
EEXIST open-excl
EROFS unlink-missing
writable False True" <<'BODY'
ls | paste -sd' '
"$PYTHON" - <<'PY'
import errno, os
def t(name, f):
    try: f(); print("no error", name)
    except OSError as e: print(errno.errorcode[e.errno], name)
t("open-write", lambda: os.open("f", os.O_WRONLY))
t("open-create", lambda: os.open("n", os.O_WRONLY | os.O_CREAT))
t("open-truncate", lambda: os.open("f", os.O_RDWR | os.O_TRUNC))
t("mkdir", lambda: os.mkdir("n"))
t("unlink", lambda: os.unlink("f"))
t("rmdir", lambda: os.rmdir("d"))
t("rename", lambda: os.rename("f", "n"))
t("link", lambda: os.link("f", "n"))
t("symlink", lambda: os.symlink("f", "n"))
t("chmod", lambda: os.chmod("f", 0o600))
t("utime", lambda: os.utime("f"))
t("truncate", lambda: os.truncate("f", 0))
t("setxattr", lambda: os.setxattr("f", "user.x", b""))
t("open-excl", lambda: os.open("f", os.O_WRONLY | os.O_CREAT | os.O_EXCL))
t("unlink-missing", lambda: os.unlink("n"))
print("writable", os.access("f", os.W_OK), os.access("f", os.R_OK))
PY
BODY
fi

if needs_layers "500 lowers"; then
  fresh upper work t
  lowers=
  for i in {1..500}; do
    mkdir -p "$L/$i/d"
    echo "$i" | tee "$L/$i/f$i" "$L/$i/d/f$i" >"$L/$i/top"
    lowers+=:$L/$i
  done
  OVERLAYS=("lowerdir=${lowers#:},upperdir=$L/upper,workdir=$L/work,target=$L/t")
  if [[ $WORLD == kernel ]]; then
    skip "500 lowers" "mount options of this length do not fit the kernel's one page"
  else
    UNTOUCHED=("$L/1" "$L/250" "$L/500")
    says "500 lowers" "1
500
1000
502
changed
501
gone" <<'BODY'
cat top f500
cat f* d/* | wc -l
ls | wc -l
echo changed >f500
cat f500
rm d/f77 d/f500
touch d/x d/y d/z
ls d | wc -l
[[ -e d/f77 ]] || echo gone
BODY
  fi
fi

if needs_overlock "target=/"; then
  # A library that is broken would work on the real root: what exists and is changed here are files
  # of our own, and /etc gets a new name only after a first write is seen to have been caught.
  fresh upper work victim
  sentinel=/etc/overlock-test-$$
  trap 'rm -f "$sentinel"' EXIT
  echo real | tee "$L/victim/changed" >"$L/victim/removed"
  OVERLAYS=("lowerdir=/,upperdir=$L/upper,workdir=$L/work,target=/")
  UNTOUCHED=("$L/victim")
  export sentinel L
  in_overlay sh -c 'echo x >"$L/victim/canary"' >"$SCRATCH/said" 2>&1 || true
  if [[ -e $L/victim/canary || ! -e $L/upper$L/victim/canary ]]; then
    fail "target=/: changes anywhere, the lower untouched" "the first write did not go to the upper: $(head -n 1 "$SCRATCH/said")"
  else
    before=$(stat -c '%Y %Z %s %i' /etc)
    says "target=/: changes anywhere, the lower untouched" "x
/
overlay
removed
x" <<'BODY'
echo x >"$sentinel"; cat "$sentinel"; pwd
echo overlay >"$L/victim/changed"; cat "$L/victim/changed"
rm "$L/victim/removed"; [[ -e $L/victim/removed ]] || echo removed
cd /etc && sh -c 'cat ./"${sentinel##*/}"'
BODY
    if [[ -e $sentinel || $(stat -c '%Y %Z %s %i' /etc) != "$before" ]]; then
      fail "target=/: the real /etc is unchanged" "it is not"
    else
      pass "target=/: the real /etc is unchanged"
    fi
    if needs_program "target=/: compile and run" gcc; then
      says "target=/: compile and run" "built in the root overlay" <<'BODY'
cd "$L/victim"
printf '#include <stdio.h>\nint main(void) { puts("built in the root overlay"); }\n' >m.c && gcc -o m m.c && ./m
BODY
    fi
  fi
fi

if needs_overlock "segments: those of overlays that are no more go when another is made"; then
  fresh a b c
  segments=$SCRATCH/segments
  mkdir -m 700 "$segments"
  in_one() { # NAME: some program in an overlay of its own, whose segment is in $segments
    mkdir -p "$L/$1"/{lower,upper,work}
    OVERLOCK="lowerdir=$L/$1/lower,upperdir=$L/$1/upper,workdir=$L/$1/work,target=$L/$1/lower,registry=$segments" \
      LD_PRELOAD="$LIBRARY" "$(type -P true)"
  }
  count() { find "$segments" -type f | wc -l; }
  in_one a; in_one b
  found="$(count)"
  living=$(find "$segments" -type f)
  in_one c
  found+=" $(count)"
  rm -rf "$L/a"
  # Another directory under the same name is another overlay.
  mv "$L/b/upper" "$L/b/moved"; mkdir "$L/b/upper"
  touch "$segments/0123456789abcdef.1.2"
  touch -d '1 hour ago' "$segments/0123456789abcdef.1.1"
  in_one d
  found+=" $(find "$segments" -type f | grep -cF "$living" || true) $(count)"
  in_one c; in_one d
  found+=" $(count)"
  [[ $found == "2 3 0 3 3" ]] &&
    pass "segments: those of overlays that are no more go when another is made" ||
    fail "segments: those of overlays that are no more go when another is made" "counted $found"
  rm -rf "$segments"
fi

# What one segment has not heard of is seen by the look that its first comer takes.
name="two registries in turn: a copy that was kept under the one goes under the other"
if needs_overlock "$name"; then
  fresh lower upper work
  echo old >"$L/lower/f"; echo k >"$L/lower/k"
  mkdir -m 700 "$SCRATCH/registry-a" "$SCRATCH/registry-b"
  OVERLAYS=("lowerdir=$L/lower,upperdir=$L/upper,workdir=$L/work,target=$L/lower")
  in_registry() { # a|b PROGRAM
    REGISTRY=$SCRATCH/registry-$1 in_overlay bash -c "$2"
  }
  kept() { find "$L/work/overlock/kept" -type f 2>/dev/null | wc -l; }
  in_registry a 'cat k' >"$SCRATCH/said" 2>&1
  in_registry b 'exec 9<f; echo new >>f; rm f; cat <&9' >>"$SCRATCH/said" 2>&1
  found=$(kept)
  in_registry a 'cat k' >>"$SCRATCH/said" 2>&1
  [[ "$found $(kept)" == "1 0" && $(<"$SCRATCH/said") == $'k\nold\nnew\nk' ]] &&
    pass "$name" || fail "$name" "kept $found, then $(kept); $(<"$SCRATCH/said")"
  rm -rf "$SCRATCH/registry-a" "$SCRATCH/registry-b"
fi

# Each run is a program that comes from outside; in between somebody works on the layers themselves.
name="what is changed in the layers while nobody is in the overlay is seen"
if needs_overlock "$name"; then
  fresh a b upper work
  mkdir "$L/b/src"
  echo low | tee "$L/b/src/f" >"$L/b/README"
  OVERLAYS=("lowerdir=$L/a:$L/b,upperdir=$L/upper,workdir=$L/work,target=$L/b")
  from_outside() { { in_overlay bash -c "$1" || true; } 2>&1 | sed "s#^.*: #error: #" >>"$SCRATCH/said"; }
  : >"$SCRATCH/said"
  from_outside 'cat src/new'
  echo new >"$L/b/src/new"
  from_outside 'cat src/new; echo up >src/f; rm README; mkdir -p made/deep; echo x >made/deep/x'
  echo edited >"$L/upper/src/f"; rm "$L/upper/README"
  from_outside 'cat src/f README'
  rm -rf "$L/upper/src" "$L/upper/made"
  from_outside 'echo more >>src/f; cat src/f; ls'
  mkdir "$L/a/made"; echo of a lower >"$L/a/made/y"; rm "$L/b/src/new"
  from_outside 'ls -A made src; cat made/y'
  rm -rf "${L:?}"/upper/* "${L:?}"/work/*
  from_outside 'cat src/f; echo again >>src/f; mv src moved; cat moved/f'
  expected="error: No such file or directory|new|edited|low|low|more|README|src|made:|y||src:|f|of a lower|low|low|again"
  found=$(paste -sd'|' "$SCRATCH/said")
  [[ $found == "$expected" ]] && pass "$name" || fail "$name" "expected $expected got $found"
fi
