import CLinux

/// The shared segment of one overlay: an array of words that may be lost, wiped or corrupted at any
/// moment without harm to a result.
///
/// Invariants:
/// - No lock lives here. Turns are taken through the workdir's lock file (`Turn`).
/// - Who else is in the overlay need not use this segment: `CommonWords` says which words count.
/// - Every word vouches for itself: generations carry a check (`generation`), cache entries are
///   xor-ed with their key (`LookupCache`), the configuration has a checksum.
/// - The mapping is made once at start and never moved or unmapped; no descriptor of it is kept.
///
/// Layout, in bytes (host byte order):
///
///         0  layout word, written last when the segment is made
///         8  key0, key1: random, for every hash of this segment
///        24  overlay id
///        32  epoch: a generation word, moved by renames and removals of directories
///        40  sequence: next unique name in the workdir
///        56  outside: counts changes of symbolic links and directories outside the overlays
///        64  positions: counts renames and removals of any directory; a remembered path of a
///            working directory or descriptor holds for one value of it
///        72  index: nonzero once a hard-link group was copied up
///        80  copy-ups: a counter
///        48  directory moves: number of lower directories that were ever renamed away
///        96  contested: whether locks on a lower may concern a file of the upper
///        88  pending modes: counts directories that wait for their mode
///       104  the common word of pending modes under which none waited
///       112  leased: for which inodes there may be leases on origins
///       120  kept: whether copies without a name are kept
///       128  running: whether a program of a lower may still run that was copied up
///       192  anchors: whether there may be any, and when to look for unused ones
///       256  which processes have been in the overlay lately (`Visitors`)
///       512  where the overlay is (`AbandonedSegments`)
///      3648  who waits for a lock on the other inode (`Waiters`)
///      4096  turns: 1024 words, what the holder of a turn is in the middle of
///     12288  configuration: length, checksum, hash of the options, bytes; near the header, so that one
///            page fault of a new process brings both
///     77824  generations: 1024 turns × 64 words
///    602112  lookup cache: 65536 entries of 32 bytes
///   2699264  renames and removals of directories: a counter, then 255 entries of 512 bytes
///            (`DirectoryLog`)
///   2830336  end
@safe struct Registry {
  let base: UnsafeMutableRawPointer
  /// Where the segments of the overlay meet; the segment itself where nobody can use another.
  let page: UnsafeMutableRawPointer
  /// What the page says while this segment is the only one.
  let sole: UInt64

  /// A segment alone.
  @inline(__always) init(_ base: UnsafeMutableRawPointer) {
    unsafe self.base = base
    unsafe page = base
    sole = unsafe at_relaxed64((base + 24).assumingMemoryBound(to: UInt64.self))
  }

  @inline(__always)
  init(_ base: UnsafeMutableRawPointer, page: UnsafeMutableRawPointer, sole: UInt64) {
    unsafe self.base = base
    unsafe self.page = page
    self.sole = sole
  }

  /// Names this layout: change it whenever an offset or a meaning changes.
  static var layoutWord: UInt64 { 0x4f56_4c4b_0000_000a }
  /// Whether a word could be some build's layout word: anything else is a scribble.
  static func isLayoutWord(_ word: UInt64) -> Bool { word >> 32 == layoutWord >> 32 }
  static var size: Int { 2_830_336 }

  static var turnCount: Int { 1024 }
  static var generationsPerTurn: Int { 64 }
  static var cacheEntries: Int { 65536 }

  static var turnsOffset: Int { 4096 }
  static var generationsOffset: Int { 77_824 }
  static var cacheOffset: Int { 602_112 }
  static var configurationOffset: Int { 12_288 }
  static var configurationSize: Int { 65536 }
  static var logOffset: Int { 2_699_264 }

  @inline(__always) func word(_ offset: Int) -> UnsafeMutablePointer<UInt64> {
    unsafe (base + offset).assumingMemoryBound(to: UInt64.self)
  }

  @inline(__always) var layout: UInt64 { unsafe at_load64(word(0)) }
  @inline(__always) var key0: UInt64 { unsafe at_relaxed64(word(8)) }
  @inline(__always) var key1: UInt64 { unsafe at_relaxed64(word(16)) }
  @inline(__always) var overlayID: UInt64 { unsafe at_relaxed64(word(24)) }

  /// A name that no workdir entry ever had: never reused, because inotify tells two events of one
  /// name apart by nothing. Starts at the clock, so that a wiped segment goes on higher.
  func nextSequence() -> UInt64 {
    let floor = lx_realtime_ns()
    let word = unsafe word(40)
    while true {
      let now = unsafe at_load64(word)
      let next = now < floor || now > floor &+ (1 << 60) ? floor : now &+ 1
      if unsafe at_cas64(word, now, next) != 0 { return next }
    }
  }

  /// Whether the hard-link index has entries: a lower name may then stand for a file of the upper, even
  /// in a directory that only a lower has.
  var hasIndex: Bool { unsafe at_load64(common(72)) != 0 }
  func noteIndex() {
    if isSplit { return tell(72) }
    unsafe at_store64(word(72), 1)
  }

  /// Counts copy-ups: a descriptor of a lower file that has seen this value knows that its file is
  /// still the one that the overlay shows.
  var copyUps: UInt64 {
    let now = unsafe at_load64(common(Registry.copyUpsOffset))
    if now != 0 { return now }
    renewCopyUps()
    return unsafe at_load64(common(Registry.copyUpsOffset))
  }
  func copyUpsSeen(_ count: UInt64) -> ovl_lock_seen { unsafe seen(Registry.copyUpsOffset, count) }
  func noteCopyUp() {
    renewCopyUps()
    count(Registry.copyUpsOffset)
  }
  private static var copyUpsOffset: Int { Int(OVL_REGISTRY_COPY_UPS) }
  /// A count that was wiped goes on somewhere else: what was seen before must not come again.
  private func renewCopyUps() {
    let word = unsafe common(Registry.copyUpsOffset)
    if unsafe at_load64(word) != 0 { return }
    if isSplit { return tell(Registry.copyUpsOffset) }
    var any: UInt64 = 0
    _ = unsafe lx_getrandom(&any, 8)
    _ = unsafe at_cas64(word, 0, any >> 1 | 1)
  }

  /// Whether a copied-up directory may still have the mode that it had for its rename.
  var hasPendingModes: Bool { pendingModes != (isSplit ? unsafe at_load64(word(104)) : 0) }
  var pendingModes: UInt64 { unsafe at_load64(common(88)) }
  func countPendingModes(_ change: Int) {
    if isSplit {
      if change > 0 { tell(88) }
      return
    }
    while true {
      let now = unsafe at_load64(word(88))
      let next = change < 0 && now == 0 ? 0 : now &+ UInt64(bitPattern: Int64(change))
      if unsafe at_cas64(word(88), now, next) != 0 { return }
    }
  }
  /// None waited when `pendingModes` said this.
  func forgetPendingModes(_ seen: UInt64) {
    if isSplit { return unsafe at_store64(word(104), seen) }
    _ = unsafe at_cas64(word(88), seen, 0)
  }

  var outside: UInt64 { unsafe at_load64(common(56)) }
  func noteOutsideChange() { count(56) }

  @inline(__always) var positions: UInt64 { unsafe at_load64(common(64)) }
  func notePositionsChange() { count(64) }

  /// Where directories went that have no name any more.
  var directoryLog: DirectoryLog { DirectoryLog(self) }

  /// Whether a lower directory was ever renamed in this overlay: only then has a descriptor of a
  /// lower directory to be looked up in the index of moved directories.
  var directoriesMoved: Bool { unsafe at_load64(common(48)) != 0 }
  func noteDirectoryMoved() {
    if isSplit { return tell(48) }
    unsafe at_store64(word(48), 1)
  }
}
