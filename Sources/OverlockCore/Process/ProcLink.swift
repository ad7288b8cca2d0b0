import CLinux

/// readlink of /proc's magic links: the overlay's path, not a layer's.
enum ProcLink {
  /// For a path outside of every overlay. `passResult` where the kernel's answer is right.
  static func read(
    _ dirfd: Int32, _ path: UnsafePointer<CChar>, _ buffer: UnsafeMutablePointer<CChar>,
    _ size: Int
  ) throws(Errno) -> Int {
    let text = unsafe PathView(path)
    guard text.hasPrefix("/proc/") || text.hasPrefix("/dev/") || text[0] != slash else {
      return passResult
    }
    return try withScratch { (s) throws(Errno) -> Int in
      var link = s.link
      let n = unsafe lx_readlinkat(
        dirfd, path, UnsafeMutableRawPointer(link.base).assumingMemoryBound(to: CChar.self), 4096)
      guard n > 0, unsafe link.base[0] == slash else { return passResult }
      link.count = n
      var lowers = false
      if text.hasPrefix("/proc/self/fd/"), let fd = decimal(text.from(14)) {
        let entry = DescriptorTable.entry(Int32(truncatingIfNeeded: fd))
        lowers = !entry.isKnown || entry.isOurs
      } else if text.equals("/proc/self/cwd") {
        var here = s.here
        let position = try WorkingDirectory.read(into: &here)
        lowers = position.overlay >= 0
      }
      guard text.hasPrefix("/proc/") || lowers else { return passResult }
      let place = try withScratch { (s2) throws(Errno) in
        try MergedName.replace(&link, lowers: lowers, s2)
      }
      if place == nil { return passResult }
      let length = min(size, link.count)
      unsafe copyBytes(
        UnsafeMutableRawPointer(buffer).assumingMemoryBound(to: UInt8.self),
        UnsafePointer(link.base), length)
      return length
    }
  }
}
