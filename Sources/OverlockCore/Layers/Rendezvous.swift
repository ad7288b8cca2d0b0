import CLinux

/// How the segments of one overlay meet: every process maps the page of `CommonWords` at its start, and the
/// first one of a segment that the page does not name says so, with every turn in its hands.
///
/// If no other process has the page mapped, nobody uses another segment: this one is the only one from now
/// on, and what it cached in an earlier life is forgotten. The kernel knows whether anybody has: a mapping
/// keeps its file open, and a file that others have open gives no lease for writing (fcntl(2), F_SETLEASE).
/// Where it may not be asked (the file is another user's), or says that somebody has, the registry is split.
///
/// Who cannot have the page works without a registry: right, and slow.
extension Overlay {
  /// Looks before somebody who has the page mapped for the moment of his start counts as a user.
  private static var looks: Int { 20 }

  /// - Parameters:
  ///   - registry: this process's segment.
  ///   - isNew: it was made, or has lost its memory, just now: an occasion to see whether it is the only one.
  ///   - isPrivate: it is in nobody's reach: there are, or will be, others.
  /// - Returns: whether this process was the first to say that the segment is in use. What a registry knows of
  ///   the workdir is then not known.
  /// - Errors: as open(2) and pwrite(2): there is no page, and none can be made.
  func meet(
    _ registry: Registry, isNew: Bool, isPrivate: Bool, _ s: Scratch
  ) throws(Errno) -> Bool {
    if let page = unsafe mapWords(s) {
      unsafe use(registry, page: page)
      let state = unsafe at_load64(word(of: page, Registry.stateOffset))
      if state == registry.key0, !isPrivate { return false }
      if state == Registry.split, !isNew || isPrivate { return false }
      // Not ours while we ask who else has it.
      _ = unsafe lx_munmap(page, Registry.pageSize)
    }
    withdraw()
    return try withScratch { (s2) throws(Errno) -> Bool in
      let turn: Turn
      do throws(Errno) {
        turn = try Turn(self, s2)
      } catch {
        // Who cannot take turns changes nothing, and needs to tell nobody.
        if error == .access || error == .readOnly || error == .permission { return false }
        throw error
      }
      defer { turn.release() }
      try turn.takeAll()
      return try self.settle(registry, isPrivate: isPrivate, s2)
    }
  }

  func use(_ registry: Registry, page: UnsafeMutableRawPointer) {
    unsafe raw.pointee.page = page.assumingMemoryBound(to: CChar.self)
    unsafe raw.pointee.sole =
      page == registry.base ? at_load64(registry.word(Registry.stateOffset)) : registry.key0
    unsafe raw.pointee.registry = registry.base.assumingMemoryBound(to: CChar.self)
  }

  private func withdraw() { unsafe raw.pointee.registry = nil }

  private func word(of page: UnsafeMutableRawPointer, _ offset: Int)
    -> UnsafeMutablePointer<UInt64>
  {
    unsafe (page + offset).assumingMemoryBound(to: UInt64.self)
  }

  /// The page as it is; nil: there is none, or none for us.
  private func mapWords(_ s: Scratch) -> UnsafeMutableRawPointer? {
    var flags = O_RDWR
    var opened = try? CommonWords.open(self, flags, s.rest)
    if opened == nil {
      flags = O_RDONLY
      opened = try? CommonWords.open(self, flags, s.rest)
    }
    guard let fd = opened else { return nil }
    defer { _ = lx_close(fd) }
    return unsafe CommonWords.map(fd, writable: flags == O_RDWR)
  }

  /// Says that the segment is in use. With all turns.
  private func settle(
    _ registry: Registry, isPrivate: Bool, _ s: Scratch
  ) throws(Errno) -> Bool {
    let fd = try CommonWords.open(self, O_RDWR | O_CREAT, s.rest)
    defer { _ = lx_close(fd) }
    var st = stat()
    try unsafe check(lx_fstat(fd, &st))
    let isMade = st.st_size < Registry.pageSize
    if isMade { Sharing(self).apply(s.rest.written, isDirectory: false) }
    let image = unsafe UnsafeMutableRawPointer(s.base)
    unsafe image.initializeMemory(as: UInt8.self, repeating: 0, count: Registry.pageSize)
    if isMade {
      // Where files are copied on write, a write would need room for ever.
      _ = lx_keep_in_place(fd)
      try unsafe writeAll(fd, image)
    } else {
      let n = unsafe lx_pread(fd, image.assumingMemoryBound(to: CChar.self), Registry.pageSize, 0)
      if try check(n) != Registry.pageSize { throw .inputOutput }
    }
    let state = unsafe at_load64(word(of: image, Registry.stateOffset))
    var isFirst = isMade || state != registry.key0 || isPrivate
    if isFirst, !isPrivate, isMade || isOpenHereAlone(fd) {
      try CommonWords.write(fd, 0, Registry.layoutWord)
      try CommonWords.write(fd, Registry.stateOffset, registry.key0)
      registry.advanceEpoch()
    } else if isFirst {
      if state == Registry.split, unsafe isSound(image) {
        isFirst = false
      } else {
        try unsafe writeSplit(fd, image)
      }
    }
    guard let page = unsafe CommonWords.map(fd, writable: true) else { return isFirst }
    unsafe use(registry, page: page)
    return isFirst
  }

  private func isOpenHereAlone(_ fd: Int32) -> Bool {
    for _ in 0..<Overlay.looks {
      let answer = lx_is_open_here_alone(fd)
      if answer != 0 { return answer == 1 }
      lx_pause(200_000)
    }
    return false
  }

  private func isSound(_ image: UnsafeMutableRawPointer) -> Bool {
    unsafe at_load64(word(of: image, 0)) == Registry.layoutWord
  }

  /// From here on the words of the page count: all of them new, then the state.
  private func writeSplit(_ fd: Int32, _ image: UnsafeMutableRawPointer) throws(Errno) {
    let state = unsafe at_load64(word(of: image, Registry.stateOffset))
    _ = unsafe lx_getrandom(image, 128)
    unsafe at_put64(word(of: image, 0), Registry.layoutWord)
    unsafe at_put64(word(of: image, Registry.stateOffset), state)
    // Any value but these says that there are some.
    if !hasEntries("/moved") { unsafe at_put64(word(of: image, 48), 0) }
    if !hasEntries("/index") { unsafe at_put64(word(of: image, 72), 0) }
    if !hasEntries("/contested") {
      unsafe at_put64(word(of: image, Registry.contestedOffset), Registry.commonUncontested)
    }
    unsafe renew(image, Registry.epochOffset)
    for turn in 0..<Registry.turnCount { unsafe renew(image, Registry.turnOffset(turn)) }
    try unsafe writeAll(fd, image)
    try CommonWords.write(fd, Registry.stateOffset, Registry.split)
  }

  private func renew(_ image: UnsafeMutableRawPointer, _ offset: Int) {
    let word = unsafe word(of: image, offset)
    var any: UInt64 = 0
    _ = unsafe lx_getrandom(&any, 8)
    // Whatever it was: a counter from anywhere, with its check.
    unsafe at_put64(word, Registry.following(any, offset, odd: false))
  }

  private func writeAll(_ fd: Int32, _ image: UnsafeMutableRawPointer) throws(Errno) {
    let n = unsafe lx_pwrite(fd, image, Registry.pageSize, 0)
    if try check(n) != Registry.pageSize { throw .noSpace }
  }
}
