import CLinux

/// How an open of a copy for one call is told from the program's own (docs/decisions/0018).
///
/// Beside the lists of watched anchors (`WatchLists`) lies a file for each, its bell:
/// `workdir/overlock/watchers/<shown inode>.<birth of the lower file>`. Who watches the anchor watches it in
/// the same instance. A reader opens the bell just before the copy, and closes it just before the copy: so
/// each ring says whose the next open is, or the next close.
///
/// Invariants:
/// - It is made and removed under the turn of the identity, and lasts as long as a list names the anchor.
/// - Between a ring and what it is of no other ring comes (a turn of its own kind), or inotify would merge
///   the two. A killed reader's bell is closed by the kernel, before the copy.
/// - A close that no open came before means that there was none.
///
/// Left out: a bell that this process may not open.
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

  /// Opens the bell and does `body`, which opens the copy and must not wait. Returns the bell's
  /// descriptor, or -1, and what `body` did. Errors: EMFILE, before `body`.
  func ring(_ s: Scratch, _ body: () -> Int) throws(Errno) -> (Int32, Int) {
    let turn: Turn
    do throws(Errno) { turn = try take(s) } catch {
      if error.rawValue == EMFILE { throw error }
      return (-1, body())
    }
    defer { turn.release() }
    var path = s.real
    try anchor.bell(into: &path)
    let opened = unsafe lx_openat(
      AT_FDCWD, path.cString, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0)
    if opened == -Int(EMFILE) { throw Errno(rawValue: EMFILE) }
    return (opened < 0 ? -1 : Int32(truncatingIfNeeded: opened), body())
  }

  /// Closes the bell and the copy. -1: there is none.
  func close(_ bell: Int32, _ copy: Int32, _ s: Scratch) {
    let turn = bell >= 0 && copy >= 0 ? try? take(s) : nil
    if bell >= 0 { _ = lx_close(bell) }
    if copy >= 0 { _ = lx_close(copy) }
    turn?.release()
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
    _ = lx_close(Int32(truncatingIfNeeded: try check(opened)))
  }
}
