import CLinux

/// Origins on which processes of the overlay may hold leases (docs/decisions/0016).
///
/// A lease that was asked for through a descriptor on a lower is the kernel's, on the lower's inode; whoever
/// opens the object in the upper, or is about to copy it up for that, opens the origin too, which makes the
/// kernel break the lease. The mark `workdir/overlock/leased/<shown inode>`, a symbolic link to the origin's
/// real path, says where that is needed. It is made before the lease is taken, and goes when the kernel says
/// that nobody has one, both under the turn of the identity. The registry says for which inodes there may be any.
extension Overlay {
  private func leasedPath(_ shown: UInt64, into path: inout PathBuffer) throws(Errno) {
    path.count = 0
    try path.append(work)
    try path.append("/leased/")
    try path.append(hex: shown)
  }

  /// Marks an origin. False: it was marked. Under the turn of the identity.
  func markLeased(_ shown: UInt64, origin: PathView, _ s: Scratch) throws(Errno) -> Bool {
    var path = s.link
    try leasedPath(shown, into: &path)
    var target = s.rest
    try target.set(origin)
    let r = unsafe lx_symlinkat(target.cString, AT_FDCWD, path.cString)
    if r != -Int(EEXIST) { try check(r) }
    registry?.noteLeased(shown)
    return r == 0
  }

  /// Takes the mark away. Under the turn of the identity.
  func unmarkLeased(_ shown: UInt64, _ s: Scratch) throws(Errno) {
    var path = s.link
    try leasedPath(shown, into: &path)
    let r = unsafe lx_unlinkat(AT_FDCWD, path.cString, 0)
    if r != -Int(ENOENT) { try check(r) }
    settleLeased()
  }

  /// Whether an object has to be looked at. An object of the upper that has no origin never has.
  @inline(__always) func mayBeLeased(_ shown: UInt64) -> Bool {
    guard shown != 0, hasUpper else { return false }
    return registry?.mayBeLeased(shown) ?? true
  }

  /// Whether any has.
  @inline(__always) var hasLeased: Bool { hasUpper && registry?.hasLeased ?? true }

  /// Writes the real path of an origin that is marked. False: it is not.
  func leased(_ shown: UInt64, into origin: inout PathBuffer, _ s: Scratch) throws(Errno) -> Bool {
    guard mayBeLeased(shown) else { return false }
    var path = s.link
    try leasedPath(shown, into: &path)
    origin.count = 0
    let n = unsafe lx_readlinkat(
      AT_FDCWD, path.cString,
      UnsafeMutableRawPointer(origin.base).assumingMemoryBound(to: CChar.self),
      origin.capacity - 1)
    if n == -Int(ENOENT) { return false }
    origin.count = try check(n)
    return true
  }

  /// Does to the leases on an object's origin what an open with these flags does to those on a file, and waits
  /// for their holders as it would. To be called with no turn held.
  ///
  /// - Errors: EWOULDBLOCK the flags say not to wait; EINTR.
  func breakLeases(_ shown: UInt64, _ flags: Int32) throws(Errno) {
    guard mayBeLeased(shown), flags & O_PATH == 0 else { return }
    try withScratch { (s) throws(Errno) in
      var origin = s.real
      guard try self.leased(shown, into: &origin, s) else {
        if let registry = self.registry, !registry.knowsLeased { self.settleLeased() }
        return
      }
      try unsafe LeaseBreaker.run(origin.cString, flags)
      // The kernel says to whoever opens for writing that nobody has one any more.
      if flags & O_ACCMODE != O_RDONLY {
        var turn = try Turn(self, s)
        defer { turn.release() }
        try turn.takeIdentity(shown)
        if unsafe LeaseBreaker.isFree(origin.terminated) { try self.unmarkLeased(shown, s) }
      }
    }
  }

  /// The same before an object is copied up.
  func breakLeases(ofLower real: UnsafePointer<CChar>, _ layer: Int, _ flags: Int32) throws(Errno) {
    guard hasLeased else { return }
    var st = stat()
    try unsafe check(lx_fstatat(AT_FDCWD, real, &st, AT_SYMLINK_NOFOLLOW))
    try breakLeases(shownInode(st.inode, layer: layer), flags)
  }

  /// Has the registry say which marks there are.
  func settleLeased() {
    guard let registry else { return }
    registry.settleLeased { (filter) in
      try? withScratch { (s) throws(Errno) in
        var path = s.real
        try path.append(self.work)
        try path.append("/leased")
        let opened = try unsafe check(
          lx_openat(AT_FDCWD, path.cString, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0))
        let fd = Int32(truncatingIfNeeded: opened)
        defer { _ = lx_close(fd) }
        var bits: UInt64 = 0
        try DirectoryReader.each(fd, s) { (name, _, _) throws(Errno) in
          if let shown = hexadecimal(name) { bits |= Registry.leaseBit(shown) }
          return true
        }
        filter = bits
      }
    }
  }

  /// A descriptor of this process whose description has a write lease on the file: the one through which the
  /// file can be read without breaking the lease.
  func ownWriteLease(_ shown: UInt64, _ st: stat) -> Int32? {
    guard mayBeLeased(shown) else { return nil }
    for fd in Int32(0)..<1024 where lx_fcntl(fd, F_GETLEASE, 0) == Int(F_WRLCK) {
      var own = stat()
      guard unsafe lx_fstat(fd, &own) == 0, own.inode == st.inode, own.device == st.device,
        lx_fcntl(fd, F_GETFL, 0) & Int(O_ACCMODE) != Int(O_WRONLY)
      else { continue }
      return fd
    }
    return nil
  }
}

/// Opens that are made for what they do to leases.
enum LeaseBreaker {
  /// open(2)'s fourth access mode breaks leases as one for writing does and asks for the right to write, but
  /// gives a descriptor that can neither read nor write: the file is not open for writing.
  private static var asWriter: Int32 { 3 }

  private static func open(_ path: UnsafePointer<CChar>, _ flags: Int32, waiting: Bool) -> Int {
    let mode = flags & O_ACCMODE == O_RDONLY ? O_RDONLY : asWriter
    let how = (waiting ? 0 : O_NONBLOCK) | O_CLOEXEC | O_NOCTTY | O_NOFOLLOW
    let fd = unsafe lx_owner_open(path, mode | how)
    // Read-only since the lease was taken: at least those that exclude readers.
    return fd == -Int(EROFS) ? unsafe lx_owner_open(path, O_RDONLY | how) : fd
  }

  /// Breaks the leases that an open with these flags breaks. Errors: EWOULDBLOCK, EINTR, EACCES.
  static func run(_ path: UnsafePointer<CChar>, _ flags: Int32) throws(Errno) {
    let waits = flags & O_NONBLOCK == 0
    if !Apart.isNeeded {
      try gone(unsafe once(path, flags, waiting: waits))
      return
    }
    // The close here would drop the process's record locks on the origin, and a wait in a child would be deaf to
    // signals: so the child only asks.
    let mask = lx_block_signals()
    defer { lx_restore_signals(mask) }
    while true {
      let r: Int
      do throws(Errno) {
        r = try Apart.run { () throws(Errno) in
          unsafe try check(once(path, flags, waiting: false))
        }
      } catch { r = error.result }
      guard r == -Int(EWOULDBLOCK), waits else {
        try gone(r)
        return
      }
      if lx_let_signals_in(mask) != 0 { throw Errno(rawValue: EINTR) }
      lx_pause(1_000_000)
    }
  }

  private static func once(_ path: UnsafePointer<CChar>, _ flags: Int32, waiting: Bool) -> Int {
    let fd = unsafe open(path, flags, waiting: waiting)
    if fd < 0 { return fd }
    _ = lx_close(Int32(truncatingIfNeeded: fd))
    return 0
  }

  /// An origin that somebody removed has no leases that are of concern.
  private static func gone(_ r: Int) throws(Errno) {
    if r != -Int(ENOENT), r != -Int(ENOTDIR), r != -Int(ELOOP) { try check(r) }
  }

  /// Whether nobody has a lease on the file; who has one by now gets it broken.
  static func isFree(_ path: UnsafePointer<CChar>) -> Bool {
    let r = try? Apart.run { () throws(Errno) in
      unsafe once(path, O_WRONLY, waiting: false) == -Int(EWOULDBLOCK) ? 1 : 0
    }
    return r == 0
  }
}

extension Registry {
  // A word like a generation's; its value: 16 bits that count the marks made, then 24 that say for which inodes.
  private static var leasedOffset: Int { 112 }

  static func leaseBit(_ shown: UInt64) -> UInt64 {
    1 << (((shown &* 0x9e37_79b9_7f4a_7c15) >> 40) % 24)
  }

  /// nil: the word says nothing.
  @inline(__always) private var leasedFilter: UInt64? {
    // What others with another segment marked is not noted here.
    if isSplit { return nil }
    let now = unsafe at_load64(word(Registry.leasedOffset))
    return isValidWord(now, Registry.leasedOffset) ? now >> 24 & 0xff_ffff : nil
  }

  @inline(__always) var hasLeased: Bool { leasedFilter != 0 }
  var knowsLeased: Bool { leasedFilter != nil }

  func mayBeLeased(_ shown: UInt64) -> Bool {
    guard let filter = leasedFilter else { return true }
    return filter != 0 && filter & Registry.leaseBit(shown) != 0
  }

  /// A mark was made.
  func noteLeased(_ shown: UInt64) {
    replaceLeased { (filter) in filter = filter.map { $0 | Registry.leaseBit(shown) } }
  }

  /// - Parameter look: leaves the filter nil if it cannot be told.
  func settleLeased(_ look: (inout UInt64?) -> Void) {
    replaceLeased(once: true) { (filter) in
      var found: UInt64? = nil
      look(&found)
      filter = found
    }
  }

  private func replaceLeased(once: Bool = false, _ change: (inout UInt64?) -> Void) {
    let offset = Registry.leasedOffset
    while true {
      let now = unsafe at_load64(word(offset))
      var filter: UInt64? = nil
      if isValidWord(now, offset) { filter = now >> 24 & 0xff_ffff }
      // Of a wiped word nothing is known, till somebody settles it.
      guard filter != nil || once else { return }
      let known = filter
      change(&filter)
      guard let filter else { return }
      if once, filter == known { return }
      let counter = (now >> 48 &+ 1) & 0xffff
      let value = counter << 24 | filter
      if unsafe at_cas64(word(offset), now, value << 24 | checkOf(value, offset)) != 0 || once {
        at_fence()
        return
      }
    }
  }
}
