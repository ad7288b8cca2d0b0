import CLinux

/// Memory that lives as long as the process: configuration. Not for anything that comes and goes.
enum Arena {
  static func allocate(_ size: Int) throws(Errno) -> UnsafeMutableRawPointer {
    let process = unsafe ovl_self()!
    let near = unsafe (Int(process.pointee.near_used) + 15) & ~15
    if near + size <= Int(OVL_ARENA_NEAR) {
      unsafe process.pointee.near_used = UInt32(near + size)
      return unsafe UnsafeMutableRawPointer(ovl_near()!) + near
    }
    let far = unsafe (Int(process.pointee.far_used) + 15) & ~15
    if far + size <= ovl_far_size() {
      unsafe process.pointee.far_used = UInt32(far + size)
      return unsafe UnsafeMutableRawPointer(ovl_far()!) + far
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
