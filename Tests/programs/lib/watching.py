"""A watcher of files, for the checks of watches. Commands: see the functions at the end."""

import ctypes
import fcntl
import os
import resource
import select
import signal
import struct
import subprocess
import sys

EVENTS = {1: "ACCESS", 2: "MODIFY", 4: "ATTRIB", 8: "CLOSE_WRITE", 16: "CLOSE_NOWRITE", 32: "OPEN",
          0x40: "MOVED_FROM", 0x80: "MOVED_TO", 0x100: "CREATE", 0x200: "DELETE", 0x400: "DELETE_SELF", 0x800: "MOVE_SELF", 0x4000: "OVERFLOW", 0x8000: "IGNORED"}
libc = ctypes.CDLL(None, use_errno=True)


class Watcher:
    def __init__(self, flags=os.O_NONBLOCK):
        self.fd = libc.inotify_init1(flags)

    def add(self, path, mask=0xfff):
        wd = libc.inotify_add_watch(self.fd, path.encode(), ctypes.c_uint32(mask))
        if wd < 0:
            sys.exit(f"{path}: {os.strerror(ctypes.get_errno())}")
        return wd

    def events(self):
        """What there is, as (wd, words); equal neighbours merged."""
        seen = []
        while True:
            try:
                data = os.read(self.fd, 4096)
            except BlockingIOError:
                return seen
            seen += [e for e in parse(data) if not seen or seen[-1] != e]


def parse(data):
    seen, at = [], 0
    while at < len(data):
        wd, mask, _, length = struct.unpack_from("iIII", data, at)
        name = data[at + 16:at + 16 + length].rstrip(b"\0").decode()
        at += 16 + length
        seen.append((wd, "|".join([n for bit, n in EVENTS.items() if mask & bit] + [name] * bool(name))))
    return seen


def other(command):
    """Another process, through the overlay."""
    subprocess.run(["sh", "-c", command], check=True)


def told(*steps):
    """What a watcher of README is told of each step."""
    w = Watcher()
    w.add("README")
    for step in steps:
        other(step)
        print(step, "->", " ".join(e for _, e in w.events()))


def serve(name, mask="0xfff"):
    """For each line of the input one with the events since the last; ends at a line "end"."""
    w = Watcher()
    w.add(name, int(mask, 0))
    for line in sys.stdin:
        if line == "end\n":
            break
        print(" ".join(e for _, e in w.events()), flush=True)


def waits(command):
    """A read that waits, which housekeeping alone must not end; in a child of the one who set the watch."""
    w = Watcher(0)
    w.add("README", 2)
    if os.fork() == 0:
        os.close(os.open("README", os.O_RDONLY))
        writer = subprocess.Popen(["sh", "-c", command])
        print(parse(os.read(w.fd, 4096))[0][1], flush=True)
        writer.wait()
        os._exit(0)
    os.close(w.fd)
    os.wait()


def ready():
    """poll and select end for what read returns, and for nothing else."""
    w = Watcher(0)
    w.add("README", 2)
    poll = select.poll()
    poll.register(w.fd, select.POLLIN)
    other("chmod 600 README")
    print(poll.poll(100), select.select([w.fd], [], [], 0.1))
    other("echo more >>README")
    print(len(poll.poll()), len(select.select([w.fd], [], [])[0]), len(poll.poll(0)))
    print(parse(os.read(w.fd, 4096)), poll.poll(0), select.select([w.fd], [], [], 0))
    r, w2 = os.pipe()
    os.write(w2, b"a")
    other("cat README >/dev/null; mv src/u1.c README")
    print(select.select([r, w.fd], [w2], [], 1) == ([r], [w2], []))


def by_number():
    """The same of the system calls by their numbers (syscall(2), x86_64), with and without a signal mask."""
    w = Watcher(0)
    w.add("README", 2)
    poll = struct.pack("iHH", w.fd, select.POLLIN, 0)
    e = select.epoll()
    e.register(w.fd, select.EPOLLIN)
    soon, mask = struct.pack("qq", 0, 10**8), struct.pack("Q", 1 << 9)
    fds = ctypes.create_string_buffer(128)

    def call(number, *arguments):
        answer = libc.syscall(ctypes.c_long(number), *(
            ctypes.c_long(a) if isinstance(a, int) else a for a in arguments))
        return answer if answer >= 0 else os.strerror(ctypes.get_errno())

    def all_of():
        for with_mask in (None, mask):
            size = 8 if with_mask else 0
            pair = ctypes.create_string_buffer(mask)
            both = struct.pack("QQ", ctypes.addressof(pair), 8) if with_mask else None
            yield call(7, ctypes.create_string_buffer(poll), 1, 100)
            yield call(271, ctypes.create_string_buffer(poll), 1, ctypes.create_string_buffer(soon), with_mask, size)
            for select_number, time, last in (23, struct.pack("qq", 0, 10**5), None), (270, soon, both):
                ctypes.memset(fds, 0, 128)
                fds[w.fd // 8] = bytes([1 << w.fd % 8])
                yield call(select_number, w.fd + 1, fds, None, None, ctypes.create_string_buffer(time), last)
            events = ctypes.create_string_buffer(64)
            yield call(232, e.fileno(), events, 4, 100)
            yield call(281, e.fileno(), events, 4, 100, with_mask, size)
            yield call(441, e.fileno(), events, 4, ctypes.create_string_buffer(soon), with_mask, size)

    other("chmod 600 README")
    print(list(all_of()))
    other("echo more >>README")
    print(list(all_of()))
    print(call(271, ctypes.create_string_buffer(poll), 1, None, mask, 7),
          call(281, e.fileno(), ctypes.create_string_buffer(64), 4, 0, ctypes.c_void_p(8), 8))


def epoll():
    """The same of epoll: by level, by edge and once, of an instance whose reads wait."""
    for kind, name in (0, "README"), (select.EPOLLET, "src/u4.c"), (select.EPOLLONESHOT, "src/u5.c"):
        w, e = Watcher(0), select.epoll()
        w.add(name, 2)
        r, w2 = os.pipe()
        e.register(w.fd, select.EPOLLIN | kind)
        e.register(r, select.EPOLLIN)
        names = {w.fd: "watch", r: "pipe"}

        def wait(seconds, e=e, names=names):
            return sorted((names[fd], what) for fd, what in e.poll(seconds))

        other(f"chmod 600 {name}")
        print(kind, wait(0.1))
        other(f"cat {name} >/dev/null")
        os.write(w2, b"a")
        print(wait(10))
        os.read(r, 1)
        writer = subprocess.Popen(["sh", "-c", f"chmod 640 {name}; echo more >>{name}"])
        print(wait(10))
        writer.wait()
        # A look that others take does not make it less ready.
        print(select.select([w.fd], [], [], 0)[0] == [w.fd])
        print(wait(0) if kind == 0 else "")
        print(parse(os.read(w.fd, 4096)), select.select([w.fd], [], [], 0))
        print(wait(0))
        if kind == select.EPOLLONESHOT:
            e.modify(w.fd, select.EPOLLIN | kind)
        other(f"touch {name}; echo more >>{name}")
        print(wait(10), parse(os.read(w.fd, 4096)))
        other(f"cp {name} new; mv new {name}")
        print(wait(0))
        os.close(w.fd)


def nowhere():
    """poll and select with pointers that lead nowhere, more entries than there may be, and what they may not write."""
    w = Watcher()
    w.add("README")
    at, size = ctypes.c_void_p, ctypes.c_long
    libc.mmap.restype, libc.mmap.argtypes = at, [at, size] + [ctypes.c_int] * 3 + [size]
    # Two pages, of which the second is closed; and one that is read alone.
    pages = libc.mmap(None, 8192, 3, 0x22, -1, 0)
    libc.mprotect(at(pages + 4096), size(4096), 0)
    entry, word = struct.pack("ihh", w.fd, select.POLLIN, 0), struct.pack("Q", 1 << w.fd)
    read_only = libc.mmap(None, 4096, 3, 0x22, -1, 0)
    second = libc.mmap(None, 4096, 3, 0x22, -1, 0)
    ctypes.memmove(pages, entry * 512, 4096)
    ctypes.memmove(read_only, entry, 8)
    ctypes.memmove(second, word, 8)
    for page in read_only, second:
        libc.mprotect(at(page), size(4096), 1)
    one, none, many = ctypes.create_string_buffer(entry), None, ctypes.c_ulong
    words, still = ctypes.create_string_buffer(word, 128), (size * 2)()
    calls = {}
    for name, bad in {"low": 16, "closed": pages + 4096, "kernel": 0xffff800000000000, "end": 2**64 - 8}.items():
        calls |= {f"poll {name}": lambda bad=bad: libc.poll(at(bad), many(1), 0),
                  f"ppoll {name}": lambda bad=bad: libc.ppoll(at(bad), many(1), still, None),
                  f"select {name}": lambda bad=bad: libc.select(w.fd + 1, at(bad), none, none, still),
                  f"select others {name}": lambda bad=bad: libc.select(w.fd + 1, words, at(bad), none, still),
                  f"pselect {name}": lambda bad=bad: libc.pselect(w.fd + 1, words, none, at(bad), still, none)}
    calls |= {"poll into closed": lambda: libc.poll(at(pages), many(513), 0),
              "poll read-only": lambda: libc.poll(at(read_only), many(1), 0),
              "select read-only": lambda: libc.select(w.fd + 1, at(second), none, none, still),
              "poll many": lambda: libc.poll(one, many(1 << 30), 0),
              "poll all": lambda: libc.poll(one, many(2**64 - 1), 0),
              "ppoll many": lambda: libc.ppoll(one, many(1 << 30), still, None),
              "select none": lambda: libc.select(-1, words, none, none, still)}
    for name, call in calls.items():
        ctypes.set_errno(0)
        print(name, call(), os.strerror(ctypes.get_errno()), flush=True)
    print(libc.poll(one, many(1), 0))


def again():
    """Two watchers, one of them from before the copy-up; the watch of one path is one watch."""
    first = Watcher()
    wd = first.add("README")
    other("echo more >>README")
    second = Watcher()
    second.add("README")
    print(first.add("README", 6) == wd, len(first.events()) > 0)
    other("echo more >>README; chmod 600 README; cat README >/dev/null")
    print([e for _, e in first.events()], [e for _, e in second.events()])
    print(libc.inotify_rm_watch(first.fd, wd), first.events() == [(wd, "IGNORED")],
          libc.inotify_rm_watch(first.fd, wd))


def buffers():
    """Reads through every function, with room for less than an event, for one, and for many."""
    w = Watcher()
    w.add("README")
    other("echo more >>README; cat README >/dev/null")
    for size in (0, 1, 15):
        try:
            os.read(w.fd, size)
        except OSError as e:
            print(size, os.strerror(e.errno))
    print(parse(os.read(w.fd, 16)), os.readv(w.fd, [bytearray(16), bytearray(16)]))
    print(parse(os.read(w.fd, 4096)))
    buffer = ctypes.create_string_buffer(64)
    other("cat README >/dev/null")
    print(libc.syscall(0 if os.uname().machine == "x86_64" else 63, w.fd, buffer, 64))
    copy = os.dup(w.fd)
    os.close(w.fd)
    other("chmod 600 README")
    print([e for _, e in parse(os.read(copy, 64))])


def killed(count):
    """Each of many files is copied up by processes that are killed; whoever comes last is seen whole."""
    w, wrong = Watcher(), 0
    for i in range(1, int(count) + 1):
        name = f"many/{i}.txt"
        wd = w.add(name)
        for _ in range(3):
            pid = os.fork()
            if pid == 0:
                os.write(os.open(name, os.O_WRONLY | os.O_APPEND), b"killed\n")
                os.kill(os.getpid(), signal.SIGKILL)
            for _ in range(i * 37 % 4000):
                pass
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        w.events()
        fd = os.open(name, os.O_WRONLY | os.O_APPEND)
        os.write(fd, b"whole\n")
        os.close(fd)
        os.rename(name, name + "x")
        os.unlink(name + "x")
        want = [(wd, e) for e in
                "OPEN MODIFY CLOSE_WRITE MOVE_SELF ATTRIB DELETE_SELF IGNORED".split()]
        got = w.events()
        if got != want:
            wrong += 1
            print(name, got)
    print(f"{wrong} of {count} wrong")


def older():
    """Who reads through a descriptor from before the copy-up is seen to read, and to do nothing else."""
    fd = os.open("README", os.O_RDONLY)
    w, opens, other_file = Watcher(), Watcher(), Watcher()
    w.add("README")
    opens.add("README", 0x20), other_file.add("big")
    other("echo more >>README; echo more >>big")

    def say(what):
        print(what, *(e for _, e in w.events()), "| opens:", *(e for _, e in opens.events()),
              "| other:", *(e for _, e in other_file.events()))

    say("copied up")
    os.pread(fd, 1, 0), say("pread")
    os.read(fd, 1), say("read")
    os.sendfile(os.open("/dev/null", os.O_WRONLY), fd, 0, 1), say("sendfile")
    with open(os.dup(fd)) as stream:
        stream.read()
    say("a stream on a copy of it")
    held = os.open("README", os.O_RDONLY)
    os.lseek(fd, 0, os.SEEK_END)
    os.close(held), say("between an open and a close of another")
    # A lock that a close would drop: the read is made in a child.
    fcntl.lockf(fd, fcntl.LOCK_SH), w.events(), opens.events()
    os.pread(fd, 1, 0), say("pread under a lock")
    fcntl.lockf(fd, fcntl.LOCK_UN), w.events(), opens.events()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (other_file.fd + 1, limits[1]))
    os.pread(fd, 1, 0)
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    say("pread at RLIMIT_NOFILE")
    other("cat README >/dev/null"), say("cat")
    # Several masks, one of them set when the file was copied up.
    w.add("README", 0x11), os.pread(fd, 1, 0), say("no OPEN asked for")
    w.add("README", 1), os.pread(fd, 1, 0), say("ACCESS alone")
    w.add("README", 0x80000021), os.pread(fd, 1, 0), os.pread(fd, 1, 0), say("once")


def together(readers):
    """Several read at once through descriptors from before the copy-up, and some are killed."""
    fd = os.open("README", os.O_RDONLY)
    w = Watcher()
    w.add("README")
    other("echo more >>README")
    w.events()

    def start(count):
        pid = os.fork()
        if pid == 0:
            while count:
                os.pread(fd, 1, 0)
                count -= 1
            os._exit(0)
        return pid

    for pid in [start(300) for _ in range(int(readers))]:
        os.waitpid(pid, 0)
    print({e for _, e in w.events()})
    wrong = 0
    for i in range(60):
        pid = start(-1)
        os.pread(fd, 1, 0)
        for _ in range(i * 37 % 4000):
            pass
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        w.events()
        other("cat README >/dev/null")
        wrong += [e for _, e in w.events()] != ["OPEN", "ACCESS", "CLOSE_NOWRITE"]
    print(wrong, "wrong after a kill")


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
