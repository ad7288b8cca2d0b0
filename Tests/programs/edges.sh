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
cp /bin/cat /bin/readlink "$FIXTURE/bin/"
ln "$FIXTURE/bin/cat" "$FIXTURE/bin/tac"
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

# The name that tells where a lower's object is now goes, and another is left.
like_plain "a descriptor from before the copy-up knows of the names that are left" <<'BODY'
cat >"$OUT/names.py" <<'PY'
import ctypes, errno, os
libc = ctypes.CDLL(None, use_errno=True)
def link(fd, name):
    done = libc.linkat(fd, b"", -100, name.encode(), 0x1000)  # AT_FDCWD, AT_EMPTY_PATH
    print("linked" if done == 0 else errno.errorcode[ctypes.get_errno()])
def names(old, flags):
    fd = os.open(old, flags | os.O_NONBLOCK)
    def seen(*paths): print(os.fstat(fd).st_nlink, [os.lstat(path).st_nlink for path in paths])
    os.rename(old, "src/first"); seen("src/first")
    os.link("src/first", "second"); seen("second")
    os.unlink("src/first"); seen("second")
    os.unlink("many/3.txt") if os.path.exists("many/3.txt") else None; seen("second")
    link(fd, "third"); seen("second", "third")
    os.rename("second", "fourth"); os.rename("third", "fifth"); seen("fourth", "fifth")
    os.unlink("fifth"); seen("fourth")
    os.unlink("fourth"); seen()
    link(fd, "sixth")
names("many/2.txt", os.O_RDONLY)
names("fifo", os.O_RDWR)
PY
"$PYTHON" "$OUT/names.py"; rm "$OUT/names.py"
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

like_plain "names of 255 bytes, and paths that are as long as a path may be" <<'BODY'
"$PYTHON" - <<'PY'
import os, sys
# Paths of 4000 to 4095 bytes below the target, whose form in a layer is longer, and of 4096, which is too long.
top = os.getcwd()
name = "n" * 255
d = top
while len(d) + 256 <= 4000: d += "/" + name
os.makedirs(d)
def attempt(what, f, *a):
    try: r = f(*a)
    except OSError as e: r = e.strerror
    print(what, r)
for size in (4000, 4094, 4095, 4096):
    f = d + "/" + "f" * (size - len(d) - 1)
    other = d + "/" + "g" * (size - len(d) - 1)
    attempt("create %d" % size, lambda: os.close(os.open(f, os.O_CREAT | os.O_WRONLY, 0o644)))
    attempt("stat", lambda: os.stat(f).st_mode)
    attempt("chmod", os.chmod, f, 0o600)
    attempt("access", os.access, f, os.R_OK)
    attempt("truncate", os.truncate, f, 7)
    attempt("setxattr", os.setxattr, f, "user.x", b"y")
    attempt("getxattr", os.getxattr, f, "user.x")
    attempt("utime", os.utime, f, (1, 1))
    attempt("link", os.link, f, other)
    attempt("unlink", os.unlink, other)
    attempt("rename", os.rename, f, other)
    attempt("symlink", os.symlink, "text", f)
    attempt("readlink", os.readlink, f)
    attempt("unlink", os.unlink, f)
    attempt("mkdir", os.mkdir, f)
    attempt("chdir", os.chdir, f)
    attempt("getcwd", lambda: len(os.getcwd()) - len(top))
    attempt("listdir", os.listdir, d[:4095])
    attempt("statvfs", lambda: os.statvfs(f).f_namemax)
    os.chdir(top)
    attempt("rmdir", os.rmdir, f)
    attempt("unlink", os.unlink, other)
attempt("256", os.mkdir, "n" * 256)
PY
find . -name 'n*' -prune | wc -l; rm -rf n*
BODY

if needs_layers "a lower whose paths are longer than the target's"; then
  fresh_root=$SCRATCH/$(printf 'r%.0s' {1..200})/$(printf 'r%.0s' {1..200})
  place
  mkdir -p "$fresh_root"
  cp -a "$FIXTURE" "$fresh_root/lower"
  OVERLAYS=("lowerdir=$fresh_root/lower,upperdir=$SCRATCH/upper,workdir=$SCRATCH/work,target=$T")
  "$PYTHON" - "$fresh_root/lower" <<'PY'
import os, sys
os.chdir(sys.argv[1])
for i in range(15): os.mkdir("n" * 250); os.chdir("n" * 250)
open("file", "w").write("#!/bin/sh\necho ran \"${0##*/}\"\n"); os.chmod("file", 0o755)
os.mkdir("dir"); open("dir/in", "w").write("in\n"); os.symlink("file", "link"); os.mkfifo("fifo")
PY
  UNTOUCHED=()
  says "a lower whose paths are longer than the target's" "['dir', 'fifo', 'file', 'link'] file
changed
ran file
['in', 'new'] new
moved
0o10600
[]" <<'BODY'
"$PYTHON" - <<'PY'
import os, subprocess
d = os.getcwd() + "/" + "/".join(["n" * 250] * 15)
print(sorted(os.listdir(d)), os.readlink(d + "/link"))
with open(d + "/file", "a") as f: f.write("# changed\n")
print(open(d + "/link").read().split()[-1])
print(subprocess.run([d + "/file"], stdout=subprocess.PIPE, text=True).stdout.strip())
with open(d + "/dir/new", "w") as f: f.write("new")
print(sorted(os.listdir(d + "/dir")), open(d + "/dir/new").read())
os.rename(d + "/dir", d + "/moved"); print(os.path.basename(d + "/moved"))
os.chmod(d + "/fifo", 0o600); print(oct(os.stat(d + "/fifo").st_mode))
import shutil
shutil.rmtree(os.getcwd() + "/" + "n" * 250)
print([n for n in os.listdir(".") if n.startswith("nn")])
PY
BODY
  rm -rf "$SCRATCH/$(printf 'r%.0s' {1..200})"
fi

like_plain "a tree deeper than a path may be" <<'BODY'
cat >"$OUT/deep.py" <<'PY'
import os, subprocess, sys
top = os.getcwd()
name = "d" * 200
for i in range(40):
    os.mkdir(name); os.chdir(name)
    if i % 13 == 0: open("f%d" % i, "w").write("file %d" % i)
open("here", "w").write("deep\n")
print(open("here").read(), len(os.getcwd()) - len(top), os.getcwd()[len(top):][:5], os.listdir("."))
# A new program finds its way too, and one that is started in a directory descriptor.
print(subprocess.run(["/bin/pwd", "-P"], stdout=subprocess.PIPE).stdout.strip()[-8:])
print(subprocess.run(["cat", "here"], stdout=subprocess.PIPE).stdout)
os.rename("here", "../there"); print(sorted(os.listdir(".."))); os.symlink("../there", "link")
print(open("link").read(), os.stat("../there").st_nlink, os.path.exists("../../here"))
fd = os.open("..", os.O_RDONLY); print(sorted(os.listdir(fd)), os.stat("there", dir_fd=fd).st_size)
os.chmod("../there", 0o600); os.link("../there", "linked"); print(os.stat("linked").st_nlink)
try: os.stat(top + ("/" + name) * 40 + "/here")
except OSError as e: print(e.strerror)
os.chdir(".."); os.fchdir(fd); print(len(os.getcwd()) - len(top))
os.chdir(top)
PY
"$PYTHON" "$OUT/deep.py"; rm "$OUT/deep.py"
find . -name 'f*' -path '*ddd*' | awk '{ print length($0) }' | sort -n
du -s --inodes "$(printf 'd%.0s' {1..200})" | cut -f 1
tar cf - "$(printf 'd%.0s' {1..200})" 2>/dev/null | tar tf - 2>/dev/null | wc -l
mv "$(printf 'd%.0s' {1..200})" moved; find moved -type f | wc -l
rm -rf moved; ls
BODY

cat >"$AUX/links.py" <<'PY'
import os, shutil, subprocess
pid = os.getpid()
top = os.getcwd()
def short(s): return s.replace(top, "T").replace(str(pid), "PID")
def rl(p):
    try: return short(os.readlink(p))
    except OSError as e: return e.strerror
def show(what, fd):
    r = [rl("/proc/self/fd/%d" % fd), rl("/proc/%d/fd/%d" % (pid, fd)), rl("/dev/fd/%d" % fd), rl("/proc/thread-self/fd/%d" % fd), rl("/proc/self/task/%d/fd/%d" % (pid, fd))]
    o = subprocess.run(["readlink", "/proc/%d/fd/%d" % (pid, fd)], stdout=subprocess.PIPE, text=True, close_fds=True).stdout.strip()
    r.append(short(o))
    print(what, r[0] if len(set(r)) == 1 else r)
def started(command, **more):
    p = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, **more)
    p.stdin.write(b"x"); p.stdout.read(1); return p
def opened(what, path, flags=os.O_RDONLY, mode=0o644):
    fd = os.open(path, flags, mode); show(what, fd); return fd
f = opened("lower file", "README"); os.unlink("README"); show("lower file removed", f)
f = opened("new file", "new", os.O_CREAT | os.O_RDWR); os.rename("new", "sub/new"); show("renamed", f); os.unlink("sub/new"); show("removed", f)
f = opened("lower in dir", "sub/f"); os.chmod("sub/f", 0o600); show("copied up", f); os.rename("sub/f", "g"); show("copied up and renamed", f); os.unlink("g"); show("and removed", f)
os.mkdir("d"); open("d/x", "w").close(); open("d/y","w").close()
f = opened("dir", "d", os.O_RDONLY); g = opened("in dir", "d/x"); os.unlink("d/x"); os.unlink("d/y"); os.rmdir("d"); show("dir removed", f); show("in it", g)
f = opened("lower dir", "src", os.O_RDONLY); g = opened("in lower dir", "src/deep/er/file"); os.rename("src", "source"); show("renamed lower dir", f); show("in it", g)
subprocess.run(["rm", "-r", "source"]); show("removed lower dir", f); show("in it", g)
f = os.open(".", os.O_TMPFILE | os.O_RDWR); print("tmpfile", "#" in rl("/proc/self/fd/%d" % f), rl("/proc/self/fd/%d" % f).split("#")[0], rl("/proc/self/fd/%d" % f)[-10:])
# copied up by O_TRUNC, over a whiteout
open("many/1.txt", "w").close(); f = opened("truncated", "many/1.txt"); os.unlink("many/1.txt"); show("removed", f)
f = opened("again", "many/1.txt", os.O_CREAT | os.O_RDWR); os.unlink("many/1.txt"); show("removed", f)
f = opened("target of rename", "many/2.txt"); os.rename("many/3.txt", "many/2.txt"); show("replaced lower", f)
f = opened("up", "many/2.txt"); open("n2", "w").close(); os.rename("n2", "many/2.txt"); show("replaced upper", f)
f = opened("hard1", "hard1"); show("hard", f); os.unlink("hard1"); show("hard removed", f); f = opened("hard2", "hard2", os.O_RDWR); show("hard2", f); os.unlink("hard2"); show("gone", f)
# Another process.
os.mkdir("w"); p = started(["cat"], cwd="w")
print(rl("/proc/%d/cwd" % p.pid)); os.rename("w", "w2"); print(rl("/proc/%d/cwd" % p.pid)); os.rmdir("w2"); print(rl("/proc/%d/cwd" % p.pid)); p.kill(); p.wait()
p = started(["cat"], cwd="doc")
print(rl("/proc/%d/cwd" % p.pid)); os.rename("doc", "doc2"); print(rl("/proc/%d/cwd" % p.pid)); subprocess.run(["rm", "-r", "doc2"]); print(rl("/proc/%d/cwd" % p.pid)); p.kill(); p.wait()
p = started(["bin/cat"])
print(rl("/proc/%d/exe" % p.pid), rl("/proc/%d/root" % p.pid)); os.chmod("bin/cat", 0o700); print(rl("/proc/%d/exe" % p.pid)); os.rename("bin/cat", "bin/s"); print(rl("/proc/%d/exe" % p.pid))
os.unlink("bin/tac"); print(rl("/proc/%d/exe" % p.pid)); os.unlink("bin/s"); print(rl("/proc/%d/exe" % p.pid)); p.kill(); p.wait()
shutil.copy("/bin/cat", "mine"); os.chmod("mine", 0o755); p = started(["./mine"])
print(rl("/proc/%d/exe" % p.pid)); os.unlink("mine"); print(rl("/proc/%d/exe" % p.pid)); p.kill(); p.wait()
os.mkdir("cw"); os.chdir("cw"); print(rl("/proc/self/cwd"), rl("/proc/%d/cwd" % pid)); os.rmdir("../cw"); print(rl("/proc/self/cwd"), rl("/proc/%d/cwd" % pid), rl("/proc/thread-self/cwd"))
os.chdir(top); os.chdir("empty-dir"); print(rl("/proc/self/cwd")); os.rmdir("../empty-dir"); print(rl("/proc/self/cwd"), rl("/proc/%d/cwd" % pid))
os.chdir(top)
own = subprocess.run(["bin/readlink", "/proc/self/exe"], stdout=subprocess.PIPE, text=True).stdout; print(short(own.strip()))
f = os.open("bin/readlink", os.O_RDONLY); own = subprocess.run(["/proc/self/fd/%d" % f, "/proc/self/exe"], pass_fds=[f], stdout=subprocess.PIPE, text=True).stdout; print(short(own.strip()))
pid = os.fork()
if pid == 0: os.execve(f, ["readlink", "/proc/self/exe"], os.environ)
os.waitpid(pid, 0)
PY
links="what the links in /proc say of files and directories, opened, renamed, removed, here and in other processes"
like_plain "$links" <<'BODY'
mkdir sub; echo s >sub/f
"$PYTHON" "$AUX/links.py"
BODY
elsewhere=1 like_plain "$links, of a lower that is not the target" <<'BODY'
mkdir sub; echo s >sub/f
"$PYTHON" "$AUX/links.py"
BODY

like_plain "pointers that lead nowhere are EFAULT, as the kernel says" <<'BODY'
cat >"$OUT/bad.py" <<'PY'
import ctypes, errno, mmap, os, struct
libc = ctypes.CDLL(None, use_errno=True)
P, L = ctypes.c_void_p, ctypes.c_long
libc.mmap.restype = P; libc.mmap.argtypes = [P, L, L, L, L, L]
def anonymous(protection): return libc.mmap(None, 65536, protection, 0x22, -1, 0)
gone = anonymous(3); libc.munmap(P(gone), L(65536))
nowhere = {"none": 0, "first page": 100, "closed": anonymous(0), "unmapped": gone, "end": 2**64 - 1,
           "kernel": 0xffff800000000000, "middle": 0x7fffffff0000}
space = anonymous(3)
room, read_only = P(space), P(libc.mmap(None, 65536, 1, 0x22, -1, 0))
def at(text): return ctypes.c_char_p(text)
times = struct.pack("qqqq", 1, 0, 2, 0)
fd = os.open(".", os.O_RDONLY); up = os.open("up", os.O_CREAT | os.O_RDWR)
s = libc.socket(1, 1, 0)
libc.syscall.restype = L
calls = {
    "open": lambda b: libc.open(b, 0), "openat": lambda b: libc.openat(fd, b, 0),
    "creat": lambda b: libc.creat(b, 0o644), "stat": lambda b: libc.stat(b, room),
    "stat into": lambda b: libc.stat(at(b"README"), b), "lstat into": lambda b: libc.lstat(at(b"many"), b),
    "fstat into": lambda b: libc.fstat(fd, b), "statx": lambda b: libc.statx(fd, b, 0, 0xfff, room),
    "statx into": lambda b: libc.statx(fd, at(b"README"), 0, 0xfff, b),
    "access": lambda b: libc.access(b, 0), "faccessat": lambda b: libc.faccessat(fd, b, 0, 0),
    "chmod": lambda b: libc.chmod(b, 0o600), "chown": lambda b: libc.chown(b, 0, 0),
    "unlink": lambda b: libc.unlink(b), "rmdir": lambda b: libc.rmdir(b), "mkdir": lambda b: libc.mkdir(b, 0o700),
    "rename from": lambda b: libc.rename(b, at(b"x")), "rename to": lambda b: libc.rename(at(b"README"), b),
    "link from": lambda b: libc.link(b, at(b"x")), "link to": lambda b: libc.link(at(b"README"), b),
    "symlink text": lambda b: libc.symlink(b, at(b"x")), "symlink": lambda b: libc.symlink(at(b"text"), b),
    "readlink": lambda b: libc.readlink(b, room, 99), "readlink into": lambda b: libc.readlink(at(b"link"), b, 99),
    "readlink of proc into": lambda b: libc.readlink(at(b"/proc/self/cwd"), b, 99),
    "truncate": lambda b: libc.truncate(b, L(1)), "chdir": lambda b: libc.chdir(b),
    "mknod": lambda b: libc.mknod(b, 0o10644, L(0)), "statfs": lambda b: libc.statfs(b, room),
    "statfs into": lambda b: libc.statfs(at(b"README"), b),
    "utimensat times": lambda b: libc.utimensat(fd, at(b"src"), b, 0) if b.value else -1,
    "futimens times": lambda b: libc.futimens(up, b) if b.value else -1,
    "getcwd into": lambda b: libc.syscall(L(79), b, L(4096)),
    "getdents64 into": lambda b: (os.lseek(fd, 0, 0), libc.syscall(L(217), L(fd), b, L(4096)))[1],
    "getxattr": lambda b: libc.getxattr(b, at(b"user.x"), room, 9), "getxattr name": lambda b: libc.getxattr(at(b"README"), b, room, 9),
    "setxattr name": lambda b: libc.setxattr(at(b"README"), b, room, 1, 0), "listxattr": lambda b: libc.listxattr(b, room, 99),
    "removexattr name": lambda b: libc.removexattr(at(b"README"), b),
    "connect": lambda b: libc.connect(s, b, 110), "bind": lambda b: libc.bind(s, b, 110),
    "fcntl lock": lambda b: libc.fcntl(up, 6, b), "openat2": lambda b: libc.syscall(L(437), L(fd), at(b"README"), b, L(24)),
    "openat2 path": lambda b: libc.syscall(L(437), L(fd), b, room, L(24)),
    "execve": lambda b: libc.execve(b, None, None), "inotify": lambda b: libc.inotify_add_watch(os.open("/dev/null", 0), b, 2),
}
for name, call in calls.items():
    print(name, end=":")
    for where, address in nowhere.items():
        ctypes.set_errno(0)
        r = call(P(address))
        print(" %s %s" % (where, errno.errorcode.get(ctypes.get_errno(), r) if r < 0 else "done"), end=";", flush=True)
    print()
ctypes.set_errno(0); print(libc.syscall(L(79), read_only, L(4096)), errno.errorcode.get(ctypes.get_errno()))
print(sorted(os.listdir("."))[:4])
PY
"$PYTHON" "$OUT/bad.py"; rm "$OUT/bad.py"
BODY

cat >"$AUX/small.py" <<'PY'
# Each call in a process that may not make files bigger than a few bytes: what it returns, or what kills it.
import ctypes, errno, os, resource, signal
libc = ctypes.CDLL(None, use_errno=True)
rang = []
def attempt(name, limit, call, handler=signal.SIG_DFL):
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGXFSZ, handler)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        try:
            said = call() or "done"
        except OSError as e:
            said = errno.errorcode[e.errno]
        for _ in range(9): pass  # lets Python run the handler
        # To a pipe: a file has a limit.
        os.write(1, f"{name}: {said}{' and a signal' * len(rang)}\n".encode())
        os._exit(0)
    status = os.waitpid(pid, 0)[1]
    if os.WIFSIGNALED(status):
        os.write(1, f"{name}: {signal.Signals(os.WTERMSIG(status)).name}\n".encode())
def watch():
    fd = libc.inotify_init1(0)
    if libc.inotify_add_watch(fd, b"src/u1.c", 2) < 0:
        raise OSError(ctypes.get_errno(), "")
def own():
    fd = os.open("new", os.O_CREAT | os.O_WRONLY)
    os.write(fd, b"more than one")
    os.write(fd, b"more")
def blocked():
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGXFSZ})
    try:
        os.chmod("README", 0o600)
    except OSError:
        return "pending" if signal.SIGXFSZ in signal.sigpending() else "nothing is pending"
    return "changed"
attempt("chmod", 1, lambda: os.chmod("README", 0o600))
attempt("chmod, handled", 1, lambda: os.chmod("README", 0o600), lambda *a: rang.append(1))
attempt("chmod, blocked", 1, blocked)
attempt("open for writing", 1, lambda: os.close(os.open("README", os.O_WRONLY | os.O_APPEND)))
attempt("watch", 0, watch)
attempt("maps", 0, lambda: open("/proc/self/maps").readline() == "")
attempt("unlink", 0, lambda: os.unlink("src/u2.c"))
attempt("mkdir", 0, lambda: os.mkdir("made"))
attempt("own write", 1, own)
attempt("own write, handled", 1, own, lambda *a: rang.append(1))
attempt("own truncate", 1000, lambda: os.truncate("src/u3.c", 2000))
attempt("own truncate, handled", 1000, lambda: os.truncate("src/u3.c", 2000), lambda *a: rang.append(1))
PY
place
says "what the overlay writes for itself raises no SIGXFSZ" "chmod: EFBIG
chmod, handled: EFBIG
chmod, blocked: nothing is pending
open for writing: EFBIG
watch: ENOSPC
maps: done
unlink: done
mkdir: done
own write: SIGXFSZ
own write, handled: EFBIG and a signal
own truncate: SIGXFSZ
own truncate, handled: EFBIG and a signal" <<'BODY'
"$PYTHON" "$AUX/small.py" | cat
BODY

cat >"$AUX/high.py" <<'PY'
import fcntl, os, resource, subprocess
# As high as this machine lets a process go.
most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
open("src/new", "w").close(); os.unlink("src/u1.c"); open("README", "a").write("more\n")
for number in [n for n in (1023, 1024, 4095, 4096, 5000, 65535, 65536, 70000, 131072) if n < most - 2] + [most - 2]:
    d = os.open("src", os.O_RDONLY); high = fcntl.fcntl(d, fcntl.F_DUPFD, number); os.close(d)
    print(high, len(os.listdir(high)), sorted(os.listdir(high))[:3], os.path.exists("/proc/self/fd/%d" % high))
    print(os.stat("new", dir_fd=high).st_size, os.fstat(high).st_ino == os.stat("src").st_ino,
          os.readlink("/proc/self/fd/%d" % high).endswith("/src"))
    f = os.open("u2.c", os.O_RDONLY, dir_fd=high); up = os.dup2(f, number + 1); os.close(f)
    print(os.fstat(up).st_ino == os.stat("src/u2.c").st_ino, os.fstat(up).st_dev == os.stat("README").st_dev)
    os.fchmod(up, 0o640); print(oct(os.stat("src/u2.c").st_mode), oct(os.fstat(up).st_mode))
    os.chmod("src/u2.c", 0o600)
    print(subprocess.run(["ls", "/proc/self/fd/%d/" % high], pass_fds=[high], stdout=subprocess.PIPE).stdout[:20])
    os.fchdir(high); print(os.path.basename(os.getcwd())); os.chdir("..")
    os.close(high); os.close(up)
    # The number is free again, and somebody else's.
    d = os.open("/etc", os.O_RDONLY); again = fcntl.fcntl(d, fcntl.F_DUPFD, number); os.close(d)
    print(again == high, "passwd" in os.listdir(again)); os.closerange(number, number + 1)
PY
like_plain "descriptors with high numbers" <<'BODY'
"$PYTHON" "$AUX/high.py"
BODY
elsewhere=1 like_plain "descriptors with high numbers, of a lower that is not the target" <<'BODY'
"$PYTHON" "$AUX/high.py"
BODY

cat >"$AUX/names.sh" <<'BODY'
rm README hard1; ls; ls -l hard2 | cut -d ' ' -f 2; rm src/u1.c; ls src; mv src/u2.c src/u1.c; cat src/u1.c
mv doc docs; ls docs; mv src source; ls source; rm -r many empty-dir; mkdir many; echo new >many/1.txt; ls many; mv a\ name many
mv link bin/script; ls bin; echo back >README; cat README; mv -T --exchange 2>/dev/null many bin || true
test ! -e hard1; test ! -e many/2.txt; test ! -e doc; cat linkdir/file 2>&1 | sed 's/.*: //'
BODY
cat >"$AUX/view.sh" <<'BODY'
find . | sort; find . -type f -print0 | sort -z | xargs -0 cat | cksum
BODY
name="an upper on overlayfs, which takes no whiteouts of the kernel's form"
if needs_overlock "$name" && needs_root "$name"; then
  place
  (cd "$T" && bash "$AUX/names.sh" && bash "$AUX/view.sh") >"$SCRATCH/plain.out" 2>&1 || true
  place
  ledger "$T" >"$SCRATCH/before"
  mkdir -p "$SCRATCH/inner"
  if unshare -m bash -c '
    mount -t tmpfs tmpfs "$SCRATCH/inner" && mkdir "$SCRATCH"/inner/{l,u,w,m} &&
    mount -t overlay overlay -o "lowerdir=$SCRATCH/inner/l,upperdir=$SCRATCH/inner/u,workdir=$SCRATCH/inner/w" "$SCRATCH/inner/m" &&
    : >"$SCRATCH/mounted" && cd "$SCRATCH/inner/m" && mkdir u w && ! mknod probe c 0 0 2>/dev/null &&
    cd "$T" && export OVERLOCK="lowerdir=$T,upperdir=$SCRATCH/inner/m/u,workdir=$SCRATCH/inner/m/w,target=$T,registry=$REGISTRY" LD_PRELOAD=$LIBRARY
    bash "$AUX/names.sh" && bash "$AUX/view.sh"' >"$SCRATCH/overlay.out" 2>&1 || [[ -e $SCRATCH/mounted ]]; then
    ledger "$T" >"$SCRATCH/after"
    if ! cmp -s "$SCRATCH/plain.out" "$SCRATCH/overlay.out"; then
      fail "$name" "other output: $(first_difference "$SCRATCH/plain.out" "$SCRATCH/overlay.out")"
    elif ! cmp -s "$SCRATCH/before" "$SCRATCH/after"; then
      fail "$name" "lower changed"
    else
      pass "$name"
    fi
  else
    skip "$name" "cannot mount an overlay here"
  fi
fi

like_plain "sockets tell the names that they were bound by" <<'BODY'
cat >"$OUT/names.py" <<'PY'
import os, socket, subprocess
def unix(kind=socket.SOCK_STREAM): return socket.socket(socket.AF_UNIX, kind)
top, n = os.getcwd(), 0
def pair(name, kind=socket.SOCK_STREAM, how=None):
    global n
    n += 1
    s = unix(kind); s.bind(name)
    c = unix(kind); own = os.path.join(os.path.dirname(name), "c%d" % n); c.bind(own)
    r = [s.getsockname()]
    if "/" not in name and name != "hard1" and n != 11:
        number = str(os.fstat(s.fileno()).st_ino)
        r += [line.split()[7] for line in open("/proc/net/unix") if line.split()[6] == number]
    if kind == socket.SOCK_STREAM:
        s.listen(); c.connect(how or name); a, peer = s.accept()
        r += [c.getpeername(), peer, a.getpeername(), a.getsockname(), c.getsockname()]
    else:
        c.sendto(b"x", how or name); r.append(s.recvfrom(9)); c.connect(how or name); r.append(c.getpeername())
    ask = "import socket; print(socket.socket(fileno=0).getsockname())"
    r.append(subprocess.run([os.environ["PYTHON"], "-I", "-c", ask], stdin=s, stdout=subprocess.PIPE).stdout)
    print(name, r)
pair("rel"); pair("./dot"); pair("src/in"); pair("src/../up"); pair(top + "/abs"); pair("dg", socket.SOCK_DGRAM)
pair("linkdir/via"); os.chdir("src"); pair("there"); pair("../above"); os.chdir("..")
os.unlink("hard1"); pair("hard1"); os.unlink("rel"); pair("rel"); os.chdir("/"); pair(top[1:] + "/r"); os.chdir(top)
deep = "d" * 60; os.makedirs(deep + "/" + deep); os.chdir(deep + "/" + deep); pair("deep"); os.chdir(top)
pair("x" * 100); pair("y" * 20, how="./" + "y" * 20)
PY
"$PYTHON" "$OUT/names.py"; rm "$OUT/names.py"
BODY
