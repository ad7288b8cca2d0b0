import CLinux

/// The merged object that a descriptor on a lower inode stands for.
enum DescriptorObject {
  /// What a descriptor is that nobody here opened: asked once, then known.
  static func identify(_ fd: Int32) -> DescriptorTable.Entry {
    if Confinement.isOn { return .plain }
    var st = stat()
    guard unsafe lx_fstat(fd, &st) == 0, st.type == S_IFREG || st.type == S_IFDIR else {
      return .unknown
    }
    return identify(fd, st.device, isDirectory: st.type == S_IFDIR)
  }

  static func identify(_ fd: Int32, _ device: UInt64, isDirectory: Bool) -> DescriptorTable.Entry {
    if Confinement.isOn { return .plain }
    var isLayer = false
    for i in 0..<Overlay.count {
      let overlay = Overlay(index: i)
      for layer in (overlay.hasUpper ? 0 : 1)..<overlay.layerCount
      where overlay.layerDevice(layer) == device {
        isLayer = true
      }
    }
    var entry = DescriptorTable.Entry.plain
    if isLayer {
      try? withScratch { (s) throws(Errno) in
        var real = s.real
        guard try RealPathReader.ofDescriptor(fd, into: &real),
          let (overlay, _, layer) = RealPaths.merged(real.view, lowers: true),
          layer < overlay.layerCount
        else { return }
        var node = Node(isDirectory ? .directory : .file, layer: layer)
        if layer == 0 { node.shownInode = unsafe overlay.origin(real.cString) }
        entry = DescriptorTable.Entry(overlay: overlay.index, node, isDirectory: isDirectory)
      }
    }
    DescriptorTable.set(fd, entry)
    return entry
  }

  /// Whether a descriptor on a lower object is known to be no copied-up object's: one load.
  @inline(__always)
  static func isCurrent(_ fd: Int32, _ entry: DescriptorTable.Entry) -> Bool {
    guard entry.overlay < Overlay.count, let raw = unsafe DescriptorTable.raw(fd),
      let registry = Overlay(index: entry.overlay).registry
    else { return false }
    return unsafe at_relaxed64(&raw.pointee.seen) == registry.copyUps &+ 1
  }

  /// The same where the count of copy-ups was read before.
  @inline(__always) static func isCurrent(_ fd: Int32, _ copyUps: UInt64) -> Bool {
    guard let raw = unsafe DescriptorTable.raw(fd) else { return false }
    return unsafe at_relaxed64(&raw.pointee.seen) == copyUps &+ 1
  }

  /// What has become of the lower object behind a descriptor.
  enum Standing {
    /// It is still what the merged tree shows, or no object of an overlay.
    case current
    /// It was copied up: the real path is in `s.real2`. `Node.removed`: only other names of its hard-link
    /// group are left (`Node.indexed`), its attributes (`Node.attributesOnly`), or a kept copy.
    case upper(Overlay, Node)
    /// It has no name left.
    case removed
  }

  /// That it is current is remembered until the next copy-up or removal.
  static func standing(
    _ fd: Int32, _ entry: DescriptorTable.Entry, _ s: Scratch
  ) throws(Errno) -> Standing {
    guard entry.isOurs, entry.isLower, entry.overlay < Overlay.count, !Confinement.isOn else {
      return .current
    }
    let registry = Overlay(index: entry.overlay).registry
    let count = registry?.copyUps ?? 0
    // Before the look: what is being copied up at this moment is gone from there only when it shows.
    let mayBeOnItsWay = entry.has(OVL_FD_COPIED) || isStaged(fd, entry, s)
    var here = s.here
    guard try RealPathReader.ofDescriptor(fd, into: &here),
      let (overlay, rel, layer) = RealPaths.merged(here.view, lowers: true), layer > 0,
      layer < overlay.layerCount
    else { return .current }
    let shift = here.count - rel.count
    try here.dropFirst(shift)
    var node = Node(.none, layer: -1)
    var name = try overlay.followLower(&here, layer: layer, &node, real: s.real2)
    if name.isRemoved, !entry.isDirectory, let turn = try? Turn(overlay, s) {
      // A rename notes the new name before the object has it.
      defer { turn.release() }
      try turn.excludeRenames()
      guard try RealPathReader.ofDescriptor(fd, into: &here) else { return .current }
      try here.dropFirst(shift)
      name = try overlay.followLower(&here, layer: layer, &node, real: s.real2)
    }
    if name.isRemoved {
      return try removed(fd, entry, overlay, layer, count, s)
    }
    if node.kind == .none {
      var merge = Merge(overlay, s)
      let look = try overlay.lookup(here.view, s, merge: &merge)
      if look.isWhole { node = look.node }
    }
    if node.kind != .none, node.layer == 0 {
      note(fd, entry, OVL_FD_COPIED)
      return .upper(overlay, node)
    }
    if note(fd, entry, 0, looked: !mayBeOnItsWay), let raw = unsafe DescriptorTable.raw(fd),
      registry != nil, !mayBeOnItsWay
    {
      unsafe at_store64(&raw.pointee.seen, count &+ 1)
    }
    return .current
  }

  /// Notes what was found of a lower file. False: the descriptor has changed meanwhile.
  @discardableResult
  private static func note(
    _ fd: Int32, _ entry: DescriptorTable.Entry, _ flag: UInt32, looked: Bool = false
  ) -> Bool {
    guard let raw = unsafe DescriptorTable.raw(fd) else { return false }
    let cleared = OVL_FD_GONE | OVL_FD_COPIED | (looked ? OVL_FD_FRESH : 0)
    let word = entry.word & ~UInt64(cleared) | UInt64(flag)
    return unsafe word == entry.word || at_cas64(&raw.pointee.word, entry.word, word) != 0
  }

  /// Of an object that has lost its name: what is left of it.
  private static func removed(
    _ fd: Int32, _ entry: DescriptorTable.Entry, _ overlay: Overlay, _ layer: Int, _ count: UInt64,
    _ s: Scratch
  ) throws(Errno) -> Standing {
    var st = stat()
    try unsafe check(lx_fstat(fd, &st))
    let shown = overlay.shownInode(st.inode, layer: layer)
    var node = Node(Kind(mode: st.st_mode), layer: 0, flags: Node.removed)
    node.shownInode = shown
    if st.type != S_IFDIR {
      if st.links > 1, try overlay.isIndexed(shown, s) {
        node.flags |= Node.indexed
        return .upper(overlay, node)
      }
      var kept = s.real2
      if try overlay.kept(shown, into: &kept) { return .upper(overlay, node) }
    }
    if try overlay.findStandIn(shown, s) {
      node.flags |= Node.attributesOnly
      return .upper(overlay, node)
    }
    if st.type == S_IFDIR { return .removed }
    if note(fd, entry, OVL_FD_GONE), let raw = unsafe DescriptorTable.raw(fd),
      overlay.registry != nil
    {
      unsafe at_store64(&raw.pointee.seen, count &+ 1)
    }
    return .removed
  }

  /// Whether somebody is copying a descriptor's object up, or died in it.
  private static func isStaged(_ fd: Int32, _ entry: DescriptorTable.Entry, _ s: Scratch) -> Bool {
    let overlay = Overlay(index: entry.overlay)
    var staged = s.staging
    var st = stat()
    guard
      (try? overlay.anchorPath(RecordLocks.identity(fd, entry, overlay), into: &staged)) != nil
    else { return true }
    return unsafe lx_fstatat(AT_FDCWD, staged.cString, &st, AT_SYMLINK_NOFOLLOW) == 0
  }

  /// The object's current name and node; nil when the descriptor is no lower object of an overlay.
  /// Writes the path.
  static func find(
    _ fd: Int32, _ entry: DescriptorTable.Entry, _ here: inout PathBuffer, _ s: Scratch
  ) throws(Errno) -> (Overlay, Node)? {
    guard try RealPathReader.ofDescriptor(fd, into: &here) else { return nil }
    guard
      // A descriptor that nobody here opened came through exec or a socket: on a lower it is the
      // overlay's, since a lower is not to be changed.
      !entry.isKnown || entry.isOurs,
      let (overlay, rel, layer) = RealPaths.merged(here.view, lowers: true)
    else { return nil }
    if layer == 0 { return nil }
    let shift = here.count - rel.count
    for i in 0..<rel.count { unsafe here.base[i] = here.base[i + shift] }
    here.count = rel.count
    if layer < overlay.layerCount { _ = try overlay.followMoved(&here, layer: layer) }
    var merge = Merge(overlay, s)
    let look = try overlay.lookup(here.view, s, merge: &merge)
    guard look.isWhole, look.node.kind != .none else { throw .noEntry }
    return (overlay, look.node)
  }
}
