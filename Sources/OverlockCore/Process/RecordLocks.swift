import CLinux

/// POSIX record locks belong to a process and an inode: a process may have some of one object on its lower
/// inode and some on the upper. The close of any descriptor of the object drops them all.
enum RecordLocks {
  /// Descriptors beyond these are not looked at.
  private static var reach: Int32 { 1024 }

  /// Notes that record locks were asked for through a descriptor.
  @inline(__always) static func note(_ fd: Int32, _ entry: DescriptorTable.Entry) {
    if entry.has(OVL_FD_RECORD) { return }
    guard let raw = unsafe DescriptorTable.raw(fd) else { return }
    unsafe ovl_self()!.pointee.record_locks = 1
    unsafe at_store64(&raw.pointee.word, entry.word | UInt64(OVL_FD_RECORD))
  }

  /// A descriptor on the object's inode of one side, through which record locks were asked for.
  static func sibling(_ overlay: Overlay, _ shown: UInt64, lower: Bool, but mine: Int32) -> Int32? {
    guard Apart.isNeeded else { return nil }
    for fd in 0..<reach where fd != mine {
      let entry = DescriptorTable.entry(fd)
      guard entry.isOurs, entry.has(OVL_FD_RECORD), entry.isLower == lower,
        entry.overlay == overlay.index, identity(fd, entry, overlay) == shown
      else { continue }
      return fd
    }
    return nil
  }

  /// The inode number that a descriptor's object shows.
  static func identity(_ fd: Int32, _ entry: DescriptorTable.Entry, _ overlay: Overlay) -> UInt64 {
    if entry.ino != 0 { return entry.ino }
    var st = stat()
    guard unsafe lx_fstat(fd, &st) == 0, entry.layer < overlay.layerCount else { return 0 }
    return overlay.shownInode(st.inode, layer: entry.layer)
  }

  /// A descriptor is about to be closed: the kernel drops the locks on its inode, we those on the other.
  static func closing(_ fd: Int32, _ entry: DescriptorTable.Entry) {
    guard entry.isOurs, !entry.isDirectory, entry.overlay < Overlay.count else { return }
    let overlay = Overlay(index: entry.overlay)
    let shown = identity(fd, entry, overlay)
    guard let other = sibling(overlay, shown, lower: !entry.isLower, but: fd) else { return }
    var everything = flock()
    everything.l_type = Int16(F_UNLCK)
    _ = unsafe lx_lock(other, F_SETLK, &everything)
  }
}
