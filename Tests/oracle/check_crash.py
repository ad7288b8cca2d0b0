#!/usr/bin/env python3
"""Kills at every numbered step of what changes or watches something, and has `overlock check` look after it.

What a killed process left must be named, and with --repair be gone: then nothing is found any more, no folder for
what is on its way holds anything, and the tree can be read. At every other step the registry is lost as well.

    check_crash.py --library PATH --command PATH     (the library built with numbered steps, as in debug builds)
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile

STEPS_AT_MOST = 300
OPERATIONS = {
    "copy-up": "os.chmod('f', 0o600)",
    "copy-up of a group of links": "os.chmod('link1', 0o600)",
    "copy-up below a read-only directory": "os.chmod('closed/x', 0o600)",
    "watches": "c = ctypes.CDLL(None); i = c.inotify_init1(0); "
               "[c.inotify_add_watch(i, n, 4095) for n in (b'f', b'd')]",
    "create": "open('gone', 'w')",
    "mkdir": "os.mkdir('gonedir')",
    "symlink": "os.symlink('x', 'gone')",
    "link": "os.link('f', 'l')",
    "remove": "os.remove('f')",
    "remove of a group of links": "os.remove('link1'); os.remove('link2')",
    "rename over the last of a group of links": "os.remove('link1'); os.rename('f', 'link2')",
    "rmdir": "os.remove('d/x'); os.rmdir('d')",
    "rename": "os.rename('f', 'g')",
    "rename of a directory": "os.rename('d', 'e')",
    "remove while it is open": "o = open('f'); w = open('f', 'a'); w.write('x'); w.close(); os.remove('f')",
}


class World:
    def __init__(self, library):
        self.top = tempfile.mkdtemp(prefix="check-crash-")
        p = {n: os.path.join(self.top, n) for n in ("lower", "upper", "work", "registry")}
        for place in p.values():
            os.mkdir(place, 0o700)
        self.upper = p["upper"]
        self.lower, self.registry, self.work = p["lower"], p["registry"], os.path.join(p["work"], "overlock")
        for name in ("d", "gonedir", "closed"):
            os.mkdir(os.path.join(self.lower, name))
        for name in ("f", "gone", "d/x", "closed/x", "link1"):
            with open(os.path.join(self.lower, name), "w") as f:
                f.write("lower" * 1000)
        os.link(os.path.join(self.lower, "link1"), os.path.join(self.lower, "link2"))
        os.chmod(os.path.join(self.lower, "closed"), 0o500)
        self.options = (f"lowerdir={self.lower},upperdir={p['upper']},workdir={p['work']},"
                        f"target={self.lower},registry={self.registry}")
        self.environment = dict(os.environ, LD_PRELOAD=library, OVERLOCK=self.options)

    def run(self, code, step=None):
        environment = dict(self.environment, **({"OVERLOCK_STEP": str(step)} if step else {}))
        return subprocess.run([sys.executable, "-I", "-S", "-c", "import ctypes, os; " + code], cwd=self.lower,
                              env=environment, capture_output=True, text=True, timeout=60)

    def left(self):
        """What there is that nobody has on its way, or in use."""
        paths = [os.path.join(d, n) for d, directories, files in os.walk(self.work) for n in directories + files]
        staged = [p for p in paths if p.split("/")[-2] in ("0", "anchors", "watchers", "markers")]
        # Of a group that has lost all its names.
        if all(os.path.lexists(os.path.join(self.upper, n)) for n in ("link1", "link2")):
            staged += [p for p in paths if p.split("/")[-2] == "index" and os.stat(p).st_nlink == 1]
        return staged + [p for p in paths if p.split("/")[-2] == "moved" and "." in os.path.basename(p)]


def check(world, command, loses):
    """What is wrong with what is said, and whether anything was found."""
    if loses:
        shutil.rmtree(world.registry)
        os.mkdir(world.registry, 0o700)
    which = ["-o", world.options] if loses else ["--registry", world.registry]
    runs = [subprocess.run([command, "check", *which, *repair], capture_output=True, text=True, timeout=60)
            for repair in ([], ["--repair"], [])]
    problems = [f"standard error: {r.stderr.strip()}" for r in runs if r.stderr]
    statuses = [r.returncode for r in runs]
    if statuses not in ([0, 0, 0], [1, 1, 0]):
        problems.append(f"statuses {statuses}: {runs[1].stdout.strip()}")
    if world.left():
        problems.append(f"left: {world.left()}")
    after = world.run("[open(os.path.join(d, n)).read() for d, _, names in os.walk('.') for n in names]")
    # A symbolic link may be new, which leads nowhere.
    if after.returncode != 0 and "'./gone'" not in after.stderr:
        problems.append(f"cannot be read: {after.stderr.strip()[-200:]}")
    return problems, statuses[0] == 1


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--library", required=True)
    parser.add_argument("--command", required=True)
    arguments = parser.parse_args()
    kills = found = wrong = 0
    for name, code in OPERATIONS.items():
        for step in range(1, STEPS_AT_MOST):
            world = World(os.path.abspath(arguments.library))
            try:
                before = world.run("os.remove('gone'); os.rmdir('gonedir')")
                if before.returncode != 0:
                    sys.exit(f"cannot begin: {before.stderr}")
                status = world.run(code, step).returncode
                if status == 0:
                    break
                if status != -9:
                    sys.exit(f"{name} ends with {status} at step {step}")
                problems, any_left = check(world, os.path.abspath(arguments.command), step % 2 == 0)
            finally:
                os.chmod(os.path.join(world.lower, "closed"), 0o700)
                shutil.rmtree(world.top)
            kills += 1
            found += any_left
            wrong += bool(problems)
            for problem in problems:
                print(f"{name}, killed at step {step}: {problem}")
        else:
            sys.exit(f"{name}: still killed at step {STEPS_AT_MOST}")
        if step == 1:
            sys.exit(f"{name} has no step: is the library a debug build?")
    print(f"{kills} kills, {found} with something left, {wrong} wrong")
    # Without leftovers nothing was tested.
    sys.exit(wrong > 0 or found == 0)


if __name__ == "__main__":
    main()
