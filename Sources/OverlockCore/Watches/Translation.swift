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
  static func inPlace(_ fd: Int32, _ buffer: UnsafeMutableRawPointer, _ length: Int) -> Int {
    guard let table = WatchTable.of(fd) else { return length }
    var from = 0
    var to = 0
    // The last event given, if anything was left out after it.
    var last = -1
    var gap = false
    while from + header <= length {
      let event = unsafe buffer + from
      let wd = unsafe event.loadUnaligned(as: Int32.self)
      let mask = unsafe event.loadUnaligned(fromByteOffset: 4, as: UInt32.self)
      let name = unsafe Int(event.loadUnaligned(fromByteOffset: 12, as: UInt32.self))
      let size = header + name
      guard size <= length - from else { break }
      defer { from += size }
      if mask & UInt32(IN_Q_OVERFLOW) != 0 { catchUp(table) }
      var shown = (wd, mask)
      if let entry = table.find(wd) {
        guard let given = translate(fd, entry, wd, mask) else {
          gap = true
          continue
        }
        shown = given
      }
      // Neighbours now: the kernel would have merged them (fs/notify/inotify, event_compare).
      if gap, last >= 0, name == 0, shown.1 & UInt32(IN_IGNORED) == 0,
        unsafe (buffer + last).loadUnaligned(as: Int32.self) == shown.0,
        unsafe (buffer + last).loadUnaligned(fromByteOffset: 4, as: UInt32.self) == shown.1,
        unsafe (buffer + last).loadUnaligned(fromByteOffset: 12, as: UInt32.self) == 0
      {
        continue
      }
      if to != from {
        let target = unsafe (buffer + to).assumingMemoryBound(to: UInt8.self)
        let source = unsafe UnsafePointer(event.assumingMemoryBound(to: UInt8.self))
        for i in 0..<size { unsafe target[i] = source[i] }
      }
      unsafe (buffer + to).storeBytes(of: shown.0, as: Int32.self)
      unsafe (buffer + to).storeBytes(of: shown.1, toByteOffset: 4, as: UInt32.self)
      last = to
      gap = false
      to += size
    }
    return to
  }

  /// Takes what the program is not to see from the front of the queue, and keeps the first event that it
  /// is. Whether there is one, or that cannot be known. Every event that may be left out has 16 bytes.
  static func settle(_ fd: Int32) -> Bool {
    guard let table = WatchTable.of(fd) else { return true }
    if table.keptEvent != nil { return true }
    let mask = lx_block_signals()
    defer { lx_restore_signals(mask) }
    guard table.beginLooking() else { return true }
    defer { table.endLooking() }
    while true {
      let queued = lx_queued(fd)
      if queued < 0 { return true }
      if queued < header { return false }
      var event: (UInt64, UInt64) = (0, 0)
      // A longer one is refused (EINVAL), and the program's.
      if unsafe lx_read(fd, &event, header) != header { return true }
      let left = unsafe withUnsafeMutablePointer(to: &event) { (p) in
        unsafe inPlace(fd, UnsafeMutableRawPointer(p), header)
      }
      if left > 0 {
        table.keptEvent = event
        return true
      }
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
    let wd = entry.lower
    if entry.mask & Watches.oneShot != 0 {
      Watches.end(fd, entry, WatchTable.State.removed | WatchTable.State.ended)
    }
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
    try? withScratch { (s) throws(Errno) in
      var path = s.real
      table.each { (entry) in
        entry.clear(WatchTable.State.opening | WatchTable.State.closing)
        guard !entry.has(WatchTable.State.list | WatchTable.State.published),
          entry.overlay < Overlay.count
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
