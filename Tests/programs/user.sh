# An ordinary user: without root an overlay keeps its marks in user.* xattrs, may give no files away,
# and its own rights are what the kernel checks. In a lower of the user's own everything has to work;
# in one that is somebody else's everything has to be refused that a plain directory refuses.
. "$HERE/lib/harness.bash"
[[ $WORLD != kernel ]] || { skip "user" "a user cannot mount the kernel's overlay here"; exit 0; }

USER_ID=12345
AS_USER=()
if [[ $(id -u) == 0 ]]; then
  needs_program "user" setpriv || exit 0
  AS_USER=(setpriv --reuid "$USER_ID" --regid "$USER_ID" --clear-groups)
  # What the user has to reach: the scratch directory, the library, a registry of his own.
  chmod 755 "$SCRATCH"
  if [[ $WORLD == overlock ]]; then
    install -m 755 "$LIBRARY" "$SCRATCH/liboverlock.so"
    LIBRARY=$SCRATCH/liboverlock.so
  fi
  REGISTRY=$(mktemp -d /dev/shm/overlock-programs-user.XXXXXX)
  trap 'rm -rf "$REGISTRY"' EXIT
  chown "$USER_ID:$USER_ID" "$REGISTRY"
  export HOME=$SCRATCH/user-home
  mkdir -p "$HOME"
  chown "$USER_ID:$USER_ID" "$HOME"
fi
# The interpreter that the harness found may stand where only root can go (setpriv itself still can).
"${AS_USER[@]}" bash -c '"$PYTHON" -c ""' 2>/dev/null || PYTHON=/usr/bin/python3
export PYTHON

in_plain() { (cd "$T" && exec timeout -k 5 "$LIMIT_S" "${AS_USER[@]}" "$@"); }
in_overlay() {
  [[ $WORLD == overlock ]] || { in_plain "$@"; return; }
  (
    cd "$T" || exit 125
    exec timeout -k 5 "$LIMIT_S" "${AS_USER[@]}" \
      env OVERLOCK="${OVERLAYS[0]},registry=$REGISTRY" LD_PRELOAD="$LIBRARY" "$@"
  )
}
# The trees are compared as the user sees them, in both worlds.
export VIEW="($view_raw) 2>&1 || true"
# shellcheck disable=SC2016,SC2034 # expanded later, by the harness
view_raw='if [ "$(id -u)" = 0 ]; then
  exec setpriv --reuid '$USER_ID' --regid '$USER_ID' --clear-groups bash -c "$VIEW"
fi
eval "$VIEW"'
eval "$(declare -f place | sed '1s/place/place_files/')"
place() {
  place_files
  ((${#AS_USER[@]})) || return 0
  chown "$USER_ID:$USER_ID" "$SCRATCH/upper" "$SCRATCH/work" "$OUT"
}
owned_by_user() { ((${#AS_USER[@]} == 0)) || chown -hR "$USER_ID:$USER_ID" "$FIXTURE"; }

make_fixture
owned_by_user

like_plain "user: copies, moves, links and removals in a lower of his own" <<'BODY'
cp -a src copy && mv src moved && ln -s moved src && ls src/
tar -cf - copy many | tar -tf - | sort | sha256sum
mv hard1 hard3 && ln hard3 hard4 && stat -c '%h %n' hard*
echo more >>README && sed -i s/first/1st/ README && cat README
find . -name '*.txt' | sort | sha256sum
rm -rf many doc && mkdir many && ls -A many
mv linkdir doc && readlink doc && rm -f fifo && mkfifo fifo
rm -rf copy moved && ls -A
BODY

like_plain "user: tar unpacks over what is there" <<'BODY'
tar -cf "$OUT/all.tar" .
rm -rf many src
echo changed >README
tar -xf "$OUT/all.tar" && rm "$OUT/all.tar"
cat README && ls many | wc -l
BODY

like_plain "user: his own files whatever their mode, his own directories that are read-only" <<'BODY'
mkdir shut && echo kept >shut/file && chmod 000 shut/file && echo two >shut/other && chmod 555 shut
chmod 000 README && chmod 555 src src/deep doc
BODY
# The same modes in the lower, where they were before the program came.
chmod 000 "$FIXTURE/README"
chmod 200 "$FIXTURE/hard1"
chmod 555 "$FIXTURE"/{src,src/deep,doc}
"${AS_USER[@]}" unshare -U true 2>/dev/null &&
  like_plain "user: a lower's files whatever their mode" <<'BODY'
cat README 2>&1 || true
stat -c '%a %h %s' README hard1 hard2
mv README LIESMICH && ln LIESMICH third && touch -d 2001-01-01 third
chmod u+r LIESMICH && cat third
echo more >>hard2 && chmod 600 hard1 && cat hard1
chmod 600 doc/locked && echo new >>doc/locked && cat doc/locked
touch doc/new 2>&1 || true
rm doc/locked 2>&1 || true
rmdir doc 2>&1 || true
chmod -R u+w src && rm -rf src && ls -A
BODY

make_fixture
owned_by_user
like_plain "user: links and special files stay the same objects" <<'BODY'
"$PYTHON" - <<'PYTHON'
import os
def same(before, path):
    after = os.lstat(path)
    print(path, before.st_ino == after.st_ino, after.st_nlink, after.st_mode)
for path in ("link", "fifo"):
    before = os.lstat(path)
    os.utime(path, ns=(5, 5), follow_symlinks=False)
    same(before, path)
    os.rename(path, f"{path}2")
    same(before, f"{path}2")
    os.link(f"{path}2", f"{path}3", follow_symlinks=False)
    same(before, f"{path}3")
    os.unlink(f"{path}2")
    same(before, f"{path}3")
    print([entry.inode() == before.st_ino for entry in os.scandir(".") if entry.name == f"{path}3"])
PYTHON
BODY

like_plain "user: attributes by descriptor hold for what is below at once" <<'BODY'
stat -c %s src/deep/er/file
"$PYTHON" - <<'PYTHON'
import os
fd = os.open("src", os.O_RDONLY)
for mode in (0o000, 0o755):
    os.fchmod(fd, mode)
    for path in ("src/u1.c", "src/deep/er/file", "src/nothing", "src/.", "src/../README"):
        try:
            print(path, os.stat(path).st_size > 0)
        except OSError as error:
            print(path, error.strerror)
PYTHON
BODY

like_plain "user: umask, set-id directories and default ACLs" <<'BODY'
umask 027 && mkdir a && : >a/f && chmod g+s a && mkdir a/b && : >a/b/f
find a -printf '%m %g %p\n' | sort
rm -r many src && mkdir many && mkdir src && stat -c '%a %n' many src
if command -v setfacl >/dev/null; then
  setfacl -d -m u:1:rwx,o::- doc && rm doc/locked && : >doc/locked && mkdir doc/d && getfacl -R doc
fi
chmod 6755 bin/script && echo >>bin/script && stat -c %a bin/script
chmod 6755 bin/script && chgrp "$(id -g)" bin/script && stat -c %a bin/script
BODY

if needs_program "user: gcc and make" gcc make; then
  rm -rf "$FIXTURE" && mkdir -p "$FIXTURE/src"
  for i in {1..5}; do echo "int f$i(void) { return $i; }" >"$FIXTURE/src/f$i.c"; done
  cat >"$FIXTURE/main.c" <<'C'
#include <stdio.h>
int f1(void), f2(void), f3(void), f4(void), f5(void);
int main(void) { return printf("%d\n", f1() + f2() + f3() + f4() + f5()) < 0; }
C
  cat >"$FIXTURE/Makefile" <<'MAKE'
objects = $(patsubst %.c,%.o,main.c $(wildcard src/*.c))
app: $(objects) ; gcc -o $@ $^
%.o: %.c ; gcc -O1 -c -o $@ $<
install: app ; install -D app out/bin/app
clean: ; rm -rf $(objects) app out
MAKE
  owned_by_user
  ignoring='[.]o$|app$' like_plain "user: gcc and make build, rebuild and clean" <<'BODY'
make -s -j2 && ./app && make -s install && out/bin/app
sed -i 's/return 5/return 50/' src/f5.c && make -s && ./app
make -s clean && ls -A . src && make -s && ./app
BODY
fi

if needs_program "user: git" git; then
  export GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=$SCRATCH/user-gitconfig
  export GIT_AUTHOR_DATE='2020-02-03T04:05:06Z' GIT_COMMITTER_DATE='2020-02-03T04:05:06Z'
  printf '[user]\nname = Tester\nemail = tester@example.org\n[safe]\ndirectory = *\n[gc]\nauto = 0\n' \
    >"$GIT_CONFIG_GLOBAL"
  rm -rf "$FIXTURE" && mkdir "$FIXTURE"
  (
    cd "$FIXTURE" && git init -q -b main && mkdir src
    for i in {1..20}; do echo "file $i" >"src/f$i"; done
    git add . && git commit -qm one && git checkout -qb side && git mv src moved &&
      git commit -qam side && git checkout -q main
  )
  owned_by_user
  ignoring='[.]git/' like_plain "user: git clones, commits and checks out" <<'BODY'
git status --porcelain && echo two >>src/f1 && git commit -qam two && git log --format='%H %s'
git checkout -q side && ls && git checkout -q main && git status --porcelain
git clone -q . clone && git -C clone log --format=%H && git -C clone checkout -q side && ls clone
git gc -q && git fsck --full 2>&1 && rm -rf clone .git/objects/pack/nothing && git status --porcelain
git stash list && git rm -rqf src && git reset -q --hard && git status --porcelain
BODY
fi

if "${AS_USER[@]}" "$PYTHON" -c 'import ensurepip' 2>/dev/null; then
  rm -rf "$FIXTURE" && mkdir -p "$FIXTURE/pkg"
  echo 'print("module")' >"$FIXTURE/pkg/mod.py"
  : >"$FIXTURE/pkg/__init__.py"
  owned_by_user
  ignoring='venv/|pyc$|__pycache__' like_plain "user: python makes a virtual environment" <<'BODY'
"$PYTHON" -m venv --without-pip venv && venv/bin/python -c 'import sys; print(sys.prefix)'
venv/bin/python -m pkg.mod && venv/bin/python -m compileall -q pkg && ls pkg
rm -rf venv && ls
BODY
else
  skip "user: python makes a virtual environment" "python3 has no ensurepip"
fi

# ---- a lower that is somebody else's

needs_root "user: a lower of root's" || exit 0
make_fixture
mkdir -p "$FIXTURE"/{mine,sticky,group}
for place in mine sticky; do
  for mode in 644 600 666 4755; do echo "$mode" >"$FIXTURE/$place/root-$mode"; done
  chmod 644 "$FIXTURE/$place/root-644" && chmod 600 "$FIXTURE/$place/root-600"
  chmod 666 "$FIXTURE/$place/root-666" && chmod 4755 "$FIXTURE/$place/root-4755"
  mkdir "$FIXTURE/$place/root-dir" && mkfifo "$FIXTURE/$place/root-fifo"
  echo own >"$FIXTURE/$place/own"
  chown "$USER_ID:$USER_ID" "$FIXTURE/$place/own"
done
chown "$USER_ID:$USER_ID" "$FIXTURE/mine"
chmod 1777 "$FIXTURE/sticky"
chmod 700 "$FIXTURE/doc"
# The merged root is the upper's, and so the user's: what is root's is below it.
mv "$FIXTURE" "$FIXTURE.root" && mkdir "$FIXTURE" && mv "$FIXTURE.root" "$FIXTURE/base"

ignoring='  -> $' like_plain "user: a lower of root's is read like any other" <<'BODY'
cd base
{ find . 2>&1 || true; } | sort | sha256sum
tar -cf - src many | tar -tf - | sort | sha256sum
cp -a src "$OUT/src" && diff -r src "$OUT/src" && rm -rf "$OUT/src"
cat README doc/locked 2>&1 || true
(cd src/deep/er && cat ../../u1.c && pwd)
BODY

# What is copied up becomes the user's own: owners do not compare.
VIEW=${VIEW/'%U:%G'/owner} ignoring='  -> $' like_plain "user: what root's objects refuse is refused" <<'BODY'
cd base
"$PYTHON" - <<'PYTHON'
import itertools, os
def attempt(what, call, *arguments, **named):
    try:
        result = call(*arguments, **named)
        if isinstance(result, int):
            os.close(result)
        print(what, "done")
    except OSError as error:
        print(what, error.strerror)
USER = os.getuid()
# Only what must be refused, and what changes nothing: a change of somebody else's file makes it ours.
for path in ("README", "empty-dir", "fifo", "link", "mine/root-644", "mine/root-600",
             "mine/root-4755", "mine/root-dir", "mine/root-fifo", "sticky/root-644", "nothing"):
    attempt(f"chmod {path}", os.chmod, path, 0o600)
    attempt(f"chown {path}", os.chown, path, USER, USER)
    attempt(f"utime {path}", os.utime, path, (1, 1))
    attempt(f"touch {path}", os.utime, path)
    attempt(f"setxattr {path}", os.setxattr, path, "user.x", b"x")
    attempt(f"acl {path}", os.setxattr, path, "system.posix_acl_access", b"\2\0\0\0")
    attempt(f"trusted {path}", os.setxattr, path, "trusted.x", b"x")
    attempt(f"removexattr {path}", os.removexattr, path, "user.x")
    attempt(f"truncate {path}", os.truncate, path, 0)
    attempt(f"link {path}", os.link, path, "mine/new")
    attempt(f"link out {path}", os.link, path, "empty-dir/new")
    if path not in ("fifo", "mine/root-fifo"):
        attempt(f"open rdwr {path}", os.open, path, os.O_RDWR)
        attempt(f"open trunc {path}", os.open, path, os.O_WRONLY | os.O_TRUNC)
        attempt(f"open creat {path}", os.open, path, os.O_RDONLY | os.O_CREAT)
for path in ("README", "src", "empty-dir", "fifo", "sticky/root-644", "sticky/root-dir",
             "sticky/root-fifo", "many"):
    attempt(f"unlink {path}", os.unlink, path)
    attempt(f"rmdir {path}", os.rmdir, path)
    attempt(f"rename {path}", os.rename, path, "mine/new")
    attempt(f"rename in place {path}", os.rename, path, f"{path}.new")
    attempt(f"replace {path}", os.rename, "mine/own", path)
attempt("move a directory of root's", os.rename, "mine/root-dir", "sticky/new")
for path in ("new", "README", "src/new", "nothing/new", "empty-dir/new", "doc/new"):
    attempt(f"mkdir {path}", os.mkdir, path)
    attempt(f"symlink {path}", os.symlink, "x", path)
    attempt(f"mkfifo {path}", os.mkfifo, path)
    attempt(f"create {path}", os.open, path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    attempt(f"move to {path}", os.rename, "mine/own", path)
for path in (".", "src", "doc"):
    attempt(f"temporary {path}", os.open, path, os.O_TMPFILE | os.O_RDWR)
for path in ("README", "src", "mine/root-644", "mine/root-dir"):
    descriptor = os.open(path, os.O_RDONLY)
    attempt(f"fchmod {path}", os.fchmod, descriptor, 0o600)
    attempt(f"fchown {path}", os.fchown, descriptor, USER, USER)
    attempt(f"futime {path}", os.utime, descriptor, (1, 1))
    attempt(f"ftouch {path}", os.utime, descriptor)
    attempt(f"fsetxattr {path}", os.setxattr, descriptor, "user.x", b"x")
    os.close(descriptor)
PYTHON
BODY

VIEW=${VIEW/'%U:%G'/owner} ignoring='  -> $' like_plain "user: what root's directories allow is allowed" <<'BODY'
cd base
echo more >>mine/own && cat mine/own && mv mine/own mine/own2 && mv mine/own2 sticky/own3
rm -f mine/root-644 mine/root-600 && ls mine
mkdir mine/d && ln sticky/own mine/d/own && chmod 600 mine/d/own && stat -c '%a %h' sticky/own
rm sticky/own && rmdir mine/root-dir && rm -rf mine/d && ls sticky mine
echo x >sticky/new && rm sticky/new
BODY

if needs_program "user: a watcher whose umask takes the owner's rights" python3; then
  cp "$HERE/lib/watching.py" "$AUX/watching.py"
  VIEW=${VIEW/'%U:%G'/owner} ignoring='  -> $' like_plain "user: a watcher whose umask takes the owner's rights" <<'BODY'
cd base/mine
umask 0777
"$PYTHON" - "$AUX" <<'PYTHON'
import os
import sys
sys.path.insert(0, sys.argv[1])
import watching
watch, old = watching.Watcher(), os.open("own", os.O_RDONLY)
watch.add("own")
watching.other("chmod 640 own; echo more >>own")
print(os.read(old, 4), watch.events())
PYTHON
BODY
fi
