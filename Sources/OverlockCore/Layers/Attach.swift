import CLinux

/// Bringing one overlay up in this process: from its line of options to a working `Overlay`.
extension Overlay {
  /// - Parameter message: gets one line, without a newline, that says what is wrong.
  /// - Errors: EINVAL and whatever the file system answered.
  func attach(_ line: PathView, message: inout PathBuffer, _ s: Scratch) throws(Errno) {
    let options = try Options.parse(line, &message)
    let id = try identity(options, &message)
    var isRestored = false
    unsafe raw.pointee.id = id
    // From the id alone: turns are named by these hashes, and two processes that have different
    // segments, or none, still have to exclude each other.
    unsafe raw.pointee.key0 = id
    unsafe raw.pointee.key1 = ~id
    var registry: Registry? = nil
    do throws(Errno) {
      if case .attached(let found) = try Segment.attach(options.registry, id: id, s) {
        registry = found
      }
    } catch {
      if error == Errno(rawValue: EPROTO) {
        try message.append("the registry of this overlay was made by another build of Overlock: ")
      } else {
        try message.append("the registry of this overlay belongs to somebody else: ")
      }
      try message.append(options.registry)
      if options.registry.isEmpty {
        try message.append("/dev/shm/overlock-")
        try message.append(decimal: UInt64(lx_geteuid()))
      }
      try message.append("/")
      try message.append(hex: id)
      throw error
    }
    var isNew = true
    if let registry {
      try adopt(registry)
      isNew = !registry.hasConfiguration
      isRestored = try registry.restore(self, line: line)
    }
    let isFromOutside = enters(registry)
    if isFromOutside, isRestored, !hasWorkdir(s) { isRestored = false }
    if !isRestored {
      var configuration = Configuration(self, message, s)
      try configuration.compile(options, message: &message)
      registry?.keep(self, line: line)
      if let registry, let here = try? NameSpace(), registry.recordHome(self, here) {
        try? Segment.sweep(options.registry, here, s)
      }
    }
    // Whatever somebody changed in the layers while nobody was here is not in the cache.
    defer { if isFromOutside { self.registry?.advanceEpoch() } }
    // Nothing changes through an overlay without an upper: its users need not meet.
    guard hasUpper else { return }
    var isFirst = false
    do throws(Errno) {
      if let registry {
        isFirst = try meet(registry, isNew: isNew, isPrivate: false, s)
      } else {
        isFirst = try meet(Segment.makePrivate(), isNew: true, isPrivate: true, s)
      }
      registry = self.registry
    } catch {
      try message.append("workdir cannot be written: ")
      try message.append(work)
      try message.append(error)
      throw error
    }
    if isFirst || !isRestored {
      // What the registry says of lasting things it may have lost: ask the workdir.
      if hasEntries("/moved") { registry?.noteDirectoryMoved() }
      if hasEntries("/index") { registry?.noteIndex() }
      if hasEntries("/contested") {
        registry?.noteContested()
      } else {
        registry?.noteUncontested { !hasEntries("/contested") }
      }
      settleLeased()
      registry?.noteNoneKept { !hasEntries("/kept") }
      registry?.noteNoneRunning { !hasEntries("/running") }
      registry?.noteAnchor()
      sweepAbandoned()
      forgetStandIns()
    }
    sweepUnusedAnchorsAtStart()
  }

  /// The configuration alone, for who only looks at the overlay. Its workdir is prepared already.
  func configure(_ line: PathView, message: inout PathBuffer) throws(Errno) {
    let options = try Options.parse(line, &message)
    let id = try identity(options, &message)
    unsafe raw.pointee.id = id
    unsafe raw.pointee.key0 = id
    unsafe raw.pointee.key1 = ~id
    var words = message
    defer { message = words }
    try withScratch { (s) throws(Errno) in
      var configuration = Configuration(self, words, s, looksOnly: true)
      try configuration.compile(options, message: &words)
    }
  }

  /// Notes that the process is here. Whether it comes from outside.
  private func enters(_ registry: Registry?) -> Bool {
    guard let registry else { return false }
    let pid = UInt64(lx_getpid())
    let isFromOutside = !registry.comesFromInside(pid, parent: UInt64(lx_getppid()))
    registry.noteVisitor(pid)
    return isFromOutside
  }

  /// Whether there is one still, if there is to be one.
  private func hasWorkdir(_ s: Scratch) -> Bool {
    if !hasUpper { return true }
    var path = s.real
    var st = stat()
    guard (try? path.append(work)) != nil else { return false }
    return unsafe lx_fstatat(AT_FDCWD, path.cString, &st, AT_SYMLINK_NOFOLLOW) == 0
  }

  private func adopt(_ registry: Registry) throws(Errno) {
    // A wiped segment has lost its keys: give it new ones, as its maker did.
    if registry.layout != Registry.layoutWord || (registry.key0 == 0 && registry.key1 == 0) {
      var keys: (UInt64, UInt64) = (lx_realtime_ns(), lx_realtime_ns() ^ 0x5555)
      _ = unsafe lx_getrandom(&keys, 16)
      unsafe at_put64(registry.word(8), keys.0 | 1)
      unsafe at_put64(registry.word(16), keys.1)
      registry.initializeGenerations()
      unsafe at_store64(registry.word(0), Registry.layoutWord)
    }
    unsafe use(registry, page: registry.base)
  }

  /// The overlay's id: its upper's device, inode and birth (inode numbers are used again); without an upper a hash of what it shows.
  private func identity(_ options: Options, _ message: inout PathBuffer) throws(Errno) -> UInt64 {
    var hash = PathHash(0x6f76_6572, 0x6c6f_636b)
    if options.upper.isEmpty {
      unsafe hash.append(options.lowers.base, options.lowers.count)
      unsafe hash.append(options.target.base, options.target.count)
      return hash.a ^ hash.b
    }
    let path = unsafe UnsafeRawPointer(options.upper.base).assumingMemoryBound(to: CChar.self)
    switch unsafe Overlay.identity(ofUpper: path) {
    case .success(let id): return id
    case .failure(let error):
      try message.append("upperdir ")
      try message.append(options.upper)
      try message.append(error)
      throw error
    }
  }

  /// The id of the overlay with that upper.
  static func identity(ofUpper path: UnsafePointer<CChar>) -> Result<UInt64, Errno> {
    var hash = PathHash(0x6f76_6572, 0x6c6f_636b)
    var words: InlineArray<5, UInt64> = InlineArray(repeating: 0)
    let r = unsafe withUnsafeMutablePointer(to: &words) {
      unsafe lx_identity(path, UnsafeMutableRawPointer($0).assumingMemoryBound(to: UInt64.self))
    }
    if r < 0 { return .failure(Errno(result: r)) }
    unsafe withUnsafePointer(to: &words) {
      unsafe hash.append(UnsafeRawPointer($0).assumingMemoryBound(to: UInt8.self), 40)
    }
    return .success(hash.a ^ hash.b)
  }

  /// Clears what dead processes left, wherever nobody is at work: for the first process of a new
  /// registry, which knows of no unfinished turn.
  func sweepAbandoned() {
    try? withScratch { (s) throws(Errno) in
      if self.hasEntries(WorkFolder.copyup.name) {
        let turn = try Turn(self, s)
        defer { turn.release() }
        self.sweepAnchors(turn)
      }
      if self.hasEntries("/kept") {
        let turn = try Turn(self, s)
        defer { turn.release() }
        self.sweepKept(turn, unused: true)
      }
      try self.eachEntry(of: Overlay.indexFolder) { (path) throws(Errno) in
        if let shown = hexadecimal(path.view.name) { self.dropIndex(shown, waits: false) }
        return true
      }
      try WorkFolder.eachOfDirectories { (folder) throws(Errno) in
        try self.sweepAbandoned(folder, s)
      }
    }
  }

  private func sweepAbandoned(_ folder: WorkFolder, _ s: Scratch) throws(Errno) {
    var path = s.real
    try path.append(work)
    try path.append(folder.name)
    let fd = try unsafe check(
      lx_openat(AT_FDCWD, path.cString, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0))
    defer { _ = lx_close(Int32(truncatingIfNeeded: fd)) }
    try DirectoryReader.each(Int32(truncatingIfNeeded: fd), s) { (name, _, _) throws(Errno) in
      guard let index = WorkFolder.turn(of: name) else { return true }
      try withScratch { (s2) throws(Errno) in
        var held = try Turn(self, s2)
        defer { held.release() }
        if held.tryIndex(index) { self.sweep(turnIndex: index) }
      }
      return true
    }
  }

  /// Whether a folder of the workdir holds anything, or may: one that cannot be read does.
  func hasEntries(_ folder: StaticString) -> Bool {
    var any = false
    let looked: ()? = try? eachEntry(of: folder) { (_) throws(Errno) in
      any = true
      return false
    }
    return any || looked == nil
  }
}
