import CLinux

/// What a cached lookup was read under: the overlay's epoch and the generation of the name. Folded
/// into the key of the entry, so an entry of another generation simply does not match.
struct Vintage: Equatable {
  var epoch: UInt64
  var generation: UInt64
  /// Neither of the two is in the middle of a change.
  var isStable: Bool
}

/// Generation words. Bits 24…63: a counter, odd while a change is running; bits 0…23: a keyed check
/// of it, so that a wiped or scribbled word is seen to be none.
///
/// Begin and end of a name's word belong to whoever holds the turn of the name's directory, those of the
/// epoch's to whoever holds the epoch's turn; others may only advance it. Every store is a
/// compare-and-swap, so that none of them undoes another.
extension Registry {
  @_optimize(speed)
  @inline(__always) func checkOf(_ counter: UInt64, _ offset: Int) -> UInt64 {
    let m = (counter ^ key0).multipliedFullWidth(
      by: (key1 ^ UInt64(truncatingIfNeeded: offset)) | 1)
    return (m.low ^ m.high) & 0xff_ffff
  }

  @_optimize(speed)
  @inline(__always) func isValidWord(_ word: UInt64, _ offset: Int) -> Bool {
    word & 0xff_ffff == checkOf(word >> 24, offset)
  }

  @_optimize(speed)
  @inline(__always) private func isStable(_ word: UInt64, _ offset: Int) -> Bool {
    word >> 24 & 1 == 0 && isValidWord(word, offset)
  }

  @_optimize(speed)
  @inline(__always) static func turnIndex(_ directory: PathHash) -> Int {
    Int(truncatingIfNeeded: directory.a >> 20) & (turnCount - 1)
  }

  @_optimize(speed)
  @inline(__always) private func generationOffset(_ turn: Int, _ name: PathHash) -> Int {
    let sub = Int(truncatingIfNeeded: name.b >> 24) & (Registry.generationsPerTurn - 1)
    return Registry.generationsOffset + (turn * Registry.generationsPerTurn + sub) * 8
  }

  static var epochOffset: Int { 32 }

  /// The words alone, for a reader: not looked at any closer.
  @_optimize(speed)
  @inline(__always) func words(directory: PathHash, name: PathHash) -> Vintage {
    if isSplit { return commonVintage(turn: Registry.turnIndex(directory)) }
    let offset = generationOffset(Registry.turnIndex(directory), name)
    return unsafe Vintage(
      epoch: at_load64(word(Registry.epochOffset)), generation: at_load64(word(offset)),
      isStable: true)
  }

  /// The vintage of a name in a directory, read before a lookup and again after it.
  @_optimize(speed)
  @inline(__always) func vintage(directory: PathHash, name: PathHash) -> Vintage {
    if isSplit { return commonVintage(turn: Registry.turnIndex(directory)) }
    let offset = generationOffset(Registry.turnIndex(directory), name)
    let generation = unsafe at_load64(word(offset))
    let epoch = unsafe at_load64(word(Registry.epochOffset))
    return Vintage(
      epoch: epoch, generation: generation,
      isStable: isStable(generation, offset) && isStable(epoch, Registry.epochOffset))
  }

  var epoch: UInt64 { unsafe at_load64(word(Registry.epochOffset)) }

  /// Odd: from here on nothing is inserted under the word. Under the turn only. Where the registry is split,
  /// the turn itself has said so.
  @_optimize(speed)
  func beginGeneration(turn: Int, name: PathHash) {
    if !isSplit { begin(generationOffset(turn, name)) }
  }
  @_optimize(speed)
  func endGeneration(turn: Int, name: PathHash) {
    if !isSplit { end(generationOffset(turn, name)) }
  }
  @_optimize(speed)
  func beginEpoch() { begin(Registry.epochOffset) }
  @_optimize(speed)
  func endEpoch() { end(Registry.epochOffset) }

  @_optimize(speed)
  private func begin(_ offset: Int) { store(offset, odd: true) }
  @_optimize(speed)
  private func end(_ offset: Int) { store(offset, odd: false) }

  @_optimize(speed)
  private func store(_ offset: Int, odd: Bool) {
    while true {
      let now = unsafe at_load64(word(offset))
      var counter = now >> 24
      if isValidWord(now, offset) {
        counter &+= 1
        if (counter & 1 == 1) != odd { counter &+= 1 }
      } else {
        // Whatever was cached under this word must not match again: a fresh random counter.
        counter = 0
        _ = unsafe lx_getrandom(&counter, 5)
        counter = counter & ~1 | (odd ? 1 : 0)
      }
      counter &= 0xff_ffff_ffff
      if unsafe at_cas64(word(offset), now, counter << 24 | checkOf(counter, offset)) != 0 {
        break
      }
    }
    at_fence()
  }

  /// Makes every word of a turn that a dead holder left odd, or that was wiped, even again. Under
  /// the turn only.
  @_optimize(speed)
  func repairGenerations(turn: Int) {
    for sub in 0..<Registry.generationsPerTurn {
      let offset =
        Registry.generationsOffset + (turn * Registry.generationsPerTurn + sub) * 8
      let now = unsafe at_load64(word(offset))
      if !isStable(now, offset) { end(offset) }
    }
  }

  @_optimize(speed)
  func repairEpoch() {
    let now = unsafe at_load64(word(Registry.epochOffset))
    if !isStable(now, Registry.epochOffset) { endEpoch() }
  }

  /// A word in the middle of nothing but wiped is repaired by the reader too (it is no lock).
  @_optimize(speed)
  func needsRepair(turn: Int, name: PathHash) -> Bool {
    let offset = generationOffset(turn, name)
    return unsafe !isValidWord(at_load64(word(offset)), offset)
  }

  /// First words of a new segment.
  @_optimize(speed)
  func initializeGenerations() {
    for turn in 0..<Registry.turnCount {
      for sub in 0..<Registry.generationsPerTurn {
        let offset =
          Registry.generationsOffset + (turn * Registry.generationsPerTurn + sub) * 8
        unsafe at_put64(word(offset), checkOf(0, offset))
      }
    }
    unsafe at_put64(word(Registry.epochOffset), checkOf(0, Registry.epochOffset))
  }

  /// Turn words: nonzero while the holder is in the middle of something that the next holder has to
  /// look after if it finds it.
  @_optimize(speed)
  func isUnfinished(turn: Int) -> Bool {
    unsafe at_load64(word(Registry.turnsOffset + turn * 8)) != 0
  }
  @_optimize(speed)
  func setUnfinished(turn: Int, _ yes: Bool) {
    unsafe at_store64(word(Registry.turnsOffset + turn * 8), yes ? 1 : 0)
  }
}

extension Registry {
  /// Invalidates every cached lookup at once, from under a turn that is not the epoch's.
  @_optimize(speed)
  func advanceEpoch() {
    if isSplit { return tell(Registry.shiftOffset) }
    let offset = Registry.epochOffset
    while true {
      let now = unsafe at_load64(word(offset))
      let counter = (now >> 24 &+ 2) & 0xff_ffff_ffff
      guard isValidWord(now, offset) else { return }
      if unsafe at_cas64(word(offset), now, counter << 24 | checkOf(counter, offset)) != 0 {
        return
      }
    }
  }
}
