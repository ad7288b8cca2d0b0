"""A directory, plain or an overlay's, with processes in it that do lock calls as they are told.

Owns the processes: starts them, tells them what to do, and sees what came of it: an answer, or that the call sleeps.
Nothing here waits for a time to pass: that a thread sleeps is seen in /proc, that a process is gone by its pidfd.
"""

from __future__ import annotations

import array
import ctypes
import os
import platform
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass

ACTOR = os.path.join(os.path.dirname(os.path.realpath(__file__)), "lock_actor.py")
FILES = "fg"
CONTENT = "twenty bytes of data"
PATIENCE_S = 20.0
SYS_TGKILL, SLEEPING_CALLS = {
    "x86_64": (234, {"72", "73", "35"}),  # fcntl, flock, nanosleep
    "aarch64": (131, {"25", "32", "101"}),
}[platform.machine()]
libc = ctypes.CDLL(None, use_errno=True)


class Lost(Exception):
    """An actor did not say in time what came of a call."""


@dataclass
class Actor:
    """A thread of a process, and the connection over which it is told what to do."""

    name: str
    pid: int
    tid: int
    connection: socket.socket
    waiting: str = ""  # the call that sleeps

    def sleeps(self) -> bool:
        """Whether the thread sleeps in a call that waits for a lock, or in a wait of the overlay's."""
        try:
            with open(f"/proc/{self.pid}/task/{self.tid}/syscall") as file:
                return file.read().split()[0] in SLEEPING_CALLS
        except OSError:
            return False

    def has_answer(self) -> bool:
        return bool(select.select([self.connection], [], [], 0)[0])


class World:
    """The directory `base/low`, plain."""

    def __init__(self, base: str) -> None:
        self.base = base
        self.tree = f"{base}/low"
        shutil.rmtree(base, ignore_errors=True)
        for folder in ("low/d", "up", "work", "registry"):
            os.makedirs(f"{base}/{folder}", 0o700)
        for name in FILES:
            with open(f"{self.tree}/{name}", "w") as file:
                file.write(CONTENT)
        self.actors: dict[str, Actor] = {}
        self.names: dict[int, str] = {}  # of processes, by their ids
        self.pids: set[int] = set()
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(f"{base}/control")
        self.listener.listen(16)
        self.children: list[subprocess.Popen[bytes]] = []

    def environment(self) -> dict[str, str]:
        return {k: v for k, v in os.environ.items() if k not in ("OVERLOCK", "LD_PRELOAD", "OVERLOCK_STEP")}

    def start(self, name: str, **more: str) -> None:
        """A process that is nobody's child."""
        self.children.append(subprocess.Popen([sys.executable, "-I", "-S", ACTOR, f"{self.base}/control", name],
                                              cwd=self.tree, env={**self.environment(), **more}))
        self.expect(name)

    def expect(self, name: str, replaces: str = "") -> None:
        """An actor that was just started says who it is."""
        self._patiently(self.listener, f"{name} does not come")
        connection = self.listener.accept()[0]
        said, pid, tid = connection.recv(4096).decode().split()
        assert said == name, (said, name)
        self.actors[name] = Actor(name, int(pid), int(tid), connection)
        self.names.setdefault(int(pid), name)
        if int(pid) not in self.pids:
            self.pids.add(int(pid))

    def _patiently(self, connection: socket.socket, what: str) -> None:
        if not select.select([connection], [], [], PATIENCE_S)[0]:
            raise Lost(what)

    def tell(self, name: str, command: str) -> None:
        self.actors[name].connection.send(command.encode())

    def answer(self, name: str) -> str:
        actor = self.actors[name]
        self._patiently(actor.connection, f"{name} does not answer")
        said = actor.connection.recv(4096).decode()
        if not said:
            raise Lost(f"{name} is gone")
        actor.waiting = ""
        words = said.split()
        if words[0] == "held" and int(words[4]) > 0:
            words[4] = self.names.get(int(words[4]), "a stranger")
        return " ".join(words)

    def settle(self, name: str) -> str | None:
        """An actor's answer; None: its call sleeps."""
        actor = self.actors[name]
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            # In this order: an answer that comes between the two is seen by the next round.
            sleeps = actor.sleeps()
            if actor.has_answer():
                return self.answer(name)
            if sleeps:
                return None
        raise Lost(f"{name} neither answers nor sleeps")

    def do(self, name: str, command: str) -> str:
        """A call that does not wait."""
        self.tell(name, command)
        words = command.split()
        verb = words[0]
        if verb == "exec":
            return self._exec(name, words[1])
        if verb == "send":
            return self._pass_on(name, words[2], words[3])
        said = self.answer(name)
        if verb in ("fork", "spawn") and said.startswith("child"):
            self.expect(words[1])
            return "ok"
        if verb == "thread":
            self.expect(words[1])
        return said

    def _exec(self, name: str, new: str) -> str:
        pid = self.actors[name].pid
        self._patiently(self.actors[name].connection, "exec")
        refused = self.actors[name].connection.recv(4096).decode()
        if refused:
            return refused
        for one in self.mates(pid):
            self.actors.pop(one).connection.close()
        self.expect(new)
        return "ok"

    def _pass_on(self, name: str, receiver: str, slot: str) -> str:
        """A descriptor goes through the controller's hands, which has no lock calls of its own."""
        self._patiently(self.actors[name].connection, "send")
        data, ancillary, _, _ = self.actors[name].connection.recvmsg(4096, socket.CMSG_SPACE(4))
        if not ancillary:
            return data.decode()
        fd = array.array("i", ancillary[0][2][:4])
        self.actors[receiver].connection.sendmsg(
            [f"take {slot}".encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fd)])
        os.close(fd[0])
        return self.answer(receiver)

    def mates(self, pid: int) -> list[str]:
        """The actors of one process."""
        return [name for name, actor in self.actors.items() if actor.pid == pid]

    def end(self, name: str, how: int) -> str:
        """Ends an actor's process, by SIGKILL or its own exit, and sees that it is gone."""
        pid = self.actors[name].pid
        handle = os.pidfd_open(pid)
        if how:
            os.kill(pid, how)
        else:
            self.tell(name, "exit")
        if not select.select([handle], [], [], PATIENCE_S)[0]:
            raise Lost(f"{name} does not end")
        os.close(handle)
        for one in self.mates(pid):
            self.actors.pop(one).connection.close()
        self.pids.discard(pid)
        return "ok"

    def interrupt(self, name: str, number: int) -> None:
        actor = self.actors[name]
        libc.syscall(SYS_TGKILL, actor.pid, actor.tid, number)

    def object_of(self, name: str, slot: str) -> int:
        """The inode behind a slot; 0: the slot is empty."""
        number = self.do(name, f"number {slot}")
        if not number.isdigit():
            return 0
        return os.stat(f"/proc/{self.actors[name].pid}/fd/{number}").st_ino

    def held(self, name: str, slot: str) -> set[tuple[str, int, int, str]]:
        """All locks of ranges on a slot's file, as /proc/locks shows them: type, first, last, holder."""
        inode = self.object_of(name, slot)
        found = set()
        with open("/proc/locks") as file:
            for line in file:
                words = line.split()
                if words[1] == "->" or words[1] == "FLOCK" or int(words[5].split(":")[2]) != inode:
                    continue
                last = -1 if words[7] == "EOF" else int(words[7])
                pid = int(words[4])
                found.add((words[3][0].lower(), int(words[6]), last, self.names.get(pid, str(pid))))
        return found

    def close(self) -> None:
        for pid in self.pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        for actor in self.actors.values():
            actor.connection.close()
        self.listener.close()
        for child in self.children:
            child.wait()


class Overlay(World):
    """The same files on a lower, with an upper over them."""

    def __init__(self, base: str, library: str) -> None:
        super().__init__(base)
        self.library = library

    def environment(self) -> dict[str, str]:
        options = f"lowerdir={self.tree},upperdir={self.base}/up,workdir={self.base}/work"
        return {**super().environment(), "LD_PRELOAD": self.library,
                "OVERLOCK": f"{options},target={self.tree},registry={self.base}/registry"}

    def left(self) -> list[str]:
        """Marks of contested origins, and copies on their way."""
        root = f"{self.base}/work/overlock"
        return [os.path.relpath(os.path.join(where, name), root) for folder in ("copyup", "contested")
                for where, _, files in os.walk(f"{root}/{folder}") for name in files]

    def content(self, name: str) -> str:
        """What the overlay shows."""
        upper = f"{self.base}/up/{name}"
        with open(upper if os.path.exists(upper) else f"{self.tree}/{name}") as file:
            return file.read()
