"""One process of a schedule of lock calls: does what it is told, a call at a time, and says what came of it.

    lock_actor.py SOCKET NAME [SLOT=DESCRIPTOR]…

Every thread that is told anything has a connection of its own to SOCKET, above the descriptors that the schedule
uses. The calls are libc's, through ctypes: they give EINTR back, and let other threads run meanwhile. Needs nothing
but the standard library: it runs in the overlay and is started anew by its own exec.
"""

import array
import ctypes
import errno
import fcntl
import os
import signal
import socket
import stat
import struct
import sys
import threading

TYPES = {"r": fcntl.F_RDLCK, "w": fcntl.F_WRLCK, "u": fcntl.F_UNLCK}
MODES = {"r": os.O_RDONLY, "rw": os.O_RDWR, "a": os.O_WRONLY | os.O_APPEND, "t": os.O_RDWR | os.O_TRUNC,
         "d": os.O_RDONLY | os.O_DIRECTORY}
OPERATIONS = {"s": fcntl.LOCK_SH, "x": fcntl.LOCK_EX, "u": fcntl.LOCK_UN}
COMMANDS = {"record": (fcntl.F_SETLK, fcntl.F_SETLKW), "description": (37, 38)}
QUESTIONS = {"ask": fcntl.F_GETLK, "ask-description": 36}
CONTROL = 500  # the first number of a control connection
WORDS = "hhqqi4x"

libc = ctypes.CDLL(None, use_errno=True)
libc.lockf.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.fcntl.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_void_p]
libc.close_range.argtypes = [ctypes.c_uint, ctypes.c_uint, ctypes.c_int]
where = sys.argv[1]
slots = {}
connections = []


def call(function, *arguments):
    ctypes.set_errno(0)
    if function(*arguments) == -1:
        raise OSError(ctypes.get_errno(), "")


def words(kind, whence, start, length):
    packed = struct.pack(WORDS, TYPES[kind], int(whence), int(start), int(length), 0)
    return ctypes.create_string_buffer(packed, len(packed))


def put(slot, fd):
    """A slot that is taken is dup'ed over; else it gets the number that the kernel chose."""
    if slot in slots:
        os.dup2(fd, slots[slot], inheritable=False)
        os.close(fd)
    else:
        slots[slot] = fd


def lock(words_):
    verb, slot = words_[0], words_[1]
    waits = words_[-1] == "wait"
    if verb == "flock":
        call(libc.flock, slots[slot], OPERATIONS[words_[2]] | (0 if waits else fcntl.LOCK_NB))
    elif verb == "lockf":
        command = {"w": os.F_LOCK if waits else os.F_TLOCK, "u": os.F_ULOCK, "t": os.F_TEST}[words_[2]]
        call(libc.lockf, slots[slot], command, int(words_[3]))
    else:
        request = words(*words_[2:6])
        call(libc.fcntl, slots[slot], COMMANDS[verb][waits], ctypes.addressof(request))


def ask(words_):
    request = words(*words_[2:6])
    call(libc.fcntl, slots[words_[1]], QUESTIONS[words_[0]], ctypes.addressof(request))
    kind, _, start, length, pid = struct.unpack(WORDS, request.raw[:struct.calcsize(WORDS)])
    return "free" if kind == fcntl.F_UNLCK else f"held {'rw'[kind == fcntl.F_WRLCK]} {start} {length} {pid}"


def fork(name):
    pid = os.fork()
    if pid == 0:
        for one in connections:
            one.close()
        connections.clear()
        serve(name)
        os._exit(0)
    return f"child {name} {pid}"


def arguments(name):
    kept = [f"{slot}={fd}" for slot, fd in slots.items() if os.get_inheritable(fd)]
    return [sys.executable, "-I", "-S", os.path.realpath(__file__), where, name, *kept]


def spawn(name, how):
    if how == "posix":
        return f"child {name} {os.posix_spawn(sys.executable, arguments(name), os.environ)}"
    import subprocess  # by vfork, where Python is new enough
    return f"child {name} {subprocess.Popen(arguments(name), close_fds=False).pid}"


def perform(verb, words_, connection):
    if verb in ("flock", "lockf", "record", "description"):
        lock(words_)
    elif verb in QUESTIONS:
        return ask(words_)
    elif verb == "open":
        put(words_[1], os.open(words_[2], MODES[words_[3]]))
    elif verb == "close":
        os.close(slots.pop(words_[1]))
    elif verb == "close-range":
        first, last = sorted((slots[words_[1]], slots[words_[2]]))
        for slot in [slot for slot, fd in slots.items() if first <= fd <= last]:
            del slots[slot]
        call(libc.close_range, first, last, 0)
    elif verb == "dup":
        put(words_[2], {"dup": os.dup, "fcntl": lambda fd: fcntl.fcntl(fd, fcntl.F_DUPFD, 30)}[words_[3]](slots[words_[1]]))
    elif verb == "inherit":
        os.set_inheritable(slots[words_[1]], words_[2] == "1")
    elif verb == "seek":
        # A directory's offsets are its file system's own business.
        if not stat.S_ISDIR(os.fstat(slots[words_[1]]).st_mode):
            os.lseek(slots[words_[1]], int(words_[2]), os.SEEK_SET)
    elif verb == "write":
        os.write(slots[words_[1]], b"x")
    elif verb == "chmod":
        os.chmod(words_[1], int(words_[2], 8))
    elif verb == "truncate":
        os.truncate(words_[1], int(words_[2]))
    elif verb == "utimes":
        os.utime(words_[1], (1, 1))
    elif verb == "rename":
        os.rename(words_[1], words_[2])
    elif verb == "link":
        os.link(words_[1], words_[2])
    elif verb == "fork":
        return fork(words_[1])
    elif verb == "spawn":
        return spawn(words_[1], words_[2])
    elif verb == "thread":
        threading.Thread(target=serve, args=(words_[1],), daemon=True).start()
    elif verb == "exec":
        list_ = arguments(words_[1])
        os.execv(list_[0], list_)
    elif verb == "send":
        connection.sendmsg([b"fd"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [slots[words_[1]]]))])
        return None
    elif verb == "number":
        return str(slots[words_[1]])
    elif verb == "exit":
        os._exit(0)
    return "ok"


def receive(connection):
    data, ancillary, _, _ = connection.recvmsg(4096, socket.CMSG_SPACE(4))
    for _, _, carried in ancillary:
        put(data.decode().split()[1], array.array("i", carried[:4])[0])
    return data.decode().split()


def serve(name):
    """Does what one connection says until it ends."""
    first = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    first.connect(where)
    connection = socket.socket(fileno=fcntl.fcntl(first.fileno(), fcntl.F_DUPFD_CLOEXEC, CONTROL))
    first.close()
    connections.append(connection)
    connection.send(f"{name} {os.getpid()} {threading.get_native_id()}".encode())
    while True:
        command = receive(connection)
        if not command:
            os._exit(0)
        try:
            answer = perform(command[0], command, connection)
        except OSError as error:
            answer = errno.errorcode.get(error.errno, str(error.errno))
        except KeyError:
            answer = "none"
        if answer is not None:
            connection.send(answer.encode())


def main():
    slots.update({word.split("=")[0]: int(word.split("=")[1]) for word in sys.argv[3:]})
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for number, restarts in ((signal.SIGUSR1, False), (signal.SIGUSR2, True)):
        signal.signal(number, lambda *_: None)
        signal.siginterrupt(number, not restarts)
    serve(sys.argv[2])


if __name__ == "__main__":
    main()
