import CLinux

/// Whether anybody has a file mapped shared and writable, as /proc/PID/maps shows it: with mandatory locks such a file
/// takes no locks (fs/locks.c, fcntl_setlk). Who may not look at a process does not see its mappings.
enum WritableMappings {
  static func exist(of st: stat) -> Bool {
    let answer = try? withScratch { (s) throws(Errno) -> Bool in
      let opened = try unsafe check(
        lx_openat(AT_FDCWD, "/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0))
      let fd = Int32(truncatingIfNeeded: opened)
      defer { _ = lx_close(fd) }
      var found = false
      try DirectoryReader.each(fd, s) { (name, _, _) throws(Errno) in
        guard decimal(name) != nil else { return true }
        found = (try? withScratch { (s2) throws(Errno) in try isMapped(by: name, st, s2) }) ?? false
        return !found
      }
      return found
    }
    return answer ?? false
  }

  private static func isMapped(by process: PathView, _ st: stat, _ s: Scratch) throws(Errno) -> Bool
  {
    var path = s.real
    try path.append("/proc/")
    try path.append(process)
    try path.append("/maps")
    let opened = try unsafe check(lx_openat(AT_FDCWD, path.cString, O_RDONLY | O_CLOEXEC, 0))
    let fd = Int32(truncatingIfNeeded: opened)
    defer { _ = lx_close(fd) }
    var line = s.here
    while true {
      let count = try unsafe check(lx_read(fd, s.spare, 4096))
      if count == 0 { return false }
      for i in 0..<count {
        let byte = unsafe s.spare[i]
        if byte != UInt8(ascii: "\n") {
          // What matters stands before the path.
          if line.count < 128 { try line.append(byte) }
          continue
        }
        if shows(line.view, st) { return true }
        line.count = 0
      }
    }
  }

  /// "start-end rwxs offset major:minor inode …", proc_pid_maps(5).
  private static func shows(_ line: PathView, _ st: stat) -> Bool {
    var at = 0
    func skipWord() {
      while at < line.count, line[at] != UInt8(ascii: " ") { at += 1 }
      while at < line.count, line[at] == UInt8(ascii: " ") { at += 1 }
    }
    skipWord()
    guard at + 4 < line.count, line[at + 1] == UInt8(ascii: "w"), line[at + 3] == UInt8(ascii: "s")
    else { return false }
    skipWord()
    skipWord()
    // File systems without a device of their own (btrfs) show another one in stat(2).
    let isUnnamed =
      at + 2 < line.count && line[at] == UInt8(ascii: "0") && line[at + 1] == line[at]
      && line[at + 2] == UInt8(ascii: ":")
    if !isUnnamed || lx_major(st.device) != 0, !isDevice(line.from(at), st.device) { return false }
    skipWord()
    var end = at
    while end < line.count, line[end] != UInt8(ascii: " ") { end += 1 }
    guard end > at, let inode = decimal(line.from(at).prefix(end - at)) else { return false }
    return UInt64(inode) == st.inode
  }

  /// "major:minor " in hexadecimal.
  private static func isDevice(_ text: PathView, _ device: UInt64) -> Bool {
    var numbers: InlineArray<2, UInt32> = [0, 0]
    var which = 0
    for i in 0..<text.count {
      let byte = text[i]
      switch byte {
      case 48...57: numbers[which] = numbers[which] << 4 | UInt32(byte - 48)
      case 97...102: numbers[which] = numbers[which] << 4 | UInt32(byte - 87)
      case UInt8(ascii: ":"): which = 1
      default: return numbers[0] == lx_major(device) && numbers[1] == lx_minor(device)
      }
    }
    return false
  }
}
