import CLinux

/// The dynamic section of a program or library, read from its file: what it needs, and where that is
/// looked for. Numbers and offsets in it are the file's word, and only ever handed to pread.
@safe struct DynamicSection {
  private let fd: Int32
  /// The string table's place in the file, 0: not known.
  private let strings: Int
  private let entries: UnsafePointer<UInt64>
  private let count: Int

  static let needed: UInt64 = 1
  static let name: UInt64 = 14
  static let rpath: UInt64 = 15
  static let runpath: UInt64 = 29
  private static let stringTable: UInt64 = 5

  /// nil: it has none, or none that can be read.
  ///
  /// - Parameters:
  ///   - head: the first `n` bytes of the file, of which the first 64 are an ELF header.
  ///   - memory: room for the entries.
  init?(
    _ fd: Int32, _ head: UnsafePointer<UInt8>, _ n: Int, _ memory: UnsafeMutablePointer<UInt8>,
    _ room: Int
  ) {
    guard n >= 64 else { return nil }
    let raw = unsafe UnsafeRawPointer(head)
    let offset = unsafe raw.loadUnaligned(fromByteOffset: 32, as: UInt64.self)
    let size = unsafe Int(raw.loadUnaligned(fromByteOffset: 54, as: UInt16.self))
    let headers = unsafe Int(raw.loadUnaligned(fromByteOffset: 56, as: UInt16.self))
    // Linkers put the program headers behind the ELF header; a few hundred bytes hold them.
    guard size == 56, offset < 1 << 40, Int(offset) + headers * 56 <= n else { return nil }
    var place = 0
    var length = 0
    for i in 0..<headers where unsafe DynamicSection.kind(raw, Int(offset) + i * 56) == 2 {
      place = unsafe DynamicSection.word(raw, Int(offset) + i * 56 + 8)
      length = unsafe DynamicSection.word(raw, Int(offset) + i * 56 + 32)
    }
    guard place > 0, length > 0 else { return nil }
    let got = unsafe lx_pread(fd, memory, min(length, room), place)
    guard got >= 16 else { return nil }
    self.fd = fd
    unsafe entries = UnsafeRawPointer(memory).assumingMemoryBound(to: UInt64.self)
    count = got / 16
    var table = 0
    for i in 0..<count where unsafe entries[i * 2] == DynamicSection.stringTable {
      table = unsafe Int(truncatingIfNeeded: entries[i * 2 + 1])
    }
    var found = 0
    for i in 0..<headers where unsafe DynamicSection.kind(raw, Int(offset) + i * 56) == 1 {
      let at = Int(offset) + i * 56
      let address = unsafe DynamicSection.word(raw, at + 16)
      let span = unsafe DynamicSection.word(raw, at + 32)
      if table >= address, table - address < span {
        found = unsafe DynamicSection.word(raw, at + 8) &+ (table - address)
      }
    }
    strings = found
  }

  private static func kind(_ raw: UnsafeRawPointer, _ at: Int) -> UInt32 {
    unsafe raw.loadUnaligned(fromByteOffset: at, as: UInt32.self)
  }

  /// A number of the file's, 0 where it is absurd.
  private static func word(_ raw: UnsafeRawPointer, _ at: Int) -> Int {
    let value = unsafe raw.loadUnaligned(fromByteOffset: at, as: UInt64.self)
    return value < 1 << 48 ? Int(value) : 0
  }

  /// The value of the n-th entry of that tag (from 0).
  func value(_ tag: UInt64, _ n: Int = 0) -> UInt64? {
    var left = n
    for i in 0..<count {
      let found = unsafe entries[i * 2]
      if found == 0 { return nil }
      if found == tag {
        if left == 0 { return unsafe entries[i * 2 + 1] }
        left -= 1
      }
    }
    return nil
  }

  var hasSearchPath: Bool {
    value(DynamicSection.rpath) != nil || value(DynamicSection.runpath) != nil
  }

  /// Reads the string of an entry into memory, NUL-terminated. nil: none, or too long.
  func string(_ value: UInt64?, _ memory: UnsafeMutablePointer<UInt8>, _ room: Int) -> PathView? {
    guard let value, value < 1 << 32, strings > 0 else { return nil }
    let got = unsafe lx_pread(fd, memory, room, strings &+ Int(value))
    var end = 0
    while end < got {
      if unsafe memory[end] == 0 { return unsafe PathView(UnsafePointer(memory), end) }
      end += 1
    }
    return nil
  }

  /// Whether a library is needed by a path, which ld.so opens as it is.
  func needsPath(_ memory: UnsafeMutablePointer<UInt8>, _ room: Int) -> Bool {
    var low = UInt64.max
    var high: UInt64 = 0
    var n = 0
    while let value = value(DynamicSection.needed, n) {
      low = min(low, value)
      high = max(high, value)
      n += 1
    }
    guard n > 0, high < 1 << 32, strings > 0 else { return false }
    // All names at once: they stand together as a rule.
    let got = unsafe lx_pread(fd, memory, min(Int(high - low) + 256, room), strings &+ Int(low))
    n = 0
    while let value = value(DynamicSection.needed, n) {
      var i = Int(value - low)
      while i < got, unsafe memory[i] != 0 {
        if unsafe memory[i] == slash { return true }
        i += 1
      }
      n += 1
    }
    return false
  }
}

extension Elf {
  /// Whether ld.so would take the file, or stop at it: it goes on searching where the file cannot be
  /// opened or is made for another machine.
  static func mayLoad(_ real: PathView) -> Bool {
    let r = unsafe lx_openat(
      AT_FDCWD, UnsafeRawPointer(real.base).assumingMemoryBound(to: CChar.self),
      O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0)
    if r < 0 { return false }
    let fd = Int32(truncatingIfNeeded: r)
    defer { _ = lx_close(fd) }
    var head: InlineArray<32, UInt8> = InlineArray(repeating: 0)
    let n = unsafe withUnsafeMutablePointer(to: &head) { unsafe lx_pread(fd, $0, 32, 0) }
    guard n >= 20, head[0] == 0x7f, head[1] == 0x45, head[2] == 0x4c, head[3] == 0x46 else {
      return n >= 0
    }
    return head[4] == 2 && UInt16(head[18]) | UInt16(head[19]) << 8 == machine
  }
}
