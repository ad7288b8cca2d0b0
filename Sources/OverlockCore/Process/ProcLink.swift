import CLinux

/// readlink of /proc's magic links, of this process or of another one: the overlay's path, not a layer's.
enum ProcLink {
  /// For a path outside of every overlay. `passResult` where the kernel's answer is right.
  static func read(
    _ dirfd: Int32, _ path: UnsafePointer<CChar>, _ buffer: UnsafeMutablePointer<CChar>,
    _ size: Int
  ) throws(Errno) -> Int {
    try withScratch { (s) throws(Errno) -> Int in
      var link = s.link
      let n = unsafe lx_readlinkat(
        dirfd, path, UnsafeMutableRawPointer(link.base).assumingMemoryBound(to: CChar.self), 4096)
      guard n > 0, unsafe link.base[0] == slash else { return passResult }
      link.count = n
      guard RealPaths.merged(link.view, lowers: true) != nil || isInWorkdir(link.view),
        let entry = try unsafe ProcEntry(dirfd, PathView(path))
      else { return passResult }
      var lowers = false
      if let (overlay, _, _) = RealPaths.merged(link.view, lowers: true) {
        lowers = entry.isOurs(overlay)
      }
      let place = try withScratch { (s2) throws(Errno) in
        try MergedName.replace(&link, lowers: lowers, s2)
      }
      if place == nil { return passResult }
      let length = min(size, link.count)
      if unsafe ovl_is_writable(buffer, length) == 0 { throw .fault }
      unsafe copyBytes(
        UnsafeMutableRawPointer(buffer).assumingMemoryBound(to: UInt8.self),
        UnsafePointer(link.base), length)
      return length
    }
  }

  /// Where removed directories have their staging names.
  private static func isInWorkdir(_ real: PathView) -> Bool {
    for i in 0..<Overlay.count {
      let overlay = Overlay(index: i)
      if overlay.hasUpper, real.isAt(orBelow: overlay.work) { return true }
    }
    return false
  }
}

/// Which link of which process a path below /proc names.
private struct ProcEntry {
  enum Link {
    case descriptor(Int32)
    case workingDirectory, program
    /// Of what leads to a lower nobody can say whether it is the overlay's.
    case other
  }

  var link = Link.other
  /// nil: this process.
  var process: Int? = nil

  /// nil: it is no link of /proc, and its text is what it says.
  init?(_ dirfd: Int32, _ path: PathView) throws(Errno) {
    let name = path.name
    // The usual words, without a question.
    if path.hasPrefix("/proc/self/fd/"), let fd = decimal(path.from(14)) {
      link = .descriptor(Int32(truncatingIfNeeded: fd))
      return
    }
    if path.equals("/proc/self/exe") {
      link = .program
      return
    }
    if path.equals("/proc/self/cwd") {
      link = .workingDirectory
      return
    }
    // Else the directory that it is in: "/proc/<pid>" and what follows.
    let found = try withScratch { (s) throws(Errno) -> (Link, Int)? in
      var directory = s.rest
      try directory.append(path.prefix(path.count - name.count))
      if directory.count == 0 { try directory.append(dot) }
      let opened = unsafe lx_openat(
        dirfd, directory.cString, O_PATH | O_DIRECTORY | O_CLOEXEC, 0)
      if opened < 0 { return nil }
      let fd = Int32(truncatingIfNeeded: opened)
      defer { _ = lx_close(fd) }
      var real = s.real
      guard (try? RealPathReader.ofDescriptor(fd, into: &real)) == true,
        real.view.hasPrefix("/proc/")
      else { return nil }
      var rest = real.view.from(6)
      let end = rest.firstSlash ?? rest.count
      guard let pid = decimal(rest.prefix(end)) else { return nil }
      rest = rest.from(end)
      // "/fd", "", and the same below "/task/<tid>".
      if rest.hasPrefix("/task/") {
        let below = rest.from(6)
        rest = below.from(below.firstSlash ?? below.count)
      }
      if rest.equals("/fd"), let number = decimal(name) {
        return (.descriptor(Int32(truncatingIfNeeded: number)), pid)
      }
      if rest.isEmpty, name.equals("cwd") { return (.workingDirectory, pid) }
      if rest.isEmpty, name.equals("exe") { return (.program, pid) }
      return (.other, pid)
    }
    guard let found else { return nil }
    link = found.0
    process = found.1 == Int(lx_getpid()) ? nil : found.1
  }

  /// Whether a lower object that it leads to was reached through the overlay. A lower that is not the target
  /// is a plain directory to whoever names it.
  func isOurs(_ overlay: Overlay) -> Bool {
    switch (link, process) {
    case (.descriptor(let fd), nil):
      let entry = DescriptorTable.entry(fd)
      return !entry.isKnown || entry.isOurs
    case (.workingDirectory, nil): return WorkingDirectory.wasInside
    case (.program, nil): return CarriedState.isProgram(of: overlay)
    case (.descriptor, let pid?), (.workingDirectory, let pid?):
      return OtherProcess(pid).isIn(overlay)
    case (.program, let pid?): return OtherProcess(pid).runs(overlay)
    case (.other, _): return false
    }
  }
}
