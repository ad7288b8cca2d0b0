"""Puts entries on disk: a layer in the kernel's overlay format, or the merged tree as it is.

Owns the order that makes the attributes stick: content, xattrs, owner, mode, then times, the
directories' last and deepest first. Whiteouts are character devices 0/0; an opaque directory is
marked in the trusted or the user namespace, as the privilege of the case asks.
"""

from __future__ import annotations

import os
import stat

from roots import expand
from tree import Entry, Layer

DEVICE = os.makedev(1, 3)


def build(root: str, layer: Layer, tree: str, outside: str, namespace: str = "") -> None:
    """Creates `root` and in it every entry; without a namespace nothing is marked opaque."""
    groups: dict[str, str] = {}
    directories: list[tuple[str, Entry]] = []
    for path in sorted(layer, key=lambda path: (path.count("/") + bool(path), path)):
        entry, full = layer[path], os.path.join(root, path) if path else root
        if entry.group and entry.group in groups:
            os.link(groups[entry.group], full, follow_symlinks=False)
            continue
        if entry.group:
            groups[entry.group] = full
        _create(full, entry, tree, outside)
        if entry.kind == "dir":
            directories.append((full, entry))
        else:
            _dress(full, entry)
    # A group's times moved with each link; its first name carries them.
    for path, entry in layer.items():
        if entry.group:
            _set_time(groups[entry.group], entry)
    for full, entry in reversed(directories):
        if entry.opaque and namespace:
            os.setxattr(full, f"{namespace}.overlay.opaque", b"y")
        _dress(full, entry)


def _create(full: str, entry: Entry, tree: str, outside: str) -> None:
    match entry.kind:
        case "file":
            _write(full, entry, tree, outside)
        case "dir":
            os.mkdir(full, 0o700)
        case "link":
            os.symlink(expand(entry.target, tree, outside), full)
        case "fifo":
            os.mkfifo(full)
        case "sock":
            os.mknod(full, stat.S_IFSOCK | 0o600)
        case "char":
            os.mknod(full, stat.S_IFCHR | 0o600, DEVICE)
        case "whiteout":
            os.mknod(full, stat.S_IFCHR | 0o600, os.makedev(0, 0))


def _write(full: str, entry: Entry, tree: str, outside: str) -> None:
    descriptor = os.open(full, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        for offset, text, times in entry.pieces:
            os.pwrite(descriptor, expand(text, tree, outside).encode("latin-1") * times, offset)
        if entry.size:
            os.ftruncate(descriptor, entry.size)
    finally:
        os.close(descriptor)


def _dress(full: str, entry: Entry) -> None:
    if entry.kind == "whiteout":
        return
    for name, value in entry.xattrs.items():
        os.setxattr(full, name, value.encode("latin-1"), follow_symlinks=False)
    if os.geteuid() == 0:
        os.chown(full, entry.uid, entry.gid, follow_symlinks=False)
    # An access ACL is part of the mode: chmod would rewrite its mask.
    if entry.kind != "link" and "system.posix_acl_access" not in entry.xattrs:
        os.chmod(full, entry.mode)
    _set_time(full, entry)


def _set_time(full: str, entry: Entry) -> None:
    os.utime(full, ns=(entry.mtime, entry.mtime), follow_symlinks=False)


def build_outside(root: str, tree: str, owner: int) -> None:
    """The directory outside: something to be linked to, and links that lead back in."""
    os.mkdir(root)
    os.mkdir(f"{root}/dir")
    for name in ("file", "dir/x"):
        with open(f"{root}/{name}", "w", encoding="ascii") as file:
            file.write(f"outside {name}\n")
    os.symlink(tree, f"{root}/back")
    os.symlink(f"{tree}/d1", f"{root}/back-d1")
    os.symlink(f"{tree}/a", f"{root}/back-a")
    for name in ("file", "dir/x", "dir", ""):
        os.utime(f"{root}/{name}", ns=(10**18, 10**18))
        if os.geteuid() == 0:
            os.chown(f"{root}/{name}", owner, owner)
