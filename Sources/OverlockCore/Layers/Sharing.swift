import CLinux

/// Who may work in `workdir/overlock`: whoever may write the workdir. A workdir that its group, or everybody,
/// may write is one of several users, and each of them has to be able to take turns and to clear up.
///
/// No directory here hands its group on (S_ISGID): what is made in them goes to other places.
struct Sharing {
  private let mode: UInt32
  private let group: UInt32

  init(_ overlay: Overlay) {
    var mode: UInt32 = 0o700
    var group = UInt32.max
    try? withScratch { (s) throws(Errno) in
      var path = s.real
      try path.append(overlay.work.parent)
      var st = stat()
      try unsafe check(lx_fstatat(AT_FDCWD, path.cString, &st, 0))
      if st.st_mode & 0o020 != 0 { mode |= 0o070 }
      if st.st_mode & 0o002 != 0 { mode |= 0o007 }
      group = st.st_gid
    }
    self.mode = mode
    self.group = group
  }

  /// Whether several users share the workdir. Then one of them prepares it at a time: what he makes is for a
  /// moment his alone.
  var isShared: Bool { mode != 0o700 }

  /// A descriptor that has the workdir to itself; -1: it may not be read, or somebody keeps it.
  func enter(_ work: PathView) -> Int32 {
    guard isShared,
      let fd = try? withScratch({ (s) throws(Errno) -> Int32 in
        var path = s.real
        try path.append(work)
        let fd = unsafe lx_openat(AT_FDCWD, path.cString, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0)
        return Int32(truncatingIfNeeded: try check(fd))
      })
    else { return -1 }
    for _ in 0..<Sharing.looks {
      if lx_flock(fd, LOCK_EX | LOCK_NB) == 0 { break }
      lx_pause(1_000_000)
    }
    return fd
  }

  /// Milliseconds to wait for whoever prepares it.
  private static var looks: Int { 1000 }

  /// Gives an object of ours its mode and group. Another user's is his to give.
  func apply(_ path: PathBuffer, isDirectory: Bool) {
    let wanted = isDirectory ? mode : mode & 0o666
    var st = stat()
    let name = unsafe path.cString
    guard unsafe lx_fstatat(AT_FDCWD, name, &st, AT_SYMLINK_NOFOLLOW) == 0,
      st.st_mode & 0o7777 != wanted || (isShared && st.st_gid != group)
    else { return }
    if isShared, st.st_gid != group {
      _ = unsafe lx_fchownat(AT_FDCWD, name, UInt32.max, group, AT_SYMLINK_NOFOLLOW)
    }
    _ = unsafe lx_fchmodat(AT_FDCWD, name, wanted)
  }
}
