import CLinux

/// open(2) in the merged tree.
enum Open {
  private static func writes(_ flags: Int32) -> Bool {
    flags & O_PATH == 0 && (flags & O_ACCMODE != O_RDONLY || flags & O_TRUNC != 0)
  }

  private static func isTemporary(_ flags: Int32) -> Bool { flags & O_TMPFILE == O_TMPFILE }

  static func open(
    _ p: UnsafeMutablePointer<ovl_path>, _ dirfd: Int32, _ path: UnsafePointer<CChar>,
    _ flags: Int32, _ mode: UInt32, resolve: UInt64
  ) -> Int {
    let exclusive = flags & (O_CREAT | O_EXCL) == O_CREAT | O_EXCL && flags & O_PATH == 0
    let follow = flags & O_NOFOLLOW == 0 && !exclusive
    let fast = unsafe FastPath.find(p, dirfd, path)
    switch fast.outcome {
    case .outside:
      // Something is about to be written: no second's trust in what a link was.
      if unsafe Outside.isSafe(fast.path(p), follow: follow), !writes(flags) || !follow {
        return passResult
      }
    case .inside:
      if resolve == 0, !fast.trailing, let fd = unsafe warm(p, fast, flags, mode, follow) {
        return fd
      }
    case .slow: break
    }
    return bordered { () throws(Errno) in
      try unsafe slowly(dirfd, path, flags, mode, follow, resolve)
    }
  }

  /// One openat on the real path. nil: it needs more than that.
  @inline(__always)
  private static func warm(
    _ p: UnsafeMutablePointer<ovl_path>, _ fast: FastPath, _ flags: Int32, _ mode: UInt32,
    _ follow: Bool
  ) -> Int? {
    let node = fast.node
    let creates = flags & O_CREAT != 0
    if isTemporary(flags) { return nil }
    switch node.kind {
    case .none:
      if creates { return nil }
      if node.has(Node.absent) { return -Int(ENOENT) }
    case .link:
      return nil
    case .unknown:
      if writes(flags) || creates, node.layer != 0 { return nil }
    case .special:
      if creates { return nil }
    case .file:
      if writes(flags), node.layer != 0 { return nil }
      if creates, flags & O_EXCL != 0 { return -Int(EEXIST) }
    case .directory:
      if creates || writes(flags) { return nil }
    }
    let layer = node.layer
    var real = flags | O_NOFOLLOW
    // A name that is known to exist is not made again behind a rename's back.
    if node.kind != .unknown { real &= ~O_CREAT }
    let r = unsafe lx_openat(AT_FDCWD, fast.real(p, layer: layer), real, mode)
    if r < 0 {
      switch r {
      case -Int(ELOOP): return follow ? nil : r
      case -Int(ENOENT):
        // Found by the cache, gone for the kernel: somebody changed a lower directly.
        return node.kind == .none || node.kind == .unknown ? r : nil
      case -Int(ENXIO), -Int(EISDIR): return nil
      default: return r
      }
    }
    let fd = Int32(truncatingIfNeeded: r)
    let isDirectory = node.kind == .directory || flags & O_DIRECTORY != 0
    if node.kind == .unknown, isDirectory, layer == 0 {
      // An upper directory may have a redirect: look it up.
      _ = lx_close(fd)
      return nil
    }
    if flags & O_PATH != 0, follow, node.kind == .unknown {
      // O_PATH|O_NOFOLLOW opens a link itself instead of refusing it.
      var st = stat()
      if lx_fstat(fd, &st) == 0, st.type == S_IFLNK {
        _ = lx_close(fd)
        return nil
      }
    }
    DescriptorTable.set(
      fd,
      DescriptorTable.Entry(
        overlay: fast.overlay.index, layer: layer, isDirectory: isDirectory, ino: node.shownInode))
    if isDirectory {
      DescriptorTable.setSlot(
        fd, overlay: fast.overlay.index, epoch: fast.overlay.registry?.positions ?? 0,
        layer: layer, unsafe fast.path(p))
    }
    return r
  }

  private static func slowly(
    _ dirfd: Int32, _ path: UnsafePointer<CChar>, _ flags: Int32, _ mode: UInt32, _ follow: Bool,
    _ resolve: UInt64
  ) throws(Errno) -> Int {
    try withScratch { (s) throws(Errno) -> Int in
      for _ in 0..<32 {
        guard
          let location = try unsafe Resolve.walk(
            dirfd, path, follow: follow, fresh: true, s)
        else { return passResult }
        // openat2's restrictions are about the caller's own path, which we do not keep to.
        if resolve != 0 { throw Errno(rawValue: ENOSYS) }
        if location.overlay < 0 {
          return try unsafe check(
            lx_openat(AT_FDCWD, location.path.terminated, flags, mode))
        }
        if let fd = try attempt(location, flags, mode, s) { return fd }
      }
      throw .again
    }
  }

  /// One try. nil: something changed or was prepared, walk again.
  private static func attempt(
    _ location: Location, _ flags: Int32, _ mode: UInt32, _ s: Scratch
  ) throws(Errno) -> Int? {
    let overlay = Overlay(index: location.overlay)
    let node = location.lookup.node
    let rel = location.path.view
    let creates = flags & O_CREAT != 0 && flags & O_PATH == 0
    var ino = node.shownInode
    var result: Int
    switch node.kind {
    case .none, .unknown:
      guard creates else { throw .noEntry }
      if location.trailing { throw .isDirectory }
      guard overlay.hasUpper else { throw .readOnly }
      do throws(Errno) {
        result = try overlay.createFile(rel, flags: flags & ~O_NOFOLLOW, mode: mode)
      } catch {
        if error == .exists, flags & O_EXCL == 0 { return nil }
        throw error
      }
      ino = 0
      return register(result, overlay, layer: 0, isDirectory: false, ino: ino, rel)
    case .directory:
      if creates, !isTemporary(flags) {
        throw flags & O_EXCL != 0 ? .exists : .isDirectory
      }
      if isTemporary(flags) {
        guard overlay.hasUpper else { throw .readOnly }
        if node.layer > 0 {
          try overlay.copyUp(rel, truncate: false)
          return nil
        }
        return register(
          try unsafe check(lx_openat(AT_FDCWD, s.real2.unterminated, flags, mode)), overlay,
          layer: 0, isDirectory: false, ino: 0, rel)
      }
      if writes(flags) { throw .isDirectory }
    case .link:
      if creates, flags & O_EXCL != 0 { throw .exists }
      if flags & O_PATH == 0 {
        if flags & O_DIRECTORY != 0 { throw .notDirectory }
        throw .loop
      }
    case .special:
      if creates, flags & O_EXCL != 0 { throw .exists }
      if location.trailing { throw .notDirectory }
    case .file:
      if creates, flags & O_EXCL != 0 { throw .exists }
      if location.trailing { throw .notDirectory }
      if writes(flags), node.layer > 0 {
        if flags & O_DIRECTORY != 0 { throw .notDirectory }
        guard overlay.hasUpper else { throw .readOnly }
        try mayWrite(s.real2.unterminated, flags)
        try overlay.copyUp(rel, truncate: flags & O_TRUNC != 0)
        return nil
      }
    }
    result = unsafe lx_openat(
      AT_FDCWD, s.real2.unterminated, flags & ~O_CREAT | O_NOFOLLOW, mode)
    if result == -Int(ENOENT) { return nil }
    try check(result)
    return register(
      result, overlay, layer: node.layer, isDirectory: node.kind == .directory, ino: ino, rel)
  }

  private static func register(
    _ result: Int, _ overlay: Overlay, layer: Int, isDirectory: Bool, ino: UInt64, _ rel: PathView
  ) -> Int {
    let fd = Int32(truncatingIfNeeded: result)
    DescriptorTable.set(
      fd,
      DescriptorTable.Entry(
        overlay: overlay.index, layer: layer, isDirectory: isDirectory, ino: ino))
    if isDirectory {
      DescriptorTable.setSlot(
        fd, overlay: overlay.index, epoch: overlay.registry?.positions ?? 0, layer: layer, rel)
    }
    return result
  }

  /// The refusals that an open for writing of the lower object would have met, before it is copied.
  private static func mayWrite(_ real: UnsafePointer<CChar>, _ flags: Int32) throws(Errno) {
    var need = W_OK
    if flags & O_ACCMODE == O_RDWR { need |= R_OK }
    if flags & O_ACCMODE == O_RDONLY { need |= R_OK }
    let r = unsafe lx_faccessat2(AT_FDCWD, real, need, AT_EACCESS | AT_SYMLINK_NOFOLLOW)
    // A lower on a read-only file system is written in the upper.
    if r == -Int(EROFS) { return }
    try check(r)
  }
}

extension PathBuffer {
  /// NUL-terminated; for a buffer held in a `let`.
  var terminated: UnsafePointer<CChar> { unsafe cString }
}
