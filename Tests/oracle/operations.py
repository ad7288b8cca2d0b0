"""The random operation list of a case, chosen while it is executed in a plain directory.

Owns the weights between the families and the distribution over workers: each operation names the
worker that executes it, and the order of the list is the global order. Runs of operations go to
the same worker, so that state held by a process (its directory, its descriptors) comes to matter.

Choosing follows what the plain directory answers, so that most operations meet existing names;
those that say nothing (an empty slot, a step out of the tree) are left out. A longer list of the
same seed begins with the shorter one.
"""

from __future__ import annotations

import os
import random

import choose_files
import choose_names
from chooser import Chooser, Operation
from manifest import kinds
from run import WORKERS, Lost, Process
from tree import Case, merge
from worlds import Settings, World, Yard

REFRESH_EVERY = 40
SETS_MODE = {"chmod", "fchmod", "open", "mkdir", "mknod", "write_file", "append_file"}


def choose(case: Case, count: int, without: frozenset[str], settings: Settings,
           own: bool = False) -> list[Operation]:
    """`count` operations for the case; `own`: none takes its owner's rights from an object."""
    yard = Yard(case, settings)
    world = World(yard)
    crew: list[Process] = []
    try:
        yard.fresh_outside()
        world.open()
        crew += [Process(world, "truth") for _ in range(WORKERS)]
        return _choose(case, count, without, crew, yard.tree, own)
    finally:
        for process in crew:
            process.end()
        yard.remove()


def _choose(case: Case, count: int, without: frozenset[str], crew: list[Process],
            tree: str, own: bool) -> list[Operation]:
    rng = random.Random(f"operations {case.seed} {case.privileged}")
    chooser = Chooser(rng, merge(case.layers), WORKERS, case.privileged)
    choices = [entry for entry in choose_names.CHOICES + choose_files.CHOICES]
    weights = [weight for weight, _ in choices]
    operations: list[Operation] = []
    for attempt in range(count * 10):
        if len(operations) == count:
            break
        if attempt % REFRESH_EVERY == 0:
            _refresh(chooser, crew, tree)
        if chooser.chance(0.25):
            chooser.worker = rng.randrange(WORKERS)
        operation = {"w": chooser.worker, **rng.choices(choices, weights)[0][1](chooser)}
        if own and operation["op"] in SETS_MODE:
            operation["mode"] |= 0o700
        if operation["op"] in without:
            chooser.settle(False)
            continue
        crew[chooser.worker].send([operation])
        try:
            result = crew[chooser.worker].receive()
        except Lost as lost:
            raise RuntimeError(f"seed {case.seed}: a plain directory's worker {lost} at operation "
                               f"{len(operations)}: {operation}") from lost
        chooser.settle("v" in result)
        if "skip" not in result and result.get("v") != "no slot":
            operations.append(operation)
    return operations


def _refresh(chooser: Chooser, crew: list[Process], tree: str) -> None:
    """Puts the guess right: what there is, and where the workers are."""
    chooser.kinds = kinds(tree)
    for number, process in enumerate(crew):
        where = os.readlink(f"/proc/{process.child.pid}/cwd")
        inside = where.startswith(tree + "/") and not where.endswith(" (deleted)")
        chooser.cwds[number] = where[len(tree) + 1:] if inside else ""
