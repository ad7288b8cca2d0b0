"""Runs a case's operations in one world, in their one order.

Owns the worker processes: started once a world, fed by pipes, one after the other, so that the
result is the same whatever the scheduler does. A worker that dies or hangs ends the run at that
operation, and that is its result. When all have ended, one more process reads the final tree: it
sees what is on disk, not what the others remembered.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from manifest import Record
from tree import Case
from worlds import NOBODY, World

WORKER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "worker.py")
WORKERS = 3
BATCH = 40  # operations in a pipe at once; the pipe holds them all
TIMEOUT_MS = 20_000


@dataclass
class Run:
    """What one world answered; results end early where a worker was lost."""

    world: str
    device: int = 0
    results: list[dict[str, Any]] = field(default_factory=list)
    final: dict[str, Record] | None = None
    problems: list[str] = field(default_factory=list)


class Lost(Exception):
    """A worker died or no longer answers."""


def interpreter(for_nobody: bool) -> str:
    """This Python, or the system's where the unprivileged worker cannot reach this one."""
    mine = os.path.realpath(sys.executable)
    parents = [mine[:end] or "/" for end, letter in enumerate(mine) if letter == "/"]
    if not for_nobody or all(os.stat(parent).st_mode & 1 for parent in parents):
        return sys.executable
    return "/usr/bin/python3"


class Process:
    """One worker process and its pipes."""

    def __init__(self, world: World, role: str) -> None:
        yard = world.yard
        # The unprivileged workers' interpreter state must not depend on who the driver is.
        identity: dict[str, Any] = {}
        if not yard.case.privileged and os.geteuid() == 0:
            identity = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
        self.log = open(f"{yard.base}/{world.name}.stderr", "ab+")
        environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", **world.environment()}
        self.child = subprocess.Popen(
            [interpreter(bool(identity)), "-S", "-E",
             f"-Xpycache_prefix={yard.settings.scratch.bytecode}",
             WORKER, yard.tree, yard.outside, role],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, env=environment,
            cwd="/", bufsize=0, **identity)
        assert self.child.stdin and self.child.stdout
        self.input, self.output = self.child.stdin, self.child.stdout
        self.received = b""

    def send(self, operations: list[dict[str, Any]]) -> None:
        text = b"".join(json.dumps(operation).encode() + b"\n" for operation in operations)
        try:
            self.input.write(text)
        except BrokenPipeError:
            pass  # the reading side tells how it died

    def receive(self) -> dict[str, Any]:
        while b"\n" not in self.received:
            if not select.select([self.output], [], [], TIMEOUT_MS / 1000)[0]:
                self.child.kill()
                self.child.wait()
                raise Lost("hung")
            more = os.read(self.output.fileno(), 1 << 16)
            if not more:
                raise Lost(f"died: {self._death()}")
            self.received += more
        line, _, self.received = self.received.partition(b"\n")
        return json.loads(line)

    def _death(self) -> str:
        status = self.child.wait()
        how = signal.Signals(-status).name if status < 0 else f"exit status {status}"
        self.log.seek(0)
        said = self.log.read().decode(errors="replace").strip().splitlines()
        return f"{how}; stderr ends: {' | '.join(said[-3:])}" if said else how

    def end(self) -> None:
        self.input.close()
        try:
            self.child.wait(TIMEOUT_MS / 1000)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
        self.output.close()
        self.log.close()


def run(world: World, case: Case, skipped: frozenset[int] = frozenset(),
        read_end: bool = True) -> Run:
    """Opens the world, executes every operation that is not skipped, reads the end, closes it."""
    role = "truth" if world.name == "plain" else "checked"
    done = Run(world.name)
    world.yard.fresh_outside()
    world.open()
    try:
        _operate(world, case, role, skipped, done)
        if read_end:
            done.final = _final(world)
    except Lost as lost:
        done.problems.append(f"a worker was lost: {lost}")
    finally:
        done.problems += world.close()
    return done


def _operate(world: World, case: Case, role: str, skipped: frozenset[int], done: Run) -> None:
    numbers = sorted({operation["w"] for operation in case.operations})
    crew = {number: Process(world, role) for number in numbers}
    pids = {process.child.pid: number for number, process in crew.items()}
    try:
        for number, group in groupby(enumerate(case.operations), lambda item: item[1]["w"]):
            pending = [index for index, _ in group]
            for start in range(0, len(pending), BATCH):
                batch = pending[start:start + BATCH]
                crew[number].send([case.operations[index] for index in batch
                                   if index not in skipped])
                for index in batch:
                    result = {"skip": ""} if index in skipped else crew[number].receive()
                    done.results.append(_without_pids(result, pids))
    except Lost as lost:
        done.results.append({"lost": str(lost)})
        raise
    finally:
        for process in crew.values():
            process.end()


def _without_pids(result: dict[str, Any], pids: dict[int, int]) -> dict[str, Any]:
    """A lock holder's pid becomes the worker's number."""
    value = result.get("v")
    if isinstance(value, dict) and value.get("pid", -1) > 0:
        value["pid"] = pids.get(value["pid"], "a stranger")
    return result


def _final(world: World) -> dict[str, Record]:
    reader = Process(world, "reader")
    try:
        reader.send([{"op": "manifest"}])
        result = reader.receive()
    finally:
        reader.end()
    return result.get("v") or {"manifest failed": result}
