# Locks on files that begin on a lower and are copied up in the middle: the same who excludes whom as on a
# plain file.
. "$HERE/lib/harness.bash"
make_fixture
needs_program "locks" gcc || exit 0
needs_program "locks" python3 || exit 0

gcc -O1 -Wall "$HERE/lib/exclusion.c" -o "$AUX/exclusion"
mkdir "$FIXTURE/locked"
for i in {0..119}; do echo data >"$FIXTURE/locked/f$i"; done
for seed in 1 2 3; do
  ignoring='locked' like_plain "six processes exclude each other while files are copied up (seed $seed)" <<BODY
"\$AUX/exclusion" locked 120 6 $seed
BODY
done

# One who holds and one who waits, on two descriptors of which one is on the lower. That the waiter sleeps is
# seen in /proc, not by a clock.
cat >"$AUX/waits.py" <<'PYTHON'
import fcntl, os, signal, struct

F_OFD_SETLK, F_OFD_SETLKW = 37, 38


def lock(kind, fd, type_, wait):
    if kind == "flock":
        flags = {"r": fcntl.LOCK_SH, "w": fcntl.LOCK_EX, "u": fcntl.LOCK_UN}[type_]
        fcntl.flock(fd, flags | (0 if wait else fcntl.LOCK_NB))
        return
    words = struct.pack("hhqqi4x", {"r": fcntl.F_RDLCK, "w": fcntl.F_WRLCK, "u": fcntl.F_UNLCK}[type_], 0, 0, 0, 0)
    if kind == "record":
        fcntl.fcntl(fd, fcntl.F_SETLKW if wait else fcntl.F_SETLK, words)
    else:
        fcntl.fcntl(fd, F_OFD_SETLKW if wait else F_OFD_SETLK, words)


def asleep(pid):
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rsplit(")", 1)[1].split()[0] == "S"


class Child:
    def __init__(self, body):
        there, back = os.pipe(), os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(there[1])
            body(lambda: os.read(there[0], 1), lambda text: os.write(back[1], text))
            os._exit(0)
        os.close(there[0])
        os.close(back[1])
        self.there, self.back = there[1], back[0]

    def go(self):
        os.write(self.there, b".")

    def answer(self):
        return os.read(self.back, 1).decode()

    def end(self):
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.there)
        os.close(self.back)


def out_of_time(*_):
    raise TimeoutError


def case(kind, name, lower_holds, how):
    # Read locks alone may be had through a descriptor for reading.
    types = ("w", "w") if kind == "flock" else ("r", "w") if lower_holds else ("w", "r")

    def hold(wait, say):
        fd = os.open(name, os.O_RDONLY if lower_holds else os.O_RDWR)
        say(b"o")
        wait()
        lock(kind, fd, types[0], False)
        say(b"h")
        wait()
        lock(kind, fd, "u", False)
        wait()

    def sleep(wait, say):
        fd = os.open(name, os.O_RDWR if lower_holds else os.O_RDONLY)
        say(b"o")
        wait()
        if how == "alarm":
            signal.signal(signal.SIGALRM, out_of_time)
            signal.setitimer(signal.ITIMER_REAL, 0.05)
        say(b"w")
        try:
            lock(kind, fd, types[1], True)
            say(b"l")
        except TimeoutError:
            say(b"a")
        wait()

    # Who is to be on the lower opens first: the other one copies the file up.
    bodies = (hold, sleep) if lower_holds else (sleep, hold)
    children = []
    for body in bodies:
        children.append(Child(body))
        assert children[-1].answer() == "o"
    holder, waiter = children if lower_holds else children[::-1]
    holder.go()
    assert holder.answer() == "h"
    waiter.go()
    assert waiter.answer() == "w"
    if how != "alarm":
        while not asleep(waiter.pid):
            pass
        if how == "kill":
            os.kill(holder.pid, signal.SIGKILL)
        else:
            holder.go()
    print(kind, "lower holds" if lower_holds else "upper holds", how, waiter.answer(), flush=True)
    for one in children:
        one.end()


number = 0
for kind in "flock", "record", "description":
    for lower_holds in True, False:
        for how in "unlock", "kill", "alarm":
            number += 1
            case(kind, f"many/{number}.txt", lower_holds, how)
PYTHON
ignoring='many' like_plain "who waits gets the lock, across a copy-up; alarm ends the wait; so does a SIGKILL" <<'BODY'
"$PYTHON" "$AUX/waits.py"
BODY

gcc -O1 -Wall -pthread "$HERE/lib/waits.c" -o "$AUX/waits"
for kind in record ofd flock; do
  ignoring='many' like_plain "a wait for $kind locks: cancelled, jumped out of, interrupted, stopped" <<BODY
"\$AUX/waits" $kind cancel many/20.txt
"\$AUX/waits" $kind jump many/21.txt
"\$AUX/waits" $kind restart many/22.txt
"\$AUX/waits" $kind stop many/23.txt
BODY
done

gcc -O1 -Wall -pthread "$HERE/lib/storm.c" -o "$AUX/storm"
ignoring='locked' like_plain "a storm of signals whose handlers lock, over eight threads that lock" <<'BODY'
"$AUX/storm" locked 120 ${STORM_SIGNALS:-1000} 2>/dev/null
BODY

gcc -O1 -Wall "$HERE/lib/steady.c" -o "$AUX/steady"
ignoring='locked' like_plain "a lock that nobody else wants is not refused while the file is copied up" <<'BODY'
"$AUX/steady" locked 120
BODY

for program in lockerrors spawned leaks killed; do
  gcc -O1 -Wall -pthread "$HERE/lib/$program.c" -o "$AUX/$program"
done
ignoring='README|doc|link' like_plain "what each wrong lock call answers, on descriptors of every kind" <<'BODY'
"$AUX/lockerrors" README src/u1.c doc
BODY
ignoring='README' like_plain "children of every kind neither take nor drop what their parent has locked" <<'BODY'
"$AUX/spawned" README
BODY
gcc -O1 -Wall -pthread "$HERE/lib/forks.c" -o "$AUX/forks"
ignoring='README' like_plain "children that another thread forks hold on to no lock" <<'BODY'
"$AUX/forks" README 60
BODY
# What may be left in the workdir when nobody has a lock any more: nothing of copy-ups and contested origins.
nothing_left() {
  local left
  [[ $WORLD == overlock ]] || return 0
  left=$(find "$SCRATCH"/work/overlock/{copyup,contested} ! -type d)
  if [[ -z $left ]]; then pass "$1"; else fail "$1" "$left"; fi
}
ignoring='u[123].c' like_plain "thousands of rounds of locks leave no descriptor, memory or mapping" <<'BODY'
"$AUX/leaks" "${LEAK_CYCLES:-2000}" src/u1.c src/u2.c src/u3.c
BODY
nothing_left "and nothing in the workdir"

mkdir "$FIXTURE/killed"
for i in {0..149}; do yes "f$i" | head -n 400 >"$FIXTURE/killed/f$i" || true; done
ignoring='killed' like_plain "eight processes lock, copy up and are killed at any instruction" <<BODY
"\$AUX/killed" killed 150 ${KILLS:-200} ${SEED:-1}
BODY
nothing_left "and no mark or half copy is left of it"
rm -r "$FIXTURE/killed"

# Two files, each process has one and wants the other: the kernel refuses whoever closes the circle. Where it leads
# over two inodes, one of those who wait across is refused.
cat >"$AUX/circle.py" <<'PYTHON'
import errno, fcntl, os, sys


def lock(fd, type_, wait):
    fcntl.lockf(fd, type_ | (0 if wait else fcntl.LOCK_NB))


def asleep(pid):
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rsplit(")", 1)[1].split()[0] == "S"


def attempt(fd):
    """Waits for the lock: what came of it."""
    try:
        lock(fd, fcntl.LOCK_EX, True)
        return "locked"
    except OSError as error:
        return errno.errorcode[error.errno]


def circle(first, second, others_first):
    lower = os.open(first, os.O_RDONLY)
    lock(lower, fcntl.LOCK_SH, False)
    ready, said, go = os.pipe(), os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(lower)
        copied = os.open(first, os.O_RDWR)
        mine = os.open(second, os.O_RDWR)
        lock(mine, fcntl.LOCK_EX, False)
        os.write(ready[1], b"r")
        os.read(go[0], 1)
        result = attempt(copied)
        # Whoever is refused gives way.
        lock(mine, fcntl.LOCK_UN, True)
        os.write(said[1], result.encode())
        os._exit(0)
    other = os.open(second, os.O_RDWR)
    os.read(ready[0], 1)
    if others_first:
        os.write(go[1], b"g")
        while not asleep(pid):
            pass
        result = attempt(other)
    else:
        helper = os.fork()
        if helper == 0:
            # Sees that the first one sleeps, then lets the second one close the circle.
            parent = os.getppid()
            while not asleep(parent):
                pass
            os.write(go[1], b"g")
            os._exit(0)
        result = attempt(other)
        os.waitpid(helper, 0)
    lock(lower, fcntl.LOCK_UN, True)
    results = [result, os.read(said[0], 20).decode()]
    os.waitpid(pid, 0)
    print(sorted(results), flush=True)


circle("many/30.txt", "many/31.txt", False)
circle("many/32.txt", "many/33.txt", True)
PYTHON
ignoring='many' like_plain "a circle of two processes and two files is refused" <<'BODY'
"$PYTHON" "$AUX/circle.py"
BODY

ignoring='README' like_plain "closing any descriptor drops the record locks of both inodes" <<'BODY'
"$PYTHON" - <<'PY'
import fcntl, os
early = os.open("README", os.O_RDONLY)
fcntl.lockf(early, fcntl.LOCK_SH | fcntl.LOCK_NB)
late = os.open("README", os.O_RDWR)
fcntl.lockf(late, fcntl.LOCK_EX | fcntl.LOCK_NB)
def other(kind):
    pid = os.fork()
    if pid == 0:
        fd = os.open("README", os.O_RDWR)
        try:
            fcntl.lockf(fd, kind | fcntl.LOCK_NB)
            os._exit(1)
        except OSError:
            os._exit(0)
    return "refused" if os.waitpid(pid, 0)[1] == 0 else "granted"
print(other(fcntl.LOCK_SH), other(fcntl.LOCK_EX))
os.close(os.dup(early))
print(other(fcntl.LOCK_SH), other(fcntl.LOCK_EX))
PY
BODY

if needs_program "flock(1)" flock; then
  ignoring='README' like_plain "flock(1) in a shell, on a file that a child copies up" <<'BODY'
exec 9<README
flock -n 9
(echo more >>README)
flock -n README true && echo granted || echo refused
sh -c 'flock -n 8 && echo granted || echo refused' 8>>README
flock -u 9
sh -c 'flock -n 8 && echo granted || echo refused' 8>>README
BODY
fi

"$PYTHON" - "$FIXTURE/base" <<'PY'
import sqlite3, sys
base = sqlite3.connect(sys.argv[1])
base.execute("create table t(x)")
base.executemany("insert into t values(?)", [(i,) for i in range(1000)])
base.commit()
PY
ignoring='base' like_plain "sqlite3: who reads a lower database keeps a writer from committing" <<'BODY'
"$PYTHON" - <<'PY'
import os, sqlite3
reader = sqlite3.connect("file:base?mode=ro", uri=True, timeout=0, isolation_level=None)
reader.execute("begin")
print(reader.execute("select count(*) from t").fetchone())
def write():
    pid = os.fork()
    if pid == 0:
        base = sqlite3.connect("base", timeout=0, isolation_level=None)
        try:
            base.execute("begin immediate")
            base.execute("insert into t values(7)")
            base.execute("commit")
            print("committed", flush=True)
        except sqlite3.OperationalError as error:
            print(error, flush=True)
        os._exit(0)
    os.waitpid(pid, 0)
write()
reader.execute("commit")
write()
print(sqlite3.connect("base").execute("pragma integrity_check").fetchone())
PY
BODY

if [[ $WORLD == overlock ]]; then
  place
  UNTOUCHED=("$T")
  # To look at the other inode takes a descriptor. Without one the answer is an error of fcntl(2), never a lock.
  says "without a descriptor left a lock over two inodes is refused" $'ENOLCK ENOLCK ENOLCK\nlocked' <<'BODY'
"$PYTHON" - <<'PY'
import errno, fcntl, os, resource, struct
early = os.open("README", os.O_RDONLY)
os.close(os.open("README", os.O_RDWR))
request = struct.pack("hhqqi4x", fcntl.F_RDLCK, 0, 0, 0, 0)
limits = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (early + 1, limits[1]))
answers = []
for call in (lambda: fcntl.flock(early, fcntl.LOCK_EX | fcntl.LOCK_NB), lambda: fcntl.fcntl(early, fcntl.F_SETLK, request),
             lambda: fcntl.fcntl(early, 37, request)):
    try:
        call()
        answers.append("locked")
    except OSError as error:
        answers.append(errno.errorcode[error.errno])
resource.setrlimit(resource.RLIMIT_NOFILE, limits)
print(*answers)
fcntl.flock(early, fcntl.LOCK_EX | fcntl.LOCK_NB)
print("locked")
PY
BODY

  place
  # Somebody without the overlay holds locks on the lower when it is copied up.
  in_overlay true
  exec 7<"$T/README"
  "$PYTHON" -c 'import fcntl; fcntl.flock(7, fcntl.LOCK_EX)'
  UNTOUCHED=("$T")
  says "an outsider's lock on the lower excludes after the copy-up" $'refused\ngranted' <<'BODY'
exec 8>>README
flock -n 8 && echo granted || echo refused
flock -u 7
flock -n 8 && echo granted || echo refused
BODY
  exec 7<&-

  place
  mkdir -p "$SCRATCH/upper2" "$SCRATCH/work2"
  second="lowerdir=$T,upperdir=$SCRATCH/upper2,workdir=$SCRATCH/work2,target=$T"
  export second
  says "two overlays exclude each other on a file that neither has copied up" $'granted\nrefused\ngranted' <<'BODY'
exec 8<README
flock -n 8 && echo granted || echo refused
OVERLOCK=$second LD_PRELOAD=$LD_PRELOAD sh -c 'flock -n README true && echo granted || echo refused'
flock -u 8
OVERLOCK=$second LD_PRELOAD=$LD_PRELOAD sh -c 'flock -n README true && echo granted || echo refused'
BODY
  rm -rf "$SCRATCH/upper2" "$SCRATCH/work2"
fi
