import CLinux
import Glibc

/// What the merged root shows of itself is the upper's: a new upper gets mode, owner, times, ACLs and
/// other extended attributes of the directory that it is put over.
enum Attributes {
  /// What this user may not set stays as it is.
  static func copy(from lower: Path, to upper: Path) throws {
    var st = stat()
    guard unsafe lower.withCString({ unsafe stat($0, &st) }) == 0 else {
      throw Failure(lower.text, code: errno)
    }
    let code = unsafe upper.withCString { upper in
      _ = unsafe chown(upper, st.st_uid, st.st_gid)
      if unsafe chmod(upper, st.st_mode & 0o7777) != 0 { return errno }
      unsafe lower.withCString { unsafe copyExtended(from: $0, to: upper) }
      let times = [st.st_atim, st.st_mtim]
      return unsafe utimensat(AT_FDCWD, upper, times, 0) == 0 ? 0 : errno
    }
    if code != 0 { throw Failure(upper.text, code: code) }
  }

  private static func copyExtended(
    from lower: UnsafePointer<CChar>, to upper: UnsafePointer<CChar>
  ) {
    var names = [CChar](repeating: 0, count: 65536)
    let listed = unsafe listxattr(lower, &names, names.count)
    guard listed > 0 else { return }
    for name in names.prefix(listed).split(separator: 0) {
      let text = String(decoding: name.map { UInt8(bitPattern: $0) }, as: UTF8.self)
      // An overlay's own marks would change what the upper means.
      if text.hasPrefix("trusted.overlay.") || text.hasPrefix("user.overlay.") { continue }
      var value = [UInt8](repeating: 0, count: 65536)
      let length = unsafe getxattr(lower, text, &value, value.count)
      if length >= 0 { _ = unsafe setxattr(upper, text, value, length, 0) }
    }
  }
}
