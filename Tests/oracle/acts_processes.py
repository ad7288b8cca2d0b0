"""Acts in which processes meet or start: running scripts, sockets, what a process sees of itself.

Also the manifest, because the final tree is read through the world as everything else is.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

from acts_names import Act, Operation
from manifest import manifest

if TYPE_CHECKING:
    from worker import Worker

SHELL = 'ls -1a; [ -f "$1" ] && head -c 300 "$1"; [ -d "$1" ] && cd "$1" && pwd'


def run(w: Worker, op: Operation) -> Any:
    """Runs a script; returns what it said and its status."""
    full = w.full(op)
    search = {**os.environ, "PATH": f"{w.tree}/d1:{w.tree}:/usr/bin:/bin"}
    how = {
        "spawn": lambda out: _spawn(out, full, [full, "one", "two"], os.environ, False),
        "exec": lambda out: _fork(out, full),
        "search": lambda out: _spawn(out, os.path.basename(full), ["found"], search, True),
        "shell": lambda out: _spawn(out, "/bin/sh", ["sh", "-c", SHELL, "sh", full],
                                    os.environ, False),
    }[op["how"]]
    reading, writing = os.pipe()
    try:
        child = how(writing)
    except OSError:
        os.close(reading)
        raise
    finally:
        os.close(writing)
    with os.fdopen(reading, "rb") as output:
        said = output.read()
    return [said.decode("latin-1")[:4000], os.waitpid(child, 0)[1]]


def _spawn(out: int, path: str, arguments: list[str], environment: Any, search: bool) -> int:
    actions = [(os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
               (os.POSIX_SPAWN_DUP2, out, 1), (os.POSIX_SPAWN_DUP2, out, 2)]
    call = os.posix_spawnp if search else os.posix_spawn
    return call(path, arguments, environment, file_actions=actions)


def _fork(out: int, path: str) -> int:
    child = os.fork()
    if child:
        return child
    try:
        os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
        os.dup2(out, 1)
        os.dup2(out, 2)
        os.execve(path, [path, "one"], os.environ)
    except OSError as error:
        os._exit(100 + (error.errno or 0) % 100)
    finally:
        # Also after what Python itself refuses: the child must not go on as a second worker.
        os._exit(99)


def bind(w: Worker, op: Operation) -> Any:
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(w.full(op))
        listener.listen(4)
    except OSError:
        listener.close()
        raise
    w.replace(op["slot"], listener, socket.socket.close)
    name = listener.getsockname()
    # An empty name asks the kernel for one of its own, which is another each time (unix(7), autobind).
    return len(name) if isinstance(name, bytes) else name


def connect(w: Worker, op: Operation) -> Any:
    caller = socket.socket(socket.AF_UNIX)
    caller.setblocking(False)
    try:
        caller.connect(w.full(op))
    except OSError:
        caller.close()
        raise
    w.replace(op["slot"], caller, socket.socket.close)
    return caller.getpeername()


def descriptors(w: Worker, _op: Operation) -> Any:
    """The process's open descriptors, without those that only the truth holds."""
    names = sorted(int(name) for name in os.listdir("/proc/self/fd"))
    return [name for name in names if not (w.is_truth and name >= 1000)]


def umask(_w: Worker, op: Operation) -> Any:
    return os.umask(op["mode"])


def whole(w: Worker, _op: Operation) -> Any:
    return manifest(w.tree)


ACTS: dict[str, Act] = {"run": run, "bind": bind, "connect": connect, "descriptors": descriptors,
                        "umask": umask, "manifest": whole}
