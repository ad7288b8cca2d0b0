import CLinux

/// What stat(2) says of objects of the merged tree: one device, the origin's inode number, the
/// link count of the whole group.
enum PathStat {
  /// stat of a canonical path, links not followed. 0 or -errno.
  static func fetch(_ overlay: Overlay, _ rel: PathView, _ st: inout stat, _ s: Scratch) -> Int {
    do throws(Errno) {
      var merge = Merge(overlay, s)
      let look = try overlay.lookup(rel, s, merge: &merge)
      guard look.isWhole else {
        throw look.node.kind == .none ? .noEntry : .notDirectory
      }
      guard look.node.kind != .none else { throw .noEntry }
      try unsafe check(
        lx_fstatat(AT_FDCWD, s.real2.unterminated, &st, AT_SYMLINK_NOFOLLOW))
      unsafe fix(overlay, look.node, &st, s.real2.unterminated)
      return 0
    } catch {
      return error.result
    }
  }

  /// Corrects the kernel's answer about the real object.
  ///
  /// - Parameter real: its real path, asked only for upper files with several links.
  @inline(__always)
  static func fix(
    _ overlay: Overlay, _ node: Node, _ st: inout stat, _ real: UnsafePointer<CChar>
  ) {
    st.device = overlay.device
    let isNameless = node.layer > 0 || node.has(Node.attributesOnly) || node.kind == .directory
    if node.has(Node.removed), isNameless { st.links = 0 }
    if node.shownInode != 0 {
      st.inode = node.shownInode
    } else if node.layer > 0 {
      st.inode = overlay.shownInode(st.inode, layer: node.layer)
    }
    if st.type == S_IFDIR {
      // More than one directory stands behind it: 1 says "not counted", as other file systems do.
      if node.has(Node.merged), !node.has(Node.removed) { st.links = 1 }
    } else if st.links > 1 || node.has(Node.indexed | Node.removed), node.layer == 0 {
      let least = node.has(Node.removed) ? 0 : 1
      st.links = unsafe max(overlay.shownLinks(real, st.links), least)
    }
  }
}
