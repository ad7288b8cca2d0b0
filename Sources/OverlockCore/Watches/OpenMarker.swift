import CLinux

/// The markers (`Marker`) that have begun and not ended at the place in the stream where reading stands.
///
/// At most `WatchTable.markerCount` in an instance: of more than that the kernel's events are the program's.
@safe struct OpenMarker {
  // The number in its name, 0: none; the program's watch descriptor and what has happened of it; the word.
  private let words: UnsafeMutablePointer<UInt64>

  private init(_ table: WatchTable, _ i: Int) { unsafe words = table.markers + i * 3 }

  private var sequence: UInt64 { unsafe at_load64(words) }
  private var wd: Int32 { unsafe Int32(truncatingIfNeeded: at_relaxed64(words + 1) >> 32) }
  private var word: UInt64 { unsafe at_relaxed64(words + 2) }
  private var meaning: Meaning { Meaning(bits: word & Meaning.all) }

  /// What happens once only, and has.
  private enum Done {
    static var change: UInt64 { 1 }
    static var leaving: UInt64 { 2 }
    static var access: UInt64 { 4 }
    static var move: UInt64 { 8 }
    static var open: UInt64 { 16 }
    static var close: UInt64 { 32 }
  }

  /// True: for the first time.
  private func first(_ what: UInt64) -> Bool {
    let now = unsafe at_relaxed64(words + 1)
    unsafe at_put64(words + 1, now | what)
    return now & what == 0
  }

  static func forgetAll(_ table: WatchTable) {
    for i in 0..<WatchTable.markerCount { unsafe at_store64(OpenMarker(table, i).words, 0) }
    unsafe at_store64(table.openMarkers, 0)
  }

  /// An event of a marker folder: a beginning or an end.
  static func hear(_ table: WatchTable, _ wd: Int32, _ mask: UInt32, _ name: PathView) {
    guard let (sequence, word) = Marker.parse(name), sequence != 0 else { return }
    for i in 0..<WatchTable.markerCount {
      let marker = OpenMarker(table, i)
      if mask & UInt32(IN_CREATE) != 0 {
        guard unsafe at_cas64(marker.words, 0, UInt64.max) != 0 else { continue }
        unsafe at_put64(marker.words + 1, UInt64(UInt32(bitPattern: wd)) << 32)
        unsafe at_put64(marker.words + 2, word)
        unsafe at_store64(marker.words, sequence)
        _ = unsafe at_add64(table.openMarkers, 1)
        return
      }
      if marker.sequence == sequence {
        unsafe at_store64(marker.words, 0)
        _ = unsafe at_add64(table.openMarkers, UInt64.max)
        return
      }
    }
  }

  /// What an event of a directory is to be, by the markers that stand around it; nil: it is nobody's.
  ///
  /// - Parameters:
  ///   - name: the name's hash, nil: of the directory itself.
  ///   - isUpper: whether it is the upper's directory that raised it.
  static func judge(
    _ table: WatchTable, _ wd: Int32, _ mask: UInt32, _ name: UInt64?, isUpper: Bool
  ) -> UInt32? {
    if unsafe at_load64(table.openMarkers) == 0 { return mask }
    var mask = mask
    for i in 0..<WatchTable.markerCount {
      let marker = OpenMarker(table, i)
      guard marker.sequence != 0, marker.wd == wd else { continue }
      let meaning = marker.meaning
      let judged: UInt32?
      if meaning.has(.own) {
        judged = marker.judgeOwn(meaning, mask, isName: name != nil)
      } else if let name, (name ^ marker.word) & ~Meaning.all == 0 {
        judged = marker.judgeName(meaning, mask, isUpper)
      } else {
        continue
      }
      guard let judged else { return nil }
      mask = judged
    }
    return mask
  }

  private func judgeOwn(_ meaning: Meaning, _ mask: UInt32, isName: Bool) -> UInt32? {
    if isName { return meaning.has(.names) ? nil : mask }
    if mask & UInt32(IN_MOVE_SELF) != 0 {
      if meaning.has(.moves) { return first(Done.move) ? mask : nil }
      return meaning.has(.names) ? nil : mask
    }
    if mask & UInt32(IN_ATTRIB) != 0 {
      if meaning.has(.deletion) { return first(Done.change) ? mask : nil }
      if meaning.has(.attributes | .names | .moves) { return nil }
    }
    return judgeReading(meaning, mask)
  }

  private func judgeName(_ meaning: Meaning, _ mask: UInt32, _ isUpper: Bool) -> UInt32? {
    if mask & UInt32(IN_ATTRIB) != 0 { return meaning.has(.names | .attributes) ? nil : mask }
    let changes = UInt32(IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO)
    guard mask & changes != 0 else { return judgeReading(meaning, mask) }
    // A lower's is an outsider's.
    guard isUpper, meaning.has(.names) else { return mask }
    let kind = meaning.has(.ofDirectory) ? UInt32(IN_ISDIR) : 0
    if meaning.has(.deletion) { return first(Done.change) ? UInt32(IN_DELETE) | kind : nil }
    if mask & UInt32(IN_MOVED_FROM) != 0 {
      return meaning.has(.leaves) && first(Done.leaving) ? mask : nil
    }
    if mask & UInt32(IN_MOVED_TO) != 0, meaning.has(.arrives) {
      return first(Done.change) ? mask : nil
    }
    if meaning.has(.creation), mask & UInt32(IN_DELETE) == 0 {
      return first(Done.change) ? UInt32(IN_CREATE) | kind : nil
    }
    return nil
  }

  private func judgeReading(_ meaning: Meaning, _ mask: UInt32) -> UInt32? {
    if meaning.has(.reading), mask & UInt32(IN_OPEN | IN_ACCESS | IN_CLOSE_NOWRITE) != 0 {
      return nil
    }
    if meaning.has(.listing) {
      if mask & UInt32(IN_OPEN | IN_CLOSE_NOWRITE) != 0 { return nil }
      // Of the topmost layer, which is read first.
      if mask & UInt32(IN_ACCESS) != 0 { return first(Done.access) ? mask : nil }
    }
    if mask & UInt32(IN_OPEN) != 0 {
      if meaning.has(.opens), first(Done.open) { return nil }
      if meaning.has(.opening), !first(Done.open) { return nil }
    }
    if mask & UInt32(IN_CLOSE_NOWRITE) != 0, meaning.has(.closes), first(Done.close) { return nil }
    if mask & UInt32(IN_CLOSE) != 0, meaning.has(.opening), first(Done.close) { return nil }
    return mask
  }
}
