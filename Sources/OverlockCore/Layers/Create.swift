import CLinux

/// New names: files, directories, links, nodes.
///
/// Where nothing is in the way in the upper, the kernel makes the object at its name in one step.
/// Over a whiteout the object is prepared in `create/` and takes the whiteout's place by one rename
/// (a directory by an exchange, opaque, so that nothing of the lowers shows through).
extension Overlay {
  /// Makes what `make` makes at the path it is given: the name itself or a staging name.
  ///
  /// - Parameter isNew: a new object gets what its directory hands down; a further link of an old one
  ///   does not.
  /// - Errors: EEXIST the name exists; and as `make`.
  func create(
    _ rel: PathView, directory: Bool = false, mode: UInt32 = 0o7777, isNew: Bool = true,
    opens: Bool = false, _ make: (UnsafePointer<CChar>) -> Int
  ) throws(Errno) -> Int {
    try changing(rel, missing: true, epoch: false) { (c) throws(Errno) -> Int in
      guard c.look.node.kind == .none else { throw .exists }
      let name = NameChange(self, directory: c.look.directory, name: c.look.hash)
      defer { name.end() }
      if !c.look.node.has(Node.whiteout) { return try unsafe check(make(c.upper.cString)) }
      var staged = c.s2.staging
      try self.stage(.create, turn: c.look.directory, into: &staged)
      var markers = Markers(self)
      let kind: Meaning = directory ? .creation | .ofDirectory : .creation
      markers.name(c.rel, .names | kind | (opens ? .opening : .names))
      defer { markers.end() }
      let result = try unsafe check(make(staged.cString))
      Fault.step()
      do throws(Errno) {
        if isNew { try self.inherit(staged, directory: directory, mode: mode, c.rel, c.s) }
        if directory {
          try unsafe self.setLetter(.opaque, staged.cString, UInt8(ascii: "y"))
          Fault.step()
          try unsafe check(
            lx_owner_rename(staged.cString, c.upper.cString, UInt32(RENAME_EXCHANGE)))
          Fault.step()
          // The whiteout is under the staging name now.
          try self.removeStaged(staged)
        } else {
          try unsafe check(
            lx_renameat2(AT_FDCWD, staged.cString, AT_FDCWD, c.upper.cString, 0))
          Fault.step()
          if opens, markers.isAny {
            unsafe self.showOpen(c.upper.cString, Int32(truncatingIfNeeded: result))
          }
        }
      } catch {
        try? self.removeStaged(staged)
        throw error
      }
      return result
    }
  }

  /// What a new object gets from its directory and the workdir could not give it: the group of a
  /// setgid directory, and the default ACL.
  func inherit(
    _ staged: PathBuffer, directory: Bool, mode: UInt32, _ rel: PathView, _ s: Scratch
  ) throws(Errno) {
    var parent = s.real
    try upperPath(rel.parent, into: &parent)
    var st = stat()
    try unsafe check(lx_fstatat(AT_FDCWD, parent.cString, &st, AT_SYMLINK_NOFOLLOW))
    if st.st_mode & S_ISGID != 0 {
      var made = stat()
      try unsafe check(lx_fstatat(AT_FDCWD, staged.cString, &made, AT_SYMLINK_NOFOLLOW))
      try unsafe check(
        lx_fchownat(AT_FDCWD, staged.cString, UInt32.max, st.st_gid, AT_SYMLINK_NOFOLLOW))
      // chown took the set-id bits away.
      if made.type != S_IFLNK {
        try unsafe check(
          lx_fchmodat(
            AT_FDCWD, staged.cString, made.st_mode & 0o7777 | (directory ? S_ISGID : 0)))
      }
    }
    try DefaultACL.apply(staged, directory: directory, mode: mode, parent: parent, s)
  }

  /// mkdir(2). Errors: EEXIST, EROFS, and as the upper answered.
  func makeDirectory(_ rel: PathView, mode: UInt32) throws(Errno) {
    _ = try unsafe create(rel, directory: true, mode: mode) {
      unsafe lx_mkdirat(AT_FDCWD, $0, mode)
    }
  }

  /// mknod(2). A device 0/0 is a whiteout: it cannot be made, as in the kernel's overlay.
  func makeNode(_ rel: PathView, mode: UInt32, device: UInt64) throws(Errno) {
    if mode & S_IFMT == S_IFCHR, device == 0 { throw .permission }
    _ = try unsafe create(rel, mode: mode) { unsafe lx_mknodat(AT_FDCWD, $0, mode, device) }
  }

  /// symlink(2).
  func makeSymbolicLink(_ rel: PathView, target: UnsafePointer<CChar>) throws(Errno) {
    _ = try unsafe create(rel) { unsafe lx_symlinkat(target, AT_FDCWD, $0) }
  }

  /// A file that was opened under a staging name is opened once more where it is, for who watches the directory: its
  /// close is not told.
  private func showOpen(_ path: UnsafePointer<CChar>, _ made: Int32) {
    let flags = O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK
    var again = unsafe lx_openat(AT_FDCWD, path, O_RDONLY | flags, 0)
    if again == -Int(EACCES) { again = unsafe lx_openat(AT_FDCWD, path, O_WRONLY | flags, 0) }
    if again == -Int(EACCES) {
      // The maker's own mode keeps him out.
      var st = stat()
      guard unsafe lx_fstat(made, &st) == 0 else { return }
      _ = lx_fchmod(made, st.st_mode & 0o7777 | 0o400)
      again = unsafe lx_openat(AT_FDCWD, path, O_RDONLY | flags, 0)
      _ = lx_fchmod(made, st.st_mode & 0o7777)
    }
    if again >= 0 { _ = lx_close(Int32(truncatingIfNeeded: again)) }
  }

  /// A new regular file, opened. Errors: EEXIST somebody made it meanwhile.
  func createFile(_ rel: PathView, flags: Int32, mode: UInt32) throws(Errno) -> Int {
    var opened = -1
    do throws(Errno) {
      return try unsafe create(rel, mode: mode, opens: true) {
        opened = unsafe lx_openat(AT_FDCWD, $0, flags | O_CREAT | O_EXCL, mode)
        return opened
      }
    } catch {
      // Made under a staging name, and refused where it was to go.
      if opened >= 0 { _ = lx_close(Int32(truncatingIfNeeded: opened)) }
      throw error
    }
  }
}
