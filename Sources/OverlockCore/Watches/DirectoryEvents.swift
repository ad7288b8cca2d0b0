import CLinux

/// From the kernel's events of a watched directory to the program's (docs/decisions/0020).
///
/// The upper's directory says what happens in the overlay, but for what markers stand around (`OpenMarker`). A
/// lower's says what is read of the objects that it still has, and what is changed there directly, as long as
/// nothing above has the name.
enum DirectoryEvents {
  /// What the kernel is asked of the upper's directory beyond the program's wishes: which names it has.
  static var changes: UInt32 { UInt32(IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO) }

  /// Of a lower: whose the closes are.
  static func ofLower(_ mask: UInt32) -> UInt32 {
    let reading = UInt32(IN_ACCESS | IN_CLOSE_NOWRITE)
    let all = UInt32(IN_ACCESS | IN_MODIFY | IN_ATTRIB | IN_CLOSE | IN_OPEN) | changes
    return mask & all | (mask & reading != 0 ? UInt32(IN_OPEN) : 0)
  }

  /// What the program hears of it: its watch descriptor and the mask; nil: nothing.
  static func translate(
    _ table: WatchTable, _ entry: WatchTable.Entry, _ mask: UInt32, _ name: PathView
  ) -> (WatchTable.Entry, UInt32)? {
    if entry.has(WatchTable.State.markers) {
      OpenMarker.hear(table, entry.programs, mask, name)
      return nil
    }
    let isUpper = entry.has(WatchTable.State.directory)
    guard let main = isUpper ? entry : table.find(entry.programs),
      main.has(WatchTable.State.directory),
      !main.has(WatchTable.State.ended | WatchTable.State.ignored)
    else { return nil }
    if mask & UInt32(IN_UNMOUNT) != 0 { return isUpper ? (main, mask) : nil }
    let hash = name.isEmpty ? nil : Marker.hash(name)
    let judged = OpenMarker.judge(table, main.lower, mask, hash, isUpper: isUpper)
    if isUpper {
      if let hash { follow(table, main.key, mask, hash, judged) }
    } else if judged != nil, !isShown(table, entry, main, mask, name, hash) {
      return nil
    }
    guard let judged else { return nil }
    let given = judged & (main.mask & 0xfff | UInt32(IN_ISDIR))
    return given & 0xfff == 0 ? nil : (main, given)
  }

  /// Which names the upper has from here on.
  private static func follow(
    _ table: WatchTable, _ key: UInt64, _ mask: UInt32, _ name: UInt64, _ judged: UInt32?
  ) {
    guard mask & changes != 0, let names = WatchedNames(table) else { return }
    if mask & UInt32(IN_DELETE) != 0 { return names.show(key, name) }
    let isGone = mask & UInt32(IN_MOVED_FROM) != 0 || (judged ?? 0) & UInt32(IN_DELETE) != 0
    names.hide(key, name, deleted: isGone)
  }

  /// Whether what a lower says is the program's.
  private static func isShown(
    _ table: WatchTable, _ entry: WatchTable.Entry, _ main: WatchTable.Entry, _ mask: UInt32,
    _ name: PathView, _ hash: UInt64?
  ) -> Bool {
    guard let names = WatchedNames(table) else { return true }
    if let hash {
      if isBehind(table, entry, names, name) { return false }
      let state = names.state(main.key, hash)
      if state & WatchedNames.State.hidden == 0 { return true }
      if state & WatchedNames.State.deleted != 0, main.mask & UInt32(IN_EXCL_UNLINK) != 0 {
        return false
      }
    }
    // Whoever opens it now is not in the overlay; with a descriptor from before the program reads on.
    if mask & UInt32(IN_OPEN) != 0 {
      _ = names.countStranger(main.key, hash ?? 0, opens: true)
      return false
    }
    if mask & UInt32(IN_CLOSE_NOWRITE) != 0 {
      return !names.countStranger(main.key, hash ?? 0, opens: false)
    }
    return mask & UInt32(IN_ACCESS) != 0
      && names.state(main.key, hash ?? 0) < WatchedNames.State.stranger
  }

  /// Whether a lower above this one has the name.
  private static func isBehind(
    _ table: WatchTable, _ entry: WatchTable.Entry, _ names: WatchedNames, _ name: PathView
  ) -> Bool {
    if entry.next == 0 { return false }
    var answer = false
    try? withScratch { (s) throws(Errno) in
      var next = entry.next
      while next != 0, !answer {
        let above = table[next - 1]
        guard above.has(WatchTable.State.layer), above.programs == entry.programs else { return }
        next = above.next
        guard let directory = names.path(above.path) else { continue }
        var path = s.real
        try path.append(directory)
        try path.append(slash)
        try path.append(name)
        var st = stat()
        answer = unsafe lx_fstatat(AT_FDCWD, path.cString, &st, AT_SYMLINK_NOFOLLOW) == 0
      }
    }
    return answer
  }
}
