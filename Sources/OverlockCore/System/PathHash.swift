import CLinux

/// Keyed 128-bit hash of a canonical path, chained component by component: one pass over a path
/// gives the hash of every directory on the way.
///
/// Not cryptographic; keyed so that nobody can prepare names that share a slot of somebody else's
/// cache, and 128 bits wide so that an accident is out of the question.
struct PathHash: Equatable {
  var a: UInt64
  var b: UInt64

  @inline(__always) init(_ key0: UInt64, _ key1: UInt64) {
    a = key0 ^ 0x9e37_79b9_7f4a_7c15
    b = key1 ^ 0xd1b5_4a32_d192_ed03
  }

  /// A hash that was kept.
  @inline(__always) init(a: UInt64, b: UInt64) {
    self.a = a
    self.b = b
  }

  @inline(__always) private mutating func absorb(_ w0: UInt64, _ w1: UInt64) {
    let p = (a ^ w0).multipliedFullWidth(by: w1 ^ 0xa076_1d64_78bd_642f)
    let q = (b ^ w1).multipliedFullWidth(by: w0 ^ 0xe703_7ed1_a0b4_28db)
    a = p.low ^ q.high &+ 0x8ebc_6af0_9c88_c6e3
    b = q.low ^ p.high &+ 0x5899_65cc_7537_4cc3
  }

  /// Adds one component (or any run of bytes).
  @inline(__always) mutating func append(_ bytes: UnsafePointer<UInt8>, _ count: Int) {
    let raw = unsafe UnsafeRawPointer(bytes)
    var offset = 0
    while count - offset >= 16 {
      unsafe absorb(
        raw.loadUnaligned(fromByteOffset: offset, as: UInt64.self),
        raw.loadUnaligned(fromByteOffset: offset + 8, as: UInt64.self))
      offset += 16
    }
    var w0: UInt64 = 0
    var w1: UInt64 = 0
    let left = count - offset
    if left >= 8 {
      w0 = unsafe raw.loadUnaligned(fromByteOffset: offset, as: UInt64.self)
      w1 = unsafe Self.tail(bytes + offset + 8, left - 8)
    } else {
      w0 = unsafe Self.tail(bytes + offset, left)
    }
    absorb(w0, w1 ^ (UInt64(truncatingIfNeeded: count) << 56))
  }

  @inline(__always) private static func tail(_ p: UnsafePointer<UInt8>, _ n: Int) -> UInt64 {
    let raw = unsafe UnsafeRawPointer(p)
    if n >= 4 {
      let low = unsafe UInt64(raw.loadUnaligned(as: UInt32.self))
      let high = unsafe UInt64(raw.loadUnaligned(fromByteOffset: n - 4, as: UInt32.self))
      return low | high << 32
    }
    if n == 0 { return 0 }
    return unsafe UInt64(p[0]) | UInt64(p[n >> 1]) << 8 | UInt64(p[n - 1]) << 16
  }
}
