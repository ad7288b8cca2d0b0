import CLinux

/// The default ACL of a directory, for an object that was made elsewhere and moved in (acl(5),
/// "object creation and default ACLs").
enum DefaultACL {
  private static func name(_ access: Bool) -> UnsafePointer<CChar> {
    let text: StaticString =
      access ? "system.posix_acl_access" : "system.posix_acl_default"
    return unsafe UnsafeRawPointer(text.utf8Start).assumingMemoryBound(to: CChar.self)
  }

  /// Gives the staged object the directory's default ACL as its access ACL, cut down by the mode that
  /// it was made with; a directory inherits the default ACL too.
  static func apply(
    _ staged: PathBuffer, directory: Bool, mode requested: UInt32, parent: PathBuffer, _ s: Scratch
  ) throws(Errno) {
    let n = unsafe lx_getxattr(parent.cString, name(false), s.spare, 8192, 1)
    if n <= 4 { return }
    var st = stat()
    let path = unsafe staged.cString
    try unsafe check(lx_fstatat(AT_FDCWD, path, &st, AT_SYMLINK_NOFOLLOW))
    if st.type == S_IFLNK { return }
    if directory { try unsafe check(lx_setxattr(path, name(false), s.spare, n, 0, 1)) }
    // struct posix_acl_xattr_entry { u16 tag, u16 permissions, u32 id } after a u32 version. The
    // umask does not count where there is a default ACL: the owner, mask (or group) and other entries
    // are cut down by the mode that was asked for.
    let base = unsafe UnsafeMutableRawPointer(s.spare)
    var hasMask = false
    var offset = 4
    while offset + 8 <= n {
      if unsafe base.loadUnaligned(fromByteOffset: offset, as: UInt16.self) == 0x10 {
        hasMask = true
      }
      offset += 8
    }
    offset = 4
    while offset + 8 <= n {
      let tag = unsafe base.loadUnaligned(fromByteOffset: offset, as: UInt16.self)
      let bits = unsafe base.loadUnaligned(fromByteOffset: offset + 2, as: UInt16.self)
      let mode = UInt16(truncatingIfNeeded: requested)
      var cut: UInt16 = 7
      switch tag {
      case 0x01: cut = mode >> 6 & 7
      case 0x04: cut = hasMask ? 7 : mode >> 3 & 7
      case 0x10: cut = mode >> 3 & 7
      case 0x20: cut = mode & 7
      default: break
      }
      unsafe base.storeBytes(of: bits & cut, toByteOffset: offset + 2, as: UInt16.self)
      offset += 8
    }
    try unsafe check(lx_setxattr(path, name(true), s.spare, n, 0, 1))
  }
}
