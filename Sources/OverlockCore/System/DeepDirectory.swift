import CLinux

/// The path of a directory that is too deep for the kernel to name it (getcwd(2) and /proc stop at PATH_MAX):
/// its name is looked for in the directory above, and that one's in the next, until the kernel can name
/// one.
enum DeepDirectory {
  /// Writes the path of a directory. Errors: ENAMETOOLONG deeper than `OVL_DEEP_MAX`; ENOENT a directory on the
  /// way was removed; EACCES one may not be read; as open(2).
  ///
  /// - Parameter start: a directory's descriptor, or AT_FDCWD.
  static func path(of start: Int32, into path: inout PathBuffer) throws(Errno) {
    try withScratch { (s) throws(Errno) in
      // The names, last one first, at the end of the buffer.
      let names = s.real2
      var at = names.capacity
      var here = try open(start, ".")
      defer { _ = lx_close(here) }
      while true {
        var st = stat()
        try unsafe check(lx_fstat(here, &st))
        let above = try open(here, "..")
        _ = lx_close(here)
        here = above
        let length = try name(of: st, in: above, s)
        let name = s.link.unchecked(count: length)
        guard at > length + 1 else { throw .nameTooLong }
        at -= length + 1
        unsafe names.base[at] = slash
        unsafe copyBytes(names.base + at + 1, UnsafePointer(name.base), length)
        var link = s.staging
        let n = try text(above, into: &link)
        if n == -Int(ENAMETOOLONG) { continue }
        path.count = 0
        // The root has its slash already.
        if n > 1 { try path.append(link.unchecked(count: n).view) }
        let rest = unsafe PathView(UnsafePointer(names.base) + at, names.capacity - at)
        guard path.count + rest.count <= Int(OVL_DEEP_MAX) else { throw .nameTooLong }
        return try path.append(rest)
      }
    }
  }

  private static func open(_ directory: Int32, _ name: StaticString) throws(Errno) -> Int32 {
    let text = unsafe UnsafeRawPointer(name.utf8Start).assumingMemoryBound(to: CChar.self)
    return try unsafe Int32(
      truncatingIfNeeded: check(
        lx_openat(directory, text, O_PATH | O_DIRECTORY | O_CLOEXEC, 0)))
  }

  /// What the kernel says, or -errno.
  private static func text(_ fd: Int32, into link: inout PathBuffer) throws(Errno) -> Int {
    var own = link
    own.count = 0
    try own.append("/proc/self/fd/")
    try own.append(decimal: UInt64(fd))
    let path = unsafe own.cString
    let n = unsafe lx_readlinkat(
      AT_FDCWD, path, UnsafeMutableRawPointer(link.base).assumingMemoryBound(to: CChar.self), 4096)
    if n != -Int(ENAMETOOLONG) { try check(n) }
    return n
  }

  /// Writes the name of the directory in the one above to `s.link`, and gives its length.
  private static func name(of st: stat, in above: Int32, _ s: Scratch) throws(Errno) -> Int {
    let opened = try unsafe check(lx_openat(above, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0))
    let fd = Int32(truncatingIfNeeded: opened)
    defer { _ = lx_close(fd) }
    var own = stat()
    try unsafe check(lx_fstat(fd, &own))
    var length = 0
    try DirectoryReader.each(fd, s) { (name, inode, _) throws(Errno) in
      // A mount point's number here is that of what it covers.
      if inode != st.inode, own.device == st.device { return true }
      var found = stat()
      let path = unsafe UnsafeRawPointer(name.base).assumingMemoryBound(to: CChar.self)
      guard unsafe lx_fstatat(fd, path, &found, AT_SYMLINK_NOFOLLOW) == 0,
        found.inode == st.inode, found.device == st.device
      else { return true }
      unsafe copyBytes(s.link.base, name.base, name.count)
      length = name.count
      return false
    }
    guard length > 0 else { throw .noEntry }
    return length
  }
}
