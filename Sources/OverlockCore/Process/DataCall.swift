import CLinux

/// Calls on the data of a lower file that was copied up after its descriptor was opened: made on the copy,
/// which is opened for the one call (docs/decisions/0010).
///
/// The program's descriptor stays what it is, with its position and its locks. A call that moves the position
/// holds the turn of the object's positions: whoever else has a descriptor of the same description, here or
/// in a forked process, reads on where this one ended. Without the turn, where the workdir is closed to this
/// process, two of them may read the same.
///
/// The close of a descriptor would drop the process's record locks on the copy: where there may be some, one
/// is used through which they were asked for, or the call is made in a child with descriptors of its own.
/// So it is where no more descriptors may be opened here.
enum DataCall {
  /// The result of the call; `passResult`: the descriptor's own data is right.
  static func run(_ call: UnsafeMutablePointer<ovl_data_call>) throws(Errno) -> Int {
    try withScratch { (s) throws(Errno) -> Int in
      try withScratch { (s2) throws(Errno) -> Int in
        unsafe call.pointee.scratch = s2.address
        // What is found at its name may have been replaced when it is opened.
        for _ in 0..<64 {
          guard unsafe try isFound(call, s) else { return passResult }
          if let result = unsafe try make(call) { return result }
        }
        throw .inputOutput
      }
    }
  }

  /// As `find`. A descriptor whose path cannot be looked up any more (chroot(2), setuid(2)) shows its own data,
  /// unless it is known that this is not what the object has now.
  private static func isFound(
    _ call: UnsafeMutablePointer<ovl_data_call>, _ s: Scratch
  ) throws(Errno) -> Bool {
    do throws(Errno) {
      return unsafe try find(call, s)
    } catch {
      guard error.isOfPath, unsafe !DescriptorTable.entry(call.pointee.fd).has(OVL_FD_COPIED) else {
        throw error
      }
      return false
    }
  }

  /// Finds the copy. False: there is none to look at.
  private static func find(
    _ call: UnsafeMutablePointer<ovl_data_call>, _ s: Scratch
  ) throws(Errno) -> Bool {
    let fd = unsafe call.pointee.fd
    let entry = DescriptorTable.entry(fd)
    guard case .upper(let overlay, let node) = try DescriptorObject.standing(fd, entry, s),
      // A FIFO's data is where its readers and writers meet.
      node.kind == .file, !node.has(Node.attributesOnly)
    else { return false }
    let mode = Int32(truncatingIfNeeded: try check(lx_fcntl(fd, F_GETFL, 0)))
    if mode & O_PATH != 0 { return false }
    unsafe call.pointee.overlay = Int32(overlay.index)
    unsafe call.pointee.path = s.real2.unterminated
    unsafe call.pointee.shown = node.shownInode
    unsafe call.pointee.identity =
      node.shownInode != 0 ? node.shownInode : RecordLocks.identity(fd, entry, overlay)
    unsafe call.pointee.open_flags =
      O_RDONLY | O_NONBLOCK | O_NOCTTY | O_NOFOLLOW | O_CLOEXEC | mode & (O_NOATIME | O_DIRECT)
    return true
  }

  /// nil: what was opened was another object.
  private static func make(_ call: UnsafeMutablePointer<ovl_data_call>) throws(Errno) -> Int? {
    if Apart.isNeeded {
      if let sibling = unsafe readableSibling(call) {
        return unsafe try perform(call, on: sibling)
      }
      return unsafe try makeApart(call)
    }
    unsafe call.pointee.apart = 0
    do throws(Errno) {
      return unsafe try openAndPerform(call)
    } catch {
      guard error.rawValue == EMFILE else { throw error }
      return unsafe try makeApart(call)
    }
  }

  /// A descriptor of the program's on the copy, whose close is not ours.
  private static func readableSibling(_ call: UnsafeMutablePointer<ovl_data_call>) -> Int32? {
    let overlay = unsafe Overlay(index: Int(call.pointee.overlay))
    guard
      let sibling = unsafe RecordLocks.sibling(
        overlay, call.pointee.shown, lower: false, but: call.pointee.fd),
      unsafe call.pointee.flags & UInt32(OVL_DATA_STANDS | OVL_DATA_SEEKS) == 0
    else { return nil }
    let mode = lx_fcntl(sibling, F_GETFL, 0)
    return mode >= 0 && Int32(truncatingIfNeeded: mode) & (O_ACCMODE | O_PATH) != O_WRONLY
      && Int32(truncatingIfNeeded: mode) & O_PATH == 0 ? sibling : nil
  }

  private static func makeApart(_ call: UnsafeMutablePointer<ovl_data_call>) throws(Errno) -> Int? {
    unsafe call.pointee.apart = 1
    unsafe call.pointee.result = -Int(EIO)
    try unsafe Apart.checkChild(lx_data_apart(call))
    let result = unsafe call.pointee.result
    return result == notThisOne ? nil : result
  }

  /// What the child says where what it opened was another object.
  private static var notThisOne: Int { -65537 }

  /// Apart, and whoever watches takes the open for the program's.
  private static var silently: Int32 { 2 }

  /// In the child.
  static func performApart(_ call: UnsafeMutablePointer<ovl_data_call>) {
    var room = Int32(0)
    while true {
      do throws(Errno) {
        unsafe call.pointee.result = try openAndPerform(call) ?? notThisOne
        return
      } catch {
        unsafe call.pointee.result = error.result
        guard error.rawValue == EMFILE else { return }
        if unsafe makeRoom(&room, call) { continue }
        // Without a bell it needs fewer.
        if unsafe call.pointee.apart == silently { return }
        unsafe call.pointee.apart = silently
      }
    }
  }

  /// Closes some copies of the program's descriptors that the call does not need.
  private static func makeRoom(
    _ next: inout Int32, _ call: UnsafeMutablePointer<ovl_data_call>
  ) -> Bool {
    var closed = 0
    while closed < 2, next < 1 << 16 {
      let isNeeded = unsafe next == call.pointee.fd || lx_data_names(call, next) != 0
      if !isNeeded, lx_close(next) == 0 { closed += 1 }
      next += 1
    }
    return closed > 0
  }

  private static func openAndPerform(
    _ call: UnsafeMutablePointer<ovl_data_call>
  ) throws(Errno) -> Int? {
    let s = unsafe Scratch(address: call.pointee.scratch)
    let bell = unsafe bell(call, s)
    let flags = unsafe call.pointee.open_flags
    var opened: Int
    do {
      var markers = unsafe markers(call, .opens)
      defer { markers.end() }
      opened = unsafe try bell?.open(s) { unsafe open(call, flags) } ?? open(call, flags)
    }
    // A lease is being broken: whoever reads a file that he has open waits for nobody.
    if opened == -Int(EAGAIN) { opened = unsafe open(call, flags & ~O_NONBLOCK) }
    let upper = Int32(truncatingIfNeeded: opened)
    if opened == -Int(ENOENT) || opened == -Int(ELOOP) || opened == -Int(ENXIO) { return nil }
    try check(opened)
    defer {
      var markers = unsafe markers(call, .closes)
      if let bell { bell.close(upper, s) } else { _ = lx_close(upper) }
      markers.end()
    }
    guard unsafe isCopy(upper, call) else { return nil }
    return unsafe try perform(call, on: upper)
  }

  /// For who watches the copy's directory.
  private static func markers(
    _ call: UnsafeMutablePointer<ovl_data_call>, _ meaning: Meaning
  ) -> Markers {
    let apart = unsafe call.pointee.apart
    var markers = unsafe Markers(
      Overlay(index: Int(call.pointee.overlay)), isApart: apart != 0)
    if apart != silently { unsafe markers.object(at: PathView(call.pointee.path), meaning) }
    return markers
  }

  private static func bell(_ call: UnsafeMutablePointer<ovl_data_call>, _ s: Scratch) -> Bell? {
    let apart = unsafe call.pointee.apart
    if apart == silently { return nil }
    return unsafe Bell(
      Overlay(index: Int(call.pointee.overlay)), call.pointee.identity, lower: call.pointee.fd,
      isApart: apart != 0, s)
  }

  private static func open(
    _ call: UnsafeMutablePointer<ovl_data_call>, _ flags: Int32
  ) -> Int {
    let path = unsafe call.pointee.path
    let r = unsafe lx_owner_open(path, flags)
    // The copy of somebody else's file may be ours, or the other way round.
    if r == -Int(EPERM), flags & O_NOATIME != 0 {
      return unsafe lx_owner_open(path, flags & ~O_NOATIME)
    }
    return r
  }

  private static func isCopy(_ upper: Int32, _ call: UnsafeMutablePointer<ovl_data_call>) -> Bool {
    let shown = unsafe call.pointee.shown
    if shown == 0 { return true }
    let overlay = unsafe Overlay(index: Int(call.pointee.overlay))
    var value: UInt64 = 0
    let n = unsafe lx_fgetxattr(upper, OverlayAttribute.origin.name(overlay), &value, 8)
    if n == -Int(EACCES) || n == -Int(EOPNOTSUPP) { return true }
    return n == 8 && value == shown
  }

  private static func perform(
    _ call: UnsafeMutablePointer<ovl_data_call>, on upper: Int32
  ) throws(Errno) -> Int {
    let flags = unsafe call.pointee.flags
    if flags & UInt32(OVL_DATA_ADVANCES | OVL_DATA_SEEKS) == 0 {
      return unsafe try performUnderTurn(call, flags, on: upper)
    }
    let overlay = unsafe Overlay(index: Int(call.pointee.overlay))
    let turn: Turn
    do throws(Errno) {
      turn = try unsafe Turn(
        overlay, Scratch(address: call.pointee.scratch), isApart: call.pointee.apart != 0)
    } catch {
      guard error.isRefusal else { throw error }
      // A workdir that is closed to this process keeps it from turns, not from the file.
      let mask = lx_block_signals()
      defer { lx_restore_signals(mask) }
      return unsafe try performUnderTurn(call, flags, on: upper)
    }
    defer { turn.release() }
    try unsafe turn.takePosition(call.pointee.identity)
    return unsafe try performUnderTurn(call, flags, on: upper)
  }

  private static func performUnderTurn(
    _ call: UnsafeMutablePointer<ovl_data_call>, _ flags: UInt32, on upper: Int32
  ) throws(Errno) -> Int {
    let fd = unsafe call.pointee.fd
    var position = 0
    if flags != 0 { position = try check(lx_lseek(fd, 0, SEEK_CUR)) }
    if flags & UInt32(OVL_DATA_ADVANCES) != 0 {
      unsafe call.pointee.position.pointee = position
    } else if flags != 0 {
      try check(lx_lseek(upper, position, SEEK_SET))
    }
    let was = unsafe call.pointee.descriptor.pointee
    unsafe call.pointee.descriptor.pointee = Int(upper)
    let r = unsafe lx_data_call(call)
    unsafe call.pointee.descriptor.pointee = was
    if flags & UInt32(OVL_DATA_ADVANCES) != 0, r > 0 {
      _ = lx_lseek(fd, position + r, SEEK_SET)
    } else if flags & UInt32(OVL_DATA_SEEKS) != 0, r >= 0 {
      _ = lx_lseek(fd, r, SEEK_SET)
    }
    return r
  }
}
