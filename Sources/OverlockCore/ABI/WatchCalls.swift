import CLinux

@c(ovl_watch_add)
public func ovlWatchAdd(_ fd: Int32, _ path: UnsafePointer<CChar>?, _ mask: UInt32) -> Int {
  unsafe Watches.add(fd, path, mask)
}

@c(ovl_fanotify_mark)
public func ovlFanotifyMark(
  _ fd: Int32, _ flags: UInt32, _ mask: UInt64, _ dirfd: Int32, _ path: UnsafePointer<CChar>?
) -> Int { unsafe FanotifyMarks.set(fd, flags, mask, dirfd, path) }

@c(ovl_watch_remove)
public func ovlWatchRemove(_ fd: Int32, _ wd: Int32) -> Int { Watches.remove(fd, wd) }

@c(ovl_fd_watches)
public func ovlFDWatches(_ fd: Int32) -> Int32 {
  DescriptorTable.entry(fd).has(OVL_FD_WATCHES) ? 1 : 0
}

@c(ovl_watch_translate)
public func ovlWatchTranslate(
  _ fd: Int32, _ buffer: UnsafeMutableRawPointer?, _ length: Int, _ done: Int
) -> Int {
  guard let buffer = unsafe buffer else { return length }
  return unsafe Translation.inPlace(fd, buffer, length, done: done)
}

@c(ovl_watch_has_more)
public func ovlWatchHasMore(_ fd: Int32) -> Int32 {
  guard let table = WatchTable.of(fd), table.keptCount == 0, table.isReadAlone else { return 0 }
  return lx_queued(fd) > 0 ? 1 : 0
}

@c(ovl_watch_read_begin)
public func ovlWatchReadBegin(
  _ fd: Int32, _ buffer: UnsafeMutableRawPointer?, _ size: Int
) -> Int {
  guard let table = WatchTable.of(fd) else { return 0 }
  table.beginReading()
  return unsafe Translation.takeKept(table, buffer, size)
}

@c(ovl_watch_read_end)
public func ovlWatchReadEnd(_ fd: Int32) { WatchTable.of(fd)?.endReading() }

@c(ovl_watch_settle)
public func ovlWatchSettle(_ fd: Int32) -> Int32 { Translation.settle(fd) ? 1 : 0 }

@c(ovl_watch_gather)
public func ovlWatchGather(_ fd: Int32) -> Int32 { Translation.gather(fd) ? 1 : 0 }

@c(ovl_watch_keeps)
public func ovlWatchKeeps(_ fd: Int32) -> Int32 {
  guard let table = WatchTable.of(fd) else { return 0 }
  return Int32(table.keptCount + Polling.waiting(table))
}

@c(ovl_watch_raise)
public func ovlWatchRaise(_ fd: Int32) { WatchTable.of(fd)?.raiseKept(fd) }

@c(ovl_watch_due)
public func ovlWatchDue(_ fd: Int32) -> Int { Polling.due(fd) }
