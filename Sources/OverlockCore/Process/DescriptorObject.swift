import CLinux

/// The merged object that a descriptor on a lower inode stands for.
enum DescriptorObject {
  /// The object's current name and node; nil when the descriptor is no lower object of an overlay.
  /// Writes the path.
  static func find(
    _ fd: Int32, _ entry: DescriptorTable.Entry, _ here: inout PathBuffer, _ s: Scratch
  ) throws(Errno) -> (Overlay, Node)? {
    guard try RealPathReader.ofDescriptor(fd, into: &here) else { return nil }
    guard
      let (overlay, rel, layer) = RealPaths.merged(here.view, lowers: entry.isOurs)
    else { return nil }
    if layer == 0 { return nil }
    let shift = here.count - rel.count
    for i in 0..<rel.count { unsafe here.base[i] = here.base[i + shift] }
    here.count = rel.count
    if layer < overlay.layerCount { _ = try overlay.followMoved(&here, layer: layer) }
    var merge = Merge(overlay, s)
    let look = try overlay.lookup(here.view, s, merge: &merge)
    guard look.isWhole, look.node.kind != .none else { throw .noEntry }
    return (overlay, look.node)
  }
}
