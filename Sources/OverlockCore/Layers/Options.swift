import CLinux

/// One overlay's options as written: `lowerdir=a:b,upperdir=u,workdir=w,target=t,…`, with the kernel's
/// names and escapes (`\:`, `\,`, `\\`), and `\NNN` (octal) for any byte, as /proc/mounts has it.
struct Options {
  /// Lowers, still escaped and joined by ':'.
  var lowers = unsafe PathView("", 0)
  var upper = unsafe PathView("", 0)
  var work = unsafe PathView("", 0)
  var target = unsafe PathView("", 0)
  var registry = unsafe PathView("", 0)
  var flags: UInt32 = 0
  /// How often lowers are looked at, in nanoseconds; nil: as their file systems need.
  var poll: UInt64?
  var seen: UInt32 = 0

  /// - Parameter message: gets the reason, without a newline, on failure.
  /// - Errors: EINVAL.
  static func parse(_ line: PathView, _ message: inout PathBuffer) throws(Errno) -> Options {
    var options = Options()
    var start = 0
    while start < line.count {
      var end = start
      while end < line.count, line[end] != UInt8(ascii: ",") {
        end += line[end] == UInt8(ascii: "\\") ? 2 : 1
      }
      end = min(end, line.count)
      let option = line.from(start).prefix(end - start)
      start = end + 1
      if option.isEmpty { continue }
      var equals = 0
      while equals < option.count, option[equals] != UInt8(ascii: "=") { equals += 1 }
      let key = option.prefix(equals)
      let hasValue = equals < option.count
      let value = hasValue ? option.from(equals + 1) : option.from(option.count)
      guard try options.take(key, value, hasValue, &message) else {
        try message.append("unknown option '")
        try message.append(key)
        try message.append("'")
        throw .invalid
      }
    }
    try options.validate(&message)
    return options
  }

  private mutating func take(
    _ key: PathView, _ value: PathView, _ hasValue: Bool, _ message: inout PathBuffer
  ) throws(Errno) -> Bool {
    var bit: UInt32
    if key.equals("lowerdir") {
      lowers = value
      bit = 1
    } else if key.equals("upperdir") {
      upper = try Options.unescape(value)
      bit = 2
    } else if key.equals("workdir") {
      work = try Options.unescape(value)
      bit = 4
    } else if key.equals("target") {
      target = try Options.unescape(value)
      bit = 8
    } else if key.equals("registry") {
      registry = try Options.unescape(value)
      bit = 16
    } else if key.equals("userxattr") {
      flags |= UInt32(OVL_USERXATTR)
      return !hasValue
    } else if key.equals("mand") {
      flags |= UInt32(OVL_MAND)
      return !hasValue
    } else if key.equals("unreached") {
      flags &= ~UInt32(OVL_UNREACHED_ALLOW | OVL_UNREACHED_WARN | OVL_UNREACHED_REFUSE)
      if value.equals("allow") {
        flags |= UInt32(OVL_UNREACHED_ALLOW)
      } else if value.equals("warn") {
        flags |= UInt32(OVL_UNREACHED_WARN)
      } else if value.equals("refuse") {
        flags |= UInt32(OVL_UNREACHED_REFUSE)
      } else {
        try message.append("unreached= takes allow, warn or refuse, not '")
        try message.append(value)
        try message.append("'")
        throw .invalid
      }
      return true
    } else if key.equals("locks") {
      try takeLocks(value, &message)
      return true
    } else if key.equals("poll") {
      poll = PolledFileSystems.interval(value)
      if poll != nil { return true }
      try message.append("poll= takes seconds, a day at most, not '")
      try message.append(value)
      try message.append("'")
      throw .invalid
    } else {
      return false
    }
    if value.isEmpty {
      try message.append(key)
      try message.append("= needs a path")
      throw .invalid
    }
    if seen & bit != 0 {
      try message.append(key)
      try message.append("= given twice")
      throw .invalid
    }
    seen |= bit
    return true
  }

  /// Whose locks count of an object that was copied up (`Overlay.contestOnCopyUp`).
  private mutating func takeLocks(_ value: PathView, _ message: inout PathBuffer) throws(Errno) {
    flags &= ~UInt32(OVL_LOCKS_ORIGIN | OVL_LOCKS_OVERLAY)
    if value.equals("source") { return }
    if value.equals("origin") {
      flags |= UInt32(OVL_LOCKS_ORIGIN)
    } else if value.equals("overlay") {
      flags |= UInt32(OVL_LOCKS_OVERLAY)
    } else {
      try message.append("locks= takes source, origin or overlay, not '")
      try message.append(value)
      try message.append("'")
      throw .invalid
    }
  }

  private func validate(_ message: inout PathBuffer) throws(Errno) {
    if lowers.isEmpty {
      try message.append("lowerdir= is missing")
    } else if target.isEmpty {
      try message.append("target= is missing")
    } else if upper.isEmpty != work.isEmpty {
      try message.append("upperdir= and workdir= go together")
    } else {
      try requireAbsolute(upper, &message)
      try requireAbsolute(work, &message)
      try requireAbsolute(target, &message)
      try requireAbsolute(registry, &message)
      return
    }
    throw .invalid
  }

  private func requireAbsolute(_ path: PathView, _ message: inout PathBuffer) throws(Errno) {
    if path.isEmpty || path[0] == slash { return }
    try message.append("'")
    try message.append(path)
    try message.append("': paths must be absolute")
    throw .invalid
  }

  /// The next lower of the list, unescaped; nil at the end.
  static func nextLower(_ list: PathView, _ position: inout Int) throws(Errno) -> PathView? {
    guard position < list.count else { return nil }
    var end = position
    while end < list.count, list[end] != UInt8(ascii: ":") {
      end += list[end] == UInt8(ascii: "\\") ? 2 : 1
    }
    end = min(end, list.count)
    let part = list.from(position).prefix(end - position)
    position = end + 1
    return try unescape(part)
  }

  private static func unescape(_ text: PathView) throws(Errno) -> PathView {
    let memory = unsafe try Arena.allocate(text.count + 1).assumingMemoryBound(to: UInt8.self)
    var n = 0
    var i = 0
    while i < text.count {
      var byte = text[i]
      if byte == UInt8(ascii: "\\"), i + 1 < text.count {
        if i + 3 < text.count, let code = octal(text.from(i + 1).prefix(3)) {
          byte = code
          i += 3
        } else {
          byte = text[i + 1]
          i += 1
        }
      }
      unsafe memory[n] = byte
      n += 1
      i += 1
    }
    unsafe memory[n] = 0
    return unsafe PathView(memory, n)
  }

  private static func octal(_ text: PathView) -> UInt8? {
    var value = 0
    for i in 0..<3 {
      guard text[i] >= 48, text[i] <= 55 else { return nil }
      value = value * 8 + Int(text[i] - 48)
    }
    return value < 256 && value > 0 ? UInt8(value) : nil
  }
}
