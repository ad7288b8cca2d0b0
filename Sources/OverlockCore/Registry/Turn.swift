import CLinux

/// A turn at changing things: open file description locks on byte ranges of `workdir/overlock/lock`.
///
/// The kernel frees them when the holder dies. While a turn is held every signal is blocked: a
/// handler that changed the same directory would wait for itself. Turns never nest; what one change
/// needs is asked for at once, in this order:
///
///   1. the identity of an object (copying it up)   range 2³² + hash
///   2. the epoch (renaming or removing directories) range 2²⁰; shared: no directory is renamed
///   3. directories, ascending                       range 0 … 1023
///
/// Alone, with no other of them: the position of descriptors of one object (reading through them)
///                                                   range 2³³ + hash
/// And so the bell of an anchor (`Bell`)             range 2³³ + 2³² + hash
///
/// A forked child of another thread inherits the description: release therefore unlocks before it
/// closes, and the child closes what `inFlight` names (`Turn.dropInherited`).
struct Turn {
  private let descriptor: Int32
  private let slot: Int
  private let mask: UInt64
  let overlay: Overlay
  private var first = -1
  private var second = -1
  private var third = -1
  private var fourth = -1
  private(set) var holdsEpoch = false
  /// The offset of the identity's byte, or 0.
  private var identity: Int64 = 0
  /// The common words, opened where the registry is split; -1.
  private var words: Int32 = -1
  private var wordsSlot = -1

  /// Opens the lock file. Errors: as open(2); EROFS without an upper.
  ///
  /// - Parameter isApart: in a child with this memory and descriptors of its own.
  init(_ overlay: Overlay, _ scratch: Scratch, isApart: Bool = false) throws(Errno) {
    guard overlay.hasUpper else { throw .readOnly }
    var path = scratch.staging
    try path.append(overlay.work)
    try path.append("/lock")
    mask = lx_block_signals()
    let fd = unsafe lx_openat(AT_FDCWD, path.cString, O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0)
    if fd < 0 {
      lx_restore_signals(mask)
      throw Errno(result: fd)
    }
    descriptor = Int32(truncatingIfNeeded: fd)
    self.overlay = overlay
    slot = isApart ? -1 : Turn.remember(descriptor)
  }

  /// Gives everything back. Exactly once, on every way out (`defer`).
  func release() {
    if holdsEpoch { finishEpoch() }
    finish(first)
    finish(second)
    finish(third)
    finish(fourth)
    if words >= 0 {
      Turn.forget(wordsSlot)
      _ = lx_close(words)
    }
    _ = lx_ofd_lock(descriptor, F_UNLCK, 0, 0, 0)
    Turn.forget(slot)
    _ = lx_close(descriptor)
    lx_restore_signals(mask)
  }

  private func finish(_ turn: Int) {
    guard turn >= 0, let registry = overlay.registry else { return }
    // A word that stays odd says too much, and the next holder puts it right.
    if registry.isSplit, words >= 0, (try? write(Registry.turnOffset(turn), odd: false)) != nil {
      return
    }
    registry.setUnfinished(turn: turn, false)
  }

  private func finishEpoch() {
    guard let registry = overlay.registry else { return }
    if registry.isSplit, words >= 0 {
      try? write(Registry.epochOffset, odd: false)
    } else {
      registry.endEpoch()
    }
  }

  /// Makes ready to write common words, and makes sure that there is room for those without a turn.
  private mutating func openWords(_ registry: Registry) throws(Errno) {
    if words >= 0 { return }
    let overlay = self.overlay
    words = try withScratch { (s) throws(Errno) in
      try CommonWords.open(overlay, O_RDWR, s.real)
    }
    wordsSlot = Turn.remember(words)
    let room = unsafe registry.pageWord(CommonWords.roomOffset)
    if unsafe lx_getrandom(room, 8) == 8 { return }
    // The file system knows better what is wrong, or has put it right.
    try CommonWords.write(words, CommonWords.roomOffset, 0)
    guard unsafe lx_getrandom(room, 8) == 8 else { throw .noSpace }
  }

  /// Writes a generation word of the page whose turn is held.
  private func write(_ offset: Int, odd: Bool) throws(Errno) {
    guard let registry = overlay.registry else { return }
    let now = unsafe at_load64(registry.pageWord(offset))
    try CommonWords.write(words, offset, Registry.following(now, offset, odd: odd))
  }

  /// Says that a turn is held. True: its last holder has not said that it is not.
  private mutating func announce(_ offset: Int, _ registry: Registry) throws(Errno) -> Bool {
    try openWords(registry)
    let unfinished = unsafe !Registry.isSettled(at_load64(registry.pageWord(offset)), offset)
    try write(offset, odd: true)
    return unfinished
  }

  private func lock(_ start: Int64, _ kind: Int32 = F_WRLCK) throws(Errno) {
    while true {
      let r = lx_ofd_lock(descriptor, kind, start, 1, 1)
      if r == -Int(EINTR) { continue }
      try check(r)
      return
    }
  }

  /// Step 1 of the order.
  mutating func takeIdentity(_ ino: UInt64) throws(Errno) {
    try lock(Turn.byte(ofIdentity: ino))
    identity = Turn.byte(ofIdentity: ino)
  }

  /// The turn at moving the position of descriptors of an object.
  func takePosition(_ ino: UInt64) throws(Errno) {
    try lock(Int64(1) << 32 + Turn.byte(ofIdentity: ino))
  }

  /// The turn at ringing the bell of an object.
  func takeBell(_ ino: UInt64) throws(Errno) {
    try lock(Int64(2) << 32 + Turn.byte(ofIdentity: ino))
  }

  private static func byte(ofIdentity ino: UInt64) -> Int64 {
    Int64(1) << 32 + Int64((ino &* 0x9e37_79b9_7f4a_7c15) >> 33)
  }

  /// An identity's turn besides, if nobody holds it: not this one either. Waits for nobody, so it has no
  /// place in the order. Given back by `dropIdentity`.
  func tryIdentity(_ ino: UInt64) -> Bool {
    let byte = Turn.byte(ofIdentity: ino)
    return byte != identity && lx_ofd_lock(descriptor, F_WRLCK, byte, 1, 0) == 0
  }

  func dropIdentity(_ ino: UInt64) {
    _ = lx_ofd_lock(descriptor, F_UNLCK, Turn.byte(ofIdentity: ino), 1, 0)
  }

  /// Step 2.
  mutating func takeEpoch() throws(Errno) {
    try lock(1 << 20)
    if let registry = overlay.registry {
      if registry.isSplit {
        _ = try announce(Registry.epochOffset, registry)
      } else {
        registry.beginEpoch()
      }
    }
    holdsEpoch = true
  }

  /// Every turn at once: nobody is in the middle of anything.
  func takeAll() throws(Errno) {
    while true {
      let r = lx_ofd_lock(descriptor, F_WRLCK, 0, 0, 1)
      if r == -Int(EINTR) { continue }
      try check(r)
      return
    }
  }

  /// Step 2 for a change that relies on where directories are and moves none.
  func shareEpoch() throws(Errno) { try lock(1 << 20, F_RDLCK) }

  /// Waits until no rename that notes a new place is under way. Alone, or after step 1.
  func excludeRenames() throws(Errno) { try lock(1 << 20) }

  /// Step 3, one directory. True: a holder died in the middle of something, look after it.
  mutating func take(_ directory: PathHash) throws(Errno) -> Bool {
    try takeIndex(Registry.turnIndex(directory))
  }

  /// Step 3, several directories, in ascending order of their ranges.
  mutating func take(_ a: PathHash, _ b: PathHash, _ c: PathHash, _ d: PathHash)
    throws(Errno) -> Bool
  {
    var indices: InlineArray<4, Int> = [
      Registry.turnIndex(a), Registry.turnIndex(b), Registry.turnIndex(c), Registry.turnIndex(d),
    ]
    for i in 0..<3 {
      for j in 0..<(3 - i) where indices[j] > indices[j + 1] {
        let t = indices[j]
        indices[j] = indices[j + 1]
        indices[j + 1] = t
      }
    }
    var unfinished = false
    var last = -1
    for i in 0..<4 where indices[i] != last {
      last = indices[i]
      if try takeIndex(last) { unfinished = true }
    }
    return unfinished
  }

  /// One directory's turn if nobody holds it.
  mutating func tryIndex(_ index: Int) -> Bool {
    guard lx_ofd_lock(descriptor, F_WRLCK, Int64(index), 1, 0) == 0 else { return false }
    guard let registry = overlay.registry else { return true }
    if registry.isSplit {
      let offset = Registry.turnOffset(index)
      if unsafe Registry.isSettled(at_load64(registry.pageWord(offset)), offset) { return true }
      guard (try? openWords(registry)) != nil else { return false }
      return (try? write(offset, odd: false)) != nil
    }
    registry.repairGenerations(turn: index)
    return true
  }

  private mutating func takeIndex(_ index: Int) throws(Errno) -> Bool {
    if index == first || index == second || index == third || index == fourth { return false }
    try lock(Int64(index))
    if first < 0 {
      first = index
    } else if second < 0 {
      second = index
    } else if third < 0 {
      third = index
    } else {
      fourth = index
    }
    guard let registry = overlay.registry else { return false }
    if registry.isSplit { return try announce(Registry.turnOffset(index), registry) }
    let unfinished = registry.isUnfinished(turn: index)
    if unfinished { registry.repairGenerations(turn: index) }
    registry.setUnfinished(turn: index, true)
    return unfinished
  }

  /// Lets go of the descriptors that a fork copied from threads that the child does not have.
  static func dropInherited() {
    let words = unsafe ovl_turns()!
    for i in 0..<Int(OVL_TURNS_IN_FLIGHT) {
      let word = unsafe words[i]
      if word != 0 {
        _ = lx_close(Int32(truncatingIfNeeded: word &- 1))
        unsafe words[i] = 0
      }
    }
  }

  static var isAnyHeld: Bool {
    let words = unsafe ovl_turns()!
    for i in 0..<Int(OVL_TURNS_IN_FLIGHT) { if unsafe at_relaxed64(words + i) != 0 { return true } }
    return false
  }

  /// The descriptors were those of a child in this memory, and are gone with it.
  static func forgetHeld() {
    for i in 0..<Int(OVL_TURNS_IN_FLIGHT) { forget(i) }
  }

  static func remember(_ fd: Int32) -> Int {
    let words = unsafe ovl_turns()!
    for i in 0..<Int(OVL_TURNS_IN_FLIGHT) {
      if unsafe at_relaxed64(words + i) == 0,
        unsafe at_cas64(words + i, 0, UInt64(UInt32(bitPattern: fd)) + 1) != 0
      {
        return i
      }
    }
    return -1
  }

  static func forget(_ slot: Int) {
    guard slot >= 0 else { return }
    unsafe at_store64(ovl_turns() + slot, 0)
  }
}

/// A change of one name: its generation is odd from here to `end`.
struct NameChange {
  let overlay: Overlay
  let turn: Int
  let hash: PathHash

  init(_ overlay: Overlay, directory: PathHash, name: PathHash) {
    self.overlay = overlay
    turn = Registry.turnIndex(directory)
    hash = name
    overlay.registry?.beginGeneration(turn: turn, name: name)
  }
  func end() { overlay.registry?.endGeneration(turn: turn, name: hash) }
}
