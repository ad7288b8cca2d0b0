import CLinux

/// The dynamic string tokens of ld.so(8).
enum LibraryToken {
  #if arch(x86_64)
    private static var multiarchDirectory: StaticString { "/lib/x86_64-linux-gnu" }
  #else
    private static var multiarchDirectory: StaticString { "/lib/aarch64-linux-gnu" }
  #endif

  /// Appends the text with its tokens replaced. A dollar sign that starts none stays.
  static func expand(
    _ text: PathView, _ seeker: LibrarySearch.Seeker, into path: inout PathBuffer
  ) throws(Errno) {
    var i = 0
    while i < text.count {
      guard text[i] == UInt8(ascii: "$") else {
        try path.append(text[i])
        i += 1
        continue
      }
      let rest = text.from(i + 1)
      if let n = length(of: "ORIGIN", in: rest) {
        guard let origin = unsafe seeker.pointee.origin else { throw .noEntry }
        try unsafe path.append(PathView(origin))
        i += 1 + n
      } else if let n = length(of: "LIB", in: rest) {
        // Built into ld.so: the multiarch directory where the distribution has such, else lib64.
        let multiarch = unsafe lx_faccessat2(AT_FDCWD, multiarchDirectory.cString, F_OK, 0) == 0
        if multiarch {
          try unsafe path.append(PathView(multiarchDirectory.cString).from(1))
        } else {
          try path.append("lib64")
        }
        i += 1 + n
      } else if let n = length(of: "PLATFORM", in: rest) {
        guard let platform = unsafe seeker.pointee.platform else { throw .noEntry }
        try unsafe path.append(PathView(platform))
        i += 1 + n
      } else {
        try path.append(text[i])
        i += 1
      }
    }
  }

  /// The length of `NAME` or `{NAME}` at the start of the text.
  private static func length(of name: StaticString, in text: PathView) -> Int? {
    let n = name.utf8CodeUnitCount
    if text.hasPrefix(name) {
      guard text.count > n else { return n }
      let c = text[n]
      let continues =
        c == 95 || (c >= 48 && c <= 57) || (c >= 65 && c <= 90) || (c >= 97 && c <= 122)
      return continues ? nil : n
    }
    guard text.count >= n + 2, text[0] == UInt8(ascii: "{"), text[n + 1] == UInt8(ascii: "}"),
      text.from(1).hasPrefix(name)
    else { return nil }
    return n + 2
  }
}

extension StaticString {
  /// The literal itself: it ends in a NUL.
  fileprivate var cString: UnsafePointer<CChar> {
    unsafe UnsafeRawPointer(utf8Start).assumingMemoryBound(to: CChar.self)
  }
}
