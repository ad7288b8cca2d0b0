import CLinux

/// A remembered directory: the working directory, or one that a descriptor has open.
///
/// `stamp` is odd while somebody writes. A writer that meets another one (a thread, a signal handler that
/// interrupted it) adds two to it, which the first one sees at its end: the place is then not known, and
/// the kernel is asked. Nobody waits.
@safe struct Place {
  let overlay: Int
  let layer: Int
  /// The real directory is the layer's root plus the path.
  let isDirect: Bool
  let length: Int
  let hash: PathHash
  /// Of the directory that it is in.
  let directory: PathHash

  private let raw: UnsafeMutablePointer<ovl_place>
  private let stamp: UInt32

  /// What is remembered, if it still holds.
  ///
  /// - Parameter stale: also if directories were renamed or removed since.
  @inline(__always)
  init?(_ raw: UnsafeMutablePointer<ovl_place>, capacity: Int, stale: Bool = false) {
    let stamp = unsafe at_load32(&raw.pointee.stamp)
    let length = unsafe Int(at_load32(&raw.pointee.length)) - 1
    guard stamp & 1 == 0, length >= 0, length < capacity else { return nil }
    overlay = unsafe Int(raw.pointee.overlay)
    if overlay >= 0, !stale {
      guard overlay < Overlay.count, let registry = Overlay(index: overlay).registry,
        unsafe registry.positions == raw.pointee.epoch
      else { return nil }
    }
    layer = unsafe Int(raw.pointee.layer)
    isDirect = unsafe raw.pointee.direct != 0
    self.length = length
    let words = unsafe ovl_place_hash(raw)!
    hash = unsafe PathHash(a: words[0], b: words[1])
    directory = unsafe PathHash(a: words[2], b: words[3])
    at_fence_acquire()
    guard unsafe at_load32(&raw.pointee.stamp) == stamp else { return nil }
    unsafe self.raw = raw
    self.stamp = stamp
  }

  /// Writes the path, `length` bytes and no NUL. False: it has changed since it was read.
  @inline(__always) func copy(to memory: UnsafeMutablePointer<UInt8>) -> Bool {
    unsafe copyBytes(memory, ovl_place_path(raw), length)
    return isCurrent
  }

  /// Nobody has written since it was read.
  @inline(__always) var isCurrent: Bool {
    at_fence_acquire()
    return unsafe at_load32(&raw.pointee.stamp) == stamp
  }

  /// Writes the path. Errors: ENAMETOOLONG. False: it has changed since it was read.
  @inline(__always) func copy(into path: inout PathBuffer) throws(Errno) -> Bool {
    guard length < path.capacity else { throw .nameTooLong }
    path.count = length
    return unsafe copy(to: path.base)
  }

  // MARK: writing

  /// Begins a change. nil: somebody else is in the middle of one, and now knows that there is another.
  static func begin(_ raw: UnsafeMutablePointer<ovl_place>) -> UInt32? {
    while true {
      let now = unsafe at_load32(&raw.pointee.stamp)
      let next = now & 1 == 0 ? now &+ 1 : now &+ 2
      if unsafe at_cas32(&raw.pointee.stamp, now, next) != 0 { return now & 1 == 0 ? next : nil }
    }
  }

  /// Ends what `begin` began.
  static func end(_ raw: UnsafeMutablePointer<ovl_place>, _ stamp: UInt32) {
    if unsafe at_cas32(&raw.pointee.stamp, stamp, stamp &+ 1) != 0 { return }
    unsafe at_store32(&raw.pointee.length, 0)
    _ = unsafe at_add32(&raw.pointee.stamp, 1)
  }

  /// Writes a place between `begin` and `end`. A path too long for it is not remembered.
  static func fill(
    _ raw: UnsafeMutablePointer<ovl_place>, capacity: Int, overlay: Int, layer: Int,
    direct: Bool, epoch: UInt64, _ path: PathView
  ) {
    guard path.count < capacity else {
      unsafe at_store32(&raw.pointee.length, 0)
      return
    }
    unsafe raw.pointee.overlay = Int32(overlay)
    unsafe raw.pointee.inside = overlay >= 0 ? 1 : 0
    unsafe raw.pointee.layer = UInt32(layer)
    unsafe raw.pointee.direct = direct ? 1 : 0
    unsafe raw.pointee.epoch = epoch
    unsafe copyBytes(ovl_place_path(raw), path.base, path.count)
    if overlay >= 0 {
      var hash = Overlay(index: overlay).emptyHash
      var directory = hash
      var start = 0
      while start < path.count {
        var end = start
        while end < path.count, path[end] != slash { end += 1 }
        directory = hash
        unsafe hash.append(path.base + start, end - start)
        start = end + 1
      }
      let words = unsafe ovl_place_hash(raw)!
      unsafe words[0] = hash.a
      unsafe words[1] = hash.b
      unsafe words[2] = directory.a
      unsafe words[3] = directory.b
    }
    unsafe at_store32(&raw.pointee.length, UInt32(path.count) + 1)
  }

  static func forget(_ raw: UnsafeMutablePointer<ovl_place>) {
    guard let stamp = unsafe begin(raw) else { return }
    unsafe at_store32(&raw.pointee.length, 0)
    unsafe end(raw, stamp)
  }
}
