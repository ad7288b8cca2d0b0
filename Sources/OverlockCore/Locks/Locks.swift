import CLinux

/// Locks that stay right across copy-up (docs/decisions/0009).
///
/// Every lock is taken where the program's descriptor is, by the kernel, and lives and dies there. A
/// descriptor on a lower and one on its copy are two inodes of one object: whoever might meet somebody on
/// the other inode looks there first, under the turn of the object's identity, so that of two who come at
/// once one sees the other. That is asked of
///
/// - a descriptor on a lower whose object was copied up: it marks the origin as contested, then asks the
///   upper;
/// - a descriptor on the upper, while the origin is contested: it asks the origin.
///
/// Everybody else pays one load from the registry.
enum Locks {
  @safe enum Course {
    /// The call is right as it is.
    case plain
    /// So it is, unless something is copied up meanwhile.
    case checked(ovl_lock_seen)
    case across
  }

  /// How a call on a descriptor is to be made.
  @inline(__always) static func course(_ fd: Int32, record: Bool) -> Course {
    let entry = DescriptorTable.entry(fd)
    if entry.isKnown, !entry.isOurs { return .plain }
    guard entry.isKnown, entry.overlay < Overlay.count, !record || entry.has(OVL_FD_RECORD),
      let registry = Overlay(index: entry.overlay).registry
    else { return find(fd, entry, record: record) }
    if !entry.isLower { return ofUpper(entry, registry) }
    let seen = registry.copyUps
    if DescriptorObject.isCurrent(fd, seen) {
      return unsafe .checked(registry.copyUpsSeen(seen))
    }
    return look(fd, entry, registry)
  }

  @inline(__always)
  private static func ofUpper(_ entry: DescriptorTable.Entry, _ registry: Registry) -> Course {
    if entry.ino == 0 { return .plain }
    let seen = registry.contestedWord
    return registry.saysUncontested(seen) ? unsafe .checked(registry.contestedSeen(seen)) : .across
  }

  /// The same for a descriptor that is not known yet, or has not taken a record lock yet.
  private static func find(_ fd: Int32, _ known: DescriptorTable.Entry, record: Bool) -> Course {
    let entry = known.isKnown ? known : DescriptorObject.identify(fd)
    guard entry.isOurs, entry.overlay < Overlay.count else { return .plain }
    let overlay = Overlay(index: entry.overlay)
    guard overlay.hasUpper else { return .plain }
    if record { RecordLocks.note(fd, entry) }
    guard let registry = overlay.registry else { return .across }
    return entry.isLower ? look(fd, entry, registry) : ofUpper(entry, registry)
  }

  /// Has the lower's object been copied up?
  private static func look(
    _ fd: Int32, _ entry: DescriptorTable.Entry, _ registry: Registry
  ) -> Course {
    guard Overlay(index: entry.overlay).hasUpper else { return .plain }
    let seen = registry.copyUps
    _ = try? withScratch { (s) throws(Errno) in
      _ = try DescriptorObject.standing(fd, entry, s)
    }
    // Copied up, or on its way there: then the turn is what tells.
    return DescriptorObject.isCurrent(fd, seen)
      ? unsafe .checked(registry.copyUpsSeen(seen)) : .across
  }

  /// After a lock was taken while something was copied up or contested: was it not this object? False: it was,
  /// and somebody is in the way there; the lock was given back.
  static func verify(_ fd: Int32, _ request: LockRequest) throws(Errno) -> Bool {
    let entry = DescriptorTable.entry(fd)
    let kept = try withScratch { (s) throws(Errno) -> Bool in
      try isFree(fd, entry, request, s)
    }
    if !kept { request.undo(fd) }
    return kept
  }

  /// Whether nobody on the other inode is in the way of a lock that was taken.
  private static func isFree(
    _ fd: Int32, _ entry: DescriptorTable.Entry, _ request: LockRequest, _ s: Scratch
  ) throws(Errno) -> Bool {
    try underTurn(fd, entry, s) { (other) throws(Errno) -> Bool in
      guard let other else { return true }
      return other.holder(request) == nil
    }
  }

  /// A call that may concern both inodes: 0 or what `ovl_lock_across` says. Errors: as fcntl(2) and flock(2).
  static func across(
    _ fd: Int32, _ request: LockRequest, _ wait: inout ovl_lock_wait
  ) throws(Errno) -> Int {
    let entry = DescriptorTable.entry(fd)
    switch request.action {
    case .drop:
      let r = request.make(fd, waiting: false)
      if request.kind == .record {
        try withScratch { (s) throws(Errno) in
          if let other = try find(fd, entry, s) { other.dropRecords(request) }
        }
      }
      return r
    case .ask:
      let question = request.asked
      try check(request.make(fd, waiting: false))
      guard request.foundNothing else { return 0 }
      return try withScratch { (s) throws(Errno) -> Int in
        guard let other = try find(fd, entry, s) else { return 0 }
        let nothing = request.asked
        request.askAgain(question)
        if other.holder(request) == nil { request.answer(nothing) }
        return 0
      }
    case .take:
      do throws(Errno) {
        if wait.rounds == 0 { try request.checkFirst(fd) }
        try signals(&wait)
        let r = try withScratch { (s) throws(Errno) -> Int in
          try take(fd, entry, request, &wait, s)
        }
        if r != Int(OVL_LOCK_AGAIN) { unblock(&wait) }
        return r
      } catch {
        unblock(&wait)
        throw error
      }
    }
  }

  /// Signals are blocked but in the program's own call, and here between two looks, where a handler may jump away:
  /// nothing is held. One that does not restart calls ends the wait, as in one call. Errors: EINTR.
  private static func signals(_ wait: inout ovl_lock_wait) throws(Errno) {
    if wait.blocked != 0 {
      if lx_is_interrupted(wait.mask) != 0 { throw Errno(rawValue: EINTR) }
      lx_restore_signals(wait.mask)
    }
    wait.mask = lx_block_signals()
    wait.blocked = 1
  }

  private static func unblock(_ wait: inout ovl_lock_wait) {
    if wait.blocked == 0 { return }
    wait.blocked = 0
    lx_restore_signals(wait.mask)
  }

  private enum Attempt { case done(Int), refusedHere, refusedThere(by: Int32) }

  /// Who waits for a holder on his own inode sleeps in the program's own call. For one on the other inode we
  /// look again every few milliseconds: no descriptor for reading can wait there for the end of a read lock, and
  /// what we took there while waiting would be in the way of others.
  private static func take(
    _ fd: Int32, _ entry: DescriptorTable.Entry, _ request: LockRequest,
    _ wait: inout ovl_lock_wait, _ s: Scratch
  ) throws(Errno) -> Int {
    if wait.slept != 0 {
      wait.slept = 0
      if try isFree(fd, entry, request, s) { return 0 }
      request.undo(fd)
    }
    let attempt = try underTurn(fd, entry, s) { (other) throws(Errno) -> Attempt in
      if let holder = other?.holder(request) { return .refusedThere(by: holder) }
      let r = request.make(fd, waiting: false)
      return r == -Int(EAGAIN) || r == -Int(EACCES) ? .refusedHere : .done(r)
    }
    if case .done(let r) = attempt { return r }
    // A conversion of a flock that is refused, or waits, has lost the old one (flock(2)).
    if request.kind == .whole, case .refusedThere = attempt { _ = lx_flock(fd, LOCK_UN) }
    guard request.waits else { throw .again }
    if lx_is_interrupted(wait.mask) != 0 { throw Errno(rawValue: EINTR) }
    guard case .refusedThere(let holder) = attempt else {
      wait.slept = 1
      return Int(OVL_LOCK_SLEEP)
    }
    var shown = CrossWait()
    defer { shown.end() }
    // Looking for circles costs more than a look, and somebody may close one later.
    let looksForCircles = wait.rounds & 63 == 0
    try shown.begin(fd, entry, request, holder: holder, looksForCircles: looksForCircles)
    lx_pause(100_000 << min(Int(wait.rounds), 5))
    wait.rounds &+= 1
    return Int(OVL_LOCK_AGAIN)
  }

  /// The other inode of a descriptor's object; nil where there is none to look at.
  private static func find(
    _ fd: Int32, _ entry: DescriptorTable.Entry, _ s: Scratch
  ) throws(Errno) -> OtherSide? {
    guard entry.isOurs, entry.overlay < Overlay.count else { return nil }
    let overlay = Overlay(index: entry.overlay)
    var path = s.rest
    if entry.isLower {
      guard case .upper(_, let node) = try DescriptorObject.standing(fd, entry, s),
        !node.has(Node.removed) || node.has(Node.indexed),
        node.shownInode == RecordLocks.identity(fd, entry, overlay)
      else { return nil }
      try path.append(s.real2.written.view)
      _ = unsafe path.cString
      return OtherSide(overlay, node.shownInode, fd, isLower: true, path)
    }
    guard try overlay.contested(entry.ino, into: &path, s) else { return nil }
    _ = unsafe path.cString
    return OtherSide(overlay, entry.ino, fd, isLower: false, path)
  }

  /// Runs the body with the turn of the object's identity. A lower's descriptor marks the origin first; an
  /// origin that nobody has locked is settled.
  private static func underTurn<R>(
    _ fd: Int32, _ entry: DescriptorTable.Entry, _ s: Scratch,
    _ body: (OtherSide?) throws(Errno) -> R
  ) throws(Errno) -> R {
    guard entry.isOurs, entry.overlay < Overlay.count else { return try body(nil) }
    let overlay = Overlay(index: entry.overlay)
    return try withScratch { (s2) throws(Errno) -> R in
      var turn = try Turn(overlay, s2)
      defer { turn.release() }
      try turn.takeIdentity(RecordLocks.identity(fd, entry, overlay))
      guard let other = try find(fd, entry, s) else { return try body(nil) }
      if other.isLower {
        var origin = s2.here
        if try RealPathReader.ofDescriptor(fd, into: &origin) {
          try overlay.contest(other.shown, origin: origin.view, s2)
        }
      } else if other.isFree {
        try overlay.settle(other.shown, s2)
        return try body(nil)
      }
      return try body(other)
    }
  }
}
