import CLinux

/// As much of an ELF file as tells whether ld.so will load a preload into the program, and whether the
/// program calls libc at all. Source: elf(5), ld.so(8).
enum Elf {
  #if arch(x86_64)
    static let machine: UInt16 = 62
  #else
    static let machine: UInt16 = 183
  #endif

  /// What the kernel and ld.so need is at the start of the file.
  private static var startSize: Int { 4096 }
  private static var headerSize: Int { 56 }

  /// - Parameters:
  ///   - fd: the file.
  ///   - head: its first `n` bytes.
  /// - Returns: an `enum ovl_unreached`.
  static func reach(_ fd: Int32, _ head: UnsafeMutablePointer<UInt8>, _ n: Int) -> Int32 {
    let reached = Int32(OVL_REACHED.rawValue)
    guard n >= 64 else { return reached }
    if isPrivileged(fd) { return Int32(OVL_SETUID.rawValue) }
    let raw = UnsafeRawPointer(head)
    guard unsafe head[4] == 2,
      unsafe raw.loadUnaligned(fromByteOffset: 18, as: UInt16.self) == machine
    else { return Int32(OVL_FOREIGN.rawValue) }
    let type = unsafe raw.loadUnaligned(fromByteOffset: 16, as: UInt16.self)
    guard type == 2 || type == 3 else { return reached }
    let offset = unsafe raw.loadUnaligned(fromByteOffset: 32, as: UInt64.self)
    let size = unsafe Int(raw.loadUnaligned(fromByteOffset: 54, as: UInt16.self))
    let count = unsafe Int(raw.loadUnaligned(fromByteOffset: 56, as: UInt16.self))
    guard size == headerSize, offset < 1 << 40, count < 256 else { return reached }
    let found = try? withScratch { (s) throws(Errno) -> Int32 in
      let n = unsafe lx_pread(fd, s.spare, startSize, 0)
      let start = unsafe PathView(UnsafePointer(s.spare), max(n, 0))
      return segments(fd, start, at: Int(offset), count)
    }
    guard let found else { return reached }
    // No PT_INTERP: static, or ld.so itself, which honours LD_PRELOAD.
    return found == Int32(OVL_STATIC.rawValue) && type == 3 && isLoader(fd) ? reached : found
  }

  /// Looks at the program headers.
  private static func segments(
    _ fd: Int32, _ start: PathView, at offset: Int, _ count: Int
  ) -> Int32 {
    var answer = Int32(OVL_STATIC.rawValue)
    var header: InlineArray<56, UInt8> = InlineArray(repeating: 0)
    for i in 0..<count {
      let at = offset + i * headerSize
      let r = unsafe withUnsafeMutablePointer(to: &header) { (p) -> Int in
        let to = UnsafeMutableRawPointer(p)
        if at + headerSize <= start.count {
          unsafe to.copyMemory(from: start.base + at, byteCount: headerSize)
          return headerSize
        }
        return unsafe lx_pread(fd, to.assumingMemoryBound(to: CChar.self), headerSize, at)
      }
      guard r == headerSize else { return Int32(OVL_REACHED.rawValue) }
      func word(_ from: Int) -> UInt64 {
        var value: UInt64 = 0
        for k in 0..<8 { value |= UInt64(header[from + k]) << UInt64(8 * k) }
        return value
      }
      let kind = UInt32(truncatingIfNeeded: word(0))
      let from = word(8)
      let length = word(32)
      var text = start.prefix(0)
      if from < UInt64(start.count), length <= UInt64(start.count) - from {
        text = start.from(Int(from)).prefix(Int(length))
      }
      switch kind {
      case 3:  // PT_INTERP
        if isForeign(loader: text) { return Int32(OVL_FOREIGN.rawValue) }
        if answer == Int32(OVL_STATIC.rawValue) { answer = Int32(OVL_REACHED.rawValue) }
      case 4 where isGo(note: text): answer = Int32(OVL_RAW.rawValue)  // PT_NOTE
      default: break
      }
    }
    return answer
  }

  /// Whether the program gets rights from its file: then ld.so loads no preload by path ("secure-execution
  /// mode").
  private static func isPrivileged(_ fd: Int32) -> Bool {
    var st = stat()
    guard unsafe lx_fstat(fd, &st) == 0 else { return false }
    let euid = UInt32(truncatingIfNeeded: lx_geteuid())
    if st.st_mode & S_ISUID != 0, st.st_uid != euid { return true }
    // S_ISGID means this only where the group may execute.
    let runsAsGroup = S_ISGID | 0o010
    let egid = UInt32(truncatingIfNeeded: lx_getegid())
    if st.st_mode & runsAsGroup == runsAsGroup, st.st_gid != egid { return true }
    var none: UInt8 = 0
    if euid == 0 { return false }
    return unsafe lx_fgetxattr(fd, "security.capability", &none, 0) > 0
  }

  /// The loader of another libc.
  private static func isForeign(loader: PathView) -> Bool {
    let name = loader.name
    return name.hasPrefix("ld-musl") || name.hasPrefix("ld-uClibc") || name.hasPrefix("linker")
  }

  /// The build note of a Go program, whose files are opened by system calls of its own, with libc or without:
  /// owner "Go", type 4.
  private static func isGo(note: PathView) -> Bool {
    note.count >= 16 && note[0] == 4 && note[8] == 4 && note[12] == UInt8(ascii: "G")
      && note[13] == UInt8(ascii: "o") && note[14] == 0
  }

  private static func isLoader(_ fd: Int32) -> Bool {
    var found = false
    try? withScratch { (s) throws(Errno) in
      var path = s.real
      if try RealPathReader.ofDescriptor(fd, into: &path) {
        found =
          path.view.name.hasPrefix("ld-linux") || path.view.name.hasPrefix("ld.so")
          || path.view.name.hasPrefix("ld-2")
      }
    }
    return found
  }
}
