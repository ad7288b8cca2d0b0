"""SIGKILL at every numbered step: a change that needs several either happened or did not.

Owns the loop: for each scenario a process is killed at its first step, its second, and so on, until
one survives. After each kill a new process must see exactly the tree from before the change or
exactly the one from after it (both taken from a plain directory), the lowers must be untouched,
doing it once more must come to the right end, and after another change in the same directories the
workdir must hold no leftovers.

    python3 Tests/oracle/crash.py --library .build/debug/liboverlock.so

The library must be built with numbered steps; it reads OVERLOCK_STEP=N. Times of directories are
compared only with --times: a kill may leave one recent whose entries are as they were.
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import os
import re
import stat
import sys
from dataclasses import dataclass, field
from typing import Any

from compare import Comparer
from crash_scenarios import SCENARIOS, case
from manifest import Record
from run import Lost, Process, Run, run
from sandbox import Scratch, confine
from worlds import OverlockWorld, Settings, World, Yard

STEPS_AT_MOST = 400
Tree = dict[str, Record]


class SteppedWorld(OverlockWorld):
    """The overlay, with the next processes to be killed at step `step` (0: never)."""

    step = 0

    def environment(self) -> dict[str, str]:
        steps = {"OVERLOCK_STEP": str(self.step)} if self.step else {}
        return {**super().environment(), **steps}


@dataclass
class Expected:
    """What a plain directory is like before the change, after it, and after doing it twice."""

    before: Tree
    after: Tree
    twice: Tree
    result: dict[str, Any]


@dataclass
class Finding:
    """What a scenario came to."""

    steps: int = 0
    problems: list[str] = field(default_factory=list)


def main() -> int:
    options = arguments()
    if not os.path.isfile(options.library):
        raise SystemExit(f"crash: --library {options.library!r}: no such file; build it first")
    names = [name for name in SCENARIOS if options.scenario in name]
    scratch = Scratch(options.scratch)
    privileged = not options.unprivileged and os.geteuid() == 0
    settings = Settings(scratch, options.library, options.options, privileged=privileged)
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    fork = multiprocessing.get_context("fork")
    work = functools.partial(interrupt, settings=settings, times=options.times)
    try:
        with fork.Pool(options.jobs, confine, ([scratch.near, scratch.far],)) as pool:
            for name, finding in zip(names, pool.imap(work, names)):
                counts[report(name, finding, options.ignore)] += 1
    finally:
        scratch.remove()
    print(", ".join(f"{count} {what}" for what, count in counts.items()))
    return 1 if counts["failed"] else 0


def report(name: str, finding: Finding, ignore: str) -> str:
    """Prints what a scenario came to; returns the outcome."""
    problems = [problem for problem in finding.problems
                if not (ignore and re.search(ignore, f"{name}: {problem}"))]
    outcome = "failed" if problems else "passed" if finding.steps else "skipped"
    print(f"{name}: {outcome}, {finding.steps} steps"
          + (" (the library has no steps here)" if outcome == "skipped" else ""), flush=True)
    for problem in problems:
        print(f"  {problem}")
    return outcome


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Kill a change at every step and look.")
    parser.add_argument("--library", required=True, help="a liboverlock.so with numbered steps")
    parser.add_argument("--ignore", default="", metavar="PATTERN",
                        help="known faults, found in 'scenario: step N: problem'")
    parser.add_argument("--scenario", default="", help="only those whose name contains this")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--options", default="", help="further mount options")
    parser.add_argument("--unprivileged", action="store_true", help="run as uid 65534")
    parser.add_argument("--times", action="store_true", help="compare directories' times too")
    parser.add_argument("--scratch", default="", metavar="DIR", help="where the trees are made")
    return parser.parse_args()


def interrupt(name: str, settings: Settings, times: bool) -> Finding:
    """Kills the scenario's change at one step after the other."""
    operation = SCENARIOS[name]
    expected = _expect(operation, settings)
    finding = Finding()
    for step in range(1, STEPS_AT_MOST):
        killed, problems = _kill_at(step, operation, expected, settings, times)
        finding.problems += [f"step {step}: {problem}" for problem in problems]
        if not killed:
            return finding
        finding.steps = step
    finding.problems.append(f"still killed at step {STEPS_AT_MOST}")
    return finding


def _expect(operation: dict[str, Any], settings: Settings) -> Expected:
    trees: list[Tree] = []
    result: dict[str, Any] = {}
    for times in range(3):
        changed = case([operation] * times, settings.privileged)
        yard = Yard(changed, settings)
        done = run(World(yard), changed)
        yard.remove()
        assert done.final is not None, done.problems
        trees.append(done.final)
        if times == 1:
            result = done.results[0]
    return Expected(trees[0], trees[1], trees[2], result)


def _kill_at(step: int, operation: dict[str, Any], expected: Expected, settings: Settings,
             times: bool) -> tuple[bool, list[str]]:
    """One kill and what follows; whether the process was killed, and what is wrong."""
    changed = case([operation], settings.privileged)
    yard = Yard(changed, settings)
    world = SteppedWorld(yard)
    yard.fresh_outside()
    world.open()
    problems: list[str] = []
    world.step = step
    killed = _do(world, operation, problems) is None
    world.step = 0
    seen = _see(world, problems)
    happened = False
    if seen is not None:
        before, after = (_differences(tree, seen, times)
                         for tree in (expected.before, expected.after))
        happened = not after
        if before and after:
            problems.append(f"neither before nor after: {before[0]}; {after[0]}")
        elif not killed and after:
            problems.append(f"not killed, yet not done: {after[0]}")
    if killed:
        result = _do(world, operation, problems)
        if not happened and result is not None and ("e" in result) != ("e" in expected.result):
            problems.append(f"doing it again: {result}")
        end = _see(world, problems)
        wanted = expected.twice if happened else expected.after
        left = _differences(wanted, end, times) if end is not None else []
        problems += [f"after doing it again: {one}" for one in left[:3]]
    if killed:
        _change_once_more(world, operation)
    left = _leftovers(world.work)
    # Anchors go with a later process: how soon is paced.
    for _ in range(50):
        if not any("overlock/anchors/" in one for one in left):
            break
        _see(world, problems)
        left = _leftovers(world.work)
    problems += left + world.close()
    yard.remove()
    return killed, problems


def _do(world: World, operation: dict[str, Any], problems: list[str]) -> dict[str, Any] | None:
    """The operation in a process of its own; None if SIGKILL ended it."""
    process = Process(world, "checked")
    try:
        process.send([operation])
        return process.receive()
    except Lost as lost:
        if "SIGKILL" not in str(lost):
            problems.append(str(lost))
        return None
    finally:
        process.end()


def _change_once_more(world: World, operation: dict[str, Any]) -> None:
    """Another change in the same directories: it holds their turns, and sweeps what a killed
    process left there. Doing the operation again may have found nothing to do."""
    for key in ("path", "to"):
        if key in operation:
            path = os.path.join(os.path.dirname(operation[key]), "once more")
            for act in ({"op": "mknod", "kind": "file", "mode": 0o600}, {"op": "unlink"}):
                _do(world, {**act, "w": 0, "path": path}, [])


def _see(world: World, problems: list[str]) -> Tree | None:
    process = Process(world, "reader")
    try:
        process.send([{"op": "manifest"}])
        seen = process.receive()
        if "v" in seen:
            return seen["v"]
        problems.append(f"the tree cannot be read: {seen}")
    except Lost as lost:
        problems.append(f"the tree cannot be read: {lost}")
    finally:
        process.end()
    return None


def _differences(expected: Tree, seen: Tree, times: bool) -> list[str]:
    comparer = Comparer(Run("plain"), Run("overlock"))
    comparer.trees(expected, seen)
    found = []
    for where, one, other in comparer.found:
        path = where.rpartition("' ")[0].strip("'")
        is_directory = stat.S_ISDIR(expected.get(path, {}).get("mode", 0))
        if times or not (where.endswith("st_mtime") and is_directory):
            found.append(f"{where}: expected {one}, actual {other}")
    return found


# The index of hard links, names of sockets, what cannot be an xattr, where copied-up FIFOs and sockets and running
# programs have their origins.
LASTING = ("index", "sockets", "origins", "meeting", "running")


def _leftovers(work: str) -> list[str]:
    """Whatever lies in the workdir's folders, apart from what lasts there: the folders of LASTING, where
    lower objects were renamed to (but not its entries half made), and where renamed copies come from."""
    root = f"{work}/overlock"
    found = []
    for folder in sorted(os.listdir(root)) if os.path.isdir(root) else []:
        path = f"{root}/{folder}"
        if folder not in LASTING and os.path.isdir(path):
            found += [f"left in the workdir: {os.path.relpath(os.path.join(where, name), work)}"
                      for where, _, files in os.walk(path) for name in sorted(files)
                      if (folder != "moved" or "." in name)
                      and (folder != "kept" or not name.endswith(".at"))]
    return found


if __name__ == "__main__":
    sys.exit(main())
