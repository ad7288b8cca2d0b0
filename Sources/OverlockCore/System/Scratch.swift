import CLinux

/// Working memory of one slow path: path buffers too large for a stranger's (signal) stack.
///
/// Blocks come from a fixed pool of reserved address space, one bit each in an atomic word; when the
/// pool is empty a mapping of its own stands in. A block held by a thread that a fork or a longjmp
/// took away is lost until exec: the pool is then that much smaller, nothing else.
@safe struct Scratch {
  let base: UnsafeMutablePointer<UInt8>

  static var blockSize: Int { Int(OVL_SCRATCH_SIZE) }
  static var blocks: Int { Int(OVL_SCRATCH_BLOCKS) }

  static func acquire() throws(Errno) -> Scratch {
    let process = unsafe ovl_self()!
    if unsafe process.pointee.scratch != nil {
      while true {
        let busy = unsafe at_load64(&process.pointee.scratch_busy)
        let index = (~busy).trailingZeroBitCount
        if index >= blocks { break }
        if unsafe at_cas64(&process.pointee.scratch_busy, busy, busy | 1 << UInt64(index)) != 0 {
          let start = unsafe UnsafeMutableRawPointer(process.pointee.scratch!)
          return unsafe Scratch(
            base: (start + index * blockSize).assumingMemoryBound(to: UInt8.self))
        }
      }
    }
    guard
      let fresh = unsafe lx_mmap(
        blockSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1)
    else { throw .noMemory }
    return unsafe Scratch(base: fresh.assumingMemoryBound(to: UInt8.self))
  }

  func release() { unsafe Scratch.release(UInt64(UInt(bitPattern: base))) }

  static func release(_ address: UInt64) {
    let process = unsafe ovl_self()!
    let raw = unsafe UnsafeMutableRawPointer(bitPattern: UInt(address))!
    if let start = unsafe process.pointee.scratch {
      let offset = unsafe raw - UnsafeMutableRawPointer(start)
      if offset >= 0, offset < blockSize * blocks {
        let bit = UInt64(1) << UInt64(offset / blockSize)
        while true {
          let busy = unsafe at_load64(&process.pointee.scratch_busy)
          if unsafe at_cas64(&process.pointee.scratch_busy, busy, busy & ~bit) != 0 { return }
        }
      }
    }
    _ = unsafe lx_munmap(raw, blockSize)
  }

  init(base: UnsafeMutablePointer<UInt8>) { unsafe self.base = base }

  /// The block of that `address`, which somebody holds.
  init(address: UInt64) {
    unsafe base = UnsafeMutablePointer(bitPattern: UInt(address))!
  }

  var address: UInt64 { unsafe UInt64(UInt(bitPattern: base)) }

  @inline(__always) private func buffer(_ offset: Int, _ size: Int) -> PathBuffer {
    unsafe PathBuffer(base + offset, capacity: size)
  }

  // The layout: what one walk, one lookup and one change need at the same time. A canonical path is at most
  // OVL_DEEP_MAX long; a real one has a layer's root, or a target, before it.
  static var variantSize: Int { 16640 }
  static var variantCount: Int { 6 }

  /// What is left to walk, with symbolic links expanded at the front.
  var rest: PathBuffer { buffer(0, 20736) }
  /// The canonical position.
  var here: PathBuffer { buffer(20736, 16640) }
  /// A symbolic link's target.
  var link: PathBuffer { buffer(37376, 4352) }
  /// Real paths: a layer's root and what is below it.
  var real: PathBuffer { buffer(41728, 20736) }
  var real2: PathBuffer { buffer(62464, 20736) }
  /// A staging name in the workdir.
  var staging: PathBuffer { buffer(83200, 20736) }
  /// Where directories of a merge are in their layers: one path for all until a redirect.
  func variant(_ i: Int) -> PathBuffer {
    buffer(103_936 + i * Scratch.variantSize, Scratch.variantSize)
  }
  /// Layers of the directory that a lookup stands in.
  var layers: UnsafeMutablePointer<UInt32> {
    unsafe UnsafeMutableRawPointer(base + 203_776).assumingMemoryBound(to: UInt32.self)
  }
  /// Free for anything else: xattr values, directory records.
  var spare: UnsafeMutablePointer<UInt8> { unsafe base + 205_824 }
  static var spareSize: Int { 27648 }
}

/// Runs `body` with a scratch block.
@inline(__always)
func withScratch<R>(_ body: (Scratch) throws(Errno) -> R) throws(Errno) -> R {
  let scratch = try Scratch.acquire()
  defer { scratch.release() }
  return try body(scratch)
}
