import CLinux

/// Sockets with a name. bind(2) makes the node itself, replaces nothing, and remembers the path that it was
/// given for getsockname(2). So over a whiteout it is made under a staging name in `create/` and takes the
/// whiteout's place by one rename; the staging name is the same for every bind to the merged path.
///
/// `workdir/overlock/sockets/<hash of the path that the kernel has>` is a symbolic link whose text is the
/// path as the program gave it: a peer in any process is told that.
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

  private func socketNote(_ real: PathView, into path: inout PathBuffer) throws(Errno) {
    path.count = 0
    try path.append(work)
    try path.append("/sockets/")
    var hash = PathHash(1, 2)
    unsafe hash.append(real.base, real.count)
    try path.append(hex: hash.a)
    try path.append(hex: hash.b)
  }

  /// Notes the name that a socket was given, by the path that the kernel has.
  func noteSocket(_ real: PathView, named name: PathView, _ s: Scratch) throws(Errno) {
    var note = s.staging
    try socketNote(real, into: &note)
    var text = s.rest
    try text.append(name)
    _ = unsafe lx_unlinkat(AT_FDCWD, note.cString, 0)
    try unsafe check(lx_symlinkat(text.cString, AT_FDCWD, note.cString))
  }

  /// The name that a socket was given. False: none is noted.
  func socketName(_ real: PathView, into name: inout PathBuffer, _ s: Scratch) throws(Errno) -> Bool
  {
    guard hasUpper else { return false }
    var note = s.staging
    try socketNote(real, into: &note)
    let n = unsafe lx_readlinkat(
      AT_FDCWD, note.cString,
      UnsafeMutableRawPointer(name.base).assumingMemoryBound(to: CChar.self), 109)
    guard n > 0 else { return false }
    name.count = n
    return true
  }
}
