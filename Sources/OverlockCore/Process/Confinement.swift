import CLinux

/// seccomp(2): a process that has confined itself may be ended by a system call that it did not make.
///
/// What would be asked of a descriptor at its first use is asked before. Afterwards nobody looks any more
/// whether the file behind it was copied up, and what is new is taken as it is.
enum Confinement {
  @inline(__always) static var isActive: Bool { unsafe ovl_self()!.pointee.confined != 0 }

  /// Before the program asks for it.
  static func prepare() {
    try? withScratch { (s) throws(Errno) in
      let opened = try unsafe check(
        lx_openat(AT_FDCWD, "/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0))
      let folder = Int32(truncatingIfNeeded: opened)
      defer { _ = lx_close(folder) }
      try DirectoryReader.each(folder, s) { (name, _, _) throws(Errno) in
        if let number = decimal(name), number < Int(Int32.max), number != Int(folder) {
          _ = ovlDataIsHere(Int32(number))
        }
        return true
      }
    }
  }

  /// It was granted.
  static func begin() { unsafe ovl_self()!.pointee.confined = 1 }
}
