"""Compares what two worlds answered: the plain directory is the truth.

Owns what "the same" means. Names, modes, owners, sizes, data, errors are equal or not. Inode
numbers are compared as identity: an object of the truth corresponds to one (device, inode) of the
other world for as long as it lives, and no two living objects correspond to the same one; so hard
links, and inode numbers that move at copy-up, show. Modification times are compared where somebody
set them, else only as "recent". A change time may never go back, and must go on where the truth's
does. Left out: st_blocks, the sizes of directories, access times, and, unless asked for, the link
counts of directories.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass, field
from typing import Any

from manifest import Record
from run import Run

RECENT_FROM = 1_600_000_000 * 10**9  # the generator sets times before this, or far in the future
RECENT_TO = 4_900_000_000 * 10**9
Key = tuple[int, int]
# Before 6.13 two changes within a clock tick have the same time.
FINE_TIMES = tuple(int(part) for part in re.findall(r"\d+", os.uname().release)[:2]) >= (6, 13)


@dataclass(frozen=True)
class Difference:
    """One answer that differs; `index` is past the last operation where the final tree differs."""

    index: int
    operation: str
    where: str
    expected: Any
    actual: Any

    def signature(self) -> str:
        """What makes two differences probably the same fault."""
        return f"{self.operation} {self.where} {_brief(self.expected)} {_brief(self.actual)}"


def _brief(value: Any) -> str:
    if isinstance(value, dict) and value.keys() & {"e", "v", "lost"}:
        return value.get("e") or ("lost" if "lost" in value else "succeeds")
    if isinstance(value, str) and value.endswith(" (deleted)"):
        return "(deleted)"
    is_word = isinstance(value, str) and len(value) < 20 and value.isprintable()
    return value if is_word else type(value).__name__


@dataclass
class Comparer:
    """The state of a comparison: which objects correspond, which devices, the last change times."""

    truth: Run
    checked: Run
    directory_links: bool = False
    forward: dict[Key, Key] = field(default_factory=dict)
    backward: dict[Key, Key] = field(default_factory=dict)
    devices: tuple[dict[int, int], dict[int, int]] = field(default_factory=lambda: ({}, {}))
    changed: tuple[dict[Key, int], dict[Key, int]] = field(default_factory=lambda: ({}, {}))
    found: list[tuple[str, Any, Any]] = field(default_factory=list)

    def compare(self, operations: list[dict[str, Any]]) -> list[Difference]:
        """Every difference, in the order of the operations; the final tree last."""
        differences: list[Difference] = []
        for index, operation in enumerate(operations):
            if index >= len(self.truth.results) or index >= len(self.checked.results):
                break
            expected, actual = self.truth.results[index], self.checked.results[index]
            if "skip" in expected:
                continue
            self._step(expected, actual)
            differences += [Difference(index, operation["op"], *one) for one in self.found]
        self.found = []
        if self.truth.final is not None and self.checked.final is not None:
            self.trees(self.truth.final, self.checked.final)
            differences += [Difference(len(operations), "final tree", *one) for one in self.found]
        differences += [Difference(len(operations), "after the run", "problem", None, problem)
                        for problem in self.checked.problems]
        return differences

    def _step(self, expected: dict[str, Any], actual: dict[str, Any]) -> None:
        self.found = []
        dead = expected.get("dead", [])
        outcome = {key: value for key, value in expected.items() if key != "dead"}
        if outcome.keys() != actual.keys() or "v" not in outcome:
            if outcome != actual:
                self.found.append(("result", outcome, actual))
        else:
            self._value("", outcome["v"], actual["v"])
        for device, inode in dead:
            self._forget((device, inode))

    def _value(self, where: str, expected: Any, actual: Any) -> None:
        if isinstance(expected, dict) and isinstance(actual, dict) \
                and expected.keys() == actual.keys():
            if "names" in expected:
                self._names(where, expected, actual)
                return
            for key, value in expected.items():
                if key == "stat":
                    self._stat(where, value, actual[key])
                else:
                    self._value(f"{where}.{key}" if where else key, value, actual[key])
        elif isinstance(expected, list) and isinstance(actual, list) \
                and len(expected) == len(actual):
            for number, (one, other) in enumerate(zip(expected, actual)):
                self._value(f"{where}[{number}]", one, other)
        elif expected != actual:
            self.found.append((where or "value", expected, actual))

    def _names(self, where: str, expected: dict[str, Any], actual: dict[str, Any]) -> None:
        """A listing with inode numbers."""
        plain = [[[name, kind] for name, kind, _ in listing["names"]]
                 for listing in (expected, actual)]
        if plain[0] != plain[1]:
            missing = [entry for entry in plain[0] if entry not in plain[1]]
            extra = [entry for entry in plain[1] if entry not in plain[0]]
            self.found.append((f"{where}names", {"missing": missing}, {"not there": extra}))
            return
        for one, other in zip(expected["names"], actual["names"]):
            self._identity(f"{where}d_ino of {one[0]!r}", (expected["dev"], one[2]),
                           (actual["dev"], other[2]))
        if expected.get("odd") != actual.get("odd"):
            self.found.append((f"{where}d_ino or d_type against lstat", expected.get("odd"),
                               actual.get("odd")))

    def _stat(self, where: str, expected: dict[str, int], actual: dict[str, int]) -> None:
        where = f"{where}." if where else ""
        for name, one, other in self._fields(expected, actual):
            if one != other:
                self.found.append((where + name, one, other))
        keys = (expected["dev"], expected["ino"]), (actual["dev"], actual["ino"])
        self._identity(f"{where}st_ino", *keys)
        moves = [self._movement(side, keys[side], seen["ctime"])
                 for side, seen in enumerate((expected, actual))]
        late = FINE_TIMES and moves[0] == "went on" and moves[1] == "stayed"
        if moves[1] == "went back" or late:
            self.found.append((f"{where}st_ctime", moves[0], moves[1]))
        if expected["nlink"] == 0:
            self._forget(keys[0])

    def _fields(self, expected: Record, actual: Record) -> list[tuple[str, Any, Any]]:
        fields = [(f"st_{name}", expected[name], actual[name])
                  for name in ("mode", "uid", "gid", "rdev")]
        is_directory = stat.S_ISDIR(expected["mode"])
        if not is_directory:
            fields.append(("st_size", expected["size"], actual["size"]))
        if not is_directory or self.directory_links:
            fields.append(("st_nlink", expected["nlink"], actual["nlink"]))
        removed = " of a removed directory" if is_directory and expected["nlink"] == 0 else ""
        fields.append((f"st_mtime{removed}", _time(expected["mtime"]), _time(actual["mtime"])))
        fields.append(("st_dev", self._device(0, expected["dev"]), self._device(1, actual["dev"])))
        return fields

    def _device(self, side: int, device: int) -> int:
        """Devices are numbered as they are first met."""
        return self.devices[side].setdefault(device, len(self.devices[side]))

    def _identity(self, where: str, expected: Key, actual: Key) -> None:
        known = self.forward.setdefault(expected, actual)
        if known != actual:
            self.found.append((where, f"as before ({known})", f"another ({actual})"))
            self.forward[expected] = actual
        owner = self.backward.setdefault(actual, expected)
        if owner != expected and self.forward.get(owner) == actual:
            self.found.append((where, "its own", f"that of another living object ({actual})"))
        self.backward[actual] = expected

    def _forget(self, gone: Key) -> None:
        """The object has lost its last name: its numbers may soon be another's."""
        other = self.forward.pop(gone, None)
        self.changed[0].pop(gone, None)
        if other is not None and self.backward.get(other) == gone:
            del self.backward[other]
            self.changed[1].pop(other, None)

    def _movement(self, side: int, key: Key, time: int) -> str:
        before = self.changed[side].get(key, time)
        self.changed[side][key] = time
        return "went back" if time < before else "went on" if time > before else "stayed"

    def trees(self, expected: dict[str, Record], actual: dict[str, Record],
              loosely: frozenset[str] | None = None) -> None:
        """Compares two manifests. Where `loosely` is given, the second is another union file
        system over the same layers: of the paths in it only the type compares, and no inodes."""
        for path in sorted(expected.keys() | actual.keys()):
            one, other = expected.get(path), actual.get(path)
            if one is None or other is None or "mode" not in one or "mode" not in other:
                if one != other:
                    self.found.append((f"{path!r}", _shape(one), _shape(other)))
                continue
            if loosely is not None and path in loosely:
                if stat.S_IFMT(one["mode"]) != stat.S_IFMT(other["mode"]):
                    self.found.append((f"{path!r}", _shape(one), _shape(other)))
                continue
            fields = self._fields(one, other)
            if loosely is not None:
                kept = ("st_mode", "st_uid", "st_gid", "st_rdev", "st_size", "st_mtime")
                fields = [entry for entry in fields if entry[0] in kept]
            fields += [(name, one.get(name), other.get(name)) for name in
                       ("content", "target", "xattrs", "unlistable", "unreadable")]
            self.found += [(f"{path!r} {name}", first, second)
                           for name, first, second in fields if first != second]
        groups = [_groups(tree) for tree in (expected, actual)]
        if loosely is None and groups[0] != groups[1]:
            self.found.append(("hard links", sorted(groups[0] - groups[1]),
                               sorted(groups[1] - groups[0])))


def _time(time: int) -> int | str:
    return "recent" if RECENT_FROM < time < RECENT_TO else time


def _shape(record: Record | None) -> str:
    if record is None:
        return "absent"
    return f"there, mode {record['mode']:o}" if "mode" in record else str(record)


def _groups(tree: dict[str, Record]) -> set[tuple[str, ...]]:
    groups: dict[Key, list[str]] = {}
    for path, record in tree.items():
        if "mode" in record and not stat.S_ISDIR(record["mode"]):
            groups.setdefault((record["dev"], record["ino"]), []).append(path)
    return {tuple(sorted(names)) for names in groups.values() if len(names) > 1}
