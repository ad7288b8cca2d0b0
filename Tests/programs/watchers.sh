# Programs that watch directories, unmodified: each is told what other processes do through the overlay, on trees that
# begin on one lower and on two with an upper that has some of it.
. "$HERE/lib/harness.bash"
make_fixture
cp "$HERE"/lib/{hearing.bash,observing.py} "$AUX/"
# Not compared: how often a directory is read by one who lists it, and what order events of different directories are
# in, which is the kernel's affair (README, Limits).
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
# When it waits again it has read everything: in read(2), poll(2), select(2) or their kin.
until read -r call _ <"/proc/$watcher/syscall" && [[ $call =~ ^(0|7|23|270|271)$ ]]; do :; done
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
