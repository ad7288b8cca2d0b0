"""Random operations on files and descriptors: opening, data, attributes, xattrs, locks, mappings.

Each function chooses one operation and tells the chooser what it probably did.
"""

from __future__ import annotations

from chooser import FILES, READABLE, WRITABLE, Chooser, Operation
from generate import NAMES, NOBODY, acl
from tree import pick

TAKES = {"read": ("count",), "pread": ("count", "offset"), "write": ("data",),
         "pwrite": ("data", "offset"), "seek": ("offset", "whence"), "ftruncate": ("count",),
         "fallocate": ("count", "offset")}
ACCESS = ["O_RDONLY", "O_WRONLY", "O_RDWR"]


def open_file(c: Chooser) -> Operation:
    flags = [pick(c.rng, ACCESS, [5, 2, 4])]
    for flag, probability in (("O_CREAT", 0.35), ("O_EXCL", 0.1), ("O_TRUNC", 0.12),
                              ("O_APPEND", 0.15), ("O_NOFOLLOW", 0.1), ("O_DIRECTORY", 0.04),
                              ("O_PATH", 0.06), ("O_NOATIME", 0.03), ("O_SYNC", 0.02)):
        if c.chance(probability):
            flags.append(flag)
    path = c.fresh() if "O_CREAT" in flags and c.chance(0.6) else c.existing("file", "link")
    if c.chance(0.05):
        path = c.existing()
    if "O_CREAT" in flags:
        c.created(path, "file")
    kind = {"O_RDONLY": "read", "O_WRONLY": "write", "O_RDWR": "both"}[flags[0]]
    return _open(c, path, flags, "path" if "O_PATH" in flags else kind)


def open_directory(c: Chooser) -> Operation:
    flags = ["O_RDONLY"] + [f for f in ("O_DIRECTORY", "O_PATH", "O_NOFOLLOW") if c.chance(0.4)]
    return _open(c, c.directory(), flags, "dir")


def open_temporary(c: Chooser) -> Operation:
    flags = ["O_TMPFILE", pick(c.rng, ["O_RDWR", "O_WRONLY"])] + ["O_EXCL"] * c.chance(0.1)
    return _open(c, c.directory(), flags, "tmpfile")


def _open(c: Chooser, path: str, flags: list[str], kind: str) -> Operation:
    slot = c.free_slot()
    mode = pick(c.rng, [0o644, 0o666, 0o600, 0o755, 0o000])
    operation = c.name({"op": "open", "slot": slot, "flags": flags, "mode": mode}, path)
    c.hold(slot, kind, path)
    return operation


def descriptor(c: Chooser) -> Operation:
    op = pick(c.rng, ["fstat", "close", "read", "pread", "write", "pwrite", "seek", "ftruncate",
                      "fsync", "dup", "fallocate", "where", "flags"],
              [8, 5, 10, 6, 12, 7, 5, 5, 1, 2, 1, 4, 1])
    kinds = READABLE if op in ("read", "pread") else \
        WRITABLE if op in ("write", "pwrite", "ftruncate", "fallocate") else ()
    slot = c.slot(*kinds)
    values = {"count": pick(c.rng, [0, 5, 100, 9000]),
              "offset": pick(c.rng, [0, 1, 7, 4096, 70000]), "whence": c.rng.randrange(3),
              "data": _data(c)}
    operation = {"op": op, "slot": slot, **{key: values[key] for key in TAKES.get(op, ())}}
    if op == "close":
        c.let_go(slot)
    if op == "dup":
        operation["to"] = c.free_slot()
        operation["onto"] = c.chance(0.4)
        if slot in c.held[c.worker]:
            c.hold(operation["to"], *c.held[c.worker][slot])
    return operation


def _data(c: Chooser) -> str:
    return f"{c.rng.randrange(1000)}\n" * pick(c.rng, [1, 3, 30, 2000], [50, 30, 18, 2])


def between(c: Chooser) -> Operation:
    """Data that the kernel moves from one descriptor to another."""
    return {"op": pick(c.rng, ["copy_range", "sendfile"]), "slot": c.slot(*READABLE),
            "to": c.slot(*WRITABLE), "count": pick(c.rng, [10, 5000])}


def by_path(c: Chooser) -> Operation:
    op = pick(c.rng, ["truncate", "write_file", "read_file", "append_file"], [3, 2, 5, 2])
    path = c.existing("file") if c.chance(0.9) else c.existing()
    return c.name({"op": op, "count": pick(c.rng, [0, 3, 5000]), "data": _data(c), "mode": 0o644},
                  path)


def standard_io(c: Chooser) -> Operation:
    """A FILE held over changes; reading at its end again is what tail -f does."""
    if c.chance(0.3):
        mode = pick(c.rng, ["r", "r+", "a", "w", "a+"], [6, 3, 2, 1, 1])
        return c.name({"op": "open_file", "slot": "F0", "mode": mode}, c.existing("file"))
    return {"op": pick(c.rng, ["read_more", "write_more"], [3, 1]), "slot": "F0", "data": _data(c)}


def mapping(c: Chooser) -> Operation:
    op = pick(c.rng, ["map", "map_read", "map_write", "map_close"], [4, 6, 3, 1])
    slot = pick(c.rng, ["m0", "m1"])
    writes = c.chance(0.4)
    return {"op": op, "slot": slot, "file": c.slot(*(["both"] if writes else READABLE)),
            "write": writes,
            "data": str(c.rng.randrange(1000))}


def locking(c: Chooser) -> Operation:
    op = pick(c.rng, ["flock", "lockf", "ofd_lock", "get_lock"], [4, 5, 3, 3])
    return {"op": op, "slot": c.slot(*FILES), "kind": pick(c.rng, ["SH", "EX", "UN"], [3, 3, 2]),
            "start": pick(c.rng, [0, 5, 10]), "length": pick(c.rng, [0, 5, 10])}


def change_mode(c: Chooser) -> Operation:
    mode = pick(c.rng, [0o644, 0o600, 0o755, 0o777, 0o444, 0o4755, 0o2775, 0o1777, 0o640])
    if c.chance(0.25):
        return {"op": "fchmod", "slot": c.slot(), "mode": mode}
    return c.name({"op": "chmod", "mode": mode, "follow": c.chance(0.9)}, c.existing(own=True))


def change_owner(c: Chooser) -> Operation:
    uid, gid = pick(c.rng, [-1, 0, 1000, NOBODY]), pick(c.rng, [-1, 0, 100, NOBODY])
    if c.chance(0.25):
        return {"op": "fchown", "slot": c.slot(), "uid": uid, "gid": gid}
    return c.name({"op": "chown", "uid": uid, "gid": gid, "follow": c.chance(0.5)},
                  c.existing(own=True))


def change_times(c: Chooser) -> Operation:
    times = [pick(c.rng, [[c.rng.randrange(1, 1_500_000_000), c.rng.randrange(10**9)],
                          "now", "omit", [5_000_000_000, 7]], [8, 1, 1, 1]) for _ in range(2)]
    if c.chance(0.25):
        return {"op": "futimens", "slot": c.slot(), "atime": times[0], "mtime": times[1]}
    operation = {"op": "utimes", "atime": times[0], "mtime": times[1], "follow": c.chance(0.8)}
    return c.name(operation, c.existing(own=True))


def xattr(c: Chooser) -> Operation:
    op = pick(c.rng, ["setxattr", "getxattr", "listxattr", "removexattr"], [5, 3, 4, 2])
    names = [f"user.{name}" for name in NAMES] + ["trusted.t"] * c.privileged
    attribute = pick(c.rng, names)
    value = str(c.rng.random()) * pick(c.rng, [0, 1, 5])
    if op == "setxattr" and c.chance(0.1):
        attribute, value = pick(c.rng, ["system.posix_acl_default",
                                        "system.posix_acl_access"]), acl(c.rng)
    operation = {"op": op, "name": attribute, "value": value,
                 "flags": pick(c.rng, [0, 1, 2], [8, 1, 1])}
    if c.chance(0.3):
        return {**operation, "slot": c.slot()}
    operation["follow"] = c.chance(0.7)
    return c.name(operation, c.existing(own=op in ("setxattr", "removexattr")))


def itself(c: Chooser) -> Operation:
    """What the process sees of itself: its descriptors, file system numbers."""
    op = pick(c.rng, ["descriptors", "statvfs", "umask"])
    if op == "statvfs":
        return c.name({"op": op}, c.existing())
    return {"op": op, "mode": pick(c.rng, [0o22, 0o22, 0o77, 0])}


CHOICES = [
    (20, open_file), (6, open_directory), (2, open_temporary), (36, descriptor), (2, between),
    (10, by_path), (3, standard_io), (5, mapping), (4, locking), (6, change_mode),
    (4, change_owner), (5, change_times), (8, xattr), (1.5, itself),
]
