"""From a seed, a random tree spread over layers.

Owns the choice of names, kinds and attributes and their spread over one upper and one to four
lowers: every path lives in one layer or more, lower layers are shadowed, whited out and cut off by
opaque directories. Names come from a small pool so that layers, and later operations, collide.

The operations are chosen in operations.py, from the merged view of what is made here.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable

from roots import OUTSIDE, TREE
from tree import Case, Entry, Layer, contributing, join, merge, parent_of, pick

NAMES = ["a", "b", "c", "d1", "d2", "e", "s"]
ODD_NAMES = ["x y", "ü", "line\nbreak", "n" * 255, "\udcff\udcfe", ".h", "-", ".wh.a", "#1", "*"]
DIRECTORIES = ["d1", "d1/d2", "d1/d2/e", "d2", "d2/d1", "e"]
MODES = [0o644, 0o600, 0o666, 0o755, 0o400, 0o444, 0o4755, 0o2755, 0o640, 0o000, 0o2644]
DIRECTORY_MODES = [0o755, 0o755, 0o755, 0o700, 0o777, 0o2775, 0o1777, 0o555, 0o2755]
NOBODY = 65534
LOCKED = "foreign"  # unprivileged trees: what belongs to root and may not be written


def generate(seed: int, privileged: bool, own: bool = False) -> Case:
    """The tree of one seed; its operations are still to be chosen. `own`: an unprivileged worker may
    read and write all of it."""
    rng = random.Random(f"tree {seed} {privileged}")
    over_lower = seed % 3 != 0
    populated = seed % 3 != 1
    layers: list[Layer] = []
    for _ in range(rng.randint(1, 4) + populated):
        layers.insert(0, _layer(rng, layers, privileged))
    if not populated:
        layers.insert(0, {"": _directory(rng, privileged)})
    for layer in layers:
        layer[""].mode = 0o755
    _link_up(rng, layers)
    if rng.random() < 0.2:
        _widen(rng, layers)
    _drop_idle_whiteouts(layers)
    if own:
        for layer in layers:
            for entry in layer.values():
                entry.mode |= 0o700 if entry.kind == "dir" else 0o600
    elif not privileged:
        _lock(layers)
    return Case(seed, privileged, over_lower, seed % 4 == 2, layers, [])


def _layer(rng: random.Random, below: list[Layer], privileged: bool) -> Layer:
    layer: Layer = {"": _directory(rng, privileged)}
    visible = merge(below) if below else {}
    for _ in range(rng.randint(5, 22)):
        parent = pick(rng, ["", *DIRECTORIES])
        if not _make_parents(rng, layer, parent, privileged):
            continue
        path = join(parent, _name(rng))
        if path in layer:
            continue
        chance = rng.random()
        if path in visible and chance < 0.35 or chance < 0.02:
            layer[path] = Entry("whiteout")
        elif path in DIRECTORIES and chance < 0.7 or chance < 0.1:
            layer[path] = _directory(rng, privileged)
            layer[path].opaque = bool(below) and rng.random() < 0.3
        else:
            layer[path] = _leaf(rng, privileged)
    return layer


def _make_parents(rng: random.Random, layer: Layer, parent: str, privileged: bool) -> bool:
    """Makes the chain of directories in this layer; False where something else is in the way."""
    parts = parent.split("/") if parent else []
    for depth in range(1, len(parts) + 1):
        path = "/".join(parts[:depth])
        if path not in layer:
            layer[path] = _directory(rng, privileged)
        elif layer[path].kind != "dir":
            return False
    return True


def _name(rng: random.Random) -> str:
    return pick(rng, ODD_NAMES) if rng.random() < 0.2 else pick(rng, NAMES)


def _directory(rng: random.Random, privileged: bool) -> Entry:
    entry = _owned(rng, Entry("dir", mode=pick(rng, DIRECTORY_MODES)), privileged)
    if rng.random() < 0.1:
        entry.xattrs["system.posix_acl_default"] = acl(rng)
    return entry


def _leaf(rng: random.Random, privileged: bool) -> Entry:
    make: Callable[[], Entry] = pick(
        rng,
        [lambda: _file(rng), lambda: Entry("link", 0o777, target=link_target(rng)),
         lambda: _script(rng), lambda: Entry("fifo", 0o666), lambda: Entry("sock", 0o755),
         lambda: Entry("char" if privileged else "file", 0o666)],
        [60, 20, 8, 4, 2, 2])
    return _owned(rng, make(), privileged)


def _file(rng: random.Random) -> Entry:
    entry = Entry("file", mode=pick(rng, MODES))
    shape = rng.random()
    if shape < 0.1:
        return entry
    entry.pieces.append([0, f"{rng.random()}\n", rng.randint(1, 5)])
    if shape > 0.9:  # sparse, and larger than any buffer that a copy may use
        entry.pieces.append([rng.randrange(1 << 16, 1 << 21), "end", rng.randint(1, 3000)])
        entry.size = (1 << 21) + rng.randint(0, 1 << 14)
    if rng.random() < 0.05:
        entry.xattrs["system.posix_acl_access"] = acl(rng)
    return entry


def _script(rng: random.Random) -> Entry:
    return Entry("file", 0o755, pieces=[[0, script(rng), 1]])


def script(rng: random.Random) -> str:
    """A shell script; its interpreter may be another file of the tree."""
    interpreter = "/bin/sh" if rng.random() < 0.8 else f"{TREE}/{pick(rng, NAMES)}"
    body = pick(rng, ["pwd", "test -f a && cat a", "echo * | head -c 200",
                      f"test -f {TREE}/d1/a && cat {TREE}/d1/a", "test -x d1 && echo searchable",
                      "test -f b && read line < b && echo \"$line\""])
    return f"#!{interpreter}\necho \"$0\" \"$@\"\n{body}\n"


def link_target(rng: random.Random) -> str:
    """Where a symlink leads: beside, below, up, absolutely, outside, round in a loop, nowhere."""
    name = pick(rng, NAMES)
    return pick(rng, [name, f"d1/{name}", f"../{name}", f"{TREE}/d1/{name}", f"{TREE}/{name}",
                      f"./{name}", f"d2/../{name}", "s", "nowhere", f"{OUTSIDE}/file",
                      f"{OUTSIDE}/back-d1/{name}", f"{OUTSIDE}/dir", f"{TREE}/d2", "d1/", "."])


def _owned(rng: random.Random, entry: Entry, privileged: bool) -> Entry:
    if privileged:
        entry.uid, entry.gid = pick(rng, [0, 0, 1000, NOBODY]), pick(rng, [0, 0, 100, NOBODY])
    else:
        entry.uid = entry.gid = NOBODY
    entry.mtime = rng.randrange(1, 1_500_000_000) * 10**9 + rng.randrange(10**9)
    if entry.kind in ("file", "dir") and rng.random() < 0.25:
        entry.xattrs[f"user.{pick(rng, NAMES)}"] = str(rng.random())
        if privileged and rng.random() < 0.3:
            entry.xattrs["trusted.t"] = "trusted"
    return entry


def acl(rng: random.Random) -> str:
    """A POSIX ACL with one named user, in the kernel's xattr form."""
    entries = [(1, 6, -1), (2, pick(rng, [4, 6, 7]), 1000), (4, 4, -1), (0x10, 7, -1),
               (0x20, pick(rng, [0, 4]), -1)]
    packed = struct.pack("<I", 2) + b"".join(
        struct.pack("<HHI", tag, bits, who & 0xFFFFFFFF) for tag, bits, who in entries)
    return packed.decode("latin-1")


def _link_up(rng: random.Random, layers: list[Layer]) -> None:
    """Gives some visible files further names in their own layer, all of them visible."""
    for number in range(rng.randint(0, 4)):
        merged = merge(layers)
        files = [path for path, entry in merged.items()
                 if entry.kind in ("file", "fifo", "link") and not entry.group]
        if not files:
            return
        path = pick(rng, files)
        entry = merged[path]
        layer = next(layer for layer in layers if layer.get(path) is entry)
        for _ in range(rng.randint(1, 3)):
            name = join(pick(rng, _directories(layer, merged)), _name(rng))
            if not any(name in other for other in layers):
                entry.group = f"group {number}"
                layer[name] = entry


def _directories(layer: Layer, merged: Layer) -> list[str]:
    """The directories of a layer whose new entries will show: a new name there is not shadowed."""
    return [path for path, entry in layer.items() if merged.get(path) is entry
            and entry.kind == "dir"] or [""]


def _widen(rng: random.Random, layers: list[Layer]) -> None:
    """A directory too wide for one getdents buffer, in two layers."""
    for layer in rng.sample(layers, min(2, len(layers))):
        if "wide" in layer or any(other.get("wide", Entry("dir")).kind != "dir"
                                  for other in layers):
            continue
        layer["wide"] = Entry("dir", 0o755, layer[""].uid, layer[""].gid, 10**18)
        for _ in range(200):
            name = f"wide/{'w' * rng.randint(1, 150)}{rng.randrange(400)}"
            layer[name] = Entry("file", 0o644, layer[""].uid, layer[""].gid, 10**18)


def _drop_idle_whiteouts(layers: list[Layer]) -> None:
    """Takes out the whiteouts in directories that one layer has alone. The kernel drops whiteouts from the
    lists of merged directories only: mounted by it, such a tree has names that lead nowhere."""
    for layer in layers:
        for path, entry in list(layer.items()):
            sharing = _sharing(parent_of(path), layers) if entry.kind == "whiteout" else []
            if len(sharing) == 1 and sharing[0] is layer:
                del layer[path]


def _sharing(directory: str, layers: list[Layer]) -> list[Layer]:
    """The layers that are merged in a directory."""
    parts = directory.split("/") if directory else []
    for depth in range(1, len(parts) + 1):
        layers = contributing("/".join(parts[:depth]), layers)
    return layers


def _lock(layers: list[Layer]) -> None:
    """A subtree of root's own: seen, never to be written."""
    layers[-1][LOCKED] = Entry("dir", 0o755, 0, 0, 10**18)
    layers[-1][f"{LOCKED}/a"] = Entry("file", 0o644, 0, 0, 10**18, pieces=[[0, "root's", 1]])
    layers[-1][f"{LOCKED}/b"] = Entry("file", 0o600, 0, 0, 10**18, pieces=[[0, "hidden", 1]])
