import CLinux

/// What became of lower objects that have lost their name, for descriptors that still have them open.
///
/// The copy of such an object is gone with its name, and nobody knows whether a descriptor of the lower
/// inode is left. `workdir/overlock/removed/<slot>` stands in for it: an object without data that has the
/// attributes, and takes the changes of them, that the descriptor's object would. It is made when the last
/// name of a copy goes, and of what was never copied up when a descriptor changes it. Its origin says
/// whose it is; there is a fixed number of slots, a later object takes the place of an earlier one, and
/// whatever has none is shown as it was on its lower.
///
/// Prepared under a staging name and put in its slot by one rename: under the turn of the object's
/// directory, or that of its identity where it has no name any more.
extension Overlay {
  private static var slots: UInt64 { 256 }

  private func standInPath(_ shown: UInt64, into path: inout PathBuffer) throws(Errno) {
    path.count = 0
    try path.append(work)
    try path.append("/removed/")
    try path.append(hex: (shown ^ shown >> 24) % Overlay.slots, digits: 2)
  }

  /// Whether there is one for the object; its path is then in `s.real2`.
  func findStandIn(_ shown: UInt64, _ s: Scratch) throws(Errno) -> Bool {
    if has(OVL_NO_XATTRS) { return false }
    var path = s.real2
    try standInPath(shown, into: &path)
    return unsafe origin(path.cString) == shown
  }

  /// Keeps the attributes of a copy whose last name is about to go. What cannot be kept (a full disk) is
  /// lost with the copy: removing a name must not fail for it.
  func keepAttributes(_ real: PathBuffer, _ node: Node, turn: PathHash) {
    guard node.layer == 0, node.kind == .file, node.shownInode != 0, !node.has(Node.indexed),
      !has(OVL_NO_XATTRS)
    else { return }
    try? withScratch { (s) throws(Errno) in
      var source = s.real2
      try source.append(real.view)
      var st = stat()
      try unsafe check(lx_fstatat(AT_FDCWD, source.cString, &st, AT_SYMLINK_NOFOLLOW))
      if st.type == S_IFREG, st.links == 1 {
        try self.makeStandIn(node.shownInode, like: source, st, turn, s)
      }
    }
  }

  /// The same of a directory that is about to be removed, if it has attributes that the log of directories
  /// does not hold; `merge` stands at it.
  func keepAttributes(ofDirectory shown: UInt64, _ st: stat, _ merge: Merge, turn: PathHash) {
    if has(OVL_NO_XATTRS) { return }
    try? withScratch { (s2) throws(Errno) in
      var source = s2.real2
      try merge.realPath(0, into: &source)
      let list = unsafe UnsafeMutableRawPointer(s2.spare).assumingMemoryBound(to: CChar.self)
      let n = try unsafe check(lx_listxattr(source.cString, list, Scratch.spareSize, 1))
      var at = 0
      while at < n {
        let name = unsafe PathView(UnsafePointer(list + at))
        if !OverlayAttribute.isHidden(name) {
          return try self.makeStandIn(shown, like: source, st, turn, s2)
        }
        at += name.count + 1
      }
    }
  }

  /// The stand-in of a removed directory, by its entry in the log: its path in `s.real2`, if there is one.
  /// Returns the inode number that the directory showed, or 0.
  func standIn(ofTicket ticket: UInt64, _ s: Scratch) throws(Errno) -> UInt64 {
    let inode = try withScratch { (s2) throws(Errno) -> UInt64 in
      var path = s2.here
      return try self.registry?.directoryLog.trace(ticket, into: &path)?.inode ?? 0
    }
    if inode == 0 { return 0 }
    if try !findStandIn(inode, s) { unsafe s.real2.base.pointee = 0 }
    return inode
  }

  /// The stand-in of an object that is only on a lower, and nowhere in the merged tree: makes it if there is
  /// none. Its path is then in `s.real2`, where the object's was.
  func standIn(_ shown: UInt64, _ s: Scratch) throws(Errno) {
    if has(OVL_NO_XATTRS) { throw .noEntry }
    try withScratch { (s2) throws(Errno) in
      var source = s2.real2
      try source.append(s.real2.written.view)
      var turn = try Turn(self, s2)
      defer { turn.release() }
      try turn.takeIdentity(shown)
      if try self.findStandIn(shown, s) { return }
      var st = stat()
      try unsafe check(lx_fstatat(AT_FDCWD, source.cString, &st, AT_SYMLINK_NOFOLLOW))
      var hash = self.emptyHash
      hash.appendComponents(source.view)
      _ = try turn.take(hash)
      try self.makeStandIn(shown, like: source, st, hash, removed: true, s2)
      guard try self.findStandIn(shown, s) else { throw .noEntry }
    }
  }

  /// - Parameters:
  ///   - turn: a directory whose turn is held.
  ///   - removed: the source is what it was before it was copied up.
  private func makeStandIn(
    _ shown: UInt64, like source: PathBuffer, _ st: stat, _ turn: PathHash, removed: Bool = false,
    _ s: Scratch
  ) throws(Errno) {
    var staged = s.here
    try stage(.gone, turn: turn, into: &staged)
    let to = unsafe staged.cString
    if st.type == S_IFDIR {
      try unsafe check(lx_mkdirat(AT_FDCWD, to, 0o700))
    } else {
      let fd = Int32(
        truncatingIfNeeded: try unsafe check(
          lx_openat(AT_FDCWD, to, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC | O_NOFOLLOW, 0o600)))
      _ = lx_ftruncate(fd, st.st_size)
      _ = lx_close(fd)
    }
    Fault.step()
    do throws(Errno) {
      try unsafe copyAttributes(to, from: source.cString, st, shown: shown, s)
      try unsafe copyTimes(to, st)
      if removed, st.type == S_IFDIR { try unsafe becomeRemoved(to, shown, s) }
      Fault.step()
      var slot = s.real
      try standInPath(shown, into: &slot)
      var r = unsafe lx_owner_rename(to, slot.cString, 0)
      if r < 0 {
        // Another kind of object has the slot.
        try removeStaged(slot)
        r = unsafe lx_owner_rename(to, slot.cString, 0)
      }
      try check(r)
    } catch {
      try? removeStaged(staged)
      throw error
    }
  }

  /// What a directory was when it was removed: its copy is gone, the log knows.
  private func becomeRemoved(_ path: UnsafePointer<CChar>, _ shown: UInt64, _ s: Scratch)
    throws(Errno)
  {
    var name = s.link
    guard let log = registry?.directoryLog, let ticket = log.find(inode: shown),
      let was = try log.trace(ticket, into: &name)
    else { return }
    _ = unsafe lx_fchownat(AT_FDCWD, path, was.owner.uid, was.owner.gid, AT_SYMLINK_NOFOLLOW)
    try unsafe check(lx_fchmodat(AT_FDCWD, path, was.mode))
    var st = stat()
    st.st_atim = was.accessed
    st.st_mtim = was.modified
    try unsafe copyTimes(path, st)
  }

  /// Nobody is in the overlay who could have such a descriptor.
  func forgetStandIns() {
    try? eachEntry(of: "/removed") { (path) throws(Errno) in
      try? self.removeStaged(path)
      return true
    }
  }
}
