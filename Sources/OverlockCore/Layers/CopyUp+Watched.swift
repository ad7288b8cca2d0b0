import CLinux

/// Copying up a file that somebody watches.
///
/// Its watchers sit on the anchor already and see all that happens to it, the copying included. So the
/// anchor is filled where it is and moves once, to its name: what comes before that move is the copying.
/// Whoever reads the lower for the copy does so between an open and a close of the anchor, which tells
/// watchers of the lower that it was not the program.
extension Overlay {
  /// False: there is no anchor to fill. Under the turn of the identity.
  ///
  /// - Parameter staged: the copy's usual staging name: while it is there, the object is on its way.
  func copyUpInPlace(
    _ anchor: Anchor, _ rel: PathView, from source: PathBuffer, _ st: stat, _ look: Lookup,
    _ staged: PathBuffer, _ turn: inout Turn, isRunning: Bool
  ) throws(Errno) -> Bool {
    let shown = anchor.shown
    return try withScratch { (s) throws(Errno) -> Bool in
      var place = s.staging
      try anchor.path(into: &place)
      try unsafe check(lx_mknodat(AT_FDCWD, staged.terminated, UInt32(S_IFREG | 0o600), 0))
      defer { _ = unsafe lx_unlinkat(AT_FDCWD, staged.terminated, 0) }
      Fault.step()
      guard let fd = try anchor.openInPlace(place, s) else { return false }
      do throws(Errno) {
        try self.fillWatched(place, fd, from: source, st, shown, s)
        Fault.step()
        if isRunning { try self.noteOrigin(.running, shown, at: source) }
        try self.publish(rel, place, st, look, shown, &turn, s)
      } catch {
        anchor.settle(place)
        throw error
      }
      _ = self.isWatched(anchor, touch: true)
      return true
    }
  }

  /// Fills the anchor and looks for locks on the lower, between one open and one close. Closes `fd`.
  private func fillWatched(
    _ place: PathBuffer, _ fd: Int32, from source: PathBuffer, _ st: stat, _ shown: UInt64,
    _ s: Scratch
  ) throws(Errno) {
    // `fill` closes the other.
    let held = lx_fcntl(fd, F_DUPFD_CLOEXEC, 0)
    defer { if held >= 0 { _ = lx_close(Int32(truncatingIfNeeded: held)) } }
    try fill(place, from: source, st, truncate: false, shown: shown, anchor: fd, s)
    Fault.step()
    registry?.noteCopyUp()
    try contestOnCopyUp(shown, st, origin: source, s)
  }

  /// Before a lower file's name goes or is another's: a watched one is copied up, so that its watchers
  /// see the kernel remove it. Where that cannot be, it goes unseen.
  func bringUpWatched(_ rel: PathView, _ found: Node) {
    guard found.kind == .file, found.layer > 0, hasUpper, !saysNoAnchors else { return }
    try? copyUp(rel, truncate: false, watched: true)
  }
}

extension Anchor {
  /// For a copy-up in place: open for writing, without attributes of an earlier try; nil: there is none.
  fileprivate func openInPlace(_ place: PathBuffer, _ s: Scratch) throws(Errno) -> Int32? {
    let path = unsafe place.terminated
    let r = unsafe lx_fchmodat(AT_FDCWD, path, 0o600)
    if r == -Int(ENOENT) { return nil }
    let opened = try unsafe check(
      lx_openat(AT_FDCWD, path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW, 0))
    unsafe ExtendedAttributes.clear(path, s)
    return Int32(truncatingIfNeeded: opened)
  }

  /// The copy-up failed before the rename: an anchor as before, whose times say nothing. One that has its
  /// name is none any more, and not here.
  fileprivate func settle(_ place: PathBuffer) {
    let path = unsafe place.terminated
    _ = unsafe lx_fchmodat(AT_FDCWD, path, 0o600)
    var never = (timespec(tv_sec: 0, tv_nsec: 0), timespec(tv_sec: 0, tv_nsec: 0))
    _ = unsafe withUnsafePointer(to: &never) { (p) in
      unsafe lx_utimensat(
        AT_FDCWD, path, UnsafeRawPointer(p).assumingMemoryBound(to: timespec.self),
        AT_SYMLINK_NOFOLLOW)
    }
  }
}
