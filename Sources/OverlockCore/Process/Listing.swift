import CLinux

/// Merged listings of open directories, one a descriptor, made when first asked for.
enum Listing {
  // What an entry says of its listing: 0 not asked yet, `kernel` the kernel's own is right, else the
  // address of one; with bit 0 set it is outdated.
  private static var kernel: UInt64 { 2 }

  /// The listing of fd, or nil where the kernel's own is right.
  static func of(_ fd: Int32) throws(Errno) -> UnsafeMutablePointer<ovl_listing>? {
    guard let raw = unsafe DescriptorTable.made(fd) else { return nil }
    let known = unsafe at_load64(&raw.pointee.listing)
    if known == kernel { return nil }
    if known != 0, known & 1 == 0 {
      return unsafe UnsafeMutablePointer(bitPattern: UInt(known))
    }
    let entry = DescriptorTable.entry(fd)
    if entry.isKnown, !entry.isOurs { return nil }
    let flags = try check(lx_fcntl(fd, F_GETFL, 0))
    // Not open for reading: the kernel says how.
    if flags & Int(O_PATH) != 0 { return nil }
    if Loan.isActive, !Loan.note(fd) { throw Errno(rawValue: ENOMEM) }
    let made = unsafe try make(fd, entry)
    if known != 0 { drop(fd) }
    unsafe at_store64(&raw.pointee.listing, made.map { UInt64(UInt(bitPattern: $0)) } ?? kernel)
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
      // One layer that has nothing to hide or to correct, as the cache says.
      if !here.view.isEmpty, let node = overlay.cachedNode(here.view), node.kind == .directory,
        node.has(Node.single), !node.has(Node.impure | Node.opaque | Node.redirected),
        overlay.has(OVL_ONE_DEVICE), node.layer == position.layer,
        node.layer == 0 || overlay.registry?.hasIndex == false
      {
        return nil
      }
      var merge = Merge(overlay, s)
      let look = try overlay.lookup(here.view, s, merge: &merge)
      guard look.isWhole, look.node.kind == .directory else { return nil }
      let node = look.node
      // One layer, and its numbers are the shown ones: the kernel's answer is the right one.
      if merge.count == 1, !node.has(Node.impure), !node.has(Node.opaque),
        overlay.has(OVL_ONE_DEVICE), merge.layer(0) == position.layer, !merge.aloneHidesFiles
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
        var hasOrigins = node.has(Node.impure)
        if here.view.isEmpty, merge.layer(0) == 0 {
          // Of the root nothing is looked up.
          var path = s2.rest
          try merge.realPath(0, into: &path)
          hasOrigins = unsafe overlay.letter(.impure, path.cString) == UInt8(ascii: "y")
        }
        // For whoever watches it is read once.
        var markers = Markers(overlay)
        markers.directory(here.view, .listing)
        markers.name(here.view, .listing)
        defer { markers.end() }
        return unsafe try DirectoryListing.make(
          merge, own: own.inode, parent: parent.inode, hasOrigins: hasOrigins, s2)
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
    if Loan.isActive, Loan.holds(fd, listing: known) { return }
    unmap(known)
  }

  /// - Parameter word: what an entry says of its listing.
  static func unmap(_ word: UInt64) {
    guard word > kernel | 1 else { return }
    let listing = unsafe UnsafeMutablePointer<ovl_listing>(bitPattern: UInt(word & ~1))!
    _ = unsafe lx_munmap(listing, listing.pointee.size)
  }
}
