#!/usr/bin/env python3
"""Kills at every numbered step of what a watch on a lower file or directory needs, and of changes there.

For each step: a watcher that stays alive; one that is killed at the step while it sets its watch; a writer
that is killed at the step of its change; then one that is not. The watcher must see the last writer's
events, and no others of that time, and the file must hold what was written. Who watches a directory must know
its names from the events alone. In the end nothing may be left of anybody.

    watches_crash.py --library PATH      (built with numbered steps, which are in debug builds)
"""

import argparse
import ctypes
import os
import shutil
import struct
import subprocess
import sys
import tempfile

STEPS_AT_MOST = 200
OPEN, MODIFY, CLOSE_WRITE = 32, 2, 8
MOVED_FROM, MOVED_TO, CREATE, DELETE = 0x40, 0x80, 0x100, 0x200
NAMED = "import os; n = 'f' if os.path.exists('f') else 'g'; "
LAST = NAMED + "f = os.open(n, os.O_WRONLY | os.O_APPEND); os.write(f, b'+'); os.close(f)"
SHOW = NAMED + "print(open(n).read())"
WATCH = "import ctypes; c = ctypes.CDLL(None); f = c.inotify_init1(0); print(c.inotify_add_watch(f, b'%s', 4095))"
WRITES = ("import os; f = os.open('f', os.O_WRONLY | os.O_APPEND); os.write(f, b'+'); os.close(f)",
          "import os; os.chmod('f', 0o600)", "import os; os.rename('f', 'g')",
          "import os; os.rename('other', 'f')")
# In the directory: what copies up, makes whiteouts, goes over them, and moves what is merged.
CHANGES = ("import os; os.chmod('d/f', 0o600)", "import os; os.unlink('d/f')", "import os; os.rename('d/f', 'd/g')",
           "import os; os.rename('d/other', 'd/f')", "import os; os.unlink('d/f'); os.close(os.open('d/f', 64, 0o600))",
           "import os; os.unlink('d/f'); os.mkdir('d/f')", "import os; os.unlink('d/f'); os.link('d/other', 'd/f')",
           "import os; os.unlink('d/s/x'); os.rmdir('d/s')", "import os; os.rename('d/s', 'd/t')",
           "import os; os.unlink('d/f'); os.rename('d/s', 'd/f')",
           "import os; os.mkdir('t'); os.rename('d/s/x', 'd/x'); os.rename('t', 'd/s')",
           "import os; os.link('d/f', 'd/h'); os.rename('d', 'e'); os.rename('e', 'd')",
           "import os; f = os.open('d/f', 0); os.chmod('d/f', 0o600); os.read(f, 1)")
PLACED = "import os; d = 'd' if os.path.exists('d') else 'e'; "
LAST_IN_DIRECTORY = PLACED + "f = os.open(d + '/last', os.O_WRONLY | os.O_APPEND); os.write(f, b'+'); os.close(f)"
LIST = PLACED + "print(*sorted(os.listdir(d)))"


class World:
    def __init__(self, library):
        self.top = tempfile.mkdtemp(prefix="watches-crash-")
        p = {n: os.path.join(self.top, n) for n in ("lower", "upper", "work", "registry")}
        for place in p.values():
            os.mkdir(place, 0o700)
        self.lower, self.work = p["lower"], p["work"]
        os.makedirs(os.path.join(self.lower, "d", "s"))
        for name in ("f", "other", "d/f", "d/other", "d/last", "d/s/x"):
            with open(os.path.join(self.lower, name), "w") as f:
                f.write("lower" * 3000)
        self.environment = dict(
            os.environ, LD_PRELOAD=library,
            OVERLOCK=(f"lowerdir={self.lower},upperdir={p['upper']},workdir={self.work},"
                      f"target={self.lower},registry={p['registry']}"))

    def run(self, code, step=None):
        """The exit status: -9 where it was killed."""
        environment = dict(self.environment, **({"OVERLOCK_STEP": str(step)} if step else {}))
        return subprocess.run([sys.executable, "-I", "-S", "-c", code], cwd=self.lower, env=environment,
                              capture_output=True, timeout=60)

    def left(self):
        folders = ("anchors", "watchers", "0", "markers")
        return [os.path.join(d, n) for d, inner, names in os.walk(os.path.join(self.work, "overlock"))
                for n in (inner + names if os.path.basename(d) == "markers" else names)
                if os.path.basename(d) in folders]


def watcher(path):
    """Serves one line of its input after the other: what there is to read since the last, as mask:name."""
    libc = ctypes.CDLL(None)
    fd = libc.inotify_init1(os.O_NONBLOCK)
    print(libc.inotify_add_watch(fd, path.encode(), 0xfff), flush=True)
    for _ in sys.stdin:
        events = []
        while True:
            try:
                data = os.read(fd, 4096)
            except BlockingIOError:
                break
            at = 0
            while at < len(data):
                _, mask, _, length = struct.unpack_from("iIII", data, at)
                events.append(f"{mask}:{data[at + 16:at + 16 + length].rstrip(bytes(1)).decode()}")
                at += 16 + length
        print(*events, flush=True)


class Living:
    """A watcher that nobody kills."""

    def __init__(self, world, path):
        self.process = subprocess.Popen(
            [sys.executable, os.path.abspath(__file__), "--watch", path], cwd=world.lower, env=world.environment,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.process.stdout.readline()

    def seen(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return [(int(m), n) for m, n in (e.split(":") for e in self.process.stdout.readline().split())]

    def end(self):
        self.process.stdin.close()
        self.process.wait()


def check(world, change, step):
    """What is wrong after a kill at the step, and whether anybody reached it."""
    problems = []
    w = Living(world, "f")
    setting = world.run(WATCH % "f", step)
    changing = world.run(change, step)
    before = world.run(SHOW).stdout
    w.seen()
    last = world.run(LAST)
    if last.returncode != 0:
        problems.append(f"the last writer failed: {last.stderr[-200:]!r}")
    got = [m for m, _ in w.seen()]
    # After the file was replaced by another the watch is gone with it.
    want = [] if change == WRITES[3] and changing.returncode == 0 else [OPEN, MODIFY, CLOSE_WRITE]
    if got != want and not (change == WRITES[3] and got == []):
        problems.append(f"the watcher saw {got}")
    after = world.run(SHOW).stdout
    if len(after) != len(before) + 1:
        problems.append(f"the file has {len(after)} bytes, had {len(before)}")
    w.end()
    return problems, -9 in (setting.returncode, changing.returncode)


def check_directory(world, change, step):
    """The same of a watched directory."""
    problems = []
    names = set(world.run(LIST).stdout.decode().split())
    w = Living(world, "d")
    setting = world.run(WATCH % "d", step)
    changing = world.run(change, step)
    for mask, name in w.seen():
        if mask & (CREATE | MOVED_TO):
            names.add(name)
        elif mask & (DELETE | MOVED_FROM):
            names.discard(name)
    there = set(world.run(LIST).stdout.decode().split())
    if names != there:
        problems.append(f"the watcher knows of {sorted(names)}, there are {sorted(there)}")
    w.seen()
    last = world.run(LAST_IN_DIRECTORY)
    got, want = w.seen(), [(OPEN, "last"), (MODIFY, "last"), (CLOSE_WRITE, "last")]
    if last.returncode != 0 or got != want:
        problems.append(f"the last writer: {last.stderr[-200:]!r}, the watcher saw {got}")
    w.end()
    return problems, -9 in (setting.returncode, changing.returncode)


def sweep(world):
    """What is left when changes have been made in every directory that there is."""
    for _ in range(50):
        world.run("import os\n"
                  "for d in ('.', 'd', 'e', 'd/s', 'd/t', 'd/f'):\n"
                  "  if os.path.isdir(d): n = d + '/new'; os.close(os.open(n, 66)); os.rename(n, n + 'er'); "
                  "os.unlink(n + 'er')")
        left = world.left()
        if not left:
            return []
    return [f"left: {left}"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--library")
    parser.add_argument("--watch", help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.watch:
        return watcher(a.watch)
    failed = kills = 0
    changes = [(check, c) for c in WRITES] + [(check_directory, c) for c in CHANGES]
    for number, (check_one, change) in enumerate(changes):
        for step in range(1, STEPS_AT_MOST):
            world = World(os.path.realpath(a.library))
            try:
                problems, reached = check_one(world, change, step)
                problems += sweep(world)
            finally:
                shutil.rmtree(world.top)
            for problem in problems:
                print(f"change {number}, killed at step {step}: {problem}")
            failed += bool(problems)
            if not reached:
                break
            kills += 1
        else:
            sys.exit(f"still killed at step {STEPS_AT_MOST}")
    print(f"{kills} kills, {failed} wrong")
    if kills == 0:
        sys.exit("the library has no numbered steps: take a debug build")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
