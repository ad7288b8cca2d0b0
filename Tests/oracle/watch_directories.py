#!/usr/bin/env python3
"""The same operations in a tree give watchers of its directories the same inotify events as in a plain one.

Two processes work on a small tree, a third watches its directories with random masks: once in a plain directory,
once in an overlay over a random split of the same tree into two lowers and the upper, for half of the seeds while
somebody works in a second overlay over the same lowers. Compared are, per watch
descriptor, every event with its name, which moves belong together, and every result.

    watch_directories.py [--library PATH] [--seed N] [--runs N] [--operations N]

Prints the seed of what differs; --seed replays it, or starts a row of --runs. Left out, since they do differ (README,
Limits): descriptors that are older than the watch, and a watch that is changed before its events are read.
"""

import errno
import json
import os
import random
import stat
import struct
import sys

import watches
from watches import EXCL, MASK_ADD, MASK_CREATE, ONESHOT, ONLYDIR

DIRECTORIES = ["", "d", "d/e", "g", "g/h"]
NAMES = ["a", "b", "c", "x"]
watches.EVENTS.update({0x40: "MOVED_FROM", 0x80: "MOVED_TO", 0x100: "CREATE", 0x200: "DELETE",
                       0x4000: "OVERFLOW", 0x40000000: "ISDIR"})
# What may stand in the tree at the start: mostly there.
TREE = ["d/", "d/e/", "g/", "g/h/", "a", "b", "d/a", "d/b", "d/c", "d/e/a", "g/a", "g/x", "g/h/b"]


def any_path(rng):
    return os.path.join(rng.choice(DIRECTORIES), rng.choice(NAMES))


def any_directory(rng):
    return rng.choice(DIRECTORIES + ["d/x", "x"]) or "."


def choose(rng, count):
    """The operations of one run: (who, what, words…)."""
    kinds = {"watch": 9, "unwatch": 1, "ready": 3, "drain": 6, "read": 6, "append": 6, "create": 7, "cut": 2,
             "replace": 2, "chmod": 3, "touch": 2, "rename": 6, "exchange": 2, "unlink": 7, "mkdir": 5, "rmdir": 5,
             "list": 5, "link": 3, "symlink": 2, "fifo": 1, "renamedir": 4, "chmoddir": 2, "attribute": 1,
             "hold": 6, "use": 12, "drop": 3}
    steps = []
    for _ in range(count):
        kind = rng.choices(list(kinds), list(kinds.values()))[0]
        worker = rng.randrange(2)
        if kind == "watch":
            mask = rng.choice([0xfff, 0xfff, 0xfff, rng.randrange(1, 0xfff), 0x3c0, 0x2c6])
            for flag, odds in ((ONESHOT, 9), (MASK_ADD, 8), (MASK_CREATE, 12), (ONLYDIR, 9), (EXCL, 9)):
                if rng.randrange(odds) == 0:
                    mask |= flag
            steps.append(("watcher", "watch", rng.randrange(2), any_directory(rng), mask))
        elif kind == "unwatch":
            steps.append(("watcher", "unwatch", rng.randrange(2), rng.randrange(8)))
        elif kind == "ready":
            steps.append(("watcher", "ready", rng.randrange(3)))
        elif kind == "drain":
            steps.append(("watcher", "drain", rng.choice([32, 300, 4096, 65536])))
        elif kind in ("mkdir", "rmdir", "list", "chmoddir"):
            where = any_directory(rng) if rng.randrange(3) else any_path(rng)
            steps.append((worker, kind, where, ""))
        elif kind == "renamedir":
            steps.append((worker, "rename", any_directory(rng), rng.choice([any_path(rng), any_directory(rng)])))
        elif kind in ("hold", "use", "drop", "append", "chmod", "replace"):
            # Few names, so that what is open is copied up, and read after that.
            steps.append((worker, kind, rng.choice(["a", "d/a", "g/a", any_path(rng)]), any_path(rng)))
        else:
            steps.append((worker, kind, any_path(rng), any_path(rng)))
    return steps


def has_second(seed):
    return random.Random(seed).randrange(2) == 1


def chosen(rng, count):
    """The same where a second overlay reads the same lowers: nobody is told of reading."""
    reads_alone = rng.randrange(2) == 0
    steps = choose(rng, count)
    if reads_alone:
        return steps
    return [(*s[:4], s[4] & ~0x31 or 0x3c0) if s[1] == "watch" else s for s in steps]


class Worker(watches.Worker):
    def let_go(self, *names):
        """Before a directory is watched all that is open is closed; what is removed or moved stays open."""
        if any(n in DIRECTORIES + ["."] for n in names):
            for name in list(self.held):
                self.drop(name)

    def do(self, kind, name, other):
        if kind == "mkdir":
            os.mkdir(name)
        elif kind == "rmdir":
            os.rmdir(name)
        elif kind == "list":
            os.listdir(name)
        elif kind == "link":
            os.link(name, other)
        elif kind == "symlink":
            os.symlink("nowhere", name)
        elif kind == "fifo":
            os.mkfifo(name)
        elif kind == "exchange":
            if watches.libc.renameat2(-100, name.encode(), -100, other.encode(), 2) != 0:
                e = watches.ctypes.get_errno()
                raise OSError(e, os.strerror(e))
        elif kind == "chmoddir":
            os.chmod(name, 0o700 if os.stat(name).st_mode & 0o044 else 0o755)
        elif kind == "attribute":
            os.setxattr(name, "user.mine", b"value")
        elif kind in ("read", "append", "replace", "cut", "hold") and stat.S_ISFIFO(os.stat(name).st_mode):
            raise OSError(errno.ENXIO, name)
        else:
            super().do(kind, name, other)


class Watcher(watches.Watcher):
    def hear(self, data, at):
        event, cookie = super().hear(data, at)
        length = struct.unpack_from("I", data, at + 12)[0]
        return f"{event} {data[at + 16:at + 16 + length].rstrip(bytes(1)).decode()}".rstrip(), cookie


def fill(places, rng, where):
    """The tree: whole in `places[0]` where there is one place, else split over them."""
    for name in TREE:
        data = b"x" * rng.choice([0, 1, 5000])
        is_there = rng.randrange(6) > 0
        layers = [where.choice(places)]
        if name.endswith("/") and where.randrange(2):
            layers = where.sample(places, where.randrange(1, len(places) + 1))
        if not is_there:
            continue
        for layer in layers:
            path = os.path.join(layer, name)
            os.makedirs(os.path.dirname(path) if not name.endswith("/") else path, exist_ok=True)
            if not name.endswith("/"):
                with open(path, "wb") as f:
                    f.write(data)


if __name__ == "__main__":
    watches.main(os.path.abspath(__file__), chosen, Worker, Watcher, fill, __doc__, has_second)
