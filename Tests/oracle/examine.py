"""One case through all its worlds, to a verdict.

Owns which worlds are run, in which order (the truth first: it decides what is skipped), and which
further checks follow a world: the lowers unchanged, and what kernel overlayfs shows for the upper
that Overlock wrote.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

from compare import Comparer, Difference
from manifest import Record
from run import Run, run
from tree import Case
from worlds import WORLDS, OverlockWorld, Settings, Yard


@dataclass(frozen=True)
class Plan:
    """Which worlds to run, and which of them must equal the truth."""

    worlds: tuple[str, ...]
    check: tuple[str, ...]
    mounts: bool  # kernel overlayfs can be mounted
    directory_links: bool = False
    keep: bool = False
    read_end: bool = True  # compare the final tree too
    ignore: tuple[str, ...] = ()  # parts of signatures that are known faults


@dataclass
class Verdict:
    """What was found: differences that count as failures, and others by world and operation."""

    differences: list[Difference] = field(default_factory=list)
    information: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    succeeded: int = 0
    skipped: int = 0


def examine(case: Case, plan: Plan, settings: Settings) -> Verdict:
    """Runs the case in every world of the plan and compares each with the plain directory."""
    settings = replace(settings, privileged=case.privileged)
    yard = Yard(case, settings)
    verdict = Verdict()
    try:
        truth = run(WORLDS["plain"](yard), case, read_end=plan.read_end)
        if truth.problems:
            raise RuntimeError(f"the plain world itself failed: {truth.problems}")
        skipped = frozenset(index for index, result in enumerate(truth.results) if "skip" in result)
        verdict.skipped = len(skipped)
        verdict.succeeded = sum("v" in result and result["v"] != "no slot"
                                for result in truth.results)
        for name in plan.worlds:
            if name != "plain":
                _check(WORLDS[name](yard), case, plan, truth, skipped, verdict)
    finally:
        if not (plan.keep and verdict.differences):
            yard.remove()
        else:
            verdict.notes.append(f"kept: {yard.base}")
    return verdict


def _check(world: OverlockWorld, case: Case, plan: Plan, truth: Run, skipped: frozenset[int],
           verdict: Verdict) -> None:
    checked = run(world, case, skipped, plan.read_end)
    differences = Comparer(truth, checked, plan.directory_links).compare(case.operations)
    differences = [one for one in differences
                   if not any(known in one.signature() for known in plan.ignore)]
    if world.name not in plan.check:
        verdict.information.update(one.operation for one in differences)
        return
    verdict.differences += differences
    if world.name == "overlock" and plan.mounts and plan.read_end and not differences:
        _mount_upper(world, case, truth, checked, plan, verdict)


def _mount_upper(world: OverlockWorld, case: Case, truth: Run, checked: Run,
                 plan: Plan, verdict: Verdict) -> None:
    """Kernel overlayfs must show the same tree for the upper.

    Hard links of lower files are left out: the kernel keeps them together by an index of its own.
    """
    shown, reason = world.mounted()
    if shown is None or truth.final is None:
        verdict.notes.append(f"upper not mounted: {reason}")
        return
    _forget_unread(truth.final, shown)
    linked = {path for path, record in truth.final.items() if record.get("nlink", 1) > 1}
    linked |= {path for layer in case.layers for path, entry in layer.items() if entry.group}
    comparer = Comparer(truth, checked)
    comparer.trees(truth.final, shown, loosely=frozenset(linked))
    found = [Difference(len(case.operations), "upper mounted by the kernel", *one)
             for one in comparer.found]
    verdict.differences += [one for one in found
                            if not any(known in one.signature() for known in plan.ignore)]


def _forget_unread(final: dict[str, Record], shown: dict[str, Record]) -> None:
    """The mounted tree is read by root: takes from it what the worker could not read of its own."""
    closed = {path for path, record in final.items()
              if {"unlistable", "unreachable"} & record.keys()}
    for path in list(shown):
        inside = "." in closed or any(path.startswith(f"{directory}/") for directory in closed)
        if inside and path not in final:
            del shown[path]
    for path, record in final.items():
        if path not in shown:
            continue
        if "unreachable" in record:
            shown[path] = record
        for name in ("unlistable", "unreadable"):
            if name in record:
                shown[path][name] = record[name]
        if "unreadable" in record:
            for name in ("content", "target", "xattrs"):
                if name not in record:
                    shown[path].pop(name, None)
