import CLinux

/// POSIX record locks belong to a process and an inode: a process may have some of one object on its lower
/// inode and some on the upper. The close of any descriptor of the object drops them all.
///
/// Left out: descriptors beyond the table's end.
enum RecordLocks {
  /// One more than the highest descriptor through which record locks were asked for.
  private static var reach: Int32 {
    unsafe Int32(truncatingIfNeeded: at_load32(&ovl_self()!.pointee.record_locks))
  }

  /// Descriptors that only a close of theirs makes interesting.
  private static var everybody: Int32 { max(reach, 1024) }

  /// Notes that record locks were asked for through a descriptor.
  @inline(__always) static func note(_ fd: Int32, _ entry: DescriptorTable.Entry) {
    if entry.has(OVL_FD_RECORD) { return }
    raiseReach(fd)
    guard let raw = unsafe DescriptorTable.raw(fd) else { return }
    unsafe at_store64(&raw.pointee.word, entry.word | UInt64(OVL_FD_RECORD))
  }

  static func raiseReach(_ fd: Int32) {
    guard fd >= 0 else { return }
    while true {
      let now = unsafe at_load32(&ovl_self()!.pointee.record_locks)
      if now > UInt32(fd) { return }
      if unsafe at_cas32(&ovl_self()!.pointee.record_locks, now, UInt32(fd) + 1) != 0 { return }
    }
  }

  /// A forked child has none of its parent's.
  static func forgetAll() {
    for fd in 0..<reach {
      guard let raw = unsafe DescriptorTable.raw(fd) else { break }
      let word = unsafe at_load64(&raw.pointee.word)
      unsafe at_store64(&raw.pointee.word, word & ~UInt64(OVL_FD_RECORD))
    }
    unsafe at_store32(&ovl_self()!.pointee.record_locks, 0)
  }

  /// A descriptor on the object's inode of one side, through which record locks were asked for.
  static func sibling(_ overlay: Overlay, _ shown: UInt64, lower: Bool, but mine: Int32) -> Int32? {
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
  static func closing(_ fd: Int32, _ known: DescriptorTable.Entry) {
    let entry = known.isKnown ? known : DescriptorObject.identify(fd)
    guard entry.isOurs, !entry.isDirectory, entry.overlay < Overlay.count else { return }
    let overlay = Overlay(index: entry.overlay)
    let shown = identity(fd, entry, overlay)
    guard let other = sibling(overlay, shown, lower: !entry.isLower, but: fd) else { return }
    dropAll(other)
  }

  private static func dropAll(_ fd: Int32) {
    var everything = flock()
    everything.l_type = Int16(F_UNLCK)
    _ = unsafe lx_lock(fd, F_SETLK, &everything)
  }

  // MARK: Across exec

  /// What a new image of this process must know to go on: `records=<process>:<descriptor>[!],…;` names the
  /// descriptors of record locks that stay open, `!` those whose object exec closes another descriptor of, on
  /// the other inode. The list ends where the room does. Nothing for a vfork child, which has no locks.
  static func carry(into text: inout PathBuffer, room: Int) throws(Errno) {
    guard Apart.isNeeded, !Loan.isActive else { return }
    let end = text.count + room
    var any = false
    for fd in 0..<reach {
      let entry = DescriptorTable.entry(fd)
      guard entry.isOurs, entry.has(OVL_FD_RECORD), entry.overlay < Overlay.count,
        lx_fcntl(fd, F_GETFD, 0) == 0, text.count + 24 < end
      else { continue }
      if !any {
        try text.append("records=")
        try text.append(decimal: UInt64(lx_getpid()))
      }
      try text.append(any ? UInt8(ascii: ",") : UInt8(ascii: ":"))
      any = true
      try text.append(decimal: UInt64(fd))
      if isLostByExec(fd, entry) { try text.append(UInt8(ascii: "!")) }
    }
    if any { try text.append(UInt8(ascii: ";")) }
  }

  /// Whether exec closes a descriptor of the object that is on its other inode.
  private static func isLostByExec(_ mine: Int32, _ entry: DescriptorTable.Entry) -> Bool {
    let overlay = Overlay(index: entry.overlay)
    let shown = identity(mine, entry, overlay)
    for fd in 0..<everybody {
      var one = DescriptorTable.entry(fd)
      if one.word == 0 { continue }
      if !one.isKnown { one = DescriptorObject.identify(fd) }
      guard one.isOurs, one.isLower != entry.isLower, one.overlay == entry.overlay,
        lx_fcntl(fd, F_GETFD, 0) == Int(FD_CLOEXEC), identity(fd, one, overlay) == shown
      else { continue }
      return true
    }
    return false
  }

  /// Takes up what `carry` wrote, without its name and end. Another process's is not ours.
  static func restore(_ text: PathView) {
    var at = 0
    func number() -> Int? {
      let from = at
      while at < text.count, text[at] >= 48, text[at] <= 57 { at += 1 }
      return decimal(text.from(from).prefix(at - from))
    }
    guard number() == lx_getpid() else { return }
    while at < text.count {
      at += 1
      guard let number = number(), number < 1 << 20 else { return }
      let fd = Int32(number)
      let entry = DescriptorObject.identify(fd)
      if entry.isOurs { note(fd, entry) }
      if at < text.count, text[at] == UInt8(ascii: "!") {
        at += 1
        dropAll(fd)
      }
    }
    // Whatever else is open may be another descriptor of these objects.
    for fd in 0..<everybody { DescriptorTable.noteStrange(fd) }
  }
}
