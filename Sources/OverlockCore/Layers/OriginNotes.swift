import CLinux

/// What the overlay keeps of upper objects that take no xattr of its class: user.* exists on files and
/// directories only (xattr(7)), and without root symbolic links and special files have nothing else.
///
/// `workdir/overlock/origins/<inode>` is a symbolic link whose text is the object's birth, the inode
/// number that it shows, and its value of the link count's xattr, all in hexadecimal. A note of an
/// inode number's former owner is told by the birth; where the file system keeps none there are no
/// notes, and such an object shows its own number after copy-up.
///
/// A note is replaced by one rename, under the turn that the object's change holds.
struct OriginNote {
  var shown: UInt64 = 0
  /// The bytes of the xattr `nlink`.
  var links: InlineArray<24, UInt8> = InlineArray(repeating: 0)
  var linksCount = 0
}

extension Overlay {
  private func notePath(_ inode: UInt64, into path: inout PathBuffer) throws(Errno) {
    path.count = 0
    try path.append(work)
    try path.append("/origins/")
    try path.append(hex: inode)
  }

  /// Whether objects of that type have notes in place of xattrs.
  @inline(__always) func hasNotes(type: UInt32) -> Bool {
    has(OVL_USERXATTR) && type != S_IFREG && type != S_IFDIR
  }

  /// The note of the object at a path; nil: there is none.
  func note(_ path: UnsafePointer<CChar>, nofollow: Int32 = 1) -> OriginNote? {
    var inode: UInt64 = 0
    var birth: UInt64 = 0
    var type: UInt32 = 0
    let flags = nofollow != 0 ? AT_SYMLINK_NOFOLLOW : 0
    guard unsafe lx_birth(path, flags, &inode, &birth, &type) == 0, birth != 0,
      hasNotes(type: type)
    else { return nil }
    return note(inode: inode, birth: birth)
  }

  /// The same, of an object whose inode number is known: one call where there is no note.
  func note(_ path: UnsafePointer<CChar>, inode: UInt64) -> OriginNote? {
    var none = true
    try? withScratch { (s) throws(Errno) in
      var entry = s.real
      try self.notePath(inode, into: &entry)
      var letter: CChar = 0
      none = unsafe lx_readlinkat(AT_FDCWD, entry.cString, &letter, 1) < 0
    }
    return none ? nil : unsafe note(path)
  }

  private func note(inode: UInt64, birth: UInt64) -> OriginNote? {
    var note: OriginNote? = nil
    try? withScratch { (s) throws(Errno) in
      var path = s.real
      try self.notePath(inode, into: &path)
      let text = s.link
      let n = unsafe lx_readlinkat(
        AT_FDCWD, path.cString,
        UnsafeMutableRawPointer(text.base).assumingMemoryBound(to: CChar.self), 128)
      guard n >= 32, n <= 80, n % 2 == 0 else { return }
      let view = text.unchecked(count: n).view
      guard hexadecimalDigits(view.prefix(16)) == birth,
        let shown = hexadecimalDigits(view.from(16).prefix(16))
      else { return }
      var found = OriginNote()
      found.shown = shown
      found.linksCount = (n - 32) / 2
      for i in 0..<found.linksCount {
        guard let byte = hexadecimalDigits(view.from(32 + 2 * i).prefix(2)) else { return }
        found.links[i] = UInt8(truncatingIfNeeded: byte)
      }
      note = found
    }
    return note
  }

  /// Writes the note of the object at a path. Errors: EPERM such an object has none; and as symlink(2)
  /// and rename(2).
  func setNote(
    _ path: UnsafePointer<CChar>, _ change: (inout OriginNote) -> Void
  ) throws(Errno) {
    var inode: UInt64 = 0
    var birth: UInt64 = 0
    var type: UInt32 = 0
    try unsafe check(lx_birth(path, AT_SYMLINK_NOFOLLOW, &inode, &birth, &type))
    guard birth != 0, hasNotes(type: type) else { throw .permission }
    var note = self.note(inode: inode, birth: birth) ?? OriginNote()
    change(&note)
    try withScratch { (s) throws(Errno) in
      var entry = s.real
      try self.notePath(inode, into: &entry)
      var staged = s.real2
      try staged.append(entry.view)
      try staged.append(".new")
      var text = s.link
      try text.append(hex: birth)
      try text.append(hex: note.shown)
      for i in 0..<note.linksCount { try text.append(hex: UInt64(note.links[i]), digits: 2) }
      _ = unsafe lx_unlinkat(AT_FDCWD, staged.cString, 0)
      try unsafe check(lx_symlinkat(text.cString, AT_FDCWD, staged.cString))
      try unsafe check(lx_renameat2(AT_FDCWD, staged.cString, AT_FDCWD, entry.cString, 0))
    }
  }

  /// Drops the note of an object that has lost its last name.
  func dropNote(inode: UInt64) {
    try? withScratch { (s) throws(Errno) in
      var path = s.real
      try self.notePath(inode, into: &path)
      _ = unsafe lx_unlinkat(AT_FDCWD, path.cString, 0)
    }
  }
}

/// Parses lower-case hexadecimal digits; nil where there is anything else.
private func hexadecimalDigits(_ text: PathView) -> UInt64? {
  guard text.count > 0, text.count <= 16 else { return nil }
  var value: UInt64 = 0
  for i in 0..<text.count {
    let c = text[i]
    switch c {
    case 48...57: value = value << 4 | UInt64(c - 48)
    case 97...102: value = value << 4 | UInt64(c - 87)
    default: return nil
    }
  }
  return value
}
