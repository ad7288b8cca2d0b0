import CLinux

/// Calls that make, move and remove names.

/// A walk to a name, then a change of it. `body` may answer EAGAIN or a vanished directory: then the
/// walk is made again.
private func changeName(
  _ dirfd: Int32, _ path: UnsafePointer<CChar>?, follow: Bool = false,
  outside: (UnsafePointer<CChar>) -> Int,
  _ body: (Location, Overlay) throws(Errno) -> Void
) -> Int {
  guard let path = unsafe path, unsafe isPath(path) else { return passResult }
  return unsafe withPath { _ in
    return bordered { () throws(Errno) in
      try withScratch { (s) throws(Errno) -> Int in
        for attempt in 0..<16 {
          guard
            let location = try unsafe Resolve.walk(
              dirfd, path, follow: follow, naming: true, s)
          else { return passResult }
          if location.overlay < 0 {
            return unsafe outside(location.path.terminated)
          }
          if location.isTooLong { throw .nameTooLong }
          // In a directory that was removed.
          let node = location.lookup.node
          if node.kind == .none, node.has(Node.removed) { throw .noEntry }
          do throws(Errno) {
            try body(location, Overlay(index: location.overlay))
            return 0
          } catch {
            guard error == .again, attempt < 15 else { throw error }
          }
        }
        throw .again
      }
    }
  }
}

@c(ovl_mkdir)
public func ovlMkdir(_ dirfd: Int32, _ path: UnsafePointer<CChar>?, _ mode: mode_t) -> Int {
  unsafe changeName(dirfd, path, outside: { unsafe lx_mkdirat(AT_FDCWD, $0, mode) }) {
    (location, overlay) throws(Errno) in
    if location.lookup.node.kind != .none { throw .exists }
    try overlay.makeDirectory(location.path.view, mode: mode)
  }
}

@c(ovl_mknod)
public func ovlMknod(
  _ dirfd: Int32, _ path: UnsafePointer<CChar>?, _ mode: mode_t, _ device: dev_t
) -> Int {
  unsafe changeName(dirfd, path, outside: { unsafe lx_mknodat(AT_FDCWD, $0, mode, UInt64(device)) })
  {
    (location, overlay) throws(Errno) in
    if location.lookup.node.kind != .none { throw .exists }
    if location.trailing { throw .noEntry }
    try overlay.makeNode(location.path.view, mode: mode, device: UInt64(device))
  }
}

@c(ovl_symlink)
public func ovlSymlink(
  _ target: UnsafePointer<CChar>?, _ dirfd: Int32, _ path: UnsafePointer<CChar>?
) -> Int {
  guard let target = unsafe target, unsafe isMapped(target) else { return passResult }
  let r = unsafe changeName(
    dirfd, path,
    outside: {
      Outside.noteChange()
      return unsafe lx_symlinkat(target, AT_FDCWD, $0)
    }
  ) { (location, overlay) throws(Errno) in
    if location.lookup.node.kind != .none { throw .exists }
    if location.trailing { throw .noEntry }
    if unsafe target.pointee == 0 { throw .noEntry }
    try unsafe overlay.makeSymbolicLink(location.path.view, target: target)
  }
  if r == passResult { Outside.noteChange() }
  return r
}

@c(ovl_unlink)
public func ovlUnlink(_ dirfd: Int32, _ path: UnsafePointer<CChar>?, _ flags: Int32) -> Int {
  if flags & ~AT_REMOVEDIR != 0 { return -Int(EINVAL) }
  let isDirectory = flags & AT_REMOVEDIR != 0
  return unsafe changeName(dirfd, path, outside: { unsafe lx_unlinkat(AT_FDCWD, $0, flags) }) {
    (location, overlay) throws(Errno) in
    let node = location.lookup.node
    // As on a read-only mount: refused before the name is looked for.
    if !overlay.hasUpper { throw .readOnly }
    if isDirectory {
      switch location.last {
      case .dot: throw .invalid
      case .dotDot: throw .notEmpty
      case .root: throw .busy
      case .name: break
      }
      if node.kind == .none { throw .noEntry }
      if node.kind != .directory {
        throw overlay.refusal(location.path.view, else: .notDirectory)
      }
      try overlay.removeDirectory(location.path.view)
    } else {
      if location.last != .name { throw .isDirectory }
      if node.kind == .none { throw .noEntry }
      if location.trailing { throw node.kind == .directory ? .isDirectory : .notDirectory }
      if node.kind == .directory { throw overlay.refusal(location.path.view, else: .isDirectory) }
      try overlay.unlink(location.path.view, node)
    }
  }
}

@c(ovl_rename)
public func ovlRename(
  _ oldDirfd: Int32, _ old: UnsafePointer<CChar>?, _ newDirfd: Int32,
  _ new: UnsafePointer<CChar>?, _ flags: UInt32
) -> Int {
  unsafe twoNames(oldDirfd, old, newDirfd, new, followOld: false, namingOld: true) {
    (from, to, s) throws(Errno) -> Int in
    if from.overlay < 0, to.overlay < 0 {
      return unsafe lx_renameat2(
        AT_FDCWD, from.path.terminated, AT_FDCWD, to.path.terminated, flags)
    }
    // The ways to both names are gone before anything is refused, and of two mounts nothing more is looked at
    // (fs/namei.c, do_renameat2).
    if from.overlay != to.overlay {
      let device = try CrossBorder.parentDevice(from)
      if try CrossBorder.parentDevice(to) != device { throw .crossDevice }
    }
    if from.last != .name { throw .busy }
    if to.last != .name {
      throw flags & UInt32(RENAME_NOREPLACE) != 0 ? .exists : .busy
    }
    if from.overlay == to.overlay, !Overlay(index: from.overlay).hasUpper { throw .readOnly }
    if from.overlay >= 0, to.overlay >= 0 {
      if from.isTooLong { throw .nameTooLong }
      if from.lookup.node.kind == .none { throw .noEntry }
      if to.isTooLong { throw .nameTooLong }
      let exists = to.lookup.node.kind != .none
      if exists, flags & UInt32(RENAME_NOREPLACE) != 0 { throw .exists }
      if !exists, flags & UInt32(RENAME_EXCHANGE) != 0 { throw .noEntry }
    }
    if from.overlay != to.overlay {
      return try CrossBorder.rename(from, to, flags: flags, s)
    }
    let overlay = Overlay(index: from.overlay)
    let node = from.lookup.node
    let target = to.lookup.node
    if node.kind != .directory {
      if from.trailing { throw .notDirectory }
      if to.trailing, target.kind != .directory || flags & UInt32(RENAME_EXCHANGE) == 0 {
        throw .notDirectory
      }
    } else if to.trailing, flags & UInt32(RENAME_EXCHANGE) != 0, target.kind != .directory {
      throw .notDirectory
    }
    if target.has(Node.removed) { throw .noEntry }
    try overlay.rename(
      from.path.view, to.path.view, found: (node, target), flags: flags)
    return 0
  }
}

@c(ovl_link)
public func ovlLink(
  _ oldDirfd: Int32, _ old: UnsafePointer<CChar>?, _ newDirfd: Int32,
  _ new: UnsafePointer<CChar>?, _ flags: Int32
) -> Int {
  if let old = unsafe old, flags & AT_EMPTY_PATH != 0, unsafe isMapped(old), unsafe old.pointee == 0
  {
    return unsafe linkDescriptor(oldDirfd, newDirfd, new, flags)
  }
  // The kernel looks for the first path before it misses the second, and would look below the target.
  if let old = unsafe old, unsafe isPath(old), unsafe new.map({ unsafe isPath($0) }) != true {
    var st = stat()
    let follow = flags & AT_SYMLINK_FOLLOW != 0 ? 0 : AT_SYMLINK_NOFOLLOW
    let r = unsafe ovlStat(oldDirfd, old, &st, follow)
    if r != passResult { return r < 0 ? r : unsafe lx_linkat(AT_FDCWD, "/", AT_FDCWD, new, 0) }
  }
  return unsafe twoNames(
    oldDirfd, old, newDirfd, new, followOld: flags & AT_SYMLINK_FOLLOW != 0
  ) { (from, to, s) throws(Errno) -> Int in
    if from.overlay < 0, to.overlay < 0 {
      return unsafe lx_linkat(
        AT_FDCWD, from.path.terminated, AT_FDCWD, to.path.terminated, flags)
    }
    if to.last != .name { throw .exists }
    if to.overlay >= 0 {
      if to.lookup.node.kind != .none { throw .exists }
      if to.trailing || to.lookup.node.has(Node.removed) { throw .noEntry }
    }
    if from.overlay >= 0, from.lookup.node.has(Node.removed) {
      if from.lookup.node.kind == .directory { throw .permission }
      guard let old = unsafe old, let fd = RemovedDirectory.ownDescriptor(unsafe PathView(old))
      else {
        throw .noEntry
      }
      let r = unsafe linkDescriptor(fd, newDirfd, new, AT_EMPTY_PATH)
      return try check(r)
    }
    if from.overlay != to.overlay {
      if let old = unsafe old, let fd = RemovedDirectory.ownDescriptor(unsafe PathView(old)) {
        try requireName(fd)
      }
      return try CrossBorder.link(from, to, flags: flags, s)
    }
    try Overlay(index: from.overlay).link(from.path.view, to.path.view)
    return 0
  }
}

/// The file of a hard-link group in the index is nobody's name: without others it has none.
private func requireName(_ fd: Int32) throws(Errno) {
  let entry = DescriptorTable.entry(fd)
  guard entry.isOurs, !entry.isLower, entry.ino != 0 else { return }
  var st = stat()
  try unsafe check(lx_fstat(fd, &st))
  if st.type != S_IFREG || st.links == 0 { return }
  unsafe ovlFDFixStat(fd, &st)
  if st.links == 0 { throw .noEntry }
}

/// linkat(fd, "", …, AT_EMPTY_PATH): the descriptor's object, which is not to be a lower inode.
private func linkDescriptor(
  _ fd: Int32, _ newDirfd: Int32, _ new: UnsafePointer<CChar>?, _ flags: Int32
) -> Int {
  let entry = DescriptorTable.entry(fd)
  let isPlain = entry.isKnown && !entry.isOurs
  let r = unsafe changeName(
    newDirfd, new,
    outside: {
      unsafe isPlain ? lx_linkat(fd, "", AT_FDCWD, $0, flags) : refuseLink(AT_FDCWD, $0)
    }
  ) { (location, overlay) throws(Errno) in
    if location.lookup.node.kind != .none { throw .exists }
    if location.trailing { throw .noEntry }
    let rel = location.path.view
    try withScratch { (s) throws(Errno) in
      var here = s.here
      switch try DescriptorObject.standing(fd, entry, s) {
      case .removed: throw entry.isDirectory ? overlay.refusedLink(rel) : .noEntry
      case .upper(_, let node) where node.has(Node.removed) && node.has(Node.attributesOnly):
        throw entry.isDirectory ? overlay.refusedLink(rel) : .noEntry
      case .upper(let group, let node) where node.has(Node.removed):
        // Other names are left, and its file in the index or a kept copy; or none.
        var st = stat()
        try unsafe check(
          lx_fstatat(AT_FDCWD, s.real2.unterminated, &st, AT_SYMLINK_NOFOLLOW))
        if unsafe group.shownLinks(s.real2.unterminated, st.links) <= 0 { throw .noEntry }
        guard group.index == overlay.index else { throw .crossDevice }
        let source = s.real2.written
        try overlay.markParentImpure(rel, s)
        _ = try unsafe overlay.create(rel, isNew: false) {
          unsafe lx_linkat(AT_FDCWD, source.cString, AT_FDCWD, $0, 0)
        }
        return
      default: break
      }
      if entry.isLower || !entry.isKnown,
        let (source, _) = try DescriptorObject.find(fd, entry, &here, s)
      {
        guard source.index == overlay.index else { throw .crossDevice }
        try overlay.link(here.view, rel)
      } else {
        try requireName(fd)
        // It goes on showing its origin's inode number.
        if entry.ino != 0 { try overlay.markParentImpure(rel, s) }
        _ = try unsafe overlay.create(rel, isNew: false) {
          unsafe lx_linkat(fd, "", AT_FDCWD, $0, flags)
        }
      }
    }
  }
  // A lower inode gets no name outside.
  return r == passResult && entry.isLower ? unsafe refuseLink(newDirfd, new) : r
}

/// EXDEV, or what the new name refuses before that: asked of the kernel with an object of /proc.
private func refuseLink(_ dirfd: Int32, _ path: UnsafePointer<CChar>?) -> Int {
  unsafe lx_linkat(AT_FDCWD, "/proc/self/stat", dirfd, path, 0)
}

/// Two walks, in blocks of their own.
private func twoNames(
  _ oldDirfd: Int32, _ old: UnsafePointer<CChar>?, _ newDirfd: Int32,
  _ new: UnsafePointer<CChar>?, followOld: Bool, namingOld: Bool = false,
  _ body: (Location, Location, Scratch) throws(Errno) -> Int
) -> Int {
  guard let old = unsafe old, unsafe isPath(old) else { return passResult }
  guard let new = unsafe new, unsafe isPath(new) else {
    return namingOld ? unsafe secondIsNoPath(oldDirfd, old, new) : passResult
  }
  return bordered { () throws(Errno) in
    try withScratch { (s) throws(Errno) -> Int in
      try withScratch { (s2) throws(Errno) -> Int in
        for attempt in 0..<16 {
          let from = try unsafe Resolve.walk(
            oldDirfd, old, follow: followOld, naming: namingOld, s)
          // link(2) looks its first name up to the end before it looks at the second.
          if !namingOld, let from, from.overlay >= 0 { _ = try existing(from) }
          let to: Location?
          do throws(Errno) {
            to = try unsafe Resolve.walk(newDirfd, new, follow: false, naming: true, s2)
            if !namingOld, to?.isTooLong == true { throw .nameTooLong }
          } catch {
            if !namingOld, (from?.overlay ?? -1) < 0 {
              let flags = followOld ? 0 : AT_SYMLINK_NOFOLLOW
              var st = stat()
              if let from {
                try unsafe check(lx_fstatat(AT_FDCWD, from.path.terminated, &st, flags))
              } else {
                try unsafe check(lx_fstatat(oldDirfd, old, &st, flags))
              }
            }
            throw error
          }
          if from == nil, to == nil {
            Outside.noteChange()
            return passResult
          }
          let source: Location
          if let from {
            source = from
          } else {
            source = try unsafe outsideLocation(oldDirfd, old, s)
          }
          let target: Location
          if let to {
            target = to
          } else {
            target = try unsafe outsideLocation(newDirfd, new, s2)
          }
          do throws(Errno) {
            return try body(source, target, s)
          } catch {
            guard error == .again, attempt < 15 else { throw error }
          }
        }
        throw .again
      }
    }
  }
}

/// rename(2) to what is no path: the kernel goes the way to the first name before it says so.
private func secondIsNoPath(
  _ dirfd: Int32, _ old: UnsafePointer<CChar>, _ new: UnsafePointer<CChar>?
) -> Int {
  bordered { () throws(Errno) in
    try withScratch { (s) throws(Errno) -> Int in
      guard let from = try unsafe Resolve.walk(dirfd, old, follow: false, naming: true, s),
        from.overlay >= 0
      else { return passResult }
      return unsafe lx_renameat2(AT_FDCWD, "/", AT_FDCWD, new, 0)
    }
  }
}

/// A path outside as a location: the caller's own words for the kernel.
private func outsideLocation(
  _ dirfd: Int32, _ path: UnsafePointer<CChar>, _ s: Scratch
) throws(Errno) -> Location {
  let text = unsafe PathView(path)
  var here = s.here
  here.count = 0
  if text[0] != slash {
    _ =
      dirfd == AT_FDCWD
      ? try WorkingDirectory.read(into: &here)
      : try WorkingDirectory.ofDescriptor(dirfd, into: &here)
    try here.append(slash)
  }
  try here.append(text)
  var end = text.count
  while end > 1, text[end - 1] == slash { end -= 1 }
  let name = text.prefix(end).name
  return Location(
    overlay: -1, path: here,
    lookup: Lookup(
      node: Node(.unknown, layer: -1), length: 0, hash: PathHash(0, 0),
      directory: PathHash(0, 0), total: 0),
    last: name.isDot ? .dot : name.isDotDot ? .dotDot : .name)
}
