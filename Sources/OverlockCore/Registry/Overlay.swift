import CLinux

/// One overlay of this process: a handle on private, immutable configuration.
@safe struct Overlay {
  let raw: UnsafeMutablePointer<ovl_overlay>

  @inline(__always) init(_ raw: UnsafeMutablePointer<ovl_overlay>) { unsafe self.raw = raw }

  /// The overlay of that index; the index must come from this process's own tables.
  @inline(__always) init(index: Int) {
    unsafe raw = ovl_overlay_at(index & (Int(OVL_MAX_OVERLAYS) - 1))
  }

  static var count: Int { Int(ovl_overlay_count()) }

  @inline(__always) var index: Int {
    unsafe UnsafePointer(raw) - UnsafePointer(ovl_overlay_at(0))
  }
  @inline(__always) var target: PathView {
    unsafe view(raw.pointee.target, raw.pointee.target_length)
  }
  @inline(__always) var work: PathView { unsafe view(raw.pointee.work, raw.pointee.work_length) }
  @inline(__always) var layerCount: Int { unsafe Int(raw.pointee.layer_count) }
  @_optimize(speed)
  @inline(__always) func has(_ flag: Int32) -> Bool {
    unsafe raw.pointee.flags & UInt32(bitPattern: flag) != 0
  }
  @_optimize(speed)
  @inline(__always) func has(_ flag: UInt32) -> Bool { unsafe raw.pointee.flags & flag != 0 }
  @_optimize(speed)
  func hasFileWhiteouts(_ layer: Int) -> Bool {
    unsafe raw.pointee.layers[layer].flags & UInt32(OVL_LAYER_FILE_WHITEOUTS) != 0
  }
  @inline(__always) var hasUpper: Bool { has(OVL_HAS_UPPER) }
  @inline(__always) var device: UInt64 { unsafe raw.pointee.device }
  @inline(__always) var id: UInt64 { unsafe raw.pointee.id }
  @inline(__always) var registry: Registry? {
    guard let base = unsafe raw.pointee.registry else { return nil }
    return unsafe Registry(
      UnsafeMutableRawPointer(base), page: UnsafeMutableRawPointer(raw.pointee.page),
      sole: raw.pointee.sole)
  }

  @_optimize(speed)
  @inline(__always) func layerPath(_ layer: Int) -> PathView {
    unsafe view(raw.pointee.layers[layer].path, raw.pointee.layers[layer].length)
  }
  @_optimize(speed)
  @inline(__always) func layerDevice(_ layer: Int) -> UInt64 {
    unsafe raw.pointee.layers[layer].device
  }

  /// The inode number that the program sees for an object of a layer.
  @_optimize(speed)
  @inline(__always) func shownInode(_ ino: UInt64, layer: Int) -> UInt64 {
    unsafe ino | raw.pointee.layers[layer].ino_high
  }

  @inline(__always) var emptyHash: PathHash {
    unsafe PathHash(raw.pointee.key0, raw.pointee.key1)
  }

  @inline(__always)
  @_optimize(speed)
  private func view(_ p: UnsafePointer<CChar>?, _ n: UInt32) -> PathView {
    unsafe PathView(
      UnsafeRawPointer(p!).assumingMemoryBound(to: UInt8.self), Int(n))
  }
}
