"""Acts on open files: descriptors, data, streams, mappings, locks."""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
import re
import stat
import struct
from typing import TYPE_CHECKING, Any

import libc
from acts_names import Act, Operation, facts

if TYPE_CHECKING:
    from worker import Worker

F_OFD_SETLK = 37
LOCK = "hhqqi4x"  # struct flock
FCNTL_KIND = {"SH": fcntl.F_RDLCK, "EX": fcntl.F_WRLCK, "UN": fcntl.F_UNLCK}


def digest(data: bytes) -> Any:
    """Short data as it is, long data by length and hash."""
    if len(data) <= 80:
        return data.decode("latin-1")
    return [len(data), hashlib.sha1(data).hexdigest()]


def open_(w: Worker, op: Operation) -> Any:
    # Without O_NONBLOCK a FIFO would block the whole run; files and directories do not care.
    flags = os.O_NONBLOCK
    for name in op["flags"]:
        flags |= getattr(os, name)
    descriptor = os.open(w.path(op), flags, op["mode"], dir_fd=w.at(op))
    w.replace(op["slot"], descriptor, os.close)
    return {"fd": descriptor, **facts(os.fstat(descriptor))}


def close(w: Worker, op: Operation) -> Any:
    os.close(w.slot(op["slot"]))
    del w.slots[op["slot"]]


def fstat(w: Worker, op: Operation) -> Any:
    return facts(os.fstat(w.slot(op["slot"])))


def read(w: Worker, op: Operation) -> Any:
    return digest(os.read(w.slot(op["slot"]), op["count"]))


def pread(w: Worker, op: Operation) -> Any:
    return digest(os.pread(w.slot(op["slot"]), op["count"], op["offset"]))


# What goes through a lower's FIFO changes the times of the lower's, and not of its copy (README, Smaller things).
LEFT_OUT = "not into a FIFO"


def _is_pipe(descriptor: int) -> bool:
    """By a call that makes no library look at the object anew, as fstat does."""
    try:
        fcntl.fcntl(descriptor, fcntl.F_GETPIPE_SZ)
    except OSError:
        return False
    return True


def write(w: Worker, op: Operation) -> Any:
    if _is_pipe(w.slot(op["slot"])):
        return LEFT_OUT
    count = os.write(w.slot(op["slot"]), op["data"].encode())
    return [count, fstat(w, op)]


def pwrite(w: Worker, op: Operation) -> Any:
    return os.pwrite(w.slot(op["slot"]), op["data"].encode(), op["offset"])


def seek(w: Worker, op: Operation) -> Any:
    descriptor = w.slot(op["slot"])
    if stat.S_ISDIR(os.fstat(descriptor).st_mode):
        return "a directory's offsets are its file system's own"
    return os.lseek(descriptor, op["offset"], op["whence"])


def ftruncate(w: Worker, op: Operation) -> Any:
    os.ftruncate(w.slot(op["slot"]), op["count"])
    return fstat(w, op)


def fallocate(w: Worker, op: Operation) -> Any:
    os.posix_fallocate(w.slot(op["slot"]), op["offset"], op["count"] or 1)
    return fstat(w, op)


def fsync(w: Worker, op: Operation) -> Any:
    os.fsync(w.slot(op["slot"]))


def dup(w: Worker, op: Operation) -> Any:
    descriptor = w.slot(op["slot"])
    if op["onto"] and op["to"] in w.slots:
        return os.dup2(descriptor, w.slots[op["to"]], inheritable=False)
    w.replace(op["to"], os.dup(descriptor), os.close)
    return w.slots[op["to"]]


def where(w: Worker, op: Operation) -> Any:
    """What /proc says the descriptor is; a temporary file's name is its inode number."""
    name = os.readlink(f"/proc/self/fd/{w.slot(op['slot'])}")
    return re.sub(r"#\d\d+ ", "#N ", name)


def flags(w: Worker, op: Operation) -> Any:
    descriptor = w.slot(op["slot"])
    return [fcntl.fcntl(descriptor, fcntl.F_GETFL), fcntl.fcntl(descriptor, fcntl.F_GETFD)]


def copy_range(w: Worker, op: Operation) -> Any:
    return os.copy_file_range(w.slot(op["slot"]), w.slot(op["to"]), op["count"])


def sendfile(w: Worker, op: Operation) -> Any:
    if _is_pipe(w.slot(op["to"])):
        return LEFT_OUT
    return os.sendfile(w.slot(op["to"]), w.slot(op["slot"]), None, op["count"])


def truncate(w: Worker, op: Operation) -> Any:
    os.truncate(w.full(op), op["count"])


def read_file(w: Worker, op: Operation) -> Any:
    descriptor = os.open(w.path(op), os.O_RDONLY | os.O_NONBLOCK, dir_fd=w.at(op))
    try:
        return digest(os.read(descriptor, 1 << 23))
    finally:
        os.close(descriptor)


def write_file(w: Worker, op: Operation, how: int = os.O_TRUNC) -> Any:
    mode = os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK | how
    descriptor = os.open(w.path(op), mode, op["mode"], dir_fd=w.at(op))
    try:
        if _is_pipe(descriptor):
            return LEFT_OUT
        os.write(descriptor, w.expand(op["data"]).encode("latin-1"))
        return facts(os.fstat(descriptor))
    finally:
        os.close(descriptor)


def append_file(w: Worker, op: Operation) -> Any:
    return write_file(w, op, os.O_APPEND)


def open_file(w: Worker, op: Operation) -> Any:
    full = w.full(op)
    if stat.S_ISFIFO(os.stat(full).st_mode):
        return "a FIFO would block"
    stream = libc.pointer(libc.LIBC.fopen(os.fsencode(full), op["mode"].encode()))
    w.replace(op["slot"], stream, libc.LIBC.fclose)


def read_more(w: Worker, op: Operation) -> Any:
    """Reads on from where the stream is, its end-of-file flag cleared."""
    stream = w.slot(op["slot"])
    libc.LIBC.clearerr(stream)
    buffer = libc.ctypes.create_string_buffer(3000)
    first = libc.LIBC.fgetc(stream)
    count = libc.LIBC.fread(buffer, 1, 3000, stream)
    return [first, digest(buffer.raw[:count])]


def write_more(w: Worker, op: Operation) -> Any:
    stream, data = w.slot(op["slot"]), op["data"].encode()
    written = libc.LIBC.fwrite(data, 1, len(data), stream)
    libc.checked(libc.LIBC.fflush(stream))
    return written


def map_(w: Worker, op: Operation) -> Any:
    descriptor = w.slot(op["file"])
    size = os.fstat(descriptor).st_size
    protection = mmap.PROT_READ | (mmap.PROT_WRITE if op["write"] else 0)
    mapped = mmap.mmap(descriptor, min(size, 8192) or 1, mmap.MAP_SHARED, protection)
    w.replace(op["slot"], mapped, mmap.mmap.close)


def map_read(w: Worker, op: Operation) -> Any:
    """The mapped bytes up to the file's present end: beyond lies SIGBUS."""
    mapped = w.slot(op["slot"])
    return digest(mapped[:min(len(mapped), mapped.size())])


def map_write(w: Worker, op: Operation) -> Any:
    mapped, data = w.slot(op["slot"]), op["data"].encode()
    data = data[:min(len(mapped), mapped.size())]
    mapped[:len(data)] = data


def map_close(w: Worker, op: Operation) -> Any:
    w.slot(op["slot"]).close()
    del w.slots[op["slot"]]


def flock(w: Worker, op: Operation) -> Any:
    fcntl.flock(w.slot(op["slot"]), getattr(fcntl, f"LOCK_{op['kind']}") | fcntl.LOCK_NB)


def lockf(w: Worker, op: Operation) -> Any:
    _set_lock(w, op, fcntl.F_SETLK)


def ofd_lock(w: Worker, op: Operation) -> Any:
    _set_lock(w, op, F_OFD_SETLK)


def _set_lock(w: Worker, op: Operation, command: int) -> None:
    fcntl.fcntl(w.slot(op["slot"]), command,
                struct.pack(LOCK, FCNTL_KIND[op["kind"]], 0, op["start"], op["length"], 0))


def get_lock(w: Worker, op: Operation) -> Any:
    asked = struct.pack(LOCK, FCNTL_KIND[op["kind"]], 0, op["start"], op["length"], 0)
    kind, whence, start, length, pid = struct.unpack(
        LOCK, fcntl.fcntl(w.slot(op["slot"]), fcntl.F_GETLK, asked))
    if kind == fcntl.F_UNLCK:
        return "free"
    return {"kind": kind, "whence": whence, "start": start, "length": length, "pid": pid}


ACTS: dict[str, Act] = {act.__name__.rstrip("_"): act for act in (
    open_, close, fstat, read, pread, write, pwrite, seek, ftruncate, fallocate, fsync, dup, where,
    flags, copy_range, sendfile, truncate, read_file, write_file, append_file, open_file,
    read_more, write_more, map_, map_read, map_write, map_close, flock, lockf, ofd_lock, get_lock)}
