# That no call reaches a lower behind the overlay's back, and that none of ours brings its host down:
# small programs that do what real ones do seldom (lib/untouched.c), each a fault that was met once.
. "$HERE/lib/harness.bash"
needs_program "calls that could reach a lower" gcc || exit 0
make_fixture
(
  cd "$FIXTURE"
  mkdir 'd (deleted)'
  echo d | tee 'n (deleted)' 'm (deleted)' >'d (deleted)/f'
  find . -depth -exec touch -h -d '2020-02-03 04:05:06.123456789' {} +
)
gcc -O1 -Wall -Werror "$HERE/lib/untouched.c" -o "$AUX/untouched"

alike() { # CASE NAME
  like_plain "$2" <<<"\"\$AUX/untouched\" $1 \"\$OUT\""
}
alike remembered "a path that led to nothing a moment ago, and now leads into a lower"
alike proc "paths through /proc into a lower"
alike descriptor-link "a link made from a descriptor of a lower file"
alike deleted-names "names that end as /proc marks removed files"
alike by-number "fchmodat2 and younger calls by number"
alike rewinding "entries of a directory stream stay readable over rewinddir"
alike seeking "a merged directory's position is moved too far"
alike bad-pointers "paths in the page that is never mapped"
alike reused-names "attributes set through a descriptor whose name is another file's"
alike failed-bind "a bind that fails leaves no name behind"
alike longer-how "openat2 with a longer struct than is known"
alike moved-start "a relative path that starts in a directory outside which is renamed"
alike restrictions "openat2 with RESOLVE_BENEATH, RESOLVE_IN_ROOT and their kin"
alike by-libc "files that libc opens by a path of the caller's"
printf 'int main(void) { return 0; }\n' | gcc -pg -xc - -o "$AUX/profiled"
ignoring=gmon.out like_plain "the profile of a program built with -pg" <<'BODY'
cd src; "$AUX/profiled"; stat -c '%a %s' gmon.out
cd deep; "$AUX/profiled"; "$AUX/profiled"; ls
GMON_OUT_PREFIX=../../many/gmon.out "$AUX/profiled"; ls ../../many | grep -c 'gmon\.out\.'
GMON_OUT_PREFIX=$PWD/gmon.out.x "$AUX/profiled"; ls | wc -l
rm gmon.out; "$AUX/profiled"; ls gmon.out
BODY
name="handles of lower files"
if needs_root "$name"; then alike handles "$name"; fi
name="descriptors of high numbers"
if needs_root "$name"; then alike high-descriptors "$name"; fi
name="ioctl requests that change an inode through a read-only descriptor"
inodes() { lsattr -Rv "$T" 2>/dev/null | sort; } # the generation and the flags, which the ledger has not
if needs_program "$name" lsattr; then
  alike requests "$name"
  place
  inodes >"$SCRATCH/inodes"
  in_overlay "$AUX/untouched" requests "$OUT" >/dev/null
  if [[ $WORLD == plain ]] || inodes | cmp -s "$SCRATCH/inodes" -; then
    pass "$name: generation and flags of the lower"
  else
    fail "$name: generation and flags of the lower" \
      "$(inodes | diff "$SCRATCH/inodes" - | grep '^[<>]' | head -n 2 | paste -sd'|')"
  fi
fi

# What a plain directory does not have: a lower that is not the target, links that must not be made.
if needs_overlock "descriptors of lowers that came through exec"; then
  L=$SCRATCH/l
  apart() {
    rm -rf "$L" && mkdir -p "$L"/{a,b/dir,upper,work,t}
    echo f >"$L/b/f"
    echo x >"$L/b/dir/x"
    find "$L/b" -depth -exec touch -h -d '2020-02-03 04:05:06.123456789' {} +
    UNTOUCHED=("$L/a" "$L/b")
  }
  answers='fchmod: ok
futimens: ok
open /proc/self/fd/3: ok
openat new: ok
unlinkat x: ok
fstatat x: ENOENT
fchmod of the directory: ok
fchdir: ok
mkdir: ok
open by the working directory: ok
chmod .: ok
rename: ok
600 f
750 dir
made new newest
f added'
  after='stat -c "%a %n" f dir; ls dir | paste -sd" "; paste -sd" " f'
  for kind in 't:b' 'a:a:b'; do
    apart
    OVERLAYS=("lowerdir=$(sed "s|:|:$L/|g; s|^|$L/|" <<<"${kind#*:}"),upperdir=$L/upper,workdir=$L/work,target=$L/${kind%%:*}")
    says "descriptors of a lower that came through exec (lower ${kind#*:}, target ${kind%%:*})" "$answers" \
      <<<"(exec 3<f 4<dir; exec \"\$AUX/untouched\" inherited \"\$OUT\"); $after"
    apart
    exec 3<"$L/b/f" 4<"$L/b/dir"
    says "descriptors of a lower that its starter opened (lower ${kind#*:}, target ${kind%%:*})" "$answers" \
      <<<"\"\$AUX/untouched\" inherited \"\$OUT\"; $after"
    exec 3<&- 4<&-
  done
fi

if needs_overlock "a link outside to a lower file"; then
  place
  UNTOUCHED=("$T")
  says "a lower file gets no link outside" "linkat: EXDEV
open: ENOENT" <<<'"$AUX/untouched" descriptor-link-outside "$OUT"'
fi

name="a failed rename of a directory leaves no wrong note"
if needs_overlock "$name" && needs_program "$name" chattr; then
  place
  mkdir "$SCRATCH/upper/src"
  if chattr +i "$SCRATCH/upper/src" 2>/dev/null; then
    chattr -i "$SCRATCH/upper/src"
    UNTOUCHED=("$T")
    says "$name" "chdir: ok
rename: EPERM
openat: ok
/deep
open: ok
other notes: 0" <<'BODY'
echo x >src/deep/made
chattr +i "$SCRATCH/upper/src"
status=0
"$AUX/untouched" failed-rename "$OUT" || status=$?
chattr -i "$SCRATCH/upper/src"
# One that says where the directory still is does no harm.
echo "other notes: $(find "$SCRATCH/work/overlock/moved" -mindepth 1 ! -lname src/deep | wc -l)"
exit $status
BODY
    chattr -i "$SCRATCH/upper/src"
  else
    skip "$name" "chattr +i does not work here"
  fi
fi
