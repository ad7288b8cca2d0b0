import CLinux

/// Watches on lowers whose changes inotify does not tell: they are looked at by whoever waits for the instance, or
/// reads it (docs/decisions/0021).
///
/// What a look finds is written as events of the kernel's watch on the lower and translated as those are, so that
/// what is hidden in the overlay, or not asked for, is left out in the same way. A look is taken only with nothing
/// in the queue, by one thread, once an interval.
///
/// Left out: a signal that arrives in the middle of a look is handled after it.
enum Polling {
  /// How long inotify has to explain a difference.
  private static var grace_ns: UInt64 { 100_000_000 }
  /// What the kernel is asked of polled lowers, whatever the program wishes.
  private static var explained: UInt32 {
    UInt32(IN_MODIFY | IN_ATTRIB | IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO)
  }

  // ---- setting ----

  /// After inotify_add_watch(2) on an object of an overlay: the same watch descriptor, or `-errno`, and then
  /// there is no watch.
  static func add(_ fd: Int32, _ wd: Int, _ p: inout ovl_path, _ mask: UInt32) -> Int {
    let overlay = unsafe Overlay(index: Int(p.overlay))
    guard wd > 0, overlay.hasPolledLayers else { return wd }
    let number = Int32(truncatingIfNeeded: wd)
    do throws(Errno) {
      if unsafe p.kind == Kind.directory.rawValue {
        unsafe try addDirectory(fd, number, overlay, PathView(p.real))
      } else if unsafe p.kind == Kind.file.rawValue {
        unsafe try addFile(fd, number, overlay, p.real, mask)
      }
      return wd
    } catch {
      let ends =
        WatchTable.State.removed | WatchTable.State.ended | WatchTable.State.ignored
      if let entry = WatchTable.of(fd)?.find(number) {
        Watches.end(fd, entry, ends)
      }
      return error.result
    }
  }

  private static func addFile(
    _ fd: Int32, _ wd: Int32, _ overlay: Overlay, _ real: UnsafePointer<CChar>, _ mask: UInt32
  ) throws(Errno) {
    let path = unsafe PathView(real)
    guard overlay.isPolled(layer(of: path, overlay)) else { return }
    let table = try WatchTable.make(fd)
    var entry = table.find(wd)
    if entry == nil {
      // The kernel's own until now: once is ours to count.
      if mask & Watches.oneShot != 0 {
        let again = mask & ~(Watches.oneShot | UInt32(IN_MASK_CREATE))
        _ = unsafe lx_inotify_add_watch(fd, real, again)
      }
      try table.add(
        lower: wd, anchor: 0, mask: mask & (0xfff | Watches.oneShot),
        state: WatchTable.State.anchorGone)
      entry = table.find(wd)
    }
    guard let entry, entry.lower == wd, !entry.has(WatchTable.State.published) else { return }
    try begin(fd, table, entry, path, PolledBlock.Kind.file, overlay)
  }

  private static func addDirectory(
    _ fd: Int32, _ wd: Int32, _ overlay: Overlay, _ real: PathView
  ) throws(Errno) {
    guard let table = WatchTable.of(fd), let entry = table.find(wd),
      entry.has(WatchTable.State.directory)
    else { return }
    var next = entry.next
    let isUpper = next != 0 && table[next - 1].has(WatchTable.State.markers)
    if !isUpper, overlay.isPolled(layer(of: real, overlay)) {
      try begin(fd, table, entry, real, PolledBlock.Kind.directory, overlay)
    }
    while next != 0 {
      let further = table[next - 1]
      guard further.has(WatchTable.State.further), further.programs == wd else { return }
      next = further.next
      guard further.has(WatchTable.State.layer),
        let path = WatchedNames(table)?.path(further.path),
        overlay.isPolled(layer(of: path, overlay))
      else { continue }
      try begin(fd, table, further, path, PolledBlock.Kind.directory, overlay)
    }
  }

  /// The lower that a real path is in; 0: none.
  private static func layer(of path: PathView, _ overlay: Overlay) -> Int {
    var best = 0
    for i in 1..<overlay.layerCount where path.isAt(orBelow: overlay.layerPath(i)) {
      if best == 0 || overlay.layerPath(i).count > overlay.layerPath(best).count { best = i }
    }
    return best
  }

  private static func begin(
    _ fd: Int32, _ table: WatchTable, _ entry: WatchTable.Entry, _ path: PathView, _ kind: UInt32,
    _ overlay: Overlay
  ) throws(Errno) {
    let snapshots = try Snapshots(making: table)
    try withScratch { (s) throws(Errno) in
      var real = s.real2
      try real.append(path)
      let only = kind == PolledBlock.Kind.directory ? UInt32(IN_ONLYDIR) : 0
      let added = try unsafe check(
        lx_inotify_add_watch(
          fd, real.cString, explained | only | UInt32(IN_DONT_FOLLOW) | Watches.maskAdd))
      let number = Int32(truncatingIfNeeded: added)
      guard number == entry.lower else {
        // Another object has the name now: of that one nothing is told.
        if table.find(number) == nil {
          let nobodys = WatchTable.State.list | WatchTable.State.anchorGone
          try table.add(lower: number, anchor: 0, mask: 0, state: nobodys)
          _ = lx_inotify_rm_watch(fd, number)
        }
        return
      }
      let mask = lx_block_signals()
      defer { lx_restore_signals(mask) }
      snapshots.lock()
      defer { snapshots.unlock() }
      var isThere = false
      snapshots.each { isThere = isThere || $0.wd == number && $0.kind == kind }
      if isThere, entry.has(WatchTable.State.polled) { return }
      var comparison = Comparison(table, snapshots, s)
      guard comparison.append(number, real.view, kind) else { throw .noSpace }
      entry.set(WatchTable.State.polled)
      let (interval, now) = unsafe (overlay.raw.pointee.poll_ns, lx_monotonic_ns())
      let isFirst = snapshots.interval == 0
      if isFirst || interval < snapshots.interval { snapshots.interval = interval }
      if isFirst || now + interval < snapshots.due { snapshots.due = now + interval }
      unsafe at_store32(&ovl_watching_now()!.pointee.polled, 1)
    }
  }

  // ---- looking ----

  /// Nanoseconds until the next look; -1: there will be none.
  static func due(_ fd: Int32) -> Int {
    guard let table = WatchTable.of(fd), let snapshots = Snapshots(table), snapshots.interval != 0,
      !Loan.isActive, !Confinement.isOn
    else { return -1 }
    let now = lx_monotonic_ns()
    return snapshots.due <= now ? 0 : Int(truncatingIfNeeded: snapshots.due - now)
  }

  /// Takes a look if one is due, while nobody reads and with all signals blocked. Whether there are events now.
  static func look(_ fd: Int32, _ table: WatchTable) -> Bool {
    guard let snapshots = Snapshots(table), due(fd) == 0, snapshots.tryLock() else { return false }
    defer { snapshots.unlock() }
    try? withScratch { (s) throws(Errno) in
      let began = lx_monotonic_ns()
      var comparison = Comparison(table, snapshots, s)
      let count = comparison.run()
      tell(fd, table, snapshots, comparison.isOverflowing)
      let ended = lx_monotonic_ns()
      let pause = comparison.isSuspect ? grace_ns : snapshots.interval
      // However slow the file system: four fifths of the time are the program's.
      snapshots.due = ended + max(pause, (ended - began) &* 4)
      if count == 0 { snapshots.interval = 0 }
    }
    refill(table)
    return table.keptCount > 0
  }

  /// Makes the program's events of those that a comparison has written.
  private static func tell(
    _ fd: Int32, _ table: WatchTable, _ snapshots: Snapshots, _ isOverflowing: Bool
  ) {
    snapshots.isTelling = true
    snapshots.pendingTo = unsafe Translation.inPlace(
      fd, snapshots.pending, snapshots.pendingTo)
    snapshots.isTelling = false
    let isNew = isOverflowing && !snapshots.isOverflown
    snapshots.isOverflown = isOverflowing
    if isNew {
      let event = unsafe snapshots.pending + snapshots.pendingTo
      unsafe event.storeBytes(of: -1, as: Int32.self)
      unsafe event.storeBytes(of: UInt32(IN_Q_OVERFLOW), toByteOffset: 4, as: UInt32.self)
      unsafe event.storeBytes(of: 0, toByteOffset: 8, as: UInt64.self)
      snapshots.pendingTo += 16
    }
    snapshots.each { (block) in
      guard block.kind == PolledBlock.Kind.ending else { return }
      block.kind = PolledBlock.Kind.none
      if let entry = table.find(block.wd) {
        Watches.end(fd, entry, WatchTable.State.removed | WatchTable.State.ended)
      }
    }
  }

  /// Gives what waits to the next read, as much as there is room for.
  static func refill(_ table: WatchTable) {
    guard let snapshots = Snapshots(table), table.keptCount == 0 else { return }
    let (from, to) = (snapshots.pendingFrom, snapshots.pendingTo)
    var end = from
    while end + 16 <= to {
      let event = unsafe snapshots.pending + end
      let size = unsafe 16 + Int(event.loadUnaligned(fromByteOffset: 12, as: UInt32.self))
      if end + size > to || end + size - from > WatchTable.keptSize { break }
      end += size
    }
    if end == from { return }
    unsafe copyBytes(
      table.kept.assumingMemoryBound(to: UInt8.self),
      (snapshots.pending + from).assumingMemoryBound(to: UInt8.self), end - from)
    snapshots.pendingFrom = end
    table.keptCount = end - from
  }

  /// Puts an IN_IGNORED that is nobody's into the queue, where no list is watched that could be touched
  /// (`WatchTable.raiseKept`): of a watch that is set and removed at once.
  static func raise(_ fd: Int32, _ table: WatchTable) {
    guard Snapshots(table) != nil, lx_queued(fd) == 0 else { return }
    let objects: InlineArray<3, StaticString> = ["/proc/version", "/dev/null", "/"]
    for i in 0..<3 {
      let path = unsafe UnsafeRawPointer(objects[i].utf8Start).assumingMemoryBound(to: CChar.self)
      // Not one that the program watches.
      let wd = unsafe lx_inotify_add_watch(
        fd, path, UInt32(IN_DELETE_SELF | IN_MASK_CREATE | IN_DONT_FOLLOW))
      if wd <= 0 { continue }
      let nobodys = WatchTable.State.list | WatchTable.State.anchorGone
      let number = Int32(truncatingIfNeeded: wd)
      try? table.add(lower: number, anchor: 0, mask: 0, state: nobodys)
      _ = lx_inotify_rm_watch(fd, number)
      return
    }
  }

  /// Bytes of events that wait behind those that are kept.
  static func waiting(_ table: WatchTable) -> Int {
    guard let snapshots = Snapshots(table) else { return 0 }
    return max(snapshots.pendingTo - snapshots.pendingFrom, 0)
  }

  // ---- what inotify tells itself ----

  /// Whether an event may be that a look has read a directory which the program itself watches, there being no
  /// upper. Nobody else's reading of directories is told there.
  static func isLook(_ entry: WatchTable.Entry, _ mask: UInt32) -> Bool {
    entry.has(WatchTable.State.directory) && mask & UInt32(IN_ISDIR) != 0
      && mask & UInt32(IN_OPEN | IN_ACCESS | IN_CLOSE_NOWRITE) != 0
  }

  /// An event of the kernel's on a polled lower: what it tells is not told again.
  static func explain(
    _ table: WatchTable, _ wd: Int32, _ mask: UInt32, _ event: UnsafeMutableRawPointer, _ size: Int
  ) {
    let ends = UInt32(IN_MOVE_SELF)
    guard mask & (explained | ends) != 0, !Confinement.isOn, let snapshots = Snapshots(table),
      !snapshots.isTelling
    else { return }
    let blocked = lx_block_signals()
    defer { lx_restore_signals(blocked) }
    snapshots.lock()
    defer { snapshots.unlock() }
    let name =
      size > 16 ? unsafe PathView((event + 16).assumingMemoryBound(to: CChar.self)) : nil
    let hash = name.map(Marker.hash) ?? 0
    var isKnown = false
    try? withScratch { (s) throws(Errno) in
      var path = s.real
      var isSeen = false
      var st = stat()
      var now = Glance()
      snapshots.each { (block) in
        guard block.wd == wd, block.kind != PolledBlock.Kind.none else { return }
        if block.kind == PolledBlock.Kind.file, mask & ends != 0 {
          // Where it is now nobody says.
          block.kind = PolledBlock.Kind.none
          return
        }
        if !isSeen, block.kind != PolledBlock.Kind.addition {
          isSeen = true
          guard (try? path.set(block.path)) != nil else { return }
          if let name {
            guard (try? path.append(slash)) != nil, (try? path.append(name)) != nil else { return }
          }
          if unsafe lx_fstatat(AT_FDCWD, path.cString, &st, AT_SYMLINK_NOFOLLOW) == 0 {
            now = Glance(st)
          }
        }
        guard let name else {
          if !now.isAbsent { block.own.set(now, isSuspect: false) }
          return
        }
        block.each { (record, _) in
          if record.hash == hash, record.name.equals(name) {
            record.set(now, isSuspect: false)
            isKnown = true
          }
        }
      }
      if let name, isSeen, !isKnown, !now.isAbsent { add(snapshots, wd, name, hash, now) }
    }
  }

  /// A name that a directory got since it was read.
  private static func add(
    _ snapshots: Snapshots, _ wd: Int32, _ name: PathView, _ hash: UInt64, _ g: Glance
  ) {
    let start = snapshots.used
    let header = PolledBlock.headerWords * 8 + PolledName.padded(0)
    let size = header + PolledName.headerWords * 8 + PolledName.padded(name.count)
    guard start + size <= Snapshots.spaceSize else { return }
    let block = unsafe PolledBlock(snapshots.space + start)
    block.wd = wd
    block.kind = PolledBlock.Kind.addition
    block.pathLength = 0
    block.moved = 0
    block.stamp = 0
    block.size = size
    let record = unsafe PolledName(
      (block.base + header).assumingMemoryBound(to: UInt64.self), length: name.count)
    record.write(name, hash, g, isSuspect: false)
    snapshots.used = start + size
    snapshots.additions += 1
  }
}
