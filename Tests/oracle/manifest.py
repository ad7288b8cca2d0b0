"""The whole of a tree as a value: every path with everything that compares.

Read either through a world, or directly (lowers, to prove that nothing in them changed). No
overlay xattr is left out: one that shows through a world is a leak.
"""

from __future__ import annotations

import hashlib
import os
import stat
from typing import Any

Record = dict[str, Any]


def manifest(root: str) -> dict[str, Record]:
    """Every path below `root` ("." is the root itself) with its record."""
    found: dict[str, Record] = {}
    pending = ["."]
    while pending:
        path = pending.pop()
        full = os.path.join(root, path)
        try:
            seen = os.lstat(full)
        except OSError as error:  # not allowed, or listed and yet not there
            found[path] = {"unreachable": error.errno}
            continue
        found[path] = record = _record(full, seen)
        if not stat.S_ISDIR(seen.st_mode):
            continue
        try:
            names = os.listdir(full)
        except OSError as error:
            record["unlistable"] = error.errno
            continue
        pending += [os.path.normpath(os.path.join(path, name)) for name in names]
    return found


def _record(full: str, seen: os.stat_result) -> Record:
    record: Record = {
        "dev": seen.st_dev, "ino": seen.st_ino, "mode": seen.st_mode, "nlink": seen.st_nlink,
        "uid": seen.st_uid, "gid": seen.st_gid, "size": seen.st_size, "rdev": seen.st_rdev,
        "mtime": seen.st_mtime_ns}
    try:
        record["xattrs"] = _xattrs(full)
        if stat.S_ISREG(seen.st_mode):
            record["content"] = _hash(full)
        elif stat.S_ISLNK(seen.st_mode):
            record["target"] = os.readlink(full)
    except OSError as error:
        record["unreadable"] = error.errno
    return record


def _hash(full: str) -> str:
    with open(full, "rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _xattrs(full: str) -> dict[str, str]:
    names = os.listxattr(full, follow_symlinks=False)
    return {name: os.getxattr(full, name, follow_symlinks=False).decode("latin-1")
            for name in sorted(names)}


def kinds(root: str) -> dict[str, str]:
    """The kind of every path below `root`, in a fixed order."""
    names = {stat.S_IFREG: "file", stat.S_IFDIR: "dir", stat.S_IFLNK: "link", stat.S_IFIFO: "fifo",
             stat.S_IFSOCK: "sock", stat.S_IFCHR: "char"}
    found = {"": "dir"}
    for path, directories, files in os.walk(root):
        directories.sort()
        for name in sorted(directories + files):
            full = os.path.join(path, name)
            found[full[len(root) + 1:]] = names[stat.S_IFMT(os.lstat(full).st_mode)]
    return found
