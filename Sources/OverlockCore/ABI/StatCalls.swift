import CLinux

/// stat and its kin, by path.

@c(ovl_stat)
@_optimize(speed)
public func ovlStat(
  _ dirfd: Int32, _ path: UnsafePointer<CChar>?, _ st: UnsafeMutablePointer<stat>?, _ flags: Int32
) -> Int {
  guard let path = unsafe path, unsafe isPath(path) else { return passResult }
  guard let st = unsafe st else { return -Int(EFAULT) }
  let follow = flags & AT_SYMLINK_NOFOLLOW == 0
  return unsafe withPath { p in
    var fast = unsafe FastPath.find(p, dirfd, path)
    if fast.outcome == .outside, unsafe Outside.isSafe(fast.path(p), follow: follow) {
      return passResult
    }
    if fast.outcome == .inside, !fast.trailing, fast.fits {
      let node = fast.node
      if node.kind == .none, node.has(Node.absent) { return -Int(ENOENT) }
      if node.kind != .link || !follow, let (at, real) = unsafe fast.at(p, layer: node.layer) {
        let r = unsafe lx_fstatat(at, real, st, AT_SYMLINK_NOFOLLOW)
        if let result = unsafe warm(p, &fast, r, st, at, real, follow) { return result }
      }
    }
    // A name that nobody has looked up yet; else the cache is wrong about it.
    let fresh = fast.outcome != .inside || fast.isKnown
    return bordered { () throws(Errno) in
      try unsafe statSlowly(dirfd, path, st, follow: follow, fresh: fresh)
    }
  }
}

/// What the kernel's answer on the warm path means; nil: look again, the slow way.
@inline(__always)
@_optimize(speed)
private func warm(
  _ p: UnsafeMutablePointer<ovl_path>, _ fast: inout FastPath, _ r: Int,
  _ st: UnsafeMutablePointer<stat>, _ at: Int32, _ real: UnsafePointer<CChar>, _ follow: Bool
) -> Int? {
  let node = fast.node
  if r < 0 {
    return r == -Int(ENOENT) && node.kind != .unknown && node.kind != .none ? nil : r
  }
  let type = unsafe st.pointee.type
  if type == S_IFLNK, follow { return nil }
  if type == S_IFCHR, unsafe st.pointee.st_rdev == 0 { return -Int(ENOENT) }
  if node.kind == .none { return nil }
  if type == S_IFDIR, node.layer == 0, node.kind != .directory {
    // It may have a redirect, or an origin.
    fast.refine()
    guard fast.node.kind == .directory else { return nil }
  }
  // A link count may be looked up by the path, for which there is no call relative to a descriptor.
  var absolute = unsafe real
  if at != AT_FDCWD, type != S_IFDIR, unsafe st.pointee.links > 1 || node.has(Node.indexed) {
    guard let path = unsafe fast.real(p, layer: node.layer) else { return nil }
    unsafe absolute = path
  }
  unsafe PathStat.fix(fast.overlay, fast.node, &st.pointee, absolute)
  return 0
}

private func statSlowly(
  _ dirfd: Int32, _ path: UnsafePointer<CChar>, _ st: UnsafeMutablePointer<stat>, follow: Bool,
  fresh: Bool
) throws(Errno) -> Int {
  try withScratch { (s) throws(Errno) -> Int in
    guard
      let location = try unsafe Resolve.walk(dirfd, path, follow: follow, fresh: fresh, s)
    else { return passResult }
    if location.overlay < 0 {
      return unsafe lx_fstatat(
        AT_FDCWD, location.path.terminated, st,
        (follow ? 0 : AT_SYMLINK_NOFOLLOW))
    }
    let node = try existing(location)
    let overlay = Overlay(index: location.overlay)
    if location.isLost {
      try unsafe overlay.describeRemoved(location.ticket, &st.pointee)
      return 0
    }
    try unsafe check(
      lx_fstatat(AT_FDCWD, s.real2.unterminated, st, AT_SYMLINK_NOFOLLOW))
    unsafe PathStat.fix(overlay, node, &st.pointee, s.real2.unterminated)
    return 0
  }
}

/// The node of a location that must exist.
func existing(_ location: Location) throws(Errno) -> Node {
  let node = location.lookup.node
  if node.kind == .none { throw .noEntry }
  if location.trailing, node.kind != .directory { throw .notDirectory }
  return node
}

@c(ovl_statx)
@_optimize(speed)
public func ovlStatx(
  _ dirfd: Int32, _ path: UnsafePointer<CChar>?, _ flags: Int32, _ mask: UInt32,
  _ buffer: UnsafeMutableRawPointer?
) -> Int {
  guard let path = unsafe path, unsafe isPath(path) else { return passResult }
  guard let buffer = unsafe buffer else { return -Int(EFAULT) }
  let follow = flags & AT_SYMLINK_NOFOLLOW == 0
  let other = flags & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)
  return unsafe withPath { p in
    var fast = unsafe FastPath.find(p, dirfd, path)
    if fast.outcome == .outside, unsafe Outside.isSafe(fast.path(p), follow: follow) {
      return passResult
    }
    if fast.outcome == .inside, !fast.trailing, fast.fits, fast.node.kind != .none,
      fast.node.kind != .link || !follow,
      let real = unsafe fast.real(p, layer: fast.node.layer)
    {
      let r = unsafe lx_statx(AT_FDCWD, real, other | AT_SYMLINK_NOFOLLOW, mask, buffer)
      if let result = unsafe warmStatx(&fast, r, buffer, real, follow) { return result }
    }
    let fresh = fast.outcome != .inside || fast.isKnown
    return bordered { () throws(Errno) in
      try withScratch { (s) throws(Errno) -> Int in
        guard
          let location = try unsafe Resolve.walk(dirfd, path, follow: follow, fresh: fresh, s)
        else { return passResult }
        if location.overlay < 0 {
          return unsafe lx_statx(AT_FDCWD, location.path.terminated, flags, mask, buffer)
        }
        let node = try existing(location)
        if location.isLost {
          var st = stat()
          try Overlay(index: location.overlay).describeRemoved(location.ticket, &st)
          unsafe lx_statx_from(&st, buffer)
          return 0
        }
        try unsafe check(
          lx_statx(
            AT_FDCWD, s.real2.unterminated, other | AT_SYMLINK_NOFOLLOW, mask, buffer))
        unsafe fixStatx(
          Overlay(index: location.overlay), node, buffer, s.real2.unterminated)
        return 0
      }
    }
  }
}

/// As `warm`.
@_optimize(speed)
private func warmStatx(
  _ fast: inout FastPath, _ r: Int, _ buffer: UnsafeMutableRawPointer,
  _ real: UnsafePointer<CChar>, _ follow: Bool
) -> Int? {
  if r < 0 { return r == -Int(ENOENT) && fast.isKnown ? nil : r }
  if !fast.isKnown {
    let type = unsafe UInt32(buffer.load(fromByteOffset: 28, as: UInt16.self)) & S_IFMT
    if type == S_IFLNK, follow { return nil }
    // stx_rdev_major and stx_rdev_minor: a whiteout.
    if type == S_IFCHR, unsafe buffer.load(fromByteOffset: 128, as: UInt64.self) == 0 {
      return -Int(ENOENT)
    }
    if type == S_IFDIR, fast.node.layer == 0 {
      fast.refine()
      guard fast.node.kind == .directory else { return nil }
    }
  }
  unsafe fixStatx(fast.overlay, fast.node, buffer, real)
  return 0
}

/// struct statx: stx_nlink at 16, stx_mode at 28, stx_ino at 32, stx_dev_major/minor at 136/140.
func fixStatx(
  _ overlay: Overlay, _ node: Node, _ buffer: UnsafeMutableRawPointer,
  _ real: UnsafePointer<CChar>
) {
  var st = stat()
  st.st_mode = unsafe UInt32(buffer.load(fromByteOffset: 28, as: UInt16.self))
  st.links = unsafe Int(buffer.load(fromByteOffset: 16, as: UInt32.self))
  st.inode = unsafe buffer.load(fromByteOffset: 32, as: UInt64.self)
  unsafe PathStat.fix(overlay, node, &st, real)
  unsafe buffer.storeBytes(
    of: UInt32(truncatingIfNeeded: st.links), toByteOffset: 16, as: UInt32.self)
  unsafe buffer.storeBytes(of: st.inode, toByteOffset: 32, as: UInt64.self)
  unsafe buffer.storeBytes(of: lx_major(st.device), toByteOffset: 136, as: UInt32.self)
  unsafe buffer.storeBytes(of: lx_minor(st.device), toByteOffset: 140, as: UInt32.self)
}

@c(ovl_access)
@_optimize(speed)
public func ovlAccess(
  _ dirfd: Int32, _ path: UnsafePointer<CChar>?, _ mode: Int32, _ flags: Int32
) -> Int {
  guard let path = unsafe path, unsafe isPath(path) else { return passResult }
  let follow = flags & AT_SYMLINK_NOFOLLOW == 0
  return unsafe withPath { p in
    var fast = unsafe FastPath.find(p, dirfd, path)
    if fast.outcome == .outside, unsafe Outside.isSafe(fast.path(p), follow: follow) {
      return passResult
    }
    if fast.outcome == .inside, !fast.trailing, fast.fits {
      fast.refine()
      let node = fast.node
      if node.kind == .none, node.has(Node.absent) { return -Int(ENOENT) }
      if fast.isKnown, node.kind != .none, node.kind != .link || !follow,
        let (at, real) = unsafe fast.at(p, layer: node.layer)
      {
        let r = unsafe lx_faccessat2(at, real, mode, flags | AT_SYMLINK_NOFOLLOW)
        if r != -Int(ENOENT) { return allowed(fast.overlay, node.layer, node.kind, mode, r) }
      }
    }
    let r = unsafe ovlLocate(p, dirfd, path, follow ? UInt32(OVL_FOLLOW) : 0)
    if r != 0 { return r }
    if unsafe p.pointee.overlay < 0 {
      return unsafe lx_faccessat2(AT_FDCWD, p.pointee.real, mode, flags)
    }
    let result = unsafe lx_faccessat2(
      AT_FDCWD, p.pointee.real, mode, flags | AT_SYMLINK_NOFOLLOW)
    return unsafe allowed(
      Overlay(index: Int(p.pointee.overlay)), Int(p.pointee.layer),
      Kind(rawValue: p.pointee.kind) ?? .unknown, mode, result)
  }
}

/// What the kernel's answer about the real object means for the merged one.
@inline(__always)
private func allowed(
  _ overlay: Overlay, _ layer: Int, _ kind: Kind, _ mode: Int32, _ result: Int
) -> Int {
  // A lower on a read-only file system can be written all the same.
  if result == -Int(EROFS), layer > 0, overlay.hasUpper { return 0 }
  if result == 0, mode & W_OK != 0, kind != .special, !overlay.hasUpper { return -Int(EROFS) }
  return result
}

@c(ovl_readlink)
public func ovlReadlink(
  _ dirfd: Int32, _ path: UnsafePointer<CChar>?, _ buffer: UnsafeMutablePointer<CChar>?,
  _ size: Int
) -> Int {
  guard let path = unsafe path, unsafe isPath(path) else { return passResult }
  guard let buffer = unsafe buffer, size > 0 else { return size > 0 ? -Int(EFAULT) : -Int(EINVAL) }
  return unsafe withPath { p in
    let r = unsafe ovlLocate(p, dirfd, path, 0)
    if r == passResult {
      return bordered { () throws(Errno) in try unsafe ProcLink.read(dirfd, path, buffer, size) }
    }
    if r != 0 { return r }
    // A removed directory that no way leads to.
    if unsafe p.pointee.real.pointee == 0 { return -Int(EINVAL) }
    return unsafe lx_readlinkat(AT_FDCWD, p.pointee.real, buffer, size)
  }
}
