import CLinux

/// Merged listings of open directories, one a descriptor, made when first asked for.
enum Listing {
  /// The listing of fd, or nil where the kernel's own is right.
  static func of(_ fd: Int32) throws(Errno) -> UnsafeMutablePointer<ovl_listing>? {
    guard let raw = unsafe DescriptorTable.raw(fd) else { return nil }
    let known = unsafe at_load64(&raw.pointee.listing)
    if known != 0, known & 1 == 0 {
      return unsafe UnsafeMutablePointer(bitPattern: UInt(known))
    }
    let entry = DescriptorTable.entry(fd)
    if entry.isKnown, !entry.isOurs { return nil }
    let flags = try check(lx_fcntl(fd, F_GETFL, 0))
    // Not open for reading: the kernel says how.
    if flags & Int(O_PATH) != 0 { return nil }
    let made = unsafe try make(fd, entry)
    if known != 0 { drop(fd) }
    if let made = unsafe made {
      unsafe at_store64(&raw.pointee.listing, UInt64(UInt(bitPattern: made)))
    }
    return unsafe made
  }

  private static func make(_ fd: Int32, _ entry: DescriptorTable.Entry) throws(Errno)
    -> UnsafeMutablePointer<ovl_listing>?
  {
    try unsafe withScratch { (s) throws(Errno) -> UnsafeMutablePointer<ovl_listing>? in
      var here = s.here
      let position = try WorkingDirectory.ofDescriptor(fd, into: &here)
      if position.removed {
        // A lower directory goes on listing what is no longer shown.
        if position.overlay >= 0, position.layer > 0 { throw .noEntry }
        return nil
      }
      guard position.overlay >= 0 else {
        if !entry.isKnown { DescriptorTable.set(fd, .plain) }
        return nil
      }
      let overlay = Overlay(index: position.overlay)
      var merge = Merge(overlay, s)
      let look = try overlay.lookup(here.view, s, merge: &merge)
      guard look.isWhole, look.node.kind == .directory else { return nil }
      let node = look.node
      // One layer, and its numbers are the shown ones: the kernel's answer is the right one.
      if merge.count == 1, !node.has(Node.impure), !node.has(Node.opaque),
        overlay.has(OVL_ONE_DEVICE), merge.layer(0) == position.layer, !merge.mayHideFiles(0)
      {
        return nil
      }
      return try unsafe withScratch { (s2) throws(Errno) -> UnsafeMutablePointer<ovl_listing>? in
        var own = stat()
        var parent = stat()
        _ = PathStat.fetch(overlay, here.view, &own, s2)
        if here.view.isEmpty {
          var above = s2.rest
          try above.append(overlay.target)
          try above.append("/..")
          _ = unsafe lx_fstatat(AT_FDCWD, above.cString, &parent, 0)
        } else {
          _ = PathStat.fetch(overlay, here.view.parent, &parent, s2)
        }
        return unsafe try DirectoryListing.make(
          merge, own: own.inode, parent: parent.inode, s2)
      }
    }
  }

  /// The next read makes a new one. The records stay readable until then: readdir(3) lets the program
  /// use the last entry until its next call.
  static func outdate(_ fd: Int32) {
    guard let raw = unsafe DescriptorTable.raw(fd) else { return }
    let known = unsafe at_load64(&raw.pointee.listing)
    if known != 0, known & 1 == 0 { _ = unsafe at_cas64(&raw.pointee.listing, known, known | 1) }
  }

  static func drop(_ fd: Int32) {
    guard let raw = unsafe DescriptorTable.raw(fd) else { return }
    let known = unsafe at_load64(&raw.pointee.listing)
    guard known != 0, unsafe at_cas64(&raw.pointee.listing, known, 0) != 0 else { return }
    let listing = unsafe UnsafeMutablePointer<ovl_listing>(
      bitPattern: UInt(known & ~1))!
    _ = unsafe lx_munmap(listing, listing.pointee.size)
  }
}
