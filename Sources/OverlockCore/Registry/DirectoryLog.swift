import CLinux

/// What happened to the names of directories lately: a ring of renames and removals in the segment.
///
/// A removed directory has no name that a rename of its parent could change, but its ".." leads to that
/// parent wherever it is by now. Who holds one finds its removal here, and plays what came after it on
/// the path of its parent. What is not found any more (an old entry, a wiped segment, a path too long for
/// one) is answered from the path that the directory had.
///
/// Entries are numbered by tickets; entry N stands in slot N modulo their number. A writer holds the turns
/// of the directories that it writes of, so what concerns one directory stands in order. Each entry has a
/// check over its ticket and all its bytes, written last: a torn, overwritten or scribbled one is none.
@safe struct DirectoryLog {
  private let registry: Registry

  init(_ registry: Registry) { self.registry = registry }

  private enum Word {
    static let ticket = 0, id = 1, inode = 2, kind = 3, owner = 4, accessed = 5, modified = 6
    static let lengths = 7
  }
  private static var words: Int { 63 }
  private static var textSize: Int { (words - 1 - Word.lengths) * 8 }
  private static var slots: UInt64 { 255 }

  enum Kind: UInt64 { case moved = 1, exchanged, removed, tooLong }

  /// A copy of one entry.
  private struct Entry {
    var memory: InlineArray<63, UInt64> = InlineArray(repeating: 0)

    var kind: Kind? { Kind(rawValue: memory[Word.kind] & 0xff) }
    var first: Int { min(Int(memory[Word.lengths] & 0xffff), DirectoryLog.textSize) }
    var second: Int {
      min(Int(memory[Word.lengths] >> 32 & 0xffff), DirectoryLog.textSize - first)
    }
  }

  // MARK: writing

  /// The directory `old` is `new` from here on; `exchange`: and that one `old`.
  func noteMove(_ old: PathView, _ new: PathView, exchange: Bool) {
    var entry = Entry()
    entry.memory[Word.kind] = exchange ? Kind.exchanged.rawValue : Kind.moved.rawValue
    write(&entry, old, new)
  }

  /// A directory was removed.
  ///
  /// - Parameters:
  ///   - id: never used before, for finding it again; a staging name carries it.
  ///   - inode: the number that it showed, where a descriptor of a lower may still have it.
  ///   - st: what it was, for who comes to it by "..".
  func noteRemoval(_ path: PathView, id: UInt64, inode: UInt64, _ st: stat) {
    var entry = Entry()
    entry.memory[Word.id] = id
    entry.memory[Word.inode] = inode
    entry.memory[Word.kind] = Kind.removed.rawValue | UInt64(st.st_mode & 0o7777) << 8
    entry.memory[Word.owner] = UInt64(st.st_uid) | UInt64(st.st_gid) << 32
    entry.memory[Word.accessed] = DirectoryLog.packed(st.st_atim)
    entry.memory[Word.modified] = DirectoryLog.packed(st.st_mtim)
    write(&entry, path, path.prefix(0))
  }

  private static func packed(_ time: timespec) -> UInt64 {
    UInt64(bitPattern: Int64(time.tv_sec)) &* 1_000_000_000
      &+ UInt64(bitPattern: Int64(time.tv_nsec))
  }

  private static func time(_ packed: UInt64) -> timespec {
    var seconds = Int64(bitPattern: packed) / 1_000_000_000
    var rest = Int64(bitPattern: packed) % 1_000_000_000
    if rest < 0 {
      seconds -= 1
      rest += 1_000_000_000
    }
    return timespec(tv_sec: Int(seconds), tv_nsec: Int(rest))
  }

  private func write(_ entry: inout Entry, _ first: PathView, _ second: PathView) {
    if first.count + second.count > DirectoryLog.textSize {
      entry.memory[Word.kind] = Kind.tooLong.rawValue
    } else {
      entry.memory[Word.lengths] = UInt64(first.count) | UInt64(second.count) << 32
      unsafe withUnsafeMutablePointer(to: &entry.memory) {
        let text =
          unsafe (UnsafeMutableRawPointer($0) + Word.lengths * 8 + 8)
          .assumingMemoryBound(to: UInt8.self)
        unsafe copyBytes(text, first.base, first.count)
        unsafe copyBytes(text + first.count, second.base, second.count)
      }
    }
    let ticket = unsafe at_add64(registry.word(Registry.logOffset), 1) &+ 1
    entry.memory[Word.ticket] = ticket
    let slot = unsafe registry.word(offset(ticket))
    unsafe at_store64(slot, 0)
    at_fence()
    for i in 0..<DirectoryLog.words { unsafe at_put64(slot + 1 + i, entry.memory[i]) }
    unsafe at_store64(slot, check(entry))
  }

  // MARK: reading

  private func offset(_ ticket: UInt64) -> Int {
    Registry.logOffset + 512 * (1 + Int(ticket % DirectoryLog.slots))
  }

  private func check(_ entry: Entry) -> UInt64 {
    var hash = PathHash(registry.key0, registry.key1)
    unsafe withUnsafePointer(to: entry.memory) {
      unsafe hash.append(
        UnsafeRawPointer($0).assumingMemoryBound(to: UInt8.self), DirectoryLog.words * 8)
    }
    return hash.a | 1
  }

  private func read(_ ticket: UInt64) -> Entry? {
    let slot = unsafe registry.word(offset(ticket))
    let seen = unsafe at_load64(slot)
    var entry = Entry()
    for i in 0..<DirectoryLog.words { entry.memory[i] = unsafe at_relaxed64(slot + 1 + i) }
    guard entry.memory[Word.ticket] == ticket, check(entry) == seen else { return nil }
    return entry
  }

  /// A removed directory, as the log tells of it.
  struct Trace {
    /// Its entry.
    var ticket: UInt64
    var id: UInt64
    var inode: UInt64
    var mode: UInt32
    var owner: (uid: UInt32, gid: UInt32)
    var accessed: timespec
    var modified: timespec
    /// So much of its path is a directory that is there.
    var live: Int
    /// The entry of its parent, if that was removed too.
    var parent: UInt64
  }

  /// The last removal with that id, or of the directory that showed that inode.
  func find(id: UInt64 = 0, inode: UInt64 = 0) -> UInt64? {
    let head = unsafe at_load64(registry.word(Registry.logOffset))
    var ticket = head
    while ticket > 0, head - ticket < DirectoryLog.slots {
      if let entry = read(ticket), entry.kind == .removed,
        id != 0 ? entry.memory[Word.id] == id : inode != 0 && entry.memory[Word.inode] == inode
      {
        return ticket
      }
      ticket -= 1
    }
    return nil
  }

  /// Where a removed directory is, were it still there: writes the path. nil: not known any more.
  func trace(_ ticket: UInt64, into path: inout PathBuffer) throws(Errno) -> Trace? {
    guard ticket > 0, let entry = read(ticket), entry.kind == .removed else { return nil }
    let owner = entry.memory[Word.owner]
    try set(&path, entry)
    var trace = Trace(
      ticket: ticket, id: entry.memory[Word.id], inode: entry.memory[Word.inode],
      mode: UInt32(entry.memory[Word.kind] >> 8 & 0o7777),
      owner: (UInt32(owner & 0xffff_ffff), UInt32(owner >> 32)),
      accessed: DirectoryLog.time(entry.memory[Word.accessed]),
      modified: DirectoryLog.time(entry.memory[Word.modified]), live: path.view.parent.count,
      parent: 0)
    let head = unsafe at_load64(registry.word(Registry.logOffset))
    guard head >= ticket, head - ticket < DirectoryLog.slots else { return nil }
    var next = ticket
    while next < head {
      next += 1
      guard let event = read(next), try play(event, next, &path, &trace) else { return nil }
    }
    return trace
  }

  private func set(_ path: inout PathBuffer, _ entry: Entry) throws(Errno) {
    path.count = 0
    try append(&path, entry, 0, entry.first)
  }

  private func append(_ path: inout PathBuffer, _ entry: Entry, _ from: Int, _ count: Int)
    throws(Errno)
  {
    for i in from..<from + count {
      try path.append(
        UInt8(truncatingIfNeeded: entry.memory[Word.lengths + 1 + i / 8] >> UInt64(i % 8 * 8)))
    }
  }

  /// One later event. False: nothing is known from here on.
  private func play(
    _ event: Entry, _ ticket: UInt64, _ path: inout PathBuffer, _ trace: inout Trace
  ) throws(Errno) -> Bool {
    guard let kind = event.kind, kind != .tooLong else { return false }
    if isAt(path, trace.live, orBelow: event, 0, event.first) {
      if kind == .removed {
        guard trace.live == event.first else { return false }
        if trace.parent == 0 { trace.parent = ticket }
        trace.live = path.view.prefix(trace.live).parent.count
        return true
      }
      try replace(&path, event.first, event, event.first, event.second)
      trace.live += event.second - event.first
    } else if kind == .exchanged,
      isAt(path, trace.live, orBelow: event, event.first, event.second)
    {
      try replace(&path, event.second, event, 0, event.first)
      trace.live += event.first - event.second
    }
    return true
  }

  private func isAt(
    _ path: PathBuffer, _ live: Int, orBelow entry: Entry, _ from: Int, _ count: Int
  ) -> Bool {
    guard count > 0, live >= count, live == count || path.view[count] == slash else {
      return false
    }
    for i in 0..<count {
      let at = from + i
      guard
        path.view[i]
          == UInt8(
            truncatingIfNeeded: entry.memory[Word.lengths + 1 + at / 8] >> UInt64(at % 8 * 8))
      else { return false }
    }
    return true
  }

  private func replace(
    _ path: inout PathBuffer, _ length: Int, _ entry: Entry, _ from: Int, _ count: Int
  ) throws(Errno) {
    try withScratch { (s) throws(Errno) in
      var new = s.rest
      try self.append(&new, entry, from, count)
      try new.append(path.view.from(length))
      try path.set(new.view)
    }
  }
}
