"""Random operations on names: making, removing, moving, looking up, listing, changing directory.

Each function chooses one operation and tells the chooser what it probably did.
"""

from __future__ import annotations

from chooser import FILES, Chooser, Operation
from generate import link_target, script
from tree import pick


def mkdir(c: Chooser) -> Operation:
    path = c.fresh() if c.chance(0.9) else c.existing()
    c.created(path, "dir")
    mode = pick(c.rng, [0o755, 0o777, 0o700, 0o2775])
    return c.name({"op": "mkdir", "mode": mode}, path)


def rmdir(c: Chooser) -> Operation:
    path = c.existing("dir", own=True) if c.chance(0.9) else c.existing(own=True)
    c.removed(path)
    return c.name({"op": "rmdir"}, path)


def unlink(c: Chooser) -> Operation:
    path = c.existing("file", "link", "fifo", "sock", "char", own=True)
    c.removed(path)
    return c.name({"op": "unlink"}, path)


def remove_tree(c: Chooser) -> Operation:
    """rm -r: what makes a merged directory one of whiteouts only."""
    path = c.existing("dir", own=True)
    c.removed(path)
    return c.name({"op": "remove_tree"}, path)


def symlink(c: Chooser) -> Operation:
    path = c.fresh()
    c.created(path, "link")
    return c.name({"op": "symlink", "target": link_target(c.rng)}, path)


def mknod(c: Chooser) -> Operation:
    path = c.fresh()
    kind = pick(c.rng, ["fifo", "file", "sock"] + ["char"] * c.privileged)
    c.created(path, kind)
    return c.name({"op": "mknod", "kind": kind, "mode": 0o644}, path)


def link(c: Chooser) -> Operation:
    source, target = c.existing("file", "link", "fifo", own=True), c.fresh()
    c.created(target, c.kinds.get(source, "file"))
    operation = c.name({"op": "link", "follow": c.chance(0.2)}, source)
    return c.name(operation, target, "to")


def link_descriptor(c: Chooser) -> Operation:
    """linkat of an O_TMPFILE or any held file, by /proc/self/fd or AT_EMPTY_PATH."""
    path = c.fresh()
    c.created(path, "file")
    operation = {"op": "link_descriptor", "slot": c.slot("tmpfile", *FILES), "empty": c.chance(0.3)}
    return c.name(operation, path)


def rename(c: Chooser) -> Operation:
    source = c.existing("dir", own=True) if c.chance(0.4) else c.existing(own=True)
    target = c.fresh() if c.chance(0.6) else c.existing(c.kinds.get(source, "file"), own=True)
    flags = pick(c.rng, [0, 1, 2], [70, 12, 18])
    if flags == 2:
        target = c.existing(own=True)
        c.exchanged(source, target)
    else:
        c.moved(source, target)
    operation = c.name({"op": "rename", "flags": flags, "raw": c.chance(0.2)}, source)
    return c.name(operation, target, "to")


def look(c: Chooser) -> Operation:
    op = pick(c.rng, ["stat", "lstat", "statx", "access", "readlink", "realpath"],
              [4, 6, 3, 3, 2, 2])
    path = c.existing("link") if op == "readlink" and c.chance(0.8) else c.existing()
    if c.chance(0.12):
        path = c.any_name()
    operation: Operation = {"op": op}
    if op == "statx":
        operation |= {"follow": c.chance(0.5), "raw": c.chance(0.3)}
    elif op == "access":
        operation |= {"mode": c.rng.randrange(8), "effective": c.chance(0.3)}
    return c.name(operation, path)


def listing(c: Chooser) -> Operation:
    return c.name({"op": pick(c.rng, ["listdir", "scandir", "walk", "glob"], [5, 5, 1, 1])},
                  c.directory())


def list_descriptor(c: Chooser) -> Operation:
    return {"op": "list_descriptor", "slot": c.slot("dir")}


def stream(c: Chooser) -> Operation:
    """A DIR stream held over changes, rewound before each reading."""
    if c.chance(0.4):
        return c.name({"op": "open_stream", "slot": "D0"}, c.directory())
    return {"op": "read_stream", "slot": "D0"}


def chdir(c: Chooser) -> Operation:
    if c.chance(0.3):
        slot = c.slot("dir")
        if slot in c.held[c.worker]:
            c.went(c.held[c.worker][slot][1])
        return {"op": "fchdir", "slot": slot}
    path = c.directory()
    c.went(path)
    return c.name({"op": "chdir"}, path)


def getcwd(c: Chooser) -> Operation:
    return {"op": "getcwd"}


def make_script(c: Chooser) -> Operation:
    path = c.fresh()
    c.created(path, "file")
    return c.name({"op": "write_file", "data": script(c.rng), "mode": 0o755}, path)


def run(c: Chooser) -> Operation:
    how = pick(c.rng, ["spawn", "exec", "search", "shell"])
    return c.name({"op": "run", "how": how}, c.existing("file"))


def bind(c: Chooser) -> Operation:
    path = c.fresh()
    c.created(path, "sock")
    return c.name({"op": "bind", "slot": "s0"}, path)


def connect(c: Chooser) -> Operation:
    return c.name({"op": "connect", "slot": "s1"}, c.existing("sock"))


CHOICES = [
    (7, mkdir), (6, rmdir), (10, unlink), (1, remove_tree), (4, symlink), (3, mknod), (7, link),
    (2, link_descriptor), (14, rename), (26, look), (10, listing), (3, list_descriptor),
    (2, stream), (4, chdir), (2, getcwd), (1, make_script), (0.6, run), (0.8, bind), (0.8, connect),
]
