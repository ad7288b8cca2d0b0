import CLinux

/// What this process knows of an inotify instance with watches of our making.
///
/// A watch of the program's on a lower file is two of the kernel's: on the lower, whose watch descriptor
/// the program has, and on the anchor; where opening is reported a third, on the bell (`Bell`). One on a directory
/// is one on the upper's directory, whose watch descriptor the program has, on every lower that contributes, and on
/// the marker folder (`Marker`): each has an entry, and the first leads to the others. All other watches are the
/// kernel's alone and have no entry.
///
/// Tables are private memory that is never unmapped, so that a table which is given back under a thread that still
/// reads it costs nothing but a wrong event. Words are atomic; an entry is in use when its first word is not zero,
/// which is written last.
@safe struct WatchTable {
  let base: UnsafeMutableRawPointer

  static var count: Int { 128 }
  static var capacity: Int { 65536 }
  private static var entrySize: Int { 40 }
  /// Words of the header, which is followed by markers.
  private static var headerWords: Int { 16 }
  /// Bytes of events that are kept for reads at most.
  static var keptSize: Int { 1 << 20 }
  static var markerCount: Int { 64 }
  private static var stride: Int { headerWords * 8 + markerCount * 24 }
  /// Of the entries, what finds them by the kernel's watch descriptors, and the events that are kept.
  private static var areaSize: Int { capacity * (entrySize + 8) + keptSize }

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

  /// Between the two: nobody else in this process reads.
  var isReadAlone: Bool { unsafe at_load64(reading) == 1 }

  /// False: somebody reads, or looks. Signals are to be blocked.
  func beginLooking() -> Bool {
    if unsafe at_cas64(looking, 0, 1) == 0 { return false }
    at_fence()
    if unsafe at_load64(reading) == 0 { return true }
    endLooking()
    return false
  }
  func endLooking() { unsafe at_store64(looking, 0) }

  /// The events that a look found, for the next read: so many bytes.
  var keptCount: Int {
    get { unsafe min(Int(truncatingIfNeeded: at_load64(used + 4)), WatchTable.keptSize) }
    nonmutating set {
      if newValue == 0 { keptStart = 0 }
      unsafe at_store64(used + 4, UInt64(newValue))
      if newValue != 0 { lx_note_kept() }
    }
  }
  /// Where the first of them is.
  var keptStart: Int {
    get { unsafe min(Int(truncatingIfNeeded: at_relaxed64(used + 9)), WatchTable.keptSize) }
    nonmutating set { unsafe at_put64(used + 9, UInt64(newValue)) }
  }
  /// The memory for them.
  var kept: UnsafeMutableRawPointer {
    unsafe entries! + WatchTable.capacity * (WatchTable.entrySize + 8)
  }

  /// Markers that have begun and not ended: three words each (`OpenMarker`).
  var markers: UnsafeMutablePointer<UInt64> {
    unsafe (base + WatchTable.headerWords * 8).assumingMemoryBound(to: UInt64.self)
  }

  // Where entries and names (`WatchedNames`) are, mapped when first needed.
  private var area: UnsafeMutablePointer<UInt64> { unsafe used + 5 }
  var names: UnsafeMutablePointer<UInt64> { unsafe used + 6 }
  /// How many markers are open.
  var openMarkers: UnsafeMutablePointer<UInt64> { unsafe used + 7 }
  /// By overlay: whether the process's list is watched.
  var lists: UnsafeMutablePointer<UInt64> { unsafe used + 8 }

  /// The highest watch descriptor of an entry: the kernel's next one is higher (fs/notify/inotify, idr_alloc_cyclic).
  private var highest: UnsafeMutablePointer<UInt64> { unsafe used + 13 }

  /// Where the snapshots of polled watches are (`Snapshots`).
  var polled: UnsafeMutablePointer<UInt64> { unsafe used + 12 }

  private func reset() {
    Snapshots(self)?.forget()
    unsafe at_store64(looking, 0)
    unsafe at_store64(reading, 0)
    unsafe at_store64(lists, 0)
    keptCount = 0
  }

  /// Memory whose address a word of the header holds, made if there is none. Errors: ENOMEM.
  static func memory(_ word: UnsafeMutablePointer<UInt64>, _ size: Int) throws(Errno)
    -> UnsafeMutableRawPointer
  {
    while true {
      if let made = unsafe UnsafeMutableRawPointer(bitPattern: UInt(at_load64(word))) {
        return unsafe made
      }
      guard
        let fresh = unsafe lx_mmap(
          size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1)
      else { throw .noMemory }
      if unsafe at_cas64(word, 0, UInt64(UInt(bitPattern: fresh))) == 0 {
        _ = unsafe lx_munmap(fresh, size)
      }
    }
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
  @inline(never)
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
    if let table = unsafe try take(fd, watching.pointee.tables!) { return table }
    // Those of descriptors that were closed behind our back.
    let tables = unsafe UnsafeMutableRawPointer(watching.pointee.tables!)
    for number in 0..<count where !isInUse(number) {
      unsafe WatchTable(number: number, tables).giveBack()
    }
    if let table = unsafe try take(fd, watching.pointee.tables!) { return table }
    throw .noSpace
  }

  private static func take(_ fd: Int32, _ tables: UnsafeMutablePointer<CChar>) throws(Errno)
    -> WatchTable?
  {
    for number in 0..<count {
      let table = unsafe WatchTable(number: number, UnsafeMutableRawPointer(tables))
      guard unsafe at_load64(table.used) == 0, unsafe at_cas64(table.used, 0, 1) != 0 else {
        continue
      }
      do throws(Errno) { _ = unsafe try memory(table.area, areaSize) } catch {
        table.giveBack()
        throw error
      }
      table.each { $0.free() }
      unsafe at_store64(table.high, 0)
      unsafe at_store64(table.highest, 0)
      table.reset()
      OpenMarker.forgetAll(table)
      WatchedNames.clear(table)
      Snapshots.clear(table)
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

  // ---- entries ----

  private var entries: UnsafeMutableRawPointer? {
    unsafe UnsafeMutableRawPointer(bitPattern: UInt(at_load64(area)))
  }
  private var limit: Int {
    unsafe entries == nil
      ? 0 : min(Int(truncatingIfNeeded: at_load64(high)), WatchTable.capacity)
  }

  func each(_ body: (Entry) -> Void) {
    for i in 0..<limit {
      let entry = self[i]
      if entry.isUsed { body(entry) }
    }
  }

  subscript(_ i: Int) -> Entry {
    unsafe Entry(
      words: (entries! + i % WatchTable.capacity * WatchTable.entrySize).assumingMemoryBound(
        to: UInt64.self))
  }

  // By watch descriptor: its number and one more than the entry's, 0: it has none. A guess, one for all that are
  // equal in their last bits.
  private func guess(_ wd: Int32) -> UnsafeMutablePointer<UInt64> {
    unsafe (entries! + WatchTable.capacity * WatchTable.entrySize).assumingMemoryBound(
      to: UInt64.self) + Int(wd) % WatchTable.capacity
  }

  /// Gives an entry a bell's watch descriptor; 0: none.
  func setBell(_ wd: Int32, of entry: Entry) {
    entry.setBell(wd)
    let offset = unsafe UnsafeMutableRawPointer(entry.words) - entries!
    point(wd, to: offset / WatchTable.entrySize)
  }

  /// The entry that one of the kernel's watch descriptors belongs to. Takes as long with many as with few.
  @inline(never)
  func find(_ wd: Int32) -> Entry? {
    guard wd > 0, unsafe entries != nil, unsafe UInt64(wd) <= at_load64(highest) else { return nil }
    func isOf(_ entry: Entry) -> Bool {
      entry.isUsed && (entry.lower == wd || entry.anchor == wd || entry.bell == wd)
    }
    let seen = unsafe at_load64(guess(wd))
    if seen >> 32 == UInt64(wd) {
      let number = Int(seen & 0xffff_ffff)
      if number == 0 { return nil }
      let entry = self[number - 1]
      if isOf(entry) { return entry }
    }
    var found = 0
    for i in 0..<limit where isOf(self[i]) {
      found = i + 1
      break
    }
    // Whoever has added it meanwhile knows better.
    _ = unsafe at_cas64(guess(wd), seen, UInt64(wd) << 32 | UInt64(found))
    return found == 0 ? nil : self[found - 1]
  }

  private func point(_ wd: Int32, to number: Int) {
    guard wd > 0 else { return }
    unsafe at_store64(guess(wd), UInt64(wd) << 32 | UInt64(number + 1))
    while true {
      let now = unsafe at_load64(highest)
      if unsafe now >= UInt64(wd) || at_cas64(highest, now, UInt64(wd)) != 0 { return }
    }
  }

  /// A new entry. Its watch descriptors are those of the kernel. Errors: ENOSPC.
  func add(
    lower: Int32, anchor: Int32, bell: Int32 = 0, mask: UInt32, state: UInt32 = 0,
    of object: Anchor? = nil
  ) throws(Errno) {
    let overlay = UInt64(object?.overlay.index ?? 0)
    _ = try add(
      lower, anchor, bell, mask, state, overlay, object?.shown ?? 0, object?.birth ?? 0)
  }

  /// An entry of a directory, or of one of its further watches: its number. Errors: ENOSPC.
  func add(
    directory wd: Int32, programs: Int32, mask: UInt32, state: UInt32, path: Int = 0,
    key: UInt64 = 0, next: Int
  ) throws(Errno) -> Int {
    let third = UInt64(UInt32(bitPattern: programs)) | UInt64(path) << 32
    return try add(wd, 0, 0, mask, state | State.anchorGone, key, third, UInt64(next))
  }

  @inline(never)
  private func add(
    _ lower: Int32, _ anchor: Int32, _ bell: Int32, _ mask: UInt32, _ state: UInt32,
    _ second: UInt64, _ third: UInt64, _ fourth: UInt64
  ) throws(Errno) -> Int {
    let start = limit < WatchTable.capacity ? limit : 0
    for k in 0..<WatchTable.capacity {
      let i = (start + k) % WatchTable.capacity
      let entry = self[i]
      // Two threads that add at once: the place is taken with a watch descriptor that there is not.
      guard unsafe at_cas64(entry.words, 0, UInt64.max) != 0 else { continue }
      unsafe at_put64(entry.words + 1, UInt64(mask) | UInt64(state) << 32)
      unsafe at_put64(entry.words + 2, second | UInt64(UInt32(bitPattern: bell)) << 32)
      unsafe at_put64(entry.words + 3, third)
      unsafe at_put64(entry.words + 4, fourth)
      while true {
        let now = unsafe at_load64(high)
        if now > UInt64(i) { break }
        if unsafe at_cas64(high, now, UInt64(i) + 1) != 0 { break }
      }
      entry.use(lower: lower, anchor: anchor)
      point(lower, to: i)
      point(anchor, to: i)
      point(bell, to: i)
      return i
    }
    throw .noSpace
  }
}
