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
  /// What they ask for. Of a call over two inodes: from the start of the file, as when the call began.
  private(set) var range = flock()

  /// nil: the words cannot be read.
  ///
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
    range = unsafe given.pointee
    let type = Int32(range.l_type)
    switch command {
    case F_GETLK, F_OFD_GETLK: action = .ask
    default: action = type == F_UNLCK ? .drop : .take
    }
    kind = command == F_GETLK || command == F_SETLK || command == F_SETLKW ? .record : .description
    waits = command == F_SETLKW || command == F_OFD_SETLKW
  }

  var isExclusive: Bool {
    kind == .whole ? operation & ~LOCK_NB == LOCK_EX : Int32(range.l_type) == F_WRLCK
  }

  /// The call itself on the program's descriptor. 0 or -errno. An asker's answer is in `range`.
  mutating func make(_ fd: Int32, waiting: Bool) -> Int {
    if kind == .whole {
      return lx_flock(fd, waiting ? operation : operation | LOCK_NB)
    }
    var command = self.command
    if action != .ask, !waiting { command = kind == .record ? F_SETLK : F_OFD_SETLK }
    return unsafe lx_lock(fd, command, &range)
  }

  /// Makes the range one from the start of the file, which is the same on every inode of the object.
  ///
  /// - Parameter size: of the object, which a descriptor on a lower may not know.
  mutating func resolve(_ fd: Int32, size: () -> Int) {
    let base: Int
    switch Int32(range.l_whence) {
    case SEEK_CUR: base = max(lx_lseek(fd, 0, SEEK_CUR), 0)
    case SEEK_END: base = size()
    default: return
    }
    range.l_whence = Int16(SEEK_SET)
    let (start, overflow) = range.l_start.addingReportingOverflow(base)
    range.l_start = start
    if overflow {
      // The kernel's to refuse, at the point where it would: EOVERFLOW.
      range.l_start = Int.max
      range.l_len = 2
    }
  }

  /// Goes on with a range that was resolved when the call began.
  mutating func resume(_ range: flock) { self.range = range }

  /// What the kernel refuses before it looks at anybody's locks (fs/locks.c, fcntl_setlk), in its order: the
  /// range, as an asker's would be, the descriptor's mode, a process where none may be named. Errors: EINVAL,
  /// EOVERFLOW, EBADF.
  func checkFirst(_ fd: Int32) throws(Errno) {
    if kind == .whole { return }
    var question = range
    try unsafe check(lx_lock(fd, F_GETLK, &question))
    let mode = Int32(truncatingIfNeeded: try check(lx_fcntl(fd, F_GETFL, 0))) & O_ACCMODE
    if mode == (isExclusive ? O_RDONLY : O_WRONLY) { throw .badDescriptor }
    if kind == .description, range.l_pid != 0 { throw .invalid }
  }

  /// What the kernel says of words that cannot be read: EFAULT, or that the descriptor is none.
  static func refusal(_ fd: Int32, _ words: UnsafeMutableRawPointer?) -> Int {
    let words = unsafe words?.assumingMemoryBound(to: flock.self)
    let r = unsafe lx_lock(fd, F_GETLK, words)
    return r < 0 ? r : -Int(EFAULT)
  }

  /// Gives back what `make` took.
  func undo(_ fd: Int32) {
    if kind == .whole {
      _ = lx_flock(fd, LOCK_UN)
      return
    }
    var free = range
    free.l_type = Int16(F_UNLCK)
    _ = unsafe lx_lock(fd, kind == .record ? F_SETLK : F_OFD_SETLK, &free)
  }

  /// The range as a question for another inode, or as the locks there to be dropped.
  func elsewhere(type: Int32) -> flock {
    var range = self.range
    range.l_type = Int16(type)
    range.l_pid = 0
    return range
  }

  /// Tells an asker what is in the way.
  mutating func answer(_ found: flock) { range = found }

  /// Tells an asker that nothing is: the rest of the words stays as it was (fs/locks.c, fcntl_getlk).
  func tell() {
    guard let words = unsafe words else { return }
    if foundNothing {
      unsafe words.pointee.l_type = Int16(F_UNLCK)
    } else {
      unsafe words.pointee = range
    }
  }

  /// Whether what an asker was told is that nothing is in the way.
  var foundNothing: Bool { kind == .whole || Int32(range.l_type) == F_UNLCK }

  var flockOperation: Int32 { operation }
}
