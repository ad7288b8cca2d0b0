# What /proc says of objects of the merged tree: their paths there, and the numbers that stat shows, whichever
# layer the kernel has them in.
. "$HERE/lib/harness.bash"
make_fixture
needs_program "proc" python3 || exit 0

cat >"$AUX/proc.py" <<'PYTHON'
import fcntl, mmap, os, re, sys

MAP = re.compile(r"^[0-9a-f]+-[0-9a-f]+ (\S+) \S+ (\S+) (\d+)( +)(/.*)$")


def numbers(st):
    return "%02x:%02x" % (os.major(st.st_dev), os.minor(st.st_dev)), str(st.st_ino)


def look(title, file, here=os.getcwd()):
    """The lines about one file, with what fstat says of it in the place of its numbers."""
    st = os.fstat(file.fileno())
    for name in ("/proc/self/maps", f"/proc/{os.getpid()}/smaps", "/proc/thread-self/maps"):
        for line in open(name, encoding="utf-8", errors="surrogateescape"):
            found = MAP.match(line.rstrip("\n"))
            if found and here in found[5]:
                same = (found[2], found[3]) == numbers(st)
                column = line.index("/")
                print(title, os.path.basename(name), found[1], "as fstat" if same else "OTHER", column, ascii(found[5]))
    for line in open("/proc/self/numa_maps", encoding="utf-8", errors="surrogateescape"):
        if here in line:
            print(title, "numa", ascii([word for word in line.split() if word.startswith("file=")]))
    for line in open(f"/proc/self/fdinfo/{file.fileno()}"):
        if line.startswith("ino:"):
            print(title, "ino", "as fstat" if line.split()[1] == str(st.st_ino) else "OTHER")
        if line.startswith("lock:"):
            words = line.split()
            print(title, words[2:5], "as fstat" if words[6] == ":".join(numbers(st)) else "OTHER", words[7:])


def mapped(title, path, mode, change=None, how=mmap.MAP_PRIVATE):
    with open(path, mode) as file:
        memory = mmap.mmap(file.fileno(), 0, how, mmap.PROT_READ)
        fcntl.flock(file, fcntl.LOCK_EX)
        if change:
            change()
        look(title, file)
        memory.close()


os.chdir(sys.argv[1])
mapped("lower", "README", "r")
mapped("lower, shared", "src/deep/er/file", "r", how=mmap.MAP_SHARED)
mapped("lower, shared, renamed", "src/u5.c", "r", lambda: os.rename("src/u5.c", "src/fifth"), how=mmap.MAP_SHARED)
mapped("copied up", "README", "r+")
mapped("copied up before", "README", "r")
mapped("lower, renamed", "src/u1.c", "r", lambda: os.rename("src/u1.c", "src/a name\nof two lines"))
mapped("upper, renamed", "src/a name\nof two lines", "r+", lambda: os.rename("src/a name\nof two lines", "src/ = "))
mapped("in a renamed directory", "many/1.txt", "r", lambda: os.rename("many", "more"))
mapped("removed from the upper", "more/2.txt", "r+", lambda: os.unlink("more/2.txt"))
mapped("removed from the lower", "more/3.txt", "r", lambda: os.unlink("more/3.txt"))

# By a descriptor of the directory, on the number that is free; the copy is read-only, as the kernel's file.
with open("README") as file:
    memory = mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ)
    directory = os.open("/proc/self", os.O_DIRECTORY)
    maps = os.open("maps", os.O_RDONLY, dir_fd=directory)
    text = b"".join(iter(lambda: os.read(maps, 4096), b""))
    print(maps == directory + 1, text.count(os.getcwd().encode()))
    print(os.lseek(maps, 0, os.SEEK_SET), fcntl.fcntl(maps, fcntl.F_GETFL) & os.O_ACCMODE,
          fcntl.fcntl(maps, fcntl.F_GETFD))
    try:
        os.write(maps, b"x")
    except OSError as error:
        print(error.strerror)
# A name is not a file of /proc because it is called so.
os.mkfifo("maps")
print(os.read(os.open("maps", os.O_RDONLY | os.O_NONBLOCK), 1))
PYTHON
like_plain "proc: maps, smaps, numa_maps and fdinfo name the merged tree" <<'BODY'
"$PYTHON" "$AUX/proc.py" .
BODY

like_plain "proc: the maps of another process, whose program is in the overlay" <<'BODY'
cp "$(command -v cat)" bin/own
mkfifo "$OUT/hold"
bin/own <"$OUT/hold" &
exec 3>"$OUT/hold"
until grep -q bin/own "/proc/$!/maps" 2>/dev/null; do :; done
grep -o '/.*bin/own' "/proc/$!/maps" | sort -u
readlink "/proc/$!/exe"
exec 3>&-
wait
rm "$OUT/hold"
BODY

like_plain "proc: a process with nothing of the overlay reads the kernel's own file" <<'BODY'
cd /
grep -c "$T" /proc/self/maps || true
stat -L -c '%a %s' /proc/self/maps
BODY
