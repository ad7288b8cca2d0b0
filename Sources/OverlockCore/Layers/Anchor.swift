import CLinux

/// The anchor of a lower file: its upper inode, made before the copy-up and filled with the lower's
/// data. Who maps the file maps the anchor, so that the mapping shows what is written to the file
/// later: copy-up takes this very inode (docs/decisions/0011). Who watches the file watches the anchor too,
/// which may then be empty (docs/decisions/0018).
///
/// It is `workdir/overlock/anchors/<shown inode>.<birth of the lower file>`, and is made, filled,
/// opened, taken and removed under the turn of the identity only. Its times say what it is a copy
/// of: modified when the lower was, accessed when the lower was changed (ctime). One that is being
/// filled was accessed in 1970. It is never cut but to the lower's size, as it may be mapped at any
/// time.
@safe struct Anchor {
  let overlay: Overlay
  let shown: UInt64
  let birth: UInt64

  init(_ overlay: Overlay, _ shown: UInt64, birth: UInt64) {
    self.overlay = overlay
    self.shown = shown
    self.birth = birth
  }

  /// Of the lower file at a real path.
  init(_ overlay: Overlay, _ shown: UInt64, of lower: PathBuffer) throws(Errno) {
    var st = stat()
    var birth: UInt64 = 0
    try unsafe check(
      lx_stat_with_birth(AT_FDCWD, lower.terminated, AT_SYMLINK_NOFOLLOW, &st, &birth))
    self.init(overlay, shown, birth: birth)
  }

  static var folder: StaticString { "/anchors" }
  /// Bytes that are copied at most for the sake of a mapping.
  private static var roomAtMost: Int { 1 << 30 }
  /// How often a lower that is written meanwhile is copied anew.
  private static var rounds: Int { 4 }

  func path(into path: inout PathBuffer) throws(Errno) {
    path.count = 0
    try path.append(overlay.work)
    try path.append(Anchor.folder)
    try path.append(slash)
    try path.append(hex: shown)
    try path.append(dot)
    try path.append(hex: birth)
  }

  /// Opens the anchor for a mapping that will only be read, complete and up to date, made if there
  /// is none.
  ///
  /// - Parameters:
  ///   - descriptor: the program's, on the lower.
  ///   - st: of the lower.
  /// - Errors: ENOSPC, EFBIG no room for it; as open(2) and write(2); EAGAIN the lower is being
  ///   written: then nothing is to be gained but what the lower shows.
  func open(for descriptor: Int32, _ st: stat, _ turn: Turn, _ s: Scratch) throws(Errno) -> Int32 {
    var path = s.staging
    try self.path(into: &path)
    if let found = try openCopy(path, of: st) {
      if overlay.saysNoAnchors { overlay.registry?.noteAnchor() }
      return found
    }
    try make(path, for: descriptor, st, turn, s)
    return try Anchor.openReading(path)
  }

  private func openCopy(_ path: PathBuffer, of lower: stat) throws(Errno) -> Int32? {
    let opened: Int32
    do throws(Errno) { opened = try Anchor.openReading(path) } catch {
      if error == .noEntry || error == .access { return nil }
      throw error
    }
    var copy = stat()
    if unsafe lx_fstat(opened, &copy) == 0, Anchor.isCopy(copy, of: lower) { return opened }
    _ = lx_close(opened)
    return nil
  }

  /// Mappings must leave the access time alone.
  private static func openReading(_ path: PathBuffer) throws(Errno) -> Int32 {
    let flags = O_RDONLY | O_CLOEXEC | O_NOFOLLOW
    var opened = unsafe lx_openat(AT_FDCWD, path.terminated, flags | O_NOATIME, 0)
    if opened == -Int(EPERM) { opened = unsafe lx_openat(AT_FDCWD, path.terminated, flags, 0) }
    return Int32(truncatingIfNeeded: try check(opened))
  }

  static func isCopy(_ copy: stat, of lower: stat) -> Bool {
    var copy = copy
    var lower = lower
    return unsafe copy.st_size == lower.st_size && lx_mtime(&copy).equals(lx_mtime(&lower))
      && lx_atime(&copy).equals(lx_ctime(&lower))
  }

  private func make(
    _ path: PathBuffer, for descriptor: Int32, _ st: stat, _ turn: Turn, _ s: Scratch
  ) throws(Errno) {
    var lower = s.rest
    // By name, as its data is: one that was replaced by another file has none that anybody could
    // write.
    guard try RealPathReader.ofDescriptor(descriptor, into: &lower) else { throw .noEntry }
    var named = stat()
    var birth: UInt64 = 0
    try unsafe check(
      lx_stat_with_birth(AT_FDCWD, lower.cString, AT_SYMLINK_NOFOLLOW, &named, &birth))
    guard named.inode == st.inode, birth == self.birth else { throw .noEntry }
    overlay.sweepUnusedAnchors(turn)
    overlay.registry?.noteAnchor()
    // Of who died in the copy-up.
    var staged = s.real
    try overlay.anchorPath(shown, into: &staged)
    try reclaim(staged)
    var opened = unsafe lx_openat(AT_FDCWD, path.terminated, O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0)
    let isNew = opened == -Int(ENOENT)
    if isNew {
      try Anchor.checkMappable(descriptor)
      opened = try create(path, s)
      // Another process may have found the folder empty just before.
      overlay.registry?.noteAnchor()
    }
    let fd = Int32(truncatingIfNeeded: try check(opened))
    defer { _ = lx_close(fd) }
    do throws(Errno) {
      Fault.step()
      if isNew { try checkUseShows(fd, path) }
      noteLower(path, lower)
      var markers = Markers(overlay)
      markers.object(at: lower.view, .reading)
      defer { markers.end() }
      try fill(fd, from: lower, s)
    } catch {
      if isNew { _ = unsafe lx_unlinkat(AT_FDCWD, path.terminated, 0) }
      throw error
    }
  }

  /// For who finds the anchor mapped: /proc/PID/maps tells the program's name of it.
  private func noteLower(_ path: PathBuffer, _ lower: PathBuffer) {
    if overlay.has(OVL_NO_XATTRS) { return }
    _ = unsafe lx_owner_setxattr(
      path.terminated, OverlayAttribute.lower.name(overlay), lower.base, lower.count)
  }

  /// Replaces the path of an anchor, as /proc shows it, by its lower file's. Returns the inode number that the
  /// program sees; nil: it is no anchor's path.
  static func replaceByLower(_ path: inout PathBuffer, _ s: Scratch) throws(Errno) -> UInt64? {
    guard let shown = hexadecimal(path.view.name.prefix(min(16, path.view.name.count))) else {
      return nil
    }
    for i in 0..<Overlay.count {
      let overlay = Overlay(index: i)
      guard overlay.hasUpper, path.view.isAt(orBelow: overlay.work),
        path.view.parent.name.equals("anchors")
      else { continue }
      var lower = s.rest
      let n = unsafe lx_owner_getxattr(
        path.cString, OverlayAttribute.lower.name(overlay), lower.base, Int(OVL_PATH_MAX))
      guard n > 0 else { return nil }
      lower.count = n
      try path.set(lower.view)
      return shown
    }
    return nil
  }

  func create(_ path: PathBuffer, _ s: Scratch) throws(Errno) -> Int {
    let flags = O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW
    var opened = unsafe lx_openat(AT_FDCWD, path.terminated, flags, 0o600)
    if opened == -Int(ENOENT) {
      // A workdir from before there were anchors.
      var folder = s.real
      try folder.append(overlay.work)
      try folder.append(Anchor.folder)
      _ = unsafe lx_mkdirat(AT_FDCWD, folder.cString, 0o700)
      opened = unsafe lx_openat(AT_FDCWD, path.terminated, flags, 0o600)
    }
    // Whatever the umask.
    if opened >= 0 { _ = lx_fchmod(Int32(truncatingIfNeeded: opened), 0o600) }
    return opened
  }

  /// Not every file can be mapped (those of /proc cannot). Errors: ENODEV.
  private static func checkMappable(_ descriptor: Int32) throws(Errno) {
    guard let page = unsafe lx_mmap(4096, PROT_READ, MAP_SHARED, descriptor) else {
      throw Errno(rawValue: ENODEV)
    }
    _ = unsafe lx_munmap(page, 4096)
  }

  /// An anchor that may not be seen to be mapped would be swept from under the mapping: tried on
  /// the new file, since file systems differ. Errors: EOPNOTSUPP.
  private func checkUseShows(_ fd: Int32, _ path: PathBuffer) throws(Errno) {
    let reading = try Anchor.openReading(path)
    let page = unsafe lx_mmap(4096, PROT_READ, MAP_SHARED, reading)
    _ = lx_close(reading)
    guard let page = unsafe page else { throw Errno(rawValue: EOPNOTSUPP) }
    let whileMapped = lx_claim_alone(fd)
    _ = unsafe lx_munmap(page, 4096)
    guard whileMapped == -Int(EAGAIN), lx_claim_alone(fd) == 0 else {
      throw Errno(rawValue: EOPNOTSUPP)
    }
  }

  /// Brings the data up to date in place, until the lower stood still meanwhile. Errors: EAGAIN it
  /// never does.
  private func fill(_ fd: Int32, from lower: PathBuffer, _ s: Scratch) throws(Errno) {
    for _ in 0..<Anchor.rounds {
      var before = stat()
      var after = stat()
      try unsafe check(lx_fstatat(AT_FDCWD, lower.terminated, &before, AT_SYMLINK_NOFOLLOW))
      if UInt64(before.st_size) > lx_file_size_limit() { throw Errno(rawValue: EFBIG) }
      try check(lx_futimens(fd, timespec(tv_sec: 0, tv_nsec: 0), unsafe lx_mtime(&before)))
      Fault.step()
      let start = lx_realtime_ns()
      try Anchor.copy(lower, to: fd, before, room: Anchor.room(fd), s)
      Fault.step()
      try unsafe check(lx_fstatat(AT_FDCWD, lower.terminated, &after, AT_SYMLINK_NOFOLLOW))
      guard after.inode == before.inode, Anchor.hasSameTimes(before, after) else { continue }
      // What was written in this tick of the clock may be written again in it: copied again when
      // next needed.
      if Anchor.isSettled(after, at: start) {
        try check(unsafe lx_futimens(fd, lx_ctime(&after), lx_mtime(&after)))
      }
      Fault.step()
      return
    }
    throw .again
  }

  private static func hasSameTimes(_ a: stat, _ b: stat) -> Bool {
    var a = a
    var b = b
    return unsafe a.st_size == b.st_size && lx_mtime(&a).equals(lx_mtime(&b))
      && lx_ctime(&a).equals(lx_ctime(&b))
  }

  /// Whether a change after `start` would show another ctime. A tick is 10 ms at most; file systems
  /// that keep no fractions of seconds have one of up to 2 s.
  private static func isSettled(_ lower: stat, at start: UInt64) -> Bool {
    var lower = lower
    let changed = unsafe lx_ctime(&lower)
    if changed.tv_sec < 0 { return true }
    let tick: UInt64 = changed.tv_nsec == 0 ? 2_000_000_000 : 20_000_000
    return UInt64(changed.tv_sec) &* 1_000_000_000 &+ UInt64(changed.tv_nsec) &+ tick < start
  }

  /// What is filled anew has the room that it occupies.
  private static func room(_ fd: Int32) -> Int {
    var st = stat()
    let own = unsafe lx_fstat(fd, &st) == 0 ? UInt64(max(st.st_blocks, 0)) &* 512 : 0
    return Int(min(lx_free_bytes(fd) &+ own, UInt64(roomAtMost)))
  }

  static func copy(
    _ lower: PathBuffer, to fd: Int32, _ st: stat, room: Int, _ s: Scratch
  ) throws(Errno) {
    if st.st_size == 0 {
      try check(lx_ftruncate(fd, 0))
      return
    }
    _ = try Apart.run { () throws(Errno) in
      try unsafe DataCopy.copy(lower.terminated, to: fd, size: st.st_size, room: room, s)
      return 0
    }
  }
}

extension timespec {
  fileprivate func equals(_ other: timespec) -> Bool {
    tv_sec == other.tv_sec && tv_nsec == other.tv_nsec
  }
}
