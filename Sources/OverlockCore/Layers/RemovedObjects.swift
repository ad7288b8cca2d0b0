import CLinux

/// Objects that have lost their name, as a descriptor or working directory still sees them.
///
/// An upper object's inode is gone from the tree, and the kernel says so. A lower object stays where
/// it is for ever: that it was removed is seen by what the merged tree shows at its name. A merged
/// directory was exchanged for a whiteout, so that the kernel tells its staging name; that name
/// carries the path it had. What became of that path since, the log of directories tells (`DirectoryLog`).
extension Overlay {
  /// What has become of a lower object's name.
  enum LowerName: Equatable {
    case unmoved, moved
    /// A directory's entry in the log of directories, or 0.
    case removed(UInt64)

    var isRemoved: Bool { if case .removed = self { true } else { false } }
  }

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
      var name: LowerName = try self.followMoved(&rel, layer: layer) ? .moved : .unmoved
      var merge = Merge(self, s)
      var look = try self.lookup(rel.view, s, merge: &merge)
      if name == .moved, look.isWhole, look.node.layer == 0,
        look.node.kind == .file || look.node.kind == .special,
        try self.isLinked(s)
      {
        // Another of its names may have been renamed since: its own is the one that it came from, while that is.
        let shown = look.node.shownInode
        var own = s.here
        try own.append(raw.view)
        let isMoved = try self.followMoved(&own, layer: layer, above: true)
        let there = try self.lookup(own.view, s, merge: &merge)
        if shown != 0, there.isWhole, there.node.layer == 0, there.node.shownInode == shown {
          try rel.set(own.view)
          name = isMoved ? .moved : .unmoved
        }
        look = try self.lookup(rel.view, s, merge: &merge)
      }
      let isThere = look.isWhole && look.node.kind != .none
      if isThere, look.node.kind == .directory {
        for k in 0..<merge.count
        where merge.layer(k) == layer && merge.relativePath(k).equals(raw.view) { return name }
      }
      node = look.node
      if var path {
        try path.set(s.real2.written.view)
        _ = unsafe path.cString
      }
      var real = s.here
      try real.append(self.layerPath(layer))
      try real.appendBelow(raw.view)
      if isThere, look.node.layer > 0, look.node.kind != .directory,
        s.real2.written.view.equals(real.view)
      {
        return name
      }
      var st = stat()
      try unsafe check(lx_fstatat(AT_FDCWD, real.cString, &st, AT_SYMLINK_NOFOLLOW))
      // Not every object can carry its origin.
      if isThere, look.node.layer == 0, look.node.shownInode == 0, st.type != S_IFDIR,
        look.node.kind == Kind(mode: st.st_mode), st.type != S_IFREG || self.has(OVL_NO_XATTRS)
      {
        return name
      }
      let shown = self.shownInode(st.inode, layer: layer)
      if isThere, look.node.kind != .directory, look.node.layer == 0,
        look.node.shownInode == shown
      {
        return name
      }
      guard st.type == S_IFDIR else { return .removed(0) }
      return .removed(try self.traceRemoval(inode: shown, into: &rel))
    }
  }

  /// Whether what a lookup has just found has other names.
  private func isLinked(_ s: Scratch) throws(Errno) -> Bool {
    var st = stat()
    return unsafe lx_fstatat(AT_FDCWD, s.real2.unterminated, &st, AT_SYMLINK_NOFOLLOW) == 0
      && st.links > 1
  }

  /// The path that a removed directory would have by now, and its entry in the log; 0 and the path as it
  /// was where the log does not know it.
  func traceRemoval(
    id: UInt64 = 0, inode: UInt64 = 0, into path: inout PathBuffer
  ) throws(Errno) -> UInt64 {
    guard let log = registry?.directoryLog, let ticket = log.find(id: id, inode: inode) else {
      return 0
    }
    return try withScratch { (s) throws(Errno) -> UInt64 in
      var traced = s.here
      guard try log.trace(ticket, into: &traced) != nil else { return 0 }
      try path.set(traced.view)
      return ticket
    }
  }

  /// stat of a directory that was removed together with what led to it. Errors: ENOENT nobody knows.
  func describeRemoved(_ ticket: UInt64, _ st: inout stat) throws(Errno) {
    try withScratch { (s) throws(Errno) in
      var path = s.here
      guard let log = self.registry?.directoryLog, let was = try log.trace(ticket, into: &path)
      else { throw .noEntry }
      st = stat()
      st.device = self.device
      st.inode = was.inode
      st.st_mode = S_IFDIR | was.mode
      st.st_uid = was.owner.uid
      st.st_gid = was.owner.gid
      st.st_blksize = 4096
      st.st_atim = was.accessed
      st.st_mtim = was.modified
      st.st_ctim = was.modified
    }
  }

  /// A staging name for a directory that is about to be removed.
  func stageRemoval(
    _ folder: WorkFolder, turn: PathHash, of rel: PathView, id: UInt64, into path: inout PathBuffer
  ) throws(Errno) {
    try stage(folder, turn: turn, sequence: id, into: &path)
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
  ///
  /// - Parameter ticket: its entry in the log of directories, or 0.
  func openRemoved(_ rel: PathView, _ ticket: UInt64, _ flags: Int32) throws(Errno) -> Int32 {
    try withScratch { (s) throws(Errno) -> Int32 in
      var hash = self.emptyHash
      hash.appendComponents(rel.parent)
      var old = s.here
      let known = try self.registry?.directoryLog.trace(ticket, into: &old)
      var path = s.staging
      // By its number it is known for the same; whoever else is making it at this moment has the name.
      var id = known?.id ?? self.freshName()
      for _ in 0..<8 {
        try self.stageRemoval(.gone, turn: hash, of: rel, id: id, into: &path)
        let r = unsafe lx_mkdirat(AT_FDCWD, path.cString, 0o700)
        if r == -Int(EEXIST) {
          id = self.freshName()
          continue
        }
        try check(r)
        if let known {
          _ = unsafe lx_fchownat(
            AT_FDCWD, path.cString, known.owner.uid, known.owner.gid, AT_SYMLINK_NOFOLLOW)
          _ = unsafe lx_fchmodat(AT_FDCWD, path.cString, known.mode)
        }
        let opened = unsafe lx_openat(AT_FDCWD, path.cString, flags | O_DIRECTORY, 0)
        _ = unsafe lx_unlinkat(AT_FDCWD, path.cString, AT_REMOVEDIR)
        return Int32(truncatingIfNeeded: try check(opened))
      }
      throw .again
    }
  }

  /// What has a staging name.
  struct Staged {
    /// The entry in the log of directories, or 0.
    var ticket: UInt64
    /// It is in what has the name: the kernel's ".." of it is the right one.
    var isBelow: Bool
  }

  /// The merged path of what has a staging name, from the kernel's words without " (deleted)".
  /// nil: they are no staging name, or one that says nothing.
  func readStaged(_ real: PathView, into rel: inout PathBuffer) throws(Errno) -> Staged? {
    guard real.count > work.count + 1, real.isAt(orBelow: work) else { return nil }
    var text = real.from(work.count + 1)
    // The two folders, then turn, sequence and path.
    for _ in 0..<2 {
      guard let end = text.firstSlash else { return nil }
      text = text.from(end + 1)
    }
    let below = text.firstSlash ?? text.count
    guard below >= 20, text[3] == dot, below == 20 || below > 21 && text[20] == dot else {
      return nil
    }
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
    var ticket = UInt64(0)
    if let id = hexadecimal(text.from(4).prefix(16)) {
      ticket = try traceRemoval(id: id, into: &rel)
    }
    if below == 20, ticket == 0 { return nil }
    try rel.append(text.from(below))
    return Staged(ticket: below == text.count ? ticket : 0, isBelow: below < text.count)
  }
}

extension PathView {
  var firstSlash: Int? {
    for i in 0..<count where self[i] == slash { return i }
    return nil
  }
}
