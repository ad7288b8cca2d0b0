import CLinux

/// The words by which those who change an overlay tell the others, and where they are.
///
/// While all processes of the overlay use one segment, they are in the segment. Several segments are in use
/// where its file was removed under a running program, where two users share an upper, where `registry=`
/// differs, or /dev/shm does. Then the registry is *split*, and the words are in `workdir/overlock/words`,
/// which all of them have mapped, whatever else they see (`Rendezvous` makes it and switches). Each segment
/// goes on as a private cache, whose entries are of vintages that the common words give.
///
/// The page, in bytes; where a word has the segment's meaning, it has its offset:
///
///         0  layout word
///        24  state: key0 of the only segment in use. Anything else: split.
///        32  epoch: a generation word, odd while its turn is held
///        48  directory moves, 56 outside, 64 positions, 72 index, 80 copy-ups, 88 pending modes,
///            96 contested: as in the segment, but any new value is a random one
///       104  shift: part of the epoch that everybody may move
///      3648  who waits for a lock on the other inode (`Waiters`)
///      4096  turns: 1024 generation words, odd while the turn is held: for all names under it
///     12288  end
///
/// Invariants:
/// - The state changes only while one process holds every turn: under a turn it stands still.
/// - Nothing is stored through the mapping: a page that a full disk has no room for would be SIGBUS. Words
///   of a turn are written by its holder with pwrite(2); the others get a new value from getrandom(2), which
///   fails where a store would kill.
/// - A wiped or scribbled page reads as split and as in the middle of changes: nothing is cached.
extension Registry {
  static var pageSize: Int { 12_288 }
  static var stateOffset: Int { Int(OVL_REGISTRY_STATE) }
  static var shiftOffset: Int { 104 }
  /// Says that several segments are in use. No segment's key: those are odd.
  static var split: UInt64 { 0x7370_6c69_7400 }

  @inline(__always) func pageWord(_ offset: Int) -> UnsafeMutablePointer<UInt64> {
    unsafe (page + offset).assumingMemoryBound(to: UInt64.self)
  }

  @inline(__always) var isSplit: Bool {
    unsafe at_load64(pageWord(Registry.stateOffset)) != sole
  }

  /// The word of that meaning which counts.
  @inline(__always) func common(_ offset: Int) -> UnsafeMutablePointer<UInt64> {
    unsafe isSplit ? pageWord(offset) : word(offset)
  }

  static func commonCheck(_ counter: UInt64, _ offset: Int) -> UInt64 {
    let m = (counter ^ 0x5bd1_e995_9d2c_5680).multipliedFullWidth(
      by: (0x9e37_79b9_7f4a_7c15 ^ UInt64(truncatingIfNeeded: offset)) | 1)
    return (m.low ^ m.high) & 0xff_ffff
  }

  /// Whether a generation word of the page is one, and no change is running under it.
  static func isSettled(_ word: UInt64, _ offset: Int) -> Bool {
    word >> 24 & 1 == 0 && word & 0xff_ffff == commonCheck(word >> 24, offset)
  }

  /// A generation word of the page, after the one that is there or, if that is none, after any.
  static func following(_ word: UInt64, _ offset: Int, odd: Bool) -> UInt64 {
    var counter = word >> 24
    if word & 0xff_ffff != commonCheck(counter, offset) {
      counter = 0
      _ = unsafe lx_getrandom(&counter, 5)
    }
    counter &+= 1
    if (counter & 1 == 1) != odd { counter &+= 1 }
    counter &= 0xff_ffff_ffff
    return counter << 24 | commonCheck(counter, offset)
  }

  static func turnOffset(_ turn: Int) -> Int { turnsOffset + turn * 8 }

  /// The vintage of every name under a turn.
  @inline(never) func commonVintage(turn: Int) -> Vintage {
    let offset = Registry.turnOffset(turn)
    let generation = unsafe at_load64(pageWord(offset))
    let epoch = unsafe at_load64(pageWord(Registry.epochOffset))
    let shift = unsafe at_load64(pageWord(Registry.shiftOffset))
    return Vintage(
      epoch: epoch ^ (shift << 17 | shift >> 47), generation: generation,
      isStable: Registry.isSettled(generation, offset)
        && Registry.isSettled(epoch, Registry.epochOffset))
  }

  /// A new value of a word of the page: the system's own store, which fails where ours would be SIGBUS.
  @inline(never) func tell(_ offset: Int) {
    _ = unsafe lx_getrandom(pageWord(offset), 8)
    at_fence()
  }

  /// A new value of a word that counts something.
  func count(_ offset: Int) {
    if isSplit { return tell(offset) }
    _ = unsafe at_add64(word(offset), 1)
  }

  /// For who asks later whether a word that counts still says the same.
  func seen(_ offset: Int, _ value: UInt64) -> ovl_lock_seen {
    let state = unsafe pageWord(Registry.stateOffset)
    let said = unsafe at_load64(state)
    let word = unsafe said == sole ? word(offset) : pageWord(offset)
    return unsafe ovl_lock_seen(
      word: UnsafePointer(word), value: value, state: UnsafePointer(state), said: said)
  }
}

/// The file that the page is of.
enum CommonWords {
  /// Written for nothing but to see whether the page can be.
  static var roomOffset: Int { 112 }

  /// - Parameter path: room for its path.
  static func open(_ overlay: Overlay, _ flags: Int32, _ path: PathBuffer) throws(Errno) -> Int32 {
    var path = path
    path.count = 0
    try path.append(overlay.work)
    try path.append("/words")
    return Int32(
      truncatingIfNeeded: try unsafe check(
        lx_openat(AT_FDCWD, path.cString, flags | O_CLOEXEC | O_NOFOLLOW, 0o600)))
  }

  static func write(_ fd: Int32, _ offset: Int, _ value: UInt64) throws(Errno) {
    var value = value
    if try unsafe check(lx_pwrite(fd, &value, 8, offset)) != 8 { throw .noSpace }
  }

  /// Maps the page; nil: the file is none, or this file system maps nothing that is shared.
  static func map(_ fd: Int32, writable: Bool) -> UnsafeMutableRawPointer? {
    var st = stat()
    guard unsafe lx_fstat(fd, &st) == 0, st.type == S_IFREG, st.st_size >= Registry.pageSize else {
      return nil
    }
    return unsafe lx_mmap(
      Registry.pageSize, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd)
  }
}
