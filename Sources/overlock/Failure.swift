import Glibc

/// Why the command could not be run: the one line that is printed, and the status. 125 to 127 are
/// taken from env(1) and timeout(1), so that the command's own statuses can be told apart.
struct Failure: Error, Equatable {
  enum Status: Int32 {
    /// Overlock itself: options, layers, surroundings.
    case cannotStart = 125
    case notExecutable = 126
    case notFound = 127
  }

  var status: Status
  var line: String

  /// - Parameters:
  ///   - what: what is wrong, with the path it is about.
  ///   - code: the errno behind it; 0: none, or its words would mislead.
  ///   - advice: what to do next.
  init(_ what: String, code: Int32 = 0, advice: String = "", status: Status = .cannotStart) {
    self.status = status
    var line = what
    let words = code == 0 ? "" : Failure.words(code)
    // The core has words of its own for some.
    let said =
      line.lowercased().contains(words.lowercased())
      || (code == ENOENT && line.hasSuffix("no such directory"))
    if !words.isEmpty, !said { line += ": " + words }
    if !advice.isEmpty { line += "; " + advice }
    self.line = printable(line)
  }

  static func words(_ code: Int32) -> String { unsafe String(cString: strerror(code)) }

  func exit() -> Never {
    let text = Array("overlock: \(line)\n".utf8)
    _ = unsafe text.withUnsafeBytes { unsafe write(STDERR_FILENO, $0.baseAddress, $0.count) }
    Glibc.exit(status.rawValue)
  }
}

/// Keeps a message to one line, whatever a path in it holds.
func printable(_ text: String) -> String {
  var result = ""
  for scalar in text.unicodeScalars {
    if scalar.value < 0x20 || scalar.value == 0x7f {
      result += Path.octal(UInt8(scalar.value))
    } else {
      result.unicodeScalars.append(scalar)
    }
  }
  return result
}
