import CLinux

/// What watchers of a directory make of the kernel's events between the two ends of a marker.
///
/// Of the events of one name in the directory, or of the directory's own.
struct Meaning {
  let bits: UInt64

  init(bits: UInt64) { self.bits = bits }
  static func | (a: Meaning, b: Meaning) -> Meaning { Meaning(bits: a.bits | b.bits) }
  func has(_ other: Meaning) -> Bool { bits & other.bits != 0 }

  /// What happens to the name is not the program's, but for what follows.
  static var names: Meaning { Meaning(bits: 1) }
  /// One IN_MOVED_FROM is, one IN_MOVED_TO.
  static var leaves: Meaning { Meaning(bits: 2) }
  static var arrives: Meaning { Meaning(bits: 4) }
  /// The first of it is a deletion, or a creation, of a directory perhaps.
  static var deletion: Meaning { Meaning(bits: 8) }
  static var creation: Meaning { Meaning(bits: 16) }
  static var ofDirectory: Meaning { Meaning(bits: 32) }
  /// An open is the program's, its close is not.
  static var opening: Meaning { Meaning(bits: 64) }
  /// Nobody reads it for the program.
  static var reading: Meaning { Meaning(bits: 128) }
  /// As `reading`, but one access is the program's.
  static var listing: Meaning { Meaning(bits: 256) }
  /// One open, or close for reading, is not the program's.
  static var opens: Meaning { Meaning(bits: 512) }
  static var closes: Meaning { Meaning(bits: 1024) }
  /// The directory's own attributes stay.
  static var attributes: Meaning { Meaning(bits: 2048) }
  /// Of the directory itself, not of a name.
  static var own: Meaning { Meaning(bits: 4096) }
  /// One move of it is the program's.
  static var moves: Meaning { Meaning(bits: 8192) }

  static var all: UInt64 { 0xffff }
}

/// A step of ours in a directory of the upper which the kernel tells its watchers in other words than a plain
/// directory's would be told (docs/decisions/0020).
///
/// Who watches a directory also watches its marker folder in the same instance,
/// `workdir/overlock/markers/<inode number of the upper's directory>`, and so for the file of a group of hard links,
/// which is linked and moved by us. A file that is made there before the step
/// and closed after it stands in the queue around the step's events, and its name says what they mean:
///
///     <number that is never used again>.<48 bits of the name's hash, 16 bits of meaning>
///
/// The kernel closes it for who is killed in between. Without a descriptor to spare it is not opened, and ends
/// where it is removed. Without a folder nobody watches: one call finds out, none where the registry says that
/// nobody does anywhere in the overlay.
@safe struct Marker {
  static var folder: StaticString { "/markers" }

  private let overlay: Overlay
  private let directory: UInt64
  private let sequence: UInt64
  private let word: UInt64
  private let descriptor: Int32
  private let slot: Int
  private let mask: UInt64

  /// nil: nobody watches the directory.
  ///
  /// - Parameters:
  ///   - directory: its inode number in the upper.
  ///   - isApart: in a child with this memory and descriptors of its own.
  init?(
    _ overlay: Overlay, directory: UInt64, _ name: PathView?, _ meaning: Meaning, isApart: Bool,
    _ path: PathBuffer
  ) {
    var path = path
    let sequence = overlay.freshName()
    let word = (name.map(Marker.hash) ?? 0) & ~Meaning.all | meaning.bits
    guard (try? Marker.path(overlay, directory, sequence, word, into: &path)) != nil else {
      return nil
    }
    // What a handler did between the ends would be taken for ours.
    let mask = lx_block_signals()
    let opened = unsafe lx_openat(
      AT_FDCWD, path.cString, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0o600)
    var isMade = opened >= 0
    if opened == -Int(EMFILE) || opened == -Int(ENFILE) {
      isMade = unsafe lx_mknodat(AT_FDCWD, path.cString, UInt32(S_IFREG | 0o600), 0) == 0
    }
    guard isMade else {
      lx_restore_signals(mask)
      return nil
    }
    self.overlay = overlay
    self.directory = directory
    self.sequence = sequence
    self.word = word
    self.mask = mask
    descriptor = Int32(truncatingIfNeeded: max(opened, -1))
    slot = descriptor >= 0 && !isApart ? Turn.remember(descriptor) : -1
  }

  /// Its end for who watches, where it has a descriptor.
  func close() {
    guard descriptor >= 0 else { return }
    Turn.forget(slot)
    _ = lx_close(descriptor)
  }

  /// After `close`. The last thing that is done with it.
  func remove(_ path: PathBuffer?) {
    if var path, (try? Marker.path(overlay, directory, sequence, word, into: &path)) != nil {
      _ = unsafe lx_unlinkat(AT_FDCWD, path.cString, 0)
    }
    lx_restore_signals(mask)
  }

  static func hash(_ name: PathView) -> UInt64 {
    var hash = PathHash(3, 4)
    unsafe hash.append(name.base, name.count)
    return hash.a
  }

  /// The number and the word of a marker's name.
  static func parse(_ name: PathView) -> (sequence: UInt64, word: UInt64)? {
    guard name.count == 33, name[16] == dot, let sequence = hexadecimal(name.prefix(16)),
      let word = hexadecimal(name.from(17))
    else { return nil }
    return (sequence, word)
  }

  static func folder(_ overlay: Overlay, _ directory: UInt64, into path: inout PathBuffer)
    throws(Errno)
  {
    path.count = 0
    try path.append(overlay.work)
    try path.append(Marker.folder)
    try path.append(slash)
    try path.append(hex: directory)
  }

  private static func path(
    _ overlay: Overlay, _ directory: UInt64, _ sequence: UInt64, _ word: UInt64,
    into path: inout PathBuffer
  ) throws(Errno) {
    try folder(overlay, directory, into: &path)
    try path.append(slash)
    try path.append(hex: sequence)
    try path.append(dot)
    try path.append(hex: word)
  }
}

/// The markers of one step. Ended exactly once, on every way out (`defer`).
///
/// Never inlined: there are many steps, and the library is small.
struct Markers {
  private let overlay: Overlay
  private let isSilent: Bool
  private let isApart: Bool
  private var list: InlineArray<8, Marker?> = InlineArray(repeating: nil)
  private var count = 0

  @inline(never)
  init(_ overlay: Overlay, isApart: Bool = false) {
    self.overlay = overlay
    self.isApart = isApart
    // Nor where it would be the end of the process (seccomp).
    let kills = unsafe ovl_self()!.pointee.unmarked != 0
    isSilent = !overlay.hasUpper || overlay.saysNoAnchors || kills
  }

  /// Whether somebody watches one of the directories that were named.
  var isAny: Bool { count > 0 }

  /// The step is one at a name.
  @inline(never)
  mutating func name(_ rel: PathView, _ meaning: Meaning) {
    if isSilent || rel.isEmpty { return }
    add(rel.parent, rel.name, meaning)
  }

  /// The step leaves a directory's own attributes as they are, though it touches them.
  @inline(never)
  mutating func attributes(of directory: PathView) {
    if isSilent { return }
    add(directory, nil, .own | .attributes)
    if !directory.isEmpty { add(directory.parent, directory.name, .attributes) }
  }

  /// A directory is read, or goes.
  @inline(never)
  mutating func directory(_ rel: PathView, _ meaning: Meaning) {
    if isSilent { return }
    add(rel, nil, .own | meaning)
  }

  /// The file of a group of hard links, by its path in the upper or the index, is linked or moved by us.
  @inline(never)
  mutating func links(_ file: PathBuffer, _ meaning: Meaning) {
    if isSilent { return }
    try? withScratch { (s) throws(Errno) in
      self.add(file, nil, .own | .names | meaning, isFile: true, s)
    }
  }

  /// An object of a layer, by its real path, is opened or closed.
  @inline(never)
  mutating func object(at real: PathView, _ meaning: Meaning) {
    if isSilent { return }
    for layer in 0..<overlay.layerCount {
      let root = overlay.layerPath(layer)
      guard real.count > root.count, real.isAt(orBelow: root) else { continue }
      try? withScratch { (s) throws(Errno) in
        var rel = s.here
        try rel.append(real.from(root.count + 1))
        if layer > 0 { _ = try self.overlay.followMoved(&rel, layer: layer) }
        self.add(rel.view.parent, rel.view.name, meaning)
      }
      return
    }
  }

  @inline(never)
  private mutating func add(_ directory: PathView, _ name: PathView?, _ meaning: Meaning) {
    try? withScratch { (s) throws(Errno) in
      var path = s.real
      try self.overlay.upperPath(directory, into: &path)
      self.add(path, name, meaning, s)
    }
  }

  @inline(never)
  private mutating func add(
    _ directory: PathBuffer, _ name: PathView?, _ meaning: Meaning, isFile: Bool = false,
    _ s: Scratch
  ) {
    var st = stat()
    guard count < 8,
      unsafe lx_fstatat(AT_FDCWD, directory.terminated, &st, AT_SYMLINK_NOFOLLOW) == 0,
      st.type == S_IFDIR || isFile,
      let marker = Marker(
        overlay, directory: st.inode, name, meaning, isApart: isApart, s.real2)
    else { return }
    list[count] = marker
    count += 1
  }

  @inline(never)
  mutating func end() {
    if count == 0 { return }
    for i in 0..<count { list[i]?.close() }
    let s = try? Scratch.acquire()
    defer { s?.release() }
    while count > 0 {
      count -= 1
      list[count]?.remove(s?.real)
      list[count] = nil
    }
  }
}
