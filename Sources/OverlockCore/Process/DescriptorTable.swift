import CLinux

/// What is known of the process's descriptors.
///
/// One entry a descriptor, written whole with atomic stores: an entry of zeros means "not known", and
/// is then made from what the kernel says (`/proc/self/fd`). A directory's path sits in a slot of its
/// own (small descriptors only), valid for one epoch of its overlay. Async-signal-safe; a vfork child
/// that writes here writes to its parent's table, which costs the parent a question to the kernel.
enum DescriptorTable {
  struct Entry {
    var word: UInt64
    var ino: UInt64

    @_optimize(speed)
    @inline(__always) func has(_ flag: UInt32) -> Bool { word & UInt64(flag) != 0 }
    @inline(__always) var isKnown: Bool { has(OVL_FD_KNOWN) }
    @inline(__always) var isOurs: Bool { has(OVL_FD_OURS) }
    @inline(__always) var isLower: Bool { has(OVL_FD_LOWER) }
    @inline(__always) var isDirectory: Bool { has(OVL_FD_DIR) }
    @inline(__always) var overlay: Int { Int(word >> 16 & 0xffff) }
    @inline(__always) var layer: Int { Int(word >> 32) }

    static var unknown: Entry { Entry(word: 0, ino: 0) }
    static var plain: Entry { Entry(word: UInt64(OVL_FD_KNOWN), ino: 0) }

    init(word: UInt64, ino: UInt64) {
      self.word = word
      self.ino = ino
    }

    @inline(__always) init(overlay: Int, _ node: Node, isDirectory: Bool) {
      var flags = UInt64(OVL_FD_KNOWN | OVL_FD_OURS)
      if isDirectory { flags |= UInt64(OVL_FD_DIR) }
      if node.layer > 0 { flags |= UInt64(OVL_FD_LOWER) }
      if node.has(Node.linked | Node.indexed) { flags |= UInt64(OVL_FD_LINKED) }
      word = flags | UInt64(overlay) << 16 | UInt64(UInt32(truncatingIfNeeded: node.layer)) << 32
      ino = node.shownInode
    }
  }

  @inline(__always)
  @_optimize(speed)
  static func raw(_ fd: Int32) -> UnsafeMutablePointer<ovl_fd>? {
    guard fd >= 0 else { return nil }
    guard fd < Int32(OVL_TABLE_FDS) else { return unsafe ovl_far_fd(fd, 0) }
    guard let table = unsafe ovl_self()!.pointee.table else { return nil }
    return unsafe table + Int(fd)
  }

  /// The same for what is about to be noted of it.
  @inline(__always)
  @_optimize(speed)
  static func made(_ fd: Int32) -> UnsafeMutablePointer<ovl_fd>? {
    fd < Int32(OVL_TABLE_FDS) ? unsafe raw(fd) : unsafe ovl_far_fd(fd, 1)
  }

  @_optimize(speed)
  @inline(__always) static func entry(_ fd: Int32) -> Entry {
    guard let raw = unsafe raw(fd) else { return .unknown }
    return unsafe Entry(word: at_load64(&raw.pointee.word), ino: at_relaxed64(&raw.pointee.ino))
  }

  /// - Parameter seen: of a lower file: the count of copy-ups under which it was found, plus one.
  @_optimize(speed)
  @inline(__always) static func set(_ fd: Int32, _ entry: Entry, seen: UInt64 = 0) {
    guard let raw = unsafe made(fd) else { return }
    var entry = entry
    if Loan.isActive, !Loan.note(fd) { entry = .unknown }
    // Left by somebody who was closed behind our back.
    if unsafe at_relaxed64(&raw.pointee.listing) != 0 { Listing.drop(fd) }
    unsafe at_put64(&raw.pointee.ino, entry.ino)
    unsafe at_put64(&raw.pointee.seen, seen)
    unsafe at_store64(&raw.pointee.word, entry.word)
  }

  /// Forgets a descriptor that is about to go away.
  @_optimize(speed)
  @inline(__always) static func forget(_ fd: Int32) {
    guard let raw = unsafe raw(fd) else { return }
    if unsafe at_relaxed64(&raw.pointee.word) == 0 { return }
    if Apart.isNeeded { RecordLocks.closing(fd, entry(fd)) }
    if Loan.isActive { _ = Loan.note(fd) }
    unsafe at_store64(&raw.pointee.word, 0)
    if unsafe at_relaxed64(&raw.pointee.listing) != 0 { Listing.drop(fd) }
    if let place = unsafe place(fd), unsafe at_load32(&place.pointee.length) != 0 {
      unsafe Place.forget(place)
    }
  }

  /// Notes that a descriptor came from somebody else, if nothing is known of it.
  @_optimize(speed)
  static func noteStrange(_ fd: Int32) {
    guard let raw = unsafe raw(fd), unsafe at_load64(&raw.pointee.word) == 0 else { return }
    if Loan.isActive { return }
    unsafe at_store64(&raw.pointee.word, UInt64(OVL_FD_STRANGE))
  }

  /// A copy made by dup and its like.
  @_optimize(speed)
  static func copy(from: Int32, to: Int32) {
    if from == to { return }
    let entry = entry(from)
    let seen = unsafe raw(from).map { unsafe at_relaxed64(&$0.pointee.seen) } ?? 0
    forget(to)
    set(to, entry, seen: entry.isLower ? seen : 0)
    if entry.has(OVL_FD_RECORD) { RecordLocks.raiseReach(to) }
    guard entry.isDirectory, let path = unsafe place(from), let copy = unsafe place(to),
      let known = unsafe Place(path, capacity: Int(OVL_SLOT_PATH), stale: true),
      let stamp = unsafe Place.begin(copy)
    else { return }
    let epoch = unsafe path.pointee.epoch
    unsafe Place.fill(
      copy, capacity: Int(OVL_SLOT_PATH), overlay: known.overlay, layer: known.layer,
      direct: known.isDirect, epoch: epoch, PathView(ovl_place_path(path), known.length))
    // What was copied from must not have changed meanwhile.
    if !known.isCurrent { unsafe at_store32(&copy.pointee.length, 0) }
    unsafe Place.end(copy, stamp)
  }

  /// Where the directory open at a small descriptor is remembered.
  @_optimize(speed)
  @inline(__always) static func place(_ fd: Int32) -> UnsafeMutablePointer<ovl_place>? {
    guard fd >= 0, fd < Int32(OVL_SLOT_FDS), unsafe ovl_self()!.pointee.slots != nil else {
      return nil
    }
    return unsafe ovl_slot_place(fd)
  }

  /// Notes where a directory is. `overlay` -1: outside, `path` absolute.
  @_optimize(speed)
  static func setSlot(
    _ fd: Int32, overlay: Int, epoch: UInt64, layer: Int, direct: Bool, _ path: PathView
  ) {
    guard let place = unsafe place(fd), let stamp = unsafe Place.begin(place) else { return }
    unsafe Place.fill(
      place, capacity: Int(OVL_SLOT_PATH), overlay: overlay, layer: layer, direct: direct,
      epoch: epoch, path)
    unsafe Place.end(place, stamp)
  }

  /// Where the directory open at fd is, if that is known and still true. Writes the path.
  ///
  /// - Parameter stale: also if directories were renamed or removed since.
  @_optimize(speed)
  static func slot(
    _ fd: Int32, into path: inout PathBuffer, stale: Bool = false
  ) throws(Errno) -> (overlay: Int, layer: Int)? {
    guard let place = unsafe place(fd),
      let known = unsafe Place(place, capacity: Int(OVL_SLOT_PATH), stale: stale),
      try known.copy(into: &path)
    else { return nil }
    return (known.overlay, known.layer)
  }
}
