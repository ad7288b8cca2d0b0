"""What the headers say: the parameters of each function that the system's public headers declare.

Owns the reading of C declarations, as far as glibc writes them: the compiler's preprocessor expands
each header on its own, as written and as _FORTIFY_SOURCE rewrites it, and the prototypes are taken
from what comes out. Bodies, attributes and function-pointer declarators are skipped. A header that
does not preprocess alone (some want another first) is passed over and counted.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

FOLDERS = ("", "arpa", "net", "netinet", "netpacket", "protocols", "rpc", "rpcsvc", "sys")
MODES = (["-D_GNU_SOURCE"], ["-D_GNU_SOURCE", "-O2", "-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=2"])

IDENTIFIER = re.compile(r"[A-Za-z_]\w*")
DROPPED = re.compile(r"\b(__attribute__|__attribute|_Alignas|__nonnull)\b")
ASM = re.compile(r"\b(?:__asm__|__asm|asm)\s*\(([^)]*)\)")
DECLARED = re.compile(r"\b([A-Za-z_]\w*)\s*\(")

PATH_NAME = re.compile(r"path|file|name|dir|template|pattern|special|target")
DESCRIPTOR_NAME = re.compile(r"fd|fildes|filedes|mqdes")
STREAM_TYPE = re.compile(r"\b(FILE|DIR)\b.*\*")
ADDRESS_TYPE = re.compile(r"\b(sockaddr|msghdr|mmsghdr|__(CONST_)?SOCKADDR_ARG)\b")


@dataclass(frozen=True)
class Parameter:
    """A parameter as declared; `name` is empty where the prototype gives none."""

    type: str
    name: str

    @property
    def is_path(self) -> bool:
        text = re.search(r"\bchar\b.*\*", self.type) is not None
        given = "const" in self.type or "template" in self.name
        # A nameless parameter may be anything, so it counts.
        return text and given and (not self.name or PATH_NAME.search(self.name) is not None)

    @property
    def is_descriptor(self) -> bool:
        whole = self.type in ("int", "mqd_t")
        return (whole and DESCRIPTOR_NAME.search(self.name) is not None) or (
            STREAM_TYPE.search(self.type) is not None
        )

    @property
    def is_address(self) -> bool:
        """A socket address may hold the path of a Unix socket."""
        return ADDRESS_TYPE.search(self.type) is not None


def close_of(text: str, opening: int) -> int:
    """The index after the bracket that closes the one at `opening`."""
    depth = 0
    for index in range(opening, len(text)):
        if text[index] in "({[":
            depth += 1
        elif text[index] in ")}]":
            depth -= 1
            if depth == 0:
                return index + 1
    return len(text)


def statements(text: str) -> Iterator[str]:
    """Top-level declarations, and the heads of function bodies; `{…}` itself is dropped."""
    start = index = 0
    while index < len(text):
        if text[index] == "(":
            index = close_of(text, index)
        elif text[index] == "{":
            yield text[start:index]
            start = index = close_of(text, index)
        elif text[index] == ";":
            yield text[start:index]
            start = index = index + 1
        else:
            index += 1


def without_attributes(text: str) -> str:
    while match := DROPPED.search(text):
        opening = text.find("(", match.end())
        end = close_of(text, opening) if opening >= 0 else match.end()
        text = text[: match.start()] + " " + text[end:]
    return text


def parameters(text: str) -> list[Parameter]:
    """The parameters of a prototype's list, `text` being what is between its parentheses."""
    found: list[Parameter] = []
    start = index = 0
    text += ","
    while index < len(text):
        if text[index] == "(":
            index = close_of(text, index)
        elif text[index] == ",":
            found.append(parameter(text[start:index]))
            start = index = index + 1
        else:
            index += 1
    return found


def parameter(text: str) -> Parameter:
    text = re.sub(r"\b(__restrict__|__restrict|restrict)\b|\[.*?\]", " ", text)
    words = " ".join(text.split())
    match = re.fullmatch(r"(.*[\s*])([A-Za-z_]\w*)", words)
    if match is None or "(" in words or match[2] in ("int", "char", "long", "short", "unsigned"):
        return Parameter(words, "")
    return Parameter(match[1].strip(), match[2])


def prototype(statement: str) -> tuple[set[str], list[Parameter]] | None:
    """The names that a declaration gives a function (its own and its assembler name)."""
    names: set[str] = set()
    if match := ASM.search(statement):
        names.add("".join(re.findall(r'"([^"]*)"', match[1])))
        statement = statement[: match.start()] + statement[match.end() :]
    statement = without_attributes(statement)
    match = DECLARED.search(statement)
    if match is None or re.search(r"\btypedef\b|=", statement[: match.start()]):
        return None
    if not IDENTIFIER.search(statement[: match.start()]):
        return None
    names.add(match[1])
    opening = match.end() - 1
    return names, parameters(statement[opening + 1 : close_of(statement, opening) - 1])


def include_folders(compiler: str) -> list[Path]:
    """Where the compiler looks for system headers, as it says itself."""
    said = subprocess.run(
        [compiler, "-E", "-Wp,-v", "-xc", "/dev/null"], capture_output=True, text=True, check=True
    ).stderr
    return [Path(line.strip()) for line in said.splitlines() if line.startswith(" /")]


def public_headers(compiler: str) -> list[str]:
    """Headers by the name that a program includes; the compiler's own folder is left out."""
    names: set[str] = set()
    for root in include_folders(compiler):
        if not (root / "stdio.h").exists() and not (root / "sys" / "cdefs.h").exists():
            continue
        for folder in FOLDERS:
            names.update(str(path.relative_to(root)) for path in (root / folder).glob("*.h"))
    return sorted(names)


def expand(compiler: str, header: str, mode: list[str]) -> str | None:
    run = subprocess.run(
        [compiler, "-E", "-P", *mode, "-xc", "-"],
        input=f"#include <stddef.h>\n#include <stdio.h>\n#include <{header}>\n",
        capture_output=True,
        text=True,
        check=False,
    )
    return run.stdout if run.returncode == 0 else None


@dataclass
class Headers:
    """Function name → every parameter list declared for it, and how many headers were read."""

    declared: dict[str, list[list[Parameter]]]
    read: int
    refused: int


def read_headers(compiler: str, exported: set[str]) -> Headers:
    """The prototypes of the exported functions, from every public header in every mode."""
    jobs = [(header, mode) for header in public_headers(compiler) for mode in MODES]
    with ThreadPoolExecutor() as pool:
        texts = list(pool.map(lambda job: expand(compiler, *job), jobs))
    # The same declaration comes out of many headers; each is parsed once.
    unique = {line for text in texts if text is not None for line in statements(text)}
    refused = sum(texts[at] is None for at in range(0, len(jobs), len(MODES)))
    headers = Headers({}, len(jobs) // len(MODES) - refused, refused)
    for statement in sorted(unique):
        if found := prototype(statement):
            for name in found[0] & exported:
                lists = headers.declared.setdefault(name, [])
                if found[1] not in lists:
                    lists.append(found[1])
    return headers
