import CLinux

/// Origins that somebody may hold locks on although their object is in the upper by now: taken before the
/// copy-up, or through a descriptor from before it.
///
/// The mark is on disk, `workdir/overlock/contested/<shown inode>`, a symbolic link to the origin's real
/// path, made and removed under the turn of the identity. The registry says whether there is any.
extension Overlay {
  func contestedPath(_ shown: UInt64, into path: inout PathBuffer) throws(Errno) {
    path.count = 0
    try path.append(work)
    try path.append("/contested/")
    try path.append(hex: shown)
  }

  /// Marks an origin, if it is not marked yet. Under the turn of the identity.
  func contest(_ shown: UInt64, origin: PathView, _ s: Scratch) throws(Errno) {
    var path = s.link
    try contestedPath(shown, into: &path)
    var target = s.rest
    try target.set(origin)
    let r = unsafe lx_symlinkat(target.cString, AT_FDCWD, path.cString)
    if r != -Int(EEXIST) { try check(r) }
    registry?.noteContested()
  }

  /// Writes the real path of a contested origin. False: it is not contested.
  func contested(_ shown: UInt64, into origin: inout PathBuffer, _ s: Scratch) throws(Errno) -> Bool
  {
    var path = s.link
    try contestedPath(shown, into: &path)
    origin.count = 0
    let n = unsafe lx_readlinkat(
      AT_FDCWD, path.cString,
      UnsafeMutableRawPointer(origin.base).assumingMemoryBound(to: CChar.self),
      origin.capacity - 1)
    if n == -Int(ENOENT) { return false }
    origin.count = try check(n)
    return true
  }

  /// Nobody holds a lock on the origin. Under the turn of the identity.
  func settle(_ shown: UInt64, _ s: Scratch) throws(Errno) {
    var path = s.link
    try contestedPath(shown, into: &path)
    let r = unsafe lx_unlinkat(AT_FDCWD, path.cString, 0)
    if r != -Int(ENOENT) { try check(r) }
  }

  /// Whether anybody, this process included, holds a lock of any kind on a file or directory. What may not
  /// be read cannot be asked, and counts as free.
  func isLocked(_ path: PathBuffer) -> Bool {
    let answer = try? Apart.run { () throws(Errno) -> Int in
      let opened = unsafe lx_openat(
        AT_FDCWD, path.terminated, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_NOFOLLOW | O_CLOEXEC, 0)
      // Somebody has a write lease on it, and perhaps locks.
      if opened == -Int(EWOULDBLOCK) { return 1 }
      if opened < 0 { return 0 }
      let fd = Int32(truncatingIfNeeded: opened)
      defer { _ = lx_close(fd) }
      var request = flock()
      request.l_type = Int16(F_WRLCK)
      if unsafe lx_lock(fd, F_OFD_GETLK, &request) == 0, request.l_type != Int16(F_UNLCK) {
        return 1
      }
      return lx_flock(fd, LOCK_EX | LOCK_NB) == -Int(EWOULDBLOCK) ? 1 : 0
    }
    return answer == 1
  }
}

extension Registry {
  // A word like a generation's: 1 says that no origin is contested, 2 that some may be. Anything else was
  // wiped, and says nothing.
  private static var contestedOffset: Int { 96 }

  var contestedWord: UInt64 { unsafe at_load64(word(Registry.contestedOffset)) }

  func contestedSeen(_ word: UInt64) -> ovl_lock_seen {
    unsafe ovl_lock_seen(word: UnsafePointer(self.word(Registry.contestedOffset)), value: word)
  }

  func saysUncontested(_ word: UInt64) -> Bool {
    word >> 24 == 1 && isValidWord(word, Registry.contestedOffset)
  }

  func noteContested() { setContested(2) }

  private func setContested(_ value: UInt64) {
    let offset = Registry.contestedOffset
    unsafe at_store64(word(offset), value << 24 | checkOf(value, offset))
    at_fence()
  }

  /// There is no mark, as `look` found: said only if nobody has made one meanwhile.
  func noteUncontested(_ look: () -> Bool) {
    let offset = Registry.contestedOffset
    let now = unsafe at_load64(word(offset))
    if now >> 24 == 2, isValidWord(now, offset) { return }
    guard look() else { return }
    _ = unsafe at_cas64(word(offset), now, 1 << 24 | checkOf(1, offset))
  }
}
