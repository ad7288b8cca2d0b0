import CLinux

/// A lossy, shared table of merged lookups, as a CPU has a TLB.
///
/// An entry is four words: `key.a ^ v0 ^ rot(v1)`, `key.b ^ v1 ^ rot(v0)`, v0, v1. A torn, orphaned or
/// scribbled entry does not give its key back and reads as a miss: no sequence count, no lock, and a
/// SIGKILL between two stores leaves a miss. The vintage is part of the key.
extension Registry {
  @_optimize(speed)
  @inline(__always) private static func fold(_ hash: PathHash, _ vintage: Vintage) -> PathHash {
    var key = hash
    key.a ^= vintage.epoch &* 0x9e37_79b9_7f4a_7c15 ^ vintage.generation
    key.b ^= (vintage.generation &* 0xc2b2_ae3d_27d4_eb4f) ^ vintage.epoch
    return key
  }

  @_optimize(speed)
  @inline(__always) private static func rotate(_ x: UInt64) -> UInt64 { x << 23 | x >> 41 }

  @inline(__always)
  @_optimize(speed)
  private func entry(_ hash: PathHash, way: Int) -> UnsafeMutablePointer<UInt64> {
    let bucket = Int(truncatingIfNeeded: hash.a >> 32) & (Registry.cacheEntries / 2 - 1)
    return unsafe word(Registry.cacheOffset + (bucket * 2 + way) * 32)
  }

  /// The first value of an entry, 0 for a miss. Whoever inserted it saw stable words: an entry under
  /// these very words needs no second look at them.
  @_optimize(speed)
  @inline(__always) func cachedWord(_ name: PathHash, in directory: PathHash) -> UInt64 {
    let key = Registry.fold(name, words(directory: directory, name: name))
    var e = unsafe entry(name, way: 0)
    for _ in 0..<2 {
      let v0 = unsafe at_relaxed64(e + 2)
      let v1 = unsafe at_relaxed64(e + 3)
      if unsafe at_relaxed64(e) ^ v0 ^ Registry.rotate(v1) == key.a,
        unsafe at_relaxed64(e + 1) ^ v1 ^ Registry.rotate(v0) == key.b
      {
        return v0
      }
      unsafe e += 4
    }
    return 0
  }

  @_optimize(speed)
  @inline(__always) func cached(_ hash: PathHash, _ vintage: Vintage) -> (UInt64, UInt64)? {
    let key = Registry.fold(hash, vintage)
    for way in 0..<2 {
      let e = unsafe entry(hash, way: way)
      let x0 = unsafe at_relaxed64(e)
      let x1 = unsafe at_relaxed64(e + 1)
      let v0 = unsafe at_relaxed64(e + 2)
      let v1 = unsafe at_relaxed64(e + 3)
      if x0 ^ v0 ^ Registry.rotate(v1) == key.a, x1 ^ v1 ^ Registry.rotate(v0) == key.b {
        return (v0, v1)
      }
    }
    return nil
  }

  @_optimize(speed)
  func insert(_ hash: PathHash, _ vintage: Vintage, _ v0: UInt64, _ v1: UInt64) {
    let key = Registry.fold(hash, vintage)
    // An entry of another vintage of this very name is dead: its way is the one to take. Which way
    // holds it cannot be told (the key hides it), so alternate by the vintage.
    let way = unsafe at_relaxed64(entry(hash, way: 0)) == 0 ? 0 : Int(key.b >> 40 & 1)
    let e = unsafe entry(hash, way: way)
    unsafe at_put64(e, key.a ^ v0 ^ Registry.rotate(v1))
    unsafe at_put64(e + 1, key.b ^ v1 ^ Registry.rotate(v0))
    unsafe at_put64(e + 2, v0)
    unsafe at_put64(e + 3, v1)
  }
}
