"""What the tree probably looks like by now, and how to spell a path in it.

Owns the guess that keeps random operations meaningful: most of them should succeed, on names that
exist. What an operation would change is kept back until it is known to have succeeded; the guess
is refreshed now and then and may be wrong between: nothing compares against it. Also owns the
spellings: relative to the worker's directory, absolute, relative to a held descriptor, with
superfluous dots and slashes, too long, through a file.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from generate import LOCKED, NAMES, ODD_NAMES
from roots import OUTSIDE, TREE
from tree import Layer, join, parent_of, pick

Operation = dict[str, Any]
READABLE, WRITABLE = ("read", "both", "tmpfile"), ("write", "both", "tmpfile")
FILES = ("read", "write", "both")
FILE_SLOTS = ["f0", "f1", "f2", "f3", "f4", "f5"]


class Chooser:
    """The guessed state of the tree and of the workers, and random choices from it."""

    def __init__(self, rng: random.Random, merged: Layer, workers: int, privileged: bool) -> None:
        self.rng = rng
        self.privileged = privileged
        self.kinds = {path: entry.kind for path, entry in merged.items()}
        self.cwds = [""] * workers
        self.held: list[dict[str, tuple[str, str]]] = [{} for _ in range(workers)]
        self.worker = 0
        self.effects: list[Callable[[], None]] = []

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    # What exists.

    def existing(self, *kinds: str, own: bool = False) -> str:
        """A path that probably exists; `own` leaves out what an unprivileged worker cannot move."""
        paths = [path for path, kind in self.kinds.items()
                 if path and (not kinds or kind in kinds)
                 and not (own and path.startswith(LOCKED))]
        if not paths or self.chance(0.03):
            return self.any_name()
        return pick(self.rng, paths)

    def directory(self) -> str:
        return "" if self.chance(0.2) else self.existing("dir")

    def any_name(self) -> str:
        directories = [path for path, kind in self.kinds.items() if kind == "dir"]
        name = pick(self.rng, ODD_NAMES if self.chance(0.12) else NAMES)
        return join(pick(self.rng, directories), name)

    def fresh(self) -> str:
        """A path that is probably free, often one that was removed or is whited out."""
        for _ in range(8):
            path = self.any_name()
            if path not in self.kinds:
                return path
        return path + str(self.rng.randrange(100))

    # What an operation does to it, if it succeeds.

    def settle(self, succeeded: bool) -> None:
        """Applies or drops what the last operation would change."""
        effects, self.effects = self.effects, []
        for effect in effects if succeeded else []:
            effect()

    def created(self, path: str, kind: str) -> None:
        self.effects.append(lambda: self.kinds.setdefault(path, kind) and None)

    def removed(self, path: str) -> None:
        self.effects.append(lambda: self._take(path) and None)

    def moved(self, source: str, target: str) -> None:
        self.effects.append(lambda: self._move(source, target))

    def exchanged(self, one: str, other: str) -> None:
        self.moved(one, "exchanging")
        self.moved(other, one)
        self.moved("exchanging", other)

    def _take(self, path: str) -> dict[str, str]:
        """Removes a subtree from the guess; gives it by its paths relative to `path`."""
        names = [name for name in self.kinds if name == path or name.startswith(path + "/")]
        return {name[len(path):]: self.kinds.pop(name) for name in names}

    def _move(self, source: str, target: str) -> None:
        moving = self._take(source)
        self._take(target)
        self.kinds.update({target + rest: kind for rest, kind in moving.items()})

    # Slots.

    def free_slot(self) -> str:
        return pick(self.rng, FILE_SLOTS)

    def slot(self, *kinds: str) -> str:
        """A slot that holds a descriptor of such a kind, mostly."""
        any_kind = not kinds or self.chance(0.05)
        slots = [slot for slot, (kind, _) in self.held[self.worker].items()
                 if any_kind or kind in kinds]
        return pick(self.rng, slots) if slots else self.free_slot()

    def hold(self, slot: str, kind: str, path: str) -> None:
        held = self.held[self.worker]
        self.effects.append(lambda: held.__setitem__(slot, (kind, path)))

    def let_go(self, slot: str) -> None:
        held = self.held[self.worker]
        self.effects.append(lambda: held.pop(slot, None) and None)

    def went(self, path: str) -> None:
        worker = self.worker
        self.effects.append(lambda: self.cwds.__setitem__(worker, path))

    # Spellings.

    def name(self, operation: Operation, path: str, key: str = "path") -> Operation:
        """Writes one spelling of `path` into the operation, and the descriptor it starts from."""
        if self.chance(0.015):
            operation[key] = self._bad(path)
            return operation
        style = self.rng.random()
        directories = [slot for slot, (kind, _) in self.held[self.worker].items() if kind == "dir"]
        if style < 0.3:
            spelled = f"{TREE}/{path}"
        elif style < 0.45 and directories:
            slot = pick(self.rng, directories)
            operation[f"{key}_at"] = slot
            spelled = _relative(path, self.held[self.worker][slot][1])
        elif style < 0.48:
            spelled = f"{OUTSIDE}/back/{path}"
        else:
            spelled = _relative(path, self.cwds[self.worker])
        operation[key] = self._decorate(spelled, path)
        return operation

    def _decorate(self, spelled: str, path: str) -> str:
        if self.chance(0.9):
            return spelled
        beside = [name for name in self.kinds if parent_of(name) == parent_of(path)]
        last = spelled.rpartition("/")
        detour = f"{pick(self.rng, beside)}".rpartition("/")[2] if beside else "."
        return pick(self.rng, [
            spelled + "/", spelled + "/.", spelled.replace("/", "//"), spelled + "//",
            last[0] + last[1] + "./" + last[2], last[0] + last[1] + detour + "/../" + last[2],
            spelled + "/..", spelled + "/../" + last[2]])

    def _bad(self, path: str) -> str:
        return pick(self.rng, ["", "n" * 256, "./" * 2100 + "a", f"{path}/n" * 3, "..", ".", "/",
                               f"{TREE}/../T", "m" * 255, f"{TREE}", "s/s/s"])


def _relative(path: str, base: str) -> str:
    """`path` as seen from the directory `base`, both from the root of the tree."""
    ups = 0
    while base and path != base and not path.startswith(base + "/"):
        base, ups = parent_of(base), ups + 1
    rest = path[len(base):].lstrip("/") if base else path
    return "../" * ups + (rest or ".")
