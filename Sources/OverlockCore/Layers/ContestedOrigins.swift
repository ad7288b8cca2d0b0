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
    Fault.step()
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

  /// Marks the origin of an object that is being copied up, where locks on it count from now on. Which do is the
  /// option `locks=`:
  ///
  /// - source: those that somebody, whoever it is, has at this moment.
  /// - origin: all, for ever: the mark is never settled.
  /// - overlay: those that were taken through the overlay, which have marked it themselves (`Locks`).
  func contestOnCopyUp(
    _ shown: UInt64, _ st: stat, origin: PathBuffer, _ s: Scratch
  ) throws(Errno) {
    // This process's own write lease would be broken by a look.
    if ownWriteLease(shown, st) != nil { return try contest(shown, origin: origin.view, s) }
    if has(OVL_LOCKS_OVERLAY) { return }
    if has(OVL_LOCKS_ORIGIN) || isLocked(origin) { try contest(shown, origin: origin.view, s) }
  }

  /// Nobody holds a lock on the origin: the mark goes, and with the last one the question that every lock on an
  /// upper pays for. Under the turn of the identity.
  func settle(_ shown: UInt64, _ s: Scratch) throws(Errno) {
    if has(OVL_LOCKS_ORIGIN) { return }
    var path = s.link
    try contestedPath(shown, into: &path)
    let r = unsafe lx_unlinkat(AT_FDCWD, path.cString, 0)
    if r == -Int(ENOENT) { return }
    try check(r)
    Fault.step()
    registry?.noteUncontested { !hasEntries("/contested") }
  }

  /// Whether anybody, this process included, holds a lock of any kind on a file or directory. What may not
  /// be read cannot be asked, and counts as free; where there is no descriptor or process left to ask with, it
  /// counts as locked.
  func isLocked(_ path: PathBuffer) -> Bool {
    let answer = try? Apart.run { () throws(Errno) -> Int in
      let opened = unsafe lx_openat(
        AT_FDCWD, path.terminated, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_NOFOLLOW | O_CLOEXEC, 0)
      // EWOULDBLOCK: somebody has a write lease on it, and perhaps locks.
      if opened < 0 {
        return opened == -Int(EACCES) || opened == -Int(EPERM) || opened == -Int(ENOENT) ? 0 : 1
      }
      let fd = Int32(truncatingIfNeeded: opened)
      defer { _ = lx_close(fd) }
      var request = flock()
      request.l_type = Int16(F_WRLCK)
      if unsafe lx_lock(fd, F_OFD_GETLK, &request) == 0, request.l_type != Int16(F_UNLCK) {
        return 1
      }
      return lx_flock_is_refused(fd, LOCK_EX) != 0 ? 1 : 0
    }
    return answer != 0
  }
}

extension Registry {
  // A word like a generation's, counted up: odd says that no origin is contested, even that some may be.
  // Anything else was wiped, and says nothing.
  static var contestedOffset: Int { 96 }

  var contestedWord: UInt64 { unsafe at_load64(common(Registry.contestedOffset)) }

  func contestedSeen(_ word: UInt64) -> ovl_lock_seen {
    unsafe seen(Registry.contestedOffset, word)
  }

  func saysUncontested(_ word: UInt64) -> Bool {
    if isSplit { return word == Registry.commonUncontested }
    return word >> 24 & 1 == 1 && isValidWord(word, Registry.contestedOffset)
  }

  /// What the common word says where no origin is contested.
  static var commonUncontested: UInt64 { 1 << 24 | commonCheck(1, contestedOffset) }

  private func replace(_ now: UInt64, by value: UInt64) -> Bool {
    let offset = Registry.contestedOffset
    let value = value & 0xff_ffff_ffff
    return unsafe at_cas64(word(offset), now, value << 24 | checkOf(value, offset)) != 0
  }

  /// A mark was made. Always another word: who looked for marks before this says nothing.
  func noteContested() {
    if isSplit { return tell(Registry.contestedOffset) }
    while true {
      let now = contestedWord
      if replace(now, by: (now >> 24 | 1) &+ 1) { break }
    }
    at_fence()
  }

  /// There is no mark, as `look` found: said only if nobody has made one meanwhile.
  func noteUncontested(_ look: () -> Bool) {
    // Of the common word whoever first wrote it has made sure.
    if isSplit { return }
    let now = contestedWord
    if saysUncontested(now) { return }
    guard look() else { return }
    _ = replace(now, by: now >> 24 | 1)
  }
}
