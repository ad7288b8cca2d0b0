import CLinux

let slash = UInt8(ascii: "/")
let dot = UInt8(ascii: ".")

/// A borrowed run of path bytes. Whoever makes one sees to it that the bytes outlive it.
@safe struct PathView {
  let base: UnsafePointer<UInt8>
  let count: Int

  @inline(__always) init(_ base: UnsafePointer<UInt8>, _ count: Int) {
    unsafe self.base = base
    self.count = count
  }

  /// A C string.
  @inline(__always) init(_ string: UnsafePointer<CChar>) {
    let bytes = unsafe UnsafeRawPointer(string).assumingMemoryBound(to: UInt8.self)
    unsafe self.init(bytes, pathLength(bytes))
  }

  @inline(__always) subscript(_ i: Int) -> UInt8 { unsafe base[i] }

  @inline(__always) var isEmpty: Bool { count == 0 }

  @inline(__always) func prefix(_ n: Int) -> PathView { unsafe PathView(base, n) }
  @inline(__always) func from(_ n: Int) -> PathView { unsafe PathView(base + n, count - n) }

  @inline(__always) func equals(_ other: PathView) -> Bool {
    guard count == other.count else { return false }
    return unsafe sameBytes(base, other.base, count)
  }

  /// Whether this is `root` or lies below it (both canonical; `root` may be "" for "/").
  @inline(__always) func isAt(orBelow root: PathView) -> Bool {
    guard count >= root.count else { return false }
    guard unsafe sameBytes(base, root.base, root.count) else { return false }
    return count == root.count || self[root.count] == slash
  }

  /// Offset of the last slash, or -1.
  @inline(__always) var lastSlash: Int {
    var i = count - 1
    while i >= 0, self[i] != slash { i -= 1 }
    return i
  }

  /// "a/b/c" → "a/b"; "a" → "".
  var parent: PathView {
    let i = lastSlash
    return prefix(i < 0 ? 0 : i)
  }

  /// "a/b/c" → "c".
  var name: PathView { from(lastSlash + 1) }

  @inline(__always) var isDot: Bool { count == 1 && self[0] == dot }
  @inline(__always) var isDotDot: Bool { count == 2 && self[0] == dot && self[1] == dot }
}

/// Length of a C string; stops at nothing but the NUL, as the caller's string is its own affair.
@inline(__always) func pathLength(_ p: UnsafePointer<UInt8>) -> Int {
  var n = 0
  while unsafe p[n] != 0 { n += 1 }
  return n
}

@inline(__always)
func sameBytes(_ a: UnsafePointer<UInt8>, _ b: UnsafePointer<UInt8>, _ count: Int) -> Bool {
  let ra = unsafe UnsafeRawPointer(a)
  let rb = unsafe UnsafeRawPointer(b)
  var i = 0
  while count - i >= 8 {
    if unsafe ra.loadUnaligned(fromByteOffset: i, as: UInt64.self)
      != rb.loadUnaligned(fromByteOffset: i, as: UInt64.self)
    {
      return false
    }
    i += 8
  }
  while i < count {
    if unsafe a[i] != b[i] { return false }
    i += 1
  }
  return true
}

@inline(__always)
func copyBytes(_ to: UnsafeMutablePointer<UInt8>, _ from: UnsafePointer<UInt8>, _ count: Int) {
  unsafe UnsafeMutableRawPointer(to).copyMemory(from: from, byteCount: count)
}

/// A path under construction in memory that somebody else owns. Every append checks the room and
/// keeps one byte for the terminating NUL.
@safe struct PathBuffer {
  let base: UnsafeMutablePointer<UInt8>
  let capacity: Int
  var count = 0

  @inline(__always) init(_ base: UnsafeMutablePointer<UInt8>, capacity: Int) {
    unsafe self.base = base
    self.capacity = capacity
  }

  @inline(__always) var view: PathView { unsafe PathView(UnsafePointer(base), count) }

  /// NUL-terminated, for a system call; valid until the next change.
  @inline(__always) var cString: UnsafePointer<CChar> {
    unsafe base[count] = 0
    return unsafe UnsafeRawPointer(base).assumingMemoryBound(to: CChar.self)
  }

  @inline(__always) mutating func append(_ text: PathView) throws(Errno) {
    guard count + text.count < capacity else { throw .nameTooLong }
    unsafe copyBytes(base + count, text.base, text.count)
    count += text.count
  }

  @inline(__always) mutating func append(_ byte: UInt8) throws(Errno) {
    guard count + 1 < capacity else { throw .nameTooLong }
    unsafe base[count] = byte
    count += 1
  }

  mutating func append(_ text: StaticString) throws(Errno) {
    try unsafe append(PathView(text.utf8Start, text.utf8CodeUnitCount))
  }

  /// Adds "/name", or "name" to an empty relative path.
  @inline(__always) mutating func appendRelative(_ name: PathView) throws(Errno) {
    if count > 0 { try append(slash) }
    try append(name)
  }

  /// Adds "/rel"; nothing for an empty one.
  @inline(__always) mutating func appendBelow(_ rel: PathView) throws(Errno) {
    if rel.isEmpty { return }
    try append(slash)
    try append(rel)
  }

  mutating func append(hex value: UInt64, digits: Int = 16) throws(Errno) {
    var shift = (digits - 1) * 4
    while shift >= 0 {
      let nibble = UInt8(truncatingIfNeeded: value >> UInt64(shift)) & 15
      try append(nibble < 10 ? 48 + nibble : 87 + nibble)
      shift -= 4
    }
  }

  mutating func append(decimal value: UInt64) throws(Errno) {
    var divisor: UInt64 = 1
    while value / divisor >= 10 { divisor *= 10 }
    while divisor > 0 {
      try append(48 + UInt8(truncatingIfNeeded: value / divisor % 10))
      divisor /= 10
    }
  }

  /// The text without the repeated slashes and the "." between its names.
  mutating func append(namesOf text: PathView) throws(Errno) {
    var i = 0
    while i < text.count {
      let isDouble = text[i] == slash && i > 0 && text[i - 1] == slash
      if text[i] == dot, i == 0 || text[i - 1] == slash, i + 1 < text.count, text[i + 1] == slash,
        i > 0 || count > 0 || i + 2 < text.count
      {
        i += 2
        while i < text.count, text[i] == slash { i += 1 }
        continue
      }
      if !isDouble { try append(text[i]) }
      i += 1
    }
  }

  mutating func set(_ text: PathView) throws(Errno) {
    count = 0
    try append(text)
  }

  /// Puts text before what is there (a symbolic link's target before the rest of a walk).
  /// Without the first bytes.
  mutating func dropFirst(_ n: Int) throws(Errno) {
    guard n >= 0, n <= count else { throw .noEntry }
    for i in 0..<(count - n) { unsafe base[i] = base[i + n] }
    count -= n
  }

  mutating func prepend(_ text: PathView) throws(Errno) {
    guard count + text.count < capacity else { throw .nameTooLong }
    var i = count - 1
    while i >= 0 {
      unsafe base[i + text.count] = base[i]
      i -= 1
    }
    unsafe copyBytes(base, text.base, text.count)
    count += text.count
  }
}

/// Parses 16 hexadecimal digits, as `append(hex:)` writes them; nil for anything else.
func hexadecimal(_ text: PathView) -> UInt64? {
  guard text.count == 16 else { return nil }
  var value: UInt64 = 0
  for i in 0..<16 {
    switch text[i] {
    case 48...57: value = value << 4 | UInt64(text[i] - 48)
    case 97...102: value = value << 4 | UInt64(text[i] - 87)
    default: return nil
    }
  }
  return value
}

/// Parses decimal digits; nil when there are none or something else follows.
func decimal(_ text: PathView) -> Int? {
  guard text.count > 0, text.count <= 10 else { return nil }
  var value = 0
  for i in 0..<text.count {
    let c = text[i]
    guard c >= 48, c <= 57 else { return nil }
    value = value * 10 + Int(c - 48)
  }
  return value
}

extension PathView {
  func equals(_ literal: StaticString) -> Bool {
    unsafe equals(PathView(literal.utf8Start, literal.utf8CodeUnitCount))
  }
  func hasPrefix(_ literal: StaticString) -> Bool {
    count >= literal.utf8CodeUnitCount
      && prefix(literal.utf8CodeUnitCount).equals(literal)
  }
}
