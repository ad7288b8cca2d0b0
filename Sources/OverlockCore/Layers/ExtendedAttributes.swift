import CLinux

/// Copying extended attributes between two paths, links not followed.
enum ExtendedAttributes {
  /// Copies all but the overlay's own. What the target's file system or our rights refuse in the
  /// `security` and `trusted` classes is left, as cp(1) does.
  static func copy(_ to: UnsafePointer<CChar>, from: UnsafePointer<CChar>, _ s: Scratch)
    throws(Errno)
  {
    let listed = unsafe lx_listxattr(
      from, UnsafeMutableRawPointer(s.spare).assumingMemoryBound(to: CChar.self),
      Scratch.spareSize, 1)
    if listed == -Int(EOPNOTSUPP) || listed == 0 { return }
    try check(listed)
    let capacity = 65536
    guard
      let value = unsafe lx_mmap(
        capacity, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1)
    else { throw .noMemory }
    defer { _ = unsafe lx_munmap(value, capacity) }
    var offset = 0
    while offset < listed {
      let name = unsafe UnsafeRawPointer(s.spare + offset).assumingMemoryBound(to: CChar.self)
      let view = unsafe PathView(name)
      offset += view.count + 1
      if OverlayAttribute.isHidden(view) { continue }
      let n = unsafe lx_owner_getxattr(from, name, value, capacity)
      if n == -Int(ENODATA) { continue }
      try check(n)
      let r = unsafe lx_setxattr(to, name, value, n, 0, 1)
      if r < 0, view.hasPrefix("security.") || view.hasPrefix("trusted.") { continue }
      if r == -Int(EOPNOTSUPP) { continue }
      try check(r)
    }
  }

  /// Removes all that may be removed.
  static func clear(_ path: UnsafePointer<CChar>, _ s: Scratch) {
    let listed = unsafe lx_listxattr(
      path, UnsafeMutableRawPointer(s.spare).assumingMemoryBound(to: CChar.self),
      Scratch.spareSize, 1)
    var offset = 0
    while offset < listed {
      let name = unsafe UnsafeRawPointer(s.spare + offset).assumingMemoryBound(to: CChar.self)
      offset += unsafe PathView(name).count + 1
      _ = unsafe lx_removexattr(path, name, 1)
    }
  }
}
