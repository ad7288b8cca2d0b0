import CLinux

/// A process that forbids itself the system calls with which a descriptor is looked at (seccomp, strict mode or a
/// filter that kills): what it has open is identified before, and afterwards nobody looks.
///
/// A file that is copied up later is then read on the lower, by the descriptors from before: the process would not
/// live to see the copy. Filters that only refuse change nothing, and an exec'd program begins anew. Judged for the
/// whole process, although a filter may be one thread's.
enum Confinement {
  @inline(__always) static var isOn: Bool { unsafe ovl_self()!.pointee.confined != 0 }

  /// What a look needs: `DescriptorObject`, `DataCall`.
  private static let calls: InlineArray<8, Int32> = [
    SYS_fcntl, SYS_fstat, SYS_newfstatat, SYS_readlinkat, SYS_openat, SYS_openat2, SYS_pread64,
    SYS_close,
  ]

  /// What markers need besides (`Marker`).
  private static let ofMarkers: InlineArray<2, Int32> = [SYS_unlinkat, SYS_mknodat]

  /// Whether a filter kills for a look.
  static func kills(_ filter: SeccompFilter) -> Bool {
    for i in calls.indices where filter.kills(calls[i]) { return true }
    return false
  }

  static func killsForMarkers(_ filter: SeccompFilter) -> Bool {
    for i in ofMarkers.indices where filter.kills(ofMarkers[i]) { return true }
    return false
  }

  /// A struct sock_fprog of the program's. nil: the kernel refuses it as a filter.
  static func filter(_ filter: UnsafeRawPointer) -> SeccompFilter? {
    let header = MemoryLayout<UInt>.size
    guard unsafe ovl_is_readable_all(filter, 2 * header) != 0 else { return nil }
    let count = unsafe Int(filter.loadUnaligned(as: UInt16.self))
    let words = unsafe filter.loadUnaligned(fromByteOffset: header, as: UInt.self)
    let size = count * SeccompFilter.size
    guard count > 0, count <= 4096, let base = unsafe UnsafeRawPointer(bitPattern: words),
      !words.addingReportingOverflow(UInt(size)).overflow
    else { return nil }
    var at = 0
    while at < size {
      guard unsafe ovl_is_readable_all(base + at, min(size - at, 4096)) != 0 else { return nil }
      at += 4096
    }
    return unsafe SeccompFilter(base: base, count: count)
  }

  /// Identifies every open descriptor that is not known yet.
  static func identifyAll() {
    try? withScratch { (s) throws(Errno) in
      let opened = try unsafe check(
        lx_openat(AT_FDCWD, "/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0))
      let directory = Int32(truncatingIfNeeded: opened)
      defer { _ = lx_close(directory) }
      try DirectoryReader.each(directory, s) { (name, _, _) throws(Errno) in
        guard let number = decimal(name), let fd = Int32(exactly: number), fd != directory else {
          return true
        }
        if !DescriptorTable.entry(fd).isKnown, !DescriptorObject.identify(fd).isKnown {
          DescriptorTable.set(fd, .plain)
        }
        return true
      }
    }
  }
}
