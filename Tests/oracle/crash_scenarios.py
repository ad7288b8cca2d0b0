"""The changes that are interrupted at every step, and the layers they start from.

Each scenario is one operation of the oracle's on a small fixed tree that holds every situation:
lower files with all their attributes, a hard-link group, a chain of directories, merged
directories, whiteouts over files and over directories.
"""

from __future__ import annotations

from typing import Any

from tree import Case, Entry, Layer

OLD = 1_000_000_000 * 10**9 + 123_456_789
Operation = dict[str, Any]


def _dir(mode: int = 0o755) -> Entry:
    return Entry("dir", mode, mtime=OLD)


def _file(text: str, mode: int = 0o644, **more: Any) -> Entry:
    return Entry("file", mode, mtime=OLD, pieces=[[0, text, 50]], **more)


def _lower() -> Layer:
    group = {"mode": 0o604, "group": "linked", "xattrs": {"user.linked": "yes"}}
    linked = _file("linked", **group)
    return {
        "": _dir(), "d": _dir(0o2775), "d/a": _file("lower a", 0o640, xattrs={"user.x": "value"}),
        "d/sparse": Entry("file", mtime=OLD, size=3 << 20, pieces=[[1 << 20, "middle", 9000]]),
        "d/one": linked, "d/two": linked, "d/link": Entry("link", mtime=OLD, target="a"),
        "d/fifo": Entry("fifo", mtime=OLD),
        "p": _dir(0o711), "p/q": _dir(0o750), "p/q/r": _dir(0o2755), "p/q/r/f": _file("deep"),
        "moved": _dir(), "moved/x": _file("x"), "moved/in": _dir(), "moved/in/y": _file("y"),
        "m": _dir(), "m/lower": _file("lower"), "both": _file("below"),
        "hollow": _dir(), "hollow/x": _file("hidden"), "hollow/y": _file("hidden too"),
        "empty": _dir(), "w": _file("covered"), "wd": _dir(), "wd/inside": _file("covered"),
        "ro": _dir(0o555), "ro/x": _file("in a read-only directory"),
        "many": _dir(), **{f"many/{number}": _file(str(number)) for number in range(20)},
    }


def _upper() -> Layer:
    return {
        "": _dir(), "m": _dir(), "m/upper": _file("upper"), "both": _file("above"),
        "hollow": _dir(), "hollow/x": Entry("whiteout"), "hollow/y": Entry("whiteout"),
        "w": Entry("whiteout"), "wd": Entry("whiteout"), "u": _file("only above"),
        "many": _dir(), **{f"many/{number}": Entry("whiteout") for number in range(20)},
    }


def case(operations: list[Operation], privileged: bool) -> Case:
    """A case of the fixed tree; everything belongs to whoever the workers are."""
    layers = [_upper(), _lower()]
    for layer in layers:
        for entry in layer.values():
            entry.uid = entry.gid = 0 if privileged else 65534
    return Case(0, privileged, False, False, layers, [{"w": 0, **one} for one in operations])


def _open(path: str, *flags: str) -> Operation:
    return {"op": "open", "path": path, "slot": "f0", "mode": 0o644, "flags": list(flags)}


def _append(path: str) -> Operation:
    return {"op": "append_file", "path": path, "data": "more\n", "mode": 0o644}


def _rename(source: str, target: str, flags: int = 0) -> Operation:
    return {"op": "rename", "path": source, "to": target, "flags": flags, "raw": False}


def _chmod(path: str) -> Operation:
    return {"op": "chmod", "path": path, "mode": 0o600, "follow": True}


SCENARIOS: dict[str, Operation] = {
    "copy-up of a file with data and xattrs": _append("d/a"),
    "copy-up of a file by chmod": _chmod("d/a"),
    "copy-up of a sparse file": _append("d/sparse"),
    "copy-up of a hard link": _append("d/one"),
    "copy-up of a FIFO": _chmod("d/fifo"),
    "copy-up of a directory": _chmod("moved"),
    "copy-up of a read-only directory": {"op": "utimes", "path": "ro", "atime": "omit", "mtime": [3, 4],
                                         "follow": True},
    "copy-up below a chain of directories": _append("p/q/r/f"),
    "truncating open of a lower file": _open("d/a", "O_WRONLY", "O_TRUNC"),
    "truncating open of a hard link": _open("d/two", "O_WRONLY", "O_TRUNC"),
    "creation in a lower directory": _open("p/q/r/new", "O_RDWR", "O_CREAT"),
    "rename of a lower file": _rename("d/a", "d/z"),
    "rename of a hard link": _rename("d/one", "m/one"),
    "rename of a symlink": _rename("d/link", "m/link"),
    "rename of a lower directory": _rename("moved", "d/moved"),
    "rename of a merged directory": _rename("m", "d/m"),
    "rename over a lower file": _rename("d/a", "m/lower"),
    "rename over an upper file": _rename("d/a", "m/upper"),
    "rename of an upper file over a lower one": _rename("u", "d/a"),
    "rename over a whiteout": _rename("d/a", "w"),
    "rename of a directory over a whiteout": _rename("moved", "wd"),
    "rename of a directory over a hollow one": _rename("moved", "hollow"),
    "rename of a directory over an empty lower one": _rename("moved", "empty"),
    "rename without replacing": _rename("both", "d/free", 1),
    "rename without replacing over a whiteout": _rename("d/a", "w", 1),
    "rename of a read-only directory": _rename("ro", "d/ro"),
    "rename of a directory noted below another": _rename("moved/in", "m/in"),
    "exchange of two hard links and files": _rename("d/one", "m/lower", 2),
    "exchange of two lower files": _rename("d/a", "m/lower", 2),
    "exchange of a file and a directory": _rename("u", "moved", 2),
    "exchange of two directories": _rename("p", "m", 2),
    "unlink of a lower file": {"op": "unlink", "path": "d/a"},
    "unlink of an upper file": {"op": "unlink", "path": "u"},
    "unlink of a file on both": {"op": "unlink", "path": "both"},
    "unlink of a hard link": {"op": "unlink", "path": "d/one"},
    "rmdir of a hollow merged directory": {"op": "rmdir", "path": "hollow"},
    "rmdir of a directory of many whiteouts": {"op": "rmdir", "path": "many"},
    "rmdir of an empty lower directory": {"op": "rmdir", "path": "empty"},
    "mkdir over a whiteout": {"op": "mkdir", "path": "w", "mode": 0o755},
    "mkdir over a whiteout of a directory": {"op": "mkdir", "path": "wd", "mode": 0o755},
    "creation over a whiteout": _open("w", "O_RDWR", "O_CREAT", "O_EXCL"),
    "link over a whiteout": {"op": "link", "path": "d/a", "to": "w", "follow": False},
    "link of an upper file over a whiteout": {"op": "link", "path": "u", "to": "w",
                                              "follow": False},
    "link of a hard link over a whiteout": {"op": "link", "path": "d/one", "to": "wd",
                                            "follow": False},
    "bind over a whiteout": {"op": "bind", "path": "w", "slot": "s0"},
    "bind to a free name": {"op": "bind", "path": "p/q/socket", "slot": "s0"},
    "symlink over a whiteout": {"op": "symlink", "path": "w", "target": "d/a"},
    "shared mappings of lower files": {"op": "map_files", "path": "d/a",
                                       "paths": ["d/a", "d/sparse", "d/a"]},
    "mapping a lower file that changed": {"op": "map_again", "path": "d/a"},
    "mapping a sparse lower file that changed": {"op": "map_again", "path": "d/sparse"},
    "copy-up of a mapped file that changed": {"op": "map_and_write", "path": "d/sparse"},
    "copy-up of a file that stays mapped": {"op": "map_outlives", "path": "d/a"},
    "copy-up of a hard link that stays mapped": {"op": "map_outlives", "path": "d/one"},
    "mknod over a whiteout": {"op": "mknod", "path": "wd", "kind": "fifo", "mode": 0o600},
}
