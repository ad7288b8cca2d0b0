import CLinux

/// mmap(2) of a descriptor on a lower file (docs/decisions/0011).
///
/// A shared mapping that will show what others write is one of the file's anchor; one of a
/// descriptor whose object was copied up, of whatever kind, is one of the upper. Everything else,
/// and whatever of this cannot be done, is the kernel's own call: a lower is mapped as it is.
enum Mappings {
  /// The words of one call, but for the descriptor.
  @safe struct Request {
    private let words: lx_mapping

    init(_ words: lx_mapping) { unsafe self.words = words }

    /// Whether the mapping shows what others write, and may only be read. Programs' code is mapped
    /// from where it is.
    var isAnchored: Bool {
      let type = unsafe words.flags & 0xf
      let use = unsafe words.protection & (PROT_WRITE | PROT_EXEC)
      return (type == MAP_SHARED || type == MAP_SHARED_VALIDATE) && use == 0
    }

    /// An address or `-errno`.
    func make(_ fd: Int32) -> Int {
      unsafe withUnsafePointer(to: words) { unsafe lx_map(fd, $0) }
    }

    /// The same without a descriptor in this process. Errors: as open(2).
    func make(_ path: PathBuffer, _ flags: Int32) throws(Errno) -> Int {
      var opened: Int = 0
      let r = unsafe withUnsafePointer(to: words) {
        unsafe lx_map_apart(path.terminated, flags, $0, &opened)
      }
      try check(opened)
      return r
    }
  }

  /// An address, the kernel's `-errno`, or `OVL_PASS`.
  @inline(__always) static func map(_ fd: Int32, _ request: Request) -> Int {
    let entry = DescriptorTable.entry(fd)
    if entry.isKnown {
      if !entry.isLower { return passResult }
      if !request.isAnchored, DescriptorObject.isCurrent(fd, entry) { return passResult }
    }
    return mapLower(fd, entry, request)
  }

  private static func mapLower(
    _ fd: Int32, _ known: DescriptorTable.Entry, _ request: Request
  ) -> Int {
    let entry = known.isKnown ? known : DescriptorObject.identify(fd)
    guard entry.isOurs, entry.isLower, !entry.isDirectory, entry.overlay < Overlay.count,
      Overlay(index: entry.overlay).hasUpper,
      entry.layer < Overlay(index: entry.overlay).layerCount
    else { return passResult }
    // O_PATH descriptors map nothing.
    let flags = lx_fcntl(fd, F_GETFL, 0)
    if flags < 0 || Int32(truncatingIfNeeded: flags) & O_PATH != 0 { return passResult }
    do throws(Errno) {
      var st = stat()
      var birth: UInt64 = 0
      var anchored = request.isAnchored
      if anchored {
        try unsafe check(lx_stat_with_birth(fd, "", AT_EMPTY_PATH, &st, &birth))
        anchored = st.type == S_IFREG && mayEverChange(fd, st)
      }
      return try withScratch { (s) throws(Errno) -> Int in
        for _ in 0..<8 {
          if anchored {
            do throws(Errno) {
              if let r = try mapAnchor(fd, entry, request, st, birth: birth, s) { return r }
            } catch {
              // There can be no anchor, but a copy that can be mapped.
              guard error.isRefusal || error.rawValue == EMFILE else { throw error }
              anchored = false
            }
          }
          guard case .upper(let overlay, let node) = try DescriptorObject.standing(fd, entry, s),
            !node.has(Node.attributesOnly)
          else { return passResult }
          var markers = Markers(overlay)
          markers.object(at: s.real2.written.view, .reading)
          defer { markers.end() }
          if let r = try mapUpper(s.real2.written, request) { return r }
        }
        return passResult
      }
    } catch { return passResult }
  }

  /// nil: the file was copied up.
  private static func mapAnchor(
    _ fd: Int32, _ entry: DescriptorTable.Entry, _ request: Request, _ st: stat, birth: UInt64,
    _ s: Scratch
  ) throws(Errno) -> Int? {
    let overlay = Overlay(index: entry.overlay)
    return try withScratch { (s2) throws(Errno) -> Int? in
      var turn = try Turn(overlay, s2)
      defer { turn.release() }
      let shown = overlay.shownInode(st.inode, layer: entry.layer)
      try turn.takeIdentity(shown)
      if !DescriptorObject.isCurrent(fd, entry) {
        switch try DescriptorObject.standing(fd, entry, s) {
        case .current: break
        case .upper: return nil
        case .removed: return passResult
        }
      }
      // Closed before the turn is given back: after that it may be the upper, and this process hold
      // record locks on it.
      let anchor = try Anchor(overlay, shown, birth: birth).open(for: fd, st, turn, s)
      defer { _ = lx_close(anchor) }
      return request.make(anchor)
    }
  }

  /// Whether this user could have the file copied up: for what he may not write a copy would be for
  /// nothing.
  private static func mayEverChange(_ fd: Int32, _ st: stat) -> Bool {
    if Permission.isOwner(st.st_uid) { return true }
    let r = unsafe lx_faccessat2(fd, "", W_OK, AT_EACCESS | AT_EMPTY_PATH)
    return r == 0 || r == -Int(EROFS)
  }

  /// nil: it is there no more.
  private static func mapUpper(_ path: PathBuffer, _ request: Request) throws(Errno) -> Int? {
    let flags = O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY
    do throws(Errno) {
      if Apart.isNeeded { return try request.make(path, flags) }
      let opened = unsafe lx_owner_open(path.terminated, flags)
      if opened == -Int(EMFILE) { return try request.make(path, flags) }
      try check(opened)
      let fd = Int32(truncatingIfNeeded: opened)
      defer { _ = lx_close(fd) }
      return request.make(fd)
    } catch {
      if error == .noEntry { return nil }
      throw error
    }
  }
}
