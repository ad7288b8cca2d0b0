import CLinux

/// Memory that lives as long as the process: configuration. Not for anything that comes and goes.
enum Arena {
  static func allocate(_ size: Int) throws(Errno) -> UnsafeMutableRawPointer {
    let process = unsafe ovl_self()!
    let used = unsafe (Int(process.pointee.arena_used) + 15) & ~15
    if used + size <= ovl_arena_size() {
      unsafe process.pointee.arena_used = UInt32(used + size)
      return unsafe UnsafeMutableRawPointer(ovl_arena()!) + used
    }
    guard
      let p = unsafe lx_mmap(
        (size + 4095) & ~4095, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1)
    else { throw .noMemory }
    return unsafe p
  }

  /// A NUL-terminated copy.
  static func copy(_ text: PathView) throws(Errno) -> PathView {
    let p = unsafe try allocate(text.count + 1).assumingMemoryBound(to: UInt8.self)
    unsafe copyBytes(p, text.base, text.count)
    unsafe p[text.count] = 0
    return unsafe PathView(p, text.count)
  }
}
