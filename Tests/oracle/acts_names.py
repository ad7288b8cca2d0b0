"""Acts on names: make, remove, move, look up, list, change directory.

A result carries nothing that belongs to one world: `facts` keep device and inode numbers, which
compare.py replaces by identity. An act that changes something also returns what lstat sees after.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import libc

if TYPE_CHECKING:
    from worker import Worker

Operation = dict[str, Any]
Act = Callable[["Worker", Operation], Any]
DEVICE = os.makedev(1, 3)


def facts(seen: os.stat_result) -> dict[str, dict[str, int]]:
    """What compare.py takes as one stat result."""
    return {"stat": {
        "dev": seen.st_dev, "ino": seen.st_ino, "mode": seen.st_mode, "nlink": seen.st_nlink,
        "uid": seen.st_uid, "gid": seen.st_gid, "size": seen.st_size, "rdev": seen.st_rdev,
        "mtime": seen.st_mtime_ns, "ctime": seen.st_ctime_ns, "atime": seen.st_atime_ns}}


def after(w: Worker, op: Operation, key: str = "path", follow: bool = False) -> Any:
    """The name as it is seen after the act."""
    try:
        return facts(os.stat(w.path(op, key), dir_fd=w.at(op, key), follow_symlinks=follow))
    except OSError as error:
        return {"errno": error.errno}


def _fd(descriptor: int | None) -> int:
    return libc.AT_FDCWD if descriptor is None else descriptor


def mkdir(w: Worker, op: Operation) -> Any:
    os.mkdir(w.path(op), op["mode"], dir_fd=w.at(op))
    return after(w, op)


def rmdir(w: Worker, op: Operation) -> Any:
    w.doomed(w.full(op))
    os.rmdir(w.path(op), dir_fd=w.at(op))


def unlink(w: Worker, op: Operation) -> Any:
    w.doomed(w.full(op))
    os.unlink(w.path(op), dir_fd=w.at(op))


def remove_tree(w: Worker, op: Operation) -> Any:
    _remove(w, w.full(op))


def _remove(w: Worker, path: str) -> None:
    """Sorted, because an error half-way must leave the same half in every world."""
    w.doomed(path)
    seen = os.lstat(path)
    w.ancestors.protect(seen)
    if not stat.S_ISDIR(seen.st_mode):
        os.unlink(path)
        return
    for name in sorted(os.listdir(path)):
        _remove(w, f"{path}/{name}")
    os.rmdir(path)


def symlink(w: Worker, op: Operation) -> Any:
    os.symlink(w.expand(op["target"]), w.path(op), dir_fd=w.at(op))
    return after(w, op)


def mknod(w: Worker, op: Operation) -> Any:
    kind = {"fifo": stat.S_IFIFO, "sock": stat.S_IFSOCK, "char": stat.S_IFCHR,
            "file": stat.S_IFREG}[op["kind"]]
    device = DEVICE if op["kind"] == "char" else 0
    os.mknod(w.path(op), kind | op["mode"], device, dir_fd=w.at(op))
    return after(w, op)


def link(w: Worker, op: Operation) -> Any:
    flags = libc.AT_SYMLINK_FOLLOW if op["follow"] else 0
    libc.link(w.path(op), _fd(w.at(op)), w.path(op, "to"), _fd(w.at(op, "to")), flags)
    return after(w, op, "to")


def link_descriptor(w: Worker, op: Operation) -> Any:
    descriptor = w.slot(op["slot"])
    if op["empty"]:
        libc.link("", descriptor, w.path(op), _fd(w.at(op)), libc.AT_EMPTY_PATH)
    else:
        libc.link(f"/proc/self/fd/{descriptor}", libc.AT_FDCWD, w.path(op), _fd(w.at(op)),
                  libc.AT_SYMLINK_FOLLOW)
    return after(w, op)


def rename(w: Worker, op: Operation) -> Any:
    w.doomed(w.full(op, "to"))
    source, target = w.path(op), w.path(op, "to")
    if op["flags"] == 0 and not op["raw"]:
        os.rename(source, target, src_dir_fd=w.at(op), dst_dir_fd=w.at(op, "to"))
    else:
        libc.rename(source, _fd(w.at(op)), target, _fd(w.at(op, "to")), op["flags"], op["raw"])
    return [after(w, op), after(w, op, "to")]


def look_follow(w: Worker, op: Operation) -> Any:
    return facts(os.stat(w.path(op), dir_fd=w.at(op)))


def look_at_link(w: Worker, op: Operation) -> Any:
    return facts(os.lstat(w.path(op), dir_fd=w.at(op)))


def statx(w: Worker, op: Operation) -> Any:
    flags = 0 if op["follow"] else libc.AT_SYMLINK_NOFOLLOW
    return {"stat": libc.statx(w.path(op), _fd(w.at(op)), flags, op["raw"])}


def access(w: Worker, op: Operation) -> Any:
    path = os.fsencode(w.path(op))
    effective = 0x200 if op["effective"] else 0  # AT_EACCESS
    libc.checked(libc.LIBC.faccessat(_fd(w.at(op)), path, op["mode"], effective))


def readlink(w: Worker, op: Operation) -> Any:
    return os.readlink(w.path(op), dir_fd=w.at(op))


def realpath(w: Worker, op: Operation) -> Any:
    return libc.realpath(w.full(op))


def listdir(w: Worker, op: Operation) -> Any:
    return sorted(os.listdir(w.full(op)))


def scandir(w: Worker, op: Operation) -> Any:
    """Names with d_ino, and those whose d_ino or d_type disagrees with lstat."""
    names, odd = [], []
    full = w.full(op)
    device = os.stat(full).st_dev
    with os.scandir(full) as entries:
        for entry in entries:
            seen = os.lstat(f"{full}/{entry.name}")
            kind = (entry.is_dir(follow_symlinks=False), entry.is_file(follow_symlinks=False),
                    entry.is_symlink())
            mode = seen.st_mode
            if (entry.inode(), kind) != (
                    seen.st_ino, (stat.S_ISDIR(mode), stat.S_ISREG(mode), stat.S_ISLNK(mode))):
                odd.append(entry.name)
            names.append([entry.name, stat.S_IFMT(mode), entry.inode()])
    return {"dev": device, "names": sorted(names), "odd": sorted(odd)}


def list_descriptor(w: Worker, op: Operation) -> Any:
    return sorted(os.listdir(w.slot(op["slot"])))


def walk(w: Worker, op: Operation) -> Any:
    full = w.full(op)
    return [[path[len(full):], kind] for path, kind in libc.walk(full)]


def glob(w: Worker, op: Operation) -> Any:
    full = w.full(op)  # may hold a descriptor's number
    return [path[len(full):] for path in libc.glob(full + "/*")]


def open_stream(w: Worker, op: Operation) -> Any:
    stream = libc.pointer(libc.LIBC.opendir(os.fsencode(w.full(op))))
    w.replace(op["slot"], stream, libc.LIBC.closedir)


def read_stream(w: Worker, op: Operation) -> Any:
    stream = w.slot(op["slot"])
    directory = os.fstat(libc.LIBC.dirfd(stream))
    entries = libc.read_stream(stream)
    # What ".." leads to from the root is the world's own affair.
    return {"dev": directory.st_dev,
            "names": sorted(list(entry) for entry in entries if entry[0] != "..")}


def chdir(w: Worker, op: Operation) -> Any:
    os.chdir(w.full(op))
    return os.getcwd()


def fchdir(w: Worker, op: Operation) -> Any:
    os.fchdir(w.slot(op["slot"]))


def getcwd(_w: Worker, _op: Operation) -> Any:
    return [os.getcwd(), os.readlink("/proc/self/cwd"), facts(os.stat("."))]


ACTS: dict[str, Act] = {act.__name__: act for act in (
    mkdir, rmdir, unlink, remove_tree, symlink, mknod, link, link_descriptor, rename, statx,
    access, readlink, realpath, listdir, scandir, list_descriptor, walk, glob, open_stream,
    read_stream, chdir, fchdir, getcwd)} | {"stat": look_follow, "lstat": look_at_link}
