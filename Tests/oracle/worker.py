"""One of the processes that a world is seen through: executes operations, returns results.

Protocol: one JSON operation a line on standard input, one JSON result a line on standard output:
`{"v": value}`, `{"e": errno name}`, or `{"x": text}` for what Python itself refused. State that a
program would hold is held in slots: descriptors, streams, mappings, sockets.

In the world that serves as truth (a plain directory) the worker does two things more, neither of
which may touch a world under test. It keeps every object alive that it is about to delete, by an
O_PATH descriptor, and reports those that lost their last name: so an inode number stands for one
object for the whole run. And it skips operations that would leave the tree (guard.py).
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import resource
import sys
from collections.abc import Callable
from typing import Any

import acts_attributes
import acts_files
import acts_mappings
import acts_names
import acts_processes
from guard import Ancestors, Guard
from roots import expand

PINS_FROM = 1000


class NoSlot(Exception):
    """The operation names a slot that holds nothing: the same in every world."""


class Worker:
    """The process's slots and roots, and how an operation's path is reached."""

    def __init__(self, tree: str, outside: str, is_truth: bool) -> None:
        self.tree, self.outside, self.is_truth = tree, outside, is_truth
        self.slots: dict[str, Any] = {}
        self.pins: list[int] = []
        self.dead: list[list[int]] = []
        self.ancestors = Ancestors(tree, outside)

    def expand(self, text: str) -> str:
        return expand(text, self.tree, self.outside)

    def slot(self, name: str) -> Any:
        if name not in self.slots:
            raise NoSlot
        return self.slots[name]

    def path(self, operation: dict[str, Any], key: str = "path") -> str:
        return self.expand(operation[key])

    def at(self, operation: dict[str, Any], key: str = "path") -> int | None:
        """The descriptor that the path is relative to, if any."""
        name = operation.get(f"{key}_at")
        return None if name is None else int(self.slot(name))

    def full(self, operation: dict[str, Any], key: str = "path") -> str:
        """For calls without a descriptor argument: the path by way of /proc/self/fd."""
        path, at = self.path(operation, key), self.at(operation, key)
        return path if at is None or path.startswith("/") else f"/proc/self/fd/{at}/{path}"

    def replace(self, name: str, value: Any, close: Callable[[Any], object]) -> None:
        """Puts a value into a slot; what was there is closed afterwards."""
        old = self.slots.get(name)
        self.slots[name] = value
        if old is not None:
            close(old)

    def doomed(self, full: str) -> None:
        """Pins an object that may be about to lose its last name (truth only)."""
        if not self.is_truth:
            return
        try:
            descriptor = os.open(full, os.O_PATH | os.O_NOFOLLOW)
        except OSError:
            return
        self.pins.append(fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, PINS_FROM))
        os.close(descriptor)

    def bury(self) -> None:
        """Reports pinned objects that died and stays on them; lets go of the others."""
        for pin in self.pins:
            facts = os.fstat(pin)
            if facts.st_nlink == 0:
                self.dead.append([facts.st_dev, facts.st_ino])
            else:
                os.close(pin)
        self.pins.clear()


ACTS = (acts_names.ACTS | acts_files.ACTS | acts_attributes.ACTS | acts_processes.ACTS |
        acts_mappings.ACTS)


def execute(worker: Worker, operation: dict[str, Any]) -> dict[str, Any]:
    """One operation, its result or its error."""
    try:
        return {"v": ACTS[operation["op"]](worker, operation)}
    except NoSlot:
        return {"v": "no slot"}
    except OSError as error:
        if error.errno is None:
            return {"x": str(error)}
        return {"e": errno.errorcode.get(error.errno, str(error.errno))}
    except (ValueError, TypeError, OverflowError, NotImplementedError) as error:
        return {"x": f"{type(error).__name__}: {error}"}


def serve(worker: Worker, guard: Guard | None) -> None:
    for line in sys.stdin:
        operation = json.loads(line)
        reason = guard.refuses(worker, operation) if guard else None
        if reason:
            result: dict[str, Any] = {"skip": reason}
        else:
            result = execute(worker, operation)
            if worker.is_truth:
                worker.bury()
                result["dead"] = worker.dead
                worker.dead = []
        os.write(1, json.dumps(result).encode() + b"\n")


def main() -> None:
    tree, outside, role = sys.argv[1:4]
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 1 << 16), hard))
    os.umask(0o022)
    if role != "reader":  # which comes when the root may be locked
        os.chdir(tree)
    is_truth = role == "truth"
    serve(Worker(tree, outside, is_truth), Guard(tree, outside) if is_truth else None)


if __name__ == "__main__":
    main()
