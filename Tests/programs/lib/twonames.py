"""What rename(2) and link(2) say of two paths of which one or both lead nowhere, by every way into the directory.

    twonames.py DIRECTORY LINK-TO-IT
"""
import os
import sys

top, link = sys.argv[1:]
os.symlink("nowhere", "src/dangling")
os.symlink("u1.c", "src/linked")
OLD = ["src/none/x", "src/u1.c/x", "src/u1.c/", "none/x", "src/dangling/x", "src/linked/x", "src/u1.c", "none",
       "src", "src/dangling/", "src/u1.c/.", "src/.."]
NEW = ["", "none/x", "src/u1.c/x", ".", "none/..", "nowhere/", "x" * 5000]
for call in os.rename, os.link:
    for before in "", "link/", "top/":
        for old in OLD:
            for new in NEW:
                place = before.replace("link", link).replace("top", top)
                try:
                    call(place + old, new)
                    said = "done"
                except OSError as e:
                    said = os.strerror(e.errno)
                print(call.__name__, before + old, repr(new[:20]), said)
