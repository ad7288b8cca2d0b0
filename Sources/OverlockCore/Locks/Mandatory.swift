import CLinux

/// Mandatory locks, as in kernels before 5.15 (Documentation/filesystems/mandatory-locking.rst, fs/locks.c
/// locks_mandatory_area): option `mand`.
///
/// A file with set-group-ID and without the group's right to execute is under them: a record lock of another process,
/// or an open file description lock of another description, is in the way of reads and writes, too. Asked before the
/// call and not held during it, as the kernel did: a lock that is given between the two is not seen.
///
/// An asker is refused where both a lock of this process and one of this description would be. Left out: what a
/// program does without libc's functions, and asynchronous I/O.
enum Mandatory {
  /// Whether an object's mode marks it.
  static func marks(_ mode: UInt32) -> Bool {
    mode & S_IFMT == S_IFREG && mode & 0o2010 == 0o2000
  }

  /// The state of the file behind a descriptor, if it is under mandatory locks.
  static func file(_ fd: Int32) -> stat? {
    let known = DescriptorTable.entry(fd)
    let entry = known.isKnown ? known : DescriptorObject.identify(fd)
    guard entry.isOurs, !entry.isDirectory, entry.overlay < Overlay.count,
      Overlay(index: entry.overlay).has(OVL_MAND)
    else { return nil }
    var st = stat()
    guard unsafe lx_fstat(fd, &st) == 0, st.type == S_IFREG else { return nil }
    if entry.isLower, !DescriptorObject.isCurrent(fd, entry) {
      try? withScratch { (s) throws(Errno) in
        if case .upper = try DescriptorObject.standing(fd, entry, s) {
          _ = unsafe lx_fstatat(AT_FDCWD, s.real2.unterminated, &st, AT_SYMLINK_NOFOLLOW)
        }
      }
    }
    return marks(st.st_mode) ? st : nil
  }

  /// Waits till nobody's lock is in the way of reading (F_RDLCK) or writing a range, or does not wait where the
  /// descriptor says O_NONBLOCK. Errors: EAGAIN, EDEADLK, EINTR.
  static func pass(_ fd: Int32, _ type: Int32, from start: Int, _ size: Int) throws(Errno) {
    guard size > 0, start >= 0, file(fd) != nil else { return }
    let (sum, overflow) = start.addingReportingOverflow(size)
    var range = flock()
    range.l_type = Int16(type)
    range.l_whence = Int16(SEEK_SET)
    range.l_start = start
    range.l_len = overflow || sum < 0 ? 0 : size
    guard try holder(fd, range) != nil else { return }
    let flags = Int32(truncatingIfNeeded: try check(lx_fcntl(fd, F_GETFL, 0)))
    if flags & O_NONBLOCK != 0 { throw .again }
    try wait(fd, &range)
  }

  /// Refuses what is not to wait: mappings and truncations of a file on which anybody else has any lock.
  /// Errors: EAGAIN.
  static func refuse(_ fd: Int32) throws(Errno) {
    guard file(fd) != nil else { return }
    var range = flock()
    range.l_type = Int16(F_WRLCK)
    range.l_whence = Int16(SEEK_SET)
    if try holder(fd, range) != nil { throw .again }
  }

  /// Who has a lock that is in the way (0: not known who); nil: nobody.
  static func holder(_ fd: Int32, _ range: flock) throws(Errno) -> Int32? {
    guard let pid = try ask(fd, F_GETLK, range) else { return nil }
    return try ask(fd, F_OFD_GETLK, range) == nil ? nil : pid
  }

  private static func ask(_ fd: Int32, _ command: Int32, _ range: flock) throws(Errno) -> Int32? {
    var question = range
    try unsafe withUnsafeMutablePointer(to: &question) { (words) throws(Errno) in
      guard var request = unsafe LockRequest(command: command, argument: words) else { return }
      if case .across = Locks.course(fd, record: false) {
        var wait = ovl_lock_wait()
        try check(Locks.across(fd, request, &wait))
      } else {
        try check(request.make(fd, waiting: false))
        request.tell()
      }
    }
    return question.l_type == Int16(F_UNLCK) ? nil : max(question.l_pid, 0)
  }

  /// A look every few milliseconds: the kernel's queue is for those who want a lock, and who gives one back that he
  /// took there for a moment gives back what another thread has taken meanwhile.
  private static func wait(_ fd: Int32, _ range: inout flock) throws(Errno) {
    let mask = lx_block_signals()
    defer { lx_restore_signals(mask) }
    var rounds: UInt32 = 0
    while file(fd) != nil, let holder = try holder(fd, range) {
      if lx_let_signals_in(mask) != 0 { throw Errno(rawValue: EINTR) }
      try look(fd, &range, holder, rounds)
      rounds &+= 1
    }
  }

  private static func look(
    _ fd: Int32, _ range: inout flock, _ holder: Int32, _ rounds: UInt32
  ) throws(Errno) {
    try unsafe withUnsafeMutablePointer(to: &range) { (words) throws(Errno) in
      guard let request = unsafe LockRequest(command: F_SETLKW, argument: words) else { return }
      var shown = CrossWait()
      defer { shown.end() }
      try shown.begin(
        fd, DescriptorTable.entry(fd), request, holder: holder, looksForCircles: rounds & 63 == 0)
      lx_pause(100_000 << min(Int(rounds), 5))
    }
  }

  /// The same for an object by path: refuses if anybody else has a lock in the range. Errors: EAGAIN.
  ///
  /// - Parameter size: 0: to the end.
  static func refuse(
    _ overlay: Overlay, _ real: UnsafePointer<CChar>, layer: Int, shown: UInt64, from start: Int,
    _ size: Int
  ) throws(Errno) {
    var range = flock()
    range.l_type = Int16(F_WRLCK)
    range.l_whence = Int16(SEEK_SET)
    range.l_start = start
    range.l_len = size
    // A close of one that we open would drop this process's locks, of which there are some only if there is one of it.
    if let own = RecordLocks.sibling(overlay, shown, lower: layer > 0, but: -1) {
      if try ask(own, F_GETLK, range) != nil { throw .again }
      return
    }
    let how = O_NONBLOCK | O_NOCTTY | O_NOFOLLOW | O_CLOEXEC
    var markers = Markers(overlay)
    unsafe markers.object(at: PathView(real), .reading)
    defer { markers.end() }
    var opened = unsafe lx_openat(AT_FDCWD, real, O_RDONLY | how, 0)
    if opened == -Int(EACCES), layer == 0 {
      opened = unsafe lx_openat(AT_FDCWD, real, O_WRONLY | how, 0)
    }
    // A lease is in its way, or a right is missing: the call itself says so.
    guard opened >= 0 else { return }
    let fd = Int32(truncatingIfNeeded: opened)
    var node = Node(.file, layer: layer)
    node.shownInode = shown
    DescriptorTable.set(fd, DescriptorTable.Entry(overlay: overlay.index, node, isDirectory: false))
    defer {
      DescriptorTable.set(fd, .unknown)
      _ = lx_close(fd)
    }
    if try ask(fd, F_GETLK, range) != nil { throw .again }
  }
}
