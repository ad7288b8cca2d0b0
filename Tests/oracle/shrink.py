"""Makes a failing case small: the shortest failing prefix, then fewer operations, then less tree.

A smaller case counts only if it fails in the same way (the same operation, field and kinds of
values), so that shrinking does not wander from one fault to another.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from compare import Difference
from tree import Case, drop

Fails = Callable[[Case], Difference | None]


def shortest_prefix(case: Case, first: Difference, fails: Fails) -> Case:
    """The shortest list that still fails. A difference at an operation names it already; one of
    the final tree has to be searched for by halving."""
    if first.index < len(case.operations):
        return _with(case, case.operations[:first.index + 1])
    passing, failing = -1, len(case.operations)
    while failing - passing > 1:
        middle = (passing + failing) // 2
        if fails(_with(case, case.operations[:middle])):
            failing = middle
        else:
            passing = middle
    return _with(case, case.operations[:failing])


def shrink(case: Case, signature: str, fails: Fails, seconds: float) -> Case:
    """Leaves out operations, ever fewer at a time, then parts of the tree, while time lasts."""
    deadline = time.monotonic() + seconds

    def still(smaller: Case) -> bool:
        if time.monotonic() > deadline:
            return False
        found = fails(smaller)
        return found is not None and found.signature() == signature

    paths = sorted({path for layer in case.layers for path in layer if path})
    operations = case.operations[:-1]
    last = case.operations[-1:]

    def made(kept_paths: list[str], kept: list[dict[str, Any]]) -> Case:
        gone = [path for path in paths if path not in kept_paths]
        smaller = case
        for path in gone:
            smaller = drop(smaller, path)
        return _with(smaller, kept + last)

    operations = _fewest(operations, lambda kept: still(made(paths, kept)))
    kept_paths = _fewest(paths, lambda kept: still(made(kept, operations)))
    operations = _fewest(operations, lambda kept: still(made(kept_paths, kept)))
    return _fewer_layers(made(kept_paths, operations), still)


def _fewest(items: list[Any], still: Callable[[list[Any]], bool]) -> list[Any]:
    """Leaves out runs of items from the end, half of them at first, then ever fewer."""
    size = max(1, len(items) // 2)
    while True:
        before = len(items)
        for start in range(len(items) - size, -size, -size):
            begin = max(0, start)
            smaller = items[:begin] + items[start + size:]
            if len(smaller) < len(items) and still(smaller):
                items = smaller
        if size > 1:
            size = max(1, size // 2)
        elif len(items) == before:
            return items


def _fewer_layers(case: Case, still: Callable[[Case], bool]) -> Case:
    for layer in range(len(case.layers) - 2, 0, -1):  # the upper and the last lower stay
        smaller = replace(case, layers=case.layers[:layer] + case.layers[layer + 1:])
        if still(smaller):
            case = smaller
    return case


def _with(case: Case, operations: list[dict[str, Any]]) -> Case:
    return replace(case, operations=operations)
