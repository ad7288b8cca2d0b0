"""The calls that Python's os module lacks or reaches by a detour, straight from libc.

Owns every ctypes declaration of the oracle. Symbols are looked up in the global scope, so under a
preload they are the preloaded ones: that is the point. `syscall()` is libc's own function, because
programs reach statx and renameat2 through it.

Left out on purpose: whatever os already calls by its own libc symbol.
"""

from __future__ import annotations

import ctypes
import os
import struct

LIBC = ctypes.CDLL(None, use_errno=True)

AT_FDCWD = -100
AT_SYMLINK_NOFOLLOW = 0x100
AT_SYMLINK_FOLLOW = 0x400
AT_EMPTY_PATH = 0x1000
RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2
UTIME_NOW = (1 << 30) - 1
UTIME_OMIT = (1 << 30) - 2
SYS_RENAMEAT2 = 316
SYS_STATX = 332
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 32, 4096, 0x4000, 1 << 18
CLONE_NEWNS = 0x20000
MNT_DETACH = 2

LIBC.opendir.restype = ctypes.c_void_p
LIBC.opendir.argtypes = [ctypes.c_char_p]
LIBC.readdir64.restype = ctypes.c_void_p
LIBC.readdir64.argtypes = [ctypes.c_void_p]
LIBC.rewinddir.argtypes = [ctypes.c_void_p]
LIBC.rewinddir.restype = None
LIBC.closedir.argtypes = [ctypes.c_void_p]
LIBC.dirfd.argtypes = [ctypes.c_void_p]
LIBC.fopen.restype = ctypes.c_void_p
LIBC.fopen.argtypes = [ctypes.c_char_p, ctypes.c_char_p]
LIBC.fread.restype = ctypes.c_size_t
LIBC.fread.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_void_p]
LIBC.fwrite.restype = ctypes.c_size_t
LIBC.fwrite.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_void_p]
LIBC.fgetc.argtypes = [ctypes.c_void_p]
LIBC.fflush.argtypes = [ctypes.c_void_p]
LIBC.clearerr.argtypes = [ctypes.c_void_p]
LIBC.clearerr.restype = None
LIBC.fclose.argtypes = [ctypes.c_void_p]
LIBC.realpath.restype = ctypes.c_void_p
LIBC.realpath.argtypes = [ctypes.c_char_p, ctypes.c_void_p]
LIBC.free.argtypes = [ctypes.c_void_p]
LIBC.free.restype = None
LIBC.syscall.restype = ctypes.c_long


def checked(result: int) -> int:
    """Turns −1 into the OSError of errno; every other result passes."""
    if result == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def pointer(result: int | None) -> int:
    """Turns a null pointer into the OSError of errno."""
    if not result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def rename(source: str, source_at: int, target: str, target_at: int, flags: int, raw: bool) -> None:
    """renameat2, by its own symbol or (raw) through syscall(), as coreutils reaches it."""
    names = (source_at, os.fsencode(source), target_at, os.fsencode(target), flags)
    if raw:
        checked(LIBC.syscall(ctypes.c_long(SYS_RENAMEAT2), *names))
    else:
        checked(LIBC.renameat2(*names))


def link(source: str, source_at: int, target: str, target_at: int, flags: int) -> None:
    """linkat with its flags: os.link drops AT_SYMLINK_FOLLOW unless a descriptor is given."""
    checked(LIBC.linkat(source_at, os.fsencode(source), target_at, os.fsencode(target), flags))


def utimes(path: str, at: int, atime: tuple[int, int], mtime: tuple[int, int], flags: int) -> None:
    """utimensat with UTIME_NOW and UTIME_OMIT, which os.utime cannot spell."""
    times = (ctypes.c_long * 4)(*atime, *mtime)
    checked(LIBC.utimensat(at, os.fsencode(path), times, flags))


def realpath(path: str) -> str:
    """libc's realpath, not the Python re-implementation."""
    found = pointer(LIBC.realpath(os.fsencode(path), None))
    try:
        return os.fsdecode(ctypes.string_at(found))
    finally:
        LIBC.free(found)


def statx(path: str, at: int, flags: int, raw: bool) -> dict[str, int]:
    """The fields of struct statx that compare with struct stat, by symbol or through syscall()."""
    buffer = ctypes.create_string_buffer(256)
    arguments = (at, os.fsencode(path), flags, 0x7FF, buffer)
    if raw:
        checked(LIBC.syscall(ctypes.c_long(SYS_STATX), *arguments))
    else:
        checked(LIBC.statx(*arguments))
    # mask blksize attributes nlink uid gid mode pad ino size blocks attributes_mask
    head = struct.unpack_from("<IIQIIIHHQQQQ", buffer.raw)
    times = struct.unpack_from("<" + "qIi" * 4, buffer.raw, 64)
    rdev_major, rdev_minor, dev_major, dev_minor = struct.unpack_from("<IIII", buffer.raw, 128)
    return {
        "dev": os.makedev(dev_major, dev_minor), "ino": head[8], "mode": head[6],
        "nlink": head[3], "uid": head[4], "gid": head[5], "size": head[9],
        "rdev": os.makedev(rdev_major, rdev_minor),
        "mtime": times[9] * 10**9 + times[10], "ctime": times[6] * 10**9 + times[7],
        "atime": times[0] * 10**9 + times[1],
    }


def read_stream(stream: int) -> list[tuple[str, int, int]]:
    """What a DIR stream gives after rewinddir: (name, d_type, d_ino), the dots included."""
    LIBC.rewinddir(stream)
    entries: list[tuple[str, int, int]] = []
    while entry := LIBC.readdir64(stream):
        ino, _, _, kind = struct.unpack("<QqHB", ctypes.string_at(entry, 19))
        entries.append((os.fsdecode(ctypes.string_at(entry + 19)), kind, ino))
    return entries


def mount(source: str, target: str, kind: str | None, flags: int, options: str) -> None:
    """mount(2)."""
    kind_bytes = kind.encode() if kind else None
    checked(LIBC.mount(os.fsencode(source), os.fsencode(target), kind_bytes,
                       ctypes.c_ulong(flags), os.fsencode(options)))


def unmount(target: str) -> None:
    """umount2 with MNT_DETACH: a killed worker may still be letting go."""
    checked(LIBC.umount2(os.fsencode(target), MNT_DETACH))


def private_mounts() -> None:
    """Moves this process into its own mount namespace, so that no mount outlives a killed run."""
    checked(LIBC.unshare(CLONE_NEWNS))
    mount("none", "/", None, MS_REC | MS_PRIVATE, "")


class _Glob(ctypes.Structure):
    _fields_ = [("count", ctypes.c_size_t), ("paths", ctypes.POINTER(ctypes.c_char_p)),
                ("rest", ctypes.c_char * 256)]


def glob(pattern: str) -> list[str]:
    """libc's glob, which opens and reads directories by glibc's internal calls."""
    found = _Glob()
    status = LIBC.glob(os.fsencode(pattern), 0, None, ctypes.byref(found))
    if status:
        return [f"glob failed with {status}"]
    paths = [os.fsdecode(found.paths[i]) for i in range(found.count)]
    LIBC.globfree(ctypes.byref(found))
    return paths


_VISIT = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_int,
                          ctypes.c_void_p)


def walk(path: str) -> list[tuple[str, int]]:
    """libc's nftw without following symlinks: every (path, type flag), sorted."""
    seen: list[tuple[str, int]] = []

    def visit(name: bytes, _facts: int, kind: int, _state: int) -> int:
        seen.append((os.fsdecode(name), kind))
        return 0

    checked(LIBC.nftw64(os.fsencode(path), _VISIT(visit), 8, 1))
    return sorted(seen)
