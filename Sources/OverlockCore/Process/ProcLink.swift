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
      var removed = RealPathReader.isRemoved(link.view)
      if removed { link.count -= 10 }
      var here = s.here
      let overlay: Overlay
      if removed, let (index, _) = try WorkingDirectory.readStaged(&link) {
        overlay = Overlay(index: index)
        try here.append(link.view)
      } else {
        guard let (found, rel, layer) = RealPaths.merged(link.view, lowers: lowers) else {
          return passResult
        }
        overlay = found
        try here.append(rel)
        if !removed { removed = try overlay.followLower(&here, layer: layer).isRemoved }
      }
      var shown = s.rest
      try shown.append(overlay.target)
      try shown.appendBelow(here.view)
      if shown.count == 0 { try shown.append(slash) }
      if removed { try shown.append(" (deleted)") }
      let length = min(size, shown.count)
      unsafe copyBytes(
        UnsafeMutableRawPointer(buffer).assumingMemoryBound(to: UInt8.self),
        UnsafePointer(shown.base), length)
      return length
    }
  }
}
