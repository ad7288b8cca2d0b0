import CLinux

/// fanotify_mark(2) on objects of overlays: marks on all objects of layers that the program takes for one.
///
/// A directory comes to the upper, as for `DirectoryWatches`, and so does a file of a lower: there the program hears
/// of what happens in the overlay, at the lowers of what is done directly. Nothing stands between the kernel and who
/// reads the events, so that copies and whiteouts are told as well (README, Limits).
///
/// A mark that asks for permission is on the topmost object alone: on another one it would have the program answer
/// for opens that no plain directory has, its own among them.
enum FanotifyMarks {
  // FAN_MARK_ADD, FAN_MARK_DONT_FOLLOW; the events that are asked before they happen.
  private static var add: UInt32 { 1 }
  private static var dontFollow: UInt32 { 4 }
  private static var permissions: UInt64 { 0x17_0000 }

  /// 0, `-errno`, or `OVL_PASS`.
  static func set(
    _ fd: Int32, _ flags: UInt32, _ mask: UInt64, _ dirfd: Int32, _ path: UnsafePointer<CChar>?
  ) -> Int {
    var p = unsafe ovl_path()
    let follow = flags & dontFollow != 0 ? 0 : UInt32(OVL_FOLLOW)
    let located = unsafe ovlLocate(&p, dirfd, path, follow)
    defer { unsafe ovlPathRelease(&p) }
    if located < 0 || located == passResult { return located }
    let real = unsafe p.real
    guard unsafe p.overlay >= 0, let path = unsafe path, mask & permissions == 0 else {
      return unsafe lx_fanotify_mark(fd, flags, mask, real)
    }
    if unsafe p.kind == Kind.directory.rawValue {
      return bordered { () throws(Errno) -> Int in
        let marked = try unsafe all(fd, flags, mask, dirfd, path, follow: follow != 0)
        if let marked { return marked }
        return unsafe lx_fanotify_mark(fd, flags, mask, real)
      }
    }
    guard unsafe p.kind == Kind.file.rawValue, unsafe p.layer > 0, flags & add != 0,
      unsafe Overlay(index: Int(p.overlay)).hasUpper
    else { return unsafe lx_fanotify_mark(fd, flags, mask, real) }
    // First the copy, whose making is told to nobody then.
    var upper = unsafe ovl_path()
    defer { unsafe ovlPathRelease(&upper) }
    let intent = follow | UInt32(OVL_COPYUP)
    if unsafe ovlLocate(&upper, dirfd, path, intent) == 0, unsafe upper.layer == 0 {
      let marked = unsafe lx_fanotify_mark(fd, flags, mask, upper.real)
      if marked < 0 { return marked }
      _ = unsafe lx_fanotify_mark(fd, flags, mask, real)
      return marked
    }
    // Who may not change the upper hears of the lower.
    return unsafe lx_fanotify_mark(fd, flags, mask, real)
  }

  /// Of a directory's layers, from the top down. nil: it is another object meanwhile.
  private static func all(
    _ fd: Int32, _ flags: UInt32, _ mask: UInt64, _ dirfd: Int32, _ path: UnsafePointer<CChar>,
    follow: Bool
  ) throws(Errno) -> Int? {
    try withScratch { (s) throws(Errno) -> Int? in
      guard let place = try unsafe Resolve.walk(dirfd, path, follow: follow, s), place.overlay >= 0,
        place.lookup.node.kind == .directory, !place.lookup.node.has(Node.removed)
      else { return nil }
      let overlay = Overlay(index: place.overlay)
      if overlay.hasUpper, flags & add != 0, place.lookup.node.layer > 0, !place.path.view.isEmpty {
        do throws(Errno) { try overlay.copyUp(place.path.view, truncate: false) } catch {
          guard error.isRefusal else { throw error }
        }
      }
      return try withScratch { (s2) throws(Errno) -> Int? in
        var merge = Merge(overlay, s2)
        let look = try overlay.lookup(place.path.view, s2, merge: &merge)
        guard look.isWhole, look.node.kind == .directory else { return nil }
        var result = 0
        for i in 0..<merge.count {
          var real = s2.rest
          try merge.realPath(i, into: &real)
          let r = unsafe lx_fanotify_mark(fd, flags, mask, real.cString)
          if i == 0 { result = r }
          if result < 0 { break }
        }
        return result
      }
    }
  }
}
