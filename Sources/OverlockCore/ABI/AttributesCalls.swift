import CLinux

/// Changes of an object's attributes by path: bring it to the upper, then one call on its real path.

private func onUpper(
  _ dirfd: Int32, _ path: UnsafePointer<CChar>?, follow: Bool, _ extra: UInt32 = 0,
  _ call: (UnsafePointer<CChar>, UnsafeMutablePointer<ovl_path>) -> Int
) -> Int {
  unsafe withPath { p in
    let intent = UInt32(OVL_COPYUP) | extra | (follow ? UInt32(OVL_FOLLOW) : 0)
    for _ in 0..<16 {
      let r = unsafe ovlLocate(p, dirfd, path, intent)
      if r != 0 { return r }
      let result = unsafe call(p.pointee.real, p)
      // Renamed between the two: look again.
      if unsafe result != -Int(ENOENT) || p.pointee.overlay < 0 { return result }
      unsafe ovlPathRelease(p)
    }
    return -Int(ENOENT)
  }
}

/// Directories whose permissions change decide what the cache may say of what is below them.
private func noteDirectoryChange(_ p: UnsafeMutablePointer<ovl_path>) {
  if unsafe p.pointee.overlay >= 0, unsafe p.pointee.kind == Kind.directory.rawValue {
    unsafe Overlay(index: Int(p.pointee.overlay)).registry?.advanceEpoch()
  }
}

@c(ovl_chmod)
public func ovlChmod(
  _ dirfd: Int32, _ path: UnsafePointer<CChar>?, _ mode: mode_t, _ flags: Int32
) -> Int {
  let follow = flags & AT_SYMLINK_NOFOLLOW == 0
  return unsafe onUpper(dirfd, path, follow: follow, UInt32(OVL_OWNER)) { (real, p) in
    let r =
      unsafe p.pointee.kind == Kind.link.rawValue
      ? unsafe lx_fchmodat2(AT_FDCWD, real, mode, AT_SYMLINK_NOFOLLOW)
      : unsafe lx_fchmodat(AT_FDCWD, real, mode)
    if r == 0 { unsafe noteDirectoryChange(p) }
    return r
  }
}

@c(ovl_chown)
public func ovlChown(
  _ dirfd: Int32, _ path: UnsafePointer<CChar>?, _ uid: uid_t, _ gid: gid_t, _ flags: Int32
) -> Int {
  // Nothing asked for is nobody's alone.
  let intent = uid != uid_t.max || gid != gid_t.max ? UInt32(OVL_OWNER) : 0
  return unsafe onUpper(dirfd, path, follow: flags & AT_SYMLINK_NOFOLLOW == 0, intent) {
    (real, p) in
    let r = unsafe lx_fchownat(
      AT_FDCWD, real, uid, gid, flags | AT_SYMLINK_NOFOLLOW)
    if r == 0 { unsafe noteDirectoryChange(p) }
    return r
  }
}

@c(ovl_utimens)
public func ovlUtimens(
  _ dirfd: Int32, _ path: UnsafePointer<CChar>?, _ times: UnsafePointer<timespec>?, _ flags: Int32
) -> Int {
  let intent = unsafe ovlTimesIntent(times)
  // The kernel does not even look for the object (utimensat(2)).
  if intent == 0 { return passResult }
  return unsafe onUpper(dirfd, path, follow: flags & AT_SYMLINK_NOFOLLOW == 0, intent) {
    (real, _) in
    unsafe lx_utimensat(AT_FDCWD, real, times, flags | AT_SYMLINK_NOFOLLOW)
  }
}

@c(ovl_times_intent)
public func ovlTimesIntent(_ times: UnsafePointer<timespec>?) -> UInt32 {
  // UTIME_NOW and UTIME_OMIT, whose macros have casts that Swift does not import.
  let now = (1 << 30) - 1
  let omit = (1 << 30) - 2
  guard let times = unsafe times else { return UInt32(OVL_TOUCH) }
  // The kernel looks at them before it looks for the object.
  if unsafe ovl_is_readable_all(times, 2 * MemoryLayout<timespec>.size) == 0 { return 0 }
  let first = unsafe times[0].tv_nsec
  let second = unsafe times[1].tv_nsec
  if first == omit, second == omit { return 0 }
  return first == now && second == now ? UInt32(OVL_TOUCH) : UInt32(OVL_OWNER)
}

@c(ovl_truncate)
public func ovlTruncate(_ path: UnsafePointer<CChar>?, _ length: off_t) -> Int {
  if length < 0 { return passResult }
  return unsafe withPath { p in
    var r = unsafe ovlLocate(p, AT_FDCWD, path, UInt32(OVL_FOLLOW | OVL_CHANGING))
    if r != 0 { return r }
    if unsafe p.pointee.overlay < 0 { return unsafe lx_truncate(p.pointee.real, length) }
    switch unsafe p.pointee.kind {
    case Kind.directory.rawValue: return -Int(EISDIR)
    case Kind.file.rawValue: break
    default: return -Int(EINVAL)
    }
    let overlay = unsafe Overlay(index: Int(p.pointee.overlay))
    if !overlay.hasUpper { return -Int(EROFS) }
    if unsafe p.pointee.layer > 0 {
      let allowed = unsafe lx_faccessat2(
        AT_FDCWD, p.pointee.real, W_OK, AT_EACCESS | AT_SYMLINK_NOFOLLOW)
      if allowed < 0, allowed != -Int(EROFS) { return allowed }
    }
    let broken = bordered { () throws(Errno) in
      if unsafe p.pointee.layer > 0 {
        try unsafe overlay.breakLeases(ofLower: p.pointee.real, Int(p.pointee.layer), O_WRONLY)
      } else {
        try unsafe overlay.breakLeases(p.pointee.ino, O_WRONLY)
      }
      return 0
    }
    if broken < 0 { return broken }
    if let path = unsafe path, unsafe ovl_self()!.pointee.mandatory != 0 {
      let refused = unsafe mandatoryTruncation(AT_FDCWD, path, follow: true, length: length)
      if refused < 0 { return refused }
    }
    unsafe ovlPathRelease(p)
    r = unsafe onUpper(
      AT_FDCWD, path, follow: true, UInt32(OVL_WRITING) | (length == 0 ? UInt32(OVL_TRUNCATE) : 0)
    ) { (real, _) in unsafe lx_truncate(real, length) }
    return r
  }
}

@c(ovl_fd_changed)
public func ovlFDChanged(_ fd: Int32) {
  let entry = DescriptorTable.entry(fd)
  if entry.isKnown {
    guard entry.isOurs, entry.isDirectory, entry.overlay < Overlay.count else { return }
    Overlay(index: entry.overlay).registry?.advanceEpoch()
    return
  }
  var st = stat()
  guard unsafe lx_fstat(fd, &st) == 0, st.type == S_IFDIR else { return }
  for i in 0..<Overlay.count { Overlay(index: i).registry?.advanceEpoch() }
}

// ---- extended attributes

@c(ovl_xattr_intent)
public func ovlXattrIntent(_ name: UnsafePointer<CChar>?) -> UInt32 {
  // ACLs are the owner's, trusted.* and security.* root's: EPERM for everybody else (xattr(7)).
  guard let name = unsafe name, unsafe PathView(name).hasPrefix("user.") else {
    return UInt32(OVL_OWNER)
  }
  return UInt32(OVL_WRITER)
}

@c(ovl_xattr_hidden)
public func ovlXattrHidden(_ name: UnsafePointer<CChar>?) -> Int32 {
  guard let name = unsafe name, unsafe isMapped(name) else { return 0 }
  return unsafe OverlayAttribute.isHidden(PathView(name)) ? 1 : 0
}

@c(ovl_getxattr)
public func ovlGetxattr(
  _ path: UnsafePointer<CChar>?, _ name: UnsafePointer<CChar>?, _ value: UnsafeMutableRawPointer?,
  _ size: Int, _ nofollow: Int32
) -> Int {
  guard let name = unsafe name, unsafe isMapped(name) else { return passResult }
  return unsafe withPath { p in
    let r = unsafe ovlLocate(p, AT_FDCWD, path, nofollow == 0 ? UInt32(OVL_FOLLOW) : 0)
    if r != 0 { return r }
    if unsafe p.pointee.overlay >= 0, unsafe ovlXattrHidden(name) != 0 { return -Int(ENODATA) }
    return unsafe lx_getxattr(p.pointee.real, name, value, size, 1)
  }
}

@c(ovl_setxattr)
public func ovlSetxattr(
  _ path: UnsafePointer<CChar>?, _ name: UnsafePointer<CChar>?, _ value: UnsafeRawPointer?,
  _ size: Int, _ flags: Int32, _ nofollow: Int32
) -> Int {
  guard let name = unsafe name, unsafe isMapped(name) else { return passResult }
  if unsafe ovlXattrHidden(name) != 0 {
    return unsafe withPath { p in
      let r = unsafe ovlLocate(p, AT_FDCWD, path, nofollow == 0 ? UInt32(OVL_FOLLOW) : 0)
      return r == 0 ? -Int(EPERM) : r
    }
  }
  return unsafe onUpper(AT_FDCWD, path, follow: nofollow == 0, ovlXattrIntent(name)) { (real, p) in
    let r = unsafe lx_setxattr(real, name, value, size, flags, 1)
    if r == 0 { unsafe noteDirectoryChange(p) }
    return r
  }
}

@c(ovl_removexattr)
public func ovlRemovexattr(
  _ path: UnsafePointer<CChar>?, _ name: UnsafePointer<CChar>?, _ nofollow: Int32
) -> Int {
  guard let name = unsafe name, unsafe isMapped(name) else { return passResult }
  // What is not there need not be copied up to be missed.
  let probe = unsafe ovlGetxattr(path, name, nil, 0, nofollow)
  if probe == -Int(ENODATA) { return unsafe missingAttribute(path, name, nofollow) }
  // Who may write alone may remove what he may not read.
  if probe == passResult || (probe < 0 && probe != -Int(ERANGE) && probe != -Int(EACCES)) {
    return probe
  }
  return unsafe onUpper(AT_FDCWD, path, follow: nofollow == 0, ovlXattrIntent(name)) { (real, p) in
    let r = unsafe lx_removexattr(real, name, 1)
    if r == 0 { unsafe noteDirectoryChange(p) }
    return r
  }
}

/// What removexattr says of an attribute that is not there: user.* exists on files and directories
/// only (xattr(7)).
private func missingAttribute(
  _ path: UnsafePointer<CChar>?, _ name: UnsafePointer<CChar>, _ nofollow: Int32
) -> Int {
  unsafe withPath { p in
    let r = unsafe ovlLocate(p, AT_FDCWD, path, nofollow == 0 ? UInt32(OVL_FOLLOW) : 0)
    if r != 0 { return r }
    if unsafe p.pointee.overlay < 0 { return unsafe lx_removexattr(p.pointee.real, name, nofollow) }
    let kind = unsafe p.pointee.kind
    let takesUser = kind == Kind.file.rawValue || kind == Kind.directory.rawValue
    let isUser = unsafe PathView(name).hasPrefix("user.")
    if isUser, !takesUser { return -Int(EPERM) }
    return bordered { () throws(Errno) in
      try unsafe Permission.ask(ovlXattrIntent(name), p.pointee.real)
      throw .noData
    }
  }
}

@c(ovl_listxattr)
public func ovlListxattr(
  _ path: UnsafePointer<CChar>?, _ list: UnsafeMutablePointer<CChar>?, _ size: Int,
  _ nofollow: Int32
) -> Int {
  unsafe withPath { p in
    let r = unsafe ovlLocate(p, AT_FDCWD, path, nofollow == 0 ? UInt32(OVL_FOLLOW) : 0)
    if r != 0 { return r }
    if unsafe p.pointee.overlay < 0 || p.pointee.layer > 0 {
      let n = unsafe lx_listxattr(p.pointee.real, list, size, 1)
      return n > 0 && size > 0 ? unsafe filter(list, n) : n
    }
    // The hidden names must not count against the caller's room.
    return bordered { () throws(Errno) in
      try withScratch { (s) throws(Errno) -> Int in
        let spare = unsafe UnsafeMutableRawPointer(s.spare).assumingMemoryBound(to: CChar.self)
        let n = try unsafe check(lx_listxattr(p.pointee.real, spare, Scratch.spareSize, 1))
        let left = unsafe filter(spare, n)
        if size == 0 { return left }
        if left > size { throw .range }
        if left > 0 {
          guard let list = unsafe list, unsafe ovl_is_writable(list, left) != 0 else {
            throw .fault
          }
          unsafe UnsafeMutableRawPointer(list).copyMemory(from: spare, byteCount: left)
        }
        return left
      }
    }
  }
}

/// Takes the overlay's own names out of a list, in place; the new length.
private func filter(_ list: UnsafeMutablePointer<CChar>?, _ length: Int) -> Int {
  guard let list = unsafe list else { return length }
  var from = 0
  var to = 0
  while from < length {
    let view = unsafe PathView(UnsafePointer(list + from))
    if !OverlayAttribute.isHidden(view) {
      for i in 0...view.count { unsafe list[to + i] = list[from + i] }
      to += view.count + 1
    }
    from += view.count + 1
  }
  return to
}

@c(ovl_flistxattr_filter)
public func ovlFlistxattrFilter(
  _ fd: Int32, _ list: UnsafeMutablePointer<CChar>?, _ length: Int
) -> Int {
  let entry = DescriptorTable.entry(fd)
  if entry.isKnown, !entry.isOurs { return length }
  return unsafe filter(list, length)
}
