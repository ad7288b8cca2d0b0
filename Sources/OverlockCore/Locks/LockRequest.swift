import CLinux

/// One call that takes, drops or asks for a lock: fcntl(2) in its two forms, or flock(2).
@safe struct LockRequest {
  enum Kind { case record, description, whole }
  enum Action { case take, drop, ask }

  let kind: Kind
  let action: Action
  /// The caller sleeps until it has the lock.
  let waits: Bool
  private let command: Int32
  private let operation: Int32
  /// The program's own words; nil for flock.
  private let words: UnsafeMutablePointer<flock>?

  /// - Parameters:
  ///   - command: fcntl's, or OVL_FLOCK.
  ///   - argument: a `struct flock`, or flock's operation.
  init?(command: Int32, argument: UnsafeMutableRawPointer?) {
    self.command = command
    if command == Int32(OVL_FLOCK) {
      operation = Int32(truncatingIfNeeded: Int(bitPattern: argument))
      unsafe words = nil
      kind = .whole
      waits = operation & LOCK_NB == 0
      action = operation & ~LOCK_NB == LOCK_UN ? .drop : .take
      return
    }
    guard let argument = unsafe argument,
      unsafe ovl_is_readable_all(argument, MemoryLayout<flock>.size) != 0
    else { return nil }
    operation = 0
    let given = unsafe argument.assumingMemoryBound(to: flock.self)
    unsafe words = given
    let type = unsafe Int32(given.pointee.l_type)
    switch command {
    case F_GETLK, F_OFD_GETLK: action = .ask
    default: action = type == F_UNLCK ? .drop : .take
    }
    kind = command == F_GETLK || command == F_SETLK || command == F_SETLKW ? .record : .description
    waits = command == F_SETLKW || command == F_OFD_SETLKW
  }

  var isExclusive: Bool {
    if let words = unsafe words { return unsafe Int32(words.pointee.l_type) == F_WRLCK }
    return operation & ~LOCK_NB == LOCK_EX
  }

  /// The call itself on the program's descriptor. 0 or -errno.
  func make(_ fd: Int32, waiting: Bool) -> Int {
    if kind == .whole {
      return lx_flock(fd, waiting ? operation : operation | LOCK_NB)
    }
    var command = self.command
    if action != .ask, !waiting { command = kind == .record ? F_SETLK : F_OFD_SETLK }
    return unsafe lx_lock(fd, command, words)
  }

  /// What the kernel refuses before it looks at anybody's locks (fs/locks.c, fcntl_setlk): the range,
  /// as an asker's would be, then the descriptor's mode. Errors: EINVAL, EOVERFLOW, EBADF.
  func checkFirst(_ fd: Int32) throws(Errno) {
    guard let words = unsafe words else { return }
    var question = unsafe words.pointee
    let command = kind == .record ? F_GETLK : F_OFD_GETLK
    try unsafe check(lx_lock(fd, command, &question))
    let mode = Int32(truncatingIfNeeded: try check(lx_fcntl(fd, F_GETFL, 0))) & O_ACCMODE
    if mode == (isExclusive ? O_RDONLY : O_WRONLY) { throw .badDescriptor }
  }

  /// Gives back what `make` took.
  func undo(_ fd: Int32) {
    guard let words = unsafe words else {
      _ = lx_flock(fd, LOCK_UN)
      return
    }
    var free = unsafe words.pointee
    free.l_type = Int16(F_UNLCK)
    _ = unsafe lx_lock(fd, kind == .record ? F_SETLK : F_OFD_SETLK, &free)
  }

  /// The range from the start of the file, for another descriptor than `fd`.
  ///
  /// - Parameter size: of the file.
  func absolute(_ fd: Int32, size: Int) -> flock {
    guard let words = unsafe words else { return flock() }
    var range = unsafe words.pointee
    switch Int32(range.l_whence) {
    case SEEK_CUR: range.l_start += max(lx_lseek(fd, 0, SEEK_CUR), 0)
    case SEEK_END: range.l_start += size
    default: break
    }
    range.l_whence = Int16(SEEK_SET)
    range.l_pid = 0
    return range
  }

  /// Tells an asker what is in the way.
  func answer(_ found: flock) {
    if let words = unsafe words { unsafe words.pointee = found }
  }

  /// Whether what an asker was told is that nothing is in the way.
  var foundNothing: Bool {
    guard let words = unsafe words else { return true }
    return unsafe Int32(words.pointee.l_type) == F_UNLCK
  }

  /// What the asker asked, kept while `make` overwrites it.
  var asked: flock { unsafe words?.pointee ?? flock() }
  func askAgain(_ question: flock) { answer(question) }

  var flockOperation: Int32 { operation }
}
