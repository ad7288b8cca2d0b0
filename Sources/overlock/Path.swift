import Glibc

/// A path as the file system has it: bytes, not text.
struct Path: Equatable {
  var bytes: [UInt8]

  init(_ bytes: [UInt8]) { self.bytes = bytes }
  init(_ text: String) { bytes = Array(text.utf8) }
  init(cString: UnsafePointer<CChar>) {
    bytes = unsafe Array(UnsafeBufferPointer(start: cString, count: strlen(cString))).map {
      UInt8(bitPattern: $0)
    }
  }

  var isAbsolute: Bool { bytes.first == UInt8(ascii: "/") }

  func appending(_ component: String) -> Path {
    Path(bytes + (bytes.last == UInt8(ascii: "/") ? [] : [UInt8(ascii: "/")]) + component.utf8)
  }

  func appending(_ component: [UInt8]) -> Path {
    Path(bytes + (bytes.last == UInt8(ascii: "/") ? [] : [UInt8(ascii: "/")]) + component)
  }

  /// Whether this is `other` or lies below it. Both canonical.
  func isAt(orBelow other: Path) -> Bool {
    let root = other.bytes == [UInt8(ascii: "/")] ? [] : other.bytes
    guard bytes.starts(with: root) else { return false }
    return bytes.count == root.count || bytes[root.count] == UInt8(ascii: "/")
  }

  /// For messages.
  var text: String { String(decoding: bytes, as: UTF8.self) }

  /// As a value of the option line: what stands for something there is escaped as the kernel's
  /// options have it, and what is not plain text in octal, as in /proc/mounts.
  var escaped: String {
    let plain = String(validating: bytes, as: UTF8.self) != nil
    var result: [UInt8] = []
    for byte in bytes {
      switch byte {
      case UInt8(ascii: ":"), UInt8(ascii: ","), UInt8(ascii: "\\"):
        result += [UInt8(ascii: "\\"), byte]
      case 0..<0x20, 0x7f: result += Path.octal(byte).utf8
      case 0x80... where !plain: result += Path.octal(byte).utf8
      default: result.append(byte)
      }
    }
    return String(decoding: result, as: UTF8.self)
  }

  static func octal(_ byte: UInt8) -> String {
    let digits = String(byte, radix: 8)
    return "\\" + String(repeating: "0", count: 3 - digits.count) + digits
  }

  /// For C. No path that the kernel or an argument gave has a NUL in it.
  func withCString<Result, E>(
    _ body: (UnsafePointer<CChar>) throws(E) -> Result
  ) throws(E) -> Result {
    let terminated = bytes.map { CChar(bitPattern: $0) } + [0]
    return unsafe try terminated.withUnsafeBufferPointer { (text) throws(E) in
      unsafe try body(text.baseAddress!)
    }
  }
}

extension Path {
  /// The canonical path. The corresponding C function is `realpath`.
  /// - Errors: a failure that names `role` and the path.
  func resolved(as role: String) throws -> Path {
    guard let real = unsafe withCString({ unsafe realpath($0, nil) }) else {
      let code = errno
      throw Failure(
        "\(role) \(text)", code: code, advice: Advice.next(code, about: role))
    }
    defer { unsafe free(real) }
    return unsafe Path(cString: real)
  }

  /// The working directory; nil where it has no path any more.
  static func working() -> Path? {
    guard let path = unsafe getcwd(nil, 0) else { return nil }
    defer { unsafe free(path) }
    return unsafe Path(cString: path)
  }

  /// A variable of the environment; nil where it is unset or empty.
  static func variable(_ name: String) -> Path? {
    guard let value = unsafe getenv(name), unsafe value.pointee != 0 else { return nil }
    return unsafe Path(cString: value)
  }
}
