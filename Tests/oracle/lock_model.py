"""Who excludes whom on one file of a lower that two overlays and processes without any share.

What DESIGN promises, written down (docs/decisions/0009): a lock is on the inode that its descriptor is on. The lower's
excludes everybody there, whichever overlay they belong to. An object that an overlay copied up has a second inode:

- who locks through a descriptor from before that is also kept out by the locks on the copy, and makes the origin
  contested;
- who locks the copy is also kept out by the locks on the origin, whoever's, while it is contested: from the copy-up
  on if anybody held a lock on it then, until somebody who wants a lock on the copy finds it free.

Then the two are independent. Of record locks a process has one a file: a new one replaces it on both inodes, and the
close of any descriptor drops it on both.
"""

from __future__ import annotations

from dataclasses import dataclass

LOWER = 0  # the inode of the lower; overlay n's copy is n


@dataclass(frozen=True)
class Lock:
    """One whole-file lock. Flocks and ranges do not know each other."""

    inode: int
    whole: bool
    owner: str
    exclusive: bool


@dataclass
class Descriptor:
    """A description on one inode, of a process of overlay 1, 2 or none (0)."""

    name: str
    process: str
    overlay: int
    inode: int
    writes: bool
    reads: bool


class Model:
    """One file."""

    def __init__(self) -> None:
        self.locks: set[Lock] = set()
        self.copied: set[int] = set()
        self.contested: set[int] = set()

    def copy_up(self, overlay: int) -> None:
        if overlay and overlay not in self.copied:
            self.copied.add(overlay)
            if any(lock.inode == LOWER for lock in self.locks):
                self.contested.add(overlay)

    def open(self, overlay: int, writes: bool) -> int:
        """The inode that a new descriptor is on."""
        if writes:
            self.copy_up(overlay)
        return overlay if overlay in self.copied else LOWER

    def _other(self, d: Descriptor) -> int | None:
        """The second inode that a call on a descriptor looks at."""
        if not d.overlay or d.overlay not in self.copied:
            return None
        if d.inode == LOWER:
            return d.overlay
        return LOWER if d.overlay in self.contested else None

    @staticmethod
    def _owner(kind: str, d: Descriptor) -> str:
        return d.process if kind == "record" else d.name

    def _refused(self, kind: str, d: Descriptor, exclusive: bool) -> bool:
        where = {d.inode, self._other(d)}
        return any(lock.inode in where and lock.whole == (kind == "flock")
                   and lock.owner != self._owner(kind, d) and (exclusive or lock.exclusive) for lock in self.locks)

    def _drop(self, kind: str, owner: str, where: set[int | None]) -> None:
        self.locks = {lock for lock in self.locks if not (
            lock.inode in where and lock.owner == owner and lock.whole == (kind == "flock"))}

    def take(self, kind: str, d: Descriptor, exclusive: bool) -> str:
        if kind != "flock" and not (d.writes if exclusive else d.reads):
            return "EBADF"
        if d.overlay in self.copied:
            if d.inode == LOWER:
                self.contested.add(d.overlay)
            elif not any(lock.inode == LOWER for lock in self.locks):
                self.contested.discard(d.overlay)
        owner, where = self._owner(kind, d), {d.inode, self._other(d)}
        if self._refused(kind, d, exclusive):
            if kind == "flock":  # a refused conversion loses the old lock
                self._drop(kind, owner, {d.inode})
            return "EAGAIN"
        self._drop(kind, owner, where if kind == "record" else {d.inode})
        self.locks.add(Lock(d.inode, kind == "flock", owner, exclusive))
        return "ok"

    def unlock(self, kind: str, d: Descriptor) -> str:
        self._drop(kind, self._owner(kind, d), {d.inode, self._other(d)} if kind == "record" else {d.inode})
        return "ok"

    def ask(self, kind: str, d: Descriptor, exclusive: bool) -> str:
        return "held" if self._refused(kind, d, exclusive) else "free"

    def close(self, d: Descriptor) -> None:
        self.locks = {lock for lock in self.locks if lock.owner != d.name}
        self._drop("record", d.process, {LOWER, d.overlay} if d.overlay else {LOWER})

    def end(self, process: str, descriptors: list[Descriptor]) -> None:
        names = {d.name for d in descriptors} | {process}
        self.locks = {lock for lock in self.locks if lock.owner not in names}
