"""Prints what a watchdog Observer tells of the names in the tree it stands in, until it is killed."""

from watchdog.events import FileSystemEventHandler
from watchdog.observers.inotify import InotifyObserver


class Names(FileSystemEventHandler):
    def on_any_event(self, event):
        if event.event_type in ("created", "moved", "deleted"):
            print(event.event_type, event.src_path[2:], flush=True)


observer = InotifyObserver()
observer.schedule(Names(), ".", recursive=True)
observer.start()
print("ready", flush=True)
observer.join()
