import CLinux

/// A directory of a library search path: where it is in the merged tree. It is walked to once; libraries
/// are then looked up by the canonical path, which the lookup cache knows.
///
/// The cache is the caller's: a list of (state, two lengths, path as given, canonical path), never sorted,
/// and full at a few dozen directories, after which each is walked to again.
enum SearchDirectory {
  enum State: UInt8 {
    case missing = 1
    case outside
    case inside
    /// In or outside, with a directory glibc-hwcaps in it.
    case hardware
  }

  /// - Parameters:
  ///   - path: with a slash at its end.
  ///   - canonical: gets the canonical path, with a slash at its end.
  ///   - plain: as the kernel shows it.
  static func look(
    _ path: PathView, into canonical: inout PathBuffer,
    _ cache: UnsafeMutablePointer<ovl_search_cache>?, plain: Bool
  ) throws(Errno) -> State {
    if let cache = unsafe cache, let state = try unsafe find(path, into: &canonical, cache) {
      return state
    }
    let state = try walk(path, into: &canonical, plain: plain)
    if let cache = unsafe cache { unsafe remember(path, canonical.view, state, cache) }
    return state
  }

  /// What stands before an entry's two paths.
  private static var header: Int { 5 }

  private static func walk(
    _ path: PathView, into canonical: inout PathBuffer, plain: Bool
  ) throws(Errno) -> State {
    try withScratch { (s) throws(Errno) -> State in
      var name = s.staging
      try name.append(path)
      canonical.count = 0
      var state = State.outside
      if !plain {
        let location: Location?
        do throws(Errno) {
          location = try unsafe Resolve.walk(AT_FDCWD, name.cString, follow: true, s)
        } catch {
          return .missing
        }
        if let location, location.overlay >= 0 {
          guard location.lookup.node.kind == .directory else { return .missing }
          try canonical.append(Overlay(index: location.overlay).target)
          try canonical.appendBelow(location.path.view)
          try canonical.append(slash)
          state = .inside
        } else if let location {
          try canonical.append(location.path.view)
          try canonical.append(slash)
        }
      }
      if canonical.count == 0 { try canonical.append(path) }
      let end = canonical.count
      if state == .outside, unsafe lx_faccessat2(AT_FDCWD, canonical.cString, F_OK, 0) != 0 {
        return .missing
      }
      try canonical.append("glibc-hwcaps")
      let found = unsafe UnsafeMutableRawPointer(s.spare).assumingMemoryBound(to: ovl_path.self)
      unsafe found.pointee.block = 0
      var r = unsafe plain ? passResult : ovlLocate(found, AT_FDCWD, canonical.cString, 0)
      if r == passResult { r = unsafe lx_faccessat2(AT_FDCWD, canonical.cString, F_OK, 0) }
      unsafe ovlPathRelease(found)
      canonical.count = end
      return r == 0 ? .hardware : state
    }
  }

  private static func find(
    _ path: PathView, into canonical: inout PathBuffer,
    _ cache: UnsafeMutablePointer<ovl_search_cache>
  ) throws(Errno) -> State? {
    let text = unsafe ovl_search_text(cache)!
    let used = unsafe min(Int(cache.pointee.used), Int(ovl_search_text_size()))
    var at = 0
    while at + header <= used {
      let given = unsafe Int(text[at + 1]) | Int(text[at + 2]) << 8
      let whole = unsafe Int(text[at + 3]) | Int(text[at + 4]) << 8
      let start = unsafe text + at + header
      if unsafe PathView(start, given).equals(path) {
        try unsafe canonical.set(PathView(start + given, whole))
        return State(rawValue: unsafe text[at])
      }
      at += header + given + whole
    }
    return nil
  }

  private static func remember(
    _ path: PathView, _ canonical: PathView, _ state: State,
    _ cache: UnsafeMutablePointer<ovl_search_cache>
  ) {
    let used = unsafe Int(cache.pointee.used)
    let end = used + header + path.count + canonical.count
    guard end <= Int(ovl_search_text_size()) else { return }
    let text = unsafe ovl_search_text(cache)! + used
    unsafe text[0] = state.rawValue
    unsafe text[1] = UInt8(truncatingIfNeeded: path.count)
    unsafe text[2] = UInt8(truncatingIfNeeded: path.count >> 8)
    unsafe text[3] = UInt8(truncatingIfNeeded: canonical.count)
    unsafe text[4] = UInt8(truncatingIfNeeded: canonical.count >> 8)
    unsafe copyBytes(text + header, path.base, path.count)
    unsafe copyBytes(text + header + path.count, canonical.base, canonical.count)
    unsafe cache.pointee.used = UInt32(end)
  }
}
