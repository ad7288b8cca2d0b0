"""The worlds that the same operations run in: a plain directory, kernel overlayfs, Overlock.

Owns what is on disk for a case and at which path. All worlds show their tree at the same path, one
after the other, so that absolute links, /proc names and scripts read the same everywhere. The
lowers are built once and shared: their manifest, taken when built, must still hold after each
world. Links outside lead to a directory on another file system where there is one, so that the
tree's boundary is a device boundary in the plain world too.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass

import libc
from build import build, build_outside
from manifest import Record, manifest
from sandbox import Scratch
from tree import Case, merge

NOBODY = 65534


@dataclass(frozen=True)
class Settings:
    """What the command line decides for every world."""

    scratch: Scratch
    library: str = ""
    options: str = ""  # further mount options for Overlock
    kernel_options: str = "redirect_dir=on,index=on,metacopy=off,xino=on"
    privileged: bool = True


class Yard:
    """The directories of one case."""

    def __init__(self, case: Case, settings: Settings) -> None:
        self.case, self.settings = case, settings
        self.base = tempfile.mkdtemp(prefix=f"seed-{case.seed}-", dir=settings.scratch.near)
        self.far = tempfile.mkdtemp(prefix=f"seed-{case.seed}-", dir=settings.scratch.far)
        for directory in (self.base, self.far):
            os.chmod(directory, 0o755)
        os.mkdir(f"{self.base}/t")
        self.tree, self.outside = f"{self.base}/t/T", f"{self.far}/outside"
        self.namespace = "trusted" if settings.privileged and os.geteuid() == 0 else "user"
        self.lowers: list[str] = []
        self.before: list[dict[str, Record]] = []

    def fresh_outside(self) -> None:
        shutil.rmtree(self.outside, ignore_errors=True)
        build_outside(self.outside, self.tree, 0 if self.case.privileged else NOBODY)

    def build_lowers(self) -> None:
        """Builds the lowers, the top first, unless an earlier world did."""
        if self.lowers:
            return
        layers = self.case.layers[1:]
        for number, layer in enumerate(layers):
            bottom = number == len(layers) - 1
            place = self.far if self.case.spread and not bottom else self.base
            self.lowers.append(f"{place}/lower{number}")
            build(self.lowers[-1], layer, self.tree, self.outside, self.namespace)
        self.before = [manifest(lower) for lower in self.lowers]

    def lower_changes(self) -> list[str]:
        """What differs in the lowers from when they were built."""
        changes = []
        for lower, before in zip(self.lowers, self.before):
            now = manifest(lower)
            name = os.path.basename(lower)
            changes += [f"{name}/{path}: {before.get(path)} is now {now.get(path)}"
                        for path in sorted(before.keys() | now.keys())
                        if before.get(path) != now.get(path)]
        return changes

    def build_upper(self, name: str) -> tuple[str, str]:
        """A new upper and a new workdir, owned by whoever the workers are."""
        upper, work = f"{self.base}/{name}-upper", f"{self.base}/{name}-work"
        build(upper, self.case.layers[0], self.tree, self.outside, self.namespace)
        os.mkdir(work, 0o755)
        if os.geteuid() == 0 and not self.case.privileged:
            os.chown(work, NOBODY, NOBODY)
        return upper, work

    def remove(self) -> None:
        for directory in (self.base, self.far):
            shutil.rmtree(directory, ignore_errors=True)


class World:
    """A tree at `yard.tree`, from open() to close()."""

    name = "plain"

    def __init__(self, yard: Yard) -> None:
        self.yard = yard

    def open(self) -> None:
        build(self.yard.tree, merge(self.yard.case.layers), self.yard.tree, self.yard.outside)

    def environment(self) -> dict[str, str]:
        return {}

    def close(self) -> list[str]:
        """Takes the tree away; returns what the world itself finds wrong afterwards."""
        os.rename(self.yard.tree, f"{self.yard.base}/{self.name}")
        return []


class ControlWorld(World):
    """A plain directory once more, as a world under test: it must never differ from the truth."""

    name = "control"


class KernelWorld(World):
    name = "kernel"

    def open(self) -> None:
        self.yard.build_lowers()
        upper, work = self.yard.build_upper("kernel")
        os.mkdir(self.yard.tree)
        options = self.yard.settings.kernel_options
        if self.yard.namespace == "user":
            options = "userxattr,index=on"
        mount_overlay(self.yard, upper, work, options)

    def close(self) -> list[str]:
        libc.unmount(self.yard.tree)
        os.rmdir(self.yard.tree)
        return [f"kernel changed a lower: {change}" for change in self.yard.lower_changes()]


class OverlockWorld(World):
    name = "overlock"

    def open(self) -> None:
        self.yard.build_lowers()
        self.upper, self.work = self.yard.build_upper("overlock")
        self.lowers = list(self.yard.lowers)
        if self.yard.case.over_lower:
            os.rename(self.lowers[-1], self.yard.tree)
            self.lowers[-1] = self.yard.tree
        else:
            os.mkdir(self.yard.tree, 0o755)

    def environment(self) -> dict[str, str]:
        settings = self.yard.settings
        extra = f",{settings.options}" if settings.options else ""
        return {
            "LD_PRELOAD": os.path.abspath(settings.library),
            "OVERLOCK": f"lowerdir={':'.join(self.lowers)},upperdir={self.upper},"
                        f"workdir={self.work},target={self.yard.tree}{extra}"}

    def close(self) -> list[str]:
        tree = self.yard.tree
        problems = []
        if self.yard.case.over_lower:
            os.rename(tree, self.yard.lowers[-1])
        elif os.listdir(tree):
            problems.append(f"written past the overlay into the target: {os.listdir(tree)}")
            os.rename(tree, f"{self.yard.base}/overlock-target")
        else:
            os.rmdir(tree)
        return problems + [f"a lower changed: {change}" for change in self.yard.lower_changes()]

    def mounted(self) -> tuple[dict[str, Record] | None, str]:
        """The tree that kernel overlayfs shows for this upper, or why there is none."""
        redirect = "redirect_dir=on"
        if self.yard.namespace == "user":
            if _has_redirect(self.upper):
                return None, "the kernel refuses redirects under userxattr"
            redirect = "userxattr"
        os.mkdir(self.yard.tree)
        work = f"{self.yard.base}/check-work"
        os.mkdir(work)
        try:
            mount_overlay(self.yard, self.upper, work, f"{redirect},index=off,metacopy=off")
        except OSError as error:
            os.rmdir(self.yard.tree)
            return None, f"kernel overlayfs cannot be mounted: {error.strerror}"
        try:
            return manifest(self.yard.tree), ""
        finally:
            libc.unmount(self.yard.tree)
            os.rmdir(self.yard.tree)


WORLDS: dict[str, type[World]] = {world.name: world for world in
                                (World, ControlWorld, KernelWorld, OverlockWorld)}


def mount_overlay(yard: Yard, upper: str, work: str, options: str) -> None:
    layers = f"lowerdir={':'.join(yard.lowers)},upperdir={upper},workdir={work}"
    libc.mount("overlay", yard.tree, "overlay", 0, f"{layers},{options}")


def _has_redirect(upper: str) -> bool:
    return any(name.endswith(".overlay.redirect") for record in manifest(upper).values()
               for name in record.get("xattrs", {}))
