"""What a tree is before it is on disk: entries, layers, and what the layers show when merged.

Owns the merge rule (which layer's entry is visible), written independently of Overlock and of the
kernel: the plain directory that serves as truth is built from `merge`. Invariants of a case: a
hard-link group lives in one layer and all its names are visible, because no union file system can
know st_nlink otherwise.

Text stands for bytes throughout: names by surrogateescape, data and xattr values by latin-1.
"""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass, field
from typing import Any

@dataclass
class Entry:
    """One name in one layer. `pieces` are (offset, text, repetitions); the rest is holes."""

    kind: str  # file, dir, link, fifo, sock, char, whiteout
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    mtime: int = 0
    size: int = 0
    pieces: list[list[Any]] = field(default_factory=list)
    target: str = ""
    xattrs: dict[str, str] = field(default_factory=dict)
    opaque: bool = False
    group: str = ""


Layer = dict[str, Entry]


@dataclass
class Case:
    """A whole test case: layers top first (the first is the upper), and the operations."""

    seed: int
    privileged: bool
    over_lower: bool  # the target is the bottom lower itself
    spread: bool  # the lowers are on another file system than the upper
    layers: list[Layer]
    operations: list[dict[str, Any]]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(text: dict[str, Any]) -> Case:
        layers = [{path: Entry(**entry) for path, entry in layer.items()}
                  for layer in text["layers"]]
        return Case(**{**text, "layers": layers})


def join(parent: str, name: str) -> str:
    return f"{parent}/{name}" if parent else name


def parent_of(path: str) -> str:
    return path.rpartition("/")[0]


def children(layer: Layer, parent: str) -> list[str]:
    """The names directly below `parent` in one layer, in insertion order."""
    prefix = f"{parent}/" if parent else ""
    return [path[len(prefix):] for path in layer
            if path and path.startswith(prefix) and "/" not in path[len(prefix):]]


def merge(layers: list[Layer]) -> Layer:
    """The merged tree: every visible path with the entry that gives it its attributes."""
    merged: Layer = {}
    _merge_directory("", layers, merged)
    return merged


def _merge_directory(path: str, layers: list[Layer], merged: Layer) -> None:
    merged[path] = layers[0][path]
    names = dict.fromkeys(name for layer in layers for name in children(layer, path))
    for name in sorted(names):
        below = join(path, name)
        taking = contributing(below, layers)
        if not taking:
            continue
        top = taking[0][below]
        if top.kind == "dir":
            _merge_directory(below, taking, merged)
        else:
            merged[below] = top


def contributing(path: str, layers: list[Layer]) -> list[Layer]:
    """The layers that take part in `path`, top first: none if it is whited out."""
    taking: list[Layer] = []
    for layer in layers:
        entry = layer.get(path)
        if entry is None:
            continue
        if entry.kind == "whiteout" or (taking and entry.kind != "dir"):
            break
        taking.append(layer)
        if entry.kind != "dir" or entry.opaque:
            break
    return taking


def drop(case: Case, path: str) -> Case:
    """The case without `path` in any layer, for making a failing case smaller."""
    gone = [{name: entry for name, entry in layer.items()
             if name != path and not name.startswith(path + "/")} for layer in case.layers]
    return Case(case.seed, case.privileged, case.over_lower, case.spread, gone, case.operations)


def pick(rng: random.Random, choices: list[Any], weights: list[int] | None = None) -> Any:
    return rng.choices(choices, weights)[0]
