import CLinux

/// How an open of a copy for one call is told from the program's own (docs/decisions/0018).
///
/// Beside the lists of watched anchors (`WatchLists`) lies a file for each, its bell:
/// `workdir/overlock/watchers/<shown inode>.<birth of the lower file>`. Who watches the anchor watches it in
/// the same instance. A reader rings before he opens the copy and after that, before he closes it and
/// after that: so each ring says whose the next open is, or the next close, until the other ring.
///
/// Invariants:
/// - It is made and removed under the turn of the identity, and lasts as long as a list names the anchor.
/// - A turn of its own kind keeps other rings out from between the two. Without the second, inotify would
///   merge the reader's open or close with a program's that follows.
/// - IN_OPEN, then IN_CLOSE_NOWRITE, are for the open: a killed reader's bell is closed by the kernel.
///   IN_ACCESS, then IN_MODIFY, are for the close.
///
/// Left out: a bell that this process may not open; the close of a reader who is killed in the call; a program's
/// open or close between two rings, which inotify may merge.
struct Bell {
  private let anchor: Anchor
  private let isApart: Bool

  /// nil: nobody listens, which costs no call where there are no anchors.
  ///
  /// - Parameter isApart: in a child with this memory and descriptors of its own.
  init?(_ overlay: Overlay, _ shown: UInt64, lower: Int32, isApart: Bool, _ s: Scratch) {
    if overlay.saysNoAnchors { return nil }
    var st = stat()
    var birth: UInt64 = 0
    guard unsafe lx_stat_with_birth(lower, "", AT_EMPTY_PATH, &st, &birth) == 0 else { return nil }
    anchor = Anchor(overlay, shown, birth: birth)
    self.isApart = isApart
    var path = s.real
    guard (try? anchor.bell(into: &path)) != nil,
      unsafe lx_faccessat2(AT_FDCWD, path.cString, 0, 0) == 0
    else { return nil }
  }

  /// Does `body`, which opens the copy and must not wait, between two rings. Errors: EMFILE, before `body`.
  func open(_ s: Scratch, _ body: () -> Int) throws(Errno) -> Int {
    let turn: Turn
    do throws(Errno) { turn = try take(s) } catch {
      if error.rawValue == EMFILE { throw error }
      return body()
    }
    defer { turn.release() }
    var path = s.real
    try anchor.bell(into: &path)
    let bell = unsafe lx_openat(
      AT_FDCWD, path.cString, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0)
    if bell == -Int(EMFILE) { throw Errno(rawValue: EMFILE) }
    defer { if bell >= 0 { _ = lx_close(Int32(truncatingIfNeeded: bell)) } }
    return body()
  }

  /// Closes the copy between two rings.
  func close(_ copy: Int32, _ s: Scratch) {
    var path = s.real
    guard let turn = try? take(s) else {
      _ = lx_close(copy)
      return
    }
    defer { turn.release() }
    let isNamed = (try? anchor.bell(into: &path)) != nil
    // One time of the two: for inotify an access, or a change of data.
    let now = timespec(tv_sec: 0, tv_nsec: Bell.now)
    let never = timespec(tv_sec: 0, tv_nsec: Bell.never)
    if isNamed { Bell.touch(path, (now, never)) }
    _ = lx_close(copy)
    if isNamed { Bell.touch(path, (never, now)) }
  }

  // UTIME_NOW and UTIME_OMIT, which Swift does not import.
  private static var now: Int { (1 << 30) - 1 }
  private static var never: Int { (1 << 30) - 2 }

  private static func touch(_ path: PathBuffer, _ times: (timespec, timespec)) {
    var times = times
    _ = unsafe withUnsafePointer(to: &times) { (p) in
      unsafe lx_utimensat(
        AT_FDCWD, path.terminated, UnsafeRawPointer(p).assumingMemoryBound(to: timespec.self),
        AT_SYMLINK_NOFOLLOW)
    }
  }

  private func take(_ s: Scratch) throws(Errno) -> Turn {
    let turn = try Turn(anchor.overlay, s, isApart: isApart)
    do throws(Errno) { try turn.takeBell(anchor.shown) } catch {
      turn.release()
      throw error
    }
    return turn
  }
}

extension Anchor {
  func bell(into path: inout PathBuffer) throws(Errno) {
    path.count = 0
    try path.append(overlay.work)
    try path.append(Overlay.watchListFolder)
    try path.append(slash)
    try path.append(hex: shown)
    try path.append(dot)
    try path.append(hex: birth)
  }

  /// Makes the bell, if there is none. Under the turn of the identity, when a list names the anchor.
  func makeBell(_ path: PathBuffer) throws(Errno) {
    let opened = unsafe lx_openat(
      AT_FDCWD, path.terminated, O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0o600)
    if opened == -Int(EEXIST) { return }
    let fd = Int32(truncatingIfNeeded: try check(opened))
    defer { _ = lx_close(fd) }
    _ = lx_fchmod(fd, 0o600)
  }
}
