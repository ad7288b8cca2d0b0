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
    /// The real directory is the layer's root plus the path.
    var isDirect = false
    /// The directory was removed: only "." and ".." still lead somewhere from it.
    var removed = false
    /// And stands under a staging name: the kernel's ".." of it is a folder of the workdir.
    var staged = false
    /// Of a removed one: its entry in the log of directories, or 0.
    var ticket = UInt64(0)
  }

  /// The working directory's position; writes its path.
  static func read(into path: inout PathBuffer) throws(Errno) -> Position {
    let place = unsafe ovl_cwd_place()!
    // Outside, nobody says that a directory was renamed: the kernel is asked.
    if let known = unsafe Place(place, capacity: Int(OVL_DEEP_MAX)), known.overlay >= 0,
      try known.copy(into: &path)
    {
      return Position(overlay: known.overlay, layer: known.layer, isDirect: known.isDirect)
    }
    let stamp = unsafe Place.begin(place)
    defer { if let stamp { unsafe Place.end(place, stamp) } }
    let fresh = try ask(into: &path)
    if stamp != nil, !fresh.removed { fill(fresh, path.view) }
    return fresh
  }

  /// Between `Place.begin` and `Place.end`.
  private static func fill(_ position: Position, _ path: PathView) {
    let positions =
      position.overlay >= 0 ? Overlay(index: position.overlay).registry?.positions ?? 0 : 0
    // Where a removed directory was is never current again, but what is left to start a ".." from.
    unsafe Place.fill(
      ovl_cwd_place(), capacity: Int(OVL_DEEP_MAX), overlay: position.overlay,
      layer: position.layer, direct: position.isDirect,
      epoch: position.removed ? ~positions : positions, path)
  }

  /// Remembers where the process is, without having moved it.
  static func store(_ position: Position, _ path: PathView) {
    let place = unsafe ovl_cwd_place()!
    guard let stamp = unsafe Place.begin(place) else { return }
    fill(position, path)
    unsafe Place.end(place, stamp)
  }

  /// Moves the process by `move`, which says where to, nil where the kernel is to be asked. Nobody can
  /// take the old position for the new one meanwhile.
  static func change(
    into path: inout PathBuffer, _ move: (inout PathBuffer) throws(Errno) -> Position?
  ) throws(Errno) {
    let place = unsafe ovl_cwd_place()!
    guard let stamp = unsafe Place.begin(place) else {
      // Another thread moves the process at this moment.
      _ = try move(&path)
      return forget()
    }
    defer { unsafe Place.end(place, stamp) }
    if let position = try move(&path) {
      fill(position, path.view)
    } else {
      unsafe at_store32(&place.pointee.length, 0)
    }
  }

  /// The next question goes to the kernel.
  static func forget() { unsafe Place.forget(ovl_cwd_place()) }

  /// Whether it was in an overlay when somebody last looked.
  static var wasInside: Bool { unsafe ovl_cwd_place().pointee.inside != 0 }

  /// The process moves, or has moved, to a place outside every overlay.
  static func forgetInside() {
    unsafe ovl_cwd_place().pointee.inside = 0
    forget()
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
      let place = unsafe ovl_cwd_place()!
      let length = unsafe Int(place.pointee.length) - 1
      if found.overlay < 0, wasInside, length >= 0 {
        // Where it was is all that is left of it.
        path.count = 0
        try unsafe path.append(PathView(ovl_place_path(place), length))
        return unsafe Position(
          overlay: Int(place.pointee.overlay), layer: 0, removed: true, staged: true)
      }
      return found
    }
    if n == -Int(ENAMETOOLONG) {
      try DeepDirectory.path(of: AT_FDCWD, into: &path)
    } else {
      try check(n)
      path.count = n > 0 ? n - 1 : 0
    }
    if let (overlay, rel, layer) = RealPaths.merged(path.view, lowers: wasInside) {
      let shift = path.count - rel.count
      for i in 0..<rel.count { unsafe path.base[i] = path.base[i + shift] }
      path.count = rel.count
      let followed = try overlay.followLower(&path, layer: layer)
      if case .removed(let ticket) = followed {
        return Position(overlay: overlay.index, layer: layer, removed: true, ticket: ticket)
      }
      return Position(
        overlay: overlay.index, layer: layer,
        isDirect: layer < overlay.layerCount && followed == .unmoved)
    }
    return Position(overlay: -1, layer: 0)
  }

  /// The position of a removed directory, from what /proc shows of it.
  private static func removed(_ path: inout PathBuffer) throws(Errno) -> Position {
    if path.view.hasSuffix(" (deleted)") { path.count -= 10 }
    if let (index, staged) = try readStaged(&path) {
      return Position(
        overlay: index, layer: 0, removed: true, staged: !staged.isBelow, ticket: staged.ticket)
    }
    guard let (overlay, rel, layer) = RealPaths.merged(path.view) else {
      return Position(overlay: -1, layer: 0, removed: true)
    }
    let shift = path.count - rel.count
    for i in 0..<rel.count { unsafe path.base[i] = path.base[i + shift] }
    path.count = rel.count
    return Position(overlay: overlay.index, layer: layer, removed: true)
  }

  /// Replaces a staging name by the merged path that it stands for.
  static func readStaged(_ path: inout PathBuffer) throws(Errno) -> (
    overlay: Int, staged: Overlay.Staged
  )? {
    try withScratch { (s) throws(Errno) in
      var rel = s.rest
      for i in 0..<Overlay.count {
        guard let staged = try Overlay(index: i).readStaged(path.view, into: &rel) else { continue }
        try path.set(rel.view)
        return (i, staged)
      }
      return nil
    }
  }

  /// The position of a directory descriptor; writes its path. Errors: EBADF; ENOTDIR for what is
  /// known to be no directory.
  static func ofDescriptor(_ fd: Int32, into path: inout PathBuffer) throws(Errno) -> Position {
    if let (overlay, layer) = try DescriptorTable.slot(fd, into: &path), overlay >= 0 {
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
      let followed = try overlay.followLower(&path, layer: layer)
      if case .removed(let ticket) = followed {
        return Position(overlay: overlay.index, layer: layer, removed: true, ticket: ticket)
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
          fd, overlay: overlay.index, epoch: epoch, layer: layer,
          direct: layer < overlay.layerCount && followed == .unmoved,
          path.view)
      }
      return Position(overlay: overlay.index, layer: layer)
    }
    if !entry.isKnown { DescriptorTable.set(fd, .plain) }
    DescriptorTable.setSlot(fd, overlay: -1, epoch: 0, layer: 0, direct: false, path.view)
    return Position(overlay: -1, layer: 0)
  }
}
