import CLinux

/// The names of hard-link groups: those that a name of a lower gets in the upper, new ones by link(2), and what is to
/// go with the last. How they are counted: `HardLinks`.
extension Overlay {
  /// Gives a name that is answered from the index its own entry in the upper.
  func materialize(_ rel: PathView) throws(Errno) {
    guard hasUpper else { throw .readOnly }
    try copyUpParents(rel, changing: true)
    try withScratch { (s) throws(Errno) in
      try withScratch { (s2) throws(Errno) in
        var merge = Merge(self, s)
        var look = try self.lookup(rel, s, merge: &merge)
        guard look.isWhole, look.node.has(Node.indexed) else { return }
        let shown = look.node.shownInode
        var turn = try Turn(self, s2)
        defer { turn.release() }
        try turn.takeIdentity(shown)
        if try turn.take(look.directory) { turn.sweep(look.directory) }
        look = try self.lookup(rel, s, merge: &merge)
        guard look.isWhole, look.node.has(Node.indexed), look.node.shownInode == shown else {
          return
        }
        var upper = s2.real
        try self.upperPath(rel, into: &upper)
        var st = stat()
        if unsafe lx_fstatat(AT_FDCWD, upper.cString, &st, AT_SYMLINK_NOFOLLOW) == 0 { return }
        var parent = s2.real2
        try self.upperPath(rel.parent, into: &parent)
        try unsafe check(lx_fstatat(AT_FDCWD, parent.cString, &st, AT_SYMLINK_NOFOLLOW))
        var markers = Markers(self)
        markers.name(rel, .names)
        markers.attributes(of: rel.parent)
        defer { markers.end() }
        try self.markImpureChecked(rel.parent, parent)
        Fault.step()
        var index = s2.link
        try self.indexPath(shown, into: &index)
        var anchor = s2.rest
        try self.anchorPath(shown, into: &anchor)
        markers.links(index, .names)
        try self.removeAnchor(anchor)
        do throws(Errno) {
          try self.linkFromIndex(index, anchor)
          let name = NameChange(self, directory: look.directory, name: look.hash)
          defer { name.end() }
          try unsafe check(
            lx_renameat2(
              AT_FDCWD, anchor.cString, AT_FDCWD, upper.cString, UInt32(RENAME_NOREPLACE)))
        } catch {
          try? self.removeAnchor(anchor)
          throw error
        }
        Fault.step()
        try? unsafe self.copyTimes(parent.cString, st)
      }
    }
  }

  /// The last name of a group may have gone: then its inode leaves the index.
  ///
  /// - Parameter waits: for the identity's turn, if somebody has it.
  func dropIndex(_ shown: UInt64, waits: Bool = true) {
    try? withScratch { (s) throws(Errno) in
      var index = s.link
      try self.indexPath(shown, into: &index)
      var turn: Turn? = nil
      defer { turn?.release() }
      // First without, since most have another name.
      for _ in 0..<2 {
        var st = stat()
        let path = unsafe index.cString
        guard unsafe lx_fstatat(AT_FDCWD, path, &st, AT_SYMLINK_NOFOLLOW) == 0,
          unsafe self.shownLinks(path, st.links) == 0
        else { return }
        if turn == nil {
          turn = try Turn(self, s)
          if waits {
            try turn?.takeIdentity(shown)
          } else if turn?.tryIdentity(shown) != true {
            return
          }
        }
      }
      var markers = Markers(self)
      markers.links(index, .names)
      defer { markers.end() }
      Fault.step()
      _ = unsafe lx_unlinkat(AT_FDCWD, index.cString, 0)
      // Descriptors of the lower object have to look again.
      self.registry?.noteCopyUp()
    }
  }

  /// Of a name's object, whether it may have been the last of its group: what `dropIndex` takes. 0: no.
  func indexed(_ node: Node) -> UInt64 {
    node.kind != .directory && node.layer == 0 && node.has(Node.linked | Node.indexed)
      ? node.shownInode : 0
  }

  /// link(2). Errors: EEXIST, EPERM (a directory), EXDEV, EMLINK… as the upper answered.
  func link(_ old: PathView, _ new: PathView) throws(Errno) {
    guard hasUpper else { throw .readOnly }
    try withScratch { (s) throws(Errno) in
      // A whiteout may come to the name before the turn is taken: then once more.
      for _ in 0..<16 where try self.link(old, new, s) { return }
      throw .again
    }
  }

  /// False: somebody changed something meanwhile.
  private func link(_ old: PathView, _ new: PathView, _ s: Scratch) throws(Errno) -> Bool {
    var merge = Merge(self, s)
    var look = try lookup(old, s, merge: &merge)
    guard look.isWhole else {
      throw look.node.kind == .none ? .noEntry : .notDirectory
    }
    guard look.node.kind != .none else { throw .noEntry }
    guard look.node.kind != .directory else {
      if lx_geteuid() != 0 { try checkLink(s) }
      throw refusedLink(new)
    }
    if look.node.layer > 0 {
      try checkLink(s)
      if lx_geteuid() != 0 {
        try withScratch { (s) throws(Errno) in try self.mayChange(new.parent, s) }
      }
    }
    let target = try lookup(new, s, merge: &merge)
    if target.isWhole, target.node.kind != .none { throw .exists }
    if look.node.layer > 0 { try copyUp(old, truncate: false) }
    look = try lookup(old, s, merge: &merge)
    guard look.isWhole, look.node.kind != .none else { throw .noEntry }
    guard look.node.layer == 0 else { throw .again }
    let source = s.real2.written
    if look.node.shownInode != 0 { try markParentImpure(new, s) }
    guard target.node.has(Node.whiteout) else {
      // Not while the index lets go of it (`dropIndex`).
      let group: UInt64? = look.node.has(Node.indexed) ? look.node.shownInode : nil
      return try changing(new, missing: true, identity: group) { (c) throws(Errno) -> Bool in
        guard c.look.node.kind == .none else { throw .exists }
        if c.look.node.has(Node.whiteout) { return false }
        let name = NameChange(self, directory: c.look.directory, name: c.look.hash)
        defer { name.end() }
        try unsafe check(
          lx_linkat(AT_FDCWD, source.cString, AT_FDCWD, c.upper.cString, 0))
        return true
      }
    }
    var identity = look.node.shownInode
    if identity == 0 {
      var st = stat()
      try unsafe check(lx_fstatat(AT_FDCWD, source.cString, &st, AT_SYMLINK_NOFOLLOW))
      identity = st.inode
    }
    return try changing(new, missing: true, identity: identity) { (c) throws(Errno) -> Bool in
      guard c.look.node.kind == .none else { throw .exists }
      guard c.look.node.has(Node.whiteout) else { return false }
      let name = NameChange(self, directory: c.look.directory, name: c.look.hash)
      defer { name.end() }
      try self.linkOverWhiteout(source, c)
      return true
    }
  }

  /// What linking a directory is refused with: what its new directory refuses comes first (fs/namei.c,
  /// vfs_link).
  func refusedLink(_ new: PathView) -> Errno {
    if lx_geteuid() == 0 { return .permission }
    do throws(Errno) {
      try withScratch { (s) throws(Errno) in try self.mayChange(new.parent, s) }
      return .permission
    } catch { return error }
  }

  /// Prepares the directory of a name for an object whose inode number is not its own.
  func markParentImpure(_ rel: PathView, _ s: Scratch) throws(Errno) {
    try copyUpParents(rel)
    var parent = s.rest
    try upperPath(rel.parent, into: &parent)
    var markers = Markers(self)
    markers.attributes(of: rel.parent)
    defer { markers.end() }
    try markImpureChecked(rel.parent, parent)
  }

  private func linkOverWhiteout(_ source: PathBuffer, _ c: Change) throws(Errno) {
    var markers = Markers(self)
    markers.name(c.rel, .names | .creation)
    // Its count of links is noted.
    markers.object(at: source.view, .attributes)
    markers.links(source, .deletion)
    defer { markers.end() }
    var staged = c.s2.staging
    try stage(.create, turn: c.look.directory, into: &staged)
    let difference = try unsafe expectLink(source.cString, staged)
    Fault.step()
    do throws(Errno) {
      try unsafe check(
        lx_linkat(AT_FDCWD, source.cString, AT_FDCWD, staged.cString, 0))
      Fault.step()
      try unsafe check(lx_renameat2(AT_FDCWD, staged.cString, AT_FDCWD, c.upper.cString, 0))
    } catch {
      try? removeStaged(staged)
      try? unsafe setLinks(source.cString, difference)
      throw error
    }
    Fault.step()
    try? unsafe setLinks(c.upper.cString, difference)
  }

  /// Where hard links are protected (sysctl fs.protected_hardlinks), who does not own a file may link
  /// it only where he could as well copy it (fs/namei.c, may_linkat). The lower object's real path is
  /// in `s.real2`. Errors: EPERM.
  private func checkLink(_ s: Scratch) throws(Errno) {
    var st = stat()
    let real = unsafe s.real2.unterminated
    try unsafe check(lx_fstatat(AT_FDCWD, real, &st, AT_SYMLINK_NOFOLLOW))
    if Permission.isOwner(st.st_uid) { return }
    let setid = st.st_mode & S_ISUID != 0 || st.st_mode & (S_ISGID | 0o10) == S_ISGID | 0o10
    if st.type == S_IFREG, !setid {
      do throws(Errno) {
        try unsafe Permission.access(real, R_OK | W_OK)
        return
      } catch { if error != .access { throw error } }
    }
    let opened = unsafe lx_openat(
      AT_FDCWD, "/proc/sys/fs/protected_hardlinks", O_RDONLY | O_CLOEXEC, 0)
    var digit = UInt8(ascii: "1")
    if opened >= 0 {
      _ = unsafe lx_read(Int32(truncatingIfNeeded: opened), &digit, 1)
      _ = lx_close(Int32(truncatingIfNeeded: opened))
    }
    if digit != UInt8(ascii: "0") { throw .permission }
  }
}
