"""Whose locks count: holders and askers in overlays and outside of them, one scenario after the other.

  whose.py hold KIND PATH ACCESS TYPE   one holder: says what came of it, and holds until its input ends
  whose.py SCENARIO…                    prints a line for each kind of lock: what came of every attempt

The environment has OVERLOCK_A and OVERLOCK_B, the options of two overlays, LIBRARY, and the files of each
scenario: LOWER, as outsiders reach it; A and B, the targets.
"""

import errno
import fcntl
import os
import struct
import subprocess
import sys
import time

KINDS = "flock", "record", "description"
GROUP, USERS = 12300, (12345, 12346)
F_OFD_SETLK = 37


def lock(kind, fd, type_):
    if kind == "flock":
        fcntl.flock(fd, (fcntl.LOCK_SH if type_ == "r" else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        return
    words = struct.pack("hhqqi4x", fcntl.F_RDLCK if type_ == "r" else fcntl.F_WRLCK, 0, 0, 0, 0)
    fcntl.fcntl(fd, fcntl.F_SETLK if kind == "record" else F_OFD_SETLK, words)


def hold(kind, path, access, type_):
    fd = os.open(path, os.O_RDONLY if access == "r" else os.O_RDWR)
    print("open", flush=True)
    for _ in sys.stdin:
        try:
            lock(kind, fd, type_)
            print("ok", flush=True)
        except OSError as error:
            print(errno.errorcode[error.errno], flush=True)


class Holder:
    """A process that has the file open. Record locks of a reader can only be for reading."""

    def __init__(self, kind, where, name, access, user=None):
        type_ = "r" if access == "r" and kind != "flock" else "w"
        environment = dict(os.environ)
        if where in "AB":
            environment["OVERLOCK"] = os.environ["OVERLOCK_" + where]
            environment["LD_PRELOAD"] = os.environ["LIBRARY"]
        root = os.environ[where] if where in "AB" else os.environ["LOWER"]
        # What its end is seen by: of FUSE the kernel says only that it will be told.
        self.lower = os.path.join(os.environ["LOWER"], name) if kind == "flock" and access == "r" else None
        self.has_it = False
        become = ["setpriv", "--reuid", str(user), "--regid", str(GROUP), "--clear-groups"] if user else []
        self.process = subprocess.Popen(
            [*become, sys.executable, os.path.abspath(__file__), "hold", kind, os.path.join(root, name), access, type_],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        assert self.process.stdout.readline() == "open\n"

    def lock(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        result = self.process.stdout.readline().strip() or "died"
        self.has_it |= result == "ok"
        return result

    def end(self):
        before = self.seen()
        self.process.stdin.close()
        self.process.wait()
        deadline = time.monotonic() + 10
        while self.has_it and before and self.seen() >= before:
            assert time.monotonic() < deadline, "a lock stays"

    def seen(self):
        """How many flocks there are on the file of the lower."""
        if self.lower is None:
            return 0
        inode = f":{os.stat(self.lower).st_ino} "
        with open("/proc/locks") as locks:
            return sum(inode in line and " FLOCK " in line for line in locks)


def outsider_before(kind, name):
    outsider = Holder(kind, "outside", name, "w")
    results = [outsider.lock()]
    asker = Holder(kind, "A", name, "w")
    results.append(asker.lock())
    outsider.end()
    results.append(asker.lock())
    asker.end()
    return results


def outsider_after(kind, name):
    asker = Holder(kind, "A", name, "w")
    outsider = Holder(kind, "outside", name, "w")
    results = [outsider.lock(), asker.lock()]
    outsider.end()
    results.append(asker.lock())
    asker.end()
    return results


def reader_of_the_overlay(kind, name):
    reader = Holder(kind, "A", name, "r")
    results = [reader.lock()]
    writer = Holder(kind, "A", name, "w")
    results.append(writer.lock())
    reader.end()
    results.append(writer.lock())
    late = Holder(kind, "A", name, "w")
    results.append(late.lock())
    writer.end()
    results.append(late.lock())
    late.end()
    return results


def two_users(kind, name):
    """With an upper in common, and nothing in shared memory."""
    reader = Holder(kind, "A", name, "r", USERS[0])
    results = [reader.lock()]
    writer = Holder(kind, "A", name, "w", USERS[1])
    results.append(writer.lock())
    reader.end()
    results.append(writer.lock())
    late = Holder(kind, "A", name, "w", USERS[0])
    results.append(late.lock())
    writer.end()
    results.append(late.lock())
    late.end()
    return results


def two_overlays(kind, name):
    """Neither has copied it up: both are on the lower."""
    a, b = Holder(kind, "A", name, "r"), Holder(kind, "B", name, "r")
    outsider = Holder(kind, "outside", name, "w")
    results = [a.lock(), outsider.lock()]
    if kind == "flock":
        results.append(b.lock())
    a.end()
    results += [b.lock(), outsider.lock()]
    b.end()
    results.append(outsider.lock())
    outsider.end()
    return results


def one_copied_it_up(kind, name):
    a = Holder(kind, "A", name, "w")
    b = Holder(kind, "B", name, "r")
    results = [b.lock(), a.lock()]
    b.end()
    results.append(a.lock())
    a.end()
    return results


def both_copied_it_up(kind, name):
    a, b = Holder(kind, "A", name, "w"), Holder(kind, "B", name, "w")
    results = [a.lock(), b.lock()]
    a.end()
    b.end()
    return results


if __name__ == "__main__":
    if sys.argv[1] == "hold":
        hold(*sys.argv[2:])
    else:
        for scenario in sys.argv[1:]:
            for kind in KINDS:
                results = globals()[scenario](kind, f"{scenario}.{kind}")
                print(scenario, kind, *results, flush=True)
