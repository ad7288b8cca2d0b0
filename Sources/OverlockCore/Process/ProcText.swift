import CLinux

/// Files of /proc whose text names objects: maps, smaps, numa_maps and fdinfo of any process, as they would be
/// if the merged tree were a plain directory. Source: proc_pid_maps(5), proc_pid_fdinfo(5).
///
/// Where a line would change, the program gets a copy of the text as it was at the open, on a descriptor of
/// memory; everywhere else the kernel's own file. So a program that opens once and reads again later sees the
/// first text again, and fstat shows a file with a size.
///
/// Left out: /proc/locks (inode numbers without paths: `overlock locks` knows them), and mountinfo, in which a
/// plain directory has no line.
enum ProcText {
  enum Kind { case maps, numaMaps, descriptor }

  /// Whether a path may lead to one: a few compared bytes for all others.
  @inline(__always)
  static func isCandidate(_ dirfd: Int32, _ path: UnsafePointer<CChar>, _ flags: Int32) -> Bool {
    let bytes = unsafe UnsafeRawPointer(path).assumingMemoryBound(to: UInt8.self)
    if unsafe bytes[0] == slash {
      guard unsafe bytes[1] == UInt8(ascii: "p") else { return false }
    } else {
      let first = unsafe bytes[0]
      guard
        first == UInt8(ascii: "m") || first == UInt8(ascii: "s") || first == UInt8(ascii: "n")
          || first == UInt8(ascii: "f")
          || dirfd != AT_FDCWD && first >= UInt8(ascii: "0") && first <= UInt8(ascii: "9")
      else { return false }
    }
    return unsafe isNamed(PathView(path), flags, dirfd)
  }

  private static func isNamed(_ path: PathView, _ flags: Int32, _ dirfd: Int32) -> Bool {
    if path[0] == slash, !path.hasPrefix("/proc/") { return false }
    guard flags & (O_ACCMODE | O_PATH | O_DIRECTORY | O_CREAT | O_TRUNC) == O_RDONLY else {
      return false
    }
    let name = path.name
    if name.equals("maps") || name.equals("smaps") || name.equals("numa_maps") { return true }
    guard decimal(name) != nil else { return false }
    if path.count > name.count { return path.parent.name.equals("fdinfo") }
    return !DescriptorTable.entry(dirfd).isOurs
  }

  /// Opens a candidate. `passResult`: it is none, and open it as anything else.
  static func open(_ dirfd: Int32, _ path: UnsafePointer<CChar>, _ flags: Int32) -> Int {
    // Looked at before it is opened: elsewhere the name may be a FIFO's.
    let seen = unsafe lx_openat(dirfd, path, O_PATH | O_CLOEXEC, 0)
    guard seen >= 0 else { return passResult }
    let place = Int32(truncatingIfNeeded: seen)
    var file: Int32 = -1
    let copied = bordered { () throws(Errno) in
      defer { _ = lx_close(place) }
      guard lx_is_proc(place) != 0 else { return passResult }
      return try withScratch { (s) throws(Errno) -> Int in
        var name = s.rest
        guard try RealPathReader.ofDescriptor(place, into: &name), let kind = kind(name.view)
        else { return passResult }
        var link = s.here
        try link.append("/proc/self/fd/")
        try link.append(decimal: UInt64(place))
        // The number that a plain open would have given is taken meanwhile: `lowest` gives it back.
        file = Int32(
          truncatingIfNeeded: try unsafe check(lx_openat(AT_FDCWD, link.cString, flags, 0)))
        var lines = ProcLines(kind, of: name.view)
        if kind == .descriptor { try lines.find(&name, s) }
        return try lines.differ(file, s) ? try copy(file, flags, &lines, s) : 0
      }
    }
    // A copy that failed (no memory, no descriptors left) leaves the kernel's own words.
    if file < 0 { return copied }
    if copied <= 0 { _ = lx_lseek(file, 0, SEEK_SET) }
    let fd = Open.lowest(Int(file), flags)
    DescriptorTable.set(Int32(truncatingIfNeeded: fd), .plain)
    return fd
  }

  /// From the kernel's own name of the file: /proc/PID/…, /proc/PID/task/TID/….
  private static func kind(_ path: PathView) -> Kind? {
    guard path.hasPrefix("/proc/") else { return nil }
    let owner = path.from(6)
    guard decimal(owner.prefix(owner.firstSlash ?? 0)) != nil else { return nil }
    let name = path.name
    if name.equals("maps") || name.equals("smaps") { return .maps }
    if name.equals("numa_maps") { return .numaMaps }
    return path.parent.name.equals("fdinfo") && decimal(name) != nil ? .descriptor : nil
  }

  /// Puts the changed text in the place of the file.
  private static func copy(
    _ fd: Int32, _ flags: Int32, _ lines: inout ProcLines, _ s: Scratch
  ) throws(Errno) -> Int {
    let memory = Int32(truncatingIfNeeded: try check(lx_memory_file()))
    defer { _ = lx_close(memory) }
    _ = try check(lx_lseek(fd, 0, SEEK_SET))
    try lines.write(from: fd, to: memory, s)
    var name = s.rest
    try name.append("/proc/self/fd/")
    try name.append(decimal: UInt64(memory))
    let reader = Int32(
      truncatingIfNeeded: try unsafe check(
        lx_openat(AT_FDCWD, name.cString, O_RDONLY | O_CLOEXEC | flags & O_NONBLOCK, 0)))
    defer { _ = lx_close(reader) }
    return try check(lx_dup3(reader, fd, flags & O_CLOEXEC))
  }
}
