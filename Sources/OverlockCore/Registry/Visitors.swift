import CLinux

/// Which processes have been in the overlay lately: 128 slots for process numbers, at byte 256 of the segment.
///
/// A process that was started by one of them, or is one that became another program, finds the layers as they
/// were left. Any other comes from outside, where somebody may have changed them since: kernel overlayfs on the
/// same upper, an editor in a lower, `rm`. What is cached is then from before, and is forgotten. A wrong answer of
/// "from outside" costs time; a number that was used again by a stranger has to meet its old slot.
extension Registry {
  private static var visitorsOffset: Int { 256 }
  private static var slots: UInt64 { 128 }

  /// - Parameter pid: of this process, and `parent` of the one that started it.
  func comesFromInside(_ pid: UInt64, parent: UInt64) -> Bool {
    isVisitor(pid) || isVisitor(parent)
  }

  private func isVisitor(_ pid: UInt64) -> Bool {
    let (word, shift) = unsafe place(pid)
    return unsafe at_relaxed64(word) >> shift & 0xffff == Registry.tag(pid)
  }

  func noteVisitor(_ pid: UInt64) {
    let (word, shift) = unsafe place(pid)
    while true {
      let now = unsafe at_load64(word)
      let next = now & ~(0xffff << shift) | Registry.tag(pid) << shift
      if now == next { return }
      if unsafe at_cas64(word, now, next) != 0 { return }
    }
  }

  /// Four slots a word.
  private func place(_ pid: UInt64) -> (UnsafeMutablePointer<UInt64>, UInt64) {
    let slot = pid % Registry.slots
    return unsafe (word(Registry.visitorsOffset + Int(slot / 4) * 8), slot % 4 * 16)
  }

  /// With its slot, the number: they have 22 bits. Never 0.
  private static func tag(_ pid: UInt64) -> UInt64 { (pid / slots &+ 1) & 0xffff }
}
