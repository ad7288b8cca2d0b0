#!/usr/bin/env python3
"""Random schedules of lock calls by two overlays over one lower and by processes without any: who excludes whom is
compared with a model of the promise (lock_model.py), since no plain directory has two copies of a file.

    locks_shared.py --library LIB [--seed N] [--seeds N] [--steps N] [--verbose]
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile

from lock_model import Descriptor, Model
from lock_world import FILES, World

SLOTS = "abc"
KINDS = ("flock", "record", "description")


class Shared(World):
    """One lower, two overlays over it; the processes' environment says where they belong."""

    def __init__(self, base: str, library: str) -> None:
        super().__init__(base)
        self.library = library
        for folder in ("up2", "work2"):
            os.makedirs(f"{base}/{folder}")

    def member(self, name: str, overlay: int) -> None:
        if not overlay:
            self.start(name)
            return
        suffix = "" if overlay == 1 else "2"
        options = f"lowerdir={self.tree},upperdir={self.base}/up{suffix},workdir={self.base}/work{suffix}"
        self.start(name, LD_PRELOAD=self.library,
                   OVERLOCK=f"{options},target={self.tree},registry={self.base}/registry")


class Course:
    """One schedule: drawn as it goes, since the model knows at once what comes of each step."""

    def __init__(self, seed: int, world: Shared) -> None:
        self.random = random.Random(seed)
        self.world = world
        self.models = {name: Model() for name in FILES}
        self.open: dict[tuple[str, str], tuple[str, Descriptor]] = {}
        self.overlays: dict[str, int] = {}
        self.kinds = self.random.choice([*[(kind,) for kind in KINDS], KINDS])
        self.done: list[str] = []
        self.opened = 0

    def start(self) -> None:
        for overlay in (0, 1, 1, 2, 2):
            name = f"{'OAB'[overlay]}{len(self.overlays)}"
            self.world.member(name, overlay)
            self.overlays[name] = overlay

    def step(self) -> bool:
        r = self.random
        process = r.choice(sorted(self.overlays))
        chance = r.random()
        mine = sorted(slot for name, slot in self.open if name == process)
        if chance < 0.15 or not mine:
            return self._open(process, r.choice(SLOTS))
        slot = r.choice(mine)
        file, d = self.open[process, slot]
        model = self.models[file]
        if chance < 0.20:
            self._forget(process, slot)
            return self._check(process, f"close {slot}", "ok")
        if chance < 0.23:
            if self.overlays[process]:
                file = r.choice(FILES)
                self.models[file].copy_up(self.overlays[process])
                return self._check(process, f"chmod {file} 60{r.randint(0, 7)}", "ok")
            return True
        if chance < 0.24 and len(self.overlays) > 3:
            return self._kill(process)
        kind, exclusive = r.choice(self.kinds), r.random() < 0.5
        type_ = "w" if exclusive else "r"
        if kind == "flock" and chance > 0.85 or chance > 0.9:
            expected = model.unlock(kind, d)
            return self._check(process, f"flock {slot} u" if kind == "flock" else f"{kind} {slot} u 0 0 0", expected)
        if kind == "flock":
            return self._check(process, f"flock {slot} {'x' if exclusive else 's'}", model.take(kind, d, exclusive))
        if chance > 0.75:
            verb = "ask" if kind == "record" else "ask-description"
            return self._check(process, f"{verb} {slot} {type_} 0 0 0", model.ask(kind, d, exclusive))
        return self._check(process, f"{kind} {slot} {type_} 0 0 0", model.take(kind, d, exclusive))

    def _open(self, process: str, slot: str) -> bool:
        r = self.random
        file, overlay = r.choice(FILES), self.overlays[process]
        # An outsider's right to write changes nothing: it is its file.
        mode = r.choice(["r", "r", "rw", "a"] if not overlay else ["r", "r", "r", "rw", "a"])
        if (process, slot) in self.open:
            self._forget(process, slot)
            if not self._check(process, f"close {slot}", "ok"):
                return False
        inode = self.models[file].open(overlay, mode != "r")
        self.opened += 1
        self.open[process, slot] = file, Descriptor(
            f"{process}.{slot}.{self.opened}", process, overlay, inode, mode != "r", mode != "a")
        return self._check(process, f"open {slot} {file} {mode}", "ok")

    def _forget(self, process: str, slot: str) -> None:
        file, d = self.open.pop((process, slot))
        self.models[file].close(d)

    def _kill(self, process: str) -> bool:
        self.world.end(process, signal.SIGKILL)
        self.done.append(f"{process} kill")
        for file, model in self.models.items():
            model.end(process, [d for (name, _), (f, d) in self.open.items() if name == process and f == file])
        self.open = {key: value for key, value in self.open.items() if key[0] != process}
        del self.overlays[process]
        return True

    def _check(self, process: str, command: str, expected: str) -> bool:
        said = self.world.do(process, command)
        self.done.append(f"{process} {command}: {expected} | {said}")
        # Which of several locks is shown is not said anywhere.
        return (said.split()[0] if command.startswith("ask") else said) == expected


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--library", required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--verbose", action="store_true", help="print every step")
    options = parser.parse_args()
    if not os.path.isfile(options.library):
        raise SystemExit(f"locks_shared: --library {options.library!r}: no such file; build it first")
    library = os.path.realpath(options.library)
    passed = failed = 0
    with tempfile.TemporaryDirectory(prefix="overlock-locks-") as scratch:
        for seed in range(options.seed, options.seed + options.seeds):
            world = Shared(f"{scratch}/shared", library)
            course = Course(seed, world)
            try:
                course.start()
                right = all(course.step() for _ in range(options.steps))
            finally:
                world.close()
            passed, failed = passed + right, failed + (not right)
            if not right or options.verbose:
                print("\n".join(f"  {line}" for line in course.done))
            if not right:
                print(f"seed {seed}: {course.done[-1]} (model | seen)\n  replay: locks_shared.py "
                      f"--library {library} --seed {seed} --seeds 1 --steps {options.steps}", flush=True)
    print(f"{passed} passed, {failed} failed, 0 skipped")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
