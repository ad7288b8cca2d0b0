import CLinux

/// Copies of files whose name is gone while a descriptor of the lower file, opened before the copy-up, may still
/// show them.
///
///     kept/<shown inode>      a link of the copy, that no program sees and that is not counted (`HardLinks`)
///     kept/<shown inode>.at   a symbolic link to the origin's real path: whether anybody has that open says
///                             how long the copy is kept; also of copies that were renamed, while they live
///
/// Whether a file is open anywhere is asked by a write lease (fcntl(2), F_SETLEASE), which its owner can have
/// only on a file that nobody else has open. Where that cannot be asked – somebody else's file, a file system
/// without leases – nothing is kept, and such a descriptor shows the origin again when the copy is gone.
///
/// What is no file (a FIFO, a symbolic link) has no lease to ask by: its copy is kept while it has another name,
/// without a note of its origin.
///
/// Both are changed under the turn of the identity. Swept when the next copied-up file is removed, after a dead process, and
/// by the first process of a new registry.
extension Overlay {
  private static var originSuffix: StaticString { ".at" }

  func keptPath(_ shown: UInt64, into path: inout PathBuffer) throws(Errno) {
    path.count = 0
    try path.append(work)
    try path.append("/kept/")
    try path.append(hex: shown)
  }

  private func keptOriginPath(_ shown: UInt64, into path: inout PathBuffer) throws(Errno) {
    try keptPath(shown, into: &path)
    try path.append(Overlay.originSuffix)
  }

  /// The path of a kept copy. False: there is none.
  func kept(_ shown: UInt64, into path: inout PathBuffer) throws(Errno) -> Bool {
    try keptPath(shown, into: &path)
    var st = stat()
    return unsafe lx_fstatat(AT_FDCWD, path.cString, &st, AT_SYMLINK_NOFOLLOW) == 0
  }

  /// Whether the name of an object may be one that a descriptor of its origin needs it by.
  func mayBeKept(_ node: Node) -> Bool {
    node.layer == 0 && node.kind == .file && node.shownInode != 0 && !node.has(Node.indexed)
  }

  enum Keeping {
    case kept
    /// Nobody has the origin open.
    case notNeeded
    /// There is no way to tell whether anybody has, or no room for it.
    case impossible
  }

  /// A name of a copied-up file is about to go: keeps the copy if its origin may be open. Under the turn of the name's directory; waits a little for the identity's.
  func keepCopy(_ rel: PathView, _ node: Node, upper: PathBuffer, _ turn: Turn) -> Keeping {
    guard mayBeKept(node) else { return keepByNames(node, upper, turn) }
    let shown = node.shownInode
    var result = Keeping.impossible
    sweepKept(turn, limit: 4)
    try? withScratch { (s) throws(Errno) in
      var origin = s.rest
      guard try self.origin(of: rel, shown, into: &origin, s) else { return }
      switch unsafe lx_is_open_elsewhere(origin.terminated) {
      case 1: break
      case 0:
        result = .notNeeded
        fallthrough
      default: return self.dropOriginNote(shown, s)
      }
      guard self.awaitIdentity(shown, turn) else { return }
      defer { turn.dropIdentity(shown) }
      var kept = s.real
      guard try !self.kept(shown, into: &kept) else {
        result = .kept
        return
      }
      try self.noteOrigin(shown, origin, s)
      Fault.step()
      try self.link(upper, as: kept)
      result = .kept
    }
    return result
  }

  /// The same of what is no file, by its other names. The last one takes the kept link along.
  private func keepByNames(_ node: Node, _ upper: PathBuffer, _ turn: Turn) -> Keeping {
    guard node.layer == 0, node.kind == .special || node.kind == .link, node.shownInode != 0,
      !node.has(Node.indexed)
    else { return .notNeeded }
    let shown = node.shownInode
    var st = stat()
    let r = unsafe lx_fstatat(AT_FDCWD, upper.terminated, &st, AT_SYMLINK_NOFOLLOW)
    guard r == 0, st.links > 1 else { return .notNeeded }
    var result = Keeping.notNeeded
    try? withScratch { (s) throws(Errno) in
      // Of a hard-link group of its lower the index tells.
      if try self.isIndexed(shown, s) { return }
      guard self.awaitIdentity(shown, turn) else { return }
      defer { turn.dropIdentity(shown) }
      var kept = s.real
      let isKept = try self.kept(shown, into: &kept)
      if unsafe self.shownLinks(upper.terminated, st.links) > 1 {
        if isKept { return }
        try self.link(upper, as: kept)
        result = .kept
      } else if isKept {
        try self.remove(shown, s)
      }
    }
    return result
  }

  /// Under the turn of the identity.
  private func link(_ upper: PathBuffer, as kept: PathBuffer) throws(Errno) {
    registry?.noteKept()
    var markers = Markers(self)
    markers.links(upper, .names)
    defer { markers.end() }
    try linkFromIndex(upper, kept)
  }

  /// Copies a lower file that has lost its name, which is about to be changed through its descriptor.
  ///
  /// - Parameter origin: its real path.
  func keepCopy(ofNameless origin: PathBuffer, _ st: stat, shown: UInt64) throws(Errno) {
    try withScratch { (s) throws(Errno) in
      var turn = try Turn(self, s)
      defer { turn.release() }
      try turn.takeIdentity(shown)
      var kept = s.real
      if try self.kept(shown, into: &kept) { return }
      var staged = s.here
      try self.anchorPath(shown, into: &staged)
      try self.removeAnchor(staged)
      do throws(Errno) {
        var markers = Markers(self)
        markers.object(at: origin.view, .reading)
        defer { markers.end() }
        try withScratch { (s2) throws(Errno) in
          try self.fill(
            staged, from: origin, st, truncate: false, shown: shown, anchor: nil, s2)
        }
        try unsafe self.setLinks(staged.cString, -1)
        try self.noteOrigin(shown, origin, s)
        self.registry?.noteKept()
        self.registry?.noteCopyUp()
        Fault.step()
        try unsafe check(
          lx_renameat2(
            AT_FDCWD, staged.cString, AT_FDCWD, kept.cString, UInt32(RENAME_NOREPLACE)))
      } catch {
        try? self.removeAnchor(staged)
        throw error
      }
      Fault.step()
      self.registry?.noteCopyUp()
    }
  }

  /// The name is still there after all.
  func dropCopy(_ node: Node, _ turn: Turn) {
    guard awaitIdentity(node.shownInode, turn) else { return }
    defer { turn.dropIdentity(node.shownInode) }
    try? withScratch { (s) throws(Errno) in try self.remove(node.shownInode, s) }
  }

  /// Who holds it is in a short step, and might wait for a turn of ours.
  private func awaitIdentity(_ shown: UInt64, _ turn: Turn) -> Bool {
    for _ in 0..<64 {
      if turn.tryIdentity(shown) { return true }
      lx_pause(100_000)
    }
    return false
  }

  /// A copied-up file is about to get its first other name: where its origin is could not be told by that.
  func noteOrigin(of node: Node, at rel: PathView) {
    guard mayBeKept(node) else { return }
    try? withScratch { (s) throws(Errno) in
      var origin = s.rest
      if try self.readOriginNote(node.shownInode, into: &origin, s) { return }
      guard try self.origin(at: rel, node.shownInode, into: &origin) else { return }
      try self.noteOrigin(node.shownInode, origin, s)
    }
  }

  private func noteOrigin(_ shown: UInt64, _ origin: PathBuffer, _ s: Scratch) throws(Errno) {
    var note = s.link
    try keptOriginPath(shown, into: &note)
    let r = unsafe lx_symlinkat(origin.terminated, AT_FDCWD, note.cString)
    if r != -Int(EEXIST) { try check(r) }
  }

  private func dropOriginNote(_ shown: UInt64, _ s: Scratch) {
    var note = s.link
    guard (try? keptOriginPath(shown, into: &note)) != nil else { return }
    _ = unsafe lx_unlinkat(AT_FDCWD, note.cString, 0)
  }

  /// Writes the real path of the lower file that was copied up to `rel`. False: not known.
  private func origin(
    of rel: PathView, _ shown: UInt64, into origin: inout PathBuffer, _ s: Scratch
  ) throws(Errno) -> Bool {
    if try self.origin(at: rel, shown, into: &origin) { return true }
    return try readOriginNote(shown, into: &origin, s)
  }

  private func readOriginNote(
    _ shown: UInt64, into origin: inout PathBuffer, _ s: Scratch
  ) throws(Errno) -> Bool {
    var note = s.link
    try keptOriginPath(shown, into: &note)
    origin.count = 0
    let n = unsafe lx_readlinkat(
      AT_FDCWD, note.cString,
      UnsafeMutableRawPointer(origin.base).assumingMemoryBound(to: CChar.self),
      origin.capacity - 1)
    guard n > 0 else { return false }
    origin.count = n
    _ = unsafe origin.cString
    return true
  }

  /// The same, where it has never been renamed: in one of the directories that are merged there.
  private func origin(
    at rel: PathView, _ shown: UInt64, into origin: inout PathBuffer
  ) throws(Errno) -> Bool {
    var found = false
    var path = origin
    try withScratch { (s) throws(Errno) in
      var merge = Merge(self, s)
      let look = try self.lookup(rel.parent, s, fresh: true, merge: &merge)
      guard look.isWhole, look.node.kind == .directory else { return }
      var st = stat()
      for k in 0..<merge.count where merge.layer(k) > 0 && !found {
        try merge.realPath(k, into: &path)
        try path.appendBelow(rel.name)
        found =
          unsafe lx_fstatat(AT_FDCWD, path.cString, &st, AT_SYMLINK_NOFOLLOW) == 0
          && self.shownInode(st.inode, layer: merge.layer(k)) == shown
      }
    }
    origin.count = path.count
    return found
  }

  private func mayBeOpen(_ origin: PathBuffer) -> Bool {
    unsafe lx_is_open_elsewhere(origin.terminated) == 1
  }

  /// Removes the copies whose origin nobody has open any more.
  ///
  /// - Parameter unused: nobody is in the overlay who could have one open that is kept by its names.
  func sweepKept(_ turn: Turn, limit: Int = Int.max, unused: Bool = false) {
    guard registry?.saysNoneKept != true else { return }
    var left = limit
    try? withScratch { (s) throws(Errno) in
      var path = s.real2
      try path.append(self.work)
      try path.append("/kept")
      let opened = try unsafe check(
        lx_openat(AT_FDCWD, path.cString, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0))
      let fd = Int32(truncatingIfNeeded: opened)
      defer { _ = lx_close(fd) }
      try DirectoryReader.each(fd, s) { (name, _, _) throws(Errno) in
        guard let shown = hexadecimal(name) else { return true }
        left -= 1
        guard left >= 0, turn.tryIdentity(shown) else { return left > 0 }
        defer { turn.dropIdentity(shown) }
        try withScratch { (s2) throws(Errno) in
          var origin = s2.rest
          let isKnown = try self.readOriginNote(shown, into: &origin, s2)
          if isKnown, self.mayBeOpen(origin) { return }
          if !isKnown, !unused, try self.hasNames(shown, s2) { return }
          try self.remove(shown, s2)
        }
        return true
      }
    }
  }

  /// Of a copy that is kept by its names.
  private func hasNames(_ shown: UInt64, _ s: Scratch) throws(Errno) -> Bool {
    var kept = s.real
    try keptPath(shown, into: &kept)
    var st = stat()
    try unsafe check(lx_fstatat(AT_FDCWD, kept.cString, &st, AT_SYMLINK_NOFOLLOW))
    return unsafe st.type != S_IFREG && shownLinks(kept.cString, st.links) > 0
  }

  /// Under the turn of the identity. Its last link, or one that no other name's count has to miss.
  private func remove(_ shown: UInt64, _ s: Scratch) throws(Errno) {
    var kept = s.real
    try keptPath(shown, into: &kept)
    let difference = try unsafe settleLinks(kept.cString)
    try unsafe setLinks(kept.cString, difference + 1, expecting: kept)
    Fault.step()
    _ = unsafe lx_unlinkat(AT_FDCWD, kept.cString, 0)
    Fault.step()
    dropOriginNote(shown, s)
  }
}

extension Registry {
  // A word like a generation's: 1 says that no copy is kept, 2 that some may be; anything else was wiped.
  private static var keptOffset: Int { 120 }

  var saysNoneKept: Bool {
    // What others with another segment kept is not noted here.
    if isSplit { return false }
    let now = unsafe at_load64(word(Registry.keptOffset))
    return now >> 24 == 1 && isValidWord(now, Registry.keptOffset)
  }

  func noteKept() {
    let offset = Registry.keptOffset
    unsafe at_store64(word(offset), 2 << 24 | checkOf(2, offset))
    at_fence()
  }

  /// Whether there is none, as `look` finds: said only if nobody has kept one meanwhile. Who
  /// has another `registry=` makes entries that this one has not heard of.
  func noteNoneKept(_ look: () -> Bool) {
    let offset = Registry.keptOffset
    let now = unsafe at_load64(word(offset))
    if now >> 24 == 2, isValidWord(now, offset) { return }
    guard look() else { return noteKept() }
    _ = unsafe at_cas64(word(offset), now, 1 << 24 | checkOf(1, offset))
  }
}
