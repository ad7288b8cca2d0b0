# python: virtual environments, pip, the standard library's ways through the file system.
. "$HERE/lib/harness.bash"
make_fixture
"$PYTHON" -c 'import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute("create table t(x)"); c.executemany("insert into t values(?)", ((i,) for i in range(500))); c.commit()' "$FIXTURE/data.db"
"$PYTHON" - "$AUX/tiny-1.0-py3-none-any.whl" <<'PY'
import sys, zipfile
with zipfile.ZipFile(sys.argv[1], "w") as wheel:
    wheel.writestr("tiny/__init__.py", "def main():\n    import sys\n    print('tiny runs', sys.prefix == sys.base_prefix)\n")
    wheel.writestr("tiny/data.txt", "data\n")
    wheel.writestr("tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
    wheel.writestr("tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    wheel.writestr("tiny-1.0.dist-info/entry_points.txt", "[console_scripts]\ntiny = tiny:main\n")
    wheel.writestr("tiny-1.0.dist-info/RECORD", "tiny/__init__.py,,\ntiny/data.txt,,\ntiny-1.0.dist-info/METADATA,,\ntiny-1.0.dist-info/WHEEL,,\ntiny-1.0.dist-info/entry_points.txt,,\ntiny-1.0.dist-info/RECORD,,\n")
PY

if "$PYTHON" -c 'import venv, ensurepip' 2>/dev/null; then
  export PIP_NO_INDEX=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PIP_NO_CACHE_DIR=1
  # Byte code and its checksums carry the time at which the source was written.
  ignoring='__pycache__|[.]pyc|RECORD' like_plain "venv, pip install of a wheel, its console script, uninstall" <<'BODY'
"$PYTHON" -m venv env
env/bin/pip install -q "$AUX/tiny-1.0-py3-none-any.whl"
env/bin/tiny; (cd src && ../env/bin/tiny); . env/bin/activate; tiny; python -c 'import tiny, sys; print(tiny.__file__ , sys.prefix)'
pip list --format=freeze | grep tiny; pip check; pip uninstall -qy tiny; ls env/lib/python*/site-packages | grep -c tiny || true
BODY
else
  skip "venv, pip install of a wheel, its console script, uninstall" "no venv and ensurepip modules"
fi

like_plain "python: shutil" <<'BODY'
"$PYTHON" - <<'PY'
import os, shutil
shutil.copytree("src", "copy", symlinks=True)
shutil.move("src", "elsewhere")
shutil.move("README", "elsewhere/README")
shutil.rmtree("many")
shutil.copy2("elsewhere/u1.c", "doc/u1.c")
shutil.copystat("elsewhere/u1.c", "copy/u2.c")
shutil.copyfile("big", "big2")
shutil.make_archive(os.environ["OUT"] + "/a", "tar", "copy")
shutil.unpack_archive(os.environ["OUT"] + "/a.tar", "unpacked")
os.remove(os.environ["OUT"] + "/a.tar")
print(sorted(os.listdir("unpacked")), shutil.disk_usage(".").total > 0, shutil.which("script", path="bin"))
try: shutil.rmtree("many")
except FileNotFoundError as e: print(e.strerror, e.filename)
PY
BODY

like_plain "python: pathlib, glob, os.walk, fwalk, scandir" <<'BODY'
"$PYTHON" - <<'PY'
import glob, os, pathlib
p = pathlib.Path(".")
print(sorted(map(str, p.rglob("*.c"))))
print(sorted(glob.glob("**/1*.txt", recursive=True))[:5], glob.glob("src/u[12].c") != [])
(p / "src/u1.c").write_text("new")
(p / "src/u2.c").rename("src/r.c")
(p / "src/u3.c").unlink()
(p / "a/b").mkdir(parents=True)
(p / "a/b/f").touch()
(p / "src/u4.c").replace("src/u5.c")
print(pathlib.Path("linkdir").resolve() == pathlib.Path(os.environ["T"]) / "src/deep", (p / "hard1").samefile("hard2"), (p / "link").is_symlink(), p.cwd() == pathlib.Path(os.environ["T"]))
for root, dirs, files in os.walk("."): dirs.sort(); print(root, dirs, len(files))
for root, dirs, files, fd in os.fwalk("src"):
    print(root, sorted(files), all(os.stat(f, dir_fd=fd).st_size >= 0 for f in files))
with os.scandir("src") as it: print(all(e.inode() == e.stat(follow_symlinks=False).st_ino for e in it))
fd = os.open("src", os.O_RDONLY)
print(sorted(os.listdir(fd)))
os.unlink("u6.c", dir_fd=fd)
os.rename("u7.c", "s.c", src_dir_fd=fd, dst_dir_fd=fd)
os.mkdir("m", dir_fd=fd)
os.fchdir(fd)
print(os.getcwd() == os.environ["T"] + "/src", sorted(os.listdir(".")))
PY
BODY

like_plain "python: tempfile, mmap, positional and vectored io, sendfile, truncate" <<'BODY'
"$PYTHON" - <<'PY'
import mmap, os, tempfile
with tempfile.NamedTemporaryFile(dir="src") as f:
    f.write(b"x")
    f.flush()
    print(os.path.dirname(f.name) == os.environ["T"] + "/src" or os.path.dirname(f.name) , os.path.getsize(f.name))
with tempfile.TemporaryDirectory(dir=".") as d: open(d + "/x", "w").close()
with tempfile.TemporaryFile(dir="src") as f: f.write(b"y"); f.seek(0); print(f.read())
with open("README", "r+b") as f: m = mmap.mmap(f.fileno(), 0); m[:5] = b"FIRST"; m.flush()
reader = os.open("README", os.O_RDONLY)
view = mmap.mmap(reader, 0, mmap.MAP_SHARED, mmap.PROT_READ)
print(view[:10], os.pread(reader, 10, 0)); os.close(reader)
fd = os.open("src/u1.c", os.O_RDWR)
os.pwrite(fd, b"ZZ", 2)
print(os.preadv(fd, [bytearray(4)], 0), os.read(fd, 6))
os.ftruncate(fd, 3)
print(os.fstat(fd).st_size)
os.fsync(fd)
out = os.open("copy", os.O_WRONLY | os.O_CREAT)
src = os.open("big", os.O_RDONLY)
print(os.sendfile(out, src, 1 << 20, 1000), os.copy_file_range(src, out, 1000))
ro = os.open("src/u2.c", os.O_RDONLY)
os.fchmod(ro, 0o600)
os.utime(ro, (1e9, 1e9))
print(oct(os.stat("src/u2.c").st_mode), os.fstat(ro).st_mtime)
PY
BODY

needing=mapped like_plain "python: a descriptor and a mapping for reading show what somebody else maps and writes" <<'BODY'
"$PYTHON" - <<'PY'
import mmap, os
reader = os.open("README", os.O_RDONLY)
view = mmap.mmap(reader, 0, mmap.MAP_SHARED, mmap.PROT_READ)
with open("README", "r+b") as f: m = mmap.mmap(f.fileno(), 0); m[:5] = b"FIRST"; m.flush()
print(view[:10], os.pread(reader, 10, 0)); os.close(reader)
PY
BODY

like_plain "python: fcntl locks of files that are not copied up meanwhile" <<'BODY'
"$PYTHON" - <<'PY'
import fcntl, os
def other(kind, how):
    r, w = os.pipe()
    if os.fork() == 0:
        f = open("doc/locked" if how == "r" else "README", how)
        try: kind(f, fcntl.LOCK_NB | (fcntl.LOCK_SH if how == "r" else fcntl.LOCK_EX)); os.write(w, b"got it")
        except BlockingIOError: os.write(w, b"excluded")
        os._exit(0)
    os.wait(); return os.read(r, 100).decode()
f = open("README", "r+") # in the upper from here on
fcntl.lockf(f, fcntl.LOCK_SH)
print(other(fcntl.lockf, "r+"))
fcntl.lockf(f, fcntl.LOCK_UN)
print(other(fcntl.lockf, "r+"))
g = open("doc/locked") # on the lower all the time
fcntl.flock(g, fcntl.LOCK_EX)
print(other(fcntl.flock, "r"))
fcntl.flock(g, fcntl.LOCK_UN)
print(other(fcntl.flock, "r"))
PY
BODY

needing=locks like_plain "python: fcntl locks held from before a copy-up still exclude after it" <<'BODY'
"$PYTHON" - <<'PY'
import fcntl, os
def other(kind):
    r, w = os.pipe()
    if os.fork() == 0:
        f = open("README", "r+")
        try: kind(f, fcntl.LOCK_EX | fcntl.LOCK_NB); os.write(w, b"got it")
        except BlockingIOError: os.write(w, b"excluded")
        os._exit(0)
    os.wait(); return os.read(r, 100).decode()
f = open("README")
fcntl.lockf(f, fcntl.LOCK_SH)
print(other(fcntl.lockf))
g = open("doc/locked")
fcntl.flock(g, fcntl.LOCK_EX)
os.chmod("README", 0o666)
os.chmod("doc/locked", 0o666)
print(other(fcntl.lockf))
fcntl.lockf(f, fcntl.LOCK_UN)
print(other(fcntl.lockf))
fcntl.flock(f, fcntl.LOCK_EX)
print(other(fcntl.flock))
f.close()
print(other(fcntl.flock))
PY
BODY

like_plain "python: sqlite3 on a database of the lower" <<'BODY'
"$PYTHON" - <<'PY'
import sqlite3, subprocess, sys, os
c = sqlite3.connect("data.db", timeout=20)
r = sqlite3.connect("file:data.db?mode=ro", uri=True)
print(r.execute("select count(*) from t").fetchall())
with c: c.execute("insert into t values(1000)")
print(r.execute("select count(*), max(x) from t").fetchall())
c.execute("begin immediate")
print(subprocess.run([sys.executable, "-c", "import sqlite3\ntry: sqlite3.connect('data.db', timeout=0).execute('begin immediate'); print('wrong')\nexcept Exception as e: print(e)"], capture_output=True, text=True).stdout)
c.rollback()
print(c.execute("pragma journal_mode=wal").fetchall())
c.execute("delete from t where x<10")
c.commit()
print(r.execute("select count(*) from t").fetchall(), c.execute("pragma integrity_check").fetchall(), sorted(f for f in os.listdir() if f.startswith("data")))
r.close()
c.execute("pragma journal_mode=delete")
c.close()
print(sorted(f for f in os.listdir() if f.startswith("data")))
PY
BODY

like_plain "python: multiprocessing and threads share the overlay" <<'BODY'
"$PYTHON" - <<'PY'
import concurrent.futures as cf, os
def work(i):
    with open(f"many/{i}.txt", "a") as f: f.write("x")
    os.rename(f"many/{i}.txt", f"many/{i}.done"); return os.path.exists(f"many/{i}.txt")
if __name__ == "__main__":
    with cf.ThreadPoolExecutor(8) as pool: print(any(pool.map(work, range(1, 120))))
    import multiprocessing
    with multiprocessing.get_context("fork").Pool(4) as pool:
        print(any(pool.map(work, range(120, 240))))
    print(len([n for n in os.listdir("many") if n.endswith(".done")]))
PY
BODY

like_plain "python: sockets bound where a file was: names, failures, modes" <<'BODY'
"$PYTHON" - <<'EOF'
import os, socket
def attempt(what, *arguments):
    try: print(what.__name__, what(*arguments))
    except OSError as error: print(what.__name__, error.errno)
def unix(): return socket.socket(socket.AF_UNIX)
here = os.getcwd()
os.unlink("README")
listener = unix()
listener.bind(here + "/README")
listener.listen(1)
print(listener.getsockname() == here + "/README", oct(os.stat("README").st_mode))
caller = unix()
caller.connect(here + "/README")
print(caller.getpeername() == here + "/README")
attempt(unix().bind, here + "/README")
attempt(unix().bind, here + "/empty")
os.unlink("empty")
attempt(listener.bind, here + "/empty")  # it has a name already: nothing may come to light
print(os.path.exists("empty"), "empty" in os.listdir())
os.unlink("README")
attempt(os.stat, "README")
again = unix()
again.bind(here + "/README")
print(again.getsockname() == here + "/README")
EOF
rm README
BODY
