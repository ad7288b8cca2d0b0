import CLinux

/// Hard links of lower files. A group's upper inode stands in `workdir/overlock/index`, named by the
/// inode number that the group shows; a lookup of any of its names that is still on the lower is
/// answered with it. So all names stay one file.
///
/// The number of links that the program sees is the upper inode's own plus a difference kept in the
/// kernel's xattr `nlink` (`U±n`): names that exist on the lower only, less the index's own link.
///
/// A link on its way to its name is none yet. While there may be one, the xattr says so and names it
/// (`P±n:folder/name`, below the workdir): it is subtracted as long as it is there. So the number is
/// right between any two steps, whoever dies there, and links that others make or remove meanwhile
/// count as they do. Written by whoever holds the turn of the inode's identity only:
///
///     a lower name gets its upper entry    P n, link to copyup/, U n-1, rename to the name
///     a new name over a whiteout           P n, link to create/, rename to the name, U n
///     a dead process's link in copyup/     P n+1, unlink, U n+1
extension Overlay {
  /// Puts a filled copy into the index and leaves a further link of the index's inode under its
  /// staging name. Under the turn of the identity.
  func enterIndex(_ staged: PathBuffer, shown: UInt64, names: UInt64, _ s: Scratch) throws(Errno) {
    var index = s.link
    try indexPath(shown, into: &index)
    registry?.noteIndex()
    // With its count before it becomes visible.
    try unsafe setLinks(staged.cString, Int(truncatingIfNeeded: names) - 1)
    let r = unsafe lx_renameat2(
      AT_FDCWD, staged.cString, AT_FDCWD, index.cString, UInt32(RENAME_NOREPLACE))
    if r == 0 {
      Fault.step()
    } else if r == -Int(EEXIST) {
      try removeStaged(staged)
    } else {
      try check(r)
    }
    Fault.step()
    try linkFromIndex(index, staged)
  }

  /// One more upper name for the group: the lower name it stands for is no longer counted. Under the
  /// turn of the identity; `staged` is free.
  func linkFromIndex(_ index: PathBuffer, _ staged: PathBuffer) throws(Errno) {
    let path = unsafe index.cString
    let difference = try unsafe expectLink(path, staged)
    Fault.step()
    try unsafe check(lx_linkat(AT_FDCWD, path, AT_FDCWD, staged.cString, 0))
    Fault.step()
    try unsafe setLinks(path, difference - 1)
    Fault.step()
  }

  /// Notes that a link of the file is about to be made at a staging name: it does not count there.
  /// Returns the difference. Under the turn of the identity.
  func expectLink(_ path: UnsafePointer<CChar>, _ staged: PathBuffer) throws(Errno) -> Int {
    let difference = try unsafe settleLinks(path)
    try unsafe setLinks(path, difference, expecting: staged)
    return difference
  }

  /// Removes the link that a dead process was making, if any, and returns the difference. Under the
  /// turn of the identity.
  @discardableResult
  func settleLinks(_ path: UnsafePointer<CChar>) throws(Errno) -> Int {
    try withScratch { (s) throws(Errno) -> Int in
      var staged = s.staging
      guard let difference = try unsafe self.links(path, expecting: &staged) else { return 0 }
      if staged.count > 0 {
        try self.removeStaged(staged)
        try unsafe self.setLinks(path, difference)
      }
      return difference
    }
  }

  /// Removes what a dead process left under the name of an object's copy. Under the turn of the
  /// identity.
  func removeAnchor(_ anchor: PathBuffer) throws(Errno) {
    var st = stat()
    let path = unsafe anchor.cString
    let r = unsafe lx_fstatat(AT_FDCWD, path, &st, AT_SYMLINK_NOFOLLOW)
    if r == -Int(ENOENT) { return }
    guard r == 0, st.type != S_IFDIR, st.links > 1 else { return try removeStaged(anchor) }
    try withScratch { (s) throws(Errno) in
      var staged = s.staging
      guard var difference = try unsafe self.links(path, expecting: &staged) else {
        return try self.removeStaged(anchor)
      }
      if !staged.view.equals(anchor.view) {
        // It was counted for the name that it never got.
        if staged.count > 0 { try self.removeStaged(staged) }
        difference += 1
        try unsafe self.setLinks(path, difference, expecting: anchor)
        Fault.step()
      }
      // By another name: this one goes.
      try self.removeStaged(anchor)
      Fault.step()
      guard let shown = hexadecimal(anchor.view.name) else { return }
      var index = s.link
      try self.indexPath(shown, into: &index)
      try unsafe self.setLinks(index.cString, difference)
    }
  }

  private var linkAttribute: UnsafePointer<CChar> {
    let text: StaticString =
      has(OVL_USERXATTR) ? "user.overlay.nlink" : "trusted.overlay.nlink"
    return unsafe UnsafeRawPointer(text.utf8Start).assumingMemoryBound(to: CChar.self)
  }

  /// The number of links that a file of the upper shows.
  ///
  /// - Parameters:
  ///   - links: its own, as just read.
  ///   - nofollow: 0 for a path that is a magic link to an open file.
  func shownLinks(_ path: UnsafePointer<CChar>, _ links: Int, nofollow: Int32 = 1) -> Int {
    var links = links
    for _ in 0..<8 {
      guard let difference = unsafe linkDifference(path, nofollow) else { return links }
      // Both are of one moment if nothing came or went in between.
      var st = stat()
      let flags = nofollow != 0 ? AT_SYMLINK_NOFOLLOW : 0
      guard unsafe lx_fstatat(AT_FDCWD, path, &st, flags) == 0, st.links != links else {
        return links + difference
      }
      links = st.links
    }
    return links
  }

  /// What is to be added to the upper inode's link count; nil: nothing was ever noted of it.
  private func linkDifference(_ path: UnsafePointer<CChar>, _ nofollow: Int32) -> Int? {
    // Nearly all files with several links have no note: none is worth a scratch block.
    if unsafe lx_getxattr(path, linkAttribute, nil, 0, nofollow) == -Int(ENODATA),
      !has(OVL_USERXATTR)
    {
      return nil
    }
    var result: Int? = nil
    try? withScratch { (s) throws(Errno) in
      var staged = s.staging
      result = try unsafe self.links(path, expecting: &staged, nofollow)
      if let difference = result, staged.count > 0 {
        var st = stat()
        let r = unsafe lx_fstatat(AT_FDCWD, staged.cString, &st, AT_SYMLINK_NOFOLLOW)
        if r == 0 { result = difference - 1 }
      }
    }
    return result
  }

  /// The note itself: its number, and the staging name of the link that may be on its way.
  private func links(
    _ path: UnsafePointer<CChar>, expecting staged: inout PathBuffer, _ nofollow: Int32 = 1
  ) throws(Errno) -> Int? {
    var text: InlineArray<128, UInt8> = InlineArray(repeating: 0)
    var n = unsafe withUnsafeMutablePointer(to: &text) {
      unsafe nofollow != 0
        ? lx_owner_getxattr(path, linkAttribute, $0, 128)
        : lx_getxattr(path, linkAttribute, $0, 128, 0)
    }
    if n == -Int(ENODATA) || n == -Int(EPERM), has(OVL_USERXATTR),
      let note = unsafe note(path, nofollow: nofollow)
    {
      n = note.linksCount
      for k in 0..<min(n, 24) { text[k] = note.links[k] }
    }
    guard n > 2, text[0] == UInt8(ascii: "U") || text[0] == UInt8(ascii: "P") else { return nil }
    var value = 0
    var i = 2
    while i < n, text[i] >= 48, text[i] <= 57, value < 1 << 32 {
      value = value * 10 + Int(text[i] - 48)
      i += 1
    }
    if text[0] == UInt8(ascii: "P"), i < n, text[i] == UInt8(ascii: ":") {
      try staged.append(work)
      try staged.append(slash)
      for k in (i + 1)..<n { try staged.append(text[k]) }
    }
    return text[1] == UInt8(ascii: "-") ? -value : value
  }

  /// - Parameter staged: where a link is about to be made.
  func setLinks(
    _ path: UnsafePointer<CChar>, _ difference: Int, expecting staged: PathBuffer? = nil
  ) throws(Errno) {
    try withScratch { (s) throws(Errno) in
      var text = s.link
      try text.append(staged == nil ? "U" : "P")
      try text.append(difference < 0 ? UInt8(ascii: "-") : UInt8(ascii: "+"))
      try text.append(decimal: UInt64(difference.magnitude))
      if let staged {
        try text.append(UInt8(ascii: ":"))
        try text.append(staged.view.from(self.work.count + 1))
      }
      let r = unsafe lx_owner_setxattr(path, self.linkAttribute, text.base, text.count)
      if r == -Int(EOPNOTSUPP) { return }
      guard r == -Int(EPERM), self.has(OVL_USERXATTR) else {
        try check(r)
        return
      }
      // A symbolic link or a special file takes no user.* xattr: a note stands for it, which has no room
      // for the name of a link that is on its way.
      if staged != nil { return }
      try unsafe self.setNote(path) { note in
        for i in 0..<text.count { note.links[i] = unsafe text.base[i] }
        note.linksCount = text.count
      }
    }
  }
}

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
      return try changing(new, missing: true) { (c) throws(Errno) -> Bool in
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
