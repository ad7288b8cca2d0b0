import CLinux

/// Where the lower object of a copied-up one is, for as long as it is still in use there:
///
///     meeting/  FIFOs and sockets: who opened the lower one and who opens it now must meet, so the
///               upper has the attributes and the lower stays the meeting point
///     running/  programs that ran from the lower when they were copied up: nobody may write them
///
/// An entry is named by the shown inode. It is a symbolic link whose text is the lower object's birth and
/// real path, so that an entry which has outlived its object says nothing. Written under the turn of the
/// identity, before the copy shows; the registry says whether there is any in `running/`.
enum OriginFolder {
  case meeting, running

  var name: StaticString {
    switch self {
    case .meeting: "/meeting/"
    case .running: "/running/"
    }
  }
}

extension Overlay {
  private func entry(_ folder: OriginFolder, _ shown: UInt64, into path: inout PathBuffer)
    throws(Errno)
  {
    path.count = 0
    try path.append(work)
    try path.append(folder.name)
    try path.append(hex: shown)
  }

  /// Notes where a lower object is that is about to be copied up. Under the turn of its identity.
  func noteOrigin(_ folder: OriginFolder, _ shown: UInt64, at origin: PathBuffer) throws(Errno) {
    var inode: UInt64 = 0
    var birth: UInt64 = 0
    var type: UInt32 = 0
    try unsafe check(
      lx_birth(origin.terminated, AT_SYMLINK_NOFOLLOW, &inode, &birth, &type))
    try withScratch { (s) throws(Errno) in
      var path = s.real
      try self.entry(folder, shown, into: &path)
      var text = s.rest
      try text.append(hex: birth)
      try text.append(origin.view)
      var r = unsafe lx_symlinkat(text.cString, AT_FDCWD, path.cString)
      if r == -Int(EEXIST) {
        _ = unsafe lx_unlinkat(AT_FDCWD, path.cString, 0)
        r = unsafe lx_symlinkat(text.cString, AT_FDCWD, path.cString)
      }
      // A path that no link can hold: the lower is then no meeting point.
      if r != -Int(ENAMETOOLONG) { try check(r) }
    }
    if folder == .running { registry?.noteRunning() }
  }

  /// Writes the real path of the lower object that the upper object of that shown inode was copied from.
  /// nil: none is noted, or it is there no more. Otherwise its layer.
  func origin(
    _ folder: OriginFolder, _ shown: UInt64, into origin: inout PathBuffer, _ s: Scratch
  ) throws(Errno) -> Int? {
    guard hasUpper, shown != 0 else { return nil }
    var path = s.staging
    try entry(folder, shown, into: &path)
    origin.count = 0
    let n = unsafe lx_readlinkat(
      AT_FDCWD, path.cString,
      UnsafeMutableRawPointer(origin.base).assumingMemoryBound(to: CChar.self), 4096)
    guard n > 16, let noted = hexadecimal(origin.unchecked(count: n).view.prefix(16)) else {
      return nil
    }
    origin.count = n - 16
    for i in 0..<origin.count { unsafe origin.base[i] = origin.base[i + 16] }
    var inode: UInt64 = 0
    var birth: UInt64 = 0
    var type: UInt32 = 0
    let r = unsafe lx_birth(origin.cString, AT_SYMLINK_NOFOLLOW, &inode, &birth, &type)
    guard r == 0, birth == noted else { return nil }
    for layer in 1..<max(layerCount, 1)
    where origin.view.isAt(orBelow: layerPath(layer)) && shownInode(inode, layer: layer) == shown {
      return layer
    }
    return nil
  }

  /// Whether the program at a path of a lower runs, so that nobody may write it (ETXTBSY).
  func isRunning(_ path: PathBuffer, mode: UInt32) -> Bool {
    guard mode & S_IFMT == S_IFREG, mode & 0o111 != 0 else { return false }
    return unsafe lx_is_running(path.terminated) != 0
  }

  /// Refuses to write a file of the upper that still runs from the lower.
  func mayWriteText(_ shown: UInt64) throws(Errno) {
    guard shown != 0, registry?.saysNoneRunning != true else { return }
    try withScratch { (s) throws(Errno) in
      var path = s.real
      if try self.origin(.running, shown, into: &path, s) != nil,
        unsafe lx_is_running(path.cString) != 0
      {
        throw .textBusy
      }
      // Nothing runs from the lower any more that was not there when it was copied up.
      try self.entry(.running, shown, into: &path)
      _ = unsafe lx_unlinkat(AT_FDCWD, path.cString, 0)
    }
  }
}

extension Registry {
  // 1 says that `running/` is empty, 2 that it may not be. Anything else was wiped, and says nothing.
  private static var runningOffset: Int { 128 }

  var saysNoneRunning: Bool {
    // What others with another segment noted is not noted here.
    if isSplit { return false }
    let now = unsafe at_load64(word(Registry.runningOffset))
    return now >> 24 == 1 && isValidWord(now, Registry.runningOffset)
  }

  func noteRunning() {
    let offset = Registry.runningOffset
    unsafe at_store64(word(offset), 2 << 24 | checkOf(2, offset))
    at_fence()
  }

  /// Whether `running/` is empty, as `look` finds: said only if nobody has made an entry meanwhile. Who
  /// has another `registry=` makes entries that this one has not heard of.
  func noteNoneRunning(_ look: () -> Bool) {
    let offset = Registry.runningOffset
    let now = unsafe at_load64(word(offset))
    if now >> 24 == 2, isValidWord(now, offset) { return }
    guard look() else { return noteRunning() }
    _ = unsafe at_cas64(word(offset), now, 1 << 24 | checkOf(1, offset))
  }
}
