import CLinux

/// What the kernel says a descriptor's path is.
enum RealPathReader {
  /// Whether the kernel says " (deleted)", and no name really ends so.
  static func isRemoved(_ text: PathView) -> Bool {
    guard text.hasSuffix(" (deleted)") else { return false }
    var gone = true
    try? withScratch { (s) throws(Errno) in
      var path = s.staging
      try path.append(text)
      var st = stat()
      gone = unsafe lx_fstatat(AT_FDCWD, path.cString, &st, AT_SYMLINK_NOFOLLOW) != 0
    }
    return gone
  }

  /// Reads `/proc/self/fd/N` into the buffer. False: nothing, or no path (a pipe, a socket).
  static func ofDescriptor(_ fd: Int32, into path: inout PathBuffer) throws(Errno) -> Bool {
    try ofDescriptor(fd, into: &path, deleted: false)
  }

  static func ofDescriptor(_ fd: Int32, into path: inout PathBuffer, deleted: Bool)
    throws(Errno) -> Bool
  {
    guard fd >= 0 else { throw .badDescriptor }
    path.count = 0
    try path.append("/proc/self/fd/")
    try path.append(decimal: UInt64(fd))
    var name: InlineArray<32, UInt8> = InlineArray(repeating: 0)
    let n = path.count
    for i in 0..<n { name[i] = path.view[i] }
    let r = unsafe withUnsafePointer(to: &name) { p in
      unsafe lx_readlinkat(
        AT_FDCWD, UnsafeRawPointer(p).assumingMemoryBound(to: CChar.self),
        UnsafeMutableRawPointer(path.base).assumingMemoryBound(to: CChar.self),
        path.capacity - 1)
    }
    if r == -Int(ENOENT) { throw .badDescriptor }
    if r == -Int(ENAMETOOLONG) {
      try DeepDirectory.path(of: fd, into: &path)
      return true
    }
    try check(r)
    path.count = r
    guard r > 0, path.view[0] == slash else { return false }
    if isRemoved(path.view) { return deleted }
    return true
  }
}
