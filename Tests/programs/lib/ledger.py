"""Everything about a tree that a union file system must not change: one line an object.

Read from outside every overlay. The change time and the inode number are in it too: they catch what
was changed and put back. The access time is not: reading is allowed.
"""
import hashlib
import os
import stat
import sys


def describe(path, name):
    st = os.lstat(path)
    words = [
        repr(name),
        f"{st.st_mode:o}", f"{st.st_uid}:{st.st_gid}", f"size={st.st_size}", f"links={st.st_nlink}",
        f"ino={st.st_ino}", f"rdev={st.st_rdev}",
    ]
    # A FIFO keeps being the meeting point wherever it lies, and a write into one moves its times.
    if not stat.S_ISFIFO(st.st_mode):
        words.append(f"mtime={st.st_mtime_ns} ctime={st.st_ctime_ns}")
    if stat.S_ISLNK(st.st_mode):
        words.append(f"link={os.readlink(path)!r}")
    elif stat.S_ISREG(st.st_mode):
        with open(path, "rb") as file:
            words.append(hashlib.sha256(file.read()).hexdigest())
    for key in sorted(os.listxattr(path, follow_symlinks=False)):
        words.append(f"{key}={os.getxattr(path, key, follow_symlinks=False)!r}")
    return " ".join(words)


root = sys.argv[1]
lines = [describe(root, ".")]
for folder, directories, files in os.walk(root):
    for name in directories + files:
        path = os.path.join(folder, name)
        lines.append(describe(path, os.path.relpath(path, root)))
print("\n".join(sorted(lines)))
