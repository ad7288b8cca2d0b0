import CLinux

/// The other inode that an object's locks may be on: the upper for a descriptor on a lower, the contested
/// origin for a descriptor on the upper. It is asked, never held.
struct OtherSide {
  let overlay: Overlay
  let shown: UInt64
  let isLower: Bool
  /// The real path of the other inode.
  let path: PathBuffer

  /// A descriptor of ours on the other inode through which this process took record locks: a close of any
  /// other one there would drop them.
  private let sibling: Int32

  init(_ overlay: Overlay, _ shown: UInt64, _ fd: Int32, isLower: Bool, _ path: PathBuffer) {
    self.overlay = overlay
    self.shown = shown
    self.isLower = isLower
    self.path = path
    sibling = RecordLocks.sibling(overlay, shown, lower: !isLower, but: fd) ?? -1
  }

  private func open() throws(Errno) -> Int32 {
    Int32(
      truncatingIfNeeded: try unsafe check(
        lx_openat(
          AT_FDCWD, path.terminated, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_NOFOLLOW | O_CLOEXEC, 0)))
  }

  /// Who has a lock there that is in the way of the request (0: not known who); nil: nobody. An inode that may
  /// not be opened cannot be asked: nothing is in the way. Errors: as open(2), EAGAIN and ENOMEM: it could not be
  /// asked.
  func holder(_ request: LockRequest) throws(Errno) -> Int32? {
    if request.kind != .whole {
      guard let found = try found(request) else { return nil }
      return max(found.l_pid, 0)
    }
    let operation = request.flockOperation & ~LOCK_NB
    let r = try asking { () throws(Errno) in
      try apart { (other) throws(Errno) in
        lx_flock_is_refused(other, operation) != 0 ? 1 : 0
      }
    }
    return r == 1 ? 0 : nil
  }

  /// The lock of a range there that is in the way of the request. Errors: as `holder`.
  func found(_ request: LockRequest) throws(Errno) -> flock? {
    let type = request.isExclusive ? F_WRLCK : F_RDLCK
    let answer = try asking { () throws(Errno) in
      var range = request.elsewhere(type: type)
      if request.kind == .record, sibling >= 0 {
        try unsafe check(lx_lock(sibling, F_GETLK, &range))
      } else if sibling >= 0 {
        // Not through the sibling: its own locks are in the way too.
        range = try askApart(range)
      } else {
        let other = try open()
        defer { _ = lx_close(other) }
        try unsafe check(lx_lock(other, request.kind == .record ? F_GETLK : F_OFD_GETLK, &range))
      }
      return range
    }
    guard let answer, answer.l_type != Int16(F_UNLCK) else { return nil }
    return answer
  }

  private func asking<R>(_ body: () throws(Errno) -> R) throws(Errno) -> R? {
    var markers = Markers(overlay)
    markers.object(at: path.view, .reading)
    defer { markers.end() }
    do throws(Errno) {
      return try body()
    } catch {
      switch error.rawValue {
      case EACCES, EPERM, ENOENT, ELOOP: return nil
      default: throw error
      }
    }
  }

  private func apart(_ body: (Int32) throws(Errno) -> Int) throws(Errno) -> Int {
    if sibling >= 0 {
      return try Apart.run { () throws(Errno) in try body(try open()) }
    }
    let other = try open()
    defer { _ = lx_close(other) }
    return try body(other)
  }

  /// What a child finds, whose memory is a copy: it comes back through a page that both see.
  private func askApart(_ question: flock) throws(Errno) -> flock {
    let size = MemoryLayout<flock>.size
    guard
      let page = unsafe lx_mmap(size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1)
    else { throw .noMemory }
    defer { _ = unsafe lx_munmap(page, size) }
    let shared = unsafe page.assumingMemoryBound(to: flock.self)
    unsafe shared.pointee = question
    _ = try Apart.run { () throws(Errno) in
      try unsafe check(lx_lock(try open(), F_OFD_GETLK, shared))
    }
    return unsafe shared.pointee
  }

  /// Whether nobody, this process included, has any lock there.
  var isFree: Bool {
    var markers = Markers(overlay)
    markers.object(at: path.view, .reading)
    defer { markers.end() }
    return !overlay.isLocked(path)
  }

  /// Drops this process's record locks there, in the range of the request.
  func dropRecords(_ request: LockRequest) {
    guard request.kind == .record, sibling >= 0 else { return }
    var range = request.elsewhere(type: F_UNLCK)
    _ = unsafe lx_lock(sibling, F_SETLK, &range)
  }
}
