# `overlock watches`: every inotify watch on an object of an overlay, with its path in the merged tree as it is now, what
# its program asked for, and the real objects behind it. Looking for them is nothing that a watcher is told of.
. "$HERE/lib/harness.bash"
needs_overlock "the table of watches" || exit 0
[[ -x $CLI ]] || { skip "the table of watches" "no $CLI"; exit 0; }
needs_program "the table of watches" python3 || exit 0
make_fixture
cp "$HERE/lib/watching.py" "$AUX/watching.py"
# Segments of other subjects' overlays, whose directories are gone, may have the inode numbers of these.
REGISTRY=$REGISTRY/watch-table
mkdir -m 700 "$REGISTRY"
export CLI REGISTRY

two_lowers() {
  place
  rm -rf "$SCRATCH/second"
  mkdir -p "$SCRATCH/second/src/deep"
  echo second >"$SCRATCH/second/src/second.c"
  OVERLAYS=("lowerdir=$SCRATCH/second:$T,upperdir=$SCRATCH/upper,workdir=$SCRATCH/work,target=$T")
}

cat >"$AUX/table.py" <<'PYTHON'
import json, os, subprocess, sys

sys.path.insert(0, os.environ["AUX"])
import watching

OUTSIDE = {k: v for k, v in os.environ.items() if k not in ("LD_PRELOAD", "OVERLOCK", "OVERLOCK_STATE")}
COMMAND = [os.environ["CLI"], "watches", "--registry", os.environ["REGISTRY"]]
ACCESS, MODIFY, ATTRIB, CLOSE_WRITE, CLOSE_NOWRITE, OPEN = 1, 2, 4, 8, 16, 32
MOVED_FROM, MOVED_TO, CREATE, DELETE, DELETE_SELF, MOVE_SELF, ALL = 0x40, 0x80, 0x100, 0x200, 0x400, 0x800, 0xfff
names = {os.getpid(): "me"}


def table():
    out = subprocess.run([*COMMAND, "--json"], env=OUTSIDE, capture_output=True, check=True).stdout
    return json.loads(out)


def words(row):
    """A row without what is another number each time."""
    events = "|".join(e.removeprefix("IN_") for e in row["events"])
    state = [w for w in ("outside", "removed") if row[w]]
    return " ".join([os.path.relpath(row.get("path", "?"), os.environ["T"]), names.get(row["process"]["pid"], "?"),
                     "ALL" if len(row["events"]) == 12 else events,
                     "+".join(o["layer"] for o in row["objects"]), *state])


def show(step):
    print(step)
    for line in sorted(words(row) for row in table()):
        print(" ", line)
    sys.stdout.flush()


def program():
    """Watches of one instance through copy-up, renames and removals."""
    w = watching.Watcher()
    wds = {p: w.add(p, m) for p, m in (
        (".", ALL), ("README", MODIFY | CLOSE_WRITE), ("big", CLOSE_NOWRITE), ("empty", OPEN | CLOSE_NOWRITE | MOVE_SELF),
        ("src", CREATE | DELETE_SELF), ("src/deep", ATTRIB), ("src/u1.c", ALL), ("many", ALL))}
    copy = os.dup(w.fd)
    show("set")
    # The watch descriptors are the program's own.
    for row in table():
        path = os.path.relpath(row["path"], os.environ["T"])
        if (row["watch"], row["descriptors"]) != (wds[path], [w.fd, copy]):
            print(path, row["watch"], row["descriptors"])
    told = w.events()
    print("told of the looking:", *told)
    w.add("README", ATTRIB | 0x20000000)
    w.add("src", DELETE)
    watching.other("echo more >>README; : >>big; mv src/u1.c src/'u\n1.c'; echo new >new; mv src moved")
    w.add("new", MODIFY)
    show("copied up and renamed")
    watching.other("rm README 'moved/u\n1.c'")
    show("removed")
    os.close(w.fd)
    show("one of two descriptors closed")
    os.close(copy)
    show("none")


def held():
    """Watches, and does what it is told."""
    w = watching.Watcher()
    for p in sys.argv[2:]:
        w.add(p, MODIFY)
    print("ready", flush=True)
    for line in sys.stdin:
        watching.other(line)
        print("done", flush=True)


def others():
    """From outside: what a process in the overlay watches, and one that is not."""
    lower, target = os.environ["LOWER"], os.environ["T"]
    inside = dict(os.environ, OVERLOCK=os.environ["LINE"], LD_PRELOAD=os.environ["LIBRARY"])
    run = lambda env, *paths: subprocess.Popen(
        [sys.executable, __file__, "held", *paths], env=env, cwd=target, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        text=True)
    me, outsider = run(inside, "README", "src"), run(os.environ, f"{lower}/README", f"{lower}/src", f"{lower}/..")
    names.update({me.pid: "me", outsider.pid: "outsider"})
    for child in me, outsider:
        child.stdout.readline()
    show("set")
    me.stdin.write("mv README other; mv src moved\n")
    me.stdin.flush()
    me.stdout.readline()
    show("renamed")
    # What it says of the real objects is so.
    for row in table():
        for o in row["objects"]:
            os.lstat(o["path"])
            with open(f"/proc/{row['process']['pid']}/fdinfo/{row['descriptors'][0]}") as info:
                line, = (l for l in info if l.startswith(f"inotify wd:{o['watch']:x} "))
            if f" ino:{os.lstat(o['path']).st_ino:x} " not in line:
                print(o, line)
    for child in me, outsider:
        child.communicate()
    show("none")


def open_and_removed():
    w = watching.Watcher()
    with open("made", "w") as made:
        w.add("made", MODIFY)
        os.remove("made")
        made.flush()
        show("open")
    w.events()
    show("closed")


def forked():
    w = watching.Watcher()
    w.add("README", MODIFY)
    held, ends = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(ends)
        os.read(held, 1)
        os._exit(0)
    names[child] = "child"
    show("two processes")
    os.close(ends)
    os.waitpid(child, 0)
    show("one")


def read_only():
    """Without an upper what is asked of a directory's names cannot be told."""
    w = watching.Watcher()
    for name in "src", "src/second.c", "README":
        w.add(name, MODIFY)
    show("set")


def links():
    """A group of links, of which the name goes that was shown. With the last the watch goes."""
    w = watching.Watcher()
    w.add("hard1", MODIFY)
    names = {"hard1", "hard2"}
    while names:
        row, = table()
        name = os.path.basename(row["path"])
        print(name in names, row["removed"])
        os.remove(name)
        names.remove(name)
    print(len(table()))


def again():
    """--watch prints when something changes."""
    w = watching.Watcher()
    out = subprocess.Popen([*COMMAND, "--watch"], env=OUTSIDE, stdout=subprocess.PIPE, text=True)

    def until(text):
        while text not in (line := out.stdout.readline()):
            if not line:
                sys.exit("ended")

    until("COMMAND")
    w.add("README", MODIFY)
    until("anchor,lower 1  -      " + os.environ["T"] + "/README")
    watching.other("mv README other")
    until("upper,lower 1  -      " + os.environ["T"] + "/other")
    os.close(w.fd)
    until("COMMAND")
    out.kill()
    out.wait()
    print("seen")


globals()[sys.argv[1]]()
PYTHON

two_lowers
says "overlock watches: events, layers, and paths as they are now" "set
  . me ALL upper+lower 1+lower 2
  README me MODIFY|CLOSE_WRITE anchor+lower 2
  big me CLOSE_NOWRITE anchor+lower 2
  empty me CLOSE_NOWRITE|OPEN|MOVE_SELF anchor+lower 2
  many me ALL upper+lower 2
  src me CREATE|DELETE_SELF upper+lower 1+lower 2
  src/deep me ATTRIB upper+lower 1+lower 2
  src/u1.c me ALL anchor+lower 2
told of the looking:
copied up and renamed
  . me ALL upper+lower 1+lower 2
  README me MODIFY|ATTRIB|CLOSE_WRITE upper+lower 2
  big me CLOSE_NOWRITE upper+lower 2
  empty me CLOSE_NOWRITE|OPEN|MOVE_SELF anchor+lower 2
  many me ALL upper+lower 2
  moved me DELETE upper+lower 1+lower 2
  moved/deep me ATTRIB upper+lower 1+lower 2
  moved/u
1.c me ALL upper+lower 2
  new me MODIFY upper
removed
  . me ALL upper+lower 1+lower 2
  README me MODIFY|ATTRIB|CLOSE_WRITE lower 2 removed
  big me CLOSE_NOWRITE upper+lower 2
  empty me CLOSE_NOWRITE|OPEN|MOVE_SELF anchor+lower 2
  many me ALL upper+lower 2
  moved me DELETE upper+lower 1+lower 2
  moved/deep me ATTRIB upper+lower 1+lower 2
  moved/u
1.c me ALL lower 2 removed
  new me MODIFY upper
one of two descriptors closed
  . me ALL upper+lower 1+lower 2
  README me MODIFY|ATTRIB|CLOSE_WRITE lower 2 removed
  big me CLOSE_NOWRITE upper+lower 2
  empty me CLOSE_NOWRITE|OPEN|MOVE_SELF anchor+lower 2
  many me ALL upper+lower 2
  moved me DELETE upper+lower 1+lower 2
  moved/deep me ATTRIB upper+lower 1+lower 2
  moved/u
1.c me ALL lower 2 removed
  new me MODIFY upper
none" <<'BODY'
"$PYTHON" "$AUX/table.py" program
BODY

name="overlock watches: who is not in the overlay watches a lower"
elsewhere=1 place
export LOWER
want="set
  README me MODIFY anchor+lower 1
  README outsider MODIFY lower 1 outside
  src me MODIFY upper+lower 1
  src outsider MODIFY lower 1 outside
renamed
  moved me MODIFY upper+lower 1
  moved outsider MODIFY lower 1 outside
  other me MODIFY upper+lower 1
  other outsider MODIFY lower 1 outside
none"
got=$(LINE="${OVERLAYS[0]},registry=$REGISTRY" timeout -k 5 "$LIMIT_S" "$PYTHON" "$AUX/table.py" others 2>&1) || true
if [[ $got == "$want" ]]; then pass "$name"; else fail "$name" "expected $want got $got"; fi

place
says "overlock watches: a removed file that somebody has open" "open
  made me MODIFY upper removed
closed" <<'BODY'
"$PYTHON" "$AUX/table.py" open_and_removed
BODY

place
says "overlock watches: an instance of two processes" "two processes
  README child MODIFY anchor+lower 1
  README me MODIFY anchor+lower 1
one
  README me MODIFY anchor+lower 1" <<'BODY'
"$PYTHON" "$AUX/table.py" forked
BODY

place
says "overlock watches: a file with two names" "True False
True False
0" <<'BODY'
"$PYTHON" "$AUX/table.py" links
BODY

place
says "overlock watches --watch: the list is printed again when it changes" "seen" <<'BODY'
"$PYTHON" "$AUX/table.py" again
BODY

says "overlock watches: a folder of registries that is not there is told" \
  "overlock: --registry /nowhere: No such file or directory; create it, or correct the path
125" <<'BODY'
env -u LD_PRELOAD -u OVERLOCK "$CLI" watches --registry /nowhere 2>&1 || echo $?
BODY

# The last, since its registry stays, in which the others' programs would be outside.
two_lowers
OVERLAYS=("lowerdir=$SCRATCH/second:$T,target=$T")
says "overlock watches: an overlay without an upper" "set
  README me MODIFY lower 2
  src me MODIFY|MOVED_FROM|MOVED_TO|CREATE|DELETE lower 1+lower 2
  src/second.c me MODIFY lower 1" <<'BODY'
"$PYTHON" "$AUX/table.py" read_only
BODY
