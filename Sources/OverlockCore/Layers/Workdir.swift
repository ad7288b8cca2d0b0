import CLinux

/// Names in `workdir/overlock`, where every change of several steps is prepared.
///
/// Folders are typed: what a rename out of (or into) one of them means is told by its name, so that a
/// watcher of the folder can tell the program's changes from housekeeping.
///
///     copyup/   a copy of a lower object on its way to its name       nothing happened
///     create/   a new object on its way over a whiteout               creation
///     whiteout/ a whiteout on its way to a name                        deletion
///     gone/     an object that a whiteout or a new object replaced     true deletion of it
///     index/    upper inodes of hard-link groups, by shown inode       (lasting)
///     anchors/  upper inodes of lower files that are mapped or watched (`Anchor`)
///     watchers/ which of those are watched, by process (`WatchLists`), and their bells (`Bell`)
///     markers/  of watched directories: which steps in them are ours (`Marker`)
///     contested/ lower objects that may be locked though copied up (lasting)
///     leased/  lower objects that leases may be held on                (lasting)
///     moved/    where lower objects are that were renamed, by inode    (lasting; its new entries too)
///     removed/  attributes of objects without a name (`StandIn`)
///     sockets/  names of bound sockets as the program spelled them     (lasting)
///     kept/     copies without a name whose origin is still open (lasting)
///     meeting/  where the lower FIFOs and sockets are that were copied up (lasting)
///     running/  where lower programs are that ran when they were copied up (lasting)
///     origins/  what links and special files cannot have as xattrs     (lasting)
///
/// Each of the first four has one folder per target directory that somebody watches, named by the
/// directory, and the folder `0` for all others. An entry of `copyup` is named by the object's shown
/// inode, and belongs to whoever holds the turn of that identity. Any other entry's name is the
/// directory turn under which it was made and a number that is never used again:
/// `<turn:3 hex>.<sequence:16 hex>`. Whoever holds that turn may therefore take any such entry for a
/// leftover of a dead process. Beside a copy there may be a note, `<shown inode>.mode`: the mode and the
/// merged path of a directory that is more writable than that for the time of its rename.
enum WorkFolder {
  case copyup, create, whiteout, gone, moved

  static var modeSuffix: StaticString { ".mode" }

  var name: StaticString {
    switch self {
    case .copyup: "/copyup/0/"
    case .create: "/create/0/"
    case .whiteout: "/whiteout/0/"
    case .gone: "/gone/0/"
    case .moved: "/moved/"
    }
  }

  /// The directory turn that an entry belongs to, if its name says one. A path may follow.
  static func turn(of name: PathView) -> Int? {
    guard name.count >= 20, name[3] == dot, hexadecimal(name.from(4).prefix(16)) != nil,
      name.count == 20 || name[20] == dot
    else { return nil }
    var index = 0
    for i in 0..<3 {
      switch name[i] {
      case 48...57: index = index << 4 | Int(name[i] - 48)
      case 97...102: index = index << 4 | Int(name[i] - 87)
      default: return nil
      }
    }
    return index < Registry.turnCount ? index : nil
  }

  /// The folders that have entries which belong to directory turns.
  static func eachOfDirectories(_ body: (WorkFolder) throws(Errno) -> Void) throws(Errno) {
    try body(.create)
    try body(.whiteout)
    try body(.gone)
    try body(.moved)
  }
}

extension Turn {
  /// Removes what a dead holder of one of the turns held here left in the workdir.
  func sweep(_ directory: PathHash) {
    overlay.sweep(turnIndex: Registry.turnIndex(directory))
    overlay.sweepAnchors(self)
    overlay.sweepKept(self)
  }
}

extension Overlay {
  /// A new staging name.
  ///
  /// - Parameter sequence: the number in it, for a name that is to be found again.
  func stage(
    _ folder: WorkFolder, turn: PathHash, sequence: UInt64? = nil, into path: inout PathBuffer
  ) throws(Errno) {
    path.count = 0
    try path.append(work)
    try path.append(folder.name)
    try path.append(hex: UInt64(Registry.turnIndex(turn)), digits: 3)
    try path.append(dot)
    try path.append(hex: sequence ?? freshName())
  }

  /// Where the copy of an object is prepared.
  func anchorPath(_ shown: UInt64, into path: inout PathBuffer) throws(Errno) {
    path.count = 0
    try path.append(work)
    try path.append(WorkFolder.copyup.name)
    try path.append(hex: shown)
  }

  /// A number that no name in the workdir ever had.
  func freshName() -> UInt64 { registry?.nextSequence() ?? lx_realtime_ns() }

  /// The upper's path of a merged path.
  func upperPath(_ rel: PathView, into path: inout PathBuffer) throws(Errno) {
    path.count = 0
    try path.append(layerPath(0))
    try path.appendBelow(rel)
    if path.count == 0 { try path.append(slash) }
  }

  /// Calls `body` with the path of every entry of a folder of `workdir/overlock`, until it says false. A folder
  /// that is not there has none.
  func eachEntry(
    of folder: StaticString, _ body: (PathBuffer) throws(Errno) -> Bool
  ) throws(Errno) {
    try withScratch { (s) throws(Errno) in
      var path = s.real
      try path.append(self.work)
      try path.append(folder)
      let opened = unsafe lx_openat(
        AT_FDCWD, path.cString, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0)
      if opened == -Int(ENOENT) { return }
      let fd = Int32(truncatingIfNeeded: try check(opened))
      defer { _ = lx_close(fd) }
      try path.append(slash)
      let length = path.count
      try DirectoryReader.each(fd, s) { (name, _, _) throws(Errno) in
        path.count = length
        try path.append(name)
        return try body(path)
      }
    }
  }

  /// Makes a whiteout under a staging name. On an upper that takes no device nodes: the kernel's
  /// xattr form, which needs `opaque=x` on the directory that it goes to.
  ///
  /// - Parameter removing: the directory that is to be exchanged for the whiteout, if it is one, and the
  ///   number that its staging name is to carry.
  func makeWhiteout(
    turn: PathHash, directory: PathView, removing: (path: PathView, id: UInt64)? = nil,
    into path: inout PathBuffer, _ s: Scratch
  ) throws(Errno) {
    if let removing {
      try stageRemoval(.whiteout, turn: turn, of: removing.path, id: removing.id, into: &path)
    } else {
      try stage(.whiteout, turn: turn, into: &path)
    }
    if !has(OVL_XATTR_WHITEOUTS) {
      try unsafe check(lx_mknodat(AT_FDCWD, path.cString, UInt32(S_IFCHR), 0))
      return
    }
    let fd = try unsafe check(
      lx_openat(AT_FDCWD, path.cString, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0o600))
    _ = lx_close(Int32(truncatingIfNeeded: fd))
    try unsafe setLetter(.whiteout, path.cString, UInt8(ascii: "y"))
    var upper = s.real
    try upperPath(directory, into: &upper)
    if unsafe letter(.opaque, upper.cString) == 0 {
      try unsafe setLetter(.opaque, upper.cString, UInt8(ascii: "x"))
    }
  }

  /// Removes what a dead holder of this turn left in the folders. Under the turn only.
  func sweep(turnIndex: Int) {
    try? withScratch { (s) throws(Errno) in
      try WorkFolder.eachOfDirectories { (folder) throws(Errno) in
        try self.sweep(folder, turnIndex, s)
      }
    }
  }

  private func sweep(_ folder: WorkFolder, _ turnIndex: Int, _ s: Scratch) throws(Errno) {
    var prefix = s.link
    try prefix.append(hex: UInt64(turnIndex), digits: 3)
    try prefix.append(dot)
    var path = s.real
    try path.append(work)
    try path.append(folder.name)
    let length = path.count
    let fd = try unsafe check(
      lx_openat(AT_FDCWD, path.cString, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0))
    defer { _ = lx_close(Int32(truncatingIfNeeded: fd)) }
    try DirectoryReader.each(Int32(truncatingIfNeeded: fd), s) { (name, _, _) throws(Errno) in
      guard name.count > prefix.count, name.prefix(prefix.count).equals(prefix.view) else {
        return true
      }
      path.count = length
      try path.append(name)
      try self.removeStaged(path)
      return true
    }
  }

  /// Removes the copies that nobody is making any more: whoever does holds the turn of the identity.
  /// Returns whether there were any, or may have been.
  @discardableResult
  func sweepAnchors(_ turn: Turn) -> Bool {
    var any = false
    do throws(Errno) {
      try withScratch { (s) throws(Errno) in
        var path = s.real
        try path.append(self.work)
        try path.append(WorkFolder.copyup.name)
        let length = path.count
        let fd = try unsafe check(
          lx_openat(AT_FDCWD, path.cString, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0))
        defer { _ = lx_close(Int32(truncatingIfNeeded: fd)) }
        try DirectoryReader.each(Int32(truncatingIfNeeded: fd), s) { (name, _, _) throws(Errno) in
          any = true
          guard let shown = hexadecimal(name.prefix(16)), turn.tryIdentity(shown) else {
            return true
          }
          defer { turn.dropIdentity(shown) }
          path.count = length
          try path.append(name)
          if name.count == 16 {
            // Kept for whoever maps it or copies it up next.
            if !self.saysNoAnchors, self.isMapped(path) { return true }
            try? self.removeAnchor(path)
          } else if name.from(16).equals(WorkFolder.modeSuffix) {
            try? self.settleMode(path, shown)
          }
          return true
        }
      }
    } catch { any = true }
    return any
  }

  /// Removes one staged object: a file, a whiteout, or a directory that holds only whiteouts.
  func removeStaged(_ path: PathBuffer) throws(Errno) {
    let r = unsafe lx_unlinkat(AT_FDCWD, path.cString, 0)
    if r != -Int(EISDIR) {
      if r == -Int(ENOENT) { return }
      try check(r)
      return
    }
    let removed = unsafe lx_unlinkat(AT_FDCWD, path.cString, AT_REMOVEDIR)
    if removed != -Int(ENOTEMPTY) {
      try check(removed)
      return
    }
    try withScratch { (s) throws(Errno) in
      let fd = try unsafe check(
        lx_openat(AT_FDCWD, path.cString, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW, 0))
      defer { _ = lx_close(Int32(truncatingIfNeeded: fd)) }
      var child = s.real
      try DirectoryReader.each(Int32(truncatingIfNeeded: fd), s) { (name, _, _) throws(Errno) in
        child.count = 0
        try child.append(name)
        _ = unsafe lx_unlinkat(Int32(truncatingIfNeeded: fd), child.cString, 0)
        return true
      }
      try unsafe check(lx_unlinkat(AT_FDCWD, path.cString, AT_REMOVEDIR))
    }
  }
}
