import CLinux

/// What becomes of an anchor when its file is copied up: the copy's staging name, then the upper's;
/// or an anchor again, where the copy-up fails or its process dies. All under the turn of the
/// identity.
extension Anchor {
  /// For a copy-up: puts the anchor under the copy's staging name, which is free, without
  /// attributes of an earlier try. Returns it open for writing; nil: there is none that may be
  /// used.
  func take(as staged: PathBuffer) throws(Errno) -> Int32? {
    if overlay.saysNoAnchors { return nil }
    return try withScratch { (s) throws(Errno) -> Int32? in
      var path = s.staging
      try self.path(into: &path)
      let opened = unsafe lx_openat(
        AT_FDCWD, path.terminated, O_WRONLY | O_CLOEXEC | O_NOFOLLOW, 0)
      if opened < 0 { return nil }
      let fd = Int32(truncatingIfNeeded: opened)
      let r = unsafe lx_renameat2(
        AT_FDCWD, path.cString, AT_FDCWD, staged.terminated, UInt32(RENAME_NOREPLACE))
      if r < 0 {
        _ = lx_close(fd)
        throw Errno(result: r)
      }
      unsafe ExtendedAttributes.clear(staged.terminated, s)
      return fd
    }
  }

  /// The data of a copy that `take` gave, as the lower's is now.
  static func refresh(_ fd: Int32, from lower: PathBuffer, _ st: stat, _ s: Scratch) throws(Errno) {
    var copy = stat()
    try unsafe check(lx_fstat(fd, &copy))
    if isCopy(copy, of: st) { return }
    try self.copy(lower, to: fd, st, room: .max, s)
  }

  /// The copy-up failed: the anchor is one again, unless it became the upper of another name
  /// already. Its times say nothing now, so that it will be filled anew.
  func giveBack(_ staged: PathBuffer) throws(Errno) {
    var st = stat()
    let from = unsafe staged.terminated
    let r = unsafe lx_fstatat(AT_FDCWD, from, &st, AT_SYMLINK_NOFOLLOW)
    if r == -Int(ENOENT) { return }
    guard r == 0, st.type == S_IFREG, st.links == 1 else {
      return try overlay.removeAnchor(staged)
    }
    try withScratch { (s) throws(Errno) in
      var path = s.staging
      try self.path(into: &path)
      _ = unsafe lx_fchmodat(AT_FDCWD, from, 0o600)
      try unsafe check(
        lx_renameat2(AT_FDCWD, from, AT_FDCWD, path.cString, UInt32(RENAME_NOREPLACE)))
    }
  }

  /// What a dead copy-up left under the staging name is an anchor, if somebody has it mapped.
  func reclaim(_ staged: PathBuffer) throws(Errno) {
    if overlay.saysNoAnchors || !overlay.isMapped(staged) { return }
    try giveBack(staged)
  }
}
