# The edges of a file system that few programs touch, and that a merged directory has to have all the same:
# where FIFOs and sockets meet, programs that run, paths near PATH_MAX, what /proc says, descriptors with
# high numbers, bad pointers.
. "$HERE/lib/harness.bash"
make_fixture
"$PYTHON" - "$FIXTURE/sock" <<'PY'
import socket, sys
socket.socket(socket.AF_UNIX).bind(sys.argv[1])
PY
cp /bin/sleep "$FIXTURE/bin/sleep"
ln "$FIXTURE/bin/sleep" "$FIXTURE/bin/nap"
touch -h -d '2020-02-03 04:05:06.123456789' "$FIXTURE" "$FIXTURE/sock" "$FIXTURE/bin"

like_plain "a FIFO of the lower is one meeting point through chmod, rename and link" <<'BODY'
cat >"$OUT/meet.py" <<'PY'
import os, stat
def meet(change, name):
    reader = os.open("fifo", os.O_RDONLY | os.O_NONBLOCK)
    before = os.fstat(reader)
    change()
    writer = os.open(name, os.O_WRONLY | os.O_NONBLOCK)
    os.write(writer, b"met at %s\n" % name.encode())
    after, new, path = os.fstat(reader), os.fstat(writer), os.lstat(name)
    print(os.read(reader, 99), before.st_ino == after.st_ino == new.st_ino == path.st_ino,
          oct(after.st_mode), oct(new.st_mode), oct(path.st_mode), after.st_nlink, new.st_nlink)
    os.close(writer)
    print("end of file:", os.read(reader, 99))
    os.fchmod(reader, 0o640)
    print(oct(os.lstat(name).st_mode), oct(os.fstat(reader).st_mode))
    os.close(reader)
meet(lambda: os.chmod("fifo", 0o600), "fifo")
meet(lambda: os.link("fifo", "src/other"), "src/other")
meet(lambda: os.rename("fifo", "src/renamed"), "src/renamed")
# A new one of the old name is another.
os.mkfifo("fifo")
reader = os.open("src/renamed", os.O_RDONLY | os.O_NONBLOCK)
try: os.open("fifo", os.O_WRONLY | os.O_NONBLOCK)
except OSError as e: print(e)
os.close(reader)
# One that was unlinked is still the one that both have open.
reader = os.open("src/renamed", os.O_RDONLY | os.O_NONBLOCK)
writer = os.open("src/other", os.O_WRONLY)
os.unlink("src/renamed"); os.unlink("src/other")
os.write(writer, b"without a name"); print(os.read(reader, 99))
PY
"$PYTHON" "$OUT/meet.py"; rm "$OUT/meet.py"
BODY

like_plain "a FIFO of the lower joins two processes, one of which opened it before it was copied up" <<'BODY'
(exec 3>fifo; echo met >&3) & writer=$!
chmod 600 fifo; mv fifo moved
cat moved; wait "$writer"
BODY

if needs_layers "opening a FIFO of the lower copies nothing up"; then
  place
  UNTOUCHED=()
  says "opening a FIFO of the lower copies nothing up" $'through\n' <<'BODY'
(echo through >fifo) & cat fifo; wait
find "${SCRATCH}/upper" -mindepth 1
echo
BODY
fi

like_plain "a socket of the lower is one meeting point through chmod and rename" <<'BODY'
"$PYTHON" - <<'PY'
import os, socket, stat
# Somebody listens at the lower's socket: bound by a process that knows nothing of any overlay.
def unix(kind=socket.SOCK_STREAM): return socket.socket(socket.AF_UNIX, kind)
# What nobody listens at refuses, and does so after its copy-up too.
for change in (lambda: None, lambda: os.chmod("sock", 0o777), lambda: os.rename("sock", "src/sock")):
    change()
    name = "sock" if os.path.exists("sock") else "src/sock"
    try: unix().connect(name)
    except OSError as e: print(name, e, oct(os.lstat(name).st_mode))
    try: unix().bind(name)
    except OSError as e: print(name, e)
PY
BODY

if needs_overlock "a listener outside the overlay is met through chmod and rename"; then
  place
  cat >"$AUX/listen.py" <<'PY'
import os, socket, sys
os.chdir(sys.argv[1])
os.unlink("sock")
s = socket.socket(socket.AF_UNIX); s.bind("sock"); s.listen()
open(sys.argv[2], "w").close()
while True:
    c, _ = s.accept(); c.sendall(b"hello from outside"); c.close()
PY
  "$PYTHON" "$AUX/listen.py" "$T" "$OUT/ready" & listener=$!
  until [[ -e $OUT/ready ]]; do read -rt 0.01 <> <(:) || true; done
  says "a listener outside the overlay is met through chmod and rename" "sock hello from outside
sock hello from outside
moved hello from outside
moved2 hello from outside
Permission denied" <<'BODY'
cat >"$OUT/c.py" <<'PY'
import os, socket
def call(name):
    s = socket.socket(socket.AF_UNIX); s.connect(name); print(name, s.recv(99).decode())
call("sock"); os.chmod("sock", 0o777); call("sock"); os.rename("sock", "moved"); call("moved")
os.link("moved", "moved2"); call("moved2")
os.chmod("moved", 0)
if os.getuid() == 0:
    os.setgid(65534); os.setuid(65534)
try: call("moved")
except OSError as e: print(e.strerror)
PY
"$PYTHON" "$OUT/c.py"
BODY
  kill "$listener"; wait "$listener" 2>/dev/null || true
fi

like_plain "the text of a program of the lower is busy while it runs" <<'BODY'
try() { if "$@" 2>"$OUT/e"; then echo "done: $*"; else sed 's/.*: //' "$OUT/e"; fi; }
write() { : >>"$1"; }
clobber() { : >"$1"; }
both() { "$PYTHON" -c 'import os, sys; os.open(sys.argv[1], os.O_RDWR)' "$1"; }
short() { "$PYTHON" -c 'import os, sys; os.truncate(sys.argv[1], int(sys.argv[2]))' "$1" "$2"; }
all() { for how in write clobber both 'short bin/sleep 0' 'short bin/sleep 9'; do
    case $how in short*) try $how ;; *) try "$how" "$1" ;; esac
  done; }
bin/sleep 1000 & sleep=$!
until [[ $(readlink "/proc/$sleep/exe") == */bin/sleep ]]; do :; done
all bin/sleep; cmp bin/sleep /bin/sleep && echo whole
# Its other name is the same file, and so is its copy.
try write bin/nap
chmod 750 bin/sleep; touch bin/sleep; all bin/sleep
mv bin/nap src/nap; try write src/nap
cmp src/nap /bin/sleep && echo whole
kill "$sleep"; wait "$sleep" 2>/dev/null || true
try write bin/sleep; try clobber src/nap; stat -c '%s %h' bin/sleep src/nap
rm -f "$OUT/e"
BODY

like_plain "a program that runs may be replaced, removed and renamed" <<'BODY'
bin/sleep 1000 & sleep=$!
until [[ $(readlink "/proc/$sleep/exe") == */bin/sleep ]]; do :; done
mv bin/sleep bin/old; cp bin/old bin/sleep; echo more >>bin/sleep; (echo more >>bin/old) 2>/dev/null || echo busy
rm bin/old bin/nap; echo new >bin/nap; cat bin/nap
kill "$sleep"; wait "$sleep" 2>/dev/null || true
BODY
