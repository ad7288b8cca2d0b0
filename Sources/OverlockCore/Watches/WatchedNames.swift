import CLinux

/// Which names of watched directories no lower shows any more, and where the lowers' directories are: of one
/// inotify instance.
///
/// A name is entered when the stream says that the upper has it, or a whiteout, so that what comes from a lower is
/// judged by its place in the stream: the upper's names when the watch is set, then its events. Private memory,
/// mapped with the first directory: a hash table without removal, and text. What finds no room is not entered: the
/// lower's events pass then.
@safe struct WatchedNames {
  private let base: UnsafeMutableRawPointer

  private static var slots: Int { 1 << 18 }
  private static var textSize: Int { 1 << 22 }
  private static var size: Int { 64 + slots * 16 + textSize }

  /// What is known of a name.
  enum State {
    static var hidden: UInt64 { 1 }
    /// By a deletion: it has no name any more where it is open.
    static var deleted: UInt64 { 2 }
    /// Opens by others since, less their closes: one each.
    static var stranger: UInt64 { 1 << 32 }
  }

  /// nil: no directory was watched in this instance.
  init?(_ table: WatchTable) {
    guard let made = unsafe UnsafeMutableRawPointer(bitPattern: UInt(at_load64(table.names))) else {
      return nil
    }
    unsafe base = made
  }

  /// Errors: ENOMEM.
  init(making table: WatchTable) throws(Errno) {
    unsafe base = try WatchTable.memory(table.names, WatchedNames.size)
  }

  /// For another instance.
  static func clear(_ table: WatchTable) {
    if let names = WatchedNames(table) { _ = unsafe lx_discard(names.base, size) }
  }

  private var words: UnsafeMutablePointer<UInt64> {
    unsafe base.assumingMemoryBound(to: UInt64.self)
  }
  // How much of the text is used, and how many slots.
  private var textUsed: UnsafeMutablePointer<UInt64> { unsafe words }
  private var entered: UnsafeMutablePointer<UInt64> { unsafe words + 1 }
  private var text: UnsafeMutablePointer<UInt8> {
    unsafe (base + 64 + WatchedNames.slots * 16).assumingMemoryBound(to: UInt8.self)
  }

  private static func key(_ directory: UInt64, _ name: UInt64) -> UInt64 {
    let mixed = name ^ directory &* 0x9e37_79b9_7f4a_7c15
    return mixed == 0 ? 1 : mixed
  }

  /// - Parameter makes: whether it is entered where it is not there.
  private func slot(_ directory: UInt64, _ name: UInt64, makes: Bool) -> UnsafeMutablePointer<
    UInt64
  >? {
    let key = WatchedNames.key(directory, name)
    var i = Int(truncatingIfNeeded: key >> 20) & (WatchedNames.slots - 1)
    while true {
      let slot = unsafe words + 8 + i * 2
      let found = unsafe at_load64(slot)
      if found == key { return unsafe slot + 1 }
      if found == 0 {
        if !makes { return nil }
        if unsafe at_load64(entered) > UInt64(WatchedNames.slots / 4 * 3) { return nil }
        if unsafe at_cas64(slot, 0, key) != 0 {
          _ = unsafe at_add64(entered, 1)
          return unsafe slot + 1
        }
        continue
      }
      i = (i + 1) & (WatchedNames.slots - 1)
    }
  }

  func state(_ directory: UInt64, _ name: UInt64) -> UInt64 {
    guard let slot = unsafe slot(directory, name, makes: false) else { return 0 }
    return unsafe at_load64(slot)
  }

  func hide(_ directory: UInt64, _ name: UInt64, deleted: Bool) {
    guard let slot = unsafe slot(directory, name, makes: true) else { return }
    let strangers = unsafe at_load64(slot) & ~0xffff_ffff
    unsafe at_store64(slot, strangers | State.hidden | (deleted ? State.deleted : 0))
  }

  func show(_ directory: UInt64, _ name: UInt64) {
    if let slot = unsafe slot(directory, name, makes: false) { unsafe at_store64(slot, 0) }
  }

  /// Counts an open by somebody else, or its close. False: none was open.
  func countStranger(_ directory: UInt64, _ name: UInt64, opens: Bool) -> Bool {
    guard let slot = unsafe slot(directory, name, makes: true) else { return true }
    let now = unsafe at_load64(slot)
    if !opens, now < State.stranger { return false }
    unsafe at_store64(slot, opens ? now &+ State.stranger : now &- State.stranger)
    return true
  }

  /// Keeps a path: where it is, plus one; 0: there is no room.
  func keep(_ path: PathView) -> Int {
    let start = unsafe Int(truncatingIfNeeded: at_add64(textUsed, UInt64(path.count + 2)))
    guard start >= 0, start + path.count + 2 <= WatchedNames.textSize else { return 0 }
    unsafe copyBytes(text + start + 2, path.base, path.count)
    unsafe text[start] = UInt8(path.count & 0xff)
    unsafe text[start + 1] = UInt8(path.count >> 8 & 0xff)
    return start + 1
  }

  func path(_ place: Int) -> PathView? {
    guard place > 0, place + 1 < WatchedNames.textSize else { return nil }
    let count = unsafe Int(text[place - 1]) | Int(text[place]) << 8
    guard place + 1 + count <= WatchedNames.textSize else { return nil }
    return unsafe PathView(text + place + 1, count)
  }
}
