"""Watchers of a tree made with Python's libraries, one line for each event; "ready" is said first.

    observing.py watchdog|pyinotify|inotify|inotify_simple|watchfiles [PATH]
"""

import logging
import os
import sys


# IN_MODIFY, IN_ATTRIB, IN_CLOSE_WRITE, moves, IN_CREATE, IN_DELETE
CHANGES = 0x2 | 0x4 | 0x8 | 0xC0 | 0x100 | 0x200


def say(*words):
    print(*words, flush=True)


def watchdog(path):
    """An Observer, which pairs moves and watches what is made; ends with its input."""
    from watchdog.events import FileSystemEventHandler
    from watchdog.observers.inotify import InotifyObserver

    class Handler(FileSystemEventHandler):
        def on_any_event(self, event):
            say(event.event_type, event.src_path, getattr(event, "dest_path", ""), "/" * event.is_directory)

    observer = InotifyObserver()
    observer.schedule(Handler(), path, recursive=True)
    observer.start()
    say("ready")
    observer.join()


def pyinotify(path):
    """A Notifier over poll(2), with auto_add."""
    import pyinotify as library

    manager = library.WatchManager()

    class Handler(library.ProcessEvent):
        def process_default(self, event):
            say(os.path.relpath(event.path, path), event.maskname, event.name)

    notifier = library.Notifier(manager, Handler())
    manager.add_watch(path, CHANGES, rec=True, auto_add=True)
    say("ready")
    notifier.loop()


def inotify(path):
    """The package's InotifyTree, which waits in epoll(7)."""
    from inotify.adapters import InotifyTree

    tree = InotifyTree(path, mask=CHANGES)
    say("ready")
    for _, kinds, directory, name in tree.event_gen(yield_nones=False):
        say(directory, "|".join(kinds), name)


def inotify_simple(path):
    """An INotify, which asks FIONREAD how much to read; what is made is watched too."""
    import inotify_simple as library

    instance = library.INotify()
    directories = {}

    def watch(directory):
        directories[instance.add_watch(directory, CHANGES)] = directory

    for directory, _, _ in os.walk(path):
        watch(directory)
    say("ready")
    while True:
        for event in instance.read():
            kinds = library.flags.from_mask(event.mask)
            directory = directories[event.wd]
            say(directory, "|".join(kind.name for kind in kinds), event.name)
            if library.flags.ISDIR in kinds and event.mask & (library.flags.CREATE | library.flags.MOVED_TO):
                watch(os.path.join(directory, event.name))


def watchfiles(path):
    """What is collected from a thread of Rust in 50 ms, as a set; the end of a step is said last.

    It leaves out that a file was written which is new, if both came in one such time: here always."""
    from watchfiles import watch

    new = set()
    for changes in watch(path, watch_filter=None):
        for name, change in sorted(((os.path.relpath(name, path), change.raw_str()) for change, name in changes),
                                   key=lambda told: (told[0].startswith("step"), told)):
            if change == "added":
                new.add(name)
            if change != "modified" or name not in new:
                say(name, change)
            if name.startswith("step"):
                new.clear()


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    globals()[sys.argv[1]](*sys.argv[2:] or ["."])
