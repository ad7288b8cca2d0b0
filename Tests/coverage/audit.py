#!/usr/bin/env python3
"""The coverage audit: every function of the running libc is hooked, or classed with a reason.

Proves that no function which takes a path or handles a descriptor goes unnoticed: neither one that
a new glibc brings, nor one that a pattern of classes.tsv swallows, nor a second name of a hooked
one. Says nothing on whether a hook is right; that is the other tests' matter.

    audit.py                     check; closing line "N passed, N failed", exit 1 on a failure
    audit.py --list              every exported function: name, versions, class
    audit.py --write FILE        the table for readers
"""

from __future__ import annotations

import argparse
import ctypes
import os
import re
import shutil
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import document
from classes import Claims, read_claims
from elf import Export, exported_functions
from prototypes import Headers, Parameter, read_headers

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent

# Before glibc 2.34 these held functions of their own; since then, placeholders.
COMPANIONS = ("libpthread.so.0", "libdl.so.2", "librt.so.1", "libutil.so.1", "libanl.so.1")

PRIVATE = "GLIBC_PRIVATE"

# The second form is that of glibc before 2.34, where libc.so.6 is a symbolic link.
LIBC_FILE = re.compile(r"libc(\.so\.6|-[0-9.]+\.so)")


@dataclass
class Library:
    """The running libc and what belongs to it: name → its exports, at every version."""

    version: str
    files: list[Path] = field(default_factory=list)
    functions: dict[str, list[Export]] = field(default_factory=dict)
    # Names that libc itself has at one address.
    twins: dict[int, list[str]] = field(default_factory=dict)


@dataclass
class Check:
    """One proved statement: how many things it looked at, and which of them are wrong."""

    title: str
    looked: int
    faults: list[str]

    @property
    def failed(self) -> int:
        return len(self.faults)

    @property
    def passed(self) -> int:
        return max(0, self.looked - self.failed)


def mapped_files() -> list[Path]:
    """The files mapped into this process, in which libc and ld.so are always two."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    return sorted({Path(line.split(None, 5)[5]) for line in lines if "/" in line})


def running_libc() -> Library:
    """Finds the libc that this process runs on, its ld.so and its companions, and reads them."""
    libc = ctypes.CDLL("libc.so.6")
    libc.gnu_get_libc_version.restype = ctypes.c_char_p
    mapped = mapped_files()
    libc_file = next(path for path in mapped if LIBC_FILE.fullmatch(path.name))
    home = libc_file.parent
    files = [libc_file, *(path for path in mapped if path.name.startswith("ld-"))]
    files += [home / name for name in COMPANIONS if (home / name).exists()]
    library = Library(libc.gnu_get_libc_version().decode(), files)
    for path in files:
        for export in exported_functions(path):
            library.functions.setdefault(export.name, []).append(export)
            if path == libc_file:
                names = library.twins.setdefault(export.address, [])
                if export.name not in names:
                    names.append(export.name)
    return library


def check_form(claims: Claims) -> Check:
    return Check("each row and each hook is well formed", len(claims.rows), claims.faults)


def check_classed(library: Library, claims: Claims) -> Check:
    """An exported function without a class is one that nobody has thought about."""
    faults = []
    for name in sorted(library.functions):
        if claims.kind(name) is None:
            kinds = " and ".join(sorted({row.kind for row in claims.matching(name)}))
            faults.append(f"{name}: patterns disagree: {kinds}" if kinds else f"{name}: unclassed")
    return Check("each exported function has one class", len(library.functions), faults)


def check_promised(library: Library, claims: Claims) -> Check:
    promised = [row.name for row in claims.own.values() if row.kind == "hooked"]
    promised = [name for name in promised if name in library.functions]
    faults = [f"{name}: not in hooks.def" for name in promised if name not in claims.hooks]
    return Check("each function classed hooked is in hooks.def", len(promised), faults)


def check_hooks_exist(library: Library, claims: Claims) -> Check:
    """The shim looks for the function behind a hook among the default versions."""
    faults = [f"{name}: libc has no such" for name in claims.hooks if name not in library.functions]
    for name in sorted(claims.hooks.keys() & library.functions.keys() - claims.aliases):
        if not any(export.default for export in library.functions[name]):
            faults.append(f"{name}: no default version, so it can only be an ALIAS")
    return Check("each hook stands for a function of libc", len(claims.hooks), faults)


def check_hooks_agree(claims: Claims) -> Check:
    """A hook that the table calls something else leaves a stale reason behind."""
    faults = [
        f"{name}: hooked, but {row.kind} by the row {row.name}"
        for name in sorted(claims.hooks)
        for row in claims.matching(name)
        if row.kind != "hooked"
    ]
    return Check("each hook is classed hooked", len(claims.hooks), faults)


def check_twins(library: Library, claims: Claims) -> Check:
    """A program that calls a hooked function by its other name must be caught too."""
    looked, faults = 0, []
    for names in library.twins.values():
        if not any(name in claims.hooks for name in names):
            continue
        looked += len(names)
        for name in names:
            versions = {export.version for export in library.functions[name]}
            if name not in claims.hooks and versions != {PRIVATE}:
                faults.append(f"{name}: the same function as {', '.join(names)}")
    return Check("each other name of a hooked function is hooked", looked, faults)


def suspicion(kind: str | None, parameter: Parameter) -> str | None:
    """What a parameter gives away that the class denies; None where they agree."""
    named = parameter.name != "" and kind == "io"
    if parameter.is_path and (named or kind == "no-path"):
        return "takes a path"
    if parameter.is_address and kind == "no-path":
        return "takes a socket address"
    if parameter.is_descriptor and kind == "no-path":
        return "takes a descriptor or stream"
    return None


def suspicions(claims: Claims, headers: Headers) -> Iterator[str]:
    """Functions whose prototype contradicts their class, but for those with a row that says why."""
    for name, lists in sorted(headers.declared.items()):
        kind = claims.kind(name)
        if kind == "no-path" and claims.reviewed(name):
            continue
        for parameter in (parameter for each in lists for parameter in each):
            if said := suspicion(kind, parameter):
                yield f"{name}: {kind}, but {said}: {parameter.type} {parameter.name}".rstrip()
                break


def check_prototypes(claims: Claims, headers: Headers) -> Check:
    faults = list(suspicions(claims, headers))
    return Check("no prototype contradicts the class", len(headers.declared), faults)


def notes(library: Library, claims: Claims, headers: Headers | None) -> Iterator[str]:
    """What is worth knowing and no fault, since versions and machines differ."""
    for row in claims.rows:
        if not any(row.covers(name) for name in library.functions):
            yield f"{row.name}: libc {library.version} has no such"
    if headers is not None:
        bare = len(library.functions) - len(headers.declared)
        yield f"{headers.read} headers read, {headers.refused} do not stand alone"
        yield f"{bare} exported functions have no prototype: only their rows vouch for them"


def report(checks: Iterable[Check], remarks: Iterable[str]) -> int:
    """Prints the result, the closing line last; returns the exit status."""
    passed = failed = 0
    for check in checks:
        passed, failed = passed + check.passed, failed + check.failed
        print(f"{'FAIL' if check.failed else 'ok'}: {check.title} ({check.passed}/{check.looked})")
        for fault in check.faults:
            print(f"    {fault}")
    for remark in remarks:
        print(f"note: {remark}")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


def audit(library: Library, claims: Claims, compiler: str | None) -> int:
    checks = [
        check_form(claims),
        check_classed(library, claims),
        check_promised(library, claims),
        check_hooks_exist(library, claims),
        check_hooks_agree(claims),
        check_twins(library, claims),
    ]
    headers = None
    if compiler is None:
        checks.append(Check("the headers can be read", 1, ["no C compiler: set CC"]))
    else:
        headers = read_headers(compiler, set(library.functions))
        checks.append(check_prototypes(claims, headers))
    return report(checks, notes(library, claims, headers))


def list_functions(library: Library, claims: Claims) -> None:
    for name, exports in sorted(library.functions.items()):
        versions = ",".join(sorted({export.version for export in exports}))
        print(f"{name}\t{versions}\t{claims.kind(name) or '?'}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Checks Overlock's coverage of the running libc.")
    parser.add_argument("--list", action="store_true", help="print every function and its class")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the table for readers")
    parser.add_argument("--hooks", type=Path, default=ROOT / "shim" / "hooks.def")
    parser.add_argument("--classes", type=Path, default=HERE / "classes.tsv")
    return parser.parse_args()


def main() -> int:
    chosen = arguments()
    library = running_libc()
    claims = read_claims(chosen.classes, chosen.hooks)
    if chosen.list:
        list_functions(library, claims)
        return 0
    if chosen.write:
        versions = {
            name: sorted({export.version for export in exports} - {PRIVATE})
            for name, exports in library.functions.items()
        }
        chosen.write.write_text(document.table(claims, versions, library.version))
        return 0
    return audit(library, claims, shutil.which(os.environ.get("CC", "cc")))


if __name__ == "__main__":
    sys.exit(main())
