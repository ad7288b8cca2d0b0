import CLinux

/// One look at everything that an inotify instance has polled: what differs from the snapshots becomes events, and
/// the snapshots are written anew (docs/decisions/0021).
///
/// A difference is told when it was there at the look before, too: until then inotify may still tell of it, which
/// explains it (`Polling.explain`). Under the lock of the snapshots, while nobody reads from the instance. What
/// cannot be looked at (a server that does not answer, no descriptor left) stays as it was.
struct Comparison {
  private let table: WatchTable
  private let snapshots: Snapshots
  private let s: Scratch
  private let now: UInt64
  /// Bytes of the space that is written, and where its last block begins.
  private var used = 0
  private var start = 0
  private(set) var isSuspect = false
  /// There was no room for an event, or for a name.
  private(set) var isOverflowing = false

  /// After that long without a change a directory's time of modification says that its names are the same. File
  /// systems that count whole seconds, or two of them, change it but once in that time.
  private static var settled_ns: UInt64 { 3_000_000_000 }

  init(_ table: WatchTable, _ snapshots: Snapshots, _ s: Scratch) {
    self.table = table
    self.snapshots = snapshots
    self.s = s
    now = lx_monotonic_ns()
  }

  /// Writes the new snapshots and the events, as the kernel would have put them. Returns how many watches are left.
  mutating func run() -> Int {
    snapshots.pendingFrom = 0
    snapshots.pendingTo = 0
    let ends =
      WatchTable.State.removed | WatchTable.State.ended | WatchTable.State.ignored
      | WatchTable.State.published
    var at = 0
    var count = 0
    while at < snapshots.used {
      let block = unsafe PolledBlock(snapshots.space + at)
      guard block.size > 0 else { break }
      at += block.size
      guard block.kind == PolledBlock.Kind.file || block.kind == PolledBlock.Kind.directory,
        let entry = table.find(block.wd), entry.has(WatchTable.State.polled), !entry.has(ends)
      else { continue }
      count += 1
      if block.kind == PolledBlock.Kind.file {
        compareFile(block)
      } else {
        compareDirectory(block, isProgram: entry.has(WatchTable.State.directory))
      }
    }
    snapshots.flip(used: used)
    snapshots.additions = 0
    return count
  }

  /// The snapshot of a new watch, as a block at the end of those there are, if there is anything to be seen. False:
  /// there is no room.
  mutating func append(_ wd: Int32, _ path: PathView, _ kind: UInt32) -> Bool {
    used = snapshots.used
    var target = s.real
    var st = stat()
    guard (try? target.set(path)) != nil else { return false }
    if unsafe lx_fstatat(AT_FDCWD, target.cString, &st, AT_SYMLINK_NOFOLLOW) != 0 { return true }
    guard unsafe begin(wd, path, kind, in: snapshots.space) else { return false }
    let block = unsafe PolledBlock(snapshots.space + start)
    block.own.write(path, 0, Glance(st), isSuspect: false)
    if kind == PolledBlock.Kind.directory {
      let opened = unsafe lx_openat(
        AT_FDCWD, target.cString, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0)
      let directory = Int32(truncatingIfNeeded: opened)
      guard opened >= 0 else { return opened == -Int(EACCES) }
      defer { _ = lx_close(directory) }
      block.moved = now
      block.stamp = Comparison.stamp(st)
      let space = unsafe snapshots.space
      let isRead: Void? = try? DirectoryReader.each(directory, s) { (name, _, _) throws(Errno) in
        let g = glance(directory, name) ?? Glance()
        return unsafe g.isAbsent || enter(name, Marker.hash(name), g, isSuspect: false, in: space)
      }
      if isRead == nil || isOverflowing { return false }
    }
    block.size = used - start
    snapshots.used = used
    return true
  }

  // ---- writing ----

  private mutating func begin(
    _ wd: Int32, _ path: PathView, _ kind: UInt32, in space: UnsafeMutableRawPointer
  ) -> Bool {
    let size = PolledBlock.headerWords * 8 + PolledName.padded(path.count)
    guard used + size <= Snapshots.spaceSize, path.count < 65536 else {
      isOverflowing = true
      return false
    }
    start = used
    used += size
    let block = unsafe PolledBlock(space + start)
    block.size = 0
    block.wd = wd
    block.kind = kind
    block.pathLength = path.count
    block.moved = 0
    block.stamp = 0
    return true
  }

  private mutating func enter(
    _ name: PathView, _ hash: UInt64, _ g: Glance, isSuspect: Bool,
    in space: UnsafeMutableRawPointer
  ) -> Bool {
    let size = PolledName.headerWords * 8 + PolledName.padded(name.count)
    guard used + size <= Snapshots.spaceSize else {
      isOverflowing = true
      return false
    }
    let record = unsafe PolledName(
      (space + used).assumingMemoryBound(to: UInt64.self), length: name.count)
    record.write(name, hash, g, isSuspect: isSuspect)
    used += size
    return true
  }

  /// One object, and what is to be told of it.
  private mutating func put(_ wd: Int32, _ name: PathView, _ old: PolledName?, _ new: Glance) {
    let was = old?.glance ?? Glance()
    let (first, second) = was.changes(to: new)
    var kept = new
    var doubtful = false
    if first != 0 {
      if old?.isSuspect == true {
        tell(wd, first, name)
        if second != 0 { tell(wd, second, name) }
      } else {
        kept = was
        doubtful = true
        isSuspect = true
      }
    }
    if kept.isAbsent, !doubtful { return }
    let hash = old?.hash ?? Marker.hash(name)
    _ = unsafe enter(name, hash, kept, isSuspect: doubtful, in: snapshots.other)
  }

  /// The block as it is, with the names it got since.
  private mutating func keep(_ block: PolledBlock) {
    guard unsafe begin(block.wd, block.path, block.kind, in: snapshots.other) else { return }
    let copy = unsafe PolledBlock(snapshots.other + start)
    let own = block.own
    copy.own.write(block.path, 0, own.glance, isSuspect: own.isSuspect)
    copy.moved = block.moved
    copy.stamp = block.stamp
    isSuspect = isSuspect || own.isSuspect
    eachName(of: block) { (comparison, name) in
      comparison.isSuspect = comparison.isSuspect || name.isSuspect
      _ = unsafe comparison.enter(
        name.name, name.hash, name.glance, isSuspect: name.isSuspect,
        in: comparison.snapshots.other)
    }
    copy.size = used - start
  }

  /// An event as the kernel writes one: the name ends in zeros, up to a multiple of 16 bytes.
  private mutating func tell(_ wd: Int32, _ mask: UInt32, _ name: PathView) {
    let padded = name.isEmpty ? 0 : (name.count + 16) & ~15
    let at = snapshots.pendingTo
    // The last 16 bytes are for the word of an overflow.
    guard at + 16 + padded + 16 <= Snapshots.pendingSize else {
      isOverflowing = true
      return
    }
    let event = unsafe snapshots.pending + at
    unsafe event.storeBytes(of: wd, as: Int32.self)
    unsafe event.storeBytes(of: mask, toByteOffset: 4, as: UInt32.self)
    unsafe event.storeBytes(of: 0, toByteOffset: 8, as: UInt32.self)
    unsafe event.storeBytes(of: UInt32(padded), toByteOffset: 12, as: UInt32.self)
    let text = unsafe (event + 16).assumingMemoryBound(to: UInt8.self)
    unsafe copyBytes(text, name.base, name.count)
    for i in name.count..<max(padded, name.count) { unsafe text[i] = 0 }
    snapshots.pendingTo = at + 16 + padded
  }

  // ---- looking ----

  private static func stamp(_ st: stat) -> UInt64 {
    let g = Glance(st)
    return g.modified &+ g.changed &* 3 &+ g.inode &* 5
  }

  /// nil: it cannot be told. A whiteout is nothing.
  private func glance(_ directory: Int32, _ name: PathView) -> Glance? {
    var st = stat()
    let text = unsafe UnsafeRawPointer(name.base).assumingMemoryBound(to: CChar.self)
    let r = unsafe lx_fstatat(directory, text, &st, AT_SYMLINK_NOFOLLOW)
    if r == 0 { return st.isWhiteoutNode ? Glance() : Glance(st) }
    return Comparison.isGone(r) ? Glance() : nil
  }

  private static func isGone(_ result: Int) -> Bool {
    result == -Int(ENOENT) || result == -Int(ENOTDIR)
  }

  /// Whether the layer of a path that leads nowhere is there: it is not after chroot(2) or umount(2).
  private func isReachable(_ path: PathView) -> Bool {
    for number in 0..<Overlay.count {
      let overlay = Overlay(index: number)
      for i in 1..<max(overlay.layerCount, 1)
      where overlay.isPolled(i) && path.isAt(orBelow: overlay.layerPath(i)) {
        var root = s.here
        var st = stat()
        guard (try? root.append(overlay.layerPath(i))) != nil, (try? root.append(slash)) != nil,
          unsafe lx_fstatat(AT_FDCWD, root.cString, &st, 0) == 0,
          st.device == overlay.layerDevice(i)
        else { return false }
      }
    }
    return true
  }

  private func noName() -> PathView {
    unsafe PathView(snapshots.space.assumingMemoryBound(to: UInt8.self), 0)
  }

  private mutating func compareFile(_ block: PolledBlock) {
    let own = block.own
    guard let new = glance(AT_FDCWD, block.path), !new.isAbsent || isReachable(block.path)
    else { return keep(block) }
    let was = own.glance
    let isGone = new.isAbsent || was.isAnother(new)
    let (first, second) =
      isGone ? (UInt32(IN_ATTRIB), UInt32(IN_DELETE_SELF)) : was.changes(to: new)
    let isTold = first != 0 && own.isSuspect
    guard
      unsafe begin(
        block.wd, block.path, isTold && isGone ? PolledBlock.Kind.ending : block.kind,
        in: snapshots.other)
    else { return }
    let copy = unsafe PolledBlock(snapshots.other + start)
    let doubtful = first != 0 && !isTold
    copy.own.write(block.path, 0, doubtful ? was : new, isSuspect: doubtful)
    copy.size = used - start
    isSuspect = isSuspect || doubtful
    guard isTold else { return }
    tell(block.wd, first, noName())
    if second != 0 { tell(block.wd, second, noName()) }
  }

  /// - Parameter isProgram: the program watches this very directory, not one of the upper over it.
  private mutating func compareDirectory(_ block: PolledBlock, isProgram: Bool) {
    let text = unsafe UnsafeRawPointer(block.path.base).assumingMemoryBound(to: CChar.self)
    let opened = unsafe lx_openat(
      AT_FDCWD, text, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0)
    let isGone = Comparison.isGone(opened)
    if opened < 0, !isGone || !isReachable(block.path) { return keep(block) }
    let directory = Int32(truncatingIfNeeded: opened)
    defer { if !isGone { _ = lx_close(directory) } }
    var st = stat()
    if !isGone, unsafe lx_fstat(directory, &st) < 0 { return keep(block) }
    let stamp = isGone ? 0 : Comparison.stamp(st)
    let isMoved = stamp != block.stamp
    let isRead = !isGone && (isMoved || now &- block.moved < Comparison.settled_ns)
    var names: Int32 = -1
    if isRead {
      names = Int32(
        truncatingIfNeeded: unsafe lx_openat(
          directory, ".", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0))
      if names < 0 { return keep(block) }
    }
    defer { if names >= 0 { _ = lx_close(names) } }
    let (pending, doubts, room) = (snapshots.pendingTo, isSuspect, used)
    guard unsafe begin(block.wd, block.path, block.kind, in: snapshots.other) else { return }
    let copy = unsafe PolledBlock(snapshots.other + start)
    let end = compareOwn(block, copy, isGone ? Glance() : Glance(st), isProgram)
    copy.moved = isMoved ? now : block.moved
    copy.stamp = stamp
    guard compareNames(block, names, isGone ? -1 : directory) else {
      // As if it had not been looked at.
      snapshots.pendingTo = pending
      isSuspect = doubts
      used = room
      return keep(block)
    }
    if end != 0 { tell(block.wd, end, noName()) }
    copy.size = used - start
  }

  /// The directory's own attributes. Returns what is to be told after its names; 0: nothing.
  private mutating func compareOwn(
    _ block: PolledBlock, _ copy: PolledBlock, _ new: Glance, _ isProgram: Bool
  ) -> UInt32 {
    let was = block.own.glance
    let isGone = isProgram && (new.isAbsent || was.isAnother(new) && was.inode != new.inode)
    let change = isProgram ? isGone ? UInt32(IN_DELETE_SELF) : was.changes(to: new).0 : 0
    let doubtful = change != 0 && !block.own.isSuspect
    copy.own.write(block.path, 0, doubtful ? was : new, isSuspect: doubtful)
    isSuspect = isSuspect || doubtful
    if change == 0 || doubtful { return 0 }
    if isGone {
      copy.kind = PolledBlock.Kind.ending
      return change
    }
    tell(block.wd, change, noName())
    return 0
  }

  // ---- names ----

  /// Calls `body` with every name of a directory's block and those it got since.
  private mutating func eachName(
    of block: PolledBlock, _ body: (inout Comparison, PolledName) -> Void
  ) {
    let snapshots = snapshots
    block.each { (name, _) in body(&self, name) }
    if block.kind != PolledBlock.Kind.directory || snapshots.additions == 0 { return }
    snapshots.each { (addition) in
      guard addition.kind == PolledBlock.Kind.addition, addition.wd == block.wd else { return }
      addition.each { (name, _) in body(&self, name) }
    }
  }

  /// - Parameters:
  ///   - names: the directory, to be read; -1: its names are those of the block.
  ///   - directory: the directory; -1: it is gone.
  /// - Returns: false where something could not be looked at.
  private mutating func compareNames(_ block: PolledBlock, _ names: Int32, _ directory: Int32)
    -> Bool
  {
    var isWhole = true
    if names >= 0 {
      let old = OldNames(snapshots, count: count(of: block))
      eachName(of: block) { (_, name) in old.enter(name) }
      do throws(Errno) {
        try DirectoryReader.each(names, s) { (name, _, _) throws(Errno) in
          guard let new = glance(directory, name) else { throw .again }
          let was = old.take(name, Marker.hash(name))
          put(block.wd, name, was, new)
          return true
        }
      } catch { return false }
      eachName(of: block) { (comparison, name) in
        if !name.isTaken { comparison.put(block.wd, name.name, name, Glance()) }
      }
      return true
    }
    eachName(of: block) { (comparison, name) in
      guard directory >= 0 else { return comparison.put(block.wd, name.name, name, Glance()) }
      guard isWhole, let new = comparison.glance(directory, name.name) else {
        isWhole = false
        return
      }
      comparison.put(block.wd, name.name, name, new)
    }
    return isWhole
  }

  private mutating func count(of block: PolledBlock) -> Int {
    var count = 0
    eachName(of: block) { (_, _) in count += 1 }
    return count
  }
}

/// The names of one block by their hashes, while the directory is read. A space holds fewer names than there are slots.
@safe private struct OldNames {
  private let snapshots: Snapshots
  private let slots: Int

  init(_ snapshots: Snapshots, count: Int) {
    self.snapshots = snapshots
    var slots = 16
    while slots < count * 2, slots < Snapshots.indexCount { slots *= 2 }
    self.slots = slots
    for i in 0..<slots { unsafe snapshots.index[i] = 0 }
  }

  func enter(_ name: PolledName) {
    name.isTaken = false
    var i = Int(truncatingIfNeeded: name.hash) & (slots - 1)
    while unsafe snapshots.index[i] != 0 { i = (i + 1) & (slots - 1) }
    unsafe snapshots.index[i] = UInt32(truncatingIfNeeded: name.offset(in: snapshots.space) / 8 + 1)
  }

  func take(_ name: PathView, _ hash: UInt64) -> PolledName? {
    var i = Int(truncatingIfNeeded: hash) & (slots - 1)
    while true {
      let found = unsafe snapshots.index[i]
      if found == 0 { return nil }
      let old = unsafe PolledName(
        (snapshots.space + (Int(found) - 1) * 8).assumingMemoryBound(to: UInt64.self))
      if old.hash == hash, !old.isTaken, old.name.equals(name) {
        old.isTaken = true
        return old
      }
      i = (i + 1) & (slots - 1)
    }
  }
}
