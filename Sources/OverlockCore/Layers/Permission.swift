import CLinux

/// What the kernel refuses on a plain directory, asked of lower objects before they are copied up.
///
/// The copy of somebody else's object is ours, and of ours the kernel refuses nothing. The right to
/// search, read and write is the kernel's own answer (faccessat2); ownership is compared here. Upper
/// objects are left to the kernel, which meets them in the call itself.
enum Permission {
  private static var capFowner: UInt32 { 3 }

  /// Whether the process may do what is the owner's alone (inode_owner_or_capable).
  static func isOwner(_ uid: UInt32) -> Bool {
    uid == UInt32(truncatingIfNeeded: lx_geteuid()) || lx_capable(capFowner) != 0
  }

  /// Whether the real object may be accessed so. A lower on a read-only file system is written in the
  /// upper.
  static func access(_ real: UnsafePointer<CChar>, _ mode: Int32) throws(Errno) {
    let r = unsafe lx_faccessat2(AT_FDCWD, real, mode, AT_EACCESS | AT_SYMLINK_NOFOLLOW)
    if r != -Int(EROFS) { try check(r) }
  }

  /// - Parameter intent: of `OVL_OWNER`, `OVL_WRITER`, `OVL_TOUCH`: who may change the object so.
  /// - Errors: EPERM, EACCES: not this process.
  static func ask(_ intent: UInt32, _ real: UnsafePointer<CChar>) throws(Errno) {
    guard intent & UInt32(OVL_OWNER | OVL_TOUCH | OVL_WRITER) != 0 else { return }
    var st = stat()
    try unsafe check(lx_fstatat(AT_FDCWD, real, &st, AT_SYMLINK_NOFOLLOW))
    if intent & UInt32(OVL_WRITER) != 0 {
      // Of the user.* class (fs/xattr.c, xattr_permission).
      guard st.type == S_IFREG || st.type == S_IFDIR else { throw .permission }
      if st.type == S_IFDIR, st.st_mode & S_ISVTX != 0, !isOwner(st.st_uid) { throw .permission }
      try unsafe access(real, W_OK)
      return
    }
    if isOwner(st.st_uid) { return }
    if intent & UInt32(OVL_OWNER) != 0 { throw .permission }
    try unsafe access(real, W_OK)
  }

  /// In a sticky directory only the owner of the object or of the directory may remove a name.
  static func checkSticky(directory: stat, object: stat) throws(Errno) {
    if directory.st_mode & S_ISVTX == 0 { return }
    let uid = UInt32(truncatingIfNeeded: lx_geteuid())
    if directory.st_uid == uid || object.st_uid == uid { return }
    if lx_capable(capFowner) == 0 { throw .permission }
  }
}

extension Overlay {
  /// The error that the kernel would meet first: what the directory of a name refuses comes before what
  /// is wrong with the object (fs/namei.c, may_delete).
  func refusal(_ rel: PathView, else error: Errno) -> Errno {
    if rel.isEmpty || lx_geteuid() == 0 { return error }
    do throws(Errno) {
      try withScratch { (s) throws(Errno) in
        try self.mayChange(rel.parent, s)
        var merge = Merge(self, s)
        let look = try self.lookup(rel, s, merge: &merge)
        if look.isWhole, look.node.kind != .none { try self.checkSticky(rel, s) }
      }
    } catch let refused {
      if refused == .access || refused == .permission { return refused }
    }
    return error
  }

  /// Whether a real directory is our copy of somebody else's.
  func isForeign(_ real: UnsafePointer<CChar>) -> Bool {
    unsafe has(OVL_USERXATTR) && letter(.foreign, real) == UInt8(ascii: "y")
  }

  /// Whether names may be made and removed in a directory. Errors: EACCES.
  func mayChange(_ directory: PathView, _ s: Scratch) throws(Errno) {
    var merge = Merge(self, s)
    let look = try lookup(directory, s, merge: &merge)
    guard look.isWhole, look.node.kind == .directory else { return }
    try unsafe Permission.access(s.real2.unterminated, W_OK | X_OK)
    guard unsafe isForeign(s.real2.unterminated), look.node.layer == 0, merge.count > 1 else {
      return
    }
    // The copy is ours: what it is a copy of decides.
    var lower = s.real
    try merge.realPath(1, into: &lower)
    try unsafe Permission.access(lower.cString, W_OK | X_OK)
  }

  /// Whether a sticky directory lets the name go, whose real path is in `s.real2`. The kernel cannot
  /// check it where all that it sees is a whiteout's arrival, or a copy that is ours.
  func checkSticky(_ rel: PathView, _ s: Scratch) throws(Errno) {
    var object = stat()
    try unsafe check(
      lx_fstatat(AT_FDCWD, s.real2.unterminated, &object, AT_SYMLINK_NOFOLLOW))
    if object.st_uid == UInt32(truncatingIfNeeded: lx_geteuid()) { return }
    try withScratch { (s2) throws(Errno) in
      var merge = Merge(self, s2)
      let look = try self.lookup(rel.parent, s2, merge: &merge)
      guard look.isWhole, look.node.kind == .directory else { return }
      var directory = stat()
      try unsafe check(
        lx_fstatat(AT_FDCWD, s2.real2.unterminated, &directory, AT_SYMLINK_NOFOLLOW))
      if unsafe self.isForeign(s2.real2.unterminated), look.node.layer == 0, merge.count > 1 {
        var lower = s2.real
        try merge.realPath(1, into: &lower)
        try unsafe check(lx_fstatat(AT_FDCWD, lower.cString, &directory, AT_SYMLINK_NOFOLLOW))
      }
      try Permission.checkSticky(directory: directory, object: object)
    }
  }
}
