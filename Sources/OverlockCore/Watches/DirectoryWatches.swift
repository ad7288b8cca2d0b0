import CLinux

/// inotify_add_watch(2) on directories of overlays (docs/decisions/0020).
///
/// The directory comes to the upper, which costs no data: there the kernel says what happens in the overlay, as
/// long as the directory lives and wherever it is moved. Every lower that contributes is watched, too, and the
/// directory's marker folder.
enum DirectoryWatches {
  /// A watch descriptor. Errors: as the kernel answered; EAGAIN it is another object meanwhile.
  static func add(_ fd: Int32, _ path: UnsafePointer<CChar>, _ mask: UInt32) throws(Errno) -> Int {
    try withScratch { (s) throws(Errno) -> Int in
      let follow = mask & UInt32(IN_DONT_FOLLOW) == 0
      guard let place = try unsafe Resolve.walk(AT_FDCWD, path, follow: follow, s),
        place.overlay >= 0, place.lookup.node.kind == .directory
      else { throw .again }
      let overlay = Overlay(index: place.overlay)
      let rel = place.path.view
      guard !place.lookup.node.has(Node.removed) else {
        return unsafe Watches.plain(fd, s.real2.unterminated, mask)
      }
      if overlay.hasUpper {
        do throws(Errno) {
          if !rel.isEmpty { try overlay.copyUp(rel, truncate: false) }
          return try withScratch { (s2) throws(Errno) in try add(fd, overlay, rel, mask, s2) }
        } catch {
          // Who may not change the upper, nor the workdir, does not see what others change there.
          guard error.isRefusal else { throw error }
        }
      }
      return try withScratch { (s2) throws(Errno) -> Int in
        var merge = Merge(overlay, s2)
        let look = try overlay.lookup(rel, s2, merge: &merge)
        guard look.isWhole, look.node.kind == .directory else { throw .again }
        return try Adding(fd, merge, mask, s2).run(rel, markers: nil)
      }
    }
  }

  private static func add(
    _ fd: Int32, _ overlay: Overlay, _ rel: PathView, _ mask: UInt32, _ s: Scratch
  ) throws(Errno) -> Int {
    var hash = overlay.emptyHash
    hash.appendComponents(rel)
    var upper = s.rest
    try overlay.upperPath(rel, into: &upper)
    var st = stat()
    try unsafe check(lx_fstatat(AT_FDCWD, upper.cString, &st, AT_SYMLINK_NOFOLLOW))
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
        let table = try WatchTable.make(fd)
        var list = s3.real
        try Watches.watchOwnList(fd, table, overlay, &list)
        try overlay.list(directory: st.inode, in: list)
        Fault.step()
        var folder = s3.staging
        try overlay.makeMarkerFolder(st.inode, into: &folder)
        Fault.step()
        return try Adding(fd, merge, mask, s3).run(rel, markers: folder)
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
  private let table: WatchTable

  init(_ fd: Int32, _ merge: Merge, _ mask: UInt32, _ s: Scratch) throws(Errno) {
    self.fd = fd
    self.merge = merge
    self.mask = mask
    self.s = s
    table = try WatchTable.make(fd)
  }

  private var events: UInt32 { 0xfff }

  /// - Parameter markers: the marker folder; nil: the directory is not in an upper.
  func run(_ rel: PathView, markers: PathBuffer?) throws(Errno) -> Int {
    var top = s.real2
    try merge.realPath(0, into: &top)
    // One of ours that is there already is changed; what is to be refused the kernel refuses.
    let flags = mask & ~(events | Watches.oneShot | Watches.maskAdd)
    let changes = DirectoryEvents.changes
    let keepsMask = mask & UInt32(IN_MASK_CREATE) == 0 ? Watches.maskAdd : 0
    if mask & (events | Watches.oneShot) == 0 || mask & Watches.maskAdd != 0 {
      // Of these the kernel's own rules are seen without the names that are asked for besides.
      let probe = unsafe lx_inotify_add_watch(fd, "", mask)
      if probe != -Int(ENOENT) { return probe }
    }
    let wd = Int32(
      truncatingIfNeeded: try unsafe check(
        lx_inotify_add_watch(fd, top.cString, flags | mask & events | changes | keepsMask)))
    let old = table.find(wd).flatMap { $0.isPrograms ? $0 : nil }
    let wishes = kept | (mask & Watches.maskAdd != 0 ? old?.mask ?? 0 : 0)
    if old != nil, keepsMask != 0, mask & Watches.maskAdd == 0 {
      _ = unsafe lx_inotify_add_watch(fd, top.cString, flags | wishes & events | changes)
    }
    do throws(Errno) {
      let rung =
        try markers.map { (m) throws(Errno) in try watchMarkers(m, wd, wishes) } ?? 0
      let lowest = try watchLowers(wd, wishes)
      if rung != 0 { table[rung - 1].setNext(lowest) }
      if let old {
        old.setMask(wishes)
        if lowest != 0, rung == 0 { link(old, lowest) }
      } else {
        _ = try table.add(
          directory: wd, programs: wd, mask: wishes, state: WatchTable.State.directory,
          next: rung != 0 ? rung : lowest)
        if markers != nil, lowest != 0 { try enterNames(wd, rel) }
      }
    } catch {
      if old == nil { abandon(wd) }
      throw error
    }
    return Int(wd)
  }

  /// Puts lowers at the end of what a watch has already.
  private func link(_ entry: WatchTable.Entry, _ lowest: Int) {
    var last = entry
    while last.next != 0 { last = table[last.next - 1] }
    last.setNext(lowest)
  }

  private var kept: UInt32 { mask & (events | Watches.oneShot | UInt32(IN_EXCL_UNLINK)) }

  /// As a watch that never was.
  private func abandon(_ wd: Int32) {
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
  private func watchLowers(_ wd: Int32, _ wishes: UInt32) throws(Errno) -> Int {
    let first = merge.layer(0) == 0 ? 1 : 0
    if merge.count <= first || merge.count == 1 { return 0 }
    let asked = DirectoryEvents.ofLower(wishes)
    if asked == 0 { return 0 }
    let names = try WatchedNames(making: table)
    var next = 0
    for i in first..<merge.count {
      var path = s.real2
      try merge.realPath(i, into: &path)
      // Where there is no upper the first is the program's own.
      if i > 0 {
        let flags = UInt32(IN_ONLYDIR | IN_DONT_FOLLOW)
        let lower = unsafe lx_inotify_add_watch(fd, path.cString, asked | flags)
        // Of what may not be read nothing is told.
        if lower == -Int(EACCES) { continue }
        let number = Int32(truncatingIfNeeded: try check(lower))
        if let known = table.find(number) {
          if known.programs == wd { continue }
          throw .noSpace
        }
        next =
          1
          + (try table.add(
            directory: number, programs: wd, mask: 0, state: WatchTable.State.layer,
            path: names.keep(path.view), next: next))
      }
    }
    return next
  }

  /// What the upper has already.
  private func enterNames(_ wd: Int32, _ rel: PathView) throws(Errno) {
    let names = try WatchedNames(making: table)
    var markers = Markers(merge.overlay)
    markers.directory(rel, .reading)
    markers.name(rel, .reading)
    defer { markers.end() }
    var path = s.real2
    try merge.realPath(0, into: &path)
    let opened = unsafe lx_openat(
      AT_FDCWD, path.cString, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW, 0)
    let directory = Int32(truncatingIfNeeded: try check(opened))
    defer { _ = lx_close(directory) }
    try DirectoryReader.each(directory, s) { (name, _, type) throws(Errno) in
      names.hide(wd, Marker.hash(name), deleted: type == UInt8(DT_CHR))
      return true
    }
  }

  /// Returns the number, plus one, of the entry; 0: there is one.
  private func watchMarkers(
    _ folder: PathBuffer, _ wd: Int32, _ wishes: UInt32
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
