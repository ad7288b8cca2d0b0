#!/usr/bin/env python3
"""SIGKILL at every numbered step of a copy-up under locks, of marking an origin as contested and of settling it.

For each scenario a process is killed at its first step, its second, and so on, until one survives. After each kill
who is alive must still exclude the others, nothing of the dead one's must, and when all is given up no mark of a
contested origin and no half copy may be left.

    locks_crash.py --library .build/debug/liboverlock.so [--scenario TEXT] [--jobs N]
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal
import sys
import tempfile

from lock_world import Lost, Overlay

STEPS_AT_MOST = 100
KINDS = {
    "flock": ("flock {} s", "flock {} x", "flock {} u"),
    "record": ("record {} r 0 0 0", "record {} w 0 0 0", "record {} u 0 0 0"),
    "description": ("description {} r 0 0 0", "description {} w 0 0 0", "description {} u 0 0 0"),
}
# What is done before, by whom; then what the victim does, in which every step kills it. {s}, {x}, {u}: a shared lock,
# an exclusive one, giving it up. H lives on; the file is f.
SCENARIOS = {
    "copy-up of a locked file by chmod": (["H open a f r", "H {s} a"], ["chmod f 600"]),
    "copy-up of a locked file by an open that locks": (["H open a f r", "H {s} a"], ["open a f rw", "{x} a"]),
    "copy-up of a file that the victim itself has locked": (
        ["H open a f r", "V open a f r", "V {s} a"], ["chmod f 600", "{s} a"]),
    "copy-up of a file whose origin is locked by an outsider": (["O open a f r", "O {s} a"], ["chmod f 600"]),
    "marking: a lock through a descriptor from before the copy-up": (
        ["V open a f r", "H open a f rw"], ["{s} a", "{u} a"]),
    "marking: the same while the copy is locked": (
        ["V open a f r", "H open a f rw", "H {x} a"], ["{s} a"]),
    "settling: a lock on the copy after the origin's was given up": (
        ["H open a f r", "H {s} a", "L chmod f 600", "V open a f rw", "H {u} a"], ["{x} a"]),
    "settling by one who then waits for nobody": (
        ["H open a f r", "H {s} a", "L chmod f 600", "V open a f rw", "H close a"], ["{x} a", "{u} a", "{x} a"]),
    "unlocking and closing over both inodes": (
        ["V open a f r", "V {s} a", "L chmod f 600", "V open b f rw"], ["{s} b", "close a", "{s} b", "{u} b"]),
}


def fill(command: str, kind: str) -> str:
    """`{s} a` becomes the kind's call for a shared lock through slot a."""
    for mark, template in zip(("{s}", "{x}", "{u}"), KINDS[kind]):
        if command.startswith(mark):
            return template.format(command.split()[1])
    return command


class Attempt:
    """One scenario with a kill at one step."""

    def __init__(self, world: Overlay, kind: str, step: int) -> None:
        self.world, self.kind, self.step = world, kind, step
        self.problems: list[str] = []

    def _do(self, name: str, command: str, *expected: str) -> None:
        said = self.world.do(name, fill(command, self.kind))
        if said not in expected:
            self.problems.append(f"{name} {command}: {said}, expected {' or '.join(expected)}")

    def go(self, before: list[str], victim: list[str]) -> bool:
        """Whether the victim was killed."""
        world = self.world
        world.start("H")
        world.start("L")
        self._do("L", "open a f r", "ok")
        world.start("V", OVERLOCK_STEP=str(self.step))
        if any(command.startswith("O ") for command in before):
            world.start("O", LD_PRELOAD="", OVERLOCK="")
        holder, killed = "", False
        try:
            for command in before:
                self._do(command[0], command[2:], "ok")
            for command in victim:
                self.world.do("V", fill(command, self.kind))
        except (Lost, OSError):
            killed = True
        world.end("V", signal.SIGKILL)
        for name in "HO":
            held = [command for command in before if command[0] == name and command[2:5] in ("{s}", "{x}")]
            given = [command for command in before if command[0] == name and (command[2:5] == "{u}" or "close" in command)]
            if held and not given:
                holder = name
        self._look(holder, any(command == "H {x} a" for command in before))
        return killed

    def _look(self, holder: str, exclusive: bool) -> None:
        """Who excludes whom now; L's descriptor is from before the copy-up."""
        self.world.start("N")
        self._do("N", "open a f rw", "ok")
        if holder:
            self._do("N", "{x} a", "EAGAIN")
            self._do("N", "{s} a", "EAGAIN" if exclusive else "ok")
            self._do("N", "{u} a", "ok")
            self._do("L", "{s} a", "EAGAIN" if exclusive else "ok")
            self._do("L", "{u} a", "ok")
            self._do(holder, "{u} a", "ok")
        self._do("N", "{x} a", "ok")
        self._do("L", "{s} a", "EAGAIN")
        self._do("N", "{u} a", "ok")
        self._do("L", "{s} a", "ok")
        self._do("N", "{x} a", "EAGAIN")
        self._do("L", "{u} a", "ok")
        self._do("N", "{x} a", "ok")
        self._do("N", "{u} a", "ok")
        left = self.world.left()
        if left:
            self.problems.append(f"left in the workdir: {left}")
        content = self.world.content("f")
        if content != "twenty bytes of data":
            self.problems.append(f"the file holds {content!r}")


def scenario(job: tuple[str, str, str]) -> tuple[int, list[str]]:
    name, kind, library = job
    before, victim = SCENARIOS[name]
    problems: list[str] = []
    with tempfile.TemporaryDirectory(prefix="overlock-locks-") as scratch:
        for step in range(1, STEPS_AT_MOST):
            world = Overlay(f"{scratch}/world", library)
            attempt = Attempt(world, kind, step)
            try:
                killed = attempt.go(before, victim)
            except Lost as lost:
                attempt.problems.append(str(lost))
                killed = True
            finally:
                world.close()
            problems += [f"step {step}: {problem}" for problem in attempt.problems]
            if not killed:
                return step - 1, problems
    return STEPS_AT_MOST, [*problems, "still killed"]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--library", required=True)
    parser.add_argument("--scenario", default="", help="only those whose name contains this")
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    if not os.path.isfile(options.library):
        raise SystemExit(f"locks_crash: --library {options.library!r}: no such file; build it first")
    library = os.path.realpath(options.library)
    jobs = [(name, kind, library) for name in SCENARIOS if options.scenario in name
            for kind in options.kinds.split(",")]
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    with multiprocessing.get_context("fork").Pool(options.jobs) as pool:
        for (name, kind, _), (steps, problems) in zip(jobs, pool.imap(scenario, jobs)):
            outcome = "failed" if problems else "passed" if steps else "skipped"
            counts[outcome] += 1
            print(f"{name}, {kind}: {outcome}, {steps} steps"
                  + (" (the library has no steps here)" if outcome == "skipped" else ""), flush=True)
            for problem in problems:
                print(f"  {problem}")
    print(", ".join(f"{count} {what}" for what, count in counts.items()))
    return 1 if counts["failed"] or not counts["passed"] else 0


if __name__ == "__main__":
    sys.exit(main())
