import CLinux

/// Rewrites the lines of a file of `ProcText`: paths of layers become the merged tree's, device and inode
/// numbers those that stat shows.
///
/// A line that is not of the known form is left as it is. Source: fs/proc/task_mmu.c (show_map_vma,
/// show_numa_map), fs/proc/fd.c (seq_show).
struct ProcLines {
  private let kind: ProcText.Kind
  /// Of fdinfo: the object's numbers in its layer, and those that the program sees.
  private var real: (device: UInt64, inode: UInt64) = (0, 0)
  private var shown: (device: UInt64, inode: UInt64)?
  /// Of maps: whose.
  private var process = 0

  /// Where paths start in a line of maps (seq_setwidth in show_vma_header_prefix), and one space.
  private static var pathColumn: Int { 73 }
  private static var bufferSize: Int { 16384 }

  /// - Parameter name: of the file, as the kernel has it.
  init(_ kind: ProcText.Kind, of name: PathView) {
    self.kind = kind
    let owner = name.from(6)
    process = decimal(owner.prefix(owner.firstSlash ?? 0)) ?? 0
  }

  /// Of fdinfo: which object it is about. `name` is the file's own, and is overwritten.
  mutating func find(_ name: inout PathBuffer, _ s: Scratch) throws(Errno) {
    // /proc/PID/fdinfo/N and /proc/PID/fd/N.
    let number = name.view.name
    let folder = name.count - number.count - 5
    for i in 0...number.count { unsafe name.base[folder + i] = name.base[folder + i + 4] }
    name.count -= 4
    var st = stat()
    guard unsafe lx_fstatat(AT_FDCWD, name.cString, &st, 0) == 0,
      st.type == S_IFREG || st.type == S_IFDIR
    else { return }
    var path = s.link
    let n = unsafe lx_readlinkat(
      AT_FDCWD, name.cString,
      UnsafeMutableRawPointer(path.base).assumingMemoryBound(to: CChar.self), 4096)
    guard n > 0, unsafe path.base[0] == slash else { return }
    path.count = n
    real = (st.device, st.inode)
    shown = try withScratch { (s2) throws(Errno) in
      try unsafe ProcLines.numbers(&path, inode: st.inode, link: name.cString, s2)
    }
  }

  /// Replaces a real path by the merged one: what stat shows of the object. nil: it is no layer's.
  ///
  /// - Parameter link: leads to the object also when it has no name any more, if this process may follow it.
  private static func numbers(
    _ path: inout PathBuffer, inode: UInt64, link: UnsafePointer<CChar>, _ s: Scratch
  ) throws(Errno) -> (device: UInt64, inode: UInt64)? {
    let anchored = try Anchor.replaceByLower(&path, s)
    guard let place = try MergedName.replace(&path, lowers: true, s),
      place.layer < place.overlay.layerCount
    else { return nil }
    let overlay = place.overlay
    if let anchored { return (overlay.device, anchored) }
    if place.layer > 0 {
      return (overlay.device, overlay.shownInode(inode, layer: place.layer))
    }
    if place.isRemoved {
      let origin = unsafe overlay.origin(through: link)
      return (overlay.device, origin != 0 ? origin : inode)
    }
    let target = overlay.target.count
    var rel = s.here
    if path.count > target + 1 { try rel.append(path.view.from(target + 1)) }
    var merge = Merge(overlay, s)
    let node = try overlay.lookup(rel.view, s, merge: &merge).node
    return (overlay.device, node.layer == 0 && node.shownInode != 0 ? node.shownInode : inode)
  }

  // MARK: - The text

  /// Whether any line would change. Reads the file to its end or to the first that does.
  mutating func differ(_ fd: Int32, _ s: Scratch) throws(Errno) -> Bool {
    if kind == .descriptor {
      guard let shown else { return false }
      if shown == real { return false }
    }
    return try each(fd, s) { (lines, line, out, s2) throws(Errno) in
      try lines.rewrite(line, &out, s2)
    }
  }

  /// Writes the changed text.
  mutating func write(from fd: Int32, to memory: Int32, _ s: Scratch) throws(Errno) {
    _ = try each(fd, s) { (lines, line, out, s2) throws(Errno) in
      if try !lines.rewrite(line, &out, s2) { try out.set(line) }
      try out.append(UInt8(ascii: "\n"))
      var from = 0
      while from < out.count {
        let n = unsafe lx_write(memory, out.base + from, out.count - from)
        if n == -Int(EINTR) { continue }
        from += try check(n)
      }
      return false
    }
  }

  /// Calls `body` for each line, without its end; stops at the first that it answers true for.
  private mutating func each(
    _ fd: Int32, _ s: Scratch,
    _ body: (inout ProcLines, PathView, inout PathBuffer, Scratch) throws(Errno) -> Bool
  ) throws(Errno) -> Bool {
    var line = s.real
    while true {
      let count = unsafe lx_read(fd, s.spare, ProcLines.bufferSize)
      if count == -Int(EINTR) { continue }
      if try check(count) == 0 { return false }
      for i in 0..<count {
        let byte = unsafe s.spare[i]
        if byte != UInt8(ascii: "\n") {
          try line.append(byte)
          continue
        }
        var out = s.real2
        let stop = try withScratch { (s2) throws(Errno) in try body(&self, line.view, &out, s2) }
        if stop { return true }
        line.count = 0
      }
    }
  }

  // MARK: - One line

  /// False: the line stays as it is, and `out` says nothing.
  private func rewrite(
    _ line: PathView, _ out: inout PathBuffer, _ s: Scratch
  ) throws(Errno) -> Bool {
    switch kind {
    case .maps: try rewriteMap(line, &out, s)
    case .numaMaps: try rewriteNuma(line, &out, s)
    case .descriptor: try rewriteDescriptor(line, &out)
    }
  }

  /// `start-end perms offset major:minor inode   path`
  private func rewriteMap(
    _ line: PathView, _ out: inout PathBuffer, _ s: Scratch
  ) throws(Errno) -> Bool {
    var words = Words(line)
    guard let range = words.next(), range.hasDash, words.next() != nil, words.next() != nil,
      let deviceWord = words.next(), deviceWord.hasColon, let inodeWord = words.next(),
      let inode = decimal64(inodeWord)
    else { return false }
    let fixed = words.start(of: deviceWord)
    var at = words.at
    while at < line.count, line[at] == UInt8(ascii: " ") { at += 1 }
    guard at < line.count, line[at] == slash else { return false }
    var path = s.rest
    try unescape(line.from(at), into: &path)
    // proc_pid_map_files(5)
    out.count = 0
    try out.append("/proc/")
    try out.append(decimal: UInt64(process))
    try out.append("/map_files/")
    try out.append(range)
    let found = try withScratch { (s2) throws(Errno) in
      try unsafe ProcLines.numbers(&path, inode: inode, link: out.cString, s2)
    }
    guard let numbers = found else { return false }
    out.count = 0
    try out.append(line.prefix(fixed))
    try out.append(device: numbers.device)
    try out.append(UInt8(ascii: " "))
    try out.append(decimal: numbers.inode)
    while out.count < ProcLines.pathColumn - 1 { try out.append(UInt8(ascii: " ")) }
    try out.append(UInt8(ascii: " "))
    try escape(path.view, into: &out, "\n")
    return !out.view.equals(line)
  }

  /// `start policy file=path word…`
  private func rewriteNuma(
    _ line: PathView, _ out: inout PathBuffer, _ s: Scratch
  ) throws(Errno) -> Bool {
    var words = Words(line)
    while let word = words.next() {
      guard word.hasPrefix("file=/") else { continue }
      var path = s.rest
      try unescape(word.from(5), into: &path)
      let found = try withScratch { (s2) throws(Errno) in
        _ = try Anchor.replaceByLower(&path, s2)
        return try MergedName.replace(&path, lowers: true, s2)
      }
      if found == nil { return false }
      out.count = 0
      try out.append(line.prefix(words.start(of: word) + 5))
      try escape(path.view, into: &out, "\n\t= ")
      try out.append(line.from(words.at))
      return !out.view.equals(line)
    }
    return false
  }

  /// `ino:\tnumber`, and `lock:\tnumber: … major:minor:inode start end`.
  private func rewriteDescriptor(_ line: PathView, _ out: inout PathBuffer) throws(Errno) -> Bool {
    guard let shown else { return false }
    out.count = 0
    if line.hasPrefix("ino:\t") {
      try out.append("ino:\t")
      try out.append(decimal: shown.inode)
      return true
    }
    guard line.hasPrefix("lock:\t") else { return false }
    var words = Words(line)
    var file = line.prefix(0)
    // The place of the file is the third word from the end.
    var before = file
    var last = file
    while let word = words.next() {
      file = before
      before = last
      last = word
    }
    guard file.count > 0 else { return false }
    let start = words.start(of: file)
    try out.append(line.prefix(start))
    try out.append(device: shown.device)
    try out.append(UInt8(ascii: ":"))
    try out.append(decimal: shown.inode)
    try out.append(line.from(start + file.count))
    return true
  }

  // MARK: - Escapes (fs/d_path.c, mangle_path): "\ooo" for the characters that the file cannot have.

  private func unescape(_ text: PathView, into path: inout PathBuffer) throws(Errno) {
    var i = 0
    while i < text.count {
      if text[i] == UInt8(ascii: "\\"), i + 3 < text.count, let byte = octal(text.from(i + 1)) {
        try path.append(byte)
        i += 4
      } else {
        try path.append(text[i])
        i += 1
      }
    }
  }

  /// Only what the kernel escapes here is one: other backslashes are the name's own.
  private func octal(_ text: PathView) -> UInt8? {
    let value = text.prefix(3)
    if value.equals("012") { return UInt8(ascii: "\n") }
    guard kind == .numaMaps else { return nil }
    if value.equals("011") { return UInt8(ascii: "\t") }
    if value.equals("040") { return UInt8(ascii: " ") }
    return value.equals("075") ? UInt8(ascii: "=") : nil
  }

  private func escape(
    _ path: PathView, into out: inout PathBuffer, _ special: StaticString
  ) throws(Errno) {
    for i in 0..<path.count {
      let byte = path[i]
      if unsafe PathView(special.utf8Start, special.utf8CodeUnitCount).contains(byte) {
        try out.append(UInt8(ascii: "\\"))
        try out.append(48 + byte >> 6)
        try out.append(48 + byte >> 3 & 7)
        try out.append(48 + byte & 7)
      } else {
        try out.append(byte)
      }
    }
  }
}

/// The words of a line, separated by spaces.
private struct Words {
  private let line: PathView
  /// Behind the last one.
  private(set) var at = 0

  init(_ line: PathView) { self.line = line }

  mutating func next() -> PathView? {
    while at < line.count, line[at] == UInt8(ascii: " ") { at += 1 }
    let from = at
    while at < line.count, line[at] != UInt8(ascii: " ") { at += 1 }
    return at == from ? nil : line.from(from).prefix(at - from)
  }

  func start(of word: PathView) -> Int { unsafe word.base - line.base }
}

extension PathView {
  fileprivate func contains(_ byte: UInt8) -> Bool {
    for i in 0..<count where self[i] == byte { return true }
    return false
  }
  fileprivate var hasDash: Bool { contains(UInt8(ascii: "-")) }
  fileprivate var hasColon: Bool { contains(UInt8(ascii: ":")) }
}

extension PathBuffer {
  /// "major:minor" in hexadecimal, two digits or more each.
  fileprivate mutating func append(device: UInt64) throws(Errno) {
    let major = UInt64(lx_major(device))
    let minor = UInt64(lx_minor(device))
    try append(hex: major, digits: major < 0x100 ? 2 : 3)
    try append(UInt8(ascii: ":"))
    try append(hex: minor, digits: minor < 0x100 ? 2 : minor < 0x1000 ? 3 : 5)
  }
}

private func decimal64(_ text: PathView) -> UInt64? {
  guard text.count > 0, text.count <= 20 else { return nil }
  var value: UInt64 = 0
  for i in 0..<text.count {
    guard text[i] >= 48, text[i] <= 57 else { return nil }
    value = value &* 10 &+ UInt64(text[i] - 48)
  }
  return value
}
