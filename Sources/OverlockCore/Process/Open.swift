import CLinux

/// open(2) in the merged tree.
enum Open {
  @_optimize(speed)
  private static func writes(_ flags: Int32) -> Bool {
    flags & O_PATH == 0 && (flags & O_ACCMODE != O_RDONLY || flags & O_TRUNC != 0)
  }

  @_optimize(speed)
  private static func isTemporary(_ flags: Int32) -> Bool { flags & O_TMPFILE == O_TMPFILE }

  @_optimize(speed)
  static func open(
    _ p: UnsafeMutablePointer<ovl_path>, _ dirfd: Int32, _ path: UnsafePointer<CChar>,
    _ flags: Int32, _ mode: UInt32, resolve: UInt64
  ) -> Int {
    let exclusive = flags & (O_CREAT | O_EXCL) == O_CREAT | O_EXCL && flags & O_PATH == 0
    let follow = flags & O_NOFOLLOW == 0 && !exclusive
    // Refused before any path is looked at (fs/open.c, build_open_flags).
    if flags & O_PATH == 0, flags & (O_CREAT | O_DIRECTORY) == O_CREAT | O_DIRECTORY {
      return -Int(EINVAL)
    }
    if unsafe ProcText.isCandidate(dirfd, path, flags) {
      let fd = unsafe ProcText.open(dirfd, path, flags)
      if fd != passResult { return fd }
    }
    let restriction = Restriction(bits: resolve)
    if !restriction.isNone {
      return bordered { () throws(Errno) in
        try unsafe slowly(dirfd, path, flags, mode, follow, restriction)
      }
    }
    var fast = unsafe FastPath.find(p, dirfd, path)
    // Of a directory of the upper the kernel alone cannot tell whether it has a redirect.
    if flags & O_DIRECTORY != 0, fast.outcome == .inside, fast.node.layer == 0 { fast.refine() }
    switch fast.outcome {
    case .outside:
      // Something is about to be written: no second's trust in what a link was.
      if unsafe Outside.isSafe(fast.path(p), follow: follow), !writes(flags) || !follow {
        return passResult
      }
    case .inside:
      if !fast.trailing, fast.fits, let fd = unsafe warm(p, fast, flags, mode, follow) {
        return fd
      }
      if !fast.trailing, fast.node.kind == .none, let fd = unsafe make(p, fast, flags, mode) {
        return fd
      }
    case .slow: break
    }
    return bordered { () throws(Errno) in
      try unsafe slowly(dirfd, path, flags, mode, follow, .none)
    }
  }

  /// Opens a real path on which no link may be followed. openat2 says so without leaving O_NOFOLLOW
  /// among the flags that F_GETFL shows; it refuses what open(2) ignores, so that goes first.
  @inline(__always)
  @_optimize(speed)
  static func openReal(
    _ dirfd: Int32, _ path: UnsafePointer<CChar>, _ flags: Int32, _ mode: UInt32
  ) -> Int {
    var kept = flags
    var how = UInt64(0)
    if flags & O_PATH != 0 {
      kept &= O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC
    } else {
      // O_LARGEFILE, which libc defines as nothing.
      kept &= 0x7f_ffff
      how = 0x8000
      if kept & O_TMPFILE == O_TMPFILE || kept & O_CREAT != 0 {
        return unsafe lx_openat2(
          dirfd, path, UInt64(UInt32(bitPattern: kept)) | how, UInt64(mode & 0o7777),
          UInt64(RESOLVE_NO_SYMLINKS))
      }
    }
    return unsafe lx_openat2(
      dirfd, path, UInt64(UInt32(bitPattern: kept)) | how, 0, UInt64(RESOLVE_NO_SYMLINKS))
  }

  /// One openat on the real path. nil: it needs more than that.
  @inline(__always)
  @_optimize(speed)
  private static func warm(
    _ p: UnsafeMutablePointer<ovl_path>, _ fast: FastPath, _ flags: Int32, _ mode: UInt32,
    _ follow: Bool
  ) -> Int? {
    let node = fast.node
    let creates = flags & O_CREAT != 0
    if isTemporary(flags) { return nil }
    // Leases on the origin of what is opened are to be broken.
    let meetsLeases = node.layer == 0 && flags & O_PATH == 0
    if meetsLeases, fast.overlay.hasLeased { return nil }
    switch node.kind {
    case .none:
      if creates { return nil }
      if node.has(Node.absent) { return -Int(ENOENT) }
    case .link:
      return nil
    case .unknown:
      if writes(flags) || creates, node.layer != 0 { return nil }
    case .special:
      if creates || meets(node, flags) { return nil }
    case .file:
      if writes(flags), node.layer != 0 || mayRun(fast) { return nil }
      if creates, flags & O_EXCL != 0 { return -Int(EEXIST) }
    case .directory:
      if creates || writes(flags) { return nil }
    }
    let layer = node.layer
    // A name that is known to exist is not made again behind a rename's back.
    let kept = node.kind != .unknown ? flags & ~O_CREAT : flags
    guard let (at, real) = unsafe fast.at(p, layer: layer) else { return nil }
    let r = unsafe openReal(at, real, kept, mode)
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
    if meetsLeases, fast.overlay.hasLeased, flags & (O_CREAT | O_EXCL) != O_CREAT | O_EXCL {
      _ = lx_close(fd)
      return nil
    }
    if node.kind == .unknown, isDirectory, layer == 0 {
      // An upper directory may have a redirect: look it up.
      _ = lx_close(fd)
      return nil
    }
    if flags & O_PATH != 0, node.kind == .unknown {
      // O_PATH opens a link itself instead of following or refusing it, and a whiteout.
      var st = stat()
      if unsafe lx_fstat(fd, &st) == 0, (st.type == S_IFLNK && follow) || st.isWhiteoutNode {
        _ = lx_close(fd)
        return nil
      }
    }
    var entry = DescriptorTable.Entry(
      overlay: fast.overlay.index, node, isDirectory: isDirectory)
    let isLowerFile = layer > 0 && !isDirectory
    if isLowerFile { entry.word |= UInt64(OVL_FD_FRESH) }
    DescriptorTable.set(fd, entry, seen: isLowerFile ? fast.copyUps &+ 1 : 0)
    if isDirectory, let rel = unsafe fast.path(p) {
      DescriptorTable.setSlot(
        fd, overlay: fast.overlay.index, epoch: fast.overlay.registry?.positions ?? 0,
        layer: layer, direct: true, rel)
    }
    return r
  }

  /// A new file at a name that the cache knows to be free. nil: whatever is in the way, the walk says.
  private static func make(
    _ p: UnsafeMutablePointer<ovl_path>, _ fast: FastPath, _ flags: Int32, _ mode: UInt32
  ) -> Int? {
    guard flags & (O_CREAT | O_PATH) == O_CREAT, !isTemporary(flags), fast.overlay.hasUpper,
      let rel = unsafe fast.path(p)
    else { return nil }
    do throws(Errno) {
      let made = try fast.overlay.createFile(rel, flags: flags, mode: mode)
      return register(lowest(made, flags), fast.overlay, Node(.file, layer: 0), rel)
    } catch {
      return nil
    }
  }

  private static func slowly(
    _ dirfd: Int32, _ path: UnsafePointer<CChar>, _ flags: Int32, _ mode: UInt32, _ follow: Bool,
    _ restriction: Restriction
  ) throws(Errno) -> Int {
    try withScratch { (s) throws(Errno) -> Int in
      for round in 0..<32 {
        // With a slash at its end the name is not even looked at: fs/namei.c, open_last_lookups.
        let slashed = unsafe flags & (O_CREAT | O_PATH) == O_CREAT && endsInSlash(path)
        guard
          let location = try unsafe Resolve.walk(
            dirfd, path, follow: follow && !slashed, naming: slashed, fresh: round > 0,
            restriction: restriction, s)
        else { return passResult }
        // Who wants no waiting asks again without that.
        if restriction.cachedOnly { throw .again }
        if location.overlay < 0 {
          // Through an overlay to somewhere else: only the kernel knows the mounts there.
          if restriction.oneMount { throw Errno(rawValue: ENOSYS) }
          let fd = try unsafe check(
            lx_openat(AT_FDCWD, location.path.terminated, flags, mode))
          // A lower that was named itself is a plain directory.
          DescriptorTable.set(Int32(truncatingIfNeeded: fd), .plain)
          return fd
        }
        if let fd = try attempt(location, flags, mode, s) { return fd }
      }
      throw .again
    }
  }

  /// A file without a name in a removed directory: some file systems make it, some refuse it.
  private static func openTemporary(
    inRemoved location: Location, _ flags: Int32, _ mode: UInt32, _ s: Scratch
  ) throws(Errno) -> Int {
    let overlay = Overlay(index: location.overlay)
    var made: Int
    if location.lookup.node.layer > 0 || location.isLost {
      // Nothing is made in a lower.
      let fd = try overlay.openRemoved(location.path.view, location.ticket, O_PATH | O_CLOEXEC)
      defer { _ = lx_close(fd) }
      var itself = s.real
      try itself.append(dot)
      made = try unsafe check(lx_openat(fd, itself.cString, flags, mode))
      made = lowest(made, flags)
    } else {
      made = try unsafe check(lx_openat(AT_FDCWD, s.real2.unterminated, flags, mode))
    }
    return register(made, overlay, Node(.file, layer: 0), location.path.view)
  }

  @_optimize(speed)
  private static func endsInSlash(_ path: UnsafePointer<CChar>) -> Bool {
    let text = unsafe PathView(path)
    return text[text.count - 1] == slash
  }

  /// One try. nil: something changed or was prepared, walk again.
  @_optimize(speed)
  private static func attempt(
    _ location: Location, _ flags: Int32, _ mode: UInt32, _ s: Scratch
  ) throws(Errno) -> Int? {
    let overlay = Overlay(index: location.overlay)
    let node = location.lookup.node
    let rel = location.path.view
    let creates = flags & O_CREAT != 0 && flags & O_PATH == 0
    var result: Int
    if node.has(Node.indexed) {
      // The group's file in the index is nobody's name, and /proc would tell it.
      if (try? overlay.materialize(rel)) != nil { return nil }
    }
    if creates, location.trailing, location.last == .name { throw .isDirectory }
    switch node.kind {
    case .none, .unknown:
      guard creates, !node.has(Node.removed) else { throw .noEntry }
      guard overlay.hasUpper else { throw .readOnly }
      do throws(Errno) {
        result = lowest(try overlay.createFile(rel, flags: flags, mode: mode), flags)
      } catch {
        if error == .exists, flags & O_EXCL == 0 { return nil }
        throw error
      }
      return register(result, overlay, Node(.file, layer: 0), rel)
    case .directory:
      if creates, !isTemporary(flags) {
        throw flags & O_EXCL != 0 ? .exists : .isDirectory
      }
      if isTemporary(flags) {
        guard overlay.hasUpper else { throw .readOnly }
        if node.has(Node.removed) {
          return try openTemporary(inRemoved: location, flags, mode, s)
        }
        if node.layer > 0 || overlay.has(OVL_USERXATTR) {
          try withScratch { (s2) throws(Errno) in try overlay.mayChange(rel, s2) }
        }
        if node.layer > 0 {
          try overlay.copyUp(rel, truncate: false)
          return nil
        }
        return register(
          try unsafe check(openReal(AT_FDCWD, s.real2.unterminated, flags, mode)), overlay,
          Node(.file, layer: 0), rel)
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
      if meets(node, flags), !node.has(Node.removed),
        let fd = try openOrigin(overlay, node, flags, rel, s)
      {
        return fd
      }
    case .file:
      if creates, flags & O_EXCL != 0 { throw .exists }
      if location.trailing { throw .notDirectory }
      if writes(flags), node.layer > 0 {
        if flags & O_DIRECTORY != 0 { throw .notDirectory }
        guard overlay.hasUpper else { throw .readOnly }
        if node.has(Node.removed) { throw .noEntry }
        try unsafe mayWrite(s.real2.unterminated, flags)
        try unsafe overlay.breakLeases(ofLower: s.real2.unterminated, node.layer, flags)
        try overlay.copyUp(rel, truncate: flags & O_TRUNC != 0, writing: true)
        return nil
      }
      if node.layer == 0 { try overlay.breakLeases(node.shownInode, flags) }
      if writes(flags), node.shownInode != 0 { try overlay.mayWriteText(node.shownInode) }
    }
    if node.has(Node.removed) {
      // Only /proc or "." lead there.
      if location.isLost {
        let fd = try overlay.openRemoved(rel, location.ticket, flags)
        return register(Int(fd), overlay, node, rel)
      }
      result = try unsafe check(lx_openat(AT_FDCWD, s.real2.unterminated, flags & ~O_CREAT, mode))
      return register(result, overlay, node, rel)
    }
    let seen = node.kind == .file && node.layer > 0 ? seen(overlay, node, rel) : 0
    // A link that was come to through a descriptor of it is meant itself.
    let itself = node.kind == .link ? O_NOFOLLOW : 0
    result = unsafe openReal(AT_FDCWD, s.real2.unterminated, flags & ~O_CREAT | itself, mode)
    if result == -Int(ENOENT) { return nil }
    try check(result)
    if node.kind == .file, node.layer == 0 {
      // Taken between the look above and the open.
      do throws(Errno) {
        try overlay.breakLeases(node.shownInode, flags)
      } catch {
        _ = lx_close(Int32(truncatingIfNeeded: result))
        throw error
      }
    }
    return register(result, overlay, node, rel, seen: seen)
  }

  /// The count of copy-ups under which a lower file is about to be opened, plus one; 0: it may be on its way up.
  /// As on the warm path it is read before the cache is asked, in which the lookup has left the name.
  @_optimize(speed)
  private static func seen(_ overlay: Overlay, _ node: Node, _ rel: PathView) -> UInt64 {
    guard overlay.hasUpper, let count = overlay.registry?.copyUps, !node.has(Node.linked),
      let known = overlay.cachedNode(rel), known.kind == .file, known.layer == node.layer
    else { return 0 }
    return count &+ 1
  }

  /// A FIFO of a lower that was copied up, about to be opened: who opens it meets who opened it before.
  @_optimize(speed)
  @inline(__always) private static func meets(_ node: Node, _ flags: Int32) -> Bool {
    node.layer == 0 && node.shownInode != 0 && flags & O_PATH == 0
  }

  /// A file of the upper that may be a program still running from the lower.
  @_optimize(speed)
  @inline(__always) private static func mayRun(_ fast: FastPath) -> Bool {
    fast.node.shownInode != 0 && fast.overlay.registry?.saysNoneRunning != true
  }

  /// Opens the lower FIFO that a FIFO of the upper was copied from. Whether that is allowed its copy says.
  /// nil: the copy itself is to be opened: the lower one is gone, or its own mode refuses.
  private static func openOrigin(
    _ overlay: Overlay, _ node: Node, _ flags: Int32, _ rel: PathView, _ s: Scratch
  ) throws(Errno) -> Int? {
    var origin = s.real
    guard let layer = try overlay.origin(.meeting, node.shownInode, into: &origin, s) else {
      return nil
    }
    let access = flags & O_ACCMODE
    let need = (access != O_WRONLY ? R_OK : 0) | (access != O_RDONLY ? W_OK : 0)
    try unsafe check(
      lx_faccessat2(
        AT_FDCWD, s.real2.unterminated, need, AT_EACCESS | AT_SYMLINK_NOFOLLOW))
    let result = unsafe openReal(AT_FDCWD, origin.cString, flags & ~O_CREAT, 0)
    if result == -Int(EACCES) || result == -Int(ENOENT) { return nil }
    try check(result)
    var below = Node(.special, layer: layer)
    below.shownInode = node.shownInode
    return register(result, overlay, below, rel)
  }

  /// open(2) gives the lowest free number; a descriptor of ours held a lower one while the file was
  /// opened.
  @_optimize(speed)
  static func lowest(_ made: Int, _ flags: Int32) -> Int {
    let fd = Int32(truncatingIfNeeded: made)
    let copy = lx_fcntl(fd, flags & O_CLOEXEC != 0 ? F_DUPFD_CLOEXEC : F_DUPFD, 0)
    guard copy >= 0 else { return made }
    let spare = copy < made ? made : copy
    _ = lx_close(Int32(truncatingIfNeeded: spare))
    return min(copy, made)
  }

  /// - Parameter seen: of a lower file: see `seen(_:_:_:)`.
  @_optimize(speed)
  private static func register(
    _ result: Int, _ overlay: Overlay, _ node: Node, _ rel: PathView, seen: UInt64 = 0
  ) -> Int {
    let fd = Int32(truncatingIfNeeded: result)
    let isDirectory = node.kind == .directory
    var entry = DescriptorTable.Entry(overlay: overlay.index, node, isDirectory: isDirectory)
    if seen != 0 { entry.word |= UInt64(OVL_FD_FRESH) }
    DescriptorTable.set(fd, entry, seen: seen)
    if isDirectory, !node.has(Node.removed) {
      DescriptorTable.setSlot(
        fd, overlay: overlay.index, epoch: overlay.registry?.positions ?? 0, layer: node.layer,
        direct: !node.has(Node.redirected), rel)
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
