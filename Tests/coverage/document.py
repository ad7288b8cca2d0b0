"""The table for readers: docs/coverage.md, made from what the audit checks.

Owns the wording and the form alone; every fact in it comes from hooks.def, classes.tsv and libc.
Functions that share a class and a reason share a line. Leaves out the lists of `io` and plain
`no-path` functions, which classes.tsv has in full.
"""

from __future__ import annotations

from collections.abc import Iterator

from classes import MEANING, Claims, Row

OPENING = """\
# Coverage of libc

Overlock reaches a program through the libc functions that it calls, so what it does not hook it
does not see. This page classes every function that the running libc exports. It is made by
`Tests/coverage/audit.py --write docs/coverage.md`; edit `Tests/coverage/classes.tsv` or
`shim/hooks.def`, and never this file. `Tests/coverage/audit.py` checks that nothing is missing.

Made on glibc {version}, from libc.so.6, ld.so and the libraries that held parts of libc before
glibc 2.34. Left out are libresolv, which formats packets and asks the resolver (implicit), and
libm, where nothing takes a path.
"""

HOOKED = """
## Hooked

A symbol that libc exports at several versions is caught at all of them by one unversioned export.
"""

PROMISED = """
## To be hooked

These take a path, or make, end or copy a descriptor, and hooks.def does not have them yet.
"""

LEFT = """
## Left

Each takes a path or handles descriptors, and is not hooked for the reason given.
"""

IMPLICIT = """
## Implicit

libc opens files itself here, at paths that the program does not name. It does so through calls
inside libc, which no preloaded library sees: these files are read from the real tree.
"""

REVIEWED = """
## No path, though it may look so

Reviewed one by one, because the name, a parameter or an effect suggests a path or a descriptor.
"""


def table(claims: Claims, versions: dict[str, list[str]], version: str) -> str:
    """The whole page. `versions`: each exported function's versions that programs may link to."""
    missing = [
        row
        for row in claims.own.values()
        if row.kind == "hooked" and row.name in versions and row.name not in claims.hooks
    ]
    parts = [OPENING.format(version=version), *counts(claims, versions, len(missing))]
    parts += [HOOKED, *families(claims), *several_versions(claims, versions)]
    if missing:
        parts += [PROMISED, *grouped(missing, versions)]
    for kind, text in (("left", LEFT), ("implicit", IMPLICIT)):
        parts += [text, *grouped([row for row in claims.rows if row.kind == kind], versions)]
    reviewed = [row for row in claims.rows if row.kind == "no-path" and row.reason]
    parts += [REVIEWED, *grouped(reviewed, versions)]
    return "\n".join(parts) + "\n"


def counts(claims: Claims, versions: dict[str, list[str]], missing: int) -> Iterator[str]:
    found = [claims.kind(name) for name in versions]
    yield "| class | functions | meaning |"
    yield "|---|---:|---|"
    for kind, meaning in MEANING.items():
        note = f"; {missing} of them to come" if kind == "hooked" and missing else ""
        yield f"| {kind} | {found.count(kind)} | {meaning}{note} |"
    yield f"| all | {len(found)} | |"


def families(claims: Claims) -> Iterator[str]:
    """The hooks by family, in hooks.def's order."""
    members: dict[str, list[str]] = {}
    for name, family in claims.hooks.items():
        members.setdefault(family, []).append(name)
    yield "| family | functions |"
    yield "|---|---|"
    for family, names in members.items():
        yield f"| {family} | {code(names)} |"


def several_versions(claims: Claims, versions: dict[str, list[str]]) -> Iterator[str]:
    """Hooks with more than one version: their old behaviour may differ from the new one."""
    old = [name for name in sorted(claims.hooks) if len(versions.get(name, [])) > 1]
    if old:
        yield ""
        yield "At several versions:"
        yield ", ".join(f"`{name}` ({', '.join(versions[name])})" for name in old) + "."


def grouped(rows: list[Row], versions: dict[str, list[str]]) -> Iterator[str]:
    """Rows that share a reason share a line; a pattern says how many functions it covers."""
    reasons: dict[str, list[str]] = {}
    for row in rows:
        covered = sum(row.covers(name) for name in versions) if row.is_pattern else 1
        label = f"{row.name} ({covered})" if row.is_pattern else row.name
        if covered:
            reasons.setdefault(row.reason, []).append(label)
    yield "| functions | reason |"
    yield "|---|---|"
    for reason, names in reasons.items():
        yield f"| {code(names)} | {reason.replace('|', '/')} |"


def code(names: list[str]) -> str:
    """Names as code; the count after a pattern stays outside."""
    spans = (name.partition(" (") for name in names)
    return ", ".join(f"`{name}`{opening}{rest}" for name, opening, rest in spans)
