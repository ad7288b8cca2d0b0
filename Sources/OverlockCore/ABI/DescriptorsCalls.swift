import CLinux

@c(ovl_fd_received)
@_optimize(speed)
public func ovlFDReceived(_ fd: Int32) { DescriptorTable.noteStrange(fd) }

@c(ovl_fd_closing)
@_optimize(speed)
public func ovlFDClosing(_ fd: Int32) {
  Watches.closing(fd)
  DescriptorTable.forget(fd)
}

@c(ovl_fd_closing_range)
@_optimize(speed)
public func ovlFDClosingRange(_ first: UInt32, _ last: UInt32) {
  var fd = first
  while fd <= last, fd < ovl_fd_limit() {
    Watches.closing(Int32(fd))
    DescriptorTable.forget(Int32(fd))
    fd += 1
  }
}

@c(ovl_fd_duplicated)
@_optimize(speed)
public func ovlFDDuplicated(_ from: Int32, _ to: Int32) {
  DescriptorTable.copy(from: from, to: to)
  Watches.copied(to)
}

@c(ovl_fd_outside)
@_optimize(speed)
public func ovlFDOutside(_ fd: Int32) { if fd >= 0 { DescriptorTable.set(fd, .plain) } }

@c(ovl_fd_is_lower)
@_optimize(speed)
public func ovlFDIsLower(_ fd: Int32) -> Int32 {
  let known = DescriptorTable.entry(fd)
  let entry = known.isKnown ? known : DescriptorObject.identify(fd)
  return entry.isOurs && entry.isLower ? 1 : 0
}

@c(ovl_locate_fs_fd)
@_optimize(speed)
public func ovlLocateFSFD(_ p: UnsafeMutablePointer<ovl_path>?, _ fd: Int32) -> Int {
  guard let p = unsafe p else { return passResult }
  unsafe p.pointee.block = 0
  unsafe p.pointee.overlay = -1
  guard ovlFDIsLower(fd) != 0 else { return passResult }
  return bordered { () throws(Errno) in
    try withScratch { (s) throws(Errno) -> Int in
      var here = s.here
      guard try RealPathReader.ofDescriptor(fd, into: &here),
        let (overlay, _, _) = RealPaths.merged(here.view, lowers: true), overlay.hasUpper
      else { return passResult }
      try unsafe Resolve.store(p, overlay.layerPath(0))
      return 0
    }
  }
}

/// The overlay and node of a descriptor for what stat says; nil where the kernel's answer is right.
@_optimize(speed)
private func subject(_ fd: Int32, _ device: UInt64, _ mode: UInt32) -> (Overlay, Node)? {
  var entry = DescriptorTable.entry(fd)
  if !entry.isKnown {
    // Inherited, or opened by libc itself: ask once, and only where it could be an object of ours.
    let type = mode & S_IFMT
    guard type == S_IFREG || type == S_IFDIR else { return nil }
    entry = DescriptorObject.identify(fd, device, isDirectory: type == S_IFDIR)
  }
  guard entry.isOurs, entry.overlay < Overlay.count else { return nil }
  let overlay = Overlay(index: entry.overlay)
  guard entry.layer < overlay.layerCount else { return nil }
  var node = Node(
    mode & S_IFMT == S_IFDIR ? .directory : .file, layer: entry.layer)
  node.shownInode = entry.ino
  if entry.has(OVL_FD_LINKED) { node.flags = Node.linked }
  return (overlay, node)
}

private enum Answer { case own, removed, copied }

/// Whether a descriptor's own attributes are right, are those of an object without a name, or were replaced by
/// `showCopy`, which finds the copy's real path in `real2`.
@_optimize(speed)
private func nameOrCopy(
  _ fd: Int32, _ entry: DescriptorTable.Entry,
  _ showCopy: (Overlay, Node, Scratch) throws(Errno) -> Void
) -> Answer {
  guard entry.isLower else { return .own }
  if DescriptorObject.isCurrent(fd, entry) { return entry.has(OVL_FD_GONE) ? .removed : .own }
  var answer = Answer.own
  _ = bordered { () throws(Errno) in
    try withScratch { (s) throws(Errno) -> Int in
      switch try DescriptorObject.standing(fd, entry, s) {
      case .current: break
      case .removed: answer = .removed
      case .upper(let overlay, let node):
        try showCopy(overlay, node, s)
        answer = .copied
      }
      return 0
    }
  }
  return answer
}

@c(ovl_fd_fix_stat)
@_optimize(speed)
public func ovlFDFixStat(_ fd: Int32, _ st: UnsafeMutablePointer<stat>?) {
  guard let st = unsafe st else { return }
  let entry = DescriptorTable.entry(fd)
  let standing = nameOrCopy(fd, entry) { (overlay, node, s) throws(Errno) in
    try unsafe check(lx_fstatat(AT_FDCWD, s.real2.unterminated, st, AT_SYMLINK_NOFOLLOW))
    unsafe PathStat.fix(overlay, node, &st.pointee, s.real2.unterminated)
  }
  if standing == .copied { return }
  guard
    let (overlay, found) = unsafe subject(fd, st.pointee.device, st.pointee.st_mode)
  else { return }
  var node = found
  if standing == .removed { node.flags |= Node.removed }
  unsafe fix(fd, overlay, node, &st.pointee)
}

@_optimize(speed)
private func fix(_ fd: Int32, _ overlay: Overlay, _ node: Node, _ st: inout stat) {
  st.device = overlay.device
  if node.has(Node.removed) { st.links = 0 }
  if node.shownInode != 0 {
    st.inode = node.shownInode
  } else if node.layer > 0 {
    st.inode = overlay.shownInode(st.inode, layer: node.layer)
  }
  let isKept =
    st.type == S_IFREG && node.layer == 0 && node.shownInode != 0
    && overlay.registry?.saysNoneKept != true
  if st.type == S_IFDIR || ((st.links > 1 || isKept || node.has(Node.linked)) && node.layer == 0) {
    try? withScratch { (s) throws(Errno) in
      if st.type == S_IFDIR {
        var here = s.here
        let position = try WorkingDirectory.ofDescriptor(fd, into: &here)
        guard position.overlay == overlay.index else { return }
        if position.removed {
          st.links = 0
          // Its copy is gone, and what the copy was is in the log.
          if node.layer > 0, let log = overlay.registry?.directoryLog,
            let was = try log.trace(position.ticket, into: &here)
          {
            st.st_size = 0
            st.st_mode = S_IFDIR | was.mode
            st.st_uid = was.owner.uid
            st.st_gid = was.owner.gid
            st.st_atim = was.accessed
            st.st_mtim = was.modified
          }
          return
        }
        guard let node = try overlay.directory(here.view, s) else { return }
        unsafe PathStat.fix(overlay, node, &st, s.real2.unterminated)
      } else {
        var path = s.real
        try path.append("/proc/self/fd/")
        try path.append(decimal: UInt64(fd))
        // The index's own link is nobody's name.
        st.links = unsafe max(overlay.shownLinks(path.cString, st.links, nofollow: 0), 0)
      }
    }
  }
}

@c(ovl_fd_fix_statx)
@_optimize(speed)
public func ovlFDFixStatx(_ fd: Int32, _ buffer: UnsafeMutableRawPointer?) {
  guard let buffer = unsafe buffer else { return }
  let mode = unsafe UInt32(buffer.load(fromByteOffset: 28, as: UInt16.self))
  let major = unsafe UInt64(buffer.load(fromByteOffset: 136, as: UInt32.self))
  let minor = unsafe UInt64(buffer.load(fromByteOffset: 140, as: UInt32.self))
  let device =
    (major & 0xfff) << 8 | (major & ~0xfff) << 32 | (minor & 0xff) | (minor & ~0xff) << 12
  let entry = DescriptorTable.entry(fd)
  let standing = nameOrCopy(fd, entry) { (overlay, node, s) throws(Errno) in
    let mask = unsafe buffer.load(as: UInt32.self)
    try unsafe check(
      lx_statx(AT_FDCWD, s.real2.unterminated, AT_SYMLINK_NOFOLLOW, mask, buffer))
    unsafe fixStatx(overlay, node, buffer, s.real2.unterminated)
  }
  if standing == .copied { return }
  guard let (overlay, found) = subject(fd, device, mode) else { return }
  var node = found
  if standing == .removed { node.flags |= Node.removed }
  var st = stat()
  st.st_mode = mode
  st.st_uid = UInt32.max
  st.inode = unsafe buffer.load(fromByteOffset: 32, as: UInt64.self)
  st.links = unsafe Int(buffer.load(fromByteOffset: 16, as: UInt32.self))
  fix(fd, overlay, node, &st)
  unsafe buffer.storeBytes(of: st.inode, toByteOffset: 32, as: UInt64.self)
  unsafe buffer.storeBytes(
    of: UInt32(truncatingIfNeeded: st.links), toByteOffset: 16, as: UInt32.self)
  unsafe buffer.storeBytes(of: lx_major(st.device), toByteOffset: 136, as: UInt32.self)
  unsafe buffer.storeBytes(of: lx_minor(st.device), toByteOffset: 140, as: UInt32.self)
  if st.st_uid == UInt32.max { return }
  // A removed directory, as the log has it.
  unsafe buffer.storeBytes(of: st.st_uid, toByteOffset: 20, as: UInt32.self)
  unsafe buffer.storeBytes(of: st.st_gid, toByteOffset: 24, as: UInt32.self)
  unsafe buffer.storeBytes(of: UInt16(st.st_mode), toByteOffset: 28, as: UInt16.self)
  unsafe buffer.storeBytes(of: 0, toByteOffset: 40, as: UInt64.self)
  unsafe store(st.st_atim, buffer + 64)
  unsafe store(st.st_mtim, buffer + 112)
}

/// struct statx_timestamp.
@_optimize(speed)
private func store(_ time: timespec, _ field: UnsafeMutableRawPointer) {
  unsafe field.storeBytes(of: Int64(time.tv_sec), as: Int64.self)
  unsafe field.storeBytes(
    of: UInt32(truncatingIfNeeded: time.tv_nsec), toByteOffset: 8, as: UInt32.self)
}

@c(ovl_listing_of)
@_optimize(speed)
public func ovlListingOf(_ fd: Int32, _ error: UnsafeMutablePointer<Int>?)
  -> UnsafeMutablePointer<ovl_listing>?
{
  unsafe error?.pointee = 0
  do throws(Errno) {
    return unsafe try Listing.of(fd)
  } catch let failure {
    unsafe error?.pointee = failure.result
    return nil
  }
}

@c(ovl_hides)
@_optimize(speed)
public func ovlHides(_ fd: Int32, _ name: UnsafePointer<CChar>?) -> Int32 {
  guard let name = unsafe name else { return 0 }
  let entry = DescriptorTable.entry(fd)
  if entry.isKnown, !entry.isOurs { return 0 }
  var st = stat()
  return unsafe lx_fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.isWhiteoutNode ? 1 : 0
}

@c(ovl_listing_drop)
@_optimize(speed)
public func ovlListingDrop(_ fd: Int32) { Listing.outdate(fd) }

@c(ovl_getdents64)
@_optimize(speed)
public func ovlGetdents64(_ fd: Int32, _ buffer: UnsafeMutableRawPointer?, _ size: Int) -> Int {
  bordered { () throws(Errno) in
    guard let listing = unsafe try Listing.of(fd) else { return passResult }
    guard let buffer = unsafe buffer,
      unsafe ovl_is_readable_all(
        buffer, max(min(size, listing.pointee.bytes &- listing.pointee.next), 0)) != 0
    else { throw .fault }
    let records = unsafe UnsafeMutableRawPointer(listing) + MemoryLayout<ovl_listing>.size
    var given = 0
    while unsafe listing.pointee.next < listing.pointee.bytes {
      let record = unsafe records + listing.pointee.next
      let length = unsafe Int(record.loadUnaligned(fromByteOffset: 16, as: UInt16.self))
      if given + length > size {
        if given == 0 { throw .invalid }
        break
      }
      unsafe (buffer + given).copyMemory(from: record, byteCount: length)
      given += length
      unsafe listing.pointee.next += length
    }
    return given
  }
}

@c(ovl_dir_seek)
@_optimize(speed)
public func ovlDirSeek(_ fd: Int32, _ offset: off_t, _ whence: Int32) -> Int {
  let entry = DescriptorTable.entry(fd)
  guard entry.isOurs, entry.isDirectory else { return passResult }
  return bordered { () throws(Errno) in
    guard let listing = unsafe try Listing.of(fd) else {
      if whence == SEEK_SET, offset == 0 { Listing.outdate(fd) }
      return passResult
    }
    // Positions are one more than offsets, and 0 is the start.
    let now = unsafe listing.pointee.next == 0 ? 0 : listing.pointee.next + 1
    var position: Int
    switch whence {
    case SEEK_SET: position = offset
    case SEEK_CUR:
      let (sum, overflow) = now.addingReportingOverflow(offset)
      if overflow { throw Errno(rawValue: EOVERFLOW) }
      position = sum
    default: throw .invalid
    }
    guard position >= 0 else { throw .invalid }
    if position == 0, now != 0 {
      Listing.outdate(fd)
      _ = unsafe try Listing.of(fd)
      return 0
    }
    unsafe listing.pointee.next = min(max(position - 1, 0), listing.pointee.bytes)
    return position
  }
}
