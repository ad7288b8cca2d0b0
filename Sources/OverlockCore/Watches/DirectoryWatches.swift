import CLinux

/// inotify_add_watch(2) on directories of overlays (docs/decisions/0020).
///
/// The directory comes to the upper, which costs no data: there the kernel says what happens in the overlay, as
/// long as the directory lives and wherever it is moved. Every lower that contributes is watched, too, and the
/// directory's marker folder.
enum DirectoryWatches {
  /// A watch descriptor. Errors: as the kernel answered; EAGAIN it is another object meanwhile.
  static func add(_ fd: Int32, _ path: UnsafePointer<CChar>, _ mask: UInt32) throws(Errno) -> Int {
    // What the kernel looks at before the path.
    let probe = unsafe lx_inotify_add_watch(fd, "", mask)
    if probe != -Int(ENOENT) { return probe }
    var p = unsafe ovl_path()
    let fast = unsafe FastPath.find(&p, AT_FDCWD, path)
    if fast.outcome == .inside, !fast.trailing, fast.isKnown, fast.node.kind == .directory,
      let rel = unsafe fast.path(&p)
    {
      return try add(fd, fast.overlay, rel, mask, isUpper: fast.node.layer == 0)
    }
    return try withScratch { (s) throws(Errno) -> Int in
      let follow = mask & UInt32(IN_DONT_FOLLOW) == 0
      guard let place = try unsafe Resolve.walk(AT_FDCWD, path, follow: follow, s),
        place.overlay >= 0, place.lookup.node.kind == .directory
      else { throw .again }
      let node = place.lookup.node
      if node.has(Node.removed) { return unsafe Watches.plain(fd, s.real2.unterminated, mask) }
      let overlay = Overlay(index: place.overlay)
      return try add(fd, overlay, place.path.view, mask, isUpper: node.layer == 0)
    }
  }

  private static func add(
    _ fd: Int32, _ overlay: Overlay, _ rel: PathView, _ mask: UInt32, isUpper: Bool
  ) throws(Errno) -> Int {
    if overlay.hasUpper {
      do throws(Errno) {
        if !isUpper, !rel.isEmpty { try overlay.copyUp(rel, truncate: false) }
        return try withScratch { (s) throws(Errno) in try addUnderTurn(fd, overlay, rel, mask, s) }
      } catch {
        // Who may not change the upper, nor the workdir, does not see what others change there.
        guard error.isRefusal else { throw error }
      }
    }
    return try withScratch { (s) throws(Errno) -> Int in
      var merge = Merge(overlay, s)
      let look = try overlay.lookup(rel, s, merge: &merge)
      guard look.isWhole, look.node.kind == .directory else { throw .again }
      var adding = Adding(fd, merge, mask, s)
      return try adding.run(rel, upper: nil)
    }
  }

  /// The same of a file in the index of hard links, at its path: whose links and moves by us stand between markers.
  ///
  /// - Errors: as the kernel answered; EAGAIN it is there no more.
  static func add(
    _ fd: Int32, _ overlay: Overlay, linked path: UnsafePointer<CChar>, _ mask: UInt32
  ) throws(Errno) -> Int {
    // What the kernel looks at before the path.
    let probe = unsafe lx_inotify_add_watch(fd, "", mask)
    if probe != -Int(ENOENT) { return probe }
    var st = stat()
    if unsafe lx_fstatat(AT_FDCWD, path, &st, AT_SYMLINK_NOFOLLOW) != 0 { throw .again }
    return try withScratch { (s) throws(Errno) -> Int in
      var turn = try Turn(overlay, s)
      defer { turn.release() }
      try turn.takeIdentity(st.inode)
      overlay.sweepUnusedAnchors(turn)
      overlay.registry?.noteAnchor()
      return try withScratch { (s2) throws(Errno) -> Int in
        let file = unsafe PathView(path)
        var adding = Adding(fd, Merge(overlay, s2), mask, s2, file: file)
        return try adding.run(file, upper: st.inode)
      }
    }
  }

  private static func addUnderTurn(
    _ fd: Int32, _ overlay: Overlay, _ rel: PathView, _ mask: UInt32, _ s: Scratch
  ) throws(Errno) -> Int {
    var hash = overlay.emptyHash
    hash.appendComponents(rel)
    var upper = s.rest
    try overlay.upperPath(rel, into: &upper)
    var st = stat()
    if unsafe lx_fstatat(AT_FDCWD, upper.cString, &st, AT_SYMLINK_NOFOLLOW) != 0 { throw .again }
    var turn = try Turn(overlay, s)
    defer { turn.release() }
    try turn.takeIdentity(st.inode)
    try turn.shareEpoch()
    if try turn.take(hash) { turn.sweep(hash) }
    // Nobody makes a name in it from here on, nor moves it.
    return try withScratch { (s2) throws(Errno) -> Int in
      var merge = Merge(overlay, s2)
      let look = try overlay.lookup(rel, s2, merge: &merge)
      var now = stat()
      guard look.isWhole, look.node.kind == .directory, merge.layer(0) == 0,
        unsafe lx_fstatat(AT_FDCWD, upper.cString, &now, AT_SYMLINK_NOFOLLOW) == 0,
        now.inode == st.inode
      else { throw .again }
      overlay.sweepUnusedAnchors(turn)
      overlay.registry?.noteAnchor()
      return try withScratch { (s3) throws(Errno) -> Int in
        var adding = Adding(fd, merge, mask, s3)
        return try adding.run(rel, upper: st.inode)
      }
    }
  }
}

/// Setting the kernel's watches that make one of a directory, and noting them.
private struct Adding {
  private let fd: Int32
  private let merge: Merge
  private let mask: UInt32
  private let s: Scratch
  /// Not a directory, but this one.
  private let file: PathView?

  init(_ fd: Int32, _ merge: Merge, _ mask: UInt32, _ s: Scratch, file: PathView? = nil) {
    self.file = file
    self.fd = fd
    self.merge = merge
    self.mask = mask
    self.s = s
  }

  private var events: UInt32 { 0xfff }
  private var kept: UInt32 { mask & (events | Watches.oneShot | UInt32(IN_EXCL_UNLINK)) }
  private var overlay: Overlay { merge.overlay }

  /// - Parameter upper: the directory's inode number in the upper, whose turn is held; nil: it is not there.
  mutating func run(_ rel: PathView, upper: UInt64?) throws(Errno) -> Int {
    let table = try WatchTable.make(fd)
    // By inode number, since the watch descriptor is not known yet.
    let key = if let upper { upper } else { try inode() }
    var folder = s.staging
    if let upper {
      let isNew = try overlay.makeMarkerFolder(upper, into: &folder)
      Fault.step()
      try overlay.list(directory: upper, isNew: isNew)
      Fault.step()
      if file == nil, merge.count > 1 { try enterNames(key, rel, table, others: !isNew) }
    }
    let wd = try watchTop(table)
    let old = table.find(wd).flatMap { $0.isPrograms ? $0 : nil }
    let wishes = kept | (mask & Watches.maskAdd != 0 ? old?.mask ?? 0 : 0)
    do throws(Errno) {
      if upper != nil { try Watches.watchOwnList(fd, table, overlay) }
      let markers = upper != nil ? try watchMarkers(folder, wd, wishes, table) : 0
      let lowest = try watchLowers(wd, wishes, table)
      if markers != 0 { table[markers - 1].setNext(lowest) }
      if let old {
        old.setMask(wishes)
        if lowest != 0, markers == 0 { link(old, lowest, table) }
      } else {
        _ = try table.add(
          directory: wd, programs: wd, mask: wishes, state: WatchTable.State.directory,
          key: key, next: markers != 0 ? markers : lowest)
      }
    } catch {
      if old == nil { abandon(wd, table) }
      throw error
    }
    return Int(wd)
  }

  private func inode() throws(Errno) -> UInt64 {
    var top = s.real2
    try merge.realPath(0, into: &top)
    var st = stat()
    try unsafe check(lx_fstatat(AT_FDCWD, top.cString, &st, AT_SYMLINK_NOFOLLOW))
    return st.inode
  }

  /// The kernel's watch on the topmost directory, whose watch descriptor the program gets.
  private func watchTop(_ table: WatchTable) throws(Errno) -> Int32 {
    var top = s.real2
    if let file { try top.append(file) } else { try merge.realPath(0, into: &top) }
    let changes = file == nil ? DirectoryEvents.changes : 0
    let flags = mask & ~(events | Watches.oneShot | Watches.maskAdd)
    let mayChange = mask & UInt32(IN_MASK_CREATE) == 0
    // One that is there already keeps its mask until it is known whose it is.
    let asked = flags | mask & events | changes | (mayChange ? Watches.maskAdd : 0)
    let wd = Int32(
      truncatingIfNeeded: try unsafe check(lx_inotify_add_watch(fd, top.cString, asked)))
    if mayChange, mask & Watches.maskAdd == 0, table.find(wd) != nil {
      _ = unsafe lx_inotify_add_watch(fd, top.cString, flags | mask & events | changes)
    }
    return wd
  }

  /// Puts lowers at the end of what a watch has already.
  private func link(_ entry: WatchTable.Entry, _ lowest: Int, _ table: WatchTable) {
    var last = entry
    while last.next != 0 { last = table[last.next - 1] }
    last.setNext(lowest)
  }

  /// As a watch that never was.
  private func abandon(_ wd: Int32, _ table: WatchTable) {
    let state =
      WatchTable.State.removed | WatchTable.State.ended | WatchTable.State.ignored
      | WatchTable.State.directory
    _ = try? table.add(directory: wd, programs: wd, mask: 0, state: state, next: 0)
    _ = lx_inotify_rm_watch(fd, wd)
    table.each { (entry) in
      if entry.has(WatchTable.State.further), entry.programs == wd {
        _ = lx_inotify_rm_watch(fd, entry.lower)
      }
    }
  }

  /// The lowers from the top down. Returns the number, plus one, of the lowest's entry.
  private func watchLowers(_ wd: Int32, _ wishes: UInt32, _ table: WatchTable) throws(Errno)
    -> Int
  {
    let asked = DirectoryEvents.ofLower(wishes)
    if file != nil || merge.count == 1 || asked == 0 { return 0 }
    let names = try WatchedNames(making: table)
    var next = 0
    for i in 1..<merge.count {
      var path = s.real2
      try merge.realPath(i, into: &path)
      let flags = UInt32(IN_ONLYDIR | IN_DONT_FOLLOW)
      let lower = unsafe lx_inotify_add_watch(fd, path.cString, asked | flags)
      // Of what may not be read nothing is told.
      if lower == -Int(EACCES) { continue }
      let number = Int32(truncatingIfNeeded: try check(lower))
      // Of this watch, or of another one of the instance (README, Limits).
      if table.find(number) != nil { continue }
      next =
        1
        + (try table.add(
          directory: number, programs: wd, mask: 0, state: WatchTable.State.layer,
          path: names.keep(path.view), next: next))
    }
    return next
  }

  /// What the upper has already.
  ///
  /// - Parameter others: somebody watches the directory.
  private func enterNames(
    _ key: UInt64, _ rel: PathView, _ table: WatchTable, others: Bool
  ) throws(Errno) {
    let names = try WatchedNames(making: table)
    var markers = Markers(overlay)
    if others { markers.directory(rel, .reading) }
    markers.name(rel, .reading)
    defer { markers.end() }
    var path = s.real2
    try merge.realPath(0, into: &path)
    let opened = unsafe lx_openat(
      AT_FDCWD, path.cString, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW, 0)
    // What may not be read may not be watched: the kernel says so.
    if opened == -Int(EACCES) { return }
    let directory = Int32(truncatingIfNeeded: try check(opened))
    defer { _ = lx_close(directory) }
    try DirectoryReader.each(directory, s) { (name, _, type) throws(Errno) in
      names.hide(key, Marker.hash(name), deleted: type == UInt8(DT_CHR))
      return true
    }
  }

  /// Returns the number, plus one, of the entry; 0: there is one.
  private func watchMarkers(
    _ folder: PathBuffer, _ wd: Int32, _ wishes: UInt32, _ table: WatchTable
  ) throws(Errno) -> Int {
    let rings = UInt32(IN_CREATE | IN_DELETE | IN_CLOSE_WRITE | IN_ONLYDIR | IN_DONT_FOLLOW)
    let asked = rings | AskedEvents.onMarkers(wishes)
    let number = Int32(
      truncatingIfNeeded: try unsafe check(lx_inotify_add_watch(fd, folder.terminated, asked)))
    if table.find(number) != nil { return 0 }
    return 1
      + (try table.add(
        directory: number, programs: wd, mask: 0, state: WatchTable.State.markers, next: 0))
  }
}
