"""Random schedules of lock calls: steps of one actor at a time.

A schedule is drawn before it is run, so that a seed says all. What cannot be known yet (whose call sleeps, what is
refused) is guessed: the run leaves out what cannot be done, in both worlds.
"""

from __future__ import annotations

import random

SLOTS = "abcde"
KINDS = (["flock"], ["record", "ask"], ["description", "ask-description"], ["record", "lockf", "ask"],
         ["flock", "record", "description", "ask", "ask-description"])
Step = tuple[str, str]


class Schedule:
    """The steps of one seed."""

    def __init__(self, seed: int, length: int) -> None:
        self.random = random.Random(seed)
        self.actors: list[str] = []
        self.steps: list[Step] = []
        self.kinds = self.random.choice(KINDS)
        self.exclusive = self.random.random() < 0.3  # hardly any read locks
        self.names = ["f", "g"]
        self.started = 0
        self.open: dict[str, set[str]] = {}
        for _ in range(self.random.randint(2, 4)):
            self.open[self._new("start")] = {"a"}
        for actor in list(self.actors):
            self._add(actor, f"open a {self._file()} {self.random.choice(['r', 'r', 'r', 'rw'])}")
        while len(self.steps) < length and self.actors:
            self._step(self.random.choice(self.actors))

    def _add(self, actor: str, command: str) -> None:
        self.steps.append((actor, command))

    def _new(self, verb: str, parent: str = "", more: str = "") -> str:
        name = f"P{self.started}"
        self.started += 1
        self._add(parent or name, f"{verb} {name} {more}".strip())
        self.actors.append(name)
        return name

    def _slot(self, actor: str, new: bool = False) -> str:
        """A slot that is open, mostly."""
        if new or not self.open[actor] or self.random.random() < 0.05:
            return self.random.choice(SLOTS)
        return self.random.choice(sorted(self.open[actor]))

    def _end(self, actor: str) -> None:
        """Threads of one process have one set of open slots."""
        gone = self.open[actor]
        self.actors = [one for one in self.actors if self.open[one] is not gone]

    def _file(self) -> str:
        # Mostly one file, by whichever name.
        return self.random.choice(["f", "f", *self.names])

    def _range(self) -> str:
        whence = self.random.choice([0, 0, 0, 0, 1, 2])
        start = self.random.randint(0, 8) if whence < 2 else self.random.randint(-4, 2)
        return f"{whence} {start} {self.random.choice([0, 0, 1, 3, 5, -1])}"

    def _lock(self, actor: str) -> None:
        r = self.random
        kind, slot = r.choice(self.kinds), self._slot(actor)
        wait = " wait" if r.random() < 0.25 else ""
        if kind == "flock":
            self._add(actor, f"flock {slot} {r.choice('xxxu' if self.exclusive else 'sxxuu')}{wait}")
        elif kind == "lockf":
            self._add(actor, f"lockf {slot} {r.choice('wwut')} {r.choice([0, 0, 1, 3, -2])}{wait}")
        elif kind.startswith("ask"):
            self._add(actor, f"{kind} {slot} {r.choice('rw')} {self._range()}")
        else:
            self._add(actor, f"{kind} {slot} {r.choice('wwwu' if self.exclusive else 'rrwwu')} {self._range()}{wait}")

    def _step(self, actor: str) -> None:
        r = self.random
        chance = r.random()
        slot, other = self._slot(actor), self._slot(actor, new=True)
        if chance < 0.55:
            self._lock(actor)
        elif chance < 0.66:
            self.open[actor].add(other)
            self._add(actor, f"open {other} {self._file()} {r.choice(['r', 'r', 'r', 'rw', 'a', 't'])}")
        elif chance < 0.67:
            self.open[actor].add(other)
            self._add(actor, f"open {other} d d")
        elif chance < 0.70:
            self.open[actor].discard(slot)
            self._add(actor, f"close {slot}")
        elif chance < 0.74:
            self.open[actor].add(other)
            self._add(actor, f"dup {slot} {other} {r.choice(['dup', 'fcntl'])}")
        elif chance < 0.75:
            self._add(actor, f"close-range {slot} {other}")
        elif chance < 0.77:
            self._add(actor, f"inherit {slot} {r.choice([1, 1, 0])}")
        elif chance < 0.79:
            receiver = r.choice(self.actors)
            self.open[receiver].add(other)
            self._add(actor, f"send {slot} {receiver} {other}")
        elif chance < 0.80:
            self._add(actor, f"seek {slot} {r.randint(0, 6)}")
        elif chance < 0.88:
            self._processes(actor)
        elif chance < 0.92:
            self._add(actor, r.choice(["interrupt 10", "interrupt 12"]))
        else:
            self._change(actor, slot)

    def _processes(self, actor: str) -> None:
        r = self.random
        what = r.choice(["fork", "fork", "thread", "exec", "exec", "spawn", "kill", "exit"])
        slots = self.open[actor]
        if what in ("exec", "spawn"):
            for slot in sorted(slots):
                if r.random() < 0.6:
                    self._add(actor, f"inherit {slot} 1")
        if what in ("fork", "thread", "spawn"):
            if len(self.actors) < 8:
                more = r.choice(["posix", "vfork"]) if what == "spawn" else ""
                self.open[self._new(what, actor, more)] = slots if what == "thread" else set(slots)
        elif what == "exec":
            self._end(actor)
            self.open[self._new(what, actor)] = slots
        elif len(self.actors) > 2:
            self._add(actor, what)
            self._end(actor)

    def _change(self, actor: str, slot: str) -> None:
        r = self.random
        what = r.choice(["write", "chmod", "truncate", "utimes", "rename", "link"])
        if what == "write":
            self._add(actor, f"write {slot}")
        elif what == "chmod":
            self._add(actor, f"chmod {r.choice([self._file(), 'd'])} 7{r.randint(0, 6)}{r.randint(0, 6)}")
        elif what == "truncate":
            self._add(actor, f"truncate {self._file()} {r.randint(0, 30)}")
        elif what == "utimes":
            self._add(actor, f"utimes {self._file()}")
        else:
            old, new = r.choice(self.names), f"n{len(self.steps)}"
            if what == "rename":
                self.names.remove(old)
            self.names.append(new)
            self._add(actor, f"{what} {old} {new}")
