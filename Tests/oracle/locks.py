#!/usr/bin/env python3
"""Random schedules of lock calls over several processes, in a plain directory and in an overlay whose lower
has the files: every answer must be the same, whatever is copied up in between.

    locks.py --library LIB [--seed N] [--seeds N] [--steps N] [--verbose]

A schedule is steps of one process at a time: open, dup, close, flock, fcntl's two kinds of locks, F_GETLK,
and calls that copy a file up. Nothing waits: a wait is tried where its outcome is known (Tests/programs).
"""

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile

CHILD = r"""
import errno, fcntl, os, struct, sys

fds = {}
names = {}
TYPES = {"r": fcntl.F_RDLCK, "w": fcntl.F_WRLCK, "u": fcntl.F_UNLCK}
MODES = {"r": os.O_RDONLY, "rw": os.O_RDWR, "a": os.O_WRONLY | os.O_APPEND}
OPERATIONS = {"s": fcntl.LOCK_SH, "x": fcntl.LOCK_EX, "u": fcntl.LOCK_UN}
F_OFD_SETLK = 37


def request(kind, whence, start, length):
    return struct.pack("hhqqi4x", TYPES[kind], int(whence), int(start), int(length), 0)


def perform(words):
    verb = words[0]
    if verb == "open":
        fds[words[1]] = os.open(words[2], MODES[words[3]])
    elif verb == "close":
        os.close(fds.pop(words[1]))
    elif verb == "dup":
        fds[words[2]] = os.dup(fds[words[1]])
    elif verb == "seek":
        os.lseek(fds[words[1]], int(words[2]), os.SEEK_SET)
    elif verb == "flock":
        fcntl.flock(fds[words[1]], OPERATIONS[words[2]] | fcntl.LOCK_NB)
    elif verb == "record":
        fcntl.fcntl(fds[words[1]], fcntl.F_SETLK, request(*words[2:]))
    elif verb == "description":
        fcntl.fcntl(fds[words[1]], F_OFD_SETLK, request(*words[2:]))
    elif verb == "ask":
        kind, _, start, length, pid = struct.unpack(
            "hhqqi4x", fcntl.fcntl(fds[words[1]], fcntl.F_GETLK, request(*words[2:])))
        if kind == fcntl.F_UNLCK:
            return "free"
        return f"held {kind} {start} {length} {names.get(pid, pid)}"
    elif verb == "write":
        os.write(fds[words[1]], b"x")
    elif verb == "chmod":
        os.chmod(words[1], int(words[2], 8))
    elif verb == "pid":
        return str(os.getpid())
    elif verb == "names":
        names.update({int(word.split("=")[1]): word.split("=")[0] for word in words[1:]})
    return "ok"


for line in sys.stdin:
    try:
        answer = perform(line.split())
    except OSError as error:
        answer = errno.errorcode[error.errno]
    except KeyError:
        answer = "none"
    print(answer, flush=True)
"""


class Process:
    def __init__(self, directory, environment):
        self.child = subprocess.Popen(
            [sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            cwd=directory, env=environment)

    def do(self, command):
        self.child.stdin.write(command + "\n")
        self.child.stdin.flush()
        return self.child.stdout.readline().strip()

    def end(self):
        self.child.stdin.close()
        self.child.wait()


def schedule(seed, steps):
    r = random.Random(seed)
    processes = r.randint(2, 4)
    kinds = r.choice([["flock"], ["record", "ask"], ["description", "ask"],
                      ["flock", "record", "description", "ask"]])
    known = set()
    result = []

    def bind(process, name):
        if (process, name) in known:
            result.append((process, f"close {name}"))
        known.add((process, name))

    for process in range(processes):
        bind(process, "a")
        result.append((process, f"open a {r.choice('ffg')} {r.choice(['r', 'r', 'r', 'rw'])}"))
    while len(result) < steps:
        process, name, chance = r.randrange(processes), r.choice("abcd"), r.random()
        if chance < 0.10:
            bind(process, name)
            result.append((process, f"open {name} {r.choice('ffg')} {r.choice(['r', 'r', 'rw', 'a'])}"))
        elif chance < 0.14:
            known.discard((process, name))
            result.append((process, f"close {name}"))
        elif chance < 0.17:
            other = r.choice("abcd")
            if other != name and (process, name) in known:
                bind(process, other)
                result.append((process, f"dup {name} {other}"))
        elif chance < 0.19:
            result.append((process, f"chmod {r.choice('fg')} 64{r.randint(0, 6)}"))
        elif chance < 0.21:
            result.append((process, f"write {name}"))
        elif chance < 0.23:
            result.append((process, f"seek {name} {r.randint(0, 6)}"))
        else:
            kind = r.choice(kinds)
            if kind == "flock":
                result.append((process, f"flock {name} {r.choice('sxxuu')}"))
                continue
            whence = r.choice([0, 0, 0, 0, 1, 2])
            start = r.randint(0, 8) if whence < 2 else r.randint(-4, 2)
            length = r.choice([0, 1, 3, 5, -1])
            type_ = r.choice("rw") if kind == "ask" else r.choice("rrwwu")
            result.append((process, f"{kind} {name} {type_} {whence} {start} {length}"))
    return processes, result


def run(world, library, count, steps, scratch):
    base = os.path.join(scratch, world)
    shutil.rmtree(base, ignore_errors=True)
    for folder in ("low", "up", "work"):
        os.makedirs(os.path.join(base, folder))
    tree = os.path.join(base, "low")
    for name in "fg":
        with open(os.path.join(tree, name), "w") as file:
            file.write("twenty bytes of data")
    environment = {k: v for k, v in os.environ.items() if k not in ("OVERLOCK", "LD_PRELOAD")}
    if world == "overlay":
        environment["LD_PRELOAD"] = library
        environment["OVERLOCK"] = (
            f"lowerdir={tree},upperdir={base}/up,workdir={base}/work,target={tree},registry={scratch}/registry")
    processes = [Process(tree, environment) for _ in range(count)]
    pids = " ".join(f"P{i}={process.do('pid')}" for i, process in enumerate(processes))
    for process in processes:
        process.do("names " + pids)
    answers = [processes[i].do(command) for i, command in steps]
    for process in processes:
        process.end()
    return answers


def same(command, plain, overlay):
    if plain == overlay:
        return True
    # Of several locks in the way F_GETLK shows one, and which is not said anywhere.
    return command.startswith("ask") and plain.startswith("held") and overlay.startswith("held")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--library", required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    library = os.path.realpath(options.library)
    passed = failed = 0
    with tempfile.TemporaryDirectory(prefix="overlock-locks-") as scratch:
        os.mkdir(os.path.join(scratch, "registry"), 0o700)
        for seed in range(options.seed, options.seed + options.seeds):
            count, steps = schedule(seed, options.steps)
            plain = run("plain", library, count, steps, scratch)
            overlay = run("overlay", library, count, steps, scratch)
            wrong = next((i for i, (_, command) in enumerate(steps)
                          if not same(command, plain[i], overlay[i])), None)
            if wrong is None:
                passed += 1
                continue
            failed += 1
            process, command = steps[wrong]
            print(f"seed {seed}: step {wrong}, P{process} {command}: plain {plain[wrong]}, overlay {overlay[wrong]}")
            if options.verbose:
                for i in range(wrong + 1):
                    print(f"  P{steps[i][0]} {steps[i][1]}: {plain[i]} | {overlay[i]}")
    print(f"{passed} passed, {failed} failed, 0 skipped")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
