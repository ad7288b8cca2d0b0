import CLinux

/// What this process knows of an inotify instance with watches on lower files.
///
/// A watch of the program's on such a file is two of the kernel's: on the lower, whose watch descriptor
/// the program has, and on the anchor; where opening is reported a third, on the bell (`Bell`). All other
/// watches are the kernel's alone and have no entry.
///
/// Tables are private memory: one fixed reservation, never unmapped, so that a table which is given back
/// under a thread that still reads it costs nothing but a wrong event. Words are atomic; an entry is in
/// use when its first word is not zero, which is written last.
@safe struct WatchTable {
  let base: UnsafeMutableRawPointer

  static var count: Int { 128 }
  static var capacity: Int { 8192 }
  private static var entrySize: Int { 40 }
  private static var stride: Int { 64 + capacity * entrySize }

  /// State of an entry.
  enum State {
    /// The anchor is the upper: its events are the program's, the lower's nobody's.
    static var published: UInt32 { 1 }
    /// Somebody reads the lower for the anchor.
    static var copying: UInt32 { 2 }
    /// The program, or IN_ONESHOT, or the object's end has removed the watch.
    static var removed: UInt32 { 4 }
    /// Nothing but IN_IGNORED is to come.
    static var ended: UInt32 { 8 }
    /// IN_IGNORED was given.
    static var ignored: UInt32 { 16 }
    static var lowerGone: UInt32 { 32 }
    static var anchorGone: UInt32 { 64 }
    /// Not the program's: a watch on a list (`WatchLists`).
    static var list: UInt32 { 128 }
    static var bellGone: UInt32 { 256 }
    /// The next open of the upper is a reader's for one call, the next close too.
    static var opening: UInt32 { 512 }
    static var closing: UInt32 { 1024 }
  }

  @safe struct Entry {
    let words: UnsafeMutablePointer<UInt64>

    var isUsed: Bool { unsafe at_load64(words) != 0 }
    /// The kernel's watch descriptors; 0: none.
    var lower: Int32 { unsafe Int32(truncatingIfNeeded: at_load64(words) & 0xffff_ffff) }
    var anchor: Int32 { unsafe Int32(truncatingIfNeeded: at_load64(words) >> 32) }
    var mask: UInt32 { unsafe UInt32(truncatingIfNeeded: at_load64(words + 1)) }
    var state: UInt32 { unsafe UInt32(truncatingIfNeeded: at_load64(words + 1) >> 32) }
    func has(_ flag: UInt32) -> Bool { state & flag != 0 }
    /// What the anchor is of.
    var overlay: Int { unsafe Int(truncatingIfNeeded: at_load64(words + 2) & 0xffff_ffff) }
    var shown: UInt64 { unsafe at_load64(words + 3) }
    var birth: UInt64 { unsafe at_load64(words + 4) }

    /// The watch descriptor of the bell; 0: there is none.
    var bell: Int32 { unsafe Int32(truncatingIfNeeded: at_load64(words + 2) >> 32) }
    func setBell(_ bell: Int32) {
      unsafe at_store64(words + 2, UInt64(overlay) | UInt64(UInt32(bitPattern: bell)) << 32)
    }
    /// Whether the kernel has none of its watches any more.
    var isGone: Bool {
      has(State.lowerGone) && has(State.anchorGone) && (bell == 0 || has(State.bellGone))
    }

    /// Opens of the lower by others since it was copied up, less their closes: in the state's upper half.
    var strangers: UInt32 { state >> 16 }
    func countStranger(_ change: Int) {
      self.change { (word) in
        let now = Int(word >> 48)
        return word & 0xffff_ffff_ffff | UInt64(min(max(now + change, 0), 0xffff)) << 48
      }
    }

    func setMask(_ mask: UInt32) { change { $0 & ~0xffff_ffff | UInt64(mask) } }
    func set(_ flags: UInt32) { change { $0 | UInt64(flags) << 32 } }
    func clear(_ flags: UInt32) { change { $0 & ~(UInt64(flags) << 32) } }

    private func change(_ body: (UInt64) -> UInt64) {
      while true {
        let now = unsafe at_load64(words + 1)
        if unsafe at_cas64(words + 1, now, body(now)) != 0 { return }
      }
    }

    func use(lower: Int32, anchor: Int32) {
      unsafe at_store64(
        words, UInt64(UInt32(bitPattern: lower)) | UInt64(UInt32(bitPattern: anchor)) << 32)
    }
    func free() { unsafe at_store64(words, 0) }
  }

  // The first word: 1 in use; the second: one more than the highest entry that was ever used.
  private var used: UnsafeMutablePointer<UInt64> {
    unsafe base.assumingMemoryBound(to: UInt64.self)
  }
  private var high: UnsafeMutablePointer<UInt64> { unsafe used + 1 }

  // Who looks at the front of the queue (1: somebody) and how many are in a read: never both.
  private var looking: UnsafeMutablePointer<UInt64> { unsafe used + 2 }
  private var reading: UnsafeMutablePointer<UInt64> { unsafe used + 3 }

  /// Before a read, which may wait: nobody looks meanwhile. A look waits for nothing.
  func beginReading() {
    _ = unsafe at_add64(reading, 1)
    at_fence()
    while unsafe at_load64(looking) != 0 { lx_pause(1000) }
  }
  /// Left out by a cancelled thread: then nobody looks any more, which costs wake-ups.
  func endReading() { _ = unsafe at_add64(reading, UInt64.max) }

  /// False: somebody reads, or looks. Signals are to be blocked.
  func beginLooking() -> Bool {
    if unsafe at_cas64(looking, 0, 1) == 0 { return false }
    at_fence()
    if unsafe at_load64(reading) == 0 { return true }
    endLooking()
    return false
  }
  func endLooking() { unsafe at_store64(looking, 0) }

  /// The event that a look found, for the next read.
  var keptEvent: (UInt64, UInt64)? {
    get {
      guard unsafe at_load64(used + 4) != 0 else { return nil }
      return unsafe (at_relaxed64(used + 5), at_relaxed64(used + 6))
    }
    nonmutating set {
      if let newValue {
        unsafe at_put64(used + 5, newValue.0)
        unsafe at_put64(used + 6, newValue.1)
      }
      unsafe at_store64(used + 4, newValue == nil ? 0 : 1)
    }
  }

  private func reset() {
    unsafe at_store64(looking, 0)
    unsafe at_store64(reading, 0)
    keptEvent = nil
  }

  /// In a forked child: what other threads were in the middle of, and what the parent will read.
  static func resetAll() {
    guard let tables = unsafe ovl_watching_now()!.pointee.tables else { return }
    for number in 0..<count {
      let table = unsafe WatchTable(number: number, UnsafeMutableRawPointer(tables))
      if unsafe at_load64(table.used) != 0 { table.reset() }
    }
  }

  private init(number: Int, _ tables: UnsafeMutableRawPointer) {
    unsafe base = tables + number * WatchTable.stride
  }

  /// The table of a descriptor that is known to be an instance's.
  static func of(_ fd: Int32) -> WatchTable? {
    let entry = DescriptorTable.entry(fd)
    guard entry.has(OVL_FD_WATCHES), entry.ino < UInt64(count),
      let tables = unsafe ovl_watching_now()!.pointee.tables
    else { return nil }
    return unsafe WatchTable(number: Int(entry.ino), UnsafeMutableRawPointer(tables))
  }

  /// The same, made if there is none. Errors: ENOSPC there are too many.
  static func make(_ fd: Int32) throws(Errno) -> WatchTable {
    if let table = of(fd) { return table }
    guard unsafe DescriptorTable.raw(fd) != nil else { throw .noSpace }
    let watching = unsafe ovl_watching_now()!
    if unsafe watching.pointee.tables == nil {
      guard
        let fresh = unsafe lx_mmap(
          stride * count, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1)
      else { throw .noMemory }
      if unsafe lx_set_once(
        &watching.pointee.tables, fresh.assumingMemoryBound(to: CChar.self)) == 0
      {
        _ = unsafe lx_munmap(fresh, stride * count)
      }
    }
    if let table = unsafe take(fd, watching.pointee.tables!) { return table }
    // Those of descriptors that were closed behind our back.
    let tables = unsafe UnsafeMutableRawPointer(watching.pointee.tables!)
    for number in 0..<count where !isInUse(number) {
      unsafe WatchTable(number: number, tables).giveBack()
    }
    if let table = unsafe take(fd, watching.pointee.tables!) { return table }
    throw .noSpace
  }

  private static func take(_ fd: Int32, _ tables: UnsafeMutablePointer<CChar>) -> WatchTable? {
    for number in 0..<count {
      let table = unsafe WatchTable(number: number, UnsafeMutableRawPointer(tables))
      guard unsafe at_load64(table.used) == 0, unsafe at_cas64(table.used, 0, 1) != 0 else {
        continue
      }
      table.each { $0.free() }
      unsafe at_store64(table.high, 0)
      table.reset()
      raiseReach(fd)
      var entry = DescriptorTable.Entry.plain
      entry.word |= UInt64(OVL_FD_WATCHES)
      entry.ino = UInt64(number)
      DescriptorTable.set(fd, entry)
      return table
    }
    return nil
  }

  /// Whether another descriptor than `fd` is of the instance.
  static func isInUse(_ number: Int, but fd: Int32 = -1) -> Bool {
    for other in 0..<Int32(unsafe at_load32(&ovl_watching_now()!.pointee.reach)) where other != fd {
      let entry = DescriptorTable.entry(other)
      if entry.has(OVL_FD_WATCHES), entry.ino == UInt64(number) { return true }
    }
    return false
  }

  static func raiseReach(_ fd: Int32) {
    let watching = unsafe ovl_watching_now()!
    while true {
      let now = unsafe at_load32(&watching.pointee.reach)
      if now > UInt32(fd) { return }
      if unsafe at_cas32(&watching.pointee.reach, now, UInt32(fd) + 1) != 0 { return }
    }
  }

  func giveBack() { unsafe at_store64(used, 0) }

  func each(_ body: (Entry) -> Void) {
    for i in 0..<min(Int(truncatingIfNeeded: unsafe at_load64(high)), WatchTable.capacity) {
      let entry = self[i]
      if entry.isUsed { body(entry) }
    }
  }

  private subscript(_ i: Int) -> Entry {
    unsafe Entry(
      words: (base + 64 + i * WatchTable.entrySize).assumingMemoryBound(to: UInt64.self))
  }

  /// The entry that one of the kernel's watch descriptors belongs to.
  func find(_ wd: Int32) -> Entry? {
    if wd <= 0 { return nil }
    for i in 0..<min(Int(truncatingIfNeeded: unsafe at_load64(high)), WatchTable.capacity) {
      let entry = self[i]
      if entry.isUsed, entry.lower == wd || entry.anchor == wd || entry.bell == wd { return entry }
    }
    return nil
  }

  /// A new entry. Its watch descriptors are those of the kernel. Errors: ENOSPC.
  func add(
    lower: Int32, anchor: Int32, bell: Int32 = 0, mask: UInt32, state: UInt32 = 0,
    of object: Anchor? = nil
  ) throws(Errno) {
    for i in 0..<WatchTable.capacity {
      let entry = self[i]
      // Two threads that add at once: the place is taken with a watch descriptor that there is not.
      guard unsafe at_cas64(entry.words, 0, UInt64.max) != 0 else { continue }
      unsafe at_put64(entry.words + 1, UInt64(mask) | UInt64(state) << 32)
      unsafe at_put64(
        entry.words + 2,
        UInt64(object?.overlay.index ?? 0) | UInt64(UInt32(bitPattern: bell)) << 32)
      unsafe at_put64(entry.words + 3, object?.shown ?? 0)
      unsafe at_put64(entry.words + 4, object?.birth ?? 0)
      while true {
        let now = unsafe at_load64(high)
        if now > UInt64(i) { break }
        if unsafe at_cas64(high, now, UInt64(i) + 1) != 0 { break }
      }
      entry.use(lower: lower, anchor: anchor)
      return
    }
    throw .noSpace
  }
}
