"""A watcher of a lower that is changed behind its back, for the checks of polled layers.

    polled.py story HOW          what it is told of every kind of change, waiting by HOW: poll, select, epoll, read
    polled.py hidden             changes below what the overlay hides
    polled.py once               local changes, of which inotify tells: as a watcher without an overlay is told
    polled.py mapped             a file of an ordinary directory is written through a mapping
    polled.py never              poll=0
    polled.py signals            a read that waits, and signals
    polled.py outsider           runs commands for the others, outside of the overlay

Run in the target, but for the last. BACK is the lower, as those see it who change it behind the kernel's back; LOWER is
the same through this kernel. What the watcher itself started would be in the overlay: the outsider is asked through
the FIFOs ASK and ANSWER.
"""

import ctypes
import errno
import json
import mmap
import os
import select
import signal
import struct
import subprocess
import sys
import time

EVENTS = {1: "ACCESS", 2: "MODIFY", 4: "ATTRIB", 8: "CLOSE_WRITE", 16: "CLOSE_NOWRITE", 32: "OPEN",
          0x40: "MOVED_FROM", 0x80: "MOVED_TO", 0x100: "CREATE", 0x200: "DELETE", 0x400: "DELETE_SELF",
          0x800: "MOVE_SELF", 0x4000: "OVERFLOW", 0x8000: "IGNORED", 0x40000000: "ISDIR"}
LIMIT_S = 60
libc = ctypes.CDLL(None, use_errno=True)
back, lower = os.environ["BACK"], os.environ["LOWER"]
asking, answering = None, None


class Watcher:
    def __init__(self, how="poll"):
        self.how = how
        self.fd = libc.inotify_init1(0 if how == "read" else os.O_NONBLOCK)
        self.marks = 0
        self.epoll = None
        self.wds = {}
        if how == "epoll":
            self.epoll = select.epoll()
            self.epoll.register(self.fd, select.EPOLLIN)

    def add(self, path, mask=0xfff):
        wd = libc.inotify_add_watch(self.fd, path.encode(), ctypes.c_uint32(mask))
        if wd < 0:
            sys.exit(f"{path}: {os.strerror(ctypes.get_errno())}")
        self.wds[wd] = path

    def wait(self):
        """Until read will not wait."""
        if self.how == "poll":
            p = select.poll()
            p.register(self.fd, select.POLLIN)
            ready = p.poll(LIMIT_S * 1000)
        elif self.how == "select":
            ready = select.select([self.fd], [], [], LIMIT_S)[0]
        elif self.how == "epoll":
            ready = self.epoll.poll(LIMIT_S)
        else:
            ready = True
        if not ready:
            sys.exit("nothing to be read in time")

    def events(self):
        self.wait()
        return [(self.wds.get(wd, wd), word, name) for wd, word, name in parse(os.read(self.fd, 4096))]

    def until(self, *wanted):
        """All events up to that in which every wanted one was told."""
        seen = []
        while not all(w in seen for w in wanted):
            seen += self.events()
        return seen

    def told(self, change):
        """What is told of a change, up to two marks, the second of which is made when the first is told: by then
        everything that was found with the first was told."""
        change()
        seen = []
        for _ in range(2):
            self.marks += 1
            mark = f"mark{self.marks}"
            ask(f"mkdir marks/{mark}", back)
            seen += self.until(("marks", "CREATE|ISDIR", mark))
        return [e for e in seen if e[0] != "marks"]


def parse(data):
    at = 0
    while at < len(data):
        wd, mask, _, length = struct.unpack_from("iIII", data, at)
        name = data[at + 16:at + 16 + length].rstrip(b"\0").decode()
        at += 16 + length
        yield wd, "|".join(n for bit, n in EVENTS.items() if mask & bit), name


def ask(command, directory):
    global asking, answering
    if asking is None:
        asking, answering = open(os.environ["ASK"], "w"), open(os.environ["ANSWER"])
    print(json.dumps([command, directory]), file=asking, flush=True)
    answer = answering.readline()
    if answer == "":
        sys.exit(f"{command}: no answer")
    status, said = json.loads(answer)
    if status != 0:
        sys.exit(f"{command}: status {status}")
    return said


def outsider():
    with open(os.environ["ASK"]) as questions, open(os.environ["ANSWER"], "w") as answers:
        for line in questions:
            command, directory = json.loads(line)
            done = subprocess.run(["bash", "-c", command], cwd=directory, stdout=subprocess.PIPE, text=True)
            print(json.dumps([done.returncode, done.stdout]), file=answers, flush=True)


def behind(command):
    """Another client: through the directory that the file system shows, which raises no event here."""
    return lambda: ask(command, back)


def outside(command):
    """Somebody on this machine who is not in the overlay."""
    return lambda: ask(command, lower)


def inside(command):
    return lambda: subprocess.run(["bash", "-c", command], check=True)


def show(title, seen):
    print(title, "->", " ".join(sorted(f"{path}:{word}:{name}" for path, word, name in seen)))


def story(how):
    w = Watcher(how)
    for path in ("dir", "file", "marks"):
        w.add(path)
    show("written", w.told(behind("echo more >>file")))
    show("mode", w.told(behind("chmod 600 file")))
    show("made", w.told(behind("echo new >dir/new; : >dir/empty; mkdir dir/sub; ln -s x dir/link")))
    show("changed", w.told(behind("echo more >>dir/one; chmod 600 dir/two")))
    show("below", w.told(behind(": >dir/sub/below")))
    show("replaced", w.told(behind("echo other >.two; mv .two dir/two")))
    show("renamed", w.told(behind("mv dir/one dir/uno")))
    show("removed", w.told(behind("rm dir/new dir/link; rm -r dir/sub")))
    show("newlines", w.told(behind("echo x >$'dir/a\\nb'")))
    seen = w.told(behind("rm file"))
    seen += [] if ("file", "IGNORED", "") in seen else w.until(("file", "IGNORED", ""))
    show("gone", [e for e in seen if e[0] != "marks"])
    show("many", [("dir", len(w.told(behind("for i in {1..300}; do echo $i >dir/many$i; done"))), "events")])
    w.add("dir", 0x200)
    show("deletions", w.told(behind("rm dir/many2; echo x >>dir/many3; : >dir/late")))


def hidden():
    w = Watcher()
    for path in ("dir", "file", "marks"):
        w.add(path)
    w.told(inside("rm dir/one; echo here >>dir/two; echo here >>file; mkdir dir/sub; echo new >dir/new"))
    show("hidden", w.told(behind("echo x >>dir/one; chmod 600 dir/two; echo x >>file; echo x >dir/new; rm file")))
    show("shown", w.told(behind("echo x >dir/three")))


def once():
    """Local changes, by the dozen, while looks are taken all the time."""
    said = os.environ["ASK"] + ".said"
    outside(f"'{sys.executable}' '{__file__}' reference >'{said}' & until grep -q ready '{said}'; do :; done")()
    w = Watcher()
    for path in ("dir", "file"):
        w.add(path, 0x3c6)
    outside("""for i in {1..120}; do
        echo $i >>file; echo $i >dir/made$i; chmod 600 dir/made$i; echo more >>dir/one; touch dir/two
        ((i % 3)) || mv dir/made$i dir/moved$i; ((i % 5)) || rm -f dir/made$i
        done; : >dir/end""")()
    mine = w.until(("dir", "CREATE", "end"))
    # Whatever is told twice is told within two looks of a change made behind the back, later.
    w.add("marks")
    mine += w.told(lambda: None)
    lines = outside(f"until grep -q :end '{said}'; do :; done; cat '{said}'")().splitlines()[1:]
    theirs = [tuple(line.split(":")) for line in lines]

    def merged(events, path):
        kept = []
        for e in (e for e in events if e[0] == path):
            if not kept or kept[-1] != e:
                kept.append(e)
        return kept
    for path in ("dir", "file"):
        a, b = merged(mine, path), merged(theirs, path)
        print(path, "as without an overlay" if a == b else f"{len(a)} events for {len(b)}: {set(a) ^ set(b)}")
        if a != b:
            print(next((i, x, y) for i, (x, y) in enumerate(zip(a + [None], b + [None])) if x != y))


def reference():
    w = Watcher()
    for path in ("dir", "file"):
        w.add(path, 0x3c6)
    print("ready", flush=True)
    for path, word, name in w.until(("dir", "CREATE", "end")):
        print(f"{path}:{word}:{name}")


def mapped():
    w = Watcher()
    for path in (".", "file"):
        w.add(path)

    # What is written through a mapping raises no event.
    outside("""python3 -c "import mmap
with open('file', 'r+b') as f, mmap.mmap(f.fileno(), 0) as m: m[0] = 42; m.flush()" """)()
    seen = w.until((".", "MODIFY", "file"), ("file", "MODIFY", ""))
    show("mapped", {e for e in seen if e[1] == "MODIFY"})


def never():
    w = Watcher()
    for path in ("dir", "file"):
        w.add(path)
    behind("echo x >>file; echo x >dir/new")()
    p = select.poll()
    p.register(w.fd, select.POLLIN)
    print("told of" if p.poll(2000) else "nothing")
    outside("chmod 600 file")()
    show("inotify's own", w.until(("file", "ATTRIB", "")))


def signals():
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    ask("true", back)
    for ends in (False, True):
        w = Watcher("read")
        w.add("file")
        handled = []
        signal.signal(signal.SIGALRM, lambda *_: handled.append(1))
        signal.siginterrupt(signal.SIGALRM, ends)
        child = os.fork()
        if child == 0:
            # Three signals, each when the last was handled as far as another process can tell: it sleeps again.
            for _ in range(3):
                os.kill(os.getppid(), signal.SIGALRM)
                time.sleep(0.2)
            behind("echo more >>file")()
            os._exit(0)
        room = ctypes.create_string_buffer(4096)
        n = libc.read(w.fd, room, 4096)
        while n < 0 and ctypes.get_errno() == errno.EINTR and not handled:
            n = libc.read(w.fd, room, 4096)
        print("ends the read" if ends else "starts again:",
              [word for _, word, _ in parse(room.raw[:n])] if n >= 0 else errno.errorcode[ctypes.get_errno()])
        os.waitpid(child, 0)
        os.close(w.fd)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
