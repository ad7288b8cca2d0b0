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
    if DescriptorObject.isCurrent(fd, seen), isMarked(entry), !entry.has(OVL_FD_FRESH) {
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

  /// With locks=overlay: whether who copies the object up later will know that locks of the overlay may be on the
  /// origin. Others' do not count then, and nobody can tell them apart.
  @inline(__always) private static func isMarked(_ entry: DescriptorTable.Entry) -> Bool {
    entry.has(OVL_FD_MARKED) || !Overlay(index: entry.overlay).has(OVL_LOCKS_OVERLAY)
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
    return DescriptorObject.isCurrent(fd, seen) && isMarked(entry)
      && !DescriptorTable.entry(fd).has(OVL_FD_FRESH)
      ? unsafe .checked(registry.copyUpsSeen(seen)) : .across
  }

  /// After a lock was taken while something was copied up or contested: was it not this object? False: it was,
  /// and somebody is in the way there; the lock was given back.
  static func verify(_ fd: Int32, _ request: LockRequest) throws(Errno) -> Bool {
    let entry = DescriptorTable.entry(fd)
    return try withScratch { (s) throws(Errno) -> Bool in
      try keeps(fd, entry, request, s)
    }
  }

  /// Whether a lock that was taken stays. False, or an error: it was given back.
  private static func keeps(
    _ fd: Int32, _ entry: DescriptorTable.Entry, _ request: LockRequest, _ s: Scratch
  ) throws(Errno) -> Bool {
    do throws(Errno) {
      if try isFree(fd, entry, request, s) { return true }
    } catch {
      request.undo(fd)
      throw error
    }
    request.undo(fd)
    return false
  }

  /// Whether nobody on the other inode is in the way of a lock that was taken. What the process had of the range
  /// there is replaced by it.
  private static func isFree(
    _ fd: Int32, _ entry: DescriptorTable.Entry, _ request: LockRequest, _ s: Scratch
  ) throws(Errno) -> Bool {
    try underTurn(fd, entry, s) { (other) throws(Errno) -> Bool in
      guard let other else { return true }
      if try other.holder(request) != nil { return false }
      other.dropRecords(request)
      return true
    }
  }

  /// A call that may concern both inodes: 0 or what `ovl_lock_across` says. Errors: as fcntl(2) and flock(2).
  static func across(
    _ fd: Int32, _ request: LockRequest, _ wait: inout ovl_lock_wait
  ) throws(Errno) -> Int {
    let entry = DescriptorTable.entry(fd)
    var request = request
    if wait.began != 0 {
      request.resume(wait.range)
    } else {
      request.resolve(fd) { size(fd, entry) }
      wait.range = request.range
      wait.began = 1
    }
    switch request.action {
    case .drop:
      let r = request.make(fd, waiting: false)
      if r == 0, request.kind == .record {
        try withScratch { (s) throws(Errno) in
          if let other = try find(fd, entry, s) { other.dropRecords(request) }
        }
      }
      return r
    case .ask:
      let question = request
      try check(request.make(fd, waiting: false))
      // With F_UNLCK the question is about the description's own locks.
      if request.foundNothing, !question.foundNothing {
        do throws(Errno) {
          try withScratch { (s) throws(Errno) in
            guard let other = try find(fd, entry, s), let found = try other.found(question) else {
              return
            }
            request.answer(found)
          }
        } catch {
          throw LockRefusal.refuse(Overlay(index: entry.overlay), error)
        }
      }
      request.tell()
      return 0
    case .take:
      do throws(Errno) {
        if wait.blocked == 0 { try request.checkFirst(fd) }
        try signals(&wait)
        let r = try withScratch { (s) throws(Errno) -> Int in
          try take(fd, entry, &request, &wait, s)
        }
        if r != Int(OVL_LOCK_AGAIN) { unblock(&wait) }
        return r
      } catch {
        unblock(&wait)
        throw error
      }
    }
  }

  /// How long the object is: its copy, where the descriptor is on a lower.
  private static func size(_ fd: Int32, _ entry: DescriptorTable.Entry) -> Int {
    var st = stat()
    _ = unsafe lx_fstat(fd, &st)
    guard entry.isLower else { return st.st_size }
    _ = try? withScratch { (s) throws(Errno) in
      guard let other = try find(fd, entry, s) else { return }
      var copy = stat()
      if unsafe lx_fstatat(AT_FDCWD, other.path.terminated, &copy, AT_SYMLINK_NOFOLLOW) == 0 {
        st = copy
      }
    }
    return st.st_size
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
    _ fd: Int32, _ entry: DescriptorTable.Entry, _ request: inout LockRequest,
    _ wait: inout ovl_lock_wait, _ s: Scratch
  ) throws(Errno) -> Int {
    if wait.slept != 0 {
      wait.slept = 0
      if try keeps(fd, entry, request, s) { return 0 }
    }
    let attempt = try underTurn(fd, entry, s) { (other) throws(Errno) -> Attempt in
      if let holder = try other?.holder(request) { return .refusedThere(by: holder) }
      Fault.step()
      let r = request.make(fd, waiting: false)
      Fault.step()
      if r == 0 { other?.dropRecords(request) }
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
        !node.has(Node.attributesOnly),
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
  /// origin that nobody has locked is settled. Errors: those of the body, and ENOLCK where the workdir cannot be used.
  private static func underTurn<R>(
    _ fd: Int32, _ entry: DescriptorTable.Entry, _ s: Scratch,
    _ body: (OtherSide?) throws(Errno) -> R
  ) throws(Errno) -> R {
    guard entry.isOurs, entry.overlay < Overlay.count else { return try body(nil) }
    let overlay = Overlay(index: entry.overlay)
    do throws(Errno) {
      return try withScratch { (s2) throws(Errno) -> R in
        var turn = try Turn(overlay, s2)
        defer { turn.release() }
        try turn.takeIdentity(RecordLocks.identity(fd, entry, overlay))
        guard let other = try find(fd, entry, s) else {
          if entry.isLower, !isMarked(entry) { try mark(fd, entry, overlay, s2) }
          return try body(nil)
        }
        if other.isLower {
          var origin = s2.here
          if try RealPathReader.ofDescriptor(fd, into: &origin) {
            try overlay.contest(other.shown, origin: origin.view, s2)
          }
        } else if !overlay.has(OVL_LOCKS_ORIGIN), other.isFree {
          // A mark that stays only makes others ask.
          try? overlay.settle(other.shown, s2)
          return try body(nil)
        }
        return try body(other)
      }
    } catch {
      throw LockRefusal.refuse(overlay, error)
    }
  }

  /// Marks the origin of an object on a lower as locked through the overlay, before it is. Under the turn of the identity.
  private static func mark(
    _ fd: Int32, _ entry: DescriptorTable.Entry, _ overlay: Overlay, _ s: Scratch
  ) throws(Errno) {
    var origin = s.here
    guard try RealPathReader.ofDescriptor(fd, into: &origin) else { return }
    try overlay.contest(RecordLocks.identity(fd, entry, overlay), origin: origin.view, s)
    guard let raw = unsafe DescriptorTable.raw(fd) else { return }
    unsafe at_store64(&raw.pointee.word, at_load64(&raw.pointee.word) | UInt64(OVL_FD_MARKED))
  }
}
