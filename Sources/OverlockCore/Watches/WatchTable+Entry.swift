import CLinux

/// What a table has of one watch, or of one of the kernel's further watches for it: five atomic words.
extension WatchTable {
  /// State of an entry.
  enum State {
    /// The anchor is the upper: its events are the program's, the lower's nobody's.
    static var published: UInt32 { 1 }
    /// Somebody reads the lower for the anchor.
    static var copying: UInt32 { 2 }
    /// The program, or IN_ONESHOT, or the object's end has removed the watch.
    static var removed: UInt32 { 4 }
    /// Nothing but IN_IGNORED is to come.
    static var ended: UInt32 { 8 }
    /// IN_IGNORED was given.
    static var ignored: UInt32 { 16 }
    static var lowerGone: UInt32 { 32 }
    static var anchorGone: UInt32 { 64 }
    /// Not the program's: a watch on a list (`WatchLists`).
    static var list: UInt32 { 128 }
    static var bellGone: UInt32 { 256 }
    /// The next open of the upper is a reader's for one call, the next close too.
    static var opening: UInt32 { 512 }
    static var closing: UInt32 { 1024 }
    /// A directory; and the kernel's further watches for it: on a lower, on its marker folder.
    static var directory: UInt32 { 2048 }
    static var layer: UInt32 { 4096 }
    static var markers: UInt32 { 8192 }
    static var further: UInt32 { layer | markers }
    /// The lower's changes are looked for (`Polling`).
    static var polled: UInt32 { 32768 }
  }

  @safe struct Entry {
    let words: UnsafeMutablePointer<UInt64>

    var isUsed: Bool { unsafe at_load64(words) != 0 }
    /// The kernel's watch descriptors; 0: none.
    var lower: Int32 { unsafe Int32(truncatingIfNeeded: at_load64(words) & 0xffff_ffff) }
    var anchor: Int32 { unsafe Int32(truncatingIfNeeded: at_load64(words) >> 32) }
    var mask: UInt32 { unsafe UInt32(truncatingIfNeeded: at_load64(words + 1)) }
    var state: UInt32 { unsafe UInt32(truncatingIfNeeded: at_load64(words + 1) >> 32) }
    func has(_ flag: UInt32) -> Bool { state & flag != 0 }
    /// Whether the program may name its watch descriptor.
    var isPrograms: Bool { !has(State.list | State.removed | State.further) }
    /// What the anchor is of.
    var overlay: Int { unsafe Int(truncatingIfNeeded: at_load64(words + 2) & 0xffff_ffff) }
    /// Under what a directory's names are entered (`WatchedNames`).
    var key: UInt64 { unsafe at_load64(words + 2) }
    var shown: UInt64 { unsafe at_load64(words + 3) }
    var birth: UInt64 { unsafe at_load64(words + 4) }

    // Of directories and their further watches, in place of the anchor's words.
    /// The watch descriptor that the program has.
    var programs: Int32 { unsafe Int32(truncatingIfNeeded: at_load64(words + 3) & 0xffff_ffff) }
    /// Where the lower's path is (`WatchedNames`), plus one; 0: nowhere.
    var path: Int { unsafe Int(at_load64(words + 3) >> 32) }
    /// The next of the further watches, a number plus one: the markers, then the lowers from the lowest up; 0: it
    /// is the last.
    var next: Int { unsafe Int(truncatingIfNeeded: at_load64(words + 4)) }
    func setNext(_ next: Int) { unsafe at_store64(words + 4, UInt64(next)) }

    /// The watch descriptor of the bell; 0: there is none.
    var bell: Int32 {
      has(State.directory | State.further)
        ? 0 : unsafe Int32(truncatingIfNeeded: at_load64(words + 2) >> 32)
    }
    /// By `WatchTable.setBell` alone, which can find it then.
    func setBell(_ bell: Int32) {
      unsafe at_store64(words + 2, UInt64(overlay) | UInt64(UInt32(bitPattern: bell)) << 32)
    }
    /// Whether the kernel has none of its watches any more.
    var isGone: Bool {
      has(State.lowerGone) && has(State.anchorGone) && (bell == 0 || has(State.bellGone))
    }

    /// Opens of the lower by others since it was copied up, less their closes: in the state's upper half.
    var strangers: UInt32 { state >> 16 }
    func countStranger(_ change: Int) {
      self.change { (word) in
        let now = Int(word >> 48)
        return word & 0xffff_ffff_ffff | UInt64(min(max(now + change, 0), 0xffff)) << 48
      }
    }

    func setMask(_ mask: UInt32) { change { $0 & ~0xffff_ffff | UInt64(mask) } }
    func set(_ flags: UInt32) { change { $0 | UInt64(flags) << 32 } }
    func clear(_ flags: UInt32) { change { $0 & ~(UInt64(flags) << 32) } }

    private func change(_ body: (UInt64) -> UInt64) {
      while true {
        let now = unsafe at_load64(words + 1)
        if unsafe at_cas64(words + 1, now, body(now)) != 0 { return }
      }
    }

    func use(lower: Int32, anchor: Int32) {
      unsafe at_store64(
        words, UInt64(UInt32(bitPattern: lower)) | UInt64(UInt32(bitPattern: anchor)) << 32)
    }
    func free() { unsafe at_store64(words, 0) }
  }
}
