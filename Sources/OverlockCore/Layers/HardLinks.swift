import CLinux

/// Hard links of lower files. A group's upper inode stands in `workdir/overlock/index`, named by the
/// inode number that the group shows; a lookup of any of its names that is still on the lower is
/// answered with it. So all names stay one file.
///
/// The number of links that the program sees is the upper inode's own plus a difference kept in the
/// kernel's xattr `nlink` (`U±n`): names that exist on the lower only, less the index's own link.
///
/// A link on its way to its name is none yet. While there may be one, the xattr says so and names it
/// (`P±n:folder/name`, below the workdir): it is subtracted as long as it is there. So the number is
/// right between any two steps, whoever dies there, and links that others make or remove meanwhile
/// count as they do. Written by whoever holds the turn of the inode's identity only:
///
///     a lower name gets its upper entry    P n, link to copyup/, U n-1, rename to the name
///     a new name over a whiteout           P n, link to create/, rename to the name, U n
///     a dead process's link in copyup/     P n+1, unlink, U n+1
extension Overlay {
  /// Puts a filled copy into the index and leaves a further link of the index's inode under its
  /// staging name. Under the turn of the identity.
  func enterIndex(_ staged: PathBuffer, shown: UInt64, names: UInt64, _ s: Scratch) throws(Errno) {
    var index = s.link
    try indexPath(shown, into: &index)
    registry?.noteIndex()
    // With its count before it becomes visible.
    try unsafe setLinks(staged.cString, Int(truncatingIfNeeded: names) - 1)
    let r = unsafe lx_renameat2(
      AT_FDCWD, staged.cString, AT_FDCWD, index.cString, UInt32(RENAME_NOREPLACE))
    if r == 0 {
      Fault.step()
    } else if r == -Int(EEXIST) {
      try removeStaged(staged)
    } else {
      try check(r)
    }
    Fault.step()
    try linkFromIndex(index, staged)
  }

  /// One more upper name for the group: the lower name it stands for is no longer counted. Under the
  /// turn of the identity; `staged` is free.
  func linkFromIndex(_ index: PathBuffer, _ staged: PathBuffer) throws(Errno) {
    let path = unsafe index.cString
    let difference = try unsafe expectLink(path, staged)
    Fault.step()
    try unsafe check(lx_linkat(AT_FDCWD, path, AT_FDCWD, staged.cString, 0))
    Fault.step()
    try unsafe setLinks(path, difference - 1)
    Fault.step()
  }

  /// Notes that a link of the file is about to be made at a staging name: it does not count there.
  /// Returns the difference. Under the turn of the identity.
  func expectLink(_ path: UnsafePointer<CChar>, _ staged: PathBuffer) throws(Errno) -> Int {
    let difference = try unsafe settleLinks(path)
    try unsafe setLinks(path, difference, expecting: staged)
    return difference
  }

  /// Removes the link that a dead process was making, if any, and returns the difference. Under the
  /// turn of the identity.
  @discardableResult
  func settleLinks(_ path: UnsafePointer<CChar>) throws(Errno) -> Int {
    try withScratch { (s) throws(Errno) -> Int in
      var staged = s.staging
      guard let difference = try unsafe self.links(path, expecting: &staged) else { return 0 }
      if staged.count > 0 {
        try self.removeStaged(staged)
        try unsafe self.setLinks(path, difference)
      }
      return difference
    }
  }

  /// Removes what a dead process left under the name of an object's copy. Under the turn of the
  /// identity.
  func removeAnchor(_ anchor: PathBuffer) throws(Errno) {
    var st = stat()
    let path = unsafe anchor.cString
    let r = unsafe lx_fstatat(AT_FDCWD, path, &st, AT_SYMLINK_NOFOLLOW)
    if r == -Int(ENOENT) { return }
    guard r == 0, st.type != S_IFDIR, st.links > 1 else { return try removeStaged(anchor) }
    try withScratch { (s) throws(Errno) in
      var staged = s.staging
      guard var difference = try unsafe self.links(path, expecting: &staged) else {
        return try self.removeStaged(anchor)
      }
      if !staged.view.equals(anchor.view) {
        // It was counted for the name that it never got.
        if staged.count > 0 { try self.removeStaged(staged) }
        difference += 1
        try unsafe self.setLinks(path, difference, expecting: anchor)
        Fault.step()
      }
      // By another name: this one goes.
      try self.removeStaged(anchor)
      Fault.step()
      guard let shown = hexadecimal(anchor.view.name) else { return }
      var index = s.link
      try self.indexPath(shown, into: &index)
      try unsafe self.setLinks(index.cString, difference)
    }
  }

  private var linkAttribute: UnsafePointer<CChar> {
    let text: StaticString =
      has(OVL_USERXATTR) ? "user.overlay.nlink" : "trusted.overlay.nlink"
    return unsafe UnsafeRawPointer(text.utf8Start).assumingMemoryBound(to: CChar.self)
  }

  /// The number of links that a file of the upper shows.
  ///
  /// - Parameters:
  ///   - links: its own, as just read.
  ///   - nofollow: 0 for a path that is a magic link to an open file.
  func shownLinks(_ path: UnsafePointer<CChar>, _ links: Int, nofollow: Int32 = 1) -> Int {
    var links = links
    for _ in 0..<8 {
      guard let difference = unsafe linkDifference(path, nofollow) else { return links }
      // Both are of one moment if nothing came or went in between.
      var st = stat()
      let flags = nofollow != 0 ? AT_SYMLINK_NOFOLLOW : 0
      guard unsafe lx_fstatat(AT_FDCWD, path, &st, flags) == 0, st.links != links else {
        return links + difference
      }
      links = st.links
    }
    return links
  }

  /// What is to be added to the upper inode's link count; nil: nothing was ever noted of it.
  private func linkDifference(_ path: UnsafePointer<CChar>, _ nofollow: Int32) -> Int? {
    // Nearly all files with several links have no note: none is worth a scratch block.
    if unsafe lx_getxattr(path, linkAttribute, nil, 0, nofollow) == -Int(ENODATA),
      !has(OVL_USERXATTR)
    {
      return nil
    }
    var result: Int? = nil
    try? withScratch { (s) throws(Errno) in
      var staged = s.staging
      result = try unsafe self.links(path, expecting: &staged, nofollow)
      if let difference = result, staged.count > 0 {
        var st = stat()
        let r = unsafe lx_fstatat(AT_FDCWD, staged.cString, &st, AT_SYMLINK_NOFOLLOW)
        if r == 0 { result = difference - 1 }
      }
    }
    return result
  }

  /// The note itself: its number, and the staging name of the link that may be on its way.
  private func links(
    _ path: UnsafePointer<CChar>, expecting staged: inout PathBuffer, _ nofollow: Int32 = 1
  ) throws(Errno) -> Int? {
    var text: InlineArray<128, UInt8> = InlineArray(repeating: 0)
    var n = unsafe withUnsafeMutablePointer(to: &text) {
      unsafe nofollow != 0
        ? lx_owner_getxattr(path, linkAttribute, $0, 128)
        : lx_getxattr(path, linkAttribute, $0, 128, 0)
    }
    if n == -Int(ENODATA) || n == -Int(EPERM), has(OVL_USERXATTR),
      let note = unsafe note(path, nofollow: nofollow)
    {
      n = note.linksCount
      for k in 0..<min(n, 24) { text[k] = note.links[k] }
    }
    guard n > 2, text[0] == UInt8(ascii: "U") || text[0] == UInt8(ascii: "P") else { return nil }
    var value = 0
    var i = 2
    while i < n, text[i] >= 48, text[i] <= 57, value < 1 << 32 {
      value = value * 10 + Int(text[i] - 48)
      i += 1
    }
    if text[0] == UInt8(ascii: "P"), i < n, text[i] == UInt8(ascii: ":") {
      try staged.append(work)
      try staged.append(slash)
      for k in (i + 1)..<n { try staged.append(text[k]) }
    }
    return text[1] == UInt8(ascii: "-") ? -value : value
  }

  /// - Parameter staged: where a link is about to be made.
  func setLinks(
    _ path: UnsafePointer<CChar>, _ difference: Int, expecting staged: PathBuffer? = nil
  ) throws(Errno) {
    try withScratch { (s) throws(Errno) in
      var text = s.link
      try text.append(staged == nil ? "U" : "P")
      try text.append(difference < 0 ? UInt8(ascii: "-") : UInt8(ascii: "+"))
      try text.append(decimal: UInt64(difference.magnitude))
      if let staged {
        try text.append(UInt8(ascii: ":"))
        try text.append(staged.view.from(self.work.count + 1))
      }
      let r = unsafe lx_owner_setxattr(path, self.linkAttribute, text.base, text.count)
      if r == -Int(EOPNOTSUPP) { return }
      guard r == -Int(EPERM), self.has(OVL_USERXATTR) else {
        try check(r)
        return
      }
      // A symbolic link or a special file takes no user.* xattr: a note stands for it, which has no room
      // for the name of a link that is on its way.
      if staged != nil { return }
      try unsafe self.setNote(path) { note in
        for i in 0..<text.count { note.links[i] = unsafe text.base[i] }
        note.linksCount = text.count
      }
    }
  }
}
