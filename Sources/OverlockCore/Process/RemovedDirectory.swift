import CLinux

/// A directory without a name that a walk stands in: the kernel's handle on it, and where it was.
///
/// From it lead "." and ".." alone. Its ".." is asked from the kernel, but for a directory that stands
/// under a staging name: that one's is where its name says.
struct RemovedDirectory {
  private var position: WorkingDirectory.Position
  /// "." or "/proc/self/fd/N", and as many "/.." as were taken. Empty: no way leads to it.
  private var handle: PathBuffer
  private let scratch: Scratch
  /// When a directory without a handle was removed, at the latest.
  private var since = UInt64(0)
  /// Where it was, in `scratch.spare` when a magic link led here.
  private(set) var path: PathView

  /// Where a relative path starts.
  init(_ start: WorkingDirectory.Position, descriptor: Int32, _ scratch: Scratch) throws(Errno) {
    position = start
    self.scratch = scratch
    path = scratch.here.view
    handle = scratch.staging
    if descriptor == AT_FDCWD {
      try handle.append(dot)
    } else {
      try handle.append("/proc/self/fd/")
      try handle.append(decimal: UInt64(UInt32(bitPattern: descriptor)))
    }
  }

  /// A magic link of /proc, if it leads to a removed directory; `text` is what it reads as.
  init?(magic link: PathView, _ text: PathView, _ overlay: inout Int, _ scratch: Scratch)
    throws(Errno)
  {
    guard !text.isEmpty, text[0] == slash else { return nil }
    self.scratch = scratch
    handle = scratch.staging
    try handle.append(link)
    var st = stat()
    guard unsafe lx_fstatat(AT_FDCWD, handle.cString, &st, 0) == 0, st.type == S_IFDIR else {
      return nil
    }
    var here = unsafe PathBuffer(scratch.spare, capacity: Scratch.spareSize)
    if let own = RemovedDirectory.ownDescriptor(link) {
      position =
        own == AT_FDCWD
        ? try WorkingDirectory.read(into: &here)
        : try WorkingDirectory.ofDescriptor(own, into: &here)
    } else {
      guard st.links == 0 else { return nil }
      position = try RemovedDirectory.open(handle, into: &here)
    }
    guard position.removed else { return nil }
    path = here.view
    overlay = position.overlay
  }

  /// The descriptor behind /proc/self/fd/N, or AT_FDCWD for /proc/self/cwd.
  static func ownDescriptor(_ link: PathView) -> Int32? {
    guard link.hasPrefix("/proc/") else { return nil }
    var rest = link.from(6)
    guard let end = rest.firstSlash else { return nil }
    let who = rest.prefix(end)
    guard who.equals("self") || decimal(who) == Int(lx_getpid()) else { return nil }
    rest = rest.from(end + 1)
    if rest.equals("cwd") { return AT_FDCWD }
    guard rest.hasPrefix("fd/"), let fd = decimal(rest.from(3)) else { return nil }
    return Int32(truncatingIfNeeded: fd)
  }

  private static func open(_ handle: PathBuffer, into here: inout PathBuffer) throws(Errno)
    -> WorkingDirectory.Position
  {
    let opened = try unsafe check(
      lx_openat(AT_FDCWD, handle.terminated, O_PATH | O_DIRECTORY | O_CLOEXEC, 0))
    let fd = Int32(truncatingIfNeeded: opened)
    DescriptorTable.forget(fd)
    defer {
      DescriptorTable.forget(fd)
      _ = lx_close(fd)
    }
    return try WorkingDirectory.ofDescriptor(fd, into: &here)
  }

  /// Goes to the directory that this one was in. nil: that one has a name, `overlay` and `here`.
  func parent(_ overlay: inout Int, _ here: inout PathBuffer) throws(Errno) -> RemovedDirectory? {
    if position.staged || position.layer > 0, position.ticket != 0,
      let log = Overlay(index: overlay).registry?.directoryLog,
      let trace = try log.trace(position.ticket, into: &here)
    {
      return try logged(trace, log, &here)
    }
    if position.staged {
      here.count = here.view.parent.count
      return try lost(overlay, here)
    }
    var above = self
    try above.handle.append("/..")
    above.position = try RemovedDirectory.open(above.handle, into: &here)
    overlay = above.position.overlay
    if overlay < 0, here.count == 1 { here.count = 0 }
    above.path = here.view
    return above.position.removed ? above : nil
  }

  /// The parent, as the log of directories tells.
  private func logged(
    _ trace: DirectoryLog.Trace, _ log: DirectoryLog, _ here: inout PathBuffer
  ) throws(Errno) -> RemovedDirectory? {
    if trace.parent == 0 {
      here.count = trace.live
      return nil
    }
    var above = self
    above.handle.count = 0
    above.position.staged = true
    above.position.ticket = trace.parent
    here.count = here.view.parent.count
    above.path = here.view
    return above
  }

  /// The parent of a directory with a staging name, by its path. What stands there may be younger than
  /// the removal: then that parent has no name either, and no way leads to it.
  private func lost(_ overlay: Int, _ here: PathBuffer) throws(Errno) -> RemovedDirectory? {
    if here.count == 0 { return nil }
    var above = self
    if handle.count > 0 {
      var own = scratch.link
      try own.append(handle.view)
      try own.append("/.")
      above.since = unsafe Times.read(own.cString).changed
      above.handle.count = 0
    }
    above.path = here.view
    let born = try withScratch { (s) throws(Errno) -> UInt64? in
      let overlay = Overlay(index: overlay)
      var merge = Merge(overlay, s)
      let look = try overlay.lookup(here.view, s, merge: &merge)
      guard look.isWhole, look.node.kind == .directory else { return nil }
      // A copy is as old as what it was made from.
      if look.node.layer > 0 || look.node.shownInode != 0 { return 0 }
      return unsafe Times.read(s.real2.unterminated).born
    }
    if let born, born <= above.since { return nil }
    return above
  }

  private struct Times {
    var born: UInt64
    var changed: UInt64

    /// struct statx: stx_btime at 80, stx_ctime at 96. 0 where there is none.
    static func read(_ path: UnsafePointer<CChar>) -> Times {
      var words: InlineArray<32, UInt64> = InlineArray(repeating: 0)
      let r = unsafe withUnsafeMutablePointer(to: &words) {
        unsafe lx_statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, 0x880, UnsafeMutableRawPointer($0))
      }
      guard r == 0 else { return Times(born: 0, changed: 0) }
      func time(_ i: Int) -> UInt64 { words[i] &* 1_000_000_000 &+ (words[i + 1] & 0xffff_ffff) }
      return Times(born: time(10), changed: time(12))
    }
  }

  /// The end of a walk to a name in it.
  func missing(_ overlay: Int, _ here: PathBuffer, trailing: Bool, touched: Bool) -> Location {
    Location(
      overlay: overlay, path: here,
      lookup: Lookup(removed: Node(.none, layer: 0, flags: Node.removed), at: here.view),
      trailing: trailing, touched: touched && overlay >= 0, removed: overlay < 0)
  }

  /// The end of a walk.
  func location(
    _ overlay: Int, _ here: PathBuffer, last: Location.Last, touched: Bool, _ scratch: Scratch
  ) throws(Errno) -> Location {
    var node = Node(.directory, layer: position.layer, flags: Node.removed)
    var real = scratch.real2
    if handle.count == 0 {
      // The kernel finds nothing at an empty path.
      _ = unsafe real.cString
      if overlay >= 0 {
        node.shownInode = try Overlay(index: overlay).standIn(ofTicket: position.ticket, scratch)
      }
    } else if overlay >= 0 {
      try real.append(handle.view)
      try real.append("/.")
      let path = unsafe real.cString
      if node.layer == 0 { node.shownInode = unsafe Overlay(index: overlay).origin(path) }
    }
    return Location(
      overlay: overlay, path: here, lookup: Lookup(removed: node, at: here.view), trailing: true,
      last: last, touched: touched && overlay >= 0, removed: overlay < 0,
      ticket: position.ticket, isLost: handle.count == 0)
  }
}
