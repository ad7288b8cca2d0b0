import CLinux

/// What exec must carry over because the kernel cannot tell it: that the program itself, or the working
/// directory, is the overlay's although it is on a lower which is not the target, and through which descriptors
/// the process took record locks. One line in OVERLOCK_STATE: `exe=<overlay>;`, `records=…;` (RecordLocks) and
/// `cwd=<overlay>:<path>`, each only where it is so.
enum CarriedState {
  /// Whether this program was started through the overlay.
  static func isProgram(of overlay: Overlay) -> Bool {
    unsafe ovl_self()!.pointee.program == UInt32(overlay.index) + 1
  }

  /// What the state begins with if the program is the overlay's.
  static func appendProgram(of overlay: Overlay, to text: inout PathBuffer) throws(Errno) {
    try text.append("OVERLOCK_STATE=exe=")
    try text.append(decimal: UInt64(overlay.index))
    try text.append(UInt8(ascii: ";"))
  }

  static func restore(_ state: PathView) throws(Errno) {
    var text = state
    if text.hasPrefix("exe=") {
      var end = 4
      while end < text.count, text[end] != UInt8(ascii: ";") { end += 1 }
      guard end < text.count, let index = decimal(text.from(4).prefix(end - 4)),
        index < Overlay.count
      else { return }
      unsafe ovl_self()!.pointee.program = UInt32(index) + 1
      text = text.from(end + 1)
    }
    if text.hasPrefix("records=") {
      var end = 0
      while end < text.count, text[end] != UInt8(ascii: ";") { end += 1 }
      RecordLocks.restore(text.prefix(end).from(8))
      text = text.from(min(end + 1, text.count))
    }
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
  ///
  /// - Parameter program: the overlay from whose lower the program comes, if not from its target.
  static func save(into text: inout PathBuffer, program: Overlay? = nil) throws(Errno) {
    text.count = 0
    try text.append("OVERLOCK_STATE=")
    let name = text.count
    if let program {
      text.count = 0
      try appendProgram(of: program, to: &text)
    }
    // The rest is the path's, with its name and the overlay's number.
    try RecordLocks.carry(into: &text, room: text.capacity - Int(OVL_PATH_MAX) - text.count - 32)
    defer { if text.count == name { text.count = 0 } }
    try withScratch { (s) throws(Errno) in
      var here = s.here
      guard let position = unsafe Place(ovl_cwd_place(), capacity: Int(OVL_DEEP_MAX)),
        position.overlay >= 0, position.layer > 0,
        position.layer < Overlay(index: position.overlay).layerCount,
        try position.copy(into: &here)
      else { return }
      let overlay = Overlay(index: position.overlay)
      if overlay.layerPath(position.layer).equals(overlay.target) { return }
      try text.append("cwd=")
      try text.append(decimal: UInt64(position.overlay))
      try text.append(UInt8(ascii: ":"))
      try text.append(here.view)
    }
  }
}
