import CLinux

#if !$Embedded
  /// What dead processes left in `workdir/overlock`. The overlay works beside it and sweeps it in time; a tool may
  /// name it, and have it swept now.
  ///
  /// Invariants:
  /// - Whether somebody is at work on an entry, the turn that it belongs to says: it is asked for and never waited
  ///   for. What somebody holds at that moment is no leftover.
  /// - Sweeping is the core's own, under the same turns.
  ///
  /// Left out: copies that are kept without a name and markers in the folder of a directory that is still watched.
  /// What belongs to those nobody can say from outside.
  extension InspectedOverlay {
    public struct Leftover: Hashable {
      public enum Kind: String {
        case anchor
        case bell
        case watchList = "watch list"
        case markerFolder = "marker folder"
        case copy
        case group = "hard links without a name"
        case modeNote = "note of a mode"
        case creation = "new object"
        case whiteout
        case replaced = "replaced object"
        case move = "note of a move"
        case segment
      }
      public var kind: Kind
      public var path: [UInt8]
    }

    /// The id in hexadecimal, as the registry is named.
    public var name: String {
      let digits = unsafe String(raw.id, radix: 16)
      return String(repeating: "0", count: 16 - digits.count) + digits
    }

    /// The folder of the workdir that is the overlay's; empty without an upper.
    public var workFolder: [UInt8] { InspectedOverlay.bytes(use().work) }

    /// - Errors: as open(2) of the workdir's lock and folders.
    public func leftovers() throws(Errno) -> [Leftover] {
      let overlay = use()
      guard overlay.hasUpper else { return [] }
      var found = Found()
      try withScratch { (s) throws(Errno) in
        let turn = try Turn(overlay, s)
        defer { turn.release() }
        try found.addAnchors(overlay, turn)
        try found.addWatchers(overlay, turn)
        try found.addMarkers(overlay, turn)
        try found.addCopies(overlay, turn)
        try found.addGroups(overlay, turn)
      }
      try found.addStaged(overlay, .create, .creation)
      try found.addStaged(overlay, .whiteout, .whiteout)
      try found.addStaged(overlay, .gone, .replaced)
      try found.addStaged(overlay, .moved, .move)
      return found.list
    }

    /// Removes what nobody needs: also copies without a name. Errors: as open(2) of the workdir's lock.
    public func sweepLeftovers() throws(Errno) {
      let overlay = use()
      guard overlay.hasUpper else { return }
      overlay.sweepAbandoned()
      try withScratch { (s) throws(Errno) in
        let turn = try Turn(overlay, s)
        defer { turn.release() }
        overlay.sweepUnusedAnchors(turn)
        // Those whose list of anchors is gone already are found by nothing else.
        for orphan in try Found.orphanedLists(overlay) {
          unsafe withPath(orphan) { _ = unsafe lx_unlinkat(AT_FDCWD, $0, 0) }
        }
      }
    }

    /// Names of segments in a registry's folder whose overlay is no more.
    ///
    /// - Errors: as open(2) of the folder.
    public static func abandonedSegments(
      in folder: UnsafePointer<CChar>, removing: Bool
    ) throws(Errno) -> [[UInt8]] {
      ovl_set_tables()
      return unsafe try Segment.abandoned(in: folder, removing: removing)
    }
  }

  private func withPath(_ path: [UInt8], _ body: (UnsafePointer<CChar>) -> Void) {
    unsafe (path + [0]).withUnsafeBytes {
      unsafe body($0.baseAddress!.assumingMemoryBound(to: CChar.self))
    }
  }

  private struct Found {
    var list: [InspectedOverlay.Leftover] = []

    private mutating func add(_ kind: InspectedOverlay.Leftover.Kind, _ path: PathBuffer) {
      list.append(.init(kind: kind, path: Found.plain(path.view)))
    }

    private static func plain(_ path: PathView) -> [UInt8] {
      var bytes: [UInt8] = []
      for i in 0..<path.count where path[i] != slash || bytes.last != slash {
        bytes.append(path[i])
      }
      return bytes
    }

    private static func stands(_ path: PathBuffer) -> Bool {
      var st = stat()
      return unsafe lx_fstatat(AT_FDCWD, path.cString, &st, AT_SYMLINK_NOFOLLOW) == 0
    }

    /// Whether nobody watches an anchor, nor has this file of that name open or mapped. Under the turn.
    private static func isUnused(_ overlay: Overlay, _ path: PathBuffer, _ shown: UInt64) -> Bool {
      guard let birth = hexadecimal(path.view.name.from(17)) else { return false }
      return !overlay.isWatched(Anchor(overlay, shown, birth: birth)) && !overlay.isMapped(path)
    }

    private mutating func addNamedAsAnchors(
      _ overlay: Overlay, _ folder: StaticString, _ kind: InspectedOverlay.Leftover.Kind,
      _ turn: Turn
    ) throws(Errno) {
      try overlay.eachEntry(of: folder) { (path) throws(Errno) in
        guard path.view.name.count == 33, let shown = hexadecimal(path.view.name.prefix(16)),
          turn.tryIdentity(shown)
        else { return true }
        defer { turn.dropIdentity(shown) }
        if Found.isUnused(overlay, path, shown), Found.stands(path) { self.add(kind, path) }
        return true
      }
    }

    mutating func addAnchors(_ overlay: Overlay, _ turn: Turn) throws(Errno) {
      try addNamedAsAnchors(overlay, Anchor.folder, .anchor, turn)
    }

    mutating func addWatchers(_ overlay: Overlay, _ turn: Turn) throws(Errno) {
      try addNamedAsAnchors(overlay, Overlay.watchListFolder, .bell, turn)
      try overlay.eachEntry(of: Overlay.watchListFolder) { (path) throws(Errno) in
        if path.view.name.count == 16, !overlay.isMapped(path), Found.stands(path) {
          self.add(.watchList, path)
        }
        return true
      }
      for orphan in try Found.orphanedLists(overlay) {
        list.append(.init(kind: .watchList, path: orphan))
      }
    }

    /// Lists of directories whose process's list is gone, or goes.
    static func orphanedLists(_ overlay: Overlay) throws(Errno) -> [[UInt8]] {
      var orphans: [[UInt8]] = []
      try overlay.eachEntry(of: Overlay.watchListFolder) { (path) throws(Errno) in
        guard path.view.name.count == 17 else { return true }
        var list = path
        list.count -= 1
        _ = unsafe list.cString
        let isLiving = Found.stands(list) && overlay.isMapped(list)
        unsafe list.base[list.count] = UInt8(ascii: "d")
        if !isLiving, Found.stands(path) { orphans.append(Found.plain(path.view)) }
        return true
      }
      return orphans
    }

    mutating func addMarkers(_ overlay: Overlay, _ turn: Turn) throws(Errno) {
      try overlay.eachEntry(of: Marker.folder) { (path) throws(Errno) in
        guard let directory = hexadecimal(path.view.name), turn.tryIdentity(directory) else {
          return true
        }
        defer { turn.dropIdentity(directory) }
        if !overlay.isWatched(directory: directory), Found.stands(path) {
          self.add(.markerFolder, path)
        }
        return true
      }
    }

    mutating func addCopies(_ overlay: Overlay, _ turn: Turn) throws(Errno) {
      try overlay.eachEntry(of: WorkFolder.copyup.name) { (path) throws(Errno) in
        let name = path.view.name
        guard name.count >= 16, let shown = hexadecimal(name.prefix(16)), turn.tryIdentity(shown)
        else { return true }
        defer { turn.dropIdentity(shown) }
        if name.count > 16 {
          if name.from(16).equals(WorkFolder.modeSuffix), Found.stands(path) {
            self.add(.modeNote, path)
          }
        } else if !overlay.isMapped(path), Found.stands(path) {
          self.add(.copy, path)
        }
        return true
      }
    }

    /// Inodes in the index whose last name went.
    mutating func addGroups(_ overlay: Overlay, _ turn: Turn) throws(Errno) {
      try overlay.eachEntry(of: Overlay.indexFolder) { (path) throws(Errno) in
        guard let shown = hexadecimal(path.view.name), turn.tryIdentity(shown) else { return true }
        defer { turn.dropIdentity(shown) }
        var st = stat()
        if unsafe lx_fstatat(AT_FDCWD, path.cString, &st, AT_SYMLINK_NOFOLLOW) == 0,
          unsafe overlay.shownLinks(path.cString, st.links) == 0
        {
          self.add(.group, path)
        }
        return true
      }
    }

    /// What belongs to directory turns that nobody holds.
    mutating func addStaged(
      _ overlay: Overlay, _ folder: WorkFolder, _ kind: InspectedOverlay.Leftover.Kind
    ) throws(Errno) {
      try overlay.eachEntry(of: folder.name) { (path) throws(Errno) in
        guard let index = WorkFolder.turn(of: path.view.name) else { return true }
        try withScratch { (s) throws(Errno) in
          var turn = try Turn(overlay, s)
          defer { turn.release() }
          if turn.tryIndex(index), Found.stands(path) { self.add(kind, path) }
        }
        return true
      }
    }
  }
#endif
