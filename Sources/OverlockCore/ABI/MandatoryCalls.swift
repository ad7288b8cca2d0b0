import CLinux

@c(ovl_mandatory_pass)
public func ovlMandatoryPass(_ fd: Int32, _ type: Int32, _ start: off_t, _ size: Int) -> Int {
  bordered { () throws(Errno) in
    var from = start
    if from == -1 {
      // Not a file that has a position.
      from = lx_lseek(fd, 0, SEEK_CUR)
      if from < 0 { return 0 }
    }
    try Mandatory.pass(fd, type, from: from, size)
    return 0
  }
}

@c(ovl_mandatory_resize)
public func ovlMandatoryResize(_ fd: Int32, _ length: off_t) -> Int {
  guard length >= 0, let st = Mandatory.file(fd) else { return 0 }
  return bordered { () throws(Errno) in
    try Mandatory.pass(
      fd, F_WRLCK, from: min(length, st.st_size), max(length, st.st_size) - min(length, st.st_size))
    return 0
  }
}

@c(ovl_mandatory_map)
public func ovlMandatoryMap(_ fd: Int32) -> Int {
  bordered { () throws(Errno) in
    try Mandatory.refuse(fd)
    return 0
  }
}

@c(ovl_mandatory_lock)
public func ovlMandatoryLock(_ fd: Int32) -> Int {
  guard let st = Mandatory.file(fd), WritableMappings.exist(of: st) else { return 0 }
  return -Int(EAGAIN)
}

/// O_TRUNC of what a path leads to, and truncate(2): neither waits.
///
/// - Parameter length: nil: an open.
func mandatoryTruncation(
  _ dirfd: Int32, _ path: UnsafePointer<CChar>, follow: Bool, length: off_t?
) -> Int {
  unsafe withPath { p in
    let intent = UInt32(OVL_CHANGING) | (follow ? UInt32(OVL_FOLLOW) : 0)
    guard unsafe ovlLocate(p, dirfd, path, intent) == 0, unsafe p.pointee.overlay >= 0,
      unsafe p.pointee.kind == Kind.file.rawValue
    else { return 0 }
    let overlay = unsafe Overlay(index: Int(p.pointee.overlay))
    var st = stat()
    guard overlay.has(OVL_MAND), overlay.hasUpper,
      unsafe lx_fstatat(AT_FDCWD, p.pointee.real, &st, AT_SYMLINK_NOFOLLOW) == 0,
      Mandatory.marks(st.st_mode)
    else { return 0 }
    var from = 0
    var size = 0
    if let length {
      from = min(length, st.st_size)
      size = max(length, st.st_size) - from
      if size == 0 { return 0 }
    }
    return bordered { () throws(Errno) in
      let layer = unsafe Int(p.pointee.layer)
      let shown =
        unsafe layer > 0
        ? overlay.shownInode(st.inode, layer: layer) : p.pointee.ino
      try unsafe Mandatory.refuse(
        overlay, p.pointee.real, layer: layer, shown: shown, from: from, size)
      return 0
    }
  }
}
