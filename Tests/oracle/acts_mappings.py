"""Acts that map files shared for reading, for the crash scenarios: each a whole story."""

from __future__ import annotations

import mmap
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from acts_files import digest
from acts_names import Act, Operation

if TYPE_CHECKING:
    from worker import Worker


def _map(path: str) -> mmap.mmap:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return mmap.mmap(descriptor, 0, mmap.MAP_SHARED, mmap.PROT_READ)
    finally:
        os.close(descriptor)


def _touch_lower(relative: str) -> None:
    """Moves the change time of the lower file directly, past the overlay, if there is one."""
    for word in os.environ.get("OVERLOCK", "").split(","):
        if word.startswith("lowerdir="):
            lower = os.path.join(word.removeprefix("lowerdir=").split(":")[0], relative)
            os.chmod(lower, os.stat(lower).st_mode)


def _write(path: str) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, b"written")
    finally:
        os.close(descriptor)


def map_files(w: Worker, op: Operation) -> Any:
    """Maps one after the other, none while another is mapped."""
    seen = []
    for path in op["paths"]:
        with _map(w.full({**op, "path": path})) as mapped:
            seen.append(digest(mapped[:]))
    return seen


def map_again(w: Worker, op: Operation) -> Any:
    """Maps a file, and again when what was made for it is out of date."""
    path = w.full(op)
    with _map(path) as first:
        _touch_lower(op["path"])
        with _map(path) as second:
            return [digest(first[:]), digest(second[:])]


def map_and_write(w: Worker, op: Operation) -> Any:
    """Writes what is mapped, when what was made for the mapping is out of date."""
    path = w.full(op)
    with _map(path) as mapped:
        _touch_lower(op["path"])
        _write(path)
        return digest(mapped[:])


def map_outlives(w: Worker, op: Operation) -> Any:
    """Maps a file that a child writes. Where the child is killed at one of its steps, another
    process writes, which the mapping must show; then this one ends as the child did."""
    path = w.full(op)
    with _map(path) as mapped:
        child = os.fork()
        if child == 0:
            _write(path)
            os._exit(0)
        if not os.WIFSIGNALED(os.waitpid(child, 0)[1]):
            return digest(mapped[:])
        unstepped = {name: value for name, value in os.environ.items() if name != "OVERLOCK_STEP"}
        code = "import sys; open(sys.argv[1], 'r+b').write(b'written')"
        subprocess.run([sys.executable, "-c", code, path], env=unstepped, check=True)
        if mapped[:7] != b"written":
            os.abort()
        os.kill(os.getpid(), signal.SIGKILL)


ACTS: dict[str, Act] = {act.__name__: act for act in (
    map_files, map_again, map_and_write, map_outlives)}
