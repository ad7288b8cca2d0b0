import CLinux

/// Finding, making and mapping the segment: a file on tmpfs, 0600 in a 0700 directory, opened
/// O_NOFOLLOW, its owner checked.
enum Segment {
  enum Outcome {
    case attached(Registry)
    /// No place for one: the overlay works without a cache.
    case unavailable
  }

  /// - Parameters:
  ///   - directory: `registry=`, or empty for /dev/shm/overlock-<uid>.
  ///   - id: the overlay's.
  /// - Errors: EPROTO the segment was made by another build; EPERM somebody else owns the file.
  static func attach(_ directory: PathView, id: UInt64, _ s: Scratch) throws(Errno) -> Outcome {
    let uid = UInt32(truncatingIfNeeded: lx_geteuid())
    var path = s.rest
    try Segment.folder(directory, into: &path)
    let folder = path.count
    try path.append(slash)
    try path.append(hex: id)
    for _ in 0..<8 {
      let fd = unsafe lx_openat(AT_FDCWD, path.cString, O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0)
      if fd >= 0 {
        defer { _ = lx_close(Int32(truncatingIfNeeded: fd)) }
        if let registry = try map(Int32(truncatingIfNeeded: fd), uid) {
          return .attached(registry)
        }
        // Cut short by somebody: it holds nothing, make it anew.
        _ = unsafe lx_unlinkat(AT_FDCWD, path.cString, 0)
        continue
      }
      guard fd == -Int(ENOENT) else { return .unavailable }
      path.count = folder
      let made = unsafe lx_mkdirat(AT_FDCWD, path.cString, 0o700)
      guard made == 0 || made == -Int(EEXIST), unsafe isPrivate(path.cString, uid) else {
        return .unavailable
      }
      try path.append(slash)
      try path.append(hex: id)
      guard try create(path, id: id, s) else { return .unavailable }
    }
    return .unavailable
  }

  /// A segment in nobody's reach but of this process and its forked children, where there is no place for one.
  static func makePrivate() throws(Errno) -> Registry {
    guard
      let base = unsafe lx_mmap(
        Registry.size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1)
    else { throw .noMemory }
    let registry = unsafe Registry(base)
    _ = unsafe lx_getrandom(registry.word(8), 16)
    unsafe at_put64(registry.word(8), registry.key0 | 1)
    return registry
  }

  /// Where the segments are: `registry=`, or /dev/shm/overlock-<uid>.
  static func folder(_ directory: PathView, into path: inout PathBuffer) throws(Errno) {
    if !directory.isEmpty { return try path.append(directory) }
    try path.append("/dev/shm/overlock-")
    try path.append(decimal: UInt64(UInt32(truncatingIfNeeded: lx_geteuid())))
  }

  private static func isPrivate(_ path: UnsafePointer<CChar>, _ uid: UInt32) -> Bool {
    var st = stat()
    guard unsafe lx_fstatat(AT_FDCWD, path, &st, AT_SYMLINK_NOFOLLOW) == 0 else { return false }
    return st.type == S_IFDIR && st.st_uid == uid && st.st_mode & 0o022 == 0
  }

  private static func map(_ fd: Int32, _ uid: UInt32) throws(Errno) -> Registry? {
    var st = stat()
    try unsafe check(lx_fstat(fd, &st))
    guard st.st_uid == uid, st.type == S_IFREG else { throw .permission }
    // Ours, but not as we make it: somebody put it there.
    if st.st_mode & 0o077 != 0 { return nil }
    guard st.st_size == Registry.size else {
      var word: UInt64 = 0
      if unsafe lx_pread(fd, &word, 8, 0) == 8, Registry.isLayoutWord(word) {
        throw Errno(rawValue: EPROTO)
      }
      return nil
    }
    guard
      let base = unsafe lx_mmap(Registry.size, PROT_READ | PROT_WRITE, MAP_SHARED, fd)
    else { throw .noMemory }
    let registry = unsafe Registry(base)
    let layout = registry.layout
    if layout != Registry.layoutWord, Registry.isLayoutWord(layout) {
      _ = unsafe lx_munmap(base, Registry.size)
      throw Errno(rawValue: EPROTO)
    }
    return registry
  }

  /// Makes the file complete under a name of its own, then gives it its name: who loses the race uses
  /// the winner's. False: there is no room for it.
  private static func create(_ path: PathBuffer, id: UInt64, _ s: Scratch) throws(Errno) -> Bool {
    var temporary = s.link
    try temporary.append(path.view)
    try temporary.append(dot)
    try temporary.append(decimal: UInt64(lx_gettid()))
    try temporary.append(dot)
    try temporary.append(hex: lx_realtime_ns())
    let opened = unsafe lx_openat(
      AT_FDCWD, temporary.cString, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0o600)
    if opened < 0 { return false }
    let fd = Int32(truncatingIfNeeded: opened)
    defer { _ = lx_close(fd) }
    // Every page now: a sparse page on a full tmpfs would be SIGBUS later.
    guard lx_fallocate(fd, 0, 0, Registry.size) == 0,
      let base = unsafe lx_mmap(Registry.size, PROT_READ | PROT_WRITE, MAP_SHARED, fd)
    else {
      _ = unsafe lx_unlinkat(AT_FDCWD, temporary.cString, 0)
      return false
    }
    let registry = unsafe Registry(base)
    var keys: (UInt64, UInt64) = (lx_realtime_ns(), lx_realtime_ns() &* 0x9e37_79b9_7f4a_7c15)
    _ = unsafe lx_getrandom(&keys, 16)
    unsafe at_put64(registry.word(8), keys.0 | 1)
    unsafe at_put64(registry.word(16), keys.1)
    unsafe at_put64(registry.word(24), id)
    registry.initializeGenerations()
    unsafe at_store64(registry.word(0), Registry.layoutWord)
    _ = unsafe lx_munmap(base, Registry.size)
    let r = unsafe lx_renameat2(
      AT_FDCWD, temporary.cString, AT_FDCWD, path.cString, UInt32(RENAME_NOREPLACE))
    if r < 0 { _ = unsafe lx_unlinkat(AT_FDCWD, temporary.cString, 0) }
    return r == 0 || r == -Int(EEXIST)
  }
}
