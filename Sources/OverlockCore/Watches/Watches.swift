import CLinux

/// inotify_add_watch(2) and inotify_rm_watch(2) on objects of overlays (docs/decisions/0018).
///
/// A file of a lower is watched on the lower and on its anchor, which is the inode that the copy-up will
/// give it, whoever makes it. Directories: `DirectoryWatches`. Everything else is watched by the kernel's own call
/// on the real path.
enum Watches {
  // The macros have casts that Swift does not import.
  static var oneShot: UInt32 { 0x8000_0000 }
  static var maskAdd: UInt32 { 0x2000_0000 }
  private static var events: UInt32 { 0xfff }
  /// What the kernel keeps of a mask besides the events.
  private static var kept: UInt32 { events | oneShot }

  /// What is asked of the anchor beyond the program's wishes: its move to its name, and, where reading is
  /// reported, when the lower is read for it.
  static func extra(_ mask: UInt32) -> UInt32 {
    let reading = UInt32(IN_OPEN | IN_ACCESS | IN_CLOSE_NOWRITE)
    let use = UInt32(IN_OPEN | IN_CLOSE_WRITE | IN_CLOSE_NOWRITE)
    return UInt32(IN_MOVE_SELF) | (mask & reading != 0 ? use : 0)
  }

  /// The same of the lower: which closes belong to opens that were not the program's.
  static func extraOnLower(_ mask: UInt32) -> UInt32 {
    mask & UInt32(IN_CLOSE_NOWRITE) != 0 ? UInt32(IN_OPEN) : 0
  }

  /// A watch descriptor or `-errno`.
  static func add(_ fd: Int32, _ path: UnsafePointer<CChar>?, _ mask: UInt32) -> Int {
    var p = unsafe ovl_path()
    let intent = mask & UInt32(IN_DONT_FOLLOW) != 0 ? 0 : UInt32(OVL_FOLLOW)
    for _ in 0..<16 {
      let located = unsafe ovlLocate(&p, AT_FDCWD, path, intent)
      defer { unsafe ovlPathRelease(&p) }
      if located == passResult { return unsafe plain(fd, path, mask) }
      if located < 0 {
        // What the kernel looks at before the path.
        let first = unsafe lx_inotify_add_watch(fd, "", mask)
        return first == -Int(ENOENT) ? located : first
      }
      guard unsafe p.overlay >= 0 else { return unsafe plain(fd, p.real, mask) }
      let r: Int
      if unsafe p.kind == Kind.directory.rawValue, let path = unsafe path {
        r = bordered { () throws(Errno) in unsafe try DirectoryWatches.add(fd, path, mask) }
      } else if unsafe p.layer > 0, unsafe Overlay(index: Int(p.overlay)).hasUpper {
        r = bordered { () throws(Errno) in unsafe try addLower(fd, &p, path, mask) }
      } else if unsafe p.kind == Kind.file.rawValue {
        r = bordered { () throws(Errno) in unsafe try addUpper(fd, &p, mask) }
      } else {
        r = unsafe plain(fd, p.real, mask)
      }
      if r != -Int(EAGAIN) { return unsafe Polling.add(fd, r, &p, mask) }
    }
    return -Int(EAGAIN)
  }

  /// The kernel's own call. The object may be one that this instance has a watch of ours on.
  @inline(never)
  static func plain(_ fd: Int32, _ real: UnsafePointer<CChar>?, _ mask: UInt32) -> Int {
    let wd = unsafe lx_inotify_add_watch(fd, real, mask)
    guard wd > 0, let table = WatchTable.of(fd),
      let entry = table.find(Int32(truncatingIfNeeded: wd)), entry.isPrograms
    else { return wd }
    note(entry, mask)
    if entry.anchor == Int32(truncatingIfNeeded: wd), entry.bell != 0 {
      // What tells a reader's open from the program's is asked for still; once is ours to count.
      let flags = mask & ~(events | oneShot | maskAdd | UInt32(IN_MASK_CREATE))
      let asked = AskedEvents.onAnchor(entry.mask & events)
      _ = unsafe lx_inotify_add_watch(fd, real, flags | asked)
    }
    return Int(entry.lower)
  }

  private static func note(_ entry: WatchTable.Entry, _ mask: UInt32) {
    entry.setMask(mask & maskAdd != 0 ? entry.mask | (mask & kept) : mask & kept)
  }

  /// Errors: EAGAIN it is another object meanwhile; ENOSPC no room for one more; and as the kernel
  /// answered.
  private static func addLower(
    _ fd: Int32, _ p: inout ovl_path, _ path: UnsafePointer<CChar>?, _ mask: UInt32
  ) throws(Errno) -> Int {
    var st = stat()
    var birth: UInt64 = 0
    let r = unsafe lx_stat_with_birth(AT_FDCWD, p.real, AT_SYMLINK_NOFOLLOW, &st, &birth)
    if r == -Int(ENOENT) { throw .again }
    guard r == 0, st.type == S_IFREG else { return unsafe plain(fd, p.real, mask) }
    if st.links != 1 { return unsafe try addLinked(fd, p.real, path, mask) }
    let overlay = unsafe Overlay(index: Int(p.overlay))
    let shown = unsafe overlay.shownInode(st.inode, layer: Int(p.layer))
    let anchor = Anchor(overlay, shown, birth: birth)
    return try withScratch { (s) throws(Errno) -> Int in
      var turn: Turn
      do throws(Errno) { turn = try Turn(overlay, s) } catch {
        guard isForeign(error) else { throw .noSpace }
        return unsafe plain(fd, p.real, mask)
      }
      defer { turn.release() }
      try turn.takeIdentity(shown)
      // Nobody copies it up from here on. Whether somebody has:
      var now = unsafe ovl_path()
      let intent = mask & UInt32(IN_DONT_FOLLOW) != 0 ? 0 : UInt32(OVL_FOLLOW)
      let located = unsafe ovlLocate(&now, AT_FDCWD, path, intent)
      defer { unsafe ovlPathRelease(&now) }
      guard located == 0, unsafe now.overlay == p.overlay, unsafe now.layer == p.layer,
        unsafe PathView(now.real).equals(PathView(p.real))
      else { throw .again }
      return unsafe try addBoth(fd, p.real, mask, anchor, turn, s)
    }
  }

  /// A file with several links comes to the upper at once, where all its names are one inode: they go there by more
  /// moves than an anchor could tell apart. Where it cannot, the lower is watched.
  ///
  /// - Errors: EAGAIN it came.
  private static func addLinked(
    _ fd: Int32, _ lower: UnsafePointer<CChar>?, _ path: UnsafePointer<CChar>?, _ mask: UInt32
  ) throws(Errno) -> Int {
    var p = unsafe ovl_path()
    let intent = UInt32(OVL_COPYUP | (mask & UInt32(IN_DONT_FOLLOW) != 0 ? 0 : OVL_FOLLOW))
    let located = unsafe ovlLocate(&p, AT_FDCWD, path, intent)
    defer { unsafe ovlPathRelease(&p) }
    guard located == 0, unsafe p.layer == 0 else { return unsafe plain(fd, lower, mask) }
    throw .again
  }

  /// A file of the upper: one of a group of hard links of a lower, which is in the index, is linked and moved by us.
  ///
  /// - Errors: EAGAIN it is there no more; and as the kernel answered.
  private static func addUpper(_ fd: Int32, _ p: inout ovl_path, _ mask: UInt32) throws(Errno)
    -> Int
  {
    let overlay = unsafe Overlay(index: Int(p.overlay))
    var st = stat()
    guard overlay.hasUpper, unsafe p.ino != 0, overlay.registry?.hasIndex != false,
      unsafe lx_fstatat(AT_FDCWD, p.real, &st, AT_SYMLINK_NOFOLLOW) == 0
    else { return unsafe plain(fd, p.real, mask) }
    let isThere = try withScratch { (s) throws(Errno) -> Bool in
      var index = s.link
      try unsafe overlay.indexPath(p.ino, into: &index)
      var other = stat()
      return unsafe lx_fstatat(AT_FDCWD, index.cString, &other, AT_SYMLINK_NOFOLLOW) == 0
        && other.inode == st.inode
    }
    if isThere {
      do throws(Errno) {
        return unsafe try DirectoryWatches.add(fd, overlay, linked: p.real!, mask)
      } catch {
        // Who may not change the workdir hears of our links, too.
        guard error.isRefusal else { throw error }
      }
    }
    return unsafe plain(fd, p.real, mask)
  }

  /// Whether the workdir is one in which this process can change nothing, nor copy up.
  private static func isForeign(_ error: Errno) -> Bool {
    error == .access || error == .permission || error == .readOnly
  }

  private static func addBoth(
    _ fd: Int32, _ real: UnsafePointer<CChar>, _ mask: UInt32, _ anchor: Anchor, _ turn: Turn,
    _ s: Scratch
  ) throws(Errno) -> Int {
    // Once, and no more, is of the two together.
    let asked = mask & ~oneShot
    let wd = Int32(
      truncatingIfNeeded: try unsafe check(
        lx_inotify_add_watch(fd, real, asked | extraOnLower(mask))))
    if let table = WatchTable.of(fd), let entry = table.find(wd), entry.isPrograms {
      note(entry, mask)
      var path = s.real
      try anchor.path(into: &path)
      // All of it, whatever is added.
      let flags = asked & ~(events | maskAdd)
      _ = unsafe lx_inotify_add_watch(
        fd, path.cString, flags | AskedEvents.onAnchor(entry.mask & events))
      if entry.bell == 0 { table.setBell(watchBell(fd, entry.mask, anchor, s), of: entry) }
      return Int(wd)
    }
    do throws(Errno) {
      try watchAnchor(fd, wd, mask, anchor, turn, s)
    } catch {
      guard isForeign(error) else {
        // As a watch that never was.
        try? WatchTable.of(fd)?.add(
          lower: wd, anchor: 0, mask: 0,
          state: WatchTable.State.removed | WatchTable.State.ended | WatchTable.State.ignored
            | WatchTable.State.anchorGone)
        _ = lx_inotify_rm_watch(fd, wd)
        throw .noSpace
      }
      // The lower is watched as the kernel does.
      if mask & oneShot != 0 { return try unsafe check(lx_inotify_add_watch(fd, real, mask)) }
    }
    return Int(wd)
  }

  private static func watchAnchor(
    _ fd: Int32, _ wd: Int32, _ mask: UInt32, _ anchor: Anchor, _ turn: Turn, _ s: Scratch
  ) throws(Errno) {
    let overlay = anchor.overlay
    let table = try WatchTable.make(fd)
    overlay.sweepUnusedAnchors(turn)
    overlay.registry?.noteAnchor()
    var list = s.real2
    try watchOwnList(fd, table, overlay)
    try overlay.watchList(into: &list)
    try overlay.list(anchor, in: list)
    Fault.step()
    var path = s.real
    try anchor.path(into: &path)
    try anchor.makeEmpty(path, s)
    Fault.step()
    let asked = mask & ~(oneShot | maskAdd | UInt32(IN_MASK_CREATE))
    let second = try unsafe check(
      lx_inotify_add_watch(fd, path.cString, AskedEvents.onAnchor(asked)))
    try table.add(
      lower: wd, anchor: Int32(truncatingIfNeeded: second),
      bell: watchBell(fd, mask, anchor, s), mask: mask & kept, of: anchor)
  }

  /// Makes the process's list, if there is none, and watches it.
  static func watchOwnList(
    _ fd: Int32, _ table: WatchTable, _ overlay: Overlay
  ) throws(Errno) {
    let bit = UInt64(1) << UInt64(overlay.index)
    if unsafe at_load64(table.lists) & bit != 0,
      unsafe ovl_watch_list_at(overlay.index)!.pointee.made != 0
    {
      return
    }
    try withScratch { (s) throws(Errno) in try watchOwnList(fd, table, overlay, s) }
    while true {
      let now = unsafe at_load64(table.lists)
      if unsafe at_cas64(table.lists, now, now | bit) != 0 { return }
    }
  }

  private static func watchOwnList(
    _ fd: Int32, _ table: WatchTable, _ overlay: Overlay, _ s: Scratch
  ) throws(Errno) {
    var list = s.real
    try overlay.watchList(into: &list)
    let token = Int32(
      truncatingIfNeeded: try unsafe check(
        lx_inotify_add_watch(fd, list.cString, UInt32(IN_ATTRIB | IN_DONT_FOLLOW))))
    if table.find(token) != nil { return }
    try table.add(
      lower: token, anchor: 0, mask: 0,
      state: WatchTable.State.list | WatchTable.State.anchorGone)
  }

  /// A watch on the anchor's bell, if the program is told of opens or closes. 0: there is none.
  private static func watchBell(_ fd: Int32, _ mask: UInt32, _ anchor: Anchor, _ s: Scratch)
    -> Int32
  {
    let rings = UInt32(IN_OPEN | IN_CLOSE_NOWRITE | IN_ACCESS | IN_MODIFY | IN_DONT_FOLLOW)
    var path = s.real
    guard mask & UInt32(IN_OPEN | IN_CLOSE_NOWRITE) != 0, (try? anchor.bell(into: &path)) != nil,
      (try? anchor.makeBell(path)) != nil
    else { return 0 }
    Fault.step()
    let wd = unsafe lx_inotify_add_watch(fd, path.cString, rings)
    return wd > 0 ? Int32(truncatingIfNeeded: wd) : 0
  }

  /// inotify_rm_watch(2), or `OVL_PASS`.
  static func remove(_ fd: Int32, _ wd: Int32) -> Int {
    guard let table = WatchTable.of(fd), let entry = table.find(wd) else { return passResult }
    guard entry.lower == wd, entry.isPrograms else { return -Int(EINVAL) }
    end(fd, entry, WatchTable.State.removed)
    return 0
  }

  /// Removes the kernel's watches of an entry: its IN_IGNORED are to come.
  @inline(never)
  static func end(_ fd: Int32, _ entry: WatchTable.Entry, _ state: UInt32) {
    entry.set(state)
    if !entry.has(WatchTable.State.lowerGone) { _ = lx_inotify_rm_watch(fd, entry.lower) }
    if !entry.has(WatchTable.State.anchorGone) { _ = lx_inotify_rm_watch(fd, entry.anchor) }
    if entry.bell != 0, !entry.has(WatchTable.State.bellGone) {
      _ = lx_inotify_rm_watch(fd, entry.bell)
    }
    guard entry.has(WatchTable.State.directory), let table = WatchTable.of(fd) else { return }
    var next = entry.next
    while next != 0 {
      let further = table[next - 1]
      guard further.has(WatchTable.State.further), further.programs == entry.lower else { return }
      next = further.next
      _ = lx_inotify_rm_watch(fd, further.lower)
    }
  }

  /// A descriptor is a copy of another.
  static func copied(_ fd: Int32) {
    if DescriptorTable.entry(fd).has(OVL_FD_WATCHES) { WatchTable.raiseReach(fd) }
  }

  /// A descriptor is about to be closed: an instance's last one, perhaps.
  @inline(__always) static func closing(_ fd: Int32) {
    if unsafe at_load32(&ovl_watching_now()!.pointee.reach) != 0 { close(fd) }
  }

  private static func close(_ fd: Int32) {
    if Loan.isActive { return }
    guard let table = WatchTable.of(fd) else { return }
    if WatchTable.isInUse(Int(DescriptorTable.entry(fd).ino), but: fd) { return }
    table.giveBack()
  }

  /// In a forked child: the lists are its parent's.
  static func forgetLists() {
    WatchTable.resetAll()
    for i in 0..<Int(OVL_MAX_OVERLAYS) { unsafe ovl_watch_list_at(i)!.pointee.made = 0 }
  }
}

extension WatchTable {
  /// Puts an event that is nobody's into the queue, if an event is kept for a read of which the kernel
  /// knows nothing any more: it has one of the watch on a list.
  func raiseKept(_ fd: Int32) {
    guard keptCount > 0, lx_queued(fd) == 0 else { return }
    try? withScratch { (s) throws(Errno) in
      for i in 0..<Overlay.count where unsafe ovl_watch_list_at(i)!.pointee.made != 0 {
        var list = s.real
        try Overlay(index: i).watchList(into: &list)
        _ = unsafe lx_utimensat(AT_FDCWD, list.cString, nil, 0)
      }
    }
    Polling.raise(fd, self)
  }
}

extension Anchor {
  /// Makes the anchor without data, if there is none. Under the turn of the identity.
  func makeEmpty(_ path: PathBuffer, _ s: Scratch) throws(Errno) {
    let made = try create(path, s)
    if made == -Int(EEXIST) { return }
    _ = lx_close(Int32(truncatingIfNeeded: try check(made)))
    // A sweep may have found the folder empty just before.
    overlay.registry?.noteAnchor()
  }
}
