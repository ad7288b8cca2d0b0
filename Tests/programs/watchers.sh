# Programs that watch directories, unmodified: each is told what other processes do through the overlay, on trees that
# begin on one lower and on two with an upper that has some of it.
. "$HERE/lib/harness.bash"
make_fixture
cp "$HERE"/lib/{hearing.bash,observing.py} "$AUX/"
# Debian's Python packages are for its own Python.
for candidate in "$PYTHON" /usr/bin/python3; do
  WATCHING_PYTHON=$candidate
  ! "$candidate" -c 'import watchdog' 2>/dev/null || break
done
export WATCHING_PYTHON

# Every body in two trees.
both() { # NAME
  cat >"$SCRATCH/watching"
  like_plain "$1" <"$SCRATCH/watching"
  spread=1 like_plain "$1, over two lowers and an upper" <"$SCRATCH/watching"
}
needs_module() { # NAME MODULE
  "$WATCHING_PYTHON" -c "import $2" 2>/dev/null || { skip "$1" "Python has no $2"; return 1; }
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
  both "inotifywait -m -r is told everything of each directory" <<'BODY'
. "$AUX/hearing.bash"
watch inotifywait -m -r --format '%w %e %f' .
hear '*established*'
order=any tour
end
BODY
  both "inotifywait -r ends with the first event" <<'BODY'
. "$AUX/hearing.bash"
for change in 'echo more >>src/u1.c' 'rm src/u2.c' 'mv src/u3.c many/2.txt' 'mkdir src/u11.c.d' 'chmod 600 doc/locked'; do
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
kill -INT "$watcher"
hear 'total *'
while IFS= read -r line <&"$heard"; do echo "$line"; done | sort
BODY
fi

if needs_program "entr" entr; then
  # What happens in the 50 ms after a run it takes for a part of that.
  both "entr runs its command for each change of a file" <<'BODY'
. "$AUX/hearing.bash"
watch entr -n echo ran /_ < <(ls -d "$PWD"/src/*.c "$PWD"/README)
hear 'ran *'
for change in 'echo more >>src/u1.c' 'echo more >>src/u2.c' 'echo more >>src/u1.c' \
  'echo more >new; mv new src/u3.c' 'echo more >>src/u3.c' 'echo other >src/u11.c' 'echo more >>README'; do
  echo "== $change"
  answered "$change" 'ran *'
done
end
rm -f src/u[123].c README
BODY
  both "entr -d ends when a file is new in one of the directories" <<'BODY'
. "$AUX/hearing.bash"
n=0
for change in 'echo new >src/new$1.c' 'mv src/u1$1.c src/moved$1.c' 'cp -r src doc/made$1; mv doc/made$1/u2.c doc/$1.c'; do
  watch entr -n -d echo ran /_ < <(find "$PWD/src" "$PWD/doc" -maxdepth 1 -name '*.c' -o -name locked)
  hear 'ran *' >/dev/null
  answered 'echo more >>src/u5.c' 'ran *'
  answered 'i=0; while [[ -e doc/tried$i ]]; do i=$((i + 1)); done; : >doc/tried$i; set -- "$i"; '"$change" '*directory altered*'
  wait "$watcher" || echo "status $?"
done
rm -rf src/u5.c
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
tour
end
BODY
fi
if needs_module "InotifyTree" inotify.adapters; then
  both "an InotifyTree, which waits in epoll" <<'BODY'
. "$AUX/hearing.bash"
watch "$WATCHING_PYTHON" "$AUX/observing.py" inotify
hear ready
tour
end
BODY
fi
