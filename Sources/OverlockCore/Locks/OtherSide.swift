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

  private func open() throws(Errno) -> Int32 {
    Int32(
      truncatingIfNeeded: try unsafe check(
        lx_openat(
          AT_FDCWD, path.terminated, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_NOFOLLOW | O_CLOEXEC, 0)))
  }

  /// Who has a lock there that is in the way of the request (0: not known who); nil: nobody. Writes it for an
  /// asker. An inode that may not be opened cannot be asked: nothing is in the way. Errors: ENOLCK: there is
  /// no descriptor, memory or process left to ask with.
  func holder(_ request: LockRequest) throws(Errno) -> Int32? {
    do throws(Errno) {
      switch request.kind {
      case .record:
        if sibling >= 0 { return try ask(sibling, F_GETLK, request) }
        return try ask(F_GETLK, request)
      // Not through the sibling: its own locks are in the way of these too.
      case .description:
        return try sibling >= 0 ? askApart(request) : ask(F_OFD_GETLK, request)
      case .whole:
        let operation = request.flockOperation | LOCK_NB
        let r = try apart { (other) throws(Errno) in
          lx_flock(other, operation) == -Int(EWOULDBLOCK) ? 1 : 0
        }
        return r == 1 ? 0 : nil
      }
    } catch {
      switch error.rawValue {
      case EMFILE, ENFILE, ENOMEM, EAGAIN: throw Errno(rawValue: ENOLCK)
      default: return nil
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
  private func askApart(_ request: LockRequest) throws(Errno) -> Int32? {
    let size = MemoryLayout<flock>.size
    guard
      let page = unsafe lx_mmap(
        size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1)
    else { throw .noMemory }
    defer { _ = unsafe lx_munmap(page, size) }
    let found = unsafe page.assumingMemoryBound(to: flock.self)
    unsafe found.pointee = question(request)
    _ = try Apart.run { () throws(Errno) in
      try unsafe check(lx_lock(try open(), F_OFD_GETLK, found))
    }
    return unsafe holder(found.pointee, request)
  }

  private func ask(_ command: Int32, _ request: LockRequest) throws(Errno) -> Int32? {
    let other = try open()
    defer { _ = lx_close(other) }
    return try ask(other, command, request)
  }

  private func ask(_ other: Int32, _ command: Int32, _ request: LockRequest) throws(Errno) -> Int32?
  {
    var found = question(request)
    try unsafe check(lx_lock(other, command, &found))
    return holder(found, request)
  }

  private func holder(_ found: flock, _ request: LockRequest) -> Int32? {
    if found.l_type == Int16(F_UNLCK) { return nil }
    if request.action == .ask { request.answer(found) }
    return max(found.l_pid, 0)
  }

  private func question(_ request: LockRequest) -> flock {
    var st = stat()
    _ = unsafe lx_fstatat(AT_FDCWD, path.terminated, &st, AT_SYMLINK_NOFOLLOW)
    return request.absolute(fd, size: st.st_size)
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
