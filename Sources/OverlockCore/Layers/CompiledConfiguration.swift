import CLinux

/// The configuration as the first process worked it out, in the registry for its children: they need
/// one stat, one open and one mmap instead of opening every layer.
///
/// The area: length of the bytes, their checksum, hash of the options (two words), then a header and
/// NUL-terminated strings. Read into private memory, and only believed if checksum and hash agree.
extension Registry {
  private struct Header {
    var flags: UInt32
    var layers: UInt32
    var device: UInt64
    var root: UInt64
    var poll: UInt64
  }
  private struct LayerRecord {
    var device: UInt64
    var high: UInt64
    var length: UInt32
    var flags: UInt32
  }

  private func checksum(_ p: UnsafeRawPointer, _ count: Int) -> UInt64 {
    var hash = PathHash(0x0c0f, 0x516)
    unsafe hash.append(p.assumingMemoryBound(to: UInt8.self), count)
    return hash.a ^ hash.b
  }

  private func lineHash(_ line: PathView) -> PathHash {
    var hash = PathHash(0x11, 0x22)
    unsafe hash.append(line.base, line.count)
    return hash
  }

  /// Keeps what `Configuration.compile` found. Too long a one is not kept: everybody compiles.
  func keep(_ overlay: Overlay, line: PathView) {
    var size = MemoryLayout<Header>.size + overlay.layerCount * MemoryLayout<LayerRecord>.size
    size += overlay.target.count + overlay.work.count + 2 + 16
    for i in 0..<overlay.layerCount { size += overlay.layerPath(i).count + 1 }
    guard size + 32 < Registry.configurationSize else { return }
    let area = unsafe base + Registry.configurationOffset
    let bytes = unsafe area + 32
    var at = 0
    func put<T>(_ value: T) {
      unsafe bytes.storeBytes(of: value, toByteOffset: at, as: T.self)
      at += MemoryLayout<T>.size
    }
    func put(_ text: PathView) {
      unsafe copyBytes((bytes + at).assumingMemoryBound(to: UInt8.self), text.base, text.count)
      at += text.count
      put(UInt8(0))
    }
    unsafe at_store64(word(Registry.configurationOffset), 0)
    put(
      unsafe Header(
        flags: overlay.raw.pointee.flags, layers: UInt32(overlay.layerCount),
        device: overlay.device, root: overlay.raw.pointee.root_ino,
        poll: overlay.raw.pointee.poll_ns))
    for i in 0..<overlay.layerCount {
      put(
        unsafe LayerRecord(
          device: overlay.layerDevice(i), high: overlay.raw.pointee.layers[i].ino_high,
          length: UInt32(overlay.layerPath(i).count),
          flags: overlay.raw.pointee.layers[i].flags))
    }
    put(UInt64(overlay.target.count))
    put(UInt64(overlay.work.count))
    for i in 0..<overlay.layerCount { put(overlay.layerPath(i)) }
    put(overlay.target)
    put(overlay.work)
    let hash = lineHash(line)
    unsafe at_put64(word(Registry.configurationOffset + 8), checksum(bytes, at))
    unsafe at_put64(word(Registry.configurationOffset + 16), hash.a)
    unsafe at_put64(word(Registry.configurationOffset + 24), hash.b)
    unsafe at_store64(word(Registry.configurationOffset), UInt64(at))
  }

  /// Whether somebody has kept a configuration here: nobody has in a segment that was just made.
  var hasConfiguration: Bool { unsafe at_load64(word(Registry.configurationOffset)) != 0 }

  /// Fills the overlay in from what is kept for these very options. False: there is nothing (good).
  func restore(_ overlay: Overlay, line: PathView) throws(Errno) -> Bool {
    let hash = lineHash(line)
    guard unsafe at_relaxed64(word(Registry.configurationOffset + 16)) == hash.a,
      unsafe at_relaxed64(word(Registry.configurationOffset + 24)) == hash.b
    else { return false }
    return unsafe try restore(overlay) { (size) throws(Errno) in unsafe try Arena.allocate(size) }
  }

  /// Fills the overlay in from what is kept, whoever's options it was. False: there is nothing (good).
  ///
  /// - Parameter allocate: memory of that many bytes that lives as long as the overlay.
  func restore(
    _ overlay: Overlay, allocate: (Int) throws(Errno) -> UnsafeMutableRawPointer
  ) throws(Errno) -> Bool {
    let length = unsafe Int(truncatingIfNeeded: at_load64(word(Registry.configurationOffset)))
    guard length > MemoryLayout<Header>.size, length < Registry.configurationSize - 32 else {
      return false
    }
    let copy = unsafe try allocate(length)
    unsafe copy.copyMemory(from: base + Registry.configurationOffset + 32, byteCount: length)
    guard
      unsafe checksum(copy, length) == at_relaxed64(word(Registry.configurationOffset + 8))
    else { return false }
    let header = unsafe copy.loadUnaligned(as: Header.self)
    let count = Int(header.layers)
    guard count > 1, count <= Int(OVL_MAX_LAYERS) else { return false }
    var at = MemoryLayout<Header>.size
    var text = at + count * MemoryLayout<LayerRecord>.size + 16
    let layers = unsafe try allocate(count * MemoryLayout<ovl_layer>.stride)
      .assumingMemoryBound(to: ovl_layer.self)
    for i in 0..<count {
      let record = unsafe copy.loadUnaligned(fromByteOffset: at, as: LayerRecord.self)
      at += MemoryLayout<LayerRecord>.size
      let size = Int(truncatingIfNeeded: record.length)
      guard size >= 0, text + size < length else { return false }
      unsafe layers[i] = ovl_layer(
        path: (copy + text).assumingMemoryBound(to: CChar.self), length: UInt32(size),
        flags: record.flags, device: record.device, ino_high: record.high)
      text += size + 1
    }
    let targetLength = unsafe Int(copy.loadUnaligned(fromByteOffset: at, as: UInt64.self))
    let workLength = unsafe Int(copy.loadUnaligned(fromByteOffset: at + 8, as: UInt64.self))
    guard text + targetLength + workLength + 2 <= length else { return false }
    let raw = unsafe overlay.raw
    unsafe raw.pointee.target = UnsafePointer((copy + text).assumingMemoryBound(to: CChar.self))
    unsafe raw.pointee.target_length = UInt32(targetLength)
    text += targetLength + 1
    unsafe raw.pointee.work = UnsafePointer((copy + text).assumingMemoryBound(to: CChar.self))
    unsafe raw.pointee.work_length = UInt32(workLength)
    unsafe raw.pointee.layers = layers
    unsafe raw.pointee.layer_count = UInt32(count)
    unsafe raw.pointee.flags = header.flags
    unsafe raw.pointee.device = header.device
    unsafe raw.pointee.root_ino = header.root
    unsafe raw.pointee.poll_ns = header.poll
    return true
  }
}
