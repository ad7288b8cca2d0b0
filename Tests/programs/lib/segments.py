"""One overlay whose programs do not share a registry segment: the same as a plain directory.

  segments.py WORLD SEED STEPS LIBRARY SCRATCH     a random run; `plain` as the library: without an overlay
  segments.py act                                  one of the actors

Two actors take turns at random operations, in an overlay and, beside it, in a plain directory; every answer
has to be the same. What one of them learned, the other one makes untrue: names, working directories, descriptors
that lock. WORLD says why the segments differ:

  registries  another registry= each
  users       two users with one group, and a /dev/shm folder each
  mounts      another /dev/shm each
  nowhere     the second one has no place for a segment
  removed     the segment is removed under the running programs, which start others
  wiped       the page in which the segments meet is overwritten, with zeros or noise
"""

import errno
import fcntl
import json
import os
import random
import shutil
import stat
import struct
import subprocess
import sys

GROUP, USERS = 12300, (12345, 12346)


class Actor:
    """Carries operations out, in this process."""

    def __init__(self):
        self.root = os.getcwd()
        self.descriptors = {}

    def read(self, path):
        with open(path) as file:
            return file.read()

    def write(self, path, text):
        with open(path, "w") as file:
            file.write(text)

    def append(self, path, text):
        with open(path, "a") as file:
            file.write(text)

    def create(self, path):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o664))

    def look(self, path):
        s = os.lstat(path)
        return [stat.S_IFMT(s.st_mode), s.st_size if stat.S_ISREG(s.st_mode) else 0]

    def list(self, path):
        return sorted(os.listdir(path))

    def unlink(self, path):
        os.unlink(path)

    def mkdir(self, path):
        os.mkdir(path, 0o775)

    def rmdir(self, path):
        os.rmdir(path)

    def rename(self, old, new):
        os.rename(old, new)

    def symlink(self, text, path):
        os.symlink(text, path)

    def chmod(self, path, mode):
        os.chmod(path, mode)

    def mode(self, path):
        return os.stat(path).st_mode & 0o777

    def enter(self, path):
        os.chdir(os.path.join(self.root, path))

    def here(self):
        return os.path.relpath(os.getcwd(), self.root)

    def open(self, slot, path, writable):
        fd = os.open(path, os.O_RDWR if writable else os.O_RDONLY)
        self.close(slot)
        self.descriptors[slot] = fd

    def close(self, slot):
        if slot in self.descriptors:
            os.close(self.descriptors.pop(slot))

    def flock(self, slot, operation):
        fcntl.flock(self.descriptors[slot], operation | fcntl.LOCK_NB)

    def record(self, slot, kind, start, length):
        words = struct.pack("hhqqi4x", kind, 0, start, length, 0)
        fcntl.fcntl(self.descriptors[slot], fcntl.F_SETLK, words)

    def child(self, path):
        """What a program that starts now sees."""
        return subprocess.run(
            ["sh", "-c", 'for i in "$1"/*; do [ -d "$i" ] && echo "$i/" || echo "$i"; done', "sh", path],
            capture_output=True, text=True, check=False).stdout.split("\n")

    def answer(self, call):
        try:
            outward = any(str(word).split("/")[0] == ".." for word in call[1:])
            if outward and (call[0] == "enter" or os.getcwd() == self.root):
                return "outside"
            return getattr(self, call[0])(*call[1:])
        except OSError as error:
            return errno.errorcode.get(error.errno, error.errno)
        except KeyError:
            return "no descriptor"


def act():
    os.umask(0o002)
    actor = Actor()
    for line in sys.stdin:
        print(json.dumps(actor.answer(json.loads(line))), flush=True)


class Remote:
    def __init__(self, directory, command, environment):
        self.process = subprocess.Popen(
            [*command, sys.executable, os.path.abspath(__file__), "act"], cwd=directory,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment})

    def __call__(self, call):
        self.process.stdin.write(json.dumps(call) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        return json.loads(line) if line else f"died: {self.process.wait()}"

    def end(self):
        self.process.stdin.close()
        self.process.wait()


class Chooser:
    """Operations that often meet: few names, and what was there before."""

    def __init__(self, rng, owners):
        self.rng = rng
        self.owners = owners
        self.seen = ["a", "b", "c", "a/f", "b/f", "c/d/f", "c/d"]

    def path(self):
        if self.rng.random() < 0.7:
            return self.rng.choice(self.seen)
        parts = [self.rng.choice("abcd") for _ in range(self.rng.randint(0, 2))]
        path = "/".join([*parts, self.rng.choice("abcdfg")])
        self.seen = [*self.seen, path][-24:]
        return path

    def __call__(self):
        rng = self.rng
        p, q = self.path(), self.path()
        if rng.random() < 0.1:
            p = rng.choice(("f", "../f", "d", ".."))
        calls = [
            (6, ["read", p]), (4, ["write", p, "w%d\n" % rng.randint(0, 99)]), (3, ["append", p, "more\n"]),
            (3, ["create", p]), (10, ["look", p]), (5, ["list", rng.choice((".", p, os.path.dirname(p) or "."))]),
            (4, ["unlink", p]), (3, ["mkdir", p]), (2, ["rmdir", p]), (6, ["rename", p, q]),
            (1, ["symlink", rng.choice("abc"), p]), (2, ["enter", rng.choice((".", "a", "b", "c", "c/d", p))]),
            (2, ["here"]), (3, ["open", rng.randint(0, 2), p, rng.random() < 0.5]), (1, ["close", rng.randint(0, 2)]),
            (4, ["flock", rng.randint(0, 2), rng.choice((fcntl.LOCK_SH, fcntl.LOCK_EX, fcntl.LOCK_UN))]),
            (4, ["record", rng.randint(0, 2), rng.choice((fcntl.F_RDLCK, fcntl.F_WRLCK, fcntl.F_UNLCK)),
                 rng.randint(0, 3), rng.randint(0, 3)]),
            (1, ["child", "."]),
        ]
        # Without root a copy is its maker's, and nobody else's to change (README, Limits).
        if self.owners == 1:
            calls += [(1, ["chmod", p, rng.choice((0o644, 0o664, 0o755, 0o775))]), (2, ["mode", p])]
        return rng.choices([c for _, c in calls], [w for w, _ in calls])[0]


def tree(path):
    for directory in ("a", "b", "c", "c/d"):
        os.mkdir(os.path.join(path, directory))
    for name in ("a/f", "a/g", "b/f", "c/d/f", "f", "g"):
        with open(os.path.join(path, name), "w") as file:
            file.write(name + "\n")


class Stage:
    """An overlay over one of two equal trees, and how an actor comes to be in either."""

    def __init__(self, world, library, scratch):
        self.world, self.library, self.scratch = world, library, scratch
        self.made = []
        # Every object gets its mode from here, whatever the caller's umask.
        os.umask(0o002)
        for name in ("plain", "merged", "upper", "work"):
            os.mkdir(self.at(name))
        # A file: no place for a registry.
        with open(self.at("nowhere"), "w"):
            pass
        tree(self.at("plain"))
        tree(self.at("merged"))
        if world == "users":
            for name in ("plain", "merged", "upper", "work"):
                for folder, _, files in os.walk(self.at(name)):
                    for path in (folder, *(os.path.join(folder, f) for f in files)):
                        os.chown(path, USERS[0], GROUP)

    def at(self, *names):
        return os.path.join(self.scratch, *names)

    def registry(self, number):
        folder = f"/dev/shm/overlock-segments.{os.getpid()}.{number}"
        if folder not in self.made:
            os.mkdir(folder, 0o700)
            self.made.append(folder)
            if self.world == "users":
                os.chown(folder, USERS[number], GROUP)
        return folder

    def command(self, number):
        if self.world == "users":
            return ["setpriv", "--reuid", str(USERS[number]), "--regid", str(GROUP), "--clear-groups"]
        if self.world == "mounts":
            return ["unshare", "-m", "sh", "-c", 'mount -t tmpfs tmpfs /dev/shm && exec "$@"', "sh"]
        return []

    def environment(self, number):
        options = "lowerdir={0},upperdir={1},workdir={2},target={0}".format(
            self.at("merged"), self.at("upper"), self.at("work"))
        if self.world in ("registries", "users"):
            options += f",registry={self.registry(number)}"
        elif self.world == "nowhere" and number == 1:
            options += f",registry={self.at('nowhere', 'none')}"
        elif self.world != "mounts":
            options += f",registry={self.registry(0)}"
        return {"OVERLOCK": options, "LD_PRELOAD": self.library}

    def actors(self, number):
        """The one in the plain directory and the one in the overlay."""
        command = self.command(number)
        if self.library == "plain":
            return [Remote(self.at("plain"), command, {}), Remote(self.at("merged"), command, {})]
        # Only the actor itself is to be in the overlay.
        inside = ["env", *(f"{k}={v}" for k, v in self.environment(number).items())]
        return [Remote(self.at("plain"), command, {}), Remote(self.at("merged"), [*command, *inside], {})]

    def disturb(self, rng):
        """True: programs that start from now on are in another segment."""
        if self.world == "removed" and self.library != "plain":
            for name in os.listdir(self.registry(0)):
                os.unlink(os.path.join(self.registry(0), name))
            return True
        words = self.at("work", "overlock", "words")
        if self.world == "wiped" and os.path.exists(words):
            size = os.path.getsize(words)
            with open(words, "r+b") as file:
                file.write(bytes(size) if rng.random() < 0.5 else rng.randbytes(size))
            return rng.random() < 0.5
        return False

    def end(self):
        for folder in self.made:
            shutil.rmtree(folder, ignore_errors=True)


def run(world, seed, steps, library, scratch):
    rng = random.Random(f"{world} {seed}")
    stage = Stage(world, library, scratch)
    chooser = Chooser(rng, 2 if world == "users" else 1)
    pairs = [stage.actors(0), stage.actors(1)]
    log = []
    try:
        for step in range(steps):
            number = rng.randint(0, 1)
            if rng.random() < 0.02 and stage.disturb(rng):
                log.append("-- disturbed: another one starts")
                for actor in pairs[1]:
                    actor.end()
                pairs[1] = stage.actors(1)
            call = chooser()
            plain, merged = (actor(call) for actor in pairs[number])
            log.append(f"{number} {call} -> {plain}")
            if plain != merged:
                print("\n".join(log[-40:]))
                print(f"{world}, seed {seed}, step {step}: plain {plain}, overlay {merged}")
                print(f"again: segments.py {world} {seed} {steps} {library} SCRATCH")
                return 1
    finally:
        for pair in pairs:
            for actor in pair:
                actor.end()
        stage.end()
    return 0


if __name__ == "__main__":
    if sys.argv[1] == "act":
        act()
    else:
        sys.exit(run(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4], sys.argv[5]))
