"""Watchers of a tree made with Python's libraries, one line for each event; "ready" is said first.

    observing.py watchdog|pyinotify|inotify|simple [PATH]
"""

import logging
import os
import sys


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
            say(event.maskname, os.path.relpath(event.pathname, path))

    notifier = library.Notifier(manager, Handler())
    manager.add_watch(path, library.ALL_EVENTS, rec=True, auto_add=True)
    say("ready")
    notifier.loop()


def inotify(path):
    """The package's InotifyTree, which waits in epoll(7)."""
    from inotify.adapters import InotifyTree

    tree = InotifyTree(path)
    say("ready")
    for _, kinds, directory, name in tree.event_gen(yield_nones=False):
        say("|".join(kinds), os.path.join(directory, name))


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    globals()[sys.argv[1]](*sys.argv[2:] or ["."])
