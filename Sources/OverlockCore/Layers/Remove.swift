import CLinux

/// unlink and rmdir.
///
/// What only the upper has goes by the kernel's own call. What a lower has too gets a whiteout in its
/// place by one rename (a directory by an exchange, after which the old directory is cleared away
/// under the staging name).
extension Overlay {
  /// unlink(2) of what a lookup has found a moment ago. Errors: ENOENT; EISDIR; EROFS; EPERM/EACCES as
  /// the upper answered.
  func unlink(_ rel: PathView, _ found: Node) throws(Errno) {
    try countLink(rel, found)
    bringUpWatched(rel, found)
    var group: UInt64 = 0
    defer { if group != 0 { dropIndex(group) } }
    try changing(rel, missing: false) { (c) throws(Errno) in
      let node = c.look.node
      group = self.indexed(node)
      if node.kind == .directory { throw .isDirectory }
      if node.layer > 0 { try self.checkSticky(c.rel, c.s) }
      let hidden = node.layer > 0 || node.has(Node.below) || node.has(Node.indexed)
      var markers = Markers(self)
      markers.name(c.rel, .names | .deletion)
      markers.attributes(of: c.rel.parent)
      defer { markers.end() }
      let name = NameChange(self, directory: c.look.directory, name: c.look.hash)
      defer { name.end() }
      let kept = self.keepCopy(c.rel, node, upper: c.upper, c.turn)
      let noted = self.lastName(c)
      var isGone = false
      defer { if kept == .kept, !isGone { self.dropCopy(node, c.turn) } }
      if kept == .impossible { self.keepAttributes(c.upper, node, turn: c.look.directory) }
      if !hidden {
        try unsafe check(lx_unlinkat(AT_FDCWD, c.upper.cString, 0))
        isGone = true
        if self.mayBeKept(node) { self.registry?.noteCopyUp() }
        if let noted { self.dropNote(inode: noted) }
        return
      }
      var staged = c.s2.staging
      try self.makeWhiteout(
        turn: c.look.directory, directory: c.rel.parent, into: &staged, c.s)
      Fault.step()
      let r = unsafe lx_renameat2(AT_FDCWD, staged.cString, AT_FDCWD, c.upper.cString, 0)
      if r < 0 { try? self.removeStaged(staged) }
      try check(r)
      isGone = true
      // Descriptors of the lower object have to look again.
      self.registry?.noteCopyUp()
      if let noted { self.dropNote(inode: noted) }
      Fault.step()
    }
  }

  /// The inode number of an object with a note whose last name is about to go.
  private func lastName(_ c: Change) -> UInt64? {
    let node = c.look.node
    guard has(OVL_USERXATTR), node.shownInode != 0, node.layer == 0, node.kind != .file,
      !node.has(Node.indexed)
    else { return nil }
    var st = stat()
    let r = unsafe lx_fstatat(AT_FDCWD, c.upper.cString, &st, AT_SYMLINK_NOFOLLOW)
    return r == 0 && st.links == 1 ? st.inode : nil
  }

  /// A lower name of a hard-link group that is about to go: only in the upper is it counted, so it is
  /// brought there first (as the kernel's overlay does with its index).
  func countLink(_ rel: PathView, _ found: Node) throws(Errno) {
    if found.kind == .none || found.kind == .directory { return }
    do throws(Errno) {
      if found.has(Node.indexed) {
        try materialize(rel)
      } else if found.layer > 0, found.has(Node.linked) {
        try copyUp(rel, truncate: false)
      }
    } catch {
      // Without privilege not every object may be linked or read (protected_hardlinks): the name
      // may be removed all the same, and the count of the others stays as it was.
      if error == .permission || error == .access { return }
      throw error
    }
  }

  /// rmdir(2). Errors: ENOENT; ENOTDIR; ENOTEMPTY; EROFS.
  func removeDirectory(_ rel: PathView) throws(Errno) {
    try withScratch { (s) throws(Errno) in
      try withScratch { (s2) throws(Errno) in
        guard self.hasUpper else { throw .readOnly }
        guard !rel.isEmpty else { throw .busy }
        // Both its directory's turn and its own: nobody makes a name in it while it is looked at.
        var parentHash = self.emptyHash
        parentHash.appendComponents(rel.parent)
        var ownHash = self.emptyHash
        ownHash.appendComponents(rel)
        var merge = Merge(self, s)
        let first = try self.lookup(rel, s, wantBelow: true, merge: &merge)
        guard first.isWhole, first.node.kind != .none else { throw .noEntry }
        guard first.node.kind == .directory else { throw .notDirectory }
        if first.node.layer > 0 {
          // Nothing to copy up for a directory that cannot go.
          var markers = Markers(self)
          markers.directory(rel, .reading)
          markers.name(rel, .reading)
          defer { markers.end() }
          guard try DirectoryListing.isEmpty(merge, s2) else {
            throw self.refusal(rel, else: .notEmpty)
          }
        }
        try self.copyUpParents(rel, changing: true)
        var turn = try Turn(self, s2)
        defer { turn.release() }
        let lowersToo =
          first.node.layer > 0 || first.node.has(Node.below)
          || !first.node.has(Node.single)
        if lowersToo { try turn.takeEpoch() }
        if try turn.take(parentHash, ownHash, parentHash, ownHash) {
          turn.sweep(parentHash)
          turn.sweep(ownHash)
        }
        let look = try self.lookup(rel, s, wantBelow: true, merge: &merge)
        guard look.isWhole, look.node.kind != .none else { throw .noEntry }
        guard look.node.kind == .directory else { throw .notDirectory }
        let hides = look.node.layer > 0 || look.node.has(Node.below)
        var was = stat()
        try unsafe check(lx_fstatat(AT_FDCWD, s.real2.unterminated, &was, AT_SYMLINK_NOFOLLOW))
        let shown =
          look.node.layer > 0
          ? self.shownInode(was.inode, layer: look.node.layer)
          : look.node.shownInode != 0 ? look.node.shownInode : was.inode
        let id = self.freshName()
        func log() { self.registry?.directoryLog.noteRemoval(rel, id: id, inode: shown, was) }
        var upper = s2.real
        try self.upperPath(rel, into: &upper)
        var markers = Markers(self)
        markers.name(rel, .names | .deletion | .ofDirectory | .reading)
        markers.directory(rel, .names | .reading)
        markers.attributes(of: rel.parent)
        defer { markers.end() }
        let name = NameChange(self, directory: look.directory, name: look.hash)
        defer { name.end() }
        self.registry?.notePositionsChange()
        defer { self.registry?.notePositionsChange() }
        if !hides, look.node.has(Node.single) {
          self.keepAttributes(ofDirectory: shown, was, merge, turn: parentHash)
          let r = unsafe lx_unlinkat(AT_FDCWD, upper.cString, AT_REMOVEDIR)
          if r != -Int(ENOTEMPTY) {
            try check(r)
            log()
            return
          }
        }
        guard try DirectoryListing.isEmpty(merge, s2) else {
          throw self.refusal(rel, else: .notEmpty)
        }
        if look.node.layer > 0 {
          // Both blocks are taken: what a lookup leaves in them is needed no more.
          try withScratch { (s3) throws(Errno) in
            var probe = Merge(self, s3)
            _ = try self.lookup(rel, s3, merge: &probe)
            try self.checkSticky(rel, s3)
          }
        }
        Fault.step()
        self.keepAttributes(ofDirectory: shown, was, merge, turn: parentHash)
        var staged = s2.staging
        if !hides {
          // Whiteouts are left in it, and lowers that a redirect leads to: it goes as a whole.
          try self.stageRemoval(.gone, turn: parentHash, of: rel, id: id, into: &staged)
          try unsafe check(lx_renameat2(AT_FDCWD, upper.cString, AT_FDCWD, staged.cString, 0))
          log()
          Fault.step()
          try? self.removeStaged(staged)
          return
        }
        try self.makeWhiteout(
          turn: parentHash, directory: rel.parent, removing: look.node.layer > 0 ? nil : (rel, id),
          into: &staged, s)
        Fault.step()
        if look.node.layer > 0 {
          let r = unsafe lx_renameat2(
            AT_FDCWD, staged.cString, AT_FDCWD, upper.cString, UInt32(RENAME_NOREPLACE))
          if r < 0 { try? self.removeStaged(staged) }
          try check(r)
          log()
        } else {
          let r = unsafe lx_renameat2(
            AT_FDCWD, staged.cString, AT_FDCWD, upper.cString, UInt32(RENAME_EXCHANGE))
          if r < 0 { try? self.removeStaged(staged) }
          try check(r)
          log()
          Fault.step()
          try? self.removeStaged(staged)
        }
        Fault.step()
      }
    }
  }
}
