import CLinux

/// Raw directory records (getdents64), without libc's streams.
enum DirectoryReader {
  /// Calls `body` with name, inode and d_type of every entry but "." and ".."; stops when it says
  /// false. Uses the scratch block's spare part.
  static func each(
    _ fd: Int32, _ scratch: Scratch,
    _ body: (PathView, UInt64, UInt8) throws(Errno) -> Bool
  ) throws(Errno) {
    while true {
      let n = try unsafe check(lx_getdents64(fd, scratch.spare, Scratch.spareSize))
      if n == 0 { return }
      var offset = 0
      while offset + 19 < n {
        let record = unsafe UnsafeRawPointer(scratch.spare) + offset
        let length = unsafe Int(record.loadUnaligned(fromByteOffset: 16, as: UInt16.self))
        guard length >= 20 else { throw .inputOutput }
        let name = unsafe PathView((record + 19).assumingMemoryBound(to: CChar.self))
        if !name.isDot, !name.isDotDot {
          let go = try unsafe body(
            name, record.loadUnaligned(as: UInt64.self),
            record.loadUnaligned(fromByteOffset: 18, as: UInt8.self))
          if !go { return }
        }
        offset += length
      }
    }
  }
}
