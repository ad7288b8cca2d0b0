import CLinux

/// From the kernel's events to the program's.
///
/// An event means what its place in the stream says, never what the tree looks like now: those of an
/// anchor are the program's from its move on; those of the lower are until then, and after that only
/// of descriptors that were opened before. Every event becomes one or none, so it is done in the
/// program's own buffer.
///
/// Left out: two that read from one instance at the same time may see an object's move in the other's part.
enum Translation {
  private static var header: Int { 16 }

  /// Returns the new length.
  ///
  /// - Parameter done: so many bytes are the program's already.
  static func inPlace(
    _ fd: Int32, _ buffer: UnsafeMutableRawPointer, _ length: Int, done: Int = 0
  ) -> Int {
    guard let table = WatchTable.of(fd) else { return length }
    // The last event given, if anything was left out after it.
    var last = -1
    var from = 0
    while from < done {
      last = from
      from +=
        unsafe header
        + Int((buffer + from).loadUnaligned(fromByteOffset: 12, as: UInt32.self))
    }
    var to = done
    var gap = done > 0
    while from + header <= length {
      let event = unsafe buffer + from
      let size = unsafe header + Int(event.loadUnaligned(fromByteOffset: 12, as: UInt32.self))
      guard size <= length - from else { break }
      defer { from += size }
      guard let shown = unsafe translate(fd, table, event, size) else {
        gap = true
        continue
      }
      unsafe event.storeBytes(of: shown.0, as: Int32.self)
      unsafe event.storeBytes(of: shown.1, toByteOffset: 4, as: UInt32.self)
      // A move that is told as something else.
      if shown.1 & UInt32(IN_CREATE | IN_DELETE) != 0 {
        unsafe event.storeBytes(of: 0, toByteOffset: 8, as: UInt32.self)
      }
      if gap, last >= 0, unsafe isMerged(buffer + last, event, size) { continue }
      if to != from {
        let target = unsafe (buffer + to).assumingMemoryBound(to: UInt8.self)
        let source = unsafe UnsafePointer(event.assumingMemoryBound(to: UInt8.self))
        for i in 0..<size { unsafe target[i] = source[i] }
      }
      last = to
      gap = false
      to += size
    }
    return to
  }

  /// Neighbours now, which the kernel would have merged (fs/notify/inotify, event_compare).
  private static func isMerged(
    _ last: UnsafeMutableRawPointer, _ event: UnsafeMutableRawPointer, _ size: Int
  ) -> Bool {
    // The cookie does not count.
    func isEqual(_ offset: Int) -> Bool {
      unsafe last.loadUnaligned(fromByteOffset: offset, as: UInt32.self)
        == event.loadUnaligned(fromByteOffset: offset, as: UInt32.self)
    }
    let mask = unsafe event.loadUnaligned(fromByteOffset: 4, as: UInt32.self)
    guard mask & UInt32(IN_IGNORED) == 0, isEqual(0), isEqual(4), isEqual(12) else { return false }
    var offset = header
    while offset < size {
      if !isEqual(offset) { return false }
      offset += 4
    }
    return true
  }

  /// Takes what the program is not to see from the front of the queue, and keeps the first events that it
  /// is. Whether there are any, or that cannot be known.
  static func settle(_ fd: Int32) -> Bool {
    guard let table = WatchTable.of(fd) else { return true }
    if table.keptCount > 0 { return true }
    let mask = lx_block_signals()
    defer { lx_restore_signals(mask) }
    guard table.beginLooking() else { return true }
    defer { table.endLooking() }
    var hasLooked = false
    while true {
      let queued = lx_queued(fd)
      if queued < 0 { return true }
      if queued < header {
        if hasLooked || Polling.due(fd) != 0 { return false }
        hasLooked = true
        if Polling.look(fd, table) { return true }
        // To read a directory for it has raised events.
        continue
      }
      // Room for the longest event, and for few of the others.
      let n = unsafe lx_read(fd, table.kept, 512)
      if n <= 0 { return true }
      let left = unsafe inPlace(fd, table.kept, n)
      if left > 0 {
        table.keptCount = left
        return true
      }
    }
  }

  /// Keeps all that is queued, so that it is known how much of it is the program's: some read what they are told
  /// that there is, and rely on it. False: there may be more.
  static func gather(_ fd: Int32) -> Bool {
    guard settle(fd) else { return true }
    guard let table = WatchTable.of(fd), table.keptCount > 0 else { return false }
    let mask = lx_block_signals()
    defer { lx_restore_signals(mask) }
    guard table.beginLooking() else { return false }
    defer { table.endLooking() }
    while lx_queued(fd) >= header {
      let count = table.keptCount
      let first = unsafe table.kept + table.keptStart
      let room = WatchTable.keptSize - table.keptStart - count
      if room < 512 { return false }
      let n = unsafe lx_read(fd, first + count, room)
      if n <= 0 { return false }
      table.keptCount = unsafe inPlace(fd, first, count + n, done: count)
    }
    return true
  }

  /// What was kept, as much of it as there is room for. -EINVAL: not for one event (inotify(7)).
  static func takeKept(
    _ table: WatchTable, _ buffer: UnsafeMutableRawPointer?, _ room: Int
  ) -> Int {
    let count = table.keptCount
    if count == 0 { return 0 }
    guard let buffer = unsafe buffer else { return -Int(EFAULT) }
    let first = unsafe table.kept + table.keptStart
    var end = 0
    while end + header <= count {
      let name = unsafe Int(first.loadUnaligned(fromByteOffset: end + 12, as: UInt32.self))
      if end + header + name > min(room, count) { break }
      end += header + name
    }
    if end == 0 { return -Int(EINVAL) }
    unsafe copyBytes(
      buffer.assumingMemoryBound(to: UInt8.self), first.assumingMemoryBound(to: UInt8.self), end)
    table.keptStart += end
    table.keptCount = count - end
    Polling.refill(table)
    return end
  }

  /// What one event is for the program: the watch descriptor and the mask; nil: nothing.
  private static func translate(
    _ fd: Int32, _ table: WatchTable, _ event: UnsafeMutableRawPointer, _ size: Int
  ) -> (Int32, UInt32)? {
    let wd = unsafe event.loadUnaligned(as: Int32.self)
    let mask = unsafe event.loadUnaligned(fromByteOffset: 4, as: UInt32.self)
    if mask & UInt32(IN_Q_OVERFLOW) != 0 { catchUp(table) }
    guard let entry = table.find(wd) else { return (wd, mask) }
    if entry.has(WatchTable.State.polled), wd == entry.lower {
      if Polling.isLook(entry, mask) { return nil }
      unsafe Polling.explain(table, wd, mask, event, size)
    }
    guard entry.has(WatchTable.State.directory | WatchTable.State.further) else {
      return translate(fd, entry, wd, mask)
    }
    if mask & UInt32(IN_IGNORED) != 0 {
      if entry.has(WatchTable.State.directory) { return ignored(fd, entry, wd, mask) }
      entry.free()
      return nil
    }
    // Zeros follow it up to the event's end.
    let name =
      size > header
      ? unsafe PathView((event + header).assumingMemoryBound(to: CChar.self))
      : unsafe PathView((event + header).assumingMemoryBound(to: UInt8.self), 0)
    guard let (main, seen) = DirectoryEvents.translate(table, entry, mask, name) else {
      return nil
    }
    endOneShot(fd, main)
    return (main.lower, seen)
  }

  private static func endOneShot(_ fd: Int32, _ entry: WatchTable.Entry) {
    if entry.mask & Watches.oneShot != 0 {
      Watches.end(fd, entry, WatchTable.State.removed | WatchTable.State.ended)
    }
  }

  private static func translate(
    _ fd: Int32, _ entry: WatchTable.Entry, _ source: Int32, _ mask: UInt32
  ) -> (Int32, UInt32)? {
    if mask & UInt32(IN_IGNORED) != 0 { return ignored(fd, entry, source, mask) }
    if entry.has(WatchTable.State.list | WatchTable.State.ended | WatchTable.State.ignored) {
      return nil
    }
    if source == entry.bell {
      bell(entry, mask)
      return nil
    }
    let seen = source == entry.anchor ? anchor(entry, mask) : lower(entry, mask)
    guard let seen else { return nil }
    let isAsked = seen & 0xfff == 0 || seen & entry.mask & 0xfff != 0
    if entry.has(WatchTable.State.polled), !isAsked { return nil }
    let wd = entry.lower
    endOneShot(fd, entry)
    return (wd, seen)
  }

  /// Whose the next open of the upper is, or the next close (`Bell`).
  private static func bell(_ entry: WatchTable.Entry, _ mask: UInt32) {
    if mask & UInt32(IN_OPEN) != 0 {
      entry.set(WatchTable.State.opening)
    } else if mask & UInt32(IN_ACCESS) != 0 {
      entry.set(WatchTable.State.closing)
    } else {
      entry.clear(WatchTable.State.opening | WatchTable.State.closing)
    }
  }

  private static func anchor(_ entry: WatchTable.Entry, _ mask: UInt32) -> UInt32? {
    if entry.has(WatchTable.State.published) {
      if mask & UInt32(IN_OPEN) != 0, entry.has(WatchTable.State.opening) {
        entry.clear(WatchTable.State.opening)
        return nil
      }
      if mask & UInt32(IN_CLOSE_NOWRITE) != 0, entry.has(WatchTable.State.closing) {
        entry.clear(WatchTable.State.closing)
        return nil
      }
      // What was asked for over the program's wishes.
      let events = mask & ~(Watches.extra(UInt32(IN_OPEN)) & ~entry.mask)
      return events & 0xfff == 0 && mask & 0xfff != 0 ? nil : events
    }
    if mask & UInt32(IN_MOVE_SELF) != 0 {
      entry.set(WatchTable.State.published)
      entry.clear(WatchTable.State.copying)
    } else if mask & UInt32(IN_OPEN) != 0 {
      entry.set(WatchTable.State.copying)
    } else if mask & UInt32(IN_CLOSE) != 0 {
      entry.clear(WatchTable.State.copying)
    }
    return nil
  }

  private static func lower(_ entry: WatchTable.Entry, _ mask: UInt32) -> UInt32? {
    let reading = UInt32(IN_OPEN | IN_ACCESS | IN_CLOSE_NOWRITE)
    if entry.has(WatchTable.State.published) {
      // Whoever opens it now is not in the overlay, or asks who has it open: so with his close.
      if mask & UInt32(IN_OPEN) != 0 {
        entry.countStranger(1)
        return nil
      }
      if mask & UInt32(IN_CLOSE_NOWRITE) != 0, entry.strangers > 0 {
        entry.countStranger(-1)
        return nil
      }
      return mask & UInt32(IN_ACCESS | IN_CLOSE_NOWRITE) != 0 ? mask : nil
    }
    if mask & Watches.extraOnLower(entry.mask) & ~entry.mask & 0xfff != 0 { return nil }
    return entry.has(WatchTable.State.copying) && mask & reading != 0 ? nil : mask
  }

  /// The end of one of the watches: the program hears of one.
  private static func ignored(
    _ fd: Int32, _ entry: WatchTable.Entry, _ source: Int32, _ mask: UInt32
  ) -> (Int32, UInt32)? {
    let wd = entry.lower
    let isAnchor = source == entry.anchor
    let isBell = source == entry.bell
    entry.set(
      isBell
        ? WatchTable.State.bellGone
        : isAnchor ? WatchTable.State.anchorGone : WatchTable.State.lowerGone)
    let isLast = entry.isGone
    defer { if isLast { entry.free() } }
    if isBell || entry.has(WatchTable.State.list | WatchTable.State.ignored) { return nil }
    if entry.has(WatchTable.State.removed) {
      // The lower is removed first, if it is there.
      entry.set(WatchTable.State.ignored)
      return (wd, mask)
    }
    // The object is gone where this one stands for it.
    guard entry.has(WatchTable.State.published) == isAnchor else { return nil }
    Watches.end(fd, entry, WatchTable.State.removed | WatchTable.State.ignored)
    return (wd, mask)
  }

  /// Events were lost, moves of anchors perhaps.
  private static func catchUp(_ table: WatchTable) {
    OpenMarker.forgetAll(table)
    try? withScratch { (s) throws(Errno) in
      var path = s.real
      table.each { (entry) in
        entry.clear(WatchTable.State.opening | WatchTable.State.closing)
        let notFiles = WatchTable.State.directory | WatchTable.State.further
        guard !entry.has(WatchTable.State.list | WatchTable.State.published | notFiles),
          entry.overlay < Overlay.count, entry.anchor != 0
        else { return }
        let anchor = Anchor(Overlay(index: entry.overlay), entry.shown, birth: entry.birth)
        guard (try? anchor.path(into: &path)) != nil else { return }
        if unsafe lx_faccessat2(AT_FDCWD, path.terminated, 0, 0) == -Int(ENOENT) {
          entry.set(WatchTable.State.published)
        }
        entry.clear(WatchTable.State.copying)
      }
    }
  }
}
