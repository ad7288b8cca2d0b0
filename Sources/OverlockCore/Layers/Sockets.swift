import CLinux

/// Sockets with a name. bind(2) makes the node itself, replaces nothing, and remembers the path that it was
/// given for getsockname(2). So over a whiteout it is made under a staging name in `create/` and takes the
/// whiteout's place by one rename; the staging name is the same for every bind to the merged path, and
/// `workdir/overlock/bound/<hash>` is a symbolic link whose text is that path.
extension Overlay {
  /// Has `make` bind a socket to a new name, at the path it is given. Errors: EADDRINUSE the name exists;
  /// as `make`.
  func makeSocket(_ rel: PathView, _ make: (PathBuffer) -> Int) throws(Errno) {
    try changing(rel, missing: true) { (c) throws(Errno) in
      guard c.look.node.kind == .none else { throw Errno(rawValue: EADDRINUSE) }
      let name = NameChange(self, directory: c.look.directory, name: c.look.hash)
      defer { name.end() }
      guard c.look.node.has(Node.whiteout) else {
        try check(make(c.upper))
        return
      }
      var staged = c.s2.staging
      try self.stage(
        .create, turn: c.look.directory, sequence: c.look.hash.a, into: &staged)
      var note = c.s2.link
      try self.boundPath(c.look.hash.a, into: &note)
      var text = c.s2.rest
      try text.append(rel)
      let r = unsafe lx_symlinkat(text.cString, AT_FDCWD, note.cString)
      if r != -Int(EEXIST) { try check(r) }
      try self.removeStaged(staged)
      Fault.step()
      try check(make(staged))
      Fault.step()
      do throws(Errno) {
        var st = stat()
        try unsafe check(lx_fstatat(AT_FDCWD, staged.cString, &st, AT_SYMLINK_NOFOLLOW))
        try self.inherit(staged, directory: false, mode: st.st_mode & 0o7777, rel, c.s)
        try unsafe check(lx_renameat2(AT_FDCWD, staged.cString, AT_FDCWD, c.upper.cString, 0))
      } catch {
        try? self.removeStaged(staged)
        throw error
      }
      Fault.step()
    }
  }

  private func boundPath(_ hash: UInt64, into path: inout PathBuffer) throws(Errno) {
    path.count = 0
    try path.append(work)
    try path.append("/bound/")
    try path.append(hex: hash)
  }

  /// The overlay, and in `rel` the merged path, of the staging name that a socket was bound to.
  static func bound(_ real: PathView, into rel: inout PathBuffer) throws(Errno) -> Overlay? {
    for i in 0..<count {
      let overlay = Overlay(index: i)
      guard overlay.hasUpper, real.isAt(orBelow: overlay.work) else { continue }
      guard WorkFolder.turn(of: real.name) != nil, let hash = hexadecimal(real.name.from(4)) else {
        return nil
      }
      return try withScratch { (s) throws(Errno) -> Overlay? in
        var note = s.real
        try overlay.boundPath(hash, into: &note)
        let n = unsafe lx_readlinkat(
          AT_FDCWD, note.cString,
          UnsafeMutableRawPointer(rel.base).assumingMemoryBound(to: CChar.self), 4096)
        guard n > 0 else { return nil }
        rel.count = n
        return overlay
      }
    }
    return nil
  }
}
