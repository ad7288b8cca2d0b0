import CLinux

/// What an object of a polled lower was when it was last looked at. All zeros: there was none.
struct Glance {
  var inode: UInt64 = 0
  var size: UInt64 = 0
  var modified: UInt64 = 0
  var changed: UInt64 = 0
  var mode: UInt32 = 0
  var links: UInt32 = 0
  var user: UInt32 = 0
  var group: UInt32 = 0

  init() {}

  init(_ st: stat) {
    inode = st.inode
    size = UInt64(bitPattern: Int64(st.st_size))
    modified = Glance.time(st.st_mtim)
    changed = Glance.time(st.st_ctim)
    mode = st.st_mode
    links = UInt32(truncatingIfNeeded: st.links)
    user = st.st_uid
    group = st.st_gid
  }

  private static func time(_ t: timespec) -> UInt64 {
    UInt64(bitPattern: Int64(t.tv_sec)) &* 1_000_000_000 &+ UInt64(bitPattern: Int64(t.tv_nsec))
  }

  var isAbsent: Bool { mode == 0 }
  var type: UInt32 { mode & S_IFMT }
  private var kind: UInt32 { type == S_IFDIR ? UInt32(IN_ISDIR) : 0 }

  /// What inotify would have told of the change into another one: event masks in their order, 0: no more.
  ///
  /// Some FUSE file systems number inodes anew, so that a number alone makes no other object. What is made or
  /// removed in a directory changes that one's times, which nobody is told of the directory.
  func changes(to new: Glance) -> (UInt32, UInt32) {
    if isAbsent || new.isAbsent {
      if isAbsent && new.isAbsent { return (0, 0) }
      if new.isAbsent { return (UInt32(IN_DELETE) | kind, 0) }
      let isFilled = new.type == S_IFREG && new.size > 0
      return (UInt32(IN_CREATE) | new.kind, isFilled ? UInt32(IN_MODIFY) : 0)
    }
    if isAnother(new) { return (UInt32(IN_DELETE) | kind, UInt32(IN_CREATE) | new.kind) }
    let attributes = mode != new.mode || user != new.user || group != new.group
    if type == S_IFDIR { return (attributes ? UInt32(IN_ATTRIB | IN_ISDIR) : 0, 0) }
    if size != new.size || modified != new.modified {
      let more = attributes || links != new.links
      return (UInt32(IN_MODIFY), more ? UInt32(IN_ATTRIB) : 0)
    }
    let any = attributes || links != new.links || changed != new.changed
    return (any ? UInt32(IN_ATTRIB) : 0, 0)
  }

  func isAnother(_ new: Glance) -> Bool {
    type != new.type
      || inode != new.inode
        && (size != new.size || modified != new.modified || changed != new.changed)
  }
}

/// The snapshots of an inotify instance's polled watches: a block for each, in private memory of the process that is
/// mapped with the first and never unmapped.
///
/// There are two spaces of blocks: a comparison reads one and writes the other, which then counts. A block is
/// a header of `headerWords`, the path with an end of 0, and a record for each name. Events that were found wait
/// in a third area until a read, or a look, takes them. All are changed under `lock` alone.
///
/// Limits: `spaceSize` for an instance (some 150,000 names), 2^18 names in a directory.
@safe struct Snapshots {
  let base: UnsafeMutableRawPointer

  static var spaceSize: Int { 16 << 20 }
  static var pendingSize: Int { 256 << 10 }
  static var indexCount: Int { 1 << 19 }
  private static var start: Int { 128 }
  static var size: Int { start + pendingSize + indexCount * 4 + 2 * spaceSize }

  private var words: UnsafeMutablePointer<UInt64> {
    unsafe base.assumingMemoryBound(to: UInt64.self)
  }

  /// nil: no watch of the instance is polled, or ever was.
  init?(_ table: WatchTable) {
    guard let made = unsafe UnsafeMutableRawPointer(bitPattern: UInt(at_load64(table.polled)))
    else { return nil }
    unsafe base = made
  }

  /// Errors: ENOMEM.
  init(making table: WatchTable) throws(Errno) {
    unsafe base = try WatchTable.memory(table.polled, Snapshots.size)
  }

  /// For another instance.
  static func clear(_ table: WatchTable) {
    if let snapshots = Snapshots(table) { _ = unsafe lx_discard(snapshots.base, size) }
  }

  /// In a forked child: what another thread was in the middle of, and what the parent will read.
  func forget() {
    unlock()
    pendingFrom = 0
    pendingTo = 0
    isTelling = false
  }

  // ---- the lock: signals are blocked while it is held ----

  func tryLock() -> Bool { unsafe at_cas64(words, 0, 1) != 0 }
  func lock() { while !tryLock() { lx_pause(20_000) } }
  func unlock() { unsafe at_store64(words, 0) }

  // ---- the header ----

  private func word(_ i: Int) -> UInt64 { unsafe at_load64(words + i) }
  private func put(_ i: Int, _ value: UInt64) { unsafe at_store64(words + i, value) }

  /// When the next comparison is due, on the monotonic clock.
  var due: UInt64 {
    get { word(1) }
    nonmutating set { put(1, newValue) }
  }
  /// The shortest of the overlays' intervals; 0: nothing is polled.
  var interval: UInt64 {
    get { word(2) }
    nonmutating set { put(2, newValue) }
  }
  private var current: Int { Int(word(3) & 1) }
  /// Bytes of blocks in the space that counts.
  var used: Int {
    get { min(Int(truncatingIfNeeded: word(4)), Snapshots.spaceSize) }
    nonmutating set { put(4, UInt64(newValue)) }
  }
  /// Events that wait: from where to where.
  var pendingFrom: Int {
    get { min(Int(truncatingIfNeeded: word(5)), Snapshots.pendingSize) }
    nonmutating set { put(5, UInt64(newValue)) }
  }
  var pendingTo: Int {
    get { min(Int(truncatingIfNeeded: word(6)), Snapshots.pendingSize) }
    nonmutating set { put(6, UInt64(newValue)) }
  }
  /// Events are being made of differences: they explain none.
  var isTelling: Bool {
    get { word(7) != 0 }
    nonmutating set { put(7, newValue ? 1 : 0) }
  }
  /// Something found no room at the last look, which was told.
  var isOverflown: Bool {
    get { word(9) != 0 }
    nonmutating set { put(9, newValue ? 1 : 0) }
  }
  /// Blocks that were added for single names (`PolledBlock.Kind.addition`).
  var additions: Int {
    get { Int(truncatingIfNeeded: word(8)) }
    nonmutating set { put(8, UInt64(newValue)) }
  }

  // ---- the areas ----

  var pending: UnsafeMutableRawPointer { unsafe base + Snapshots.start }
  var index: UnsafeMutablePointer<UInt32> {
    unsafe (pending + Snapshots.pendingSize).assumingMemoryBound(to: UInt32.self)
  }
  private var spaces: UnsafeMutableRawPointer {
    unsafe pending + Snapshots.pendingSize + Snapshots.indexCount * 4
  }
  var space: UnsafeMutableRawPointer { unsafe spaces + current * Snapshots.spaceSize }
  var other: UnsafeMutableRawPointer { unsafe spaces + (1 - current) * Snapshots.spaceSize }

  /// The other space counts from now on.
  func flip(used bytes: Int) {
    put(3, UInt64(1 - current))
    used = bytes
  }

  /// Calls `body` with every block.
  func each(_ body: (PolledBlock) -> Void) {
    var at = 0
    while at < used {
      let block = unsafe PolledBlock(space + at)
      guard block.size > 0 else { return }
      at += block.size
      body(block)
    }
  }
}

/// One block: the snapshot of a watched file or directory, or of one name that such a directory got since.
@safe struct PolledBlock {
  let base: UnsafeMutableRawPointer

  enum Kind {
    static var file: UInt32 { 0 }
    static var directory: UInt32 { 1 }
    /// A name more of the directory with this watch descriptor.
    static var addition: UInt32 { 2 }
    /// Not looked at any more.
    static var none: UInt32 { 3 }
    /// Its end is told, and then the watch is removed.
    static var ending: UInt32 { 4 }
  }

  static var headerWords: Int { 6 + PolledName.headerWords }

  init(_ base: UnsafeMutableRawPointer) { unsafe self.base = base }

  private var words: UnsafeMutablePointer<UInt64> {
    unsafe base.assumingMemoryBound(to: UInt64.self)
  }

  /// Bytes of the whole block.
  var size: Int {
    get { unsafe Int(words[0]) }
    nonmutating set { unsafe words[0] = UInt64(newValue) }
  }
  /// The lower's watch descriptor, the kernel's.
  var wd: Int32 {
    get { unsafe Int32(truncatingIfNeeded: words[1]) }
    nonmutating set { unsafe words[1] = UInt64(UInt32(bitPattern: newValue)) }
  }
  var kind: UInt32 {
    get { unsafe UInt32(truncatingIfNeeded: words[2]) }
    nonmutating set { unsafe words[2] = UInt64(newValue) }
  }
  var pathLength: Int {
    get { unsafe Int(words[3]) }
    nonmutating set { unsafe words[3] = UInt64(newValue) }
  }
  /// When a directory's time of modification was last seen to be another, on the monotonic clock.
  var moved: UInt64 {
    get { unsafe words[4] }
    nonmutating set { unsafe words[4] = newValue }
  }
  /// What time that was, and of what change.
  var stamp: UInt64 {
    get { unsafe words[5] }
    nonmutating set { unsafe words[5] = newValue }
  }
  /// The object itself; its name is the path.
  var own: PolledName { unsafe PolledName(words + 6, length: pathLength) }

  var path: PathView { own.name }
  var firstName: Int { (6 + PolledName.headerWords) * 8 + PolledName.padded(pathLength) }

  /// Calls `body` with every name and its place in the block.
  func each(_ body: (PolledName, Int) -> Void) {
    var at = firstName
    while at < size {
      let name = unsafe PolledName((base + at).assumingMemoryBound(to: UInt64.self))
      body(name, at)
      at += name.size
    }
  }
}

/// One name in a block, and what it was.
@safe struct PolledName {
  private let words: UnsafeMutablePointer<UInt64>
  private let length: Int

  static var headerWords: Int { 8 }
  static func padded(_ count: Int) -> Int { (count + 8) & ~7 }

  /// - Parameter length: of the name, where the header does not have it.
  init(_ words: UnsafeMutablePointer<UInt64>, length: Int? = nil) {
    unsafe self.words = words
    self.length = unsafe length ?? Int(words[7] & 0xffff)
  }

  var size: Int { PolledName.headerWords * 8 + PolledName.padded(length) }
  var hash: UInt64 { unsafe words[0] }
  /// Differed when it was last looked at.
  var isSuspect: Bool { unsafe words[7] >> 32 != 0 }
  /// Was found again in the directory, while that is read.
  var isTaken: Bool {
    get { unsafe words[7] >> 16 & 1 != 0 }
    nonmutating set { unsafe words[7] = words[7] & ~(1 << 16) | (newValue ? 1 << 16 : 0) }
  }
  /// Where it is in a space.
  func offset(in space: UnsafeMutableRawPointer) -> Int {
    unsafe UnsafeMutableRawPointer(words) - space
  }

  var glance: Glance {
    var g = Glance()
    unsafe g.inode = words[1]
    unsafe g.size = words[2]
    unsafe g.modified = words[3]
    unsafe g.changed = words[4]
    unsafe g.mode = UInt32(truncatingIfNeeded: words[5])
    unsafe g.links = UInt32(truncatingIfNeeded: words[5] >> 32)
    unsafe g.user = UInt32(truncatingIfNeeded: words[6])
    unsafe g.group = UInt32(truncatingIfNeeded: words[6] >> 32)
    return g
  }

  var name: PathView {
    unsafe PathView(
      UnsafeRawPointer(words + PolledName.headerWords).assumingMemoryBound(to: UInt8.self), length)
  }

  func set(_ g: Glance, isSuspect: Bool) {
    unsafe words[1] = g.inode
    unsafe words[2] = g.size
    unsafe words[3] = g.modified
    unsafe words[4] = g.changed
    unsafe words[5] = UInt64(g.mode) | UInt64(g.links) << 32
    unsafe words[6] = UInt64(g.user) | UInt64(g.group) << 32
    unsafe words[7] = words[7] & 0xffff | (isSuspect ? 1 << 32 : 0)
  }

  /// Writes the whole of it, there being room.
  func write(_ name: PathView, _ hash: UInt64, _ g: Glance, isSuspect: Bool) {
    unsafe words[0] = hash
    unsafe words[7] = UInt64(name.count & 0xffff)
    set(g, isSuspect: isSuspect)
    let text = unsafe UnsafeMutableRawPointer(words + PolledName.headerWords)
      .assumingMemoryBound(to: UInt8.self)
    unsafe copyBytes(text, name.base, name.count)
    for i in name.count..<PolledName.padded(name.count) { unsafe text[i] = 0 }
  }
}
