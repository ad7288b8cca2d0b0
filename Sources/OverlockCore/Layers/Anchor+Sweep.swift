import CLinux

/// Anchors that nobody has mapped or watches (`WatchLists`) any more, and their bells.
///
/// The kernel knows who has, also of processes that were killed: it grants a write lease on a file
/// only to who is alone with it. They are looked for when another anchor is made and when a process
/// starts, as long as there may be any. The registry says whether there may, and when to look
/// again: looking at those that are in use takes no more than a thousandth of the time.
extension Overlay {
  /// Whether the registry knows that there is no anchor.
  var saysNoAnchors: Bool {
    guard let registry else { return false }
    return registry.saysNoAnchors(registry.anchorsWord)
  }

  /// For a process that starts.
  func sweepUnusedAnchorsAtStart() {
    guard hasUpper, let registry, !registry.saysNoAnchors(registry.anchorsWord) else { return }
    try? withScratch { (s) throws(Errno) in
      let turn = try Turn(self, s)
      defer { turn.release() }
      self.sweepUnusedAnchors(turn)
    }
  }

  /// Removes those that nobody uses, but for the one whose turn is held here.
  func sweepUnusedAnchors(_ turn: Turn) {
    guard let registry else {
      _ = removeUnusedAnchors(turn)
      return
    }
    let seen = registry.anchorsWord
    let now = lx_realtime_ns()
    guard !registry.saysNoAnchors(seen), registry.isSweepDue(now) else { return }
    let kept = removeUnusedAnchors(turn) + (sweepAnchors(turn) ? 1 : 0)
    registry.setNextSweep(now &+ UInt64(kept) &* 10_000_000)
    if kept == 0 { registry.noteNoAnchors(since: seen) }
  }

  /// Returns how many are left, or may be.
  private func removeUnusedAnchors(_ turn: Turn) -> Int {
    sweepWatchLists() + removeUnused(Anchor.folder, turn)
      + removeUnused(Overlay.watchListFolder, turn) + removeUnusedMarkerFolders(turn)
  }

  /// Of a folder's files that are named as anchors.
  private func removeUnused(_ folder: StaticString, _ turn: Turn) -> Int {
    var kept = 0
    do throws(Errno) {
      try eachEntry(of: folder) { (path) throws(Errno) in
        if path.view.name.count == 33, !self.removeIfUnused(path, turn) { kept += 1 }
        return true
      }
    } catch { kept += 1 }
    return kept
  }

  private func removeIfUnused(_ path: PathBuffer, _ turn: Turn) -> Bool {
    guard let shown = hexadecimal(path.view.name.prefix(16)) else { return true }
    guard turn.tryIdentity(shown) else { return false }
    defer { turn.dropIdentity(shown) }
    // First, since opening it wakes who watches.
    if path.view.name.count == 33, let birth = hexadecimal(path.view.name.from(17)),
      isWatched(Anchor(self, shown, birth: birth))
    {
      return false
    }
    if isMapped(path) { return false }
    Fault.step()
    let r = unsafe lx_unlinkat(AT_FDCWD, path.terminated, 0)
    Fault.step()
    return r == 0 || r == -Int(ENOENT)
  }

  /// Whether anybody has a file of the workdir open or mapped, or that cannot be known.
  func isMapped(_ path: PathBuffer) -> Bool {
    var st = stat()
    let real = unsafe path.terminated
    guard unsafe lx_fstatat(AT_FDCWD, real, &st, AT_SYMLINK_NOFOLLOW) == 0, st.type == S_IFREG,
      st.links == 1
    else { return false }
    let opened = unsafe lx_owner_open(real, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)
    if opened < 0 { return opened != -Int(ENOENT) }
    let fd = Int32(truncatingIfNeeded: opened)
    defer { _ = lx_close(fd) }
    return lx_claim_alone(fd) != 0
  }
}

extension Registry {
  // A word like a generation's: odd says that there is no anchor, even that there may be; every
  // note counts it on, so that who looked does not undo what was noted meanwhile.
  private static var anchorsOffset: Int { 192 }
  private static var nextSweepOffset: Int { 200 }

  var anchorsWord: UInt64 { unsafe at_load64(word(Registry.anchorsOffset)) }

  func saysNoAnchors(_ word: UInt64) -> Bool {
    // What others with another segment made is not noted here.
    !isSplit && word >> 24 & 1 == 1 && isValidWord(word, Registry.anchorsOffset)
  }

  func noteAnchor() {
    while true {
      let now = anchorsWord
      if setAnchors(now, (now >> 24 &+ 2) & ~1) { return }
    }
  }

  func noteNoAnchors(since seen: UInt64) { _ = setAnchors(seen, seen >> 24 | 1) }

  private func setAnchors(_ seen: UInt64, _ count: UInt64) -> Bool {
    let offset = Registry.anchorsOffset
    let count = count & 0xff_ffff_ffff
    return unsafe at_cas64(word(offset), seen, count << 24 | checkOf(count, offset)) != 0
  }

  /// A time far ahead is none that was ever set.
  func isSweepDue(_ now: UInt64) -> Bool {
    let next = unsafe at_load64(word(Registry.nextSweepOffset))
    return next <= now || next &- now > 600_000_000_000
  }

  func setNextSweep(_ time: UInt64) { unsafe at_store64(word(Registry.nextSweepOffset), time) }
}
