"""What a shared library exports: reads the dynamic symbols of an ELF file, with their versions.

Owns the few ELF structures that this takes, so that the audit needs no binutils where it runs.
Knows 64-bit little-endian files alone; anything else is refused, never half read. Leaves out data
symbols and symbols that the file only uses.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

SHT_DYNSYM, SHT_VERDEF, SHT_VERSYM = 11, 0x6FFFFFFD, 0x6FFFFFFF
STT_FUNC, STT_GNU_IFUNC = 2, 10
SHN_UNDEF = 0
VERSYM_HIDDEN = 0x8000


@dataclass(frozen=True)
class Export:
    """One name at one version. `default` is what a program linked today binds to."""

    name: str
    version: str
    default: bool
    address: int


@dataclass(frozen=True)
class Section:
    kind: int
    offset: int
    size: int
    link: int


class Image:
    """An ELF file in memory and its section headers."""

    def __init__(self, path: Path) -> None:
        self.data = path.read_bytes()
        if self.data[:6] != b"\x7fELF\x02\x01":
            raise ValueError(f"{path}: not a 64-bit little-endian ELF file")
        offset, = struct.unpack_from("<Q", self.data, 0x28)
        size, count = struct.unpack_from("<HH", self.data, 0x3A)
        self.sections = [self._section(offset + index * size) for index in range(count)]

    def _section(self, at: int) -> Section:
        header = struct.unpack_from("<IIQQQQIIQQ", self.data, at)
        return Section(kind=header[1], offset=header[4], size=header[5], link=header[6])

    def only(self, kind: int) -> Section:
        return next(section for section in self.sections if section.kind == kind)

    def text(self, table: int, offset: int) -> str:
        start = self.sections[table].offset + offset
        return self.data[start : self.data.index(b"\0", start)].decode()


def version_names(image: Image) -> dict[int, str]:
    """Version index → name, from the version definitions; each record gives the way to the next."""
    names: dict[int, str] = {}
    section = image.only(SHT_VERDEF)
    at = section.offset
    while True:
        _, _, index, _, _, aux, following = struct.unpack_from("<HHHHIII", image.data, at)
        name, _ = struct.unpack_from("<II", image.data, at + aux)
        names[index] = image.text(section.link, name)
        if following == 0:
            return names
        at += following


def exported_functions(path: Path) -> list[Export]:
    """Every function that `path` defines for others, sorted by name, then version."""
    image = Image(path)
    versions = version_names(image)
    symbols, versym = image.only(SHT_DYNSYM), image.only(SHT_VERSYM)
    found: list[Export] = []
    for number in range(symbols.size // 24):
        name, info, _, section, value, _ = struct.unpack_from(
            "<IBBHQQ", image.data, symbols.offset + number * 24
        )
        # A local symbol (binding 0) is not for others.
        if section == SHN_UNDEF or info >> 4 == 0 or info & 15 not in (STT_FUNC, STT_GNU_IFUNC):
            continue
        version, = struct.unpack_from("<H", image.data, versym.offset + number * 2)
        found.append(
            Export(
                image.text(symbols.link, name),
                versions.get(version & ~VERSYM_HIDDEN, ""),
                not version & VERSYM_HIDDEN,
                value,
            )
        )
    return sorted(found, key=lambda export: (export.name, export.version))
