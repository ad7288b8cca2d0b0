import CLinux

/// Lower objects that were renamed: `workdir/overlock/moved/<shown inode>` is a symbolic link whose
/// text is the object's present path in the merged tree.
///
/// A descriptor or working directory on a lower object shows that lower path for ever; this tells
/// where it is now. Written before the rename, for a directory under the epoch's turn, for a file under
/// its directory's while the epoch is shared; wrong for a killed rename only
/// as far as the redirect of the rename itself, which the lookup of the path then contradicts.
extension Overlay {
  private func movedPath(_ shown: UInt64, into path: inout PathBuffer) throws(Errno) {
    path.count = 0
    try path.append(work)
    try path.append("/moved/")
    try path.append(hex: shown)
  }

  /// - Parameter turn: a directory whose turn is held.
  private func write(
    _ entry: PathBuffer, _ text: PathBuffer, turn: PathHash, _ s: Scratch
  ) throws(Errno) {
    var staged = s.here
    try stage(.moved, turn: turn, into: &staged)
    // An empty link cannot be made: the root never moves, so the text is never empty.
    try unsafe check(lx_symlinkat(text.cString, AT_FDCWD, staged.cString))
    Fault.step()
    try unsafe check(lx_renameat2(AT_FDCWD, staged.cString, AT_FDCWD, entry.cString, 0))
  }

  /// Notes that the directory `old`, which `merge` stands at, is about to be `new`, and so everything
  /// noted below it. Under the epoch's turn and that of `turn`.
  func noteMoved(_ merge: Merge, from old: PathView, to new: PathView, turn: PathHash)
    throws(Errno)
  {
    try withScratch { (s) throws(Errno) in
      if self.registry?.directoriesMoved ?? true { try self.moveBelow(old, new, turn, s) }
      for i in 0..<merge.count where merge.layer(i) > 0 {
        var real = s.real2
        try merge.realPath(i, into: &real)
        var st = stat()
        try unsafe check(lx_fstatat(AT_FDCWD, real.cString, &st, AT_SYMLINK_NOFOLLOW))
        try self.noteMoved(
          inode: self.shownInode(st.inode, layer: merge.layer(i)), to: new, turn: turn, s)
      }
    }
  }

  /// Notes that the copied-up file of that shown inode is about to be `new`: a descriptor of the lower
  /// file still has to find it. The epoch is shared, and the turn of `turn` held.
  func noteMoved(inode shown: UInt64, to new: PathView, turn: PathHash) throws(Errno) {
    try withScratch { (s) throws(Errno) in
      try self.noteMoved(inode: shown, to: new, turn: turn, s)
    }
  }

  private func noteMoved(
    inode shown: UInt64, to new: PathView, turn: PathHash, _ s: Scratch
  ) throws(Errno) {
    var entry = s.real
    try movedPath(shown, into: &entry)
    var text = s.link
    try text.append(new)
    try write(entry, text, turn: turn, s)
    registry?.noteDirectoryMoved()
  }

  private func moveBelow(
    _ old: PathView, _ new: PathView, _ turn: PathHash, _ s: Scratch
  ) throws(Errno) {
    var folder = s.real2
    try folder.append(work)
    try folder.append("/moved")
    let opened = try unsafe check(
      lx_openat(AT_FDCWD, folder.cString, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0))
    let fd = Int32(truncatingIfNeeded: opened)
    defer { _ = lx_close(fd) }
    try DirectoryReader.each(fd, s) { (name, _, _) throws(Errno) in
      // Not what is on its way here.
      guard hexadecimal(name) != nil else { return true }
      var entry = s.real
      try entry.append(folder.view)
      try entry.append(slash)
      try entry.append(name)
      var text = s.link
      let n = unsafe lx_readlinkat(
        AT_FDCWD, entry.cString,
        UnsafeMutableRawPointer(text.base).assumingMemoryBound(to: CChar.self), 4096)
      guard n > 0 else { return true }
      text.count = n
      guard text.view.isAt(orBelow: old), !text.view.equals(old) else { return true }
      var moved = s.rest
      try moved.append(new)
      try moved.append(text.view.from(old.count))
      try self.write(entry, moved, turn: turn, s)
      return true
    }
  }

  /// The merged path of a path below a lower's root, if a directory on the way was renamed. Replaces
  /// the path; false: nothing was.
  ///
  /// - Parameter above: not of the object itself, which another of its names may have been noted for.
  func followMoved(_ rel: inout PathBuffer, layer: Int, above: Bool = false) throws(Errno) -> Bool {
    guard layer > 0, registry?.directoriesMoved ?? hasUpper, hasUpper else { return false }
    return try withScratch { (s) throws(Errno) -> Bool in
      var end = above ? rel.view.parent.count : rel.count
      while end > 0 {
        var real = s.real
        try real.append(self.layerPath(layer))
        try real.appendBelow(rel.view.prefix(end))
        var st = stat()
        if unsafe lx_fstatat(AT_FDCWD, real.cString, &st, AT_SYMLINK_NOFOLLOW) == 0 {
          var entry = s.real2
          try self.movedPath(self.shownInode(st.inode, layer: layer), into: &entry)
          var text = s.link
          let n = unsafe lx_readlinkat(
            AT_FDCWD, entry.cString,
            UnsafeMutableRawPointer(text.base).assumingMemoryBound(to: CChar.self), 4096)
          if n > 0 {
            text.count = n
            try text.append(rel.view.from(end))
            try rel.set(text.view)
            return true
          }
        }
        end = rel.view.prefix(end).parent.count
      }
      return false
    }
  }
}
