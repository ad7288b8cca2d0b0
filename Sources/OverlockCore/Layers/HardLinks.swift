import CLinux

/// Hard links of lower files. A group's upper inode stands in `workdir/overlock/index`, named by the
/// inode number that the group shows; a lookup of any of its names that is still on the lower is
/// answered with it. So all names stay one file.
///
/// The number of links that the program sees is the upper inode's own plus a difference kept in the
/// kernel's xattr `nlink` (`U±n`): names that exist on the lower only, less the index's own link.
extension Overlay {
  /// Puts a filled copy into the index, or drops it for the one that is already there, and leaves a
  /// further link of the index's inode under the staging name.
  func enterIndex(_ staged: PathBuffer, shown: UInt64, names: UInt64, _ s: Scratch) throws(Errno) {
    var index = s.link
    try indexPath(shown, into: &index)
    registry?.noteIndex()
    // With its count before it becomes visible.
    try setLinkDifference(staged, Int(truncatingIfNeeded: names) - 1)
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

  /// One more upper name for the group: the lower name it stands for is no longer counted.
  func linkFromIndex(_ index: PathBuffer, _ staged: PathBuffer) throws(Errno) {
    var st = stat()
    try unsafe check(lx_fstatat(AT_FDCWD, index.cString, &st, AT_SYMLINK_NOFOLLOW))
    let total = st.links + linkDifference(index)
    // Two steps, one truth: while it is written as a total, one link more or less changes nothing.
    try setLinkTotal(index, total, links: st.links)
    Fault.step()
    try unsafe check(lx_linkat(AT_FDCWD, index.cString, AT_FDCWD, staged.cString, 0))
    Fault.step()
    try setLinkDifference(index, total - st.links - 1)
  }

  /// Takes back what `linkFromIndex` made: the staged link found no place.
  func dropLink(_ staged: PathBuffer, of index: PathBuffer) throws(Errno) {
    try removeStaged(staged)
    try setLinkDifference(index, linkDifference(index) + 1)
  }

  private var linkAttribute: UnsafePointer<CChar> {
    let text: StaticString =
      has(OVL_USERXATTR) ? "user.overlay.nlink" : "trusted.overlay.nlink"
    return unsafe UnsafeRawPointer(text.utf8Start).assumingMemoryBound(to: CChar.self)
  }

  /// What is to be added to the upper inode's link count.
  func linkDifference(_ path: PathBuffer) -> Int {
    unsafe linkDifference(path.cString)
  }

  func linkDifference(_ path: UnsafePointer<CChar>, nofollow: Int32 = 1) -> Int {
    var text: InlineArray<24, UInt8> = InlineArray(repeating: 0)
    var n = unsafe withUnsafeMutablePointer(to: &text) { p in
      unsafe nofollow != 0
        ? lx_owner_getxattr(path, linkAttribute, p, 24)
        : lx_getxattr(path, linkAttribute, p, 24, 0)
    }
    if n == -Int(ENODATA), has(OVL_USERXATTR), let note = unsafe note(path, nofollow: nofollow) {
      text = note.links
      n = note.linksCount
    }
    if n == 17, text[0] == UInt8(ascii: "T") { return unsafe totalDifference(path, text, nofollow) }
    guard n > 2, text[0] == UInt8(ascii: "U") else { return 0 }
    var value = 0
    for i in 2..<min(n, 24) {
      guard text[i] >= 48, text[i] <= 57, value < 1 << 32 else { return 0 }
      value = value * 10 + Int(text[i] - 48)
    }
    return text[1] == UInt8(ascii: "-") ? -value : value
  }

  /// A count that was interrupted: the total, and the links there were when it was written.
  private func totalDifference(
    _ path: UnsafePointer<CChar>, _ text: InlineArray<24, UInt8>, _ nofollow: Int32
  ) -> Int {
    var total = 0
    var links = 0
    for i in 0..<8 {
      total = total << 8 | Int(text[1 + i])
      links = links << 8 | Int(text[9 + i])
    }
    var st = stat()
    guard
      unsafe lx_fstatat(AT_FDCWD, path, &st, nofollow != 0 ? AT_SYMLINK_NOFOLLOW : 0) == 0
    else { return 0 }
    // The interrupted link was made (one more) or not; names removed since count as they do.
    return st.links > links ? total - links - 1 : total - links
  }

  private func setLinkTotal(_ path: PathBuffer, _ total: Int, links: Int) throws(Errno) {
    var text: InlineArray<17, UInt8> = InlineArray(repeating: 0)
    text[0] = UInt8(ascii: "T")
    for i in 0..<8 {
      text[1 + i] = UInt8(truncatingIfNeeded: total >> (56 - 8 * i))
      text[9 + i] = UInt8(truncatingIfNeeded: links >> (56 - 8 * i))
    }
    let path = unsafe path.cString
    try unsafe withUnsafePointer(to: &text) { (p) throws(Errno) in
      try unsafe setLinks(
        path, UnsafeRawPointer(p).assumingMemoryBound(to: UInt8.self), 17)
    }
  }

  /// Writes the value of the link count's xattr, or of the note that stands for it.
  private func setLinks(
    _ path: UnsafePointer<CChar>, _ value: UnsafePointer<UInt8>, _ count: Int
  ) throws(Errno) {
    let r = unsafe lx_owner_setxattr(path, linkAttribute, value, count)
    guard r == -Int(EPERM), has(OVL_USERXATTR), count <= 24 else {
      try check(r)
      return
    }
    try unsafe setNote(path) { note in
      for i in 0..<count { unsafe note.links[i] = value[i] }
      note.linksCount = count
    }
  }

  func setLinkDifference(_ path: PathBuffer, _ difference: Int) throws(Errno) {
    try withScratch { (s) throws(Errno) in
      var text = s.link
      try text.append("U")
      try text.append(difference < 0 ? UInt8(ascii: "-") : UInt8(ascii: "+"))
      try text.append(decimal: UInt64(difference.magnitude))
      try unsafe self.setLinks(path.cString, text.base, text.count)
    }
  }
}

extension Overlay {
  /// Gives a name that is answered from the index its own entry in the upper.
  func materialize(_ rel: PathView) throws(Errno) {
    try changing(rel, missing: false) { (c) throws(Errno) in
      guard c.look.node.has(Node.indexed) else { return }
      var st = stat()
      if unsafe lx_fstatat(AT_FDCWD, c.upper.cString, &st, AT_SYMLINK_NOFOLLOW) == 0 { return }
      var index = c.s2.link
      try self.indexPath(c.look.node.shownInode, into: &index)
      var staged = c.s2.staging
      try self.stage(.create, turn: c.look.directory, into: &staged)
      var parent = c.s2.real2
      try self.upperPath(rel.parent, into: &parent)
      try unsafe check(lx_fstatat(AT_FDCWD, parent.cString, &st, AT_SYMLINK_NOFOLLOW))
      try self.markImpureChecked(rel.parent, parent)
      // A copy-up that died between the index and the name left a link of its own.
      var anchor = c.s2.rest
      try self.anchorPath(c.look.node.shownInode, into: &anchor)
      try self.removeStaged(anchor)
      try self.linkFromIndex(index, staged)
      Fault.step()
      let name = NameChange(self, directory: c.look.directory, name: c.look.hash)
      let r = unsafe lx_renameat2(
        AT_FDCWD, staged.cString, AT_FDCWD, c.upper.cString, UInt32(RENAME_NOREPLACE))
      name.end()
      if r < 0 { try? self.dropLink(staged, of: index) }
      try check(r)
      try? unsafe self.copyTimes(parent.cString, st)
    }
  }

  /// link(2). Errors: EEXIST, EPERM (a directory), EXDEV, EMLINK… as the upper answered.
  func link(_ old: PathView, _ new: PathView) throws(Errno) {
    guard hasUpper else { throw .readOnly }
    try withScratch { (s) throws(Errno) in
      var merge = Merge(self, s)
      var look = try self.lookup(old, s, merge: &merge)
      guard look.isWhole else {
        throw look.node.kind == .none ? .noEntry : .notDirectory
      }
      guard look.node.kind != .none else { throw .noEntry }
      if look.node.layer > 0 { try self.checkLink(s) }
      guard look.node.kind != .directory else { throw self.refusal(new, else: .permission) }
      let target = try self.lookup(new, s, merge: &merge)
      if target.isWhole, target.node.kind != .none { throw .exists }
      if look.node.layer > 0 { try self.copyUp(old, truncate: false) }
      look = try self.lookup(old, s, merge: &merge)
      guard look.isWhole, look.node.kind != .none else { throw .noEntry }
      guard look.node.layer == 0 else { throw .again }
      let source = s.real2.written
      if look.node.shownInode != 0 {
        try self.copyUpParents(new, changing: true)
        var parent = s.rest
        try self.upperPath(new.parent, into: &parent)
        try self.markImpureChecked(new.parent, parent)
      }
      _ = try unsafe self.create(new, isNew: false) {
        unsafe lx_linkat(AT_FDCWD, source.cString, AT_FDCWD, $0, 0)
      }
    }
  }
}

extension Overlay {
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

  /// The difference for a path that is a magic link to an open file.
  func linkDifferenceFollowing(_ path: UnsafePointer<CChar>) -> Int {
    unsafe linkDifference(path, nofollow: 0)
  }
}
