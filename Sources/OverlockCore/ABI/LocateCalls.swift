import CLinux

/// Objects by path and by descriptor: `ovl_locate` and its kin.

/// Runs a throwing body for C.
@inline(__always)
func bordered(_ body: () throws(Errno) -> Int) -> Int {
  do throws(Errno) { return try body() } catch { return error.result }
}

/// Whether there is a path to read: one that is not empty. The kernel has the words for any other.
@inline(__always) func isPath(_ path: UnsafePointer<CChar>) -> Bool {
  unsafe ovl_is_readable(path) != 0 && path.pointee != 0
}

/// Whether a pointer of the program's leads to memory.
@inline(__always) func isMapped(_ pointer: UnsafeRawPointer) -> Bool {
  unsafe ovl_is_readable(pointer) != 0
}

@c(ovl_path_release)
public func ovlPathRelease(_ p: UnsafeMutablePointer<ovl_path>?) {
  guard let p = unsafe p, unsafe p.pointee.block != 0 else { return }
  if unsafe p.pointee.hold != 0 {
    _ = unsafe lx_close(Int32(truncatingIfNeeded: p.pointee.hold &- 1))
    unsafe p.pointee.hold = 0
  }
  unsafe Scratch.release(p.pointee.block)
  unsafe p.pointee.block = 0
}

@c(ovl_locate)
public func ovlLocate(
  _ p: UnsafeMutablePointer<ovl_path>?, _ dirfd: Int32, _ path: UnsafePointer<CChar>?,
  _ intent: UInt32
) -> Int {
  guard let p = unsafe p else { return passResult }
  unsafe p.pointee.block = 0
  unsafe p.pointee.overlay = -1
  guard let path = unsafe path, unsafe isPath(path) else { return passResult }
  let follow = intent & UInt32(OVL_FOLLOW) != 0
  var fast = unsafe FastPath.find(p, dirfd, path)
  // A call that changes something trusts no memory of what was a link.
  if fast.outcome == .outside, intent & UInt32(OVL_COPYUP | OVL_CHANGING) == 0,
    unsafe Outside.isSafe(fast.path(p), follow: follow)
  {
    return passResult
  }
  if fast.outcome == .inside { fast.refine() }
  if fast.outcome == .inside, fast.isKnown, !fast.trailing, fast.fits,
    intent & UInt32(OVL_COPYUP) == 0,
    fast.node.kind != .none, fast.node.kind != .link || !follow,
    let real = unsafe fast.real(p, layer: fast.node.layer)
  {
    unsafe p.pointee.overlay = Int32(fast.overlay.index)
    unsafe p.pointee.layer = Int32(fast.node.layer)
    unsafe p.pointee.kind = fast.node.kind.rawValue
    unsafe p.pointee.flags = fast.node.flags
    unsafe p.pointee.ino = fast.node.shownInode
    unsafe p.pointee.real = real
    return 0
  }
  return bordered { () throws(Errno) in try unsafe locateSlowly(p, dirfd, path, intent) }
}

private func locateSlowly(
  _ p: UnsafeMutablePointer<ovl_path>, _ dirfd: Int32, _ path: UnsafePointer<CChar>,
  _ intent: UInt32
) throws(Errno) -> Int {
  let follow = intent & UInt32(OVL_FOLLOW) != 0
  return try withScratch { (s) throws(Errno) -> Int in
    for _ in 0..<16 {
      guard let location = try unsafe Resolve.walk(dirfd, path, follow: follow, s) else {
        return passResult
      }
      if location.overlay < 0 {
        try unsafe Resolve.fill(p, location, s)
        return 0
      }
      let node = location.lookup.node
      if node.kind == .none {
        guard intent & UInt32(OVL_MISSING) != 0, !location.trailing else { throw .noEntry }
        let overlay = Overlay(index: location.overlay)
        if overlay.hasUpper { try overlay.copyUpParents(location.path.view, changing: true) }
        var real = s.real2
        try overlay.upperPath(location.path.view, into: &real)
        _ = unsafe real.cString
        try unsafe Resolve.fill(p, location, s)
        return 0
      }
      if location.trailing, node.kind != .directory { throw .notDirectory }
      if intent & UInt32(OVL_COPYUP) != 0, node.layer > 0 {
        if node.has(Node.removed) { throw .noEntry }
        let overlay = Overlay(index: location.overlay)
        if !overlay.hasUpper { throw .readOnly }
        try unsafe Permission.ask(intent, s.real2.unterminated)
        try overlay.copyUp(
          location.path.view, truncate: intent & UInt32(OVL_TRUNCATE) != 0,
          writing: intent & UInt32(OVL_WRITING) != 0)
        continue
      }
      if intent & UInt32(OVL_WRITING) != 0, node.kind == .file, !node.has(Node.removed) {
        try Overlay(index: location.overlay).mayWriteText(node.shownInode)
      }
      try unsafe Resolve.fill(p, location, s)
      return 0
    }
    throw .again
  }
}

@c(ovl_locate_fs)
public func ovlLocateFS(_ p: UnsafeMutablePointer<ovl_path>?, _ path: UnsafePointer<CChar>?) -> Int
{
  guard let p = unsafe p else { return passResult }
  let r = unsafe ovlLocate(p, AT_FDCWD, path, UInt32(OVL_FOLLOW))
  guard r == 0, unsafe p.pointee.overlay >= 0 else { return r }
  let overlay = unsafe Overlay(index: Int(p.pointee.overlay))
  guard overlay.hasUpper else { return 0 }
  unsafe ovlPathRelease(p)
  return bordered { () throws(Errno) in
    try unsafe Resolve.store(p, overlay.layerPath(0))
    return 0
  }
}

/// A descriptor's lower object that has no name any more, for a change of its attributes.
private func locateRemoved(
  _ p: UnsafeMutablePointer<ovl_path>, _ fd: Int32, _ entry: DescriptorTable.Entry,
  _ intent: UInt32, _ s: Scratch
) throws(Errno) -> Int {
  let overlay = Overlay(index: entry.overlay)
  var st = stat()
  try unsafe check(lx_fstat(fd, &st))
  var real = s.real2
  guard try RealPathReader.ofDescriptor(fd, into: &real) else { throw .noEntry }
  _ = unsafe real.cString
  try unsafe Permission.ask(intent, real.cString)
  try overlay.standIn(overlay.shownInode(st.inode, layer: entry.layer), s)
  // Every descriptor of it has to look again.
  overlay.registry?.noteCopyUp()
  unsafe p.pointee.overlay = Int32(overlay.index)
  unsafe p.pointee.layer = 0
  unsafe p.pointee.kind = Kind(mode: st.st_mode).rawValue
  try unsafe Resolve.store(p, s.real2.written.view)
  return 0
}

@c(ovl_locate_fd)
public func ovlLocateFD(_ p: UnsafeMutablePointer<ovl_path>?, _ fd: Int32, _ intent: UInt32) -> Int
{
  guard let p = unsafe p else { return passResult }
  unsafe p.pointee.block = 0
  unsafe p.pointee.overlay = -1
  let entry = DescriptorTable.entry(fd)
  if intent & UInt32(OVL_COPYUP) == 0 {
    guard entry.isLower, !DescriptorObject.isCurrent(fd, entry) else { return passResult }
    return bordered { () throws(Errno) in
      try withScratch { (s) throws(Errno) -> Int in
        guard case .upper = try DescriptorObject.standing(fd, entry, s) else { return passResult }
        // The copy's path would answer what such a descriptor is refused.
        if try check(lx_fcntl(fd, F_GETFL, 0)) & Int(O_PATH) != 0 { throw .badDescriptor }
        try unsafe Resolve.store(p, s.real2.written.view)
        return 0
      }
    }
  }
  if entry.isKnown, !entry.isOurs || !entry.isLower { return passResult }
  return bordered { () throws(Errno) in
    if try check(lx_fcntl(fd, F_GETFL, 0)) & Int(O_PATH) != 0 { throw .badDescriptor }
    return try withScratch { (s) throws(Errno) -> Int in
      var standing = try DescriptorObject.standing(fd, entry, s)
      if case .removed = standing, try keepNameless(fd, entry, intent) {
        standing = try DescriptorObject.standing(fd, entry, s)
      }
      switch standing {
      case .upper(let overlay, let node) where node.has(Node.removed):
        unsafe p.pointee.overlay = Int32(overlay.index)
        unsafe p.pointee.layer = 0
        unsafe p.pointee.kind = node.kind.rawValue
        try unsafe Resolve.store(p, s.real2.written.view)
        return 0
      case .removed:
        return try unsafe locateRemoved(p, fd, entry, intent, s)
      default: break
      }
      var here = s.here
      var own = stat()
      try unsafe check(lx_fstat(fd, &own))
      guard let (overlay, node) = try DescriptorObject.find(fd, entry, &here, s) else {
        return passResult
      }
      // Another object may have the name by now: ours is then nowhere but in this descriptor.
      var found = stat()
      try unsafe check(
        lx_fstatat(AT_FDCWD, s.real2.unterminated, &found, AT_SYMLINK_NOFOLLOW))
      let shown =
        node.shownInode != 0
        ? node.shownInode : overlay.shownInode(found.inode, layer: node.layer)
      guard own.type == found.type, (shown ^ own.inode) & 0xff_ffff_ffff_ffff == 0 else {
        throw .noEntry
      }
      if node.layer > 0 {
        if !overlay.hasUpper { throw .readOnly }
        try unsafe Permission.ask(intent, s.real2.unterminated)
        try overlay.copyUp(here.view, truncate: intent & UInt32(OVL_TRUNCATE) != 0)
      }
      var merge = Merge(overlay, s)
      let look = try overlay.lookup(here.view, s, merge: &merge)
      guard look.isWhole, look.node.kind != .none else { throw .noEntry }
      unsafe p.pointee.overlay = Int32(overlay.index)
      unsafe p.pointee.layer = Int32(look.node.layer)
      unsafe p.pointee.kind = look.node.kind.rawValue
      unsafe p.pointee.ino = look.node.shownInode
      try unsafe Resolve.store(p, s.real2.written.view)
      return 0
    }
  }
}

/// Gives a lower file without a name a copy, for a change through its descriptor. False: it is no file.
private func keepNameless(
  _ fd: Int32, _ entry: DescriptorTable.Entry, _ intent: UInt32
) throws(Errno) -> Bool {
  try withScratch { (s) throws(Errno) -> Bool in
    var origin = s.rest
    var st = stat()
    try unsafe check(lx_fstat(fd, &st))
    guard st.type == S_IFREG, try RealPathReader.ofDescriptor(fd, into: &origin),
      entry.overlay < Overlay.count, Overlay(index: entry.overlay).hasUpper
    else { return false }
    let overlay = Overlay(index: entry.overlay)
    try unsafe Permission.ask(intent, origin.terminated)
    try overlay.keepCopy(
      ofNameless: origin, st, shown: RecordLocks.identity(fd, entry, overlay))
    return true
  }
}
