"""What is claimed: the classes of classes.tsv and the symbols of shim/hooks.def.

Owns both formats and the rule of precedence: a name's own row beats a pattern; without either, a
name in hooks.def is `hooked`. Two patterns that disagree are an error, whatever their order.
"""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass, field
from pathlib import Path

MEANING = {
    "hooked": "in shim/hooks.def",
    "left": "takes a path, or makes, ends or copies a descriptor, and is deliberately not hooked",
    "implicit": "opens files itself, at paths that the program does not name",
    "io": "works on a descriptor or stream that the program has; nothing to redirect",
    "no-path": "takes no path, and makes, ends or copies no descriptor in a way that matters",
}

NEEDS_REASON = {"left", "implicit", "io"}

HOOK = re.compile(r"HOOK\([^,]*, (\w+), .*, (\w+)\)")
ALIAS = re.compile(r"ALIAS\((\w+), (\w+), (\w+)\)")


@dataclass(frozen=True)
class Row:
    """One line of classes.tsv."""

    name: str
    kind: str
    reason: str

    @property
    def is_pattern(self) -> bool:
        return "*" in self.name

    def covers(self, name: str) -> bool:
        return fnmatch.fnmatchcase(name, self.name) if self.is_pattern else name == self.name


@dataclass
class Claims:
    """Both lists, and the faults of form found while reading them."""

    rows: list[Row] = field(default_factory=list)
    hooks: dict[str, str] = field(default_factory=dict)
    aliases: set[str] = field(default_factory=set)
    faults: list[str] = field(default_factory=list)
    own: dict[str, Row] = field(default_factory=dict)

    def matching(self, name: str) -> list[Row]:
        """The row of the name itself, else every pattern that covers it."""
        if name in self.own:
            return [self.own[name]]
        return [row for row in self.rows if row.is_pattern and row.covers(name)]

    def kind(self, name: str) -> str | None:
        """The class of `name`; None where it has none or patterns disagree."""
        kinds = {row.kind for row in self.matching(name)}
        if not kinds and name in self.hooks:
            return "hooked"
        return kinds.pop() if len(kinds) == 1 else None

    def reviewed(self, name: str) -> bool:
        """Whether the name has a row of its own that says why it is where it is."""
        return name in self.own and self.own[name].reason != ""


def read_rows(path: Path, claims: Claims) -> None:
    """Reads classes.tsv: name, class and, where one is due, reason; # opens a comment."""
    names: set[str] = set()
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line or line.startswith("#"):
            continue
        cells = line.split("\t")
        if not 2 <= len(cells) <= 3 or cells[1] not in MEANING:
            claims.faults.append(f"{path.name}:{number}: not name, class, reason: {line!r}")
            continue
        row = Row(cells[0], cells[1], cells[2] if len(cells) == 3 else "")
        if row.kind in NEEDS_REASON and not row.reason:
            claims.faults.append(f"{path.name}:{number}: {row.name} is {row.kind} without a reason")
        if row.is_pattern and row.kind == "hooked":
            claims.faults.append(f"{path.name}:{number}: {row.name}: a pattern cannot be hooked")
        if row.name in names:
            claims.faults.append(f"{path.name}:{number}: {row.name} stands twice")
        names.add(row.name)
        claims.rows.append(row)
        if not row.is_pattern:
            claims.own[row.name] = row


def read_hooks(path: Path, claims: Claims) -> None:
    """Reads hooks.def: symbol → family. A line of it that cannot be read is a fault."""
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line.startswith(("HOOK(", "ALIAS(")):
            continue
        match = HOOK.fullmatch(line) or ALIAS.fullmatch(line)
        if match is None:
            claims.faults.append(f"{path.name}:{number}: not HOOK or ALIAS: {line!r}")
            continue
        name, family = match[1], match[match.re.groups]
        if name in claims.hooks:
            claims.faults.append(f"{path.name}:{number}: {name} stands twice")
        claims.hooks[name] = family
        if match.re is ALIAS:
            claims.aliases.add(name)


def read_claims(classes: Path, hooks: Path) -> Claims:
    claims = Claims()
    read_rows(classes, claims)
    read_hooks(hooks, claims)
    return claims
