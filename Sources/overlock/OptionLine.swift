/// One overlay's options as written, `lowerdir=a:b,upperdir=u,workdir=w,target=t`, still escaped.
/// Judges nothing: the core does, and says why.
struct OptionLine: Equatable {
  struct Option: Equatable {
    var key: String
    /// nil: there is no `=`.
    var value: String?
  }

  var options: [Option]

  static let keys = [
    "lowerdir", "upperdir", "workdir", "target", "registry", "mand", "userxattr", "unreached",
    "locks", "poll",
  ]

  init(_ text: String) {
    options = OptionLine.split(text, at: ",").map { option in
      guard let equals = option.firstIndex(of: "=") else { return Option(key: option, value: nil) }
      return Option(
        key: String(option[..<equals]), value: String(option[option.index(after: equals)...]))
    }
  }

  /// An overlay over a directory itself: it is the lower and the target.
  init(over directory: Path, upper: Path, work: Path) {
    options = [
      Option(key: "lowerdir", value: directory.escaped),
      Option(key: "upperdir", value: upper.escaped),
      Option(key: "workdir", value: work.escaped),
      Option(key: "target", value: directory.escaped),
    ]
  }

  var text: String {
    options.map { option in option.value.map { "\(option.key)=\($0)" } ?? option.key }
      .joined(separator: ",")
  }

  /// The same with every relative path taken from `directory`, and no newline in it: a newline ends
  /// an overlay in `OVERLOCK`.
  func absolute(from directory: Path?) -> OptionLine {
    var result = self
    let base = directory.map { $0.appending("").escaped }
    func complete(_ path: String) -> String {
      guard !path.isEmpty, !path.hasPrefix("/"), let base else { return path }
      return base + path
    }
    for i in result.options.indices {
      guard var value = result.options[i].value else { continue }
      value = value.split(separator: "\n", omittingEmptySubsequences: false)
        .joined(separator: Path.octal(10))
      switch result.options[i].key {
      case "lowerdir":
        value = OptionLine.split(value, at: ":").map(complete).joined(separator: ":")
      case "upperdir", "workdir", "target", "registry": value = complete(value)
      default: break
      }
      result.options[i].value = value
    }
    return result
  }

  /// The unescaped path of an option; nil where it is not given.
  func path(_ key: String) -> Path? {
    guard let value = options.last(where: { $0.key == key })?.value, !value.isEmpty else {
      return nil
    }
    return OptionLine.unescape(value)
  }

  /// Every directory that holds a part of the tree, as unescaped paths.
  var layers: [(key: String, path: Path)] {
    let lowers = options.last { $0.key == "lowerdir" }?.value ?? ""
    var result = OptionLine.split(lowers, at: ":").filter { !$0.isEmpty }
      .map { (key: "lowerdir", path: OptionLine.unescape($0)) }
    for key in ["upperdir", "workdir"] {
      if let path = path(key) { result.append((key, path)) }
    }
    return result
  }

  /// Cuts at every separator that is not escaped.
  static func split(_ text: String, at separator: Unicode.Scalar) -> [String] {
    var parts = [""]
    var escaped = false
    for scalar in text.unicodeScalars {
      if scalar == separator, !escaped {
        parts.append("")
        continue
      }
      escaped = scalar == "\\" && !escaped
      parts[parts.count - 1].unicodeScalars.append(scalar)
    }
    return parts
  }

  /// `\NNN` in octal is a byte, `\` and anything else is that itself.
  static func unescape(_ text: String) -> Path {
    let bytes = Array(text.utf8)
    var result: [UInt8] = []
    var i = 0
    while i < bytes.count {
      guard bytes[i] == UInt8(ascii: "\\"), i + 1 < bytes.count else {
        result.append(bytes[i])
        i += 1
        continue
      }
      let digits = bytes[(i + 1)...].prefix(3)
      if digits.count == 3, digits.allSatisfy({ (48...55).contains($0) }),
        let byte = UInt8(String(decoding: digits, as: UTF8.self), radix: 8), byte > 0
      {
        result.append(byte)
        i += 4
      } else {
        result.append(bytes[i + 1])
        i += 2
      }
    }
    return Path(result)
  }
}
