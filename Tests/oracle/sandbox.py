"""Keeps a run from reaching what is not its own.

Random operations as root, through a library under test, on paths full of "..": a fault must not be
able to write anywhere but in the run's own directories. As root every run gets a mount namespace of
its own, where all file systems of this machine are read-only but for these directories and
/dev/shm, and where mounts vanish with the run, however it ends. Without root there is no such fence
but the user's own rights.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile

import libc

SHARED_MEMORY = "/dev/shm"  # the registry of Overlock lives there
WRITABLE_KINDS = {"proc", "sysfs", "devtmpfs", "devpts", "cgroup2", "cgroup", "mqueue"}


def other_device(path: str) -> str:
    """A directory for temporary files on another file system, or else beside `path`."""
    here = os.stat(path).st_dev
    for candidate in (SHARED_MEMORY, "/var/tmp", "/tmp"):
        if os.path.isdir(candidate) and os.stat(candidate).st_dev != here:
            return candidate
    return os.path.dirname(path)


class Scratch:
    """The two directories of a run, on two file systems where the machine has two."""

    def __init__(self, where: str) -> None:
        self.near = tempfile.mkdtemp(prefix="oracle-", dir=where or None)
        self.far = tempfile.mkdtemp(prefix="oracle-", dir=other_device(self.near))
        for directory in (self.near, self.far):
            os.chmod(directory, 0o755)
        self.bytecode = f"{self.near}/bytecode"  # compiling at each start would double the time
        os.mkdir(self.bytecode)
        os.chmod(self.bytecode, 0o777)

    def remove(self) -> None:
        for directory in (self.near, self.far):
            shutil.rmtree(directory, ignore_errors=True)


def confine(writable: list[str]) -> None:
    """Makes everything read-only for this process and its children but `writable`."""
    if os.geteuid() != 0:
        return
    with contextlib.suppress(OSError):
        libc.private_mounts()
        for directory in (*writable, SHARED_MEMORY):
            libc.mount(directory, directory, None, libc.MS_BIND | libc.MS_REC, "")
        for directory, kind in _mounts():
            if directory not in (*writable, SHARED_MEMORY) and kind not in WRITABLE_KINDS:
                with contextlib.suppress(OSError):
                    libc.mount("none", directory, None,
                               libc.MS_REMOUNT | libc.MS_BIND | libc.MS_RDONLY, "")


def _mounts() -> list[tuple[str, str]]:
    with open("/proc/self/mounts", encoding="utf-8") as table:
        return [(line.split()[1], line.split()[2]) for line in table]


def kernel_unavailable() -> str:
    """Why kernel overlayfs cannot be used here, or nothing. Leaves this process in a mount
    namespace of its own."""
    if os.geteuid() != 0:
        return "mounting needs root"
    try:
        libc.private_mounts()
        with tempfile.TemporaryDirectory(prefix="oracle-") as base:
            for name in "luwm":
                os.mkdir(f"{base}/{name}")
            libc.mount("overlay", f"{base}/m", "overlay", 0,
                       f"lowerdir={base}/l,upperdir={base}/u,workdir={base}/w")
            libc.unmount(f"{base}/m")
    except OSError as error:
        return f"overlay mounts are refused: {error.strerror}"
    return ""
