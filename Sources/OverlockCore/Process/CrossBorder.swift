import CLinux

/// Renames and links between an overlay and what is outside of it (or another overlay). On a plain
/// directory they work inside one file system, so here they do as far as one kernel call can do them;
/// else EXDEV, for which every program that moves files is prepared.
enum CrossBorder {
  @_optimize(speed)
  static func rename(_ from: Location, _ to: Location, flags: UInt32, _ s: Scratch)
    throws(Errno) -> Int
  {
    if from.isTooLong { throw .nameTooLong }
    if try !exists(from) { throw .noEntry }
    if to.isTooLong { throw .nameTooLong }
    if flags & UInt32(RENAME_EXCHANGE) != 0, try !exists(to) { throw .noEntry }
    if from.overlay >= 0, from.trailing, from.lookup.node.kind != .directory {
      throw .notDirectory
    }
    guard flags & ~UInt32(RENAME_NOREPLACE) == 0 else { throw .crossDevice }
    guard from.overlay < 0, to.overlay >= 0 else {
      // Out of an overlay the name may need a whiteout in its place: copy and remove.
      throw .crossDevice
    }
    var st = stat()
    try unsafe check(
      lx_fstatat(AT_FDCWD, from.path.terminated, &st, AT_SYMLINK_NOFOLLOW))
    let overlay = Overlay(index: to.overlay)
    guard st.type != S_IFDIR, overlay.hasUpper,
      st.device == overlay.layerDevice(0)
    else { throw .crossDevice }
    switch to.lookup.node.kind {
    case .none: break
    case .directory: throw .isDirectory
    default:
      if flags & UInt32(RENAME_NOREPLACE) != 0 { throw .exists }
    }
    if to.trailing { throw .notDirectory }
    try unsafe overlay.receive(to.path.view, from: from.path.terminated)
    return 0
  }

  /// The device of a name's directory. Outside nobody has looked yet whether that is there.
  static func parentDevice(_ location: Location) throws(Errno) -> UInt64 {
    try withScratch { (s) throws(Errno) -> UInt64 in
      var path = s.rest
      if location.overlay >= 0 {
        try path.append(Overlay(index: location.overlay).target)
      } else {
        try path.append(location.path.view)
        while path.count > 1, path.view[path.count - 1] == slash { path.count -= 1 }
        if location.last == .name { path.count = path.view.parent.count }
      }
      try path.append(slash)
      var st = stat()
      try unsafe check(lx_fstatat(AT_FDCWD, path.cString, &st, 0))
      return st.device
    }
  }

  @_optimize(speed)
  private static func exists(_ location: Location) throws(Errno) -> Bool {
    if location.overlay >= 0 { return location.lookup.node.kind != .none }
    var st = stat()
    let r = unsafe lx_fstatat(
      AT_FDCWD, location.path.terminated, &st, AT_SYMLINK_NOFOLLOW)
    if r == -Int(ENOENT) { return false }
    try check(r)
    return true
  }

  @_optimize(speed)
  static func link(_ from: Location, _ to: Location, flags: Int32, _ s: Scratch)
    throws(Errno) -> Int
  {
    if to.overlay < 0 {
      // What linking would have met before it.
      if try exists(to) { throw .exists }
      var parent = s.rest
      try parent.append(to.path.view.parent)
      try parent.append(slash)
      try unsafe check(lx_faccessat2(AT_FDCWD, parent.cString, F_OK, 0))
    }
    guard from.overlay < 0, to.overlay >= 0 else { throw .crossDevice }
    let source = unsafe from.path.terminated
    _ = try unsafe Overlay(index: to.overlay).create(to.path.view, isNew: false) {
      unsafe lx_linkat(AT_FDCWD, source, AT_FDCWD, $0, flags)
    }
    return 0
  }
}

extension Overlay {
  /// Moves a file from outside to a name of the merged tree, replacing what is there.
  @_optimize(speed)
  func receive(_ rel: PathView, from: UnsafePointer<CChar>) throws(Errno) {
    try withScratch { (s) throws(Errno) in
      var merge = Merge(self, s)
      let found = try self.lookup(rel, s, merge: &merge)
      if found.isWhole { try self.countLink(rel, found.node) }
    }
    try changing(rel, missing: true) { (c) throws(Errno) in
      if c.look.node.kind == .directory { throw .isDirectory }
      let name = NameChange(self, directory: c.look.directory, name: c.look.hash)
      let r = unsafe lx_renameat2(AT_FDCWD, from, AT_FDCWD, c.upper.cString, 0)
      name.end()
      try check(r)
    }
  }
}
