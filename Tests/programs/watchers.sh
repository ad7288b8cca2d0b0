# Programs that watch directories, unmodified: each is told what other processes do through the overlay, on trees that
# begin on one lower and on two with an upper that has some of it.
. "$HERE/lib/harness.bash"
make_fixture
cp "$HERE"/lib/{hearing.bash,observing.py} "$AUX/"
# Not compared: how often a directory is read by one who lists it, and what order events of different directories are
# in, which is the kernel's affair (README, Limits).

# Every body in two trees.
both() { # NAME
  cat >"$SCRATCH/watching"
  like_plain "$1" <"$SCRATCH/watching"
  spread=1 like_plain "$1, over two lowers and an upper" <"$SCRATCH/watching"
}

# Sets WATCHING_PYTHON to one that has the module: Debian's packages are for its own, and what Debian has not is
# fetched into one of our own.
needs_module() { # NAME MODULE [PACKAGE ON PYPI]
  local candidate own=$SCRATCH/venv
  for candidate in "$PYTHON" /usr/bin/python3 "$own/bin/python"; do
    export WATCHING_PYTHON=$candidate
    ! "$candidate" -c "import $2" 2>/dev/null || return 0
  done
  if [[ ${3:-} ]]; then
    { [[ -e $own ]] || "$PYTHON" -m venv "$own"; } >"$SCRATCH/pip.log" 2>&1 &&
      timeout 60 "$own/bin/pip" install -q --retries 0 --timeout 10 --only-binary :all: "$3" \
        >>"$SCRATCH/pip.log" 2>&1 &&
      "$own/bin/python" -c "import $2" 2>>"$SCRATCH/pip.log" && return 0
    skip "$1" "Python has no $2, and pip: $(grep -m 1 . "$SCRATCH/pip.log" || echo 'gave up')"
  else
    skip "$1" "Python has no $2"
  fi
  return 1
}

# What not every version has on Linux.
needs_node() { # NAME ARGUMENTS THAT MUST SUCCEED…
  needs_program "$1" node || return
  node "${@:2}" >/dev/null 2>&1 || { skip "$1" "node $(node --version) has it not"; return 1; }
}

if needs_program "inotifywait -m -r" inotifywait; then
  # A directory's reading is told once (README, Limits), its IN_DELETE_SELF after its parent's IN_DELETE.
  both "inotifywait -m -r is told in order" <<'BODY'
. "$AUX/hearing.bash"
watch inotifywait -m -r -e modify,attrib,close_write,open,create,delete,move,move_self --format '%w %e %f' .
hear '*established*'
tour
end
BODY
  both "inotifywait -r ends with the first event" <<'BODY'
. "$AUX/hearing.bash"
for change in 'echo more >>src/u1.c' 'rm src/u2.c' 'mv src/u3.c many/2.txt' 'mkdir src/u11.c.d' \
  'chmod 600 doc/locked'; do
  watch inotifywait -r -e modify,delete,move,create,attrib --format '%w %e %f' .
  hear '*established*'
  bash -c "$change"
  hear '?*'
  wait "$watcher"
done
BODY
fi

if needs_program "inotifywatch -r" inotifywatch; then
  both "inotifywatch -r counts every change once" <<'BODY'
. "$AUX/hearing.bash"
watch inotifywatch -v -r -e create,delete,moved_from,moved_to,attrib,close_write .
hear '*Finished establishing*'
for i in {1..40}; do echo more >>"many/$i.txt"; done
for i in {41..60}; do mv "many/$i.txt" "src/$i.txt"; done
rm many/{61..80}.txt
chmod 600 many/{81..100}.txt
for i in {61..70}; do echo new >"many/$i.txt"; done
# When it waits again it has read everything: in read(2), poll(2), select(2) or their kin.
until read -r call _ <"/proc/$watcher/syscall" && [[ $call =~ ^(0|7|23|270|271)$ ]]; do :; done
kill -INT "$watcher"
hear 'total *'
while IFS= read -r line <&"$heard"; do echo "$line"; done | sort
BODY
fi

if needs_program "entr" entr; then
  # What happens in the 50 ms after a run it takes for a part of that. No file twice in a row: the answer is to this.
  both "entr runs its command for each change of a file" <<'BODY'
. "$AUX/hearing.bash"
watch entr -n echo ran /_ < <(ls -d "$PWD"/src/*.c "$PWD"/README)
hear 'ran *'
for change in 'echo more >>src/u1.c' 'echo more >>src/u2.c' 'echo more >>src/u1.c' \
  'echo more >new; mv new src/u3.c' 'echo other >src/u11.c' 'echo more >>src/u3.c' 'echo more >>README'; do
  echo "== $change"
  answered "$change" "ran *${change##*[ />]}"
done
end
rm -f src/u[123].c README
BODY
  # It may not look yet, or take what happens for a part of its start: the change is made until it ends.
  both "entr -d ends when a file is new in one of the directories" <<'BODY'
. "$AUX/hearing.bash"
export n=100
for change in 'echo new >"src/new$n.c"' 'mv "many/$n.txt" src/' 'cp README "doc/$n"'; do
  echo "== $change"
  watch entr -n -d echo ran /_ < <(find "$PWD/src" "$PWD/doc" -maxdepth 1 -name '*.c' -o -name locked)
  hear 'ran *' >/dev/null
  line=
  until [[ $line == *altered* ]]; do
    n=$((n + 1))
    bash -c "$change"
    while IFS= read -r -t 0.2 line <&"$heard" && [[ $line != *altered* ]]; do :; done
    kill -0 "$watcher" 2>/dev/null || [[ $line ]]
  done
  echo "$line"
  wait "$watcher" || echo "status $?"
done
rm -f src/new* src/1* doc/1* many/1*
BODY
fi

if needs_module "watchdog" watchdog; then
  both "a watchdog Observer" <<'BODY'
. "$AUX/hearing.bash"
watch "$WATCHING_PYTHON" "$AUX/observing.py" watchdog
hear ready
tour
end
BODY
fi
if needs_module "pyinotify" pyinotify; then
  both "a pyinotify Notifier" <<'BODY'
. "$AUX/hearing.bash"
watch "$WATCHING_PYTHON" "$AUX/observing.py" pyinotify
hear ready
order=any tour
end
BODY
fi
if needs_module "InotifyTree" inotify.adapters; then
  both "an InotifyTree, which waits in epoll" <<'BODY'
. "$AUX/hearing.bash"
watch "$WATCHING_PYTHON" "$AUX/observing.py" inotify
hear ready
order=any tour
end
BODY
fi

if needs_module "an INotify that reads what FIONREAD says" inotify_simple inotify_simple; then
  both "an INotify that reads what FIONREAD says" <<'BODY'
. "$AUX/hearing.bash"
watch "$WATCHING_PYTHON" "$AUX/observing.py" inotify_simple
hear ready
order=any tour
end
BODY
fi
if needs_module "watchfiles" watchfiles watchfiles; then
  # What it collected in some time is a set. A directory that is made or moved it watches only later, and one of two
  # names it tells by that which it saw last.
  both "watchfiles" <<'BODY'
. "$AUX/hearing.bash"
rm linkdir
watch "$WATCHING_PYTHON" "$AUX/observing.py" watchfiles
knock
order=set
step : >/dev/null
step 'echo new >src/new; echo more >>src/u1.c; chmod 600 src/u12.c'
step 'echo other >src/t; mv src/t src/u2.c'
step 'rm src/u4.c; echo again >src/u4.c'
step 'rm src/u11.c many/21.txt'
step 'mv src/u7.c src/deep/u7.c; mv many/12.txt many/22.txt'
step 'mv doc papers'
step 'ln README many/link; ln -s README src/soft; mkfifo src/pipe'
step 'rm -r src/deep'
step 'tar -C src -c u8.c u9.c | tar -x -C many; tar -C many -c u8.c | tar -x -C src'
end
BODY
fi

if needs_program "incrond" incrond && needs_root "incrond"; then
  # With tables and lock in the check's own directories. Its commands run side by side: one change, then what is told.
  both "incrond runs the commands of its table" <<'BODY'
. "$AUX/hearing.bash"
mkdir "$OUT/tables" "$OUT/users"
printf '%s\n' "system_table_dir = $OUT/tables" "user_table_dir = $OUT/users" "lockfile_dir = $OUT" \
  "lockfile_name = lock" >"$OUT/conf"
echo "$PWD/src IN_CREATE,IN_CLOSE_WRITE,IN_DELETE,IN_MOVED_FROM,IN_MOVED_TO /bin/echo \$# \$%" >"$OUT/tables/table"
watch incrond -n -f "$OUT/conf"
(cd src && knock)
for change in 'echo more >>src/u1.c' 'echo x >new; mv new src/u2.c' 'rm src/u3.c' 'mv src/u4.c many/' \
  'rm src/u11.c' 'mv many/1.txt src/u4.c' 'ln src/u5.c src/u50.c' 'rm src/u50.c'; do
  echo "== $change"
  bash -c "$change"
  hear 'u*' | grep -v knock
done
end
rm -rf "$OUT/tables" "$OUT/users" "$OUT/conf" "$OUT"/lock*
BODY
fi

if needs_program "node's fs.watch" node; then
  both "node's fs.watch of directories" <<'BODY'
. "$AUX/hearing.bash"
watch node -e '
const fs = require("fs");
for (const d of [".", "src", "many", "doc"])
  fs.watch(d, (kind, name) => { fs.statSync(".", { bigint: true }); console.log(d, kind, name); });
console.log("ready");'
hear ready
step 'echo more >>src/u1.c'
step 'mv src/u2.c many/new; rm many/1.txt'
step 'rm src/u3.c; echo again >src/u3.c; chmod 600 doc/locked'
end
BODY
fi

if needs_node "node's fs.watch of a tree" -e 'require("fs").watch(".", { recursive: true }).close()'; then
  # It watches every file besides its directory, and looks at them in its own time: a name is told once or more, now or
  # later. Compared is which were told.
  both "node's fs.watch of a tree" <<'BODY'
. "$AUX/hearing.bash"
watch node -e '
const fs = require("fs");
fs.watch(".", { recursive: true }, (kind, name) => console.log(name));
console.log("ready");'
knock
for change in 'echo new >src/new' 'echo more >>src/u1.c' 'echo more >>src/deep/er/file' 'chmod 600 doc/locked' \
  'mv src/u2.c many/2.txt' 'rm src/u3.c many/21.txt' 'echo more >>README' 'ln src/u12.c doc/12.c'; do
  step "$change"
done >"$OUT/told"
end
grep -v '^==\|^knock\|^step' "$OUT/told" | sort -u
rm "$OUT/told"
BODY
fi
if needs_node "node --watch" -e 'process.exit(process.allowedNodeEnvironmentFlags.has("--watch-path") ? 0 : 1)'; then
  # It starts anew for what happens in a row, once or twice: heard is the first time with each value. A file that was
  # replaced it does not watch any more.
  both "node --watch starts its program anew" <<'BODY'
. "$AUX/hearing.bash"
mv src/u1.c src/main.js && echo 'console.log("part", require("../many/1.txt"))' >src/main.js
watch env NODE_NO_WARNINGS=1 node --watch src/main.js
hear 'part {}'
value=1
for change in 'echo "module.exports = 2" >>many/1.txt' 'echo "module.exports = 3" >many/1.txt' \
  'echo "console.log(\"part\", 4)" >>src/main.js' 'echo "module.exports = 5" >t; mv t many/1.txt'; do
  echo "== $change"
  value=$((value + 1))
  answered "$change" "part $value" 2
done
end
BODY
fi

# It would look by itself in a thousand seconds.
both "tail -F follows a name through a rotation" <<'BODY'
. "$AUX/hearing.bash"
# What it says of the rotation depends on how soon it looks.
watch sh -c 'exec tail -n 1 -s 1000 -F src/u1.c 2>/dev/null'
hear '?*' >/dev/null
echo one >>src/u1.c
hear one
mv src/u1.c src/u1.c.1
echo two >src/u1.c
hear two
rm src/u1.c
echo three >src/u1.c
hear three
end
BODY
both "tail -F and tail -f follow files of lowers" <<'BODY'
. "$AUX/hearing.bash"
watch sh -c 'exec tail -n 1 -s 1000 -F README src/u2.c many/1.txt 2>/dev/null'
hear 1
bash -c 'echo one >>README'
hear one
bash -c 'mv README README.1; echo two >README'
hear two
bash -c 'echo three >>src/u2.c'
hear three
bash -c 'mv many/22.txt src/u2.c'
hear 22
bash -c 'rm many/1.txt; echo four >many/1.txt'
hear four
end
watch tail -n 1 -s 1000 -f many/5.txt
hear 5
bash -c 'echo five >>many/5.txt'
hear five
bash -c 'mv many lots; echo six >>lots/5.txt'
hear six
bash -c 'mv lots/5.txt src/u2.c; echo seven >>src/u2.c'
hear seven
end
BODY

if needs_program "git under inotifywait" git inotifywait; then
  # The repository begins in the layers.
  (
    cd "$FIXTURE"
    export GIT_AUTHOR_DATE='2020-01-01 00:00Z' GIT_COMMITTER_DATE='2020-01-01 00:00Z'
    git init -qb main repo
    cd repo
    git config user.email a@b && git config user.name c
    cp -r ../src ../many .
    git add . && git commit -qm one
    git checkout -qb other
    git rm -q src/u1.c src/u2.c && git mv src/u3.c src/moved.c && mkdir fresh && echo new >fresh/n
    for i in 4 5; do echo more >>"src/u$i.c"; done
    chmod 755 src/u6.c && git rm -qr src/deep && git add . && git commit -qm two
    git checkout -q main
    find "$FIXTURE" -depth -exec touch -h -d '2020-02-03 04:05:06.123456789' {} +
  )
  # Its index notes inodes and times, its logs the time.
  ignoring='repo/.git/(index|logs)' both "git checkout of another branch and back, under inotifywait" <<'BODY'
. "$AUX/hearing.bash"
cd repo
export GIT_AUTHOR_DATE='2020-01-01 00:00Z' GIT_COMMITTER_DATE='2020-01-01 00:00Z' # of the stash
watch inotifywait -m -r --exclude '/\.git' -e modify,attrib,close_write,create,delete,moved_from,moved_to \
  --format '%w %e %f' .
hear '*established*'
# What is made in a new directory before it is watched too may be missed, in a plain one as well.
for command in 'git checkout -q other' 'git checkout -q main' 'git checkout -q other' 'git stash -q' \
  'git reset -q --hard main' 'git clean -qfd' 'git merge -q other'; do
  [[ $command != *stash* ]] || bash -c 'for i in 7 8 9; do echo mine >>src/u$i.c; done'
  step "$command" | grep -v '^./\(fresh\|src/deep\)/'
  git status --short | grep -v step || true
done
end
rm step*
BODY
fi

# Order and loss: four processes against one watcher, of files that begin in the layers. CHURN_EVENTS: how many events.
if needs_program "a model kept from the events" gcc; then
  gcc -O2 -Wall -Wextra "$HERE/lib/churn.c" -o "$AUX/churn"
  seed=${SEED:-$((RANDOM * 32768 + RANDOM))}
  export CHURN_EVENTS=${CHURN_EVENTS:-10000} CHURN_FIGURES=$SCRATCH/churn
  # What is there at the end is chance.
  for kills in '' kills; do
    rm -f "$CHURN_FIGURES"
    LIMIT_S=$((120 + CHURN_EVENTS / 500)) spread=1 \
      like_plain "four writers, and a model kept from the events${kills:+; writers are killed} (SEED=$seed)" <<BODY
"\$AUX/churn" many \$CHURN_EVENTS $seed $kills
rm -r many
BODY
    paste -d' ' <(printf '%s\n' '   plain:' '   overlay:') "$CHURN_FIGURES" || true
  done
fi
