import CLinux

/// The slow half of every call: a walk, and its result in an `ovl_path`.
enum Resolve {
  /// What a call on an object does with the result.
  enum Result {
    /// Outside, and the caller's own path means the same to the kernel.
    case pass
    /// Outside, but only `p.real` leads there.
    case outside
    /// In an overlay; `location` holds its scratch block's paths.
    case inside(Location)
  }

  /// Walks with the scratch block given; the block must outlive the location.
  static func walk(
    _ dirfd: Int32, _ path: UnsafePointer<CChar>, follow: Bool, naming: Bool = false,
    wantBelow: Bool = false, fresh: Bool = false, restriction: Restriction = .none,
    textual: Bool = false, _ s: Scratch
  ) throws(Errno) -> Location? {
    let text = unsafe PathView(path)
    let location = try Walk.resolve(
      dirfd, text, follow: follow, naming: naming, wantBelow: wantBelow, fresh: fresh,
      restriction: restriction, textual: textual, s)
    if location.removed { return nil }
    if location.overlay < 0, !location.touched {
      if !location.path.view.hasPrefix("/proc/"), restriction.isNone {
        Outside.remember(location.path.view, follow: follow)
        if text[0] == slash, !hasDots(text) { Outside.remember(text, follow: follow) }
      }
      return nil
    }
    if location.overlay >= 0, location.lookup.node.has(Node.checkAccess) {
      try checkAccess(location, s)
    }
    return location
  }

  private static func hasDots(_ text: PathView) -> Bool {
    for i in 0..<text.count - 1
    where text[i] == slash && (text[i + 1] == dot || text[i + 1] == slash) { return true }
    return false
  }

  /// Search permission on merged directories whose upper and lower differ: the kernel sees only the
  /// lower's on the way to a lower object.
  private static func checkAccess(_ location: Location, _ s: Scratch) throws(Errno) {
    if lx_geteuid() == 0 || location.lookup.node.layer == 0 { return }
    let overlay = Overlay(index: location.overlay)
    let rel = location.path.view
    try withScratch { (s2) throws(Errno) in
      var upper = s2.real
      for i in 0..<rel.count where rel[i] == slash {
        try overlay.upperPath(rel.prefix(i), into: &upper)
        let r = unsafe lx_faccessat2(AT_FDCWD, upper.cString, X_OK, AT_EACCESS)
        if r == -Int(ENOENT) { return }
        try check(r)
      }
    }
  }

  /// Copies a real path into `p`, or leaves it in the block that `p` then owns.
  static func store(
    _ p: UnsafeMutablePointer<ovl_path>, _ real: PathView
  ) throws(Errno) {
    if real.count < Int(OVL_PATH_INLINE) - 1 {
      let small = unsafe FastPath.base(p)
      unsafe copyBytes(small, real.base, real.count)
      unsafe small[real.count] = 0
      unsafe p.pointee.real = UnsafeRawPointer(small).assumingMemoryBound(to: CChar.self)
      return
    }
    unsafe p.pointee.hold = 0
    let block = try Scratch.acquire()
    var copy = block.real
    do throws(Errno) {
      try copy.append(real)
      if real.count >= Int(OVL_PATH_MAX) {
        var rest: UnsafePointer<CChar>? = nil
        let fd = try unsafe check(lx_long_prefix(copy.cString, &rest))
        let text = unsafe UnsafeMutableRawPointer(block.rest.base)
        _ = unsafe lx_descriptor_path(
          text.assumingMemoryBound(to: CChar.self), Int32(truncatingIfNeeded: fd), rest)
        unsafe p.pointee.hold = Int64(fd) + 1
        copy = block.rest.written
      }
    } catch {
      block.release()
      throw error
    }
    unsafe p.pointee.real = copy.cString
    unsafe p.pointee.block = block.address
  }

  /// Fills `p` for a node found by the slow path; its real path is in `s.real2`.
  static func fill(_ p: UnsafeMutablePointer<ovl_path>, _ location: Location, _ s: Scratch)
    throws(Errno)
  {
    unsafe p.pointee.overlay = Int32(location.overlay)
    let node = location.lookup.node
    unsafe p.pointee.layer = Int32(node.layer)
    unsafe p.pointee.kind = node.kind.rawValue
    unsafe p.pointee.ino = node.shownInode
    unsafe p.pointee.flags = node.flags
    if location.overlay < 0 {
      unsafe p.pointee.kind = Kind.unknown.rawValue
      try unsafe store(p, location.path.view)
    } else {
      try unsafe store(p, s.real2.written.view)
    }
  }
}
