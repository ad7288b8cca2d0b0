import Glibc

/// Where the uppers of `--over` live: `$XDG_STATE_HOME/overlock/NAME`, with `upper` and `work` in it,
/// or numbered folders that have them, one for each directory. The file `overlays` holds their option
/// lines; it is written last, so a folder without it is not finished, and a name that belongs to
/// other directories is recognised by it.
struct StateFolder {
  let path: Path
  let name: String

  init(name: String?, over directories: [Path]) throws {
    self.name = try StateFolder.checked(name) ?? StateFolder.defaultName(directories)
    path = try StateFolder.home().appending("overlock").appending(self.name)
  }

  /// Makes what is missing.
  func prepare(_ directories: [Path]) throws -> [OptionLine] {
    try make(path, parents: true)
    let lock = unsafe path.withCString { unsafe open($0, O_RDONLY | O_DIRECTORY | O_CLOEXEC) }
    guard lock >= 0, flock(lock, LOCK_EX) == 0 else { throw failure(path, errno) }
    defer { close(lock) }
    let lines = directories.enumerated().map { (i, directory) in
      let folder = directories.count == 1 ? path : path.appending(String(i + 1))
      return OptionLine(
        over: directory, upper: folder.appending("upper"), work: folder.appending("work"))
    }
    let wanted = lines.map { $0.text + "\n" }.joined()
    let file = path.appending("overlays")
    let found = try read(file)
    guard found == nil || found == wanted else {
      let others = (found ?? "").split(separator: "\n")
        .compactMap { OptionLine(String($0)).path("target")?.text }.joined(separator: ", ")
      throw Failure(
        "the name '\(name)' belongs to an overlay over \(others)",
        advice: "choose another with --name, or remove \(path.text)")
    }
    for (directory, line) in zip(directories, lines) {
      guard let upper = line.path("upperdir"), let work = line.path("workdir") else { continue }
      try make(upper, parents: true)
      try make(work, parents: false)
      if found == nil { try Attributes.copy(from: directory, to: upper) }
    }
    if found == nil { try write(wanted, to: file) }
    return lines
  }

  // MARK: - What there is

  /// The names that were used, finished or not.
  static func names() throws -> [String] {
    // Where there is no home nothing is kept in it.
    guard let home = try? home() else { return [] }
    return Processes.entries(home.appending("overlock").text).filter { !$0.hasPrefix(".") }.sorted()
  }

  /// The option lines of a name; none where its folder was not finished. Errors: a failure that names the folder.
  static func overlays(named name: String) throws -> [OptionLine] {
    let folder = try StateFolder(name: name, over: [])
    guard unsafe folder.path.withCString({ unsafe access($0, F_OK) }) == 0 else {
      throw Failure(
        "--name \(name): \(folder.path.text)", code: errno,
        advice: errno == ENOENT ? "no overlay was given this name" : "")
    }
    let lines = try folder.read(folder.path.appending("overlays")) ?? ""
    return lines.split(separator: "\n").map { OptionLine(String($0)) }
  }

  // MARK: - Names

  /// Readable, and another one for other directories: the last component of the first, and a hash of
  /// all (FNV-1a, folded to 32 bits).
  static func defaultName(_ directories: [Path]) -> String {
    var hash: UInt64 = 0xcbf2_9ce4_8422_2325
    for byte in directories.map(\.bytes).joined(separator: [0]) {
      hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3
    }
    let last = directories.first?.bytes.split(separator: UInt8(ascii: "/")).last ?? []
    let readable = String(
      decoding: last.prefix(40).map { isPlain($0) ? $0 : UInt8(ascii: "_") }, as: UTF8.self
    ).drop { $0 == "." }
    let digits = String(UInt32(truncatingIfNeeded: hash ^ (hash >> 32)), radix: 16)
    return (readable.isEmpty ? "root" : String(readable)) + "-"
      + String(repeating: "0", count: 8 - digits.count) + digits
  }

  private static func isPlain(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
      UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "."), UInt8(ascii: "_"),
      UInt8(ascii: "-"):
      return true
    default: return false
    }
  }

  private static func checked(_ name: String?) throws -> String? {
    guard let name else { return nil }
    guard !name.isEmpty, !name.hasPrefix("."), !name.utf8.contains(UInt8(ascii: "/")),
      name.utf8.count <= 200
    else {
      throw Failure(
        "--name '\(name)' cannot name a folder",
        advice: "use up to 200 bytes, no '/', and no '.' in front")
    }
    return name
  }

  /// XDG Base Directory Specification: a relative path counts as none.
  private static func home() throws -> Path {
    if let state = Path.variable("XDG_STATE_HOME"), state.isAbsolute { return state }
    guard let home = Path.variable("HOME"), home.isAbsolute else {
      throw Failure("neither XDG_STATE_HOME nor HOME is set", advice: "set one, or use -o")
    }
    return home.appending(".local/state")
  }

  // MARK: - Files

  private func failure(_ path: Path, _ code: Int32) -> Failure {
    Failure(path.text, code: code, advice: "let XDG_STATE_HOME name a directory to keep uppers in")
  }

  /// 0700: what is written in an overlay is as private as what it was copied from.
  private func make(_ path: Path, parents: Bool) throws {
    if unsafe path.withCString({ unsafe mkdir($0, 0o700) }) == 0 || errno == EEXIST { return }
    guard errno == ENOENT, parents, let end = path.bytes.lastIndex(of: UInt8(ascii: "/")), end > 0
    else { throw failure(path, errno) }
    try make(Path(Array(path.bytes[..<end])), parents: true)
    try make(path, parents: false)
  }

  private func read(_ file: Path) throws -> String? {
    let fd = unsafe file.withCString { unsafe open($0, O_RDONLY | O_CLOEXEC) }
    if fd < 0, errno == ENOENT { return nil }
    guard fd >= 0 else { throw failure(file, errno) }
    defer { close(fd) }
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 4096)
    while true {
      let n = unsafe Glibc.read(fd, &buffer, buffer.count)
      if n < 0 { throw failure(file, errno) }
      if n == 0 { return String(decoding: bytes, as: UTF8.self) }
      bytes += buffer.prefix(n)
    }
  }

  /// Under another name first: who is killed in between leaves no half of it.
  private func write(_ text: String, to file: Path) throws {
    let draft = Path(file.bytes + Array(".new".utf8))
    let fd = unsafe draft.withCString {
      unsafe open($0, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
    }
    guard fd >= 0 else { throw failure(draft, errno) }
    let bytes = Array(text.utf8)
    let written = unsafe Glibc.write(fd, bytes, bytes.count)
    let code = errno
    close(fd)
    guard written == bytes.count else { throw failure(draft, written < 0 ? code : ENOSPC) }
    let renamed = unsafe draft.withCString { from in
      unsafe file.withCString { unsafe rename(from, $0) }
    }
    guard renamed == 0 else { throw failure(file, errno) }
  }
}
