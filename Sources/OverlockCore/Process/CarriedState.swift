import CLinux

/// What exec must carry over because the kernel cannot tell it: that a working directory on a lower
/// which is not the target is the overlay's. One line in OVERLOCK_STATE: `cwd=<overlay>:<path>`.
enum CarriedState {
  static func restore(_ text: PathView) throws(Errno) {
    guard text.hasPrefix("cwd=") else { return }
    let rest = text.from(4)
    var colon = 0
    while colon < rest.count, rest[colon] != UInt8(ascii: ":") { colon += 1 }
    guard colon < rest.count, let index = decimal(rest.prefix(colon)), index < Overlay.count
    else { return }
    let path = rest.from(colon + 1)
    // Believed only if the kernel's directory is the one that the overlay shows there.
    try withScratch { (s) throws(Errno) in
      let overlay = Overlay(index: index)
      var merge = Merge(overlay, s)
      let look = try overlay.lookup(path, s, merge: &merge)
      guard look.isWhole, look.node.kind == .directory else { return }
      var here = stat()
      var there = stat()
      guard unsafe lx_fstatat(AT_FDCWD, ".", &here, 0) == 0 else { return }
      var real = s.real
      for i in 0..<merge.count {
        try merge.realPath(i, into: &real)
        guard unsafe lx_fstatat(AT_FDCWD, real.cString, &there, AT_SYMLINK_NOFOLLOW) == 0,
          there.inode == here.inode, there.device == here.device
        else { continue }
        WorkingDirectory.store(
          WorkingDirectory.Position(overlay: index, layer: merge.layer(i)), path)
        return
      }
    }
  }

  /// Writes `OVERLOCK_STATE=…`, or nothing where the kernel's answer will do.
  static func save(into text: inout PathBuffer) throws(Errno) {
    text.count = 0
    try withScratch { (s) throws(Errno) in
      var here = s.here
      guard let position = unsafe Place(ovl_cwd_place(), capacity: Int(OVL_DEEP_MAX)),
        position.overlay >= 0, position.layer > 0,
        position.layer < Overlay(index: position.overlay).layerCount,
        try position.copy(into: &here)
      else { return }
      let overlay = Overlay(index: position.overlay)
      if overlay.layerPath(position.layer).equals(overlay.target) { return }
      try text.append("OVERLOCK_STATE=cwd=")
      try text.append(decimal: UInt64(position.overlay))
      try text.append(UInt8(ascii: ":"))
      try text.append(here.view)
    }
  }
}
