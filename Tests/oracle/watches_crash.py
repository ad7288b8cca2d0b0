#!/usr/bin/env python3
"""Kills at every numbered step of what a watch on a lower file needs, and of copying the file up.

For each step: a watcher that stays alive; one that is killed at the step while it sets its watch; a writer
that is killed at the step of its copy-up; then one that is not. The watcher must see the last writer's
events, and no others of that time, and the file must hold what was written; in the end nothing may be left
of anybody.

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
NAMED = "import os; n = 'f' if os.path.exists('f') else 'g'; "
LAST = NAMED + "f = os.open(n, os.O_WRONLY | os.O_APPEND); os.write(f, b'+'); os.close(f)"
SHOW = NAMED + "print(open(n).read())"
WATCH = ("import ctypes; c = ctypes.CDLL(None); f = c.inotify_init1(0); "
         "print(c.inotify_add_watch(f, b'f', 4095))")
WRITES = ("import os; f = os.open('f', os.O_WRONLY | os.O_APPEND); os.write(f, b'+'); os.close(f)",
          "import os; os.chmod('f', 0o600)", "import os; os.rename('f', 'g')",
          "import os; os.rename('other', 'f')")


class World:
    def __init__(self, library):
        self.top = tempfile.mkdtemp(prefix="watches-crash-")
        p = {n: os.path.join(self.top, n) for n in ("lower", "upper", "work", "registry")}
        for place in p.values():
            os.mkdir(place, 0o700)
        self.lower, self.work = p["lower"], p["work"]
        for name in ("f", "other"):
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
        return [os.path.join(d, n) for d, _, names in os.walk(os.path.join(self.work, "overlock"))
                for n in names if os.path.basename(d) in ("anchors", "watchers", "0")]


def watcher():
    """Serves one line of its input after the other: what there is to read since the last."""
    libc = ctypes.CDLL(None)
    fd = libc.inotify_init1(os.O_NONBLOCK)
    print(libc.inotify_add_watch(fd, b"f", 0xfff), flush=True)
    for _ in sys.stdin:
        masks = []
        while True:
            try:
                data = os.read(fd, 4096)
            except BlockingIOError:
                break
            for at in range(0, len(data), 16):
                masks.append(struct.unpack_from("iI", data, at)[1])
        print(*masks, flush=True)


def check(world, change, step):
    """What is wrong after a kill at the step, and whether anybody reached it."""
    problems = []
    w = subprocess.Popen([sys.executable, os.path.abspath(__file__), "--watch"], cwd=world.lower,
                         env=world.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    w.stdout.readline()

    def seen():
        w.stdin.write("\n")
        w.stdin.flush()
        return [int(m) for m in w.stdout.readline().split()]

    setting = world.run(WATCH, step)
    changing = world.run(change, step)
    before = world.run(SHOW).stdout
    seen()
    last = world.run(LAST)
    if last.returncode != 0:
        problems.append(f"the last writer failed: {last.stderr[-200:]!r}")
    got = seen()
    # After the file was replaced by another the watch is gone with it.
    want = [] if change == WRITES[3] and changing.returncode == 0 else [OPEN, MODIFY, CLOSE_WRITE]
    if got != want and not (change == WRITES[3] and got == []):
        problems.append(f"the watcher saw {got}")
    after = world.run(SHOW).stdout
    if len(after) != len(before) + 1:
        problems.append(f"the file has {len(after)} bytes, had {len(before)}")
    w.stdin.close()
    w.wait()
    for _ in range(50):
        world.run("import os; os.path.exists('f') and os.rename('f', 'g'); os.rename('g', 'f')")
        left = world.left()
        if not left:
            break
    else:
        problems.append(f"left: {left}")
    return problems, -9 in (setting.returncode, changing.returncode)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--library")
    parser.add_argument("--watch", action="store_true", help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.watch:
        return watcher()
    failed = kills = 0
    for number, change in enumerate(WRITES):
        for step in range(1, STEPS_AT_MOST):
            world = World(os.path.realpath(a.library))
            try:
                problems, reached = check(world, change, step)
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
