#!/usr/bin/env python3
"""The same operations give the same inotify events, per watch descriptor, as in a plain directory.

Two processes work on a handful of files, a third watches some of them with random masks; once in a plain
directory, once in an overlay over a random split of the same files into two lowers and the upper. Every
event that any watch gets is compared, equal neighbours merged, and every result of inotify_add_watch,
inotify_rm_watch, poll, select and FIONREAD.

    watches.py [--library PATH] [--seed N] [--runs N] [--operations N]

Prints the seed of what differs; --seed replays it, or starts a row of --runs. Left out, since they do differ (README, Limits):
the removal of a file that somebody has open, descriptors that are older than the watch,
and a watch that is changed before its events are read. Directories: watch_directories.py.
"""

import argparse
import ctypes
import errno
import fcntl
import json
import os
import random
import select
import shutil
import struct
import subprocess
import sys
import tempfile
import termios

libc = ctypes.CDLL(None, use_errno=True)
NAMES = ["a", "b", "c", "d", "e", "f", "g"]
EVENTS = {1: "ACCESS", 2: "MODIFY", 4: "ATTRIB", 8: "CLOSE_WRITE", 16: "CLOSE_NOWRITE", 32: "OPEN",
          0x400: "DELETE_SELF", 0x800: "MOVE_SELF", 0x2000: "UNMOUNT", 0x8000: "IGNORED"}
ONESHOT, MASK_ADD, MASK_CREATE, ONLYDIR, EXCL = 1 << 31, 1 << 29, 1 << 28, 1 << 24, 1 << 26


def words(mask):
    known = [name for bit, name in EVENTS.items() if mask & bit]
    rest = mask & ~sum(EVENTS)
    return "|".join(known + ([hex(rest)] if rest else []))


# ---- what is done ---------------------------------------------------------------------------------

def choose(rng, count):
    """The operations of one run: (who, what, words…)."""
    steps = []
    for _ in range(count):
        name, other = rng.choice(NAMES), rng.choice(NAMES)
        worker = rng.randrange(2)
        kind = rng.choices(
            ["watch", "unwatch", "ready", "drain", "read", "append", "create", "cut", "replace", "chmod", "touch",
             "rename", "unlink", "link", "hold", "use", "drop"],
            [8, 2, 5, 8, 5, 6, 4, 2, 2, 3, 2, 3, 3, 3, 5, 9, 2])[0]
        if kind == "watch":
            mask = rng.choice([0xfff, 0xfff, rng.randrange(1, 0xfff), rng.randrange(0, 0x1000)])
            for flag, odds in ((ONESHOT, 6), (MASK_ADD, 5), (MASK_CREATE, 9), (ONLYDIR, 25), (EXCL, 9)):
                if rng.randrange(odds) == 0:
                    mask |= flag
            steps.append(("watcher", "watch", rng.randrange(2), name, mask))
        elif kind == "unwatch":
            steps.append(("watcher", "unwatch", rng.randrange(2), rng.randrange(8)))
        elif kind == "ready":
            steps.append(("watcher", "ready", rng.randrange(3)))
        elif kind == "drain":
            steps.append(("watcher", "drain", rng.choice([64, 4096, 4096, 65536])))
        else:
            steps.append((worker, kind, name, other))
    return steps


class Worker:
    def __init__(self):
        self.held = {}

    def do(self, kind, name, other):
        if kind == "read":
            with open(name, "rb", buffering=0) as f:
                f.read(3)
        elif kind == "append":
            fd = os.open(name, os.O_WRONLY | os.O_APPEND)
            os.write(fd, b"more")
            os.close(fd)
        elif kind == "create":
            os.close(os.open(name, os.O_RDWR | os.O_CREAT, 0o644))
        elif kind == "cut":
            os.truncate(name, 2)
        elif kind == "replace":
            fd = os.open(name, os.O_WRONLY | os.O_TRUNC)
            os.write(fd, b"new data")
            os.close(fd)
        elif kind == "chmod":
            os.chmod(name, 0o600 if os.stat(name).st_mode & 0o044 else 0o644)
        elif kind == "touch":
            os.utime(name)
        elif kind == "rename":
            os.rename(name, other)
        elif kind == "unlink":
            os.unlink(name)
        elif kind == "link":
            # A name that no lower has (README, Limits).
            os.link(name, "f" if other < "d" else "g")
        elif kind == "hold":
            self.drop(name)
            self.held[name] = os.open(name, os.O_RDONLY)
        elif kind == "use":
            if name in self.held:
                # At a place, or on from the last: the second holds a turn of its own.
                if name < other:
                    os.pread(self.held[name], 1, 0)
                else:
                    os.lseek(self.held[name], 0, 0)
                    os.read(self.held[name], 1)
        elif kind == "drop":
            self.drop(name)

    def let_go(self, *names):
        """Before the names are watched, removed or moved: of all names that their files have."""
        for name in names:
            self.drop(name)
            try:
                inode = os.stat(name).st_ino
            except OSError:
                continue
            for held in [n for n, fd in self.held.items() if os.fstat(fd).st_ino == inode]:
                self.drop(held)

    def drop(self, name):
        if name in self.held:
            os.close(self.held.pop(name))

    def serve(self, requests, answers):
        for line in requests:
            kind, name, other = json.loads(line)
            try:
                if kind == "let go":
                    self.let_go(name, other)
                else:
                    self.do(kind, name, other)
                answer = "ok"
            except OSError as e:
                answer = errno.errorcode[e.errno]
            answers.write(answer + "\n")
            answers.flush()


class Watcher:
    """Two instances; watch descriptors are told by the order in which they first came."""

    def __init__(self):
        self.fds = [libc.inotify_init1(os.O_NONBLOCK) for _ in range(2)]
        self.labels = [{}, {}]
        self.made = [[], []]
        self.streams, self.last, self.cookies = {}, {}, {}

    def watch(self, i, name, mask):
        wd = libc.inotify_add_watch(self.fds[i], name.encode(), ctypes.c_uint32(mask))
        if wd < 0:
            return errno.errorcode[ctypes.get_errno()]
        if wd not in self.labels[i]:
            self.labels[i][wd] = f"{i}.{len(self.made[i])}"
            self.made[i].append(wd)
        return self.labels[i][wd]

    def unwatch(self, i, which):
        if not self.made[i]:
            return "none"
        wd = self.made[i][which % len(self.made[i])]
        r = libc.inotify_rm_watch(self.fds[i], wd)
        return "ok" if r == 0 else errno.errorcode[ctypes.get_errno()]

    def ready(self, by):
        """Which instances have something to read, asked without and with a time to wait."""
        if by == 0:
            return [len(select.select([fd], [], [], 0)[0]) for fd in self.fds]
        if by == 1:
            return [int.from_bytes(fcntl.ioctl(fd, termios.FIONREAD, bytes(4)), sys.byteorder) for fd in self.fds]
        poll = select.poll()
        for fd in self.fds:
            poll.register(fd, select.POLLIN)
        found = dict(poll.poll(1))
        return [found.get(fd, 0) for fd in self.fds]

    def drain(self, size):
        for i, fd in enumerate(self.fds):
            while True:
                try:
                    data = os.read(fd, size)
                except BlockingIOError:
                    break
                at = 0
                while at < len(data):
                    wd, _, _, length = struct.unpack_from("iIII", data, at)
                    label = self.labels[i].get(wd, f"{i}.unknown {wd}")
                    stream = self.streams.setdefault(label, [])
                    event, move = self.hear(data, at)
                    at += 16 + length
                    if self.last.get(label) != event:
                        stream.append((event + " " + self.moves(move)).rstrip())
                    self.last[label] = event
        return "drained"

    def hear(self, data, at):
        """What makes an event equal to another, and its cookie."""
        _, mask, cookie, _ = struct.unpack_from("iIII", data, at)
        return words(mask), cookie

    def moves(self, cookie):
        """Which number a move has says nothing, but that both halves have the same."""
        return str(self.cookies.setdefault(cookie, len(self.cookies))) if cookie else ""


def second(seed, choose, operations):
    """Other operations in a second overlay over the same lowers, where there is one: none of them is this one's."""
    pipes = os.environ.pop("SECOND", None)
    if not pipes:
        return
    requests, answers = (int(n) for n in pipes.split(","))
    with open(requests, "w") as requests, open(answers) as answers:
        for who, what, *rest in choose(random.Random(seed + 2), operations):
            if who != "watcher":
                print(json.dumps([what, *rest]), file=requests, flush=True)
                answers.readline()
            yield


def inside(seed, operations, choose, worker, watcher):
    """Runs in the world, in its directory; prints what was seen."""
    steps = choose(random.Random(seed), operations)
    pipes = []
    for _ in range(2):
        request, answer = os.pipe(), os.pipe()
        if os.fork() == 0:
            os.close(request[1]), os.close(answer[0])
            for r, a in pipes:
                r.close(), a.close()
            worker().serve(os.fdopen(request[0]), os.fdopen(answer[1], "w"))
            os._exit(0)
        os.close(request[0]), os.close(answer[1])
        pipes.append((os.fdopen(request[1], "w"), os.fdopen(answer[0])))
    watcher = watcher()

    def ask(who, *what):
        pipes[who][0].write(json.dumps(what) + "\n")
        pipes[who][0].flush()
        return pipes[who][1].readline().strip()

    other = second(seed, choose, operations)
    results = []
    for who, what, *rest in steps:
        next(other, None)
        if what == "watch":
            for w in range(2):
                ask(w, "let go", rest[1], rest[1])
        if what in ("watch", "unwatch"):
            watcher.drain(65536)
        if who == "watcher":
            results.append(getattr(watcher, what)(*rest))
            continue
        if what in ("unlink", "rename"):
            for w in range(2):
                ask(w, "let go", *rest)
        results.append(ask(who, what, *rest))
    watcher.drain(65536)
    print(json.dumps({"results": results, "streams": watcher.streams}))


# ---- the two worlds -------------------------------------------------------------------------------

def fill(places, rng, where):
    """The files, each in one of the places: the same whatever `where` draws. In half of the trees some are one."""
    linked = rng.randrange(2)
    for name in NAMES[:5]:
        if linked and name in "be":
            os.link(os.path.join(place, "a" if name == "b" else "d"), os.path.join(place, name))
            continue
        data = b"x" * rng.choice([0, 1, 5000])
        # Half of them on the second lower, few in the upper.
        place = where.choice(places[:2] * 2 + places[2:])
        with open(os.path.join(place, name), "wb") as f:
            f.write(data)


def run(script, arguments, directory, environment, second=None):
    """- second: the environment of a process in another overlay."""
    me = [sys.executable, script, "--inside"] + [str(a) for a in arguments]
    other, pipes = None, ()
    if second:
        other = subprocess.Popen([sys.executable, script, "--serve"], cwd=directory, env=second,
                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        pipes = (other.stdin.fileno(), other.stdout.fileno())
        environment = dict(environment, SECOND="%d,%d" % pipes)
    try:
        r = subprocess.run(me, cwd=directory, env=environment, capture_output=True, text=True, timeout=120,
                           pass_fds=pipes)
    finally:
        if other:
            other.stdin.close()
            other.wait()
            other.stdout.close()
    if r.returncode != 0:
        return {"results": [], "streams": {}, "died": r.stderr[-600:] or r.returncode}
    return json.loads(r.stdout)


def compare(seed, operations, library, script, choose, fill, has_second):
    top = tempfile.mkdtemp(prefix="watches-")
    try:
        places = {n: os.path.join(top, n) for n in ("plain", "l1", "l2", "upper", "work", "upper2", "work2", "registry")}
        for place in places.values():
            os.mkdir(place)
        os.chmod(places["registry"], 0o700)
        fill([places["plain"]], random.Random(seed), random.Random(seed + 1))
        fill([places[n] for n in ("l1", "l2", "upper")], random.Random(seed), random.Random(seed + 1))
        plain = run(script, (seed, operations), places["plain"], dict(os.environ))
        options = (f"lowerdir={places['l1']}:{places['l2']},upperdir={places['upper']},"
                   f"workdir={places['work']},target={places['l1']},registry={places['registry']}")
        preload = dict(os.environ, LD_PRELOAD=library)
        other = options.replace("/upper,", "/upper2,").replace("/work,", "/work2,")
        overlay = run(script, (seed, operations), places["l1"], dict(preload, OVERLOCK=options),
                      dict(preload, OVERLOCK=other) if has_second(seed) else None)
    finally:
        shutil.rmtree(top)
    steps = choose(random.Random(seed), operations)
    for key in ("died",):
        if plain.get(key) or overlay.get(key):
            return f"ended early: plain {plain.get(key)!r}, overlay {overlay.get(key)!r}"
    for i, (p, o) in enumerate(zip(plain["results"], overlay["results"])):
        if p != o:
            return f"step {i} {steps[i]}: plain {p}, overlay {o}"
    for label in sorted(set(plain["streams"]) | set(overlay["streams"])):
        p, o = plain["streams"].get(label, []), overlay["streams"].get(label, [])
        if p != o:
            at = next((i for i, (x, y) in enumerate(zip(p, o)) if x != y), min(len(p), len(o)))
            return (f"watch {label}, event {at}: plain …{p[max(0, at - 3):at + 3]}, "
                    f"overlay …{o[max(0, at - 3):at + 3]}")
    return None


def main(script, choose, worker, watcher, fill, about, has_second=lambda seed: False):
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    here = os.path.dirname(script)
    parser.add_argument("--library", default=os.path.join(here, "../../.build/release/liboverlock.so"))
    parser.add_argument("--seed", type=int)
    parser.add_argument("--runs", type=int, help="100, or with --seed 1")
    parser.add_argument("--operations", type=int, default=60)
    parser.add_argument("--inside", nargs=2, type=int, help=argparse.SUPPRESS)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.serve:
        return worker().serve(sys.stdin, sys.stdout)
    if a.inside:
        return inside(*a.inside, choose, worker, watcher)
    library = os.path.realpath(a.library)
    first = a.seed if a.seed is not None else random.SystemRandom().randrange(1 << 32)
    seeds = range(first, first + (a.runs or (100 if a.seed is None else 1)))
    failed = 0
    for seed in seeds:
        difference = compare(seed, a.operations, library, script, choose, fill, has_second)
        if difference:
            failed += 1
            print(f"seed {seed}: {difference}", flush=True)
    print(f"{len(seeds)} runs from seed {first}, {failed} differ")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main(os.path.abspath(__file__), choose, Worker, Watcher, fill, __doc__)
