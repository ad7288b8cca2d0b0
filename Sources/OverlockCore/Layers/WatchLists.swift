import CLinux

/// Which anchors somebody watches: `workdir/overlock/watchers/<number>`, a file for each process that
/// has inotify watches on lower files (docs/decisions/0018).
///
/// Invariants:
/// - Records are of 16 bytes: what an anchor shows as its inode number, and its birth; zeros are none.
///   One is written under the turn of the identity, before the anchor is made.
/// - The process has the file mapped as long as it lives, forked children too: whether the list counts
///   the kernel knows (`Overlay.isMapped`), also of who was killed.
/// - The process watches the file itself: who has moved a watched anchor to its name touches it, so that
///   inotify does not merge that event with the next rename's.
/// - What cannot be read counts as a list of everything.
/// - Beside it `<number>d` lists watched directories, by inode number in the upper, in records of 8 bytes.
extension Overlay {
  private static var recordSize: Int { 16 }

  static var watchListFolder: StaticString { "/watchers" }

  private func watchListFolder(into path: inout PathBuffer) throws(Errno) {
    path.count = 0
    try path.append(work)
    try path.append(Overlay.watchListFolder)
  }

  /// The path of this process's list, which is made if there is none.
  func watchList(into path: inout PathBuffer) throws(Errno) {
    let list = unsafe ovl_watch_list_at(index)!
    try watchListFolder(into: &path)
    let folder = path.count
    if unsafe list.pointee.made == 0 {
      let r = unsafe lx_mkdirat(AT_FDCWD, path.cString, 0o700)
      if r != -Int(EEXIST) {
        try check(r)
        // Whatever the umask.
        _ = unsafe lx_fchmodat(AT_FDCWD, path.cString, 0o700)
      }
      unsafe list.pointee.name = registry?.nextSequence() ?? lx_realtime_ns()
    }
    try path.append(slash)
    try path.append(hex: unsafe list.pointee.name)
    if unsafe list.pointee.made != 0 { return }
    // Open until it is mapped: nobody takes it for a dead one's.
    let opened = try unsafe check(
      lx_openat(
        AT_FDCWD, path.cString, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0o600))
    let fd = Int32(truncatingIfNeeded: opened)
    defer { _ = lx_close(fd) }
    _ = lx_fchmod(fd, 0o600)
    guard unsafe lx_mmap(4096, PROT_READ, MAP_SHARED, fd) != nil else {
      path.count = folder
      throw .noMemory
    }
    unsafe list.pointee.used = 0
    unsafe list.pointee.directories = 0
    unsafe list.pointee.made = 1
  }

  /// Lists an anchor, for as long as the process lives: a forked child may go on reading from an instance
  /// that its parent closes. Under the turn of the identity.
  func list(_ anchor: Anchor, in list: PathBuffer) throws(Errno) {
    let isListed = try withScratch { (s) throws(Errno) in unsafe self.lists(list, anchor, s.spare) }
    if isListed { return }
    let opened = try unsafe check(
      lx_openat(AT_FDCWD, list.terminated, O_WRONLY | O_CLOEXEC | O_NOFOLLOW, 0))
    let fd = Int32(truncatingIfNeeded: opened)
    defer { _ = lx_close(fd) }
    var words = (anchor.shown, anchor.birth)
    let size = Overlay.recordSize
    let record = unsafe Int(at_add32(&ovl_watch_list_at(index)!.pointee.used, 1))
    if try unsafe check(lx_pwrite(fd, &words, size, record * size)) != size { throw .noSpace }
  }

  /// Lists a directory of the upper in the process's list, which there is. Under the turn of that identity.
  ///
  /// - Parameter isNew: nobody else has listed it, nor this process.
  func list(directory: UInt64, isNew: Bool) throws(Errno) {
    try withScratch { (s) throws(Errno) in
      var path = s.real
      try self.watchList(into: &path)
      try path.append(UInt8(ascii: "d"))
      // One that is watched time and again is listed once.
      if !isNew, unsafe self.hasRecord(path, directory, nil, s.spare) { return }
      let opened = try unsafe check(
        lx_openat(AT_FDCWD, path.cString, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o600))
      let fd = Int32(truncatingIfNeeded: opened)
      defer { _ = lx_close(fd) }
      let record = unsafe Int(at_add32(&ovl_watch_list_at(self.index)!.pointee.directories, 1))
      // Whatever the umask.
      if record == 0 { _ = lx_fchmod(fd, 0o600) }
      var word = directory
      if try unsafe check(lx_pwrite(fd, &word, 8, record * 8)) != 8 { throw .noSpace }
    }
  }

  /// Whether a living process watches a directory of the upper. Under the turn of that identity.
  func isWatched(directory: UInt64) -> Bool {
    var answer = false
    unsafe eachWatchList { (path, buffer) in
      guard self.isMapped(path) else { return true }
      var list = path
      guard (try? list.append(UInt8(ascii: "d"))) != nil else { return true }
      answer = unsafe self.hasRecord(list, directory, nil, buffer)
      return !answer
    }
    return answer
  }

  /// Whether a living process watches an anchor. Under the turn of the identity.
  ///
  /// - Parameter touch: touches the lists that it is on.
  func isWatched(_ anchor: Anchor, touch: Bool = false) -> Bool {
    var answer = false
    unsafe eachWatchList { (path, buffer) in
      guard unsafe self.lists(path, anchor, buffer), self.isMapped(path) else { return true }
      answer = true
      if touch { _ = unsafe lx_utimensat(AT_FDCWD, path.terminated, nil, 0) }
      return touch
    }
    return answer
  }

  /// Removes the lists of the dead. Returns how many are left.
  func sweepWatchLists() -> Int {
    var kept = 0
    unsafe eachWatchList { (path, _) in
      if self.isMapped(path) {
        kept += 1
      } else {
        // The list of directories first: it is found by the other alone.
        var directories = path
        if (try? directories.append(UInt8(ascii: "d"))) != nil {
          _ = unsafe lx_unlinkat(AT_FDCWD, directories.cString, 0)
        }
        _ = unsafe lx_unlinkat(AT_FDCWD, path.cString, 0)
      }
      return true
    }
    return kept
  }

  /// Calls `body` with every list's path and memory to read it into, until it says false.
  private func eachWatchList(_ body: (PathBuffer, UnsafeMutablePointer<UInt8>) -> Bool) {
    try? withScratch { (s) throws(Errno) in
      try self.eachEntry(of: Overlay.watchListFolder) { (path) throws(Errno) in
        // The others are bells.
        path.view.name.count != 16 ? true : unsafe body(path, s.spare)
      }
    }
  }

  private func lists(
    _ list: PathBuffer, _ anchor: Anchor, _ buffer: UnsafeMutablePointer<UInt8>
  ) -> Bool {
    unsafe hasRecord(list, anchor.shown, anchor.birth, buffer)
  }

  /// Whether a list has a record of one word, or of two.
  private func hasRecord(
    _ list: PathBuffer, _ first: UInt64, _ second: UInt64?, _ buffer: UnsafeMutablePointer<UInt8>
  ) -> Bool {
    let opened = unsafe lx_openat(
      AT_FDCWD, list.terminated, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0)
    if opened < 0 { return opened != -Int(ENOENT) }
    let fd = Int32(truncatingIfNeeded: opened)
    defer { _ = lx_close(fd) }
    var offset = 0
    let size = second == nil ? 8 : Overlay.recordSize
    while true {
      let n = unsafe lx_pread(fd, buffer, 16384, offset)
      if n < 0 { return true }
      if n < size { return false }
      var at = 0
      while at + size <= n {
        let record = unsafe UnsafeRawPointer(buffer + at)
        if unsafe record.loadUnaligned(as: UInt64.self) == first,
          unsafe second == nil
            || record.loadUnaligned(fromByteOffset: 8, as: UInt64.self) == second
        {
          return true
        }
        at += size
      }
      offset += at
    }
  }
}
