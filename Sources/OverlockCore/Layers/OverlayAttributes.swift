import CLinux

/// The overlay's own xattrs, in the kernel's on-disk format (Documentation/filesystems/overlayfs),
/// under `trusted.overlay.` or `user.overlay.`. Three of ours beside them: `overlock`, the inode number
/// that an object showed before it was copied up; `overlock.foreign`: a directory's copy that is ours
/// although the directory was not; `overlock.lower`, on anchors alone: the lower file's path (the kernel leaves
/// unknown names of its prefix alone and hides them).
enum OverlayAttribute {
  case opaque, redirect, impure, whiteout, origin, foreign, lower

  /// The full name, for the overlay's class of xattrs.
  func name(_ overlay: Overlay) -> UnsafePointer<CChar> {
    let user = overlay.has(OVL_USERXATTR)
    let text: StaticString
    switch self {
    case .opaque: text = user ? "user.overlay.opaque" : "trusted.overlay.opaque"
    case .redirect: text = user ? "user.overlay.redirect" : "trusted.overlay.redirect"
    case .impure: text = user ? "user.overlay.impure" : "trusted.overlay.impure"
    case .whiteout: text = user ? "user.overlay.whiteout" : "trusted.overlay.whiteout"
    case .foreign:
      text = user ? "user.overlay.overlock.foreign" : "trusted.overlay.overlock.foreign"
    case .lower: text = user ? "user.overlay.overlock.lower" : "trusted.overlay.overlock.lower"
    case .origin: text = user ? "user.overlay.overlock" : "trusted.overlay.overlock"
    }
    return unsafe UnsafeRawPointer(text.utf8Start).assumingMemoryBound(to: CChar.self)
  }

  /// Whether a name belongs to the overlay and must stay out of the program's sight.
  static func isHidden(_ name: PathView) -> Bool {
    name.hasPrefix("trusted.overlay.") || name.hasPrefix("user.overlay.")
  }
}

extension Overlay {
  /// First byte of a one-letter attribute ("y", "x"), or 0.
  func letter(_ attribute: OverlayAttribute, _ path: UnsafePointer<CChar>) -> UInt8 {
    var value: (UInt8, UInt8, UInt8, UInt8) = (0, 0, 0, 0)
    let n = unsafe lx_owner_getxattr(path, attribute.name(self), &value, 4)
    return n >= 1 ? value.0 : 0
  }

  func setLetter(_ attribute: OverlayAttribute, _ path: UnsafePointer<CChar>, _ letter: UInt8)
    throws(Errno)
  {
    var value = letter
    try unsafe check(lx_owner_setxattr(path, attribute.name(self), &value, 1))
  }

  /// The shown inode number recorded at copy-up, or 0.
  func origin(_ path: UnsafePointer<CChar>) -> UInt64 {
    var value: UInt64 = 0
    let n = unsafe lx_owner_getxattr(path, OverlayAttribute.origin.name(self), &value, 8)
    return n == 8 ? value : 0
  }

  /// The same, where `path` is a link of /proc that leads to the object.
  func origin(through path: UnsafePointer<CChar>) -> UInt64 {
    var value: UInt64 = 0
    let n = unsafe lx_getxattr(path, OverlayAttribute.origin.name(self), &value, 8, 0)
    return n == 8 ? value : 0
  }

  /// The same, for an object whose type and inode number are known.
  func origin(_ path: UnsafePointer<CChar>, type: UInt32, inode: UInt64) -> UInt64 {
    guard hasNotes(type: type) else { return unsafe origin(path) }
    return unsafe note(path, inode: inode)?.shown ?? 0
  }

  /// Records the inode number that the object goes on showing. An object that takes neither an xattr
  /// nor a note is left with its own number.
  func setOrigin(_ path: UnsafePointer<CChar>, _ ino: UInt64) throws(Errno) {
    if has(OVL_NO_XATTRS) { return }
    var value = ino
    let r = unsafe lx_owner_setxattr(path, OverlayAttribute.origin.name(self), &value, 8)
    if r == -Int(EPERM), has(OVL_USERXATTR) {
      do throws(Errno) {
        try unsafe setNote(path) { $0.shown = ino }
      } catch {
        guard error == .permission else { throw error }
      }
      return
    }
    if r == -Int(EPERM) || r == -Int(EOPNOTSUPP) { return }
    try check(r)
  }
}
