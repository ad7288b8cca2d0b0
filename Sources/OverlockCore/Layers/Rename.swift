import CLinux

/// rename(2), renameat2(2) inside one overlay.
///
/// Both objects are brought to the upper first; then one kernel rename does it, leaving a whiteout
/// behind where a lower has the old name (RENAME_WHITEOUT). A directory that lowers contribute to
/// carries a redirect to its lower path, a directory that they do not is made opaque where its new
/// name would uncover one: both are written before the rename, when they change nothing yet.
extension Overlay {
  private static var known: UInt32 { UInt32(RENAME_NOREPLACE | RENAME_EXCHANGE) }

  /// - Parameter found: what a lookup of both has found a moment ago.
  /// - Errors: as rename(2); EINVAL for flags that make no sense here (RENAME_WHITEOUT among them, as
  ///   in the kernel's overlay); EXDEV for a directory of a lower where the upper takes no xattrs.
  func rename(
    _ old: PathView, _ new: PathView, found: (from: Node, to: Node), flags: UInt32
  ) throws(Errno) {
    guard hasUpper else { throw .readOnly }
    let exchange = flags & UInt32(RENAME_EXCHANGE) != 0
    guard flags & ~Overlay.known == 0, flags != Overlay.known else { throw .invalid }
    guard !old.isEmpty, !new.isEmpty else { throw .busy }
    let group = exchange ? 0 : indexed(found.to)
    defer { if group != 0 { dropIndex(group) } }
    try withScratch { (s) throws(Errno) in
      if self.isPrepared(old, new, found.from, found.to, flags) {
        let kinds = (found.from.kind, found.to.kind, found.from.shownInode != 0)
        if try self.renameUnderTurn(old, new, kinds, flags, exchange, s) { return }
      }
      // Another process may undo a preparation before the turn is taken: prepare again, a few times.
      for _ in 0..<16 {
        guard let kinds = try self.prepare(old, new, flags, exchange, s) else { return }
        if try self.renameUnderTurn(old, new, kinds, flags, exchange, s) { return }
      }
      throw .again
    }
  }

  /// Whether nothing has to be brought up for a rename, and the kernel itself refuses what there is to
  /// refuse: an upper object without ties, to a name that is free or such an object's.
  private func isPrepared(
    _ old: PathView, _ new: PathView, _ from: Node, _ to: Node, _ flags: UInt32
  ) -> Bool {
    func isPlain(_ node: Node) -> Bool {
      node.layer == 0 && !node.has(Node.indexed | Node.linked | Node.removed)
        && (node.kind == .file || node.kind == .link || node.kind == .special)
    }
    return flags & UInt32(RENAME_EXCHANGE) == 0 && isPlain(from)
      && (to.kind == .none || isPlain(to)) && !old.equals(new)
      && standsInUpper(old.parent) && standsInUpper(new.parent)
  }

  private func find(
    _ rel: PathView, wantBelow: Bool = true, _ s: Scratch, _ merge: inout Merge
  ) throws(Errno) -> Lookup {
    let look = try lookup(rel, s, wantBelow: wantBelow, merge: &merge)
    guard look.isWhole else { throw look.node.kind == .none ? .noEntry : .notDirectory }
    return look
  }

  /// Checks what rename(2) checks and brings both sides up. What is at both names; nil: nothing is
  /// left to do.
  private func prepare(
    _ old: PathView, _ new: PathView, _ flags: UInt32, _ exchange: Bool, _ s: Scratch
  ) throws(Errno) -> (from: Kind, to: Kind, notes: Bool)? {
    var merge = Merge(self, s)
    let from = try find(old, wantBelow: false, s, &merge)
    guard from.node.kind != .none else { throw .noEntry }
    let to = try find(new, wantBelow: false, s, &merge)
    if to.node.kind != .none, flags & UInt32(RENAME_NOREPLACE) != 0 { throw .exists }
    if new.count > old.count, new.isAt(orBelow: old) { throw .invalid }
    if try refuses(from.node, to.node, flags, old, new) { return nil }
    if to.node.kind != .none, !exchange {
      if to.node.kind != .directory {
        let replaced = try inode(to.node, s)
        var other = Merge(self, s)
        if try inode(find(old, wantBelow: false, s, &other).node, s) == replaced { return nil }
      }
      var markers = Markers(self)
      if to.node.kind == .directory {
        markers.directory(new, .reading)
        markers.name(new, .reading)
      }
      defer { markers.end() }
      if to.node.kind == .directory,
        try !withScratch({ (s2) throws(Errno) in
          try DirectoryListing.isEmpty(merge, s2)
        })
      {
        throw refusal(old, else: refusal(new, else: .notEmpty))
      }
    }
    try copyUpParents(old, changing: true)
    if !new.parent.equals(old.parent) { try copyUpParents(new, changing: true) }
    try checkRename(old, new, from.node, to.node, exchange)
    try bringUp(old, from.node)
    if exchange {
      try bringUp(new, to.node)
    } else if to.node.kind != .none, to.node.kind != .directory {
      try countLink(new, to.node)
      bringUpWatched(new, to.node)
    }
    // What was on a lower is noted by its path.
    func isNoted(_ node: Node) -> Bool { node.layer > 0 || node.shownInode != 0 }
    let notes = isNoted(from.node) || (exchange && isNoted(to.node))
    return (from.node.kind, to.node.kind, notes)
  }

  private func inode(_ node: Node, _ s: Scratch) throws(Errno) -> UInt64 {
    if node.shownInode != 0 { return node.shownInode }
    var st = stat()
    try unsafe check(lx_fstatat(AT_FDCWD, s.real2.unterminated, &st, AT_SYMLINK_NOFOLLOW))
    return st.inode
  }

  /// rename(2)'s refusals that depend on both sides. True: a rename onto itself, done.
  private func refuses(
    _ from: Node, _ to: Node, _ flags: UInt32, _ old: PathView, _ new: PathView
  ) throws(Errno) -> Bool {
    let exchange = flags & UInt32(RENAME_EXCHANGE) != 0
    if to.kind != .none, flags & UInt32(RENAME_NOREPLACE) != 0 { throw .exists }
    if old.count > new.count, old.isAt(orBelow: new) {
      throw exchange ? .invalid : .notEmpty
    }
    if to.kind == .none {
      if exchange { throw .noEntry }
      return false
    }
    if old.equals(new) { return true }
    if exchange { return false }
    if from.kind == .directory, to.kind != .directory {
      throw refusal(old, else: refusal(new, else: .notDirectory))
    }
    if from.kind != .directory, to.kind == .directory {
      throw refusal(old, else: refusal(new, else: .isDirectory))
    }
    return false
  }

  /// What the kernel cannot refuse of lower objects, since it is their copies that it renames.
  private func checkRename(
    _ old: PathView, _ new: PathView, _ from: Node, _ to: Node, _ exchange: Bool
  ) throws(Errno) {
    guard from.layer > 0 || (to.kind != .none && to.layer > 0), lx_geteuid() != 0 else { return }
    let moves = !old.parent.equals(new.parent)
    if from.layer > 0 { try checkLeaving(old, moves: moves && from.kind == .directory) }
    if to.kind != .none, to.layer > 0 {
      try checkLeaving(new, moves: exchange && moves && to.kind == .directory)
    }
  }

  /// - Parameter moves: a directory goes to another one: its ".." is written (rename(2), EACCES).
  private func checkLeaving(_ rel: PathView, moves: Bool) throws(Errno) {
    try withScratch { (s) throws(Errno) in
      var merge = Merge(self, s)
      let look = try self.lookup(rel, s, merge: &merge)
      guard look.isWhole, look.node.kind != .none else { return }
      try self.checkSticky(rel, s)
      if moves { try unsafe Permission.access(s.real2.unterminated, W_OK) }
    }
  }

  /// The object itself under its own name in the upper.
  private func bringUp(_ rel: PathView, _ node: Node) throws(Errno) {
    if node.has(Node.indexed) {
      try materialize(rel)
    } else if node.layer > 0 {
      try copyUp(rel, truncate: false)
    }
  }

  /// False: somebody changed something meanwhile; prepare again.
  private func renameUnderTurn(
    _ old: PathView, _ new: PathView, _ kinds: (from: Kind, to: Kind, notes: Bool),
    _ flags: UInt32, _ exchange: Bool, _ s: Scratch
  ) throws(Errno) -> Bool {
    try withScratch { (s2) throws(Errno) -> Bool in
      // A note holds a path: no directory may move meanwhile.
      let (kindOld, kindNew, notes) = kinds
      let directories = kindOld == .directory || kindNew == .directory
      var oldParent = self.emptyHash
      oldParent.appendComponents(old.parent)
      var newParent = self.emptyHash
      newParent.appendComponents(new.parent)
      var oldOwn = oldParent
      var newOwn = newParent
      if kindOld == .directory { unsafe oldOwn.append(old.name.base, old.name.count) }
      if kindNew == .directory { unsafe newOwn.append(new.name.base, new.name.count) }
      var turn = try Turn(self, s2)
      defer { turn.release() }
      if directories { try turn.takeEpoch() } else if notes { try turn.shareEpoch() }
      if try turn.take(oldParent, newParent, oldOwn, newOwn) {
        turn.sweep(oldParent)
        turn.sweep(newParent)
      }
      return try withScratch { (s3) throws(Errno) -> Bool in
        // Both lookups stand in blocks of their own: the lower path of each is needed below.
        var fromMerge = Merge(self, s)
        var toMerge = Merge(self, s3)
        let from = try self.find(old, s, &fromMerge)
        let to = try self.find(new, s3, &toMerge)
        guard from.node.kind != .none else { throw .noEntry }
        guard from.node.kind == kindOld, to.node.kind == kindNew else { return false }
        guard
          directories || notes
            || (from.node.shownInode == 0 && (!exchange || to.node.shownInode == 0))
        else { return false }
        guard try self.standsInUpper(old, from.node, s2) else { return false }
        var markers = self.markers(ofRename: old, new, kinds, exchange)
        defer { markers.end() }
        if exchange {
          guard try self.standsInUpper(new, to.node, s2) else { return false }
        } else if to.node.kind == .directory {
          guard try DirectoryListing.isEmpty(toMerge, s2) else { throw .notEmpty }
        }
        var was = stat()
        var replaced = to.node.shownInode
        if !exchange, to.node.kind == .directory {
          try unsafe check(
            lx_fstatat(AT_FDCWD, s3.real2.unterminated, &was, AT_SYMLINK_NOFOLLOW))
          if to.node.layer > 0 { replaced = self.shownInode(was.inode, layer: to.node.layer) }
        }
        let fromChange = NameChange(self, directory: from.directory, name: from.hash)
        let toChange = NameChange(self, directory: to.directory, name: to.hash)
        defer {
          toChange.end()
          fromChange.end()
        }
        if directories { self.registry?.notePositionsChange() }
        defer { if directories { self.registry?.notePositionsChange() } }
        var oldPath = s2.real
        try self.upperPath(old, into: &oldPath)
        var newPath = s2.real2
        try self.upperPath(new, into: &newPath)
        try self.noteMoves(old, new, from.node, fromMerge, to.node, toMerge, exchange, oldParent)
        self.noteOrigin(of: from.node, at: old)
        if exchange { self.noteOrigin(of: to.node, at: new) }
        let kept = exchange ? .notNeeded : self.keepCopy(new, to.node, upper: newPath, turn)
        do throws(Errno) {
          try self.bend(oldPath, from.node, fromMerge, uncovers: self.uncovers(to.node), s2)
          if exchange {
            try self.bend(newPath, to.node, toMerge, uncovers: self.uncovers(from.node), s2)
          }
          try self.markParentsImpure(old, new, from.node, to.node, exchange, s2)
          Fault.step()
          if exchange {
            try unsafe check(
              lx_renameat2(
                AT_FDCWD, oldPath.cString, AT_FDCWD, newPath.cString, UInt32(RENAME_EXCHANGE)))
          } else {
            if kept == .impossible { self.keepAttributes(newPath, to.node, turn: oldParent) }
            try self.move(oldPath, newPath, from.node, to.node, old, new, oldParent, s2)
          }
        } catch {
          // Nothing moved: say so again.
          if kept == .kept { self.dropCopy(to.node, turn) }
          try? self.noteMoves(
            new, old, from.node, fromMerge, to.node, toMerge, exchange, oldParent)
          throw error
        }
        if directories, let log = self.registry?.directoryLog {
          if !exchange, to.node.kind == .directory {
            log.noteRemoval(new, id: self.freshName(), inode: replaced, was)
          }
          log.noteMove(old, new, exchange: exchange)
        }
        // Descriptors of a lower object that was replaced have to look again.
        if !exchange, to.node.kind != .none { self.registry?.noteCopyUp() }
        Fault.step()
        return true
      }
    }
  }

  /// One move is the program's, and what it replaces goes by itself.
  private func markers(
    ofRename old: PathView, _ new: PathView, _ kinds: (from: Kind, to: Kind, notes: Bool),
    _ exchange: Bool
  ) -> Markers {
    var markers = Markers(self)
    let both: Meaning = .leaves | .arrives
    markers.name(old, exchange ? .names | both : .names | .leaves)
    markers.name(new, exchange ? .names | both : .names | .arrives | .reading)
    markers.attributes(of: old.parent)
    if !new.parent.equals(old.parent) { markers.attributes(of: new.parent) }
    if kinds.from == .directory { markers.directory(old, .moves) }
    if kinds.to == .directory {
      // Replaced it loses its link before it goes (fs/namei.c, vfs_rename).
      markers.directory(new, exchange ? .moves : .names | .reading | .deletion)
    }
    return markers
  }

  private func standsInUpper(_ rel: PathView, _ node: Node, _ s: Scratch) throws(Errno) -> Bool {
    guard node.layer == 0 else { return false }
    guard node.has(Node.indexed) else { return true }
    var path = s.real
    try upperPath(rel, into: &path)
    var st = stat()
    return unsafe lx_fstatat(AT_FDCWD, path.cString, &st, AT_SYMLINK_NOFOLLOW) == 0
      && st.type != S_IFCHR
  }

  /// Keeps the index of moved directories true, where directories that lowers contribute to move.
  private func noteMoves(
    _ old: PathView, _ new: PathView, _ from: Node, _ fromMerge: Merge, _ to: Node,
    _ toMerge: Merge, _ exchange: Bool, _ turn: PathHash
  ) throws(Errno) {
    if from.kind == .directory {
      try noteMoved(fromMerge, from: old, to: new, turn: turn)
    } else if from.shownInode != 0 {
      try noteMoved(inode: from.shownInode, to: new, turn: turn)
    }
    guard exchange else { return }
    if to.kind == .directory {
      try noteMoved(toMerge, from: new, to: old, turn: turn)
    } else if to.shownInode != 0 {
      try noteMoved(inode: to.shownInode, to: old, turn: turn)
    }
  }

  /// Whether a lower would show through at the name of a node.
  private func uncovers(_ node: Node) -> Bool {
    node.has(Node.below) || (node.kind != .none && node.layer > 0)
  }

  /// Prepares a directory for standing at another name.
  private func bend(
    _ path: PathBuffer, _ node: Node, _ merge: Merge, uncovers: Bool, _ s: Scratch
  ) throws(Errno) {
    guard node.kind == .directory else { return }
    if merge.count > 1 {
      if has(OVL_NO_XATTRS) { throw .crossDevice }
      var value = s.link
      try value.append(slash)
      try value.append(merge.relativePath(1))
      try unsafe check(
        lx_owner_setxattr(
          path.cString, OverlayAttribute.redirect.name(self), value.base, value.count))
      Fault.step()
    } else if uncovers, !node.has(Node.opaque) {
      if has(OVL_NO_XATTRS) { throw .crossDevice }
      try unsafe setLetter(.opaque, path.cString, UInt8(ascii: "y"))
      Fault.step()
    }
  }

  private func markParentsImpure(
    _ old: PathView, _ new: PathView, _ from: Node, _ to: Node, _ exchange: Bool, _ s: Scratch
  ) throws(Errno) {
    var parent = s.rest
    if from.shownInode != 0 {
      try upperPath(new.parent, into: &parent)
      try markImpureChecked(new.parent, parent)
    }
    if exchange, to.shownInode != 0 {
      try upperPath(old.parent, into: &parent)
      try markImpureChecked(old.parent, parent)
    }
  }

  /// Marks a directory impure; what the cache says of it changes with that.
  func markImpureChecked(_ rel: PathView, _ path: PathBuffer) throws(Errno) {
    if has(OVL_NO_XATTRS) { return }
    // Of the root nothing is cached.
    if rel.isEmpty { return try markImpure(path) }
    if unsafe letter(.impure, path.cString) == UInt8(ascii: "y") { return }
    try markImpure(path)
    // The mark is on the directory's own entry, whose turn is its parent's: move the epoch instead.
    registry?.advanceEpoch()
  }

  /// The rename itself, by what is at both ends.
  private func move(
    _ oldPath: PathBuffer, _ newPath: PathBuffer, _ from: Node, _ to: Node, _ old: PathView,
    _ new: PathView, _ turn: PathHash, _ s: Scratch
  ) throws(Errno) {
    let leaves = from.has(Node.below)
    let oldC = unsafe oldPath.cString
    let newC = unsafe newPath.cString
    if to.kind == .none, to.has(Node.whiteout), from.kind == .directory {
      // A directory cannot replace a whiteout; exchanged, the whiteout serves the old name.
      try unsafe check(lx_renameat2(AT_FDCWD, oldC, AT_FDCWD, newC, UInt32(RENAME_EXCHANGE)))
      Fault.step()
      if !leaves { _ = unsafe lx_unlinkat(AT_FDCWD, oldC, 0) }
      return
    }
    if to.kind == .directory, to.layer == 0 { try emptyForReplacement(newPath, s) }
    if !leaves {
      try unsafe check(lx_renameat2(AT_FDCWD, oldC, AT_FDCWD, newC, 0))
      return
    }
    if !has(OVL_XATTR_WHITEOUTS) {
      try unsafe check(
        lx_renameat2(AT_FDCWD, oldC, AT_FDCWD, newC, UInt32(RENAME_WHITEOUT)))
      return
    }
    // No device nodes: the whiteout goes to the new name first and is exchanged with the object.
    var staged = s.staging
    // The paths of both ends are in this block.
    try withScratch { (s2) throws(Errno) in
      try self.makeWhiteout(turn: turn, directory: old.parent, into: &staged, s2)
    }
    var parent = s.rest
    try upperPath(new.parent, into: &parent)
    if unsafe letter(.opaque, parent.cString) == 0 {
      try unsafe setLetter(.opaque, parent.cString, UInt8(ascii: "x"))
    }
    if to.kind == .directory, to.layer == 0 {
      try unsafe check(lx_unlinkat(AT_FDCWD, newC, AT_REMOVEDIR))
    }
    try unsafe check(lx_renameat2(AT_FDCWD, staged.cString, AT_FDCWD, newC, 0))
    try unsafe check(lx_renameat2(AT_FDCWD, oldC, AT_FDCWD, newC, UInt32(RENAME_EXCHANGE)))
  }

  /// An empty merged directory may hold whiteouts: opaque it hides as much without them.
  private func emptyForReplacement(_ path: PathBuffer, _ s: Scratch) throws(Errno) {
    let opened = try unsafe check(
      lx_openat(AT_FDCWD, path.cString, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW, 0))
    let fd = Int32(truncatingIfNeeded: opened)
    defer { _ = lx_close(fd) }
    var marked = false
    var child = s.link
    try DirectoryReader.each(fd, s) { (name, _, _) throws(Errno) in
      if !marked {
        try unsafe self.setLetter(.opaque, path.cString, UInt8(ascii: "y"))
        marked = true
        Fault.step()
      }
      child.count = 0
      try child.append(name)
      try unsafe check(lx_unlinkat(fd, child.cString, 0))
      Fault.step()
      return true
    }
  }
}
