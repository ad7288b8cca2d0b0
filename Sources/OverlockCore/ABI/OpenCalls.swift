import CLinux

@c(ovl_open)
@_optimize(speed)
public func ovlOpen(
  _ dirfd: Int32, _ path: UnsafePointer<CChar>?, _ flags: Int32, _ mode: mode_t, _ resolve: UInt64
) -> Int {
  guard let path = unsafe path, unsafe isPath(path) else { return passResult }
  // A file that is made now, or a path that is refused, is nobody's.
  if unsafe flags & O_TRUNC != 0 && ovl_self()!.pointee.mandatory != 0,
    flags & O_PATH == 0, flags & (O_CREAT | O_EXCL) != O_CREAT | O_EXCL
  {
    let r = unsafe mandatoryTruncation(dirfd, path, follow: flags & O_NOFOLLOW == 0, length: nil)
    if r < 0 { return r }
  }
  return unsafe withPath { p in
    unsafe Open.open(p, dirfd, path, flags, mode, resolve: resolve)
  }
}

/// Runs a body with an `ovl_path` on the stack. Its first bytes alone are set: the buffer in it is
/// not worth clearing on a warm path.
@inline(__always)
func withPath(_ body: (UnsafeMutablePointer<ovl_path>) -> Int) -> Int {
  unsafe withUnsafeTemporaryAllocation(of: ovl_path.self, capacity: 1) { buffer in
    let p = buffer.baseAddress!
    unsafe p.pointee.block = 0
    unsafe p.pointee.overlay = -1
    let result = unsafe body(p)
    unsafe ovlPathRelease(p)
    return result
  }
}
