import CLinux

/// The other inode that an object's locks may be on: the upper for a descriptor on a lower, the contested
/// origin for a descriptor on the upper. It is asked, never held.
struct OtherSide {
  let overlay: Overlay
  let shown: UInt64
  /// The descriptor of the program that the call is about.
  let fd: Int32
  let isLower: Bool
  /// The real path of the other inode.
  let path: PathBuffer

  /// A descriptor of ours on the other inode through which this process took record locks: a close of any
  /// other one there would drop them.
  private let sibling: Int32

  init(_ overlay: Overlay, _ shown: UInt64, _ fd: Int32, isLower: Bool, _ path: PathBuffer) {
    self.overlay = overlay
    self.shown = shown
    self.fd = fd
    self.isLower = isLower
    self.path = path
    sibling = RecordLocks.sibling(overlay, shown, lower: !isLower, but: fd) ?? -1
  }

  /// nil: it is not there, or not for us to open.
  private func open() throws(Errno) -> Int32? {
    let r = unsafe lx_openat(
      AT_FDCWD, path.terminated, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_NOFOLLOW | O_CLOEXEC, 0)
    if r == -Int(EACCES) || r == -Int(EPERM) || r == -Int(ENOENT) || r == -Int(ELOOP) { return nil }
    return Int32(truncatingIfNeeded: try check(r))
  }

  /// Who has a lock there that is in the way of the request (0: not known who); nil: nobody. Writes it for an
  /// asker. An inode that may not be opened cannot be asked: nothing is in the way.
  /// Errors: as open(2): it could not be asked.
  func holder(_ request: LockRequest) throws(Errno) -> Int32? {
    if request.kind == .record {
      if sibling >= 0 { return ask(sibling, F_GETLK, request) }
      guard let other = try open() else { return nil }
      defer { _ = lx_close(other) }
      return ask(other, F_GETLK, request)
    }
    // Not through the sibling: its own locks are in the way too.
    let answer = try apart { (other) throws(Errno) in
      if request.kind == .description { return ask(other, F_OFD_GETLK, request) == nil ? 0 : 1 }
      return lx_flock(other, request.flockOperation | LOCK_NB) == -Int(EWOULDBLOCK) ? 1 : 0
    }
    return answer == 1 ? 0 : nil
  }

  private func apart(_ body: (Int32) throws(Errno) -> Int) throws(Errno) -> Int {
    if sibling >= 0 {
      return try Apart.run { () throws(Errno) in
        guard let other = try open() else { return 0 }
        return try body(other)
      }
    }
    guard let other = try open() else { return 0 }
    defer { _ = lx_close(other) }
    return try body(other)
  }

  private func ask(_ other: Int32, _ command: Int32, _ request: LockRequest) -> Int32? {
    var st = stat()
    _ = unsafe lx_fstatat(AT_FDCWD, path.terminated, &st, AT_SYMLINK_NOFOLLOW)
    var question = request.absolute(fd, size: st.st_size)
    guard unsafe lx_lock(other, command, &question) == 0, question.l_type != Int16(F_UNLCK) else {
      return nil
    }
    if request.action == .ask { request.answer(question) }
    return max(question.l_pid, 0)
  }

  /// Whether anybody has any lock there.
  var isFree: Bool { sibling < 0 && !overlay.isLocked(path) }

  /// Drops this process's record locks there, in the range of the request.
  func dropRecords(_ request: LockRequest) {
    guard sibling >= 0 else { return }
    var st = stat()
    _ = unsafe lx_fstat(sibling, &st)
    var range = request.absolute(fd, size: st.st_size)
    range.l_type = Int16(F_UNLCK)
    _ = unsafe lx_lock(sibling, F_SETLK, &range)
  }
}
