import CLinux

/// Work that must not open and close files in this process: the close of any descriptor of a file drops
/// the process's POSIX record locks on it (fcntl(2)).
enum Apart {
  /// Whether the process may hold record locks on objects of overlays.
  @inline(__always) static var isNeeded: Bool { unsafe ovl_self()!.pointee.record_locks != 0 }

  /// Runs the body, in a child with a descriptor table of its own where that is needed. Its memory is a
  /// copy: only the result comes back, 0…127, or an errno.
  static func run(_ body: () throws(Errno) -> Int) throws(Errno) -> Int {
    guard isNeeded else { return try body() }
    return try always(body)
  }

  /// The same in a child in any case: what it opens is gone when it returns, and so are signals to it if the
  /// caller blocks them.
  static func always(_ body: () throws(Errno) -> Int) throws(Errno) -> Int {
    let pid = lx_fork_apart()
    if pid == 0 {
      do throws(Errno) {
        lx_exit(Int32(truncatingIfNeeded: try body() & 0x7f))
      } catch {
        // No errno of Linux is 128 or more but those of NFS and the like.
        lx_exit(Int32(0x80 | (error.rawValue & 0x7f)))
      }
    }
    let status = try check(lx_wait_apart(try checkChild(pid)))
    if status & 0x80 != 0 { throw Errno(rawValue: Int32(status & 0x7f)) }
    return status
  }

  /// What clone(2) answered. Errors: ENOMEM instead of its EAGAIN (RLIMIT_NPROC), which to who reads, locks or
  /// opens means that somebody else is in the way, and to our own loops that something has changed.
  @discardableResult
  static func checkChild(_ result: Int) throws(Errno) -> Int {
    if result == -Int(EAGAIN) { throw .noMemory }
    return try check(result)
  }
}
