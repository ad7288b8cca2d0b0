import CLinux

/// Where relative paths start: the working directory and directory descriptors, as canonical paths.
///
/// A position in an overlay is remembered under the epoch it was read in; after a directory was
/// renamed anywhere in the overlay it is asked from the kernel again, which follows renames.
enum WorkingDirectory {
  /// A canonical directory: overlay index and relative path, or -1 and an absolute path.
  struct Position {
    var overlay: Int
    var layer: Int
    /// The directory was removed: only "." and ".." still lead somewhere from it.
    var removed = false
    /// And stands under a staging name: the kernel's ".." of it is a folder of the workdir.
    var staged = false
  }

  /// The working directory's position; writes its path.
  static func read(into path: inout PathBuffer) throws(Errno) -> Position {
    if let known = try cached(into: &path) { return known }
    let fresh = try ask(into: &path)
    if fresh.removed { return fresh }
    store(overlay: fresh.overlay, layer: fresh.layer, path.view)
    return fresh
  }

  /// What is remembered, if it still holds.
  @inline(__always)
  static func cached(into path: inout PathBuffer) throws(Errno) -> Position? {
    let process = unsafe ovl_self()!
    let stamp = unsafe at_load32(&process.pointee.cwd.stamp)
    guard stamp & 1 == 0, unsafe process.pointee.cwd.known == 1 else { return nil }
    let overlay = unsafe Int(process.pointee.cwd.overlay)
    if overlay >= 0 {
      guard let registry = Overlay(index: overlay).registry,
        unsafe registry.positions == process.pointee.cwd.epoch
      else { return nil }
    }
    let length = unsafe Int(process.pointee.cwd.length)
    guard length < Int(OVL_PATH_MAX) else { return nil }
    let layer = unsafe Int(process.pointee.cwd.layer)
    path.count = 0
    try unsafe path.append(PathView(ovl_cwd_path(), length))
    at_fence()
    guard unsafe at_load32(&process.pointee.cwd.stamp) == stamp else { return nil }
    return Position(overlay: overlay, layer: layer)
  }

  /// From the kernel's answer. A working directory that sits on a lower which is not the target is
  /// the overlay's only if we know that we put it there.
  private static func ask(into path: inout PathBuffer) throws(Errno) -> Position {
    path.count = 0
    let n = unsafe lx_getcwd(
      UnsafeMutableRawPointer(path.base).assumingMemoryBound(to: CChar.self), path.capacity - 1)
    if n == -Int(ENOENT) {
      let link = unsafe lx_readlinkat(
        AT_FDCWD, "/proc/self/cwd",
        UnsafeMutableRawPointer(path.base).assumingMemoryBound(to: CChar.self),
        path.capacity - 1)
      path.count = try check(link)
      let found = try removed(&path)
      let cwd = unsafe ovl_cwd_now()!
      if found.overlay < 0, unsafe cwd.pointee.known == 1 && cwd.pointee.overlay >= 0 {
        // Where it was is all that is left of it.
        path.count = 0
        try unsafe path.append(PathView(ovl_cwd_path(), Int(cwd.pointee.length)))
        return unsafe Position(
          overlay: Int(cwd.pointee.overlay), layer: 0, removed: true, staged: true)
      }
      return found
    }
    try check(n)
    path.count = n > 0 ? n - 1 : 0
    let process = unsafe ovl_self()!
    let wasOurs = unsafe process.pointee.cwd.known == 1 && process.pointee.cwd.overlay >= 0
    if let (overlay, rel, layer) = RealPaths.merged(path.view, lowers: wasOurs) {
      let shift = path.count - rel.count
      for i in 0..<rel.count { unsafe path.base[i] = path.base[i + shift] }
      path.count = rel.count
      let removed = try overlay.followLower(&path, layer: layer)
      return Position(overlay: overlay.index, layer: layer, removed: removed)
    }
    return Position(overlay: -1, layer: 0)
  }

  /// The position of a removed directory, from what /proc shows of it.
  private static func removed(_ path: inout PathBuffer) throws(Errno) -> Position {
    if path.view.hasSuffix(" (deleted)") { path.count -= 10 }
    if let index = try readStaged(&path) {
      return Position(overlay: index, layer: 0, removed: true, staged: true)
    }
    guard let (overlay, rel, layer) = RealPaths.merged(path.view) else {
      return Position(overlay: -1, layer: 0, removed: true)
    }
    let shift = path.count - rel.count
    for i in 0..<rel.count { unsafe path.base[i] = path.base[i + shift] }
    path.count = rel.count
    return Position(overlay: overlay.index, layer: layer, removed: true)
  }

  /// Replaces a staging name by the merged path that it carries; the overlay's index.
  static func readStaged(_ path: inout PathBuffer) throws(Errno) -> Int? {
    try withScratch { (s) throws(Errno) -> Int? in
      var rel = s.rest
      for i in 0..<Overlay.count where try Overlay(index: i).readStaged(path.view, into: &rel) {
        try path.set(rel.view)
        return i
      }
      return nil
    }
  }

  static func store(overlay: Int, layer: Int, _ path: PathView) {
    let process = unsafe ovl_self()!
    let positions = overlay >= 0 ? Overlay(index: overlay).registry?.positions ?? 0 : 0
    _ = unsafe at_add32(&process.pointee.cwd.stamp, 1)
    if path.count < Int(OVL_PATH_MAX) {
      unsafe process.pointee.cwd.overlay = Int32(overlay)
      unsafe process.pointee.cwd.layer = UInt32(layer)
      unsafe process.pointee.cwd.epoch = positions
      unsafe process.pointee.cwd.length = UInt32(path.count)
      unsafe copyBytes(ovl_cwd_path(), path.base, path.count)
      unsafe process.pointee.cwd.known = 1
    } else {
      unsafe process.pointee.cwd.known = 0
    }
    _ = unsafe at_add32(&process.pointee.cwd.stamp, 1)
  }

  /// Where a removed directory was: what is left to start a ".." from, once the kernel says so.
  static func storeRemoved(overlay: Int, layer: Int, _ path: PathView) {
    store(overlay: overlay, layer: layer, path)
    let cwd = unsafe ovl_cwd_now()!
    unsafe cwd.pointee.epoch = ~cwd.pointee.epoch
  }

  /// The next question goes to the kernel.
  static func forget() {
    let process = unsafe ovl_self()!
    unsafe process.pointee.cwd.known = 0
  }

  /// The position of a directory descriptor; writes its path. Errors: EBADF; ENOTDIR for what is
  /// known to be no directory.
  static func ofDescriptor(_ fd: Int32, into path: inout PathBuffer) throws(Errno) -> Position {
    if let (overlay, layer) = try DescriptorTable.slot(fd, into: &path) {
      return Position(overlay: overlay, layer: layer)
    }
    let entry = DescriptorTable.entry(fd)
    var st = stat()
    try unsafe check(lx_fstat(fd, &st))
    guard st.type == S_IFDIR else { throw .notDirectory }
    guard try RealPathReader.ofDescriptor(fd, into: &path, deleted: true) else {
      throw .notDirectory
    }
    if st.links == 0 {
      let found = try removed(&path)
      if found.overlay < 0,
        let (overlay, _) = try DescriptorTable.slot(fd, into: &path, stale: true)
      {
        return Position(overlay: overlay, layer: 0, removed: true, staged: true)
      }
      return found
    }
    if !entry.isKnown || entry.isOurs,
      let (overlay, rel, layer) = RealPaths.merged(path.view, lowers: true)
    {
      let shift = path.count - rel.count
      for i in 0..<rel.count { unsafe path.base[i] = path.base[i + shift] }
      path.count = rel.count
      let epoch = overlay.registry?.positions ?? 0
      if try overlay.followLower(&path, layer: layer) {
        return Position(overlay: overlay.index, layer: layer, removed: true)
      }
      // A slot is only cleared with an entry that says something.
      if !entry.isKnown {
        DescriptorTable.set(
          fd,
          DescriptorTable.Entry(
            overlay: overlay.index, Node(.directory, layer: layer), isDirectory: true))
      }
      if overlay.registry != nil {
        DescriptorTable.setSlot(
          fd, overlay: overlay.index, epoch: epoch, layer: layer, path.view)
      }
      return Position(overlay: overlay.index, layer: layer)
    }
    if !entry.isKnown { DescriptorTable.set(fd, .plain) }
    DescriptorTable.setSlot(fd, overlay: -1, epoch: 0, layer: 0, path.view)
    return Position(overlay: -1, layer: 0)
  }
}
