import CLinux

/// Copying a file's data: reflink where the file system can, then in-kernel copies, then by hand;
/// holes stay holes.
enum DataCopy {
  private static var ficlone: UInt { 0x4004_9409 }

  /// - Parameters:
  ///   - source: opened read-only without touching its access time where that is allowed.
  ///   - borrowed: a descriptor of the program's on it, to be read instead: its offset stays as it is.
  ///   - out: a file open for writing. Where it is not empty it is brought up to date in place,
  ///     since it may be mapped: it is made shorter only where the source is.
  ///   - room: bytes that may be copied where the file system cannot share them.
  /// - Errors: as open(2), read(2), write(2); ENOSPC for want of room; EWOULDBLOCK: somebody has a write lease.
  static func copy(
    _ source: UnsafePointer<CChar>, borrowed: Int32? = nil, to out: Int32, size: Int,
    room: Int = .max, _ s: Scratch
  ) throws(Errno) {
    if let borrowed {
      if lx_lseek(out, 0, SEEK_END) > size { try check(lx_ftruncate(out, size)) }
      if lx_ioctl(out, ficlone, UInt(UInt32(bitPattern: borrowed))) == 0 { return }
      try range(borrowed, out, 0, size, s)
      try check(lx_ftruncate(out, size))
      return
    }
    let flags = O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK
    var opened = unsafe lx_openat(AT_FDCWD, source, flags | O_NOATIME, 0)
    if opened == -Int(EPERM) { opened = unsafe lx_openat(AT_FDCWD, source, flags, 0) }
    if opened == -Int(EACCES) { opened = unsafe lx_owner_open(source, flags) }
    let from = Int32(truncatingIfNeeded: try check(opened))
    defer { _ = lx_close(from) }
    try copy(from: from, to: out, size: size, room: room, s)
  }

  /// The same of an open file, whose position it moves.
  static func copy(
    from: Int32, to out: Int32, size: Int, room: Int = .max, _ s: Scratch
  ) throws(Errno) {
    let old = lx_lseek(out, 0, SEEK_END)
    if old > size { try check(lx_ftruncate(out, size)) }
    if lx_ioctl(out, ficlone, UInt(UInt32(bitPattern: from))) == 0 { return }
    if room != .max {
      var st = stat()
      try unsafe check(lx_fstat(from, &st))
      if Int(st.st_blocks) > room / 512 { throw Errno(rawValue: ENOSPC) }
    }
    // What a hole of the source must be made one in.
    let filled = min(max(old, 0), size)
    var offset = 0
    while offset < size {
      let data = lx_lseek(from, offset, SEEK_DATA)
      if data == -Int(ENXIO) { break }
      let start = data >= 0 ? data : offset
      var end = data >= 0 ? lx_lseek(from, start, SEEK_HOLE) : size
      if end <= start { end = size }
      try clear(out, offset, min(start, filled), s)
      try range(from, out, start, end, s)
      offset = end
    }
    try clear(out, offset, filled, s)
    try check(lx_ftruncate(out, size))
  }

  private static func clear(_ out: Int32, _ start: Int, _ end: Int, _ s: Scratch) throws(Errno) {
    if start >= end { return }
    // FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE
    let r = lx_fallocate(out, 3, start, end - start)
    if r != -Int(EOPNOTSUPP), r != -Int(ENOSYS) {
      try check(r)
      return
    }
    let block = min(Scratch.spareSize, end - start)
    for i in 0..<block { unsafe s.spare[i] = 0 }
    _ = lx_lseek(out, start, SEEK_SET)
    var done = 0
    while done < end - start {
      done += try unsafe check(lx_write(out, s.spare, min(block, end - start - done)))
    }
  }

  private static func range(_ from: Int32, _ out: Int32, _ start: Int, _ end: Int, _ s: Scratch)
    throws(Errno)
  {
    var input = Int64(start)
    var output = Int64(start)
    while input < Int64(end) {
      let n = unsafe lx_copy_file_range(from, &input, out, &output, Int(Int64(end) - input))
      if n > 0 { continue }
      if n == -Int(EINTR) { continue }
      if n == 0 { return }
      if n == -Int(EXDEV) || n == -Int(EINVAL) || n == -Int(EOPNOTSUPP) || n == -Int(ENOSYS) {
        break
      }
      throw Errno(result: n)
    }
    _ = lx_lseek(out, Int(output), SEEK_SET)
    while input < Int64(end) {
      let want = min(Scratch.spareSize, Int(Int64(end) - input))
      let n = try unsafe check(lx_pread(from, s.spare, want, Int(input)))
      if n == 0 { return }
      var done = 0
      while done < n { done += try unsafe check(lx_write(out, s.spare + done, n - done)) }
      input += Int64(n)
    }
  }
}
