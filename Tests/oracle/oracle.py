"""The differential oracle: random operations in a plain directory and in an overlay must agree.

Owns the command line and the report. Each seed makes a tree spread over layers and a list of
operations; a plain directory with the merged content is the truth. Whatever a program can see and
that differs through Overlock is a failure; what kernel overlayfs does differently is reported for
information. A failing seed is reported with its shortest failing prefix and how to replay it.

    python3 Tests/oracle/oracle.py --library .build/release/liboverlock.so --seeds 20

`--check kernel` makes the kernel's differences the failures: this proves that the comparison can
fail (`--kernel-options redirect_dir=off,index=off` gives EXDEV and broken hard links).
`--worlds control --check control` compares a plain directory with a plain directory: this proves
that nothing fails that should not.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shlex
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

from compare import Difference
from examine import Plan, examine
from generate import generate
from operations import choose
from sandbox import Scratch, confine, kernel_unavailable
from shrink import shortest_prefix, shrink
from tree import Case
from worlds import WORLDS, Settings


@dataclass
class Outcome:
    """What one seed came to, as text for the report."""

    seed: int
    passed: bool
    lines: list[str]
    signature: str = ""
    information: Counter[str] = field(default_factory=Counter)
    small: Case | None = None  # the case to replay


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare an overlay with a plain directory.")
    parser.add_argument("--library", default="",
                        help="liboverlock.so; without it, no overlock world")
    parser.add_argument("--seeds", type=int, help="how many seeds (default: 10, or 1 with --seed)")
    parser.add_argument("--seed", type=int, help="the first seed (default: 1)")
    parser.add_argument("--also", default="", metavar="SEEDS", help="further seeds, comma-separated")
    parser.add_argument("--operations", type=int, default=400, help="operations a seed")
    parser.add_argument("--worlds", default="", help="of plain,overlock,kernel,control")
    parser.add_argument("--truth", choices=["plain"], default="plain")
    parser.add_argument("--check", default="overlock", help="worlds whose differences are failures")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--keep", default="", metavar="DIR", help="keep the trees of failed seeds")
    parser.add_argument("--scratch", default="", metavar="DIR", help="where the trees are made")
    parser.add_argument("--unprivileged", action="store_true", help="workers run as uid 65534")
    parser.add_argument("--own", action="store_true",
                        help="with --unprivileged: everything may be read and written by them")
    parser.add_argument("--without", default="", help="operations to leave out, comma-separated")
    parser.add_argument("--ignore", default="", metavar="TEXTS",
                        help="known faults: parts of 'operation field expected actual'")
    parser.add_argument("--dir-nlink", action="store_true", help="compare directories' link counts")
    parser.add_argument("--shrink", type=float, default=0, metavar="SECONDS",
                        help="then leave out what a failure does not need, for so long")
    parser.add_argument("--replay", default="", metavar="FILE", help="a case written by a failure")
    parser.add_argument("--options", default="", help="further mount options for Overlock")
    parser.add_argument("--kernel-options", default=Settings.kernel_options)
    return parser.parse_args()


def make_plan(options: argparse.Namespace, no_kernel: str) -> Plan:
    worlds = tuple(options.worlds.split(",")) if options.worlds else \
        ("plain", *(["overlock"] if options.library else []), "kernel")
    unknown = [name for name in worlds if name not in WORLDS]
    if unknown:
        raise SystemExit(f"oracle: no such world: {', '.join(unknown)}")
    if "overlock" in worlds and not os.path.isfile(options.library):
        raise SystemExit(f"oracle: --library {options.library!r}: no such file; build it first")
    if no_kernel and "kernel" in worlds:
        print(f"kernel world skipped: {no_kernel}")
        worlds = tuple(name for name in worlds if name != "kernel")
    ignore = tuple(known for known in options.ignore.split(",") if known)
    return Plan(worlds, tuple(options.check.split(",")), not no_kernel, options.dir_nlink,
                bool(options.keep), ignore=ignore)


def make_case(seed: int | Case, options: argparse.Namespace, settings: Settings) -> Case:
    if isinstance(seed, Case):
        return seed
    privileged = not options.unprivileged and os.geteuid() == 0
    own = options.own and not privileged
    case = generate(seed, privileged, own)
    without = frozenset(options.without.split(","))
    case.operations = choose(case, options.operations, without, settings, own)
    return case


def describe(case: Case) -> str:
    return (f"seed {case.seed}: {len(case.operations)} operations, {len(case.layers) - 1} lowers"
            f"{', target is a lower' if case.over_lower else ''}"
            f"{', two devices' if case.spread else ''}")


def judge(seed: int | Case, options: argparse.Namespace, plan: Plan,
          settings: Settings) -> Outcome:
    """One seed: run, and on failure make it small and say how to see it again."""
    case = make_case(seed, options, settings)
    verdict = examine(case, plan, settings)
    notes = []
    if verdict.differences and _is_disks(verdict.differences[0], settings):
        notes.append("  the disk said ENOSPC, and has room: run again")
        notes += _difference(case, verdict.differences[0])
        verdict = examine(case, plan, settings)
    notes += [f"  {note}" for note in verdict.notes]
    if not verdict.differences:
        line = (f"{describe(case)}: passed ({verdict.succeeded} succeeded, "
                f"{verdict.skipped} skipped)")
        return Outcome(case.seed, True, [line, *notes], information=verdict.information)
    first = verdict.differences[0]
    lines = [f"{describe(case)}: FAILED, {len(verdict.differences)} differences; the first:"]
    lines += _difference(case, first) + notes
    small, more = _reduce(case, first, options, plan, settings)
    return Outcome(case.seed, False, lines + more, first.signature(), verdict.information, small)


def _is_disks(first: Difference, settings: Settings) -> bool:
    """Whether an ENOSPC may be the machine's own: ext4 without a journal was seen to say so with half of the disk
    free. The library's own comes again."""
    room = os.statvfs(settings.scratch.near)
    return "'e': 'ENOSPC'" in str(first.actual) and room.f_bavail * room.f_frsize > 1 << 30


def _difference(case: Case, first: Difference) -> list[str]:
    what = first.operation
    if first.index < len(case.operations):
        what = f"operation {first.index}: {json.dumps(case.operations[first.index])}"
    return [f"  {what}", f"    {first.where}", f"    expected: {first.expected}",
            f"    actual:   {first.actual}"]


def _reduce(case: Case, first: Difference, options: argparse.Namespace, plan: Plan,
            settings: Settings) -> tuple[Case, list[str]]:
    """The shortest prefix or the smaller case, and the commands to replay them."""
    alone = replace(plan, worlds=tuple(name for name in plan.worlds if name in plan.check),
                    keep=False, read_end=first.index >= len(case.operations))

    def fails(smaller: Case) -> Difference | None:
        found = examine(smaller, alone, settings).differences
        return found[0] if found else None

    case = shortest_prefix(case, first, fails)
    again = f"python3 {sys.argv[0]}" + (f" --library {options.library}" if options.library else "")
    for name in ("check", "options", "without", "ignore", "kernel_options"):
        value = getattr(options, name)
        if value not in ("", "overlock", Settings.kernel_options):
            again += f" --{name.replace('_', '-')} {shlex.quote(value)}"
    prefix = f"{again} --seed {case.seed} --operations {len(case.operations)}"
    lines = [f"  shortest failing prefix: {len(case.operations)} operations",
             f"  replay: {prefix}{' --unprivileged' if options.unprivileged else ''}{' --own' if options.own else ''}"]
    if options.shrink:
        signature = first.signature()
        case = shrink(case, signature, fails, options.shrink)
        lines += ["  shrunk to:", *_show(case)]
    return case, lines + [f"  replay: {again} --replay {_file(case, options)}"]


def _file(case: Case, options: argparse.Namespace) -> str:
    return os.path.join(options.keep or tempfile.gettempdir(), f"oracle-case-{case.seed}.json")


def _show(case: Case) -> list[str]:
    """A small case in words: what each layer holds, then the operations."""
    lines = []
    for number, layer in enumerate(case.layers):
        held = [f"{path or '/'!r} {'opaque ' * entry.opaque}{entry.kind} {entry.mode:o}"
                + (f" -> {entry.target}" if entry.target else "")
                + (f" ({entry.group})" if entry.group else "")
                + (f" {entry.xattrs}" if entry.xattrs else "") for path, entry in layer.items()]
        lines.append(f"    {f'lower {number}' if number else 'upper'}: {', '.join(held[:25])}"
                     + (f" and {len(held) - 25} more" if len(held) > 25 else ""))
    return lines + [f"    {json.dumps(operation)}" for operation in case.operations]


def cases(options: argparse.Namespace) -> list[int | Case]:
    if options.replay:
        with open(options.replay, encoding="ascii") as file:
            return [Case.from_json(json.load(file))]
    first = options.seed if options.seed is not None else 1
    count = options.seeds or (1 if options.seed is not None else 10)
    also = [int(seed) for seed in options.also.split(",") if seed]
    return list(dict.fromkeys([*range(first, first + count), *also]))


def main() -> int:
    options = arguments()
    plan = make_plan(options, kernel_unavailable())
    chosen = cases(options)
    if not any(name in plan.worlds for name in plan.check) and len(plan.worlds) < 2:
        print(f"nothing to compare with: worlds are {', '.join(plan.worlds)}")
        print(f"0 passed, 0 failed, {len(chosen)} skipped")
        return 0
    if options.keep:
        os.makedirs(options.keep, exist_ok=True)
    scratch = Scratch(options.keep or options.scratch)
    settings = Settings(scratch, options.library, options.options, options.kernel_options)
    try:
        return report(chosen, options, partial(judge, options=options, plan=plan,
                                               settings=settings), scratch)
    finally:
        if not options.keep:
            scratch.remove()


def report(chosen: list[int | Case], options: argparse.Namespace,
           work: Callable[[int | Case], Outcome], scratch: Scratch) -> int:
    """Runs the seeds and prints what each came to; the exit status."""
    failed: Counter[str] = Counter()
    information: Counter[str] = Counter()
    fork = multiprocessing.get_context("fork")
    with fork.Pool(options.jobs, confine, ([scratch.near, scratch.far],)) as pool:
        for outcome in pool.imap(work, chosen):
            print("\n".join(outcome.lines), flush=True)
            information += outcome.information
            if outcome.small:
                with open(_file(outcome.small, options), "w", encoding="ascii") as output:
                    json.dump(outcome.small.to_json(), output)
            if not outcome.passed:
                failed[outcome.signature] += 1
    if information:
        print("for information: kernel overlayfs differs in "
              + ", ".join(f"{name} {count}" for name, count in information.most_common()))
    for signature, count in failed.most_common():
        print(f"first difference of {count} seeds: {signature}")
    bad = sum(failed.values())
    print(f"{len(chosen) - bad} passed, {bad} failed, 0 skipped")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
