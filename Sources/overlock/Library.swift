import Glibc

/// Finding liboverlock.so, and putting it in front of LD_PRELOAD.
enum Library {
  static let file = "liboverlock.so"

  /// `OVERLOCK_LIBRARY`, or beside this program, or in ../lib of where it stands.
  static func find(besides program: Path) throws -> Path {
    if let chosen = Path.variable("OVERLOCK_LIBRARY") {
      return try usable(chosen.resolved(as: "OVERLOCK_LIBRARY"))
    }
    let folder = Path(Array(program.bytes[..<(program.bytes.lastIndex(of: 47) ?? 0)]))
    for place in [folder.appending(file), folder.appending("../lib/\(file)")] {
      if unsafe place.withCString({ unsafe access($0, R_OK) }) == 0 {
        return try usable(place.resolved(as: file))
      }
    }
    throw Failure(
      "\(file) is neither in \(folder.text) nor in its ../lib", code: ENOENT,
      advice: "install it there, or let OVERLOCK_LIBRARY name it")
  }

  /// LD_PRELOAD is a list with two separators and no escape.
  private static func usable(_ path: Path) throws -> Path {
    guard !path.bytes.contains(where: { $0 == UInt8(ascii: ":") || $0 == UInt8(ascii: " ") }) else {
      throw Failure(
        "\(path.text): LD_PRELOAD cannot carry a path with a space or colon in it",
        advice: "install it elsewhere, or let OVERLOCK_LIBRARY name another")
    }
    return path
  }

  /// The value with the library first, then what was there, but for an Overlock that came before.
  static func preload(_ library: Path, before value: Path?) -> Path {
    let others = (value?.bytes ?? [])
      .split { $0 == UInt8(ascii: ":") || $0 == UInt8(ascii: " ") }
      .filter { !Path(Array($0)).isNamed(file) }
    return Path(Array(([library.bytes[...]] + others).joined(separator: ":".utf8)))
  }

  /// Whether the library is in this process. ld.so only warns of a preload that it cannot load, and
  /// the command would then run on the bare directories.
  static func isLoaded(_ library: Path) -> Bool {
    guard
      let handle = unsafe library.withCString({ unsafe dlopen($0, RTLD_LAZY | RTLD_NOLOAD) })
    else { return false }
    unsafe dlclose(handle)
    return true
  }
}

extension Path {
  fileprivate func isNamed(_ name: String) -> Bool {
    bytes == Array(name.utf8) || bytes.reversed().starts(with: "/\(name)".utf8.reversed())
  }
}
