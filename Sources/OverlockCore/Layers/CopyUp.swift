import CLinux

/// Copy-up: giving a lower object its place in the upper, with everything it has.
///
/// The order is the crash safety: the copy is complete under a staging name before one rename shows
/// it. At any step before, the merged tree shows the lower object; after it, the upper one; and both
/// are the same object to the program.
extension Overlay {
  /// Sees to it that the directory of `rel` is in the upper.
  ///
  /// - Parameter changing: a name in it is about to be made or removed: refused where the lower
  ///   directory refuses it, since its copy may be ours.
  func copyUpParents(_ rel: PathView, changing: Bool = false) throws(Errno) {
    let parent = rel.parent
    if standsInUpper(parent) { return }
    try withScratch { (s) throws(Errno) in
      var path = s.real
      try self.upperPath(parent, into: &path)
      var st = stat()
      let r = unsafe lx_fstatat(AT_FDCWD, path.cString, &st, AT_SYMLINK_NOFOLLOW)
      if r == 0, st.type == S_IFDIR {
        if changing, unsafe self.isForeign(path.cString) { try self.mayChange(parent, s) }
        return
      }
      if changing, lx_geteuid() != 0 {
        var merge = Merge(self, s)
        let look = try self.lookup(parent, s, merge: &merge)
        if look.isWhole, look.node.kind == .directory, look.node.layer > 0 {
          let r = unsafe lx_faccessat2(
            AT_FDCWD, s.real2.unterminated, W_OK | X_OK, AT_EACCESS)
          if r != -Int(EROFS) { try check(r) }
        }
        try self.upperPath(parent, into: &path)
      }
      var end = 0
      while end < parent.count {
        while end < parent.count, parent[end] != slash { end += 1 }
        let ancestor = parent.prefix(end)
        try self.upperPath(ancestor, into: &path)
        let r = unsafe lx_fstatat(AT_FDCWD, path.cString, &st, AT_SYMLINK_NOFOLLOW)
        if r != 0 || st.type != S_IFDIR {
          try self.copyUp(ancestor, truncate: false, parents: false)
        }
        end += 1
      }
    }
  }

  /// Whether the cache knows the directory to be in the upper, and nobody but the kernel can refuse a
  /// change in it.
  func standsInUpper(_ directory: PathView) -> Bool {
    if directory.isEmpty { return true }
    guard !has(OVL_USERXATTR), let node = cachedNode(directory) else { return false }
    return node.kind == .directory && node.layer == 0
  }

  /// Copies the object at `rel` up, if it still is on a lower.
  ///
  /// - Parameters:
  ///   - truncate: its data is about to be thrown away: copy none.
  ///   - writing: its data is about to be changed: ETXTBSY if it is a program that runs.
  ///   - watched: only if somebody watches it through the overlay.
  /// - Errors: ENOENT it is gone; EROFS no upper; EINTR while a lease was waited for; ENOSPC, EIO, EACCES… as the
  ///   layers answered: then nothing has changed.
  func copyUp(
    _ rel: PathView, truncate: Bool, writing: Bool = false, parents: Bool = true,
    watched: Bool = false
  ) throws(Errno) {
    guard hasUpper else { throw .readOnly }
    if parents { try copyUpParents(rel) }
    for _ in 0..<8 {
      do throws(Errno) {
        return try copyUpNow(rel, truncate: truncate, writing: writing, watched: watched)
      } catch {
        if error != .again { throw error }
      }
      try waitForReaders(rel)
    }
    throw .again
  }

  /// Somebody has a write lease on a lower object, which is to be read: as for any reader he is asked for it, and
  /// waited for. Errors: EINTR.
  private func waitForReaders(_ rel: PathView) throws(Errno) {
    try withScratch { (s) throws(Errno) in
      var merge = Merge(self, s)
      let look = try self.lookup(rel, s, fresh: true, merge: &merge)
      if look.isWhole, look.node.kind == .file, look.node.layer > 0 {
        try unsafe LeaseBreaker.run(s.real2.unterminated, O_RDONLY)
      }
    }
  }

  private func copyUpNow(
    _ rel: PathView, truncate: Bool, writing: Bool, watched: Bool
  ) throws(Errno) {
    try withScratch { (s) throws(Errno) in
      try withScratch { (s2) throws(Errno) in
        var merge = Merge(self, s)
        var look = try self.lookup(rel, s, fresh: true, merge: &merge)
        guard look.isWhole, look.node.kind != .none else { throw .noEntry }
        if look.node.layer == 0 { return }
        var st = stat()
        try unsafe check(
          lx_fstatat(AT_FDCWD, s.real2.unterminated, &st, AT_SYMLINK_NOFOLLOW))
        let shown = self.shownInode(st.inode, layer: look.node.layer)
        var turn = try Turn(self, s2)
        defer { turn.release() }
        try turn.takeIdentity(shown)
        // Somebody may have been first.
        look = try self.lookup(rel, s, fresh: true, merge: &merge)
        guard look.isWhole, look.node.kind != .none else { throw .noEntry }
        if look.node.layer == 0 { return }
        var source = s.rest
        try source.append(s.real2.written.view)
        try unsafe check(lx_fstatat(AT_FDCWD, source.cString, &st, AT_SYMLINK_NOFOLLOW))
        let isRunning = self.isRunning(source, mode: st.st_mode)
        if isRunning, writing { throw .textBusy }
        var staged = s2.staging
        try self.anchorPath(shown, into: &staged)
        let anchor =
          st.type == S_IFREG && !self.saysNoAnchors ? try Anchor(self, shown, of: source) : nil
        let isWatched =
          if let anchor, st.st_nlink == 1 { self.isWatched(anchor) } else { false }
        if watched, !isWatched { return }
        // What is there was left by a dead process: we hold the identity's turn.
        try anchor?.reclaim(staged)
        try self.removeAnchor(staged)
        Fault.step()
        // The lower is read for the copy alone.
        var markers = Markers(self)
        if st.type == S_IFREG || st.type == S_IFDIR { markers.name(rel, .reading) }
        defer { markers.end() }
        if let anchor, isWatched,
          try self.copyUpInPlace(
            anchor, rel, from: source, st, look, staged, &turn, isRunning: isRunning)
        {
          return
        }
        let taken = try anchor?.take(as: staged)
        do throws(Errno) {
          try self.fill(
            staged, from: source, st, truncate: truncate, shown: shown, anchor: taken, s2)
          Fault.step()
          if isRunning { try self.noteOrigin(.running, shown, at: source) }
          if st.type == S_IFIFO || st.type == S_IFSOCK {
            try self.noteOrigin(.meeting, shown, at: source)
          }
          // Whoever locks the lower object from here on sees that something was copied up, and looks
          // whether it was this; what was locked before is found here.
          if st.type == S_IFREG || st.type == S_IFDIR {
            self.registry?.noteCopyUp()
            try self.contestOnCopyUp(shown, st, origin: source, s2)
            Fault.step()
          }
          try self.publish(rel, staged, st, look, shown, &turn, s2)
        } catch {
          if let anchor, taken != nil {
            try? anchor.giveBack(staged)
          } else {
            try? self.removeAnchor(staged)
          }
          throw error
        }
      }
    }
  }

  /// Makes the copy under its staging name.
  ///
  /// - Parameter anchor: the file that already is there, open for writing; closed here. Its data is kept also
  ///   where it is about to be thrown away, which its mappings must not see unless it happens.
  func fill(
    _ staged: PathBuffer, from source: PathBuffer, _ st: stat, truncate: Bool, shown: UInt64,
    anchor: Int32?, _ s: Scratch
  ) throws(Errno) {
    let to = unsafe staged.cString
    let from = unsafe source.cString
    switch st.type {
    case S_IFREG where anchor != nil:
      let out = anchor ?? -1
      defer { _ = lx_close(out) }
      Fault.step()
      try Anchor.refresh(out, from: source, st, s)
    case S_IFREG:
      let out = try unsafe check(
        lx_openat(AT_FDCWD, to, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC | O_NOFOLLOW, 0o600))
      let outFD = Int32(truncatingIfNeeded: out)
      defer { _ = lx_close(outFD) }
      Fault.step()
      if !truncate, st.st_size > 0 {
        let borrowed = ownWriteLease(shown, st)
        _ = try Apart.run { () throws(Errno) in
          try unsafe DataCopy.copy(from, borrowed: borrowed, to: outFD, size: st.st_size, s)
          return 0
        }
      }
    case S_IFDIR:
      try unsafe check(lx_mkdirat(AT_FDCWD, to, 0o700))
    case S_IFLNK:
      var link = s.link
      let n = try unsafe check(
        lx_readlinkat(
          AT_FDCWD, from, UnsafeMutableRawPointer(link.base).assumingMemoryBound(to: CChar.self),
          4096))
      link.count = n
      try unsafe check(lx_symlinkat(link.cString, AT_FDCWD, to))
    default:
      try unsafe check(lx_mknodat(AT_FDCWD, to, st.st_mode & (S_IFMT | 0o600), UInt64(st.st_rdev)))
    }
    Fault.step()
    try unsafe copyAttributes(to, from: from, st, shown: shown, s)
    Fault.step()
    try unsafe copyTimes(
      to, st, now: truncate && anchor == nil && st.type == S_IFREG && st.st_size > 0)
  }

  /// Owner, xattrs (ACLs and capabilities among them), mode, in this order: chown drops
  /// capabilities and set-id bits.
  func copyAttributes(
    _ to: UnsafePointer<CChar>, from: UnsafePointer<CChar>, _ st: stat, shown: UInt64,
    _ s: Scratch
  ) throws(Errno) {
    let r = unsafe lx_fchownat(AT_FDCWD, to, st.st_uid, st.st_gid, AT_SYMLINK_NOFOLLOW)
    // Without the right to give files away the copy is ours, as if we had written a new file.
    var mode = st.st_mode & 0o7777
    if r == -Int(EPERM) {
      // What somebody else's set-id bits gave, ours must not (cp(1) does the same).
      if st.type == S_IFREG { mode &= ~(S_ISUID | S_ISGID) }
      if st.type == S_IFDIR { try unsafe setLetter(.foreign, to, UInt8(ascii: "y")) }
      _ = unsafe lx_fchownat(AT_FDCWD, to, UInt32.max, st.st_gid, AT_SYMLINK_NOFOLLOW)
    } else {
      try check(r)
    }
    try unsafe ExtendedAttributes.copy(to, from: from, s)
    // Before the mode: xattrs may need the owner's right to write.
    try unsafe setOrigin(to, shown)
    Fault.step()
    if st.type != S_IFLNK { try unsafe check(lx_fchmodat(AT_FDCWD, to, mode)) }
  }

  /// - Parameter now: data went: it was modified just now.
  func copyTimes(_ to: UnsafePointer<CChar>, _ st: stat, now: Bool = false) throws(Errno) {
    var st = st
    var times = unsafe (lx_atime(&st), lx_mtime(&st))
    // UTIME_NOW, whose macro has a cast that Swift does not import.
    if now { times.1.tv_nsec = (1 << 30) - 1 }
    _ = try unsafe withUnsafePointer(to: &times) { (p) throws(Errno) in
      try unsafe check(
        lx_utimensat(
          AT_FDCWD, to, UnsafeRawPointer(p).assumingMemoryBound(to: timespec.self),
          AT_SYMLINK_NOFOLLOW))
    }
  }

  /// One rename, under the directory's turn, and the parent's times put back.
  func publish(
    _ rel: PathView, _ staged: PathBuffer, _ st: stat, _ look: Lookup, _ shown: UInt64,
    _ turn: inout Turn, _ s: Scratch
  ) throws(Errno) {
    let linked = st.type != S_IFDIR && st.st_nlink > 1
    // The other names of a hard-link group change their place with this one.
    if linked { try turn.takeEpoch() }
    if try turn.take(look.directory) { turn.sweep(look.directory) }
    var upper = s.real
    try upperPath(rel, into: &upper)
    var parent = s.real2
    try upperPath(rel.parent, into: &parent)
    var before = stat()
    try unsafe check(lx_fstatat(AT_FDCWD, parent.cString, &before, AT_SYMLINK_NOFOLLOW))
    var markers = Markers(self)
    markers.name(rel, .names)
    markers.attributes(of: rel.parent)
    defer { markers.end() }
    try markImpure(parent)
    Fault.step()
    let change = NameChange(self, directory: look.directory, name: look.hash)
    defer { change.end() }
    // Here too: who finds the lower object in the cache has read the count before the name's generation
    // (`FastPath`), and hears of the rename although we die right after it.
    registry?.noteCopyUp()
    if linked {
      try enterIndex(staged, shown: shown, names: UInt64(st.st_nlink), s)
      Fault.step()
    }
    // A change of an object needs no right to write its directory, its copy's arrival does.
    var r = unsafe lx_owner_rename(staged.cString, upper.cString, UInt32(RENAME_NOREPLACE))
    if r == -Int(EACCES), st.type == S_IFDIR, st.st_mode & 0o200 == 0 {
      r = renameReadOnly(rel, staged, upper, mode: st.st_mode & 0o7777, shown, s)
    }
    if r == -Int(EEXIST) { throw .noEntry }
    try check(r)
    Fault.step()
    try? unsafe copyTimes(parent.cString, before)
    registry?.noteCopyUp()
  }

  /// A directory that its owner may not write cannot be renamed by an unprivileged owner. It gets the
  /// right for the time of the rename, and a note in the workdir says which mode it is to have.
  private func renameReadOnly(
    _ rel: PathView, _ staged: PathBuffer, _ upper: PathBuffer, mode: UInt32, _ shown: UInt64,
    _ s: Scratch
  ) -> Int {
    do throws(Errno) {
      var note = s.here
      try modeNote(shown, into: &note)
      var text = s.link
      try text.append(decimal: UInt64(mode))
      try text.append(UInt8(ascii: ":"))
      try text.append(rel)
      _ = unsafe lx_unlinkat(AT_FDCWD, note.cString, 0)
      try unsafe check(lx_symlinkat(text.cString, AT_FDCWD, note.cString))
      registry?.countPendingModes(1)
      Fault.step()
      _ = unsafe lx_fchmodat(AT_FDCWD, staged.cString, mode | 0o200)
      Fault.step()
      let r = unsafe lx_renameat2(
        AT_FDCWD, staged.cString, AT_FDCWD, upper.cString, UInt32(RENAME_NOREPLACE))
      Fault.step()
      if r == 0 { _ = unsafe lx_fchmodat(AT_FDCWD, upper.cString, mode) }
      Fault.step()
      _ = unsafe lx_unlinkat(AT_FDCWD, note.cString, 0)
      registry?.countPendingModes(-1)
      return r
    } catch {
      return error.result
    }
  }

  private func modeNote(_ shown: UInt64, into path: inout PathBuffer) throws(Errno) {
    try anchorPath(shown, into: &path)
    try path.append(WorkFolder.modeSuffix)
  }

  /// Gives a directory the mode that a dead process could not give it any more. Under the turn of the
  /// identity.
  func settleMode(_ note: PathBuffer, _ shown: UInt64) throws(Errno) {
    try withScratch { (s) throws(Errno) in
      var text = s.link
      text.count = try unsafe check(
        lx_readlinkat(
          AT_FDCWD, note.cString,
          UnsafeMutableRawPointer(text.base).assumingMemoryBound(to: CChar.self), 4096))
      var end = 0
      while end < text.count, text.view[end] != UInt8(ascii: ":") { end += 1 }
      if end < text.count, let mode = decimal(text.view.prefix(end)), mode & ~0o7777 == 0 {
        var upper = s.real
        try self.upperPath(text.view.from(end + 1), into: &upper)
        var st = stat()
        let path = unsafe upper.cString
        if unsafe lx_fstatat(AT_FDCWD, path, &st, AT_SYMLINK_NOFOLLOW) == 0, st.type == S_IFDIR,
          st.st_mode & 0o7777 == UInt32(mode) | 0o200,
          unsafe self.has(OVL_NO_XATTRS) || self.origin(path) == shown
        {
          try unsafe check(lx_fchmodat(AT_FDCWD, path, UInt32(mode)))
        }
      }
      Fault.step()
      try self.removeStaged(note)
      self.registry?.countPendingModes(-1)
    }
  }

  /// Does what a dead process left undone of the modes of directories, if anything.
  func settleModes() {
    guard let registry, registry.hasPendingModes else { return }
    let seen = registry.pendingModes
    try? withScratch { (s) throws(Errno) in
      let turn = try Turn(self, s)
      defer { turn.release() }
      if !self.sweepAnchors(turn) { registry.forgetPendingModes(seen) }
    }
  }

  /// The kernel's mark of a directory with objects whose inode numbers are not their own.
  func markImpure(_ parent: PathBuffer) throws(Errno) {
    if has(OVL_NO_XATTRS) { return }
    let path = unsafe parent.cString
    if unsafe letter(.impure, path) == UInt8(ascii: "y") { return }
    try unsafe setLetter(.impure, path, UInt8(ascii: "y"))
  }
}
