import CLinux

/// Leases, fcntl(2) F_SETLEASE (docs/decisions/0016).
///
/// Every lease is the kernel's, on the program's own description, and so are its end, its signal and what
/// F_GETLEASE says. A lease on the inode of a lower is also a lease on the object that may be, or come to be, in the
/// upper: `Overlay.markLeased` has whoever opens that break it. Left out: descriptors on a lower from before a copy-up
/// do not count as opens where a write lease is asked for on the copy.
enum Leases {
  /// Takes a lease through a descriptor on a lower. nil: the call is right as it is.
  static func take(_ fd: Int32, _ type: Int) throws(Errno) -> Int? {
    let known = DescriptorTable.entry(fd)
    let entry = known.isKnown ? known : DescriptorObject.identify(fd)
    guard entry.isOurs, entry.isLower, !entry.isDirectory, entry.overlay < Overlay.count,
      type == Int(F_RDLCK) || type == Int(F_WRLCK)
    else { return nil }
    let overlay = Overlay(index: entry.overlay)
    guard overlay.hasUpper else { return nil }
    let shown = RecordLocks.identity(fd, entry, overlay)
    return try withScratch { (s) throws(Errno) -> Int in
      try withScratch { (s2) throws(Errno) -> Int in
        var origin = s.rest
        guard try RealPathReader.ofDescriptor(fd, into: &origin) else { return make(fd, type) }
        let before = lx_fcntl(fd, F_GETLEASE, 0)
        var turn = try Turn(overlay, s2)
        defer { turn.release() }
        try turn.takeIdentity(shown)
        let isNew = try overlay.markLeased(shown, origin: origin.view, s2)
        let r = make(fd, type)
        if r >= 0, try mayStay(fd, entry, shown, type, s) { return r }
        if r >= 0 { _ = make(fd, before) }
        if isNew { try overlay.unmarkLeased(shown, s2) }
        return r < 0 ? r : -Int(EAGAIN)
      }
    }
  }

  /// Whether a lease that the kernel gave on the origin holds for the object too.
  private static func mayStay(
    _ fd: Int32, _ entry: DescriptorTable.Entry, _ shown: UInt64, _ type: Int, _ s: Scratch
  ) throws(Errno) -> Bool {
    // Nobody can open the file there as a writer does, so nobody could break it.
    if lx_is_on_read_only(fd) != 0 { return false }
    guard case .upper(_, let node) = try DescriptorObject.standing(fd, entry, s),
      node.shownInode == shown
    else { return true }
    var markers = Markers(Overlay(index: entry.overlay))
    markers.object(at: s.real2.written.view, .reading)
    defer { markers.end() }
    return unsafe isFree(s.real2.unterminated, type)
  }

  private static func make(_ fd: Int32, _ type: Int) -> Int {
    lx_fcntl(fd, F_SETLEASE, UInt64(bitPattern: Int64(type)))
  }

  /// Whether the kernel would give the lease on the copy, where others may have it open. Only asked: in a child, whose
  /// end gives it up, and in which the signal to an owner of the lease is blocked.
  private static func isFree(_ path: UnsafePointer<CChar>, _ type: Int) -> Bool {
    let r = try? Apart.always { () throws(Errno) in
      let opened = try unsafe check(
        lx_openat(AT_FDCWD, path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_NOFOLLOW | O_CLOEXEC, 0))
      return try check(make(Int32(truncatingIfNeeded: opened), type))
    }
    return r == 0
  }
}
