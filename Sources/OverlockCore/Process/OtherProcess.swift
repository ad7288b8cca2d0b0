import CLinux

/// What /proc tells of another process. Who may not be asked, or is gone, is in no overlay.
struct OtherProcess {
  private let pid: Int

  init(_ pid: Int) { self.pid = pid }

  /// Whether the process has the overlay too: it maps the same segment.
  func isIn(_ overlay: Overlay) -> Bool {
    unsafe contains("/maps", overlay, id: overlay.raw.pointee.id)
  }

  /// Whether the program of the process was started through the overlay from a lower that is not its target.
  func runs(_ overlay: Overlay) -> Bool { contains("/environ", overlay, id: nil) }

  /// Searches a file of the process: for a segment's name, or for what exec carried over of the program.
  private func contains(_ file: StaticString, _ overlay: Overlay, id: UInt64?) -> Bool {
    var found = false
    try? withScratch { (s) throws(Errno) in
      var needle = s.link
      if let id {
        try needle.append(slash)
        try needle.append(hex: id)
      } else {
        try CarriedState.appendProgram(of: overlay, to: &needle)
      }
      var path = s.rest
      try path.append("/proc/")
      try path.append(decimal: UInt64(self.pid))
      try path.append(file)
      let opened = try unsafe check(lx_openat(AT_FDCWD, path.cString, O_RDONLY | O_CLOEXEC, 0))
      let fd = Int32(truncatingIfNeeded: opened)
      defer { _ = lx_close(fd) }
      // What the end of one piece has of the words is put before the next.
      var kept = 0
      while !found {
        let n = try unsafe check(lx_read(fd, s.spare + kept, Scratch.spareSize - kept))
        if n == 0 { return }
        let text = unsafe PathView(UnsafePointer(s.spare), kept + n)
        var i = 0
        while !found, i + needle.count <= text.count {
          found = text.from(i).prefix(needle.count).equals(needle.view)
          i += 1
        }
        kept = min(needle.count - 1, text.count)
        for k in 0..<kept { unsafe s.spare[k] = s.spare[text.count - kept + k] }
      }
    }
    return found
  }
}
