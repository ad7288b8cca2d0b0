import CLinux

/// Objects that have lost their name, as a descriptor or working directory still sees them.
///
/// An upper object's inode is gone from the tree, and the kernel says so. A lower object stays where
/// it is for ever: that it was removed is seen by what the merged tree shows at its name. A merged
/// directory was exchanged for a whiteout, so that the kernel tells its staging name; that name
/// carries the path it had.
extension Overlay {
  /// What has become of a lower object's name.
  enum LowerName { case unmoved, moved, removed }

  /// Finds where the lower object at `rel` of a layer is in the merged tree by now, and replaces the
  /// path: for a removed one it is where it was last.
  func followLower(_ rel: inout PathBuffer, layer: Int) throws(Errno) -> LowerName {
    var node = Node(.none, layer: -1)
    return try followLower(&rel, layer: layer, &node, real: nil)
  }

  /// - Parameters:
  ///   - node: what is found there, if it is no directory.
  ///   - real: where to write its real path.
  func followLower(
    _ rel: inout PathBuffer, layer: Int, _ node: inout Node, real path: PathBuffer?
  ) throws(Errno) -> LowerName {
    guard layer > 0, layer < layerCount, hasUpper, rel.count > 0 else { return .unmoved }
    return try withScratch { (s) throws(Errno) -> LowerName in
      var raw = s.rest
      try raw.append(rel.view)
      let name: LowerName = try self.followMoved(&rel, layer: layer) ? .moved : .unmoved
      var merge = Merge(self, s)
      let look = try self.lookup(rel.view, s, merge: &merge)
      guard look.isWhole, look.node.kind != .none else { return .removed }
      if look.node.kind == .directory {
        for k in 0..<merge.count
        where merge.layer(k) == layer && merge.relativePath(k).equals(raw.view) { return name }
        return .removed
      }
      node = look.node
      if var path {
        try path.set(s.real2.written.view)
        _ = unsafe path.cString
      }
      var real = s.here
      try real.append(self.layerPath(layer))
      try real.appendBelow(raw.view)
      if look.node.layer > 0 { return s.real2.written.view.equals(real.view) ? name : .removed }
      // Not every object can carry its origin; a file can.
      if look.node.shownInode == 0 {
        return look.node.kind == .file && !self.has(OVL_NO_XATTRS) ? .removed : name
      }
      var st = stat()
      try unsafe check(lx_fstatat(AT_FDCWD, real.cString, &st, AT_SYMLINK_NOFOLLOW))
      return look.node.shownInode == self.shownInode(st.inode, layer: layer) ? name : .removed
    }
  }

  /// A staging name for a directory that is about to be removed.
  func stageRemoval(
    _ folder: WorkFolder, turn: PathHash, of rel: PathView, into path: inout PathBuffer
  ) throws(Errno) {
    try stage(folder, turn: turn, into: &path)
    let start = path.count
    try path.append(dot)
    for i in 0..<rel.count {
      // A slash as 1; 1 and 2 after a 2.
      let byte = rel[i] == slash ? 1 : rel[i]
      if rel[i] == 1 || rel[i] == 2 { try path.append(2) }
      try path.append(byte)
    }
    // Too long for one name: then only who looked before knows where the directory was.
    if path.count - start + 20 > 255 { path.count = start }
  }

  /// A directory without a name, that was once `rel`: for one that was removed together with what led
  /// to it, which no call can reach any more.
  func openRemoved(_ rel: PathView, _ flags: Int32) throws(Errno) -> Int32 {
    try withScratch { (s) throws(Errno) -> Int32 in
      var hash = self.emptyHash
      hash.appendComponents(rel.parent)
      var path = s.staging
      try self.stageRemoval(.gone, turn: hash, of: rel, into: &path)
      try unsafe check(lx_mkdirat(AT_FDCWD, path.cString, 0o700))
      let opened = unsafe lx_openat(AT_FDCWD, path.cString, flags | O_DIRECTORY, 0)
      _ = unsafe lx_unlinkat(AT_FDCWD, path.cString, AT_REMOVEDIR)
      return Int32(truncatingIfNeeded: try check(opened))
    }
  }

  /// The merged path of what has a staging name, from the kernel's words without " (deleted)".
  /// False: they are no staging name, or one that says nothing.
  func readStaged(_ real: PathView, into rel: inout PathBuffer) throws(Errno) -> Bool {
    guard real.count > work.count + 1, real.isAt(orBelow: work) else { return false }
    var text = real.from(work.count + 1)
    // The two folders, then turn, sequence and path.
    for _ in 0..<2 {
      guard let end = text.firstSlash else { return false }
      text = text.from(end + 1)
    }
    let below = text.firstSlash ?? text.count
    guard below > 21, text[3] == dot, text[20] == dot else { return false }
    rel.count = 0
    var i = 21
    while i < below {
      if text[i] == 2, i + 1 < below {
        i += 1
        try rel.append(text[i])
      } else {
        try rel.append(text[i] == 1 ? slash : text[i])
      }
      i += 1
    }
    try rel.append(text.from(below))
    return true
  }
}

extension PathView {
  var firstSlash: Int? {
    for i in 0..<count where self[i] == slash { return i }
    return nil
  }
}
