"""Which operations the truth must skip, because a plain directory is no mount point.

A plain directory's root can be renamed or removed and its parent is on the same device; neither
holds for anything mounted or overlaid there. Everything that resolves into the tree or into the
directory outside stays; what resolves anywhere else, or moves the root itself, is skipped in every
world. Paths may leave the tree on their way as long as they come back.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from worker import Worker

MOVES_NAMES = {"rename", "rmdir", "unlink", "remove_tree", "link"}


class Guard:
    def __init__(self, tree: str, outside: str) -> None:
        self.tree, self.outside = tree, outside

    def refuses(self, worker: Worker, operation: dict[str, Any]) -> str | None:
        """The reason to skip the operation, if there is one."""
        for key in ("path", "to"):
            if not isinstance(operation.get(key), str) or operation["op"] in ("dup", "copy_range",
                                                                              "sendfile"):
                continue
            at = operation.get(f"{key}_at")
            if at is not None and at not in worker.slots:
                continue
            where = self._resolve(worker.full(operation, key))
            if where is None:
                continue
            if where == self.tree and operation["op"] in MOVES_NAMES:
                return "moves the root"
            if where != self.tree and not where.startswith((self.tree + "/", self.outside)):
                return "leaves the tree"
        return None

    def _resolve(self, path: str) -> str | None:
        """Where the kernel says the path leads, or would lead once created; None if nowhere."""
        where = _where(path)
        if where is not None:
            return where
        parent, _, last = path.rstrip("/").rpartition("/")
        above = _where(parent or ("/" if path[:1] == "/" else "."))
        if above is None or last in ("", ".", ".."):
            return None
        where = os.path.join(above, last)
        return os.path.realpath(where) if os.path.islink(where) else where


def _where(path: str) -> str | None:
    try:
        descriptor = os.open(path, os.O_PATH)
    except OSError:
        return None
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


class Ancestors:
    """The directories that no act may empty, whatever a library under test says a path leads to."""

    def __init__(self, *paths: str) -> None:
        self.forbidden = set()
        for path in paths:
            while path != "/":
                path = os.path.dirname(path)
                seen = os.stat(path)
                self.forbidden.add((seen.st_dev, seen.st_ino))
        for name in os.listdir("/"):
            with contextlib.suppress(OSError):
                seen = os.stat(f"/{name}")
                self.forbidden.add((seen.st_dev, seen.st_ino))

    def protect(self, seen: os.stat_result) -> None:
        if (seen.st_dev, seen.st_ino) in self.forbidden:
            sys.stderr.write("the path leads out of the tree: nothing is removed\n")
            os._exit(3)
