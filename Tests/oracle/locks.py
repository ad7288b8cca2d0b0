#!/usr/bin/env python3
"""Random schedules of lock calls over several processes and threads, in a plain directory and in an overlay whose
lower has the files: every answer must be the same, and the same calls must sleep, whatever is copied up in between.

    locks.py --library LIB [--seed N] [--seeds N] [--steps N] [--jobs N] [--verbose]

A seed that differs is printed with its shortest prefix and the command that replays it.

Compared is what is said somewhere. It is not of several waiters who gets a lock: of one object one waits at a time.
It is not which of several locks in the way F_GETLK shows: it must be one of those that the plain file has, or a part
of it. And it is not who of a circle gets EDEADLK: one must, then the schedule ends.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal
import sys
import tempfile
from dataclasses import dataclass, field

from lock_schedule import Schedule, Step
from lock_world import Lost, Overlay, World


@dataclass
class Course:
    """What a schedule came to: the steps that were done, with both answers, and what is wrong."""

    done: list[str] = field(default_factory=list)
    wrong: str = ""
    ended: bool = False


class Run:
    """One schedule, a step at a time in both worlds."""

    def __init__(self, plain: World, overlay: World) -> None:
        self.plain, self.overlay = plain, overlay
        self.worlds = (plain, overlay)
        self.course = Course()

    def go(self, steps: list[Step]) -> Course:
        try:
            for index, (actor, command) in enumerate(steps):
                self._step(index, actor, command)
                if self.course.wrong or self.course.ended:
                    break
        except Lost as lost:
            self._wrong(f"{lost}")
        finally:
            for world in self.worlds:
                world.close()
        return self.course

    def _wrong(self, what: str) -> None:
        self.course.wrong = self.course.wrong or what

    def _step(self, index: int, name: str, command: str) -> None:
        words = command.split()
        verb = words[0]
        if verb == "start":
            for world in self.worlds:
                world.start(words[1])
            return
        actor = self.plain.actors.get(name)
        if actor is None or not self._may(name, words):
            return
        if verb == "interrupt":
            answers = self._interrupt(name, int(words[1]))
        elif verb in ("kill", "exit"):
            answers = [world.end(name, signal.SIGKILL if verb == "kill" else 0) for world in self.worlds]
        elif verb in ("flock", "lockf", "record", "description"):
            answers = self._lock(name, command)
        else:
            answers = [world.do(name, command) for world in self.worlds]
        self._compare(index, name, command, *answers)
        self._wake(index)

    def _may(self, name: str, words: list[str]) -> bool:
        """Whether a step can be done, and comes to something certain."""
        actor, verb = self.plain.actors[name], words[0]
        if verb == "interrupt":
            return bool(actor.waiting)
        if verb in ("kill", "exit", "exec"):
            others = {one.pid for one in self.plain.actors.values()} - {actor.pid}
            if verb != "kill" and actor.waiting or not others and verb != "exec":
                return False
            return True
        if verb == "send":
            receiver = self.plain.actors.get(words[2])
            if receiver is None or receiver.waiting or words[2] == name:
                return False
        if words[1:] and verb in ("close", "open", "dup", "close-range", "send"):
            # A descriptor that a thread waits with is not closed: what comes of that is not said.
            pid = self.plain.actors[words[2]].pid if verb == "send" else actor.pid
            if any(self.plain.actors[mate].waiting for mate in self.plain.mates(pid)):
                return False
        return not actor.waiting

    def _lock(self, name: str, command: str) -> list[str]:
        words = command.split()
        if words[-1] != "wait":
            return [world.do(name, command) for world in self.worlds]
        inode = self.plain.object_of(name, words[1])
        waiters = [one for one in self.plain.actors.values() if one.waiting]
        if any(self.plain.object_of_waiter[one.name] == inode for one in waiters):
            return self._lock(name, command.removesuffix(" wait"))
        answers = []
        for world in self.worlds:
            world.tell(name, command)
            world.actors[name].waiting = command
            if world is self.overlay and answers[0] not in ("sleeps", "EDEADLK"):
                answers.append(world.answer(name))
                continue
            said = world.settle(name)
            answers.append("sleeps" if said is None else said)
        self.plain.object_of_waiter[name] = inode
        if "EDEADLK" in answers and answers[0] != answers[1]:
            return self._circle(name, answers)
        if answers[0] == "EDEADLK":
            self.course.ended = True
        return answers

    def _circle(self, name: str, answers: list[str]) -> list[str]:
        """The kernel refuses whoever closes a circle. Over two inodes it is one of those who wait."""
        if answers[1] != "sleeps":
            return answers
        self.course.ended = True
        for other, actor in self.overlay.actors.items():
            if actor.waiting and (other == name or actor.pid != self.overlay.actors[name].pid):
                self.overlay._patiently(actor.connection, "a circle is not seen")
                return ["EDEADLK", self.overlay.answer(other)]
        return answers

    def _interrupt(self, name: str, number: int) -> list[str]:
        """SIGUSR1 ends the wait, SIGUSR2's handler restarts it."""
        answers = []
        for world in self.worlds:
            world.interrupt(name, number)
            said = world.answer(name) if world is self.overlay and answers[0] != "sleeps" else world.settle(name)
            answers.append("sleeps" if said is None else said)
        return answers

    def _wake(self, index: int) -> None:
        """Who waited may have the lock now."""
        for name in [name for name, actor in self.plain.actors.items() if actor.waiting]:
            command = self.plain.actors[name].waiting
            plain = self.plain.settle(name)
            overlay = self.overlay.settle(name) if plain is None else self.overlay.answer(name)
            if plain is not None or overlay is not None:
                self._compare(index, name, f"({command})", plain or "sleeps", overlay or "sleeps")

    def _compare(self, index: int, name: str, command: str, plain: str, overlay: str) -> None:
        self.course.done.append(f"{index} {name} {command}: {plain} | {overlay}")
        if plain != overlay and not self._is_held(name, command, plain, overlay):
            self._wrong(f"step {index}, {name} {command}: plain {plain}, overlay {overlay}")

    def _is_held(self, name: str, command: str, plain: str, overlay: str) -> bool:
        """Whether an asker was shown another lock, or a part of one, that the plain file has too."""
        if not (command.startswith("ask") and plain.startswith("held") and overlay.startswith("held")):
            return False
        _, kind, start, length, holder = overlay.split()
        first, last = int(start), int(start) + int(length) - 1 if int(length) else -1
        return any(kind == k and holder == h and first >= f and (l == -1 or last != -1 and last <= l)
                   for k, f, l, h in self.plain.held(name, command.split()[1]))


def attempt(steps: list[Step], library: str, scratch: str) -> Course:
    plain = World(f"{scratch}/plain")
    plain.object_of_waiter = {}
    return Run(plain, Overlay(f"{scratch}/overlay", library)).go(steps)


def play(job: tuple[int, argparse.Namespace]) -> tuple[int, Course]:
    seed, options = job
    with tempfile.TemporaryDirectory(prefix="overlock-locks-") as scratch:
        return seed, attempt(Schedule(seed, options.steps).steps, options.library, scratch)


def shorten(seed: int, course: Course, options: argparse.Namespace) -> Course:
    """Leaves out, one after the other, the steps without which it still goes wrong."""
    steps = Schedule(seed, options.steps).steps
    steps = steps[:int(course.done[-1].split()[0]) + 1]
    index = len(steps) - 2
    with tempfile.TemporaryDirectory(prefix="overlock-locks-") as scratch:
        while index >= 0:
            fewer = steps[:index] + steps[index + 1:]
            shorter = attempt(fewer, options.library, scratch) if steps[index][1][:5] != "start" else Course()
            if shorter.wrong:
                steps, course = fewer, shorter
            index -= 1
    return course


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--library", required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--verbose", action="store_true", help="print every step")
    options = parser.parse_args()
    if not os.path.isfile(options.library):
        raise SystemExit(f"locks: --library {options.library!r}: no such file; build it first")
    options.library = os.path.realpath(options.library)
    passed = failed = 0
    jobs = [(seed, options) for seed in range(options.seed, options.seed + options.seeds)]
    with multiprocessing.get_context("fork").Pool(options.jobs) as pool:
        for seed, course in pool.imap(play, jobs):
            if options.verbose:
                print("\n".join(course.done))
            if not course.wrong:
                passed += 1
                continue
            failed += 1
            print(f"seed {seed}: {course.wrong}", flush=True)
            print("\n".join("  " + line for line in shorten(seed, course, options).done), flush=True)
            print(f"  replay: locks.py --library {options.library} --seed {seed} --seeds 1 --steps {options.steps}")
    print(f"{passed} passed, {failed} failed, 0 skipped")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
