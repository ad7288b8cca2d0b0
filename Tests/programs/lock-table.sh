# `overlock locks`: every lock on a file of an overlay, with its path in the merged tree, who holds it and who
# waits for whom, whichever inode it is on.
. "$HERE/lib/harness.bash"
needs_overlock "the table of locks" || exit 0
[[ -x $CLI ]] || { skip "the table of locks" "no $CLI"; exit 0; }
needs_program "the table of locks" python3 || exit 0
make_fixture
export CLI REGISTRY
place

# Runs in the overlay; the tool does not.
cat >"$AUX/table.py" <<'PYTHON'
import ctypes, fcntl, json, os, signal, struct, subprocess, sys, time

OFD_SETLK, OFD_SETLKW, SETLEASE = 37, 38, 1024
names = {os.getpid(): "me"}


def words(type_, start, length):
    return struct.pack("hhqqi4x", type_, 0, start, length, 0)


def waiting(name, body):
    pid = os.fork()
    if pid == 0:
        for file in (lower, upper, source, gone):
            file.close()
        body()
        os._exit(0)
    names[pid] = name


def table():
    outside = {k: v for k, v in os.environ.items() if k not in ("LD_PRELOAD", "OVERLOCK", "OVERLOCK_STATE")}
    out = subprocess.run([os.environ["CLI"], "locks", "--json", "--registry", os.environ["REGISTRY"]],
                         env=outside, capture_output=True, check=True).stdout
    return json.loads(out)


def who(process):
    return names.get(process["pid"], "?") if process else "nobody"


def show(locks):
    for lock in locks:
        print(os.path.basename(lock["path"]), lock["kind"], lock["mode"], lock["start"], lock.get("end", "EOF"),
              lock["layer"], "contested" if lock["contested"] else "-", "removed" if lock["removed"] else "-",
              "+".join(sorted(who(p) for p in lock["holders"])))
        for w in sorted(lock["waiters"], key=lambda w: who(w.get("process"))):
            print("  ", who(w.get("process")), w["kind"], w["mode"], w["start"], w.get("end", "EOF"), "waits for",
                  "+".join(who(p) for p in w["waitsFor"]))


lower = open("README")
fcntl.flock(lower, fcntl.LOCK_SH)
with open("README", "a") as copy_up:
    copy_up.write("more\n")
upper = open("README")
fcntl.fcntl(upper, OFD_SETLK, words(fcntl.F_RDLCK, 3, 4))
source = open("src/u1.c", "r+")
fcntl.lockf(source, fcntl.LOCK_EX, 10, 5)
gone = open("src/u2.c")
fcntl.flock(gone, fcntl.LOCK_EX)
os.rename("src/u2.c", "src/moved.c")
waiting("posix", lambda: fcntl.lockf(open("src/u1.c", "r+"), fcntl.LOCK_EX))
waiting("ofd", lambda: fcntl.fcntl(open("README", "r+"), OFD_SETLKW, words(fcntl.F_WRLCK, 0, 0)))
waiting("flock", lambda: fcntl.flock(open("README", "r+"), fcntl.LOCK_EX))
# Until all three are seen to wait: the limit of the test ends a wait in vain.
while sum(len(lock["waiters"]) for lock in table()) < 3:
    pass
show(table())
for pid in [pid for pid, name in names.items() if name != "me"]:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
lower.close(), upper.close(), source.close(), gone.close()
show(table())
print("nothing")
PYTHON
says "overlock locks: kinds, ranges, layers, holders and waiters" "README flock read 0 EOF lower 1 contested - me
   flock flock write 0 EOF waits for me
README ofd read 3 6 upper contested - me
   ofd ofd write 0 EOF waits for me
moved.c flock write 0 EOF lower 1 contested - me
u1.c posix write 5 14 upper - - me
   posix posix write 0 EOF waits for me
nothing" <<'BODY'
"$PYTHON" "$AUX/table.py"
BODY

says "overlock locks: a folder of registries that is not there is told" \
  "overlock: --registry /nowhere: No such file or directory; create it, or correct the path
125" <<'BODY'
env -u LD_PRELOAD -u OVERLOCK "$CLI" locks --registry /nowhere 2>&1 || echo $?
BODY
