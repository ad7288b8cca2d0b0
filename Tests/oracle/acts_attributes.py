"""Acts on attributes: mode, owner, times, extended attributes, file system numbers."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import libc
from acts_names import Act, Operation, after, facts

if TYPE_CHECKING:
    from worker import Worker


def _fd(descriptor: int | None) -> int:
    return libc.AT_FDCWD if descriptor is None else descriptor


def chmod(w: Worker, op: Operation) -> Any:
    flags = 0 if op["follow"] else libc.AT_SYMLINK_NOFOLLOW
    path = os.fsencode(w.path(op))
    libc.checked(libc.LIBC.fchmodat(_fd(w.at(op)), path, op["mode"], flags))
    return after(w, op, follow=op["follow"])


def fchmod(w: Worker, op: Operation) -> Any:
    os.fchmod(w.slot(op["slot"]), op["mode"])
    return facts(os.fstat(w.slot(op["slot"])))


def chown(w: Worker, op: Operation) -> Any:
    os.chown(w.path(op), op["uid"], op["gid"], dir_fd=w.at(op), follow_symlinks=op["follow"])
    return after(w, op, follow=op["follow"])


def fchown(w: Worker, op: Operation) -> Any:
    os.fchown(w.slot(op["slot"]), op["uid"], op["gid"])
    return facts(os.fstat(w.slot(op["slot"])))


def _time(value: Any) -> tuple[int, int]:
    if value == "now":
        return 0, libc.UTIME_NOW
    if value == "omit":
        return 0, libc.UTIME_OMIT
    return value[0], value[1]


def utimes(w: Worker, op: Operation) -> Any:
    flags = 0 if op["follow"] else libc.AT_SYMLINK_NOFOLLOW
    libc.utimes(w.path(op), _fd(w.at(op)), _time(op["atime"]), _time(op["mtime"]), flags)
    return after(w, op, follow=op["follow"])


def futimens(w: Worker, op: Operation) -> Any:
    times = (libc.ctypes.c_long * 4)(*_time(op["atime"]), *_time(op["mtime"]))
    libc.checked(libc.LIBC.futimens(w.slot(op["slot"]), times))
    return facts(os.fstat(w.slot(op["slot"])))


def _subject(w: Worker, op: Operation) -> tuple[str | int, dict[str, bool]]:
    """The path or the descriptor, and how os is told not to follow."""
    if "slot" in op:
        return w.slot(op["slot"]), {}
    return w.full(op), {"follow_symlinks": op["follow"]}


def setxattr(w: Worker, op: Operation) -> Any:
    subject, follow = _subject(w, op)
    os.setxattr(subject, op["name"], op["value"].encode("latin-1"), op["flags"], **follow)
    return listxattr(w, op)


def getxattr(w: Worker, op: Operation) -> Any:
    subject, follow = _subject(w, op)
    return os.getxattr(subject, op["name"], **follow).decode("latin-1")


def listxattr(w: Worker, op: Operation) -> Any:
    subject, follow = _subject(w, op)
    return sorted(os.listxattr(subject, **follow))


def removexattr(w: Worker, op: Operation) -> Any:
    subject, follow = _subject(w, op)
    os.removexattr(subject, op["name"], **follow)
    return listxattr(w, op)


def statvfs(w: Worker, op: Operation) -> Any:
    seen = os.statvfs(w.full(op))
    return [seen.f_bsize, seen.f_frsize, seen.f_namemax]


ACTS: dict[str, Act] = {act.__name__: act for act in (
    chmod, fchmod, chown, fchown, utimes, futimens, setxattr, getxattr, listxattr, removexattr,
    statvfs)}
