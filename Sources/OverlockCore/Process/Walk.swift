import CLinux

/// Where a path leads in the world in which every overlay is mounted at its target.
struct Location {
  /// The overlay, or -1: outside all of them, `path` is absolute.
  var overlay: Int
  /// Canonical: relative to the target, or absolute.
  var path: PathBuffer
  /// In an overlay: what the lookup of `path` found.
  var lookup: Lookup
  /// The path ended in a slash (or "/."): the object must be a directory.
  var trailing = false
  var last = Last.name
  /// The way led through an overlay: the caller's own path means something else to the kernel.
  var touched = false
  /// It is a removed directory outside ("."): the kernel alone knows it.
  var removed = false
  /// Of a removed directory: its entry in the log of directories, or 0.
  var ticket = UInt64(0)
  /// It was removed together with what leads to it: the real path is that of its stand-in, or empty.
  var isLost = false
  /// Of a call on names: the last one is too long to be any; `path` is its directory.
  var isTooLong = false

  /// What the last component was: some calls refuse "." and "..".
  enum Last { case name, dot, dotDot, root }
}

/// What openat2(2) keeps a walk from doing (its `resolve`).
struct Restriction {
  var bits: UInt64

  static var none: Restriction { Restriction(bits: 0) }
  private func has(_ bit: Int32) -> Bool { bits & UInt64(bit) != 0 }
  var isNone: Bool { bits == 0 }
  var oneMount: Bool { has(RESOLVE_NO_XDEV) }
  var cachedOnly: Bool { has(RESOLVE_CACHED) }
  var beneath: Bool { has(RESOLVE_BENEATH) }
  /// The directory that the walk starts in is the root.
  var inRoot: Bool { has(RESOLVE_IN_ROOT) }
  var isScoped: Bool { beneath || inRoot }

  /// A symbolic link is about to be followed.
  func follow(isMagic: Bool = false) throws(Errno) {
    if has(RESOLVE_NO_SYMLINKS) || isMagic && has(RESOLVE_NO_MAGICLINKS) { throw .loop }
    if isMagic, isScoped { throw .crossDevice }
  }
}

/// The walk that the kernel would make: component by component, through symbolic links from outside
/// into an overlay and back, "..", and /proc's magic links.
enum Walk {
  static var linkLimit: Int { 40 }

  /// - Parameters:
  ///   - follow: also follow a symbolic link in the last component (a trailing slash does so anyway).
  ///   - naming: the call is about the name itself (unlink, rename, mkdir…): not even a trailing slash
  ///     follows a link there.
  ///   - wantBelow: as for `Overlay.lookup`.
  /// - Errors: as path_resolution(7): ENOENT for a missing directory on the way (a missing last
  ///   component is a result), ENOTDIR, ELOOP, EACCES, ENAMETOOLONG.
  static func resolve(
    _ dirfd: Int32, _ text: PathView, follow: Bool, naming: Bool = false,
    wantBelow: Bool = false, fresh: Bool = false, restriction: Restriction = .none,
    textual: Bool = false, _ scratch: Scratch
  ) throws(Errno) -> Location {
    guard !text.isEmpty else { throw .noEntry }
    // realpath(3) makes a path of the names alone, however much else there is between them.
    guard text.count < Int(OVL_PATH_MAX) || textual else { throw .nameTooLong }
    var here = scratch.here
    var overlay = -1
    var touched = false
    var removed: RemovedDirectory? = nil
    // Where a relative path starts is a directory, or was one: ".." leads on from there.
    var atStart = text[0] != slash
    if text[0] == slash, !restriction.inRoot {
      if restriction.beneath { throw .crossDevice }
      if let root = rootOverlay { overlay = root }
    } else {
      let start = try base(dirfd, &overlay, &here)
      if start.removed {
        // getcwd(3), which realpath(3) begins with, finds no name.
        if textual, dirfd == AT_FDCWD { throw .noEntry }
        removed = try RemovedDirectory(start, descriptor: dirfd, scratch)
      }
    }
    touched = overlay >= 0
    // A scoped walk never stands above its start, so the length tells whether it stands there.
    let (startOverlay, startLength) = (overlay, here.count)
    var rest = scratch.rest
    if text.count < Int(OVL_PATH_MAX) {
      try rest.append(text)
    } else {
      try rest.append(namesOf: text)
    }
    var position = 0
    var links = 0
    var last = Location.Last.root
    var trailing = false
    var state = WalkState(scratch)
    while true {
      while position < rest.count, rest.view[position] == slash {
        position += 1
        trailing = true
      }
      if position >= rest.count { break }
      trailing = false
      var end = position
      while end < rest.count, rest.view[end] != slash { end += 1 }
      let name = rest.view.from(position).prefix(end - position)
      let isLast = onlySlashes(rest.view.from(end))
      let isFinal = isLast && (naming || end == rest.count)
      position = end
      if name.isDot {
        last = .dot
        if removed != nil {
          trailing = true
          continue
        }
        try state.requireDirectory(overlay, here.view)
        trailing = true
        continue
      }
      if name.isDotDot {
        last = .dotDot
        if removed == nil {
          if atStart {
            try state.requireSearch(overlay, here.view)
          } else {
            try state.requireDirectory(overlay, here.view)
          }
        }
        if restriction.isScoped, overlay == startOverlay, here.count == startLength {
          if restriction.beneath { throw .crossDevice }
          trailing = true
          continue
        }
        trailing = true
        if let gone = removed {
          removed = try gone.parent(&overlay, &here)
          if overlay >= 0 { touched = true }
          continue
        }
        parent(&overlay, &here)
        continue
      }
      last = .name
      if let gone = removed {
        guard naming, isLast else { throw .noEntry }
        // The directory is there to look in, and nothing is found: what a call refuses first differs.
        while position < rest.count { position += 1; trailing = true }
        return gone.missing(overlay, here, trailing: trailing, touched: touched)
      }
      atStart = false
      let before = here.count
      if overlay >= 0 {
        touched = true
        if isLast, naming, name.count > Merge.nameLimit {
          try state.requireDirectory(overlay, here.view)
          let none = Lookup(removed: Node(.none, layer: -1), at: here.view)
          return Location(
            overlay: overlay, path: here, lookup: none, trailing: position < rest.count,
            touched: true, isTooLong: true)
        }
        try here.appendRelative(name)
        if !isLast, !fresh, state.passes(overlay, here.view) { continue }
        try state.look(
          overlay, here.view, wantBelow: wantBelow && isLast, fresh: fresh)
        let look = state.lookup
        if look.length < here.count {
          // The directory that we stand in is gone or never was one.
          throw look.node.kind == .none ? .noEntry : .notDirectory
        }
        switch look.node.kind {
        case .none:
          if !isLast { throw .noEntry }
        case .link:
          if !isFinal || follow {
            try restriction.follow()
            links += 1
            if links > linkLimit { throw .loop }
            let target = try readLink(Overlay(index: overlay), here.view, scratch)
            if isLast, target.count == 0 { throw .noEntry }
            here.count = before
            try replace(&rest, &position, target)
            if target.view[0] == slash { try jump(dirfd, restriction, &overlay, &here) }
          }
        case .directory, .unknown: break
        case .file, .special:
          if !isLast { throw .notDirectory }
        }
        continue
      }
      // Outside every overlay: the kernel is asked what is a link.
      try here.append(slash)
      try here.append(name)
      if let (inside, rel) = RealPaths.target(of: here.view) {
        overlay = inside.index
        touched = true
        // Only the target itself can be met by one step from outside.
        here.count = 0
        _ = rel
        continue
      }
      if isFinal, !follow { continue }
      var link = scratch.link
      let n = unsafe lx_readlinkat(
        AT_FDCWD, here.cString,
        UnsafeMutableRawPointer(link.base).assumingMemoryBound(to: CChar.self), 4096)
      guard n > 0 else { continue }
      link.count = n
      if here.view.hasPrefix("/proc/") {
        // A magic link is a door to the object, not a text. Only where the text leads into an
        // overlay is it ours to walk.
        if let gone = try RemovedDirectory(magic: here.view, link.view, &overlay, scratch) {
          touched = touched || overlay >= 0
          if textual {
            // realpath(3) walks the text.
            links += 1
            here.count = 0
            if overlay >= 0 { try here.append(Overlay(index: overlay).target) }
            try here.appendBelow(gone.path)
            try here.append(" (deleted)")
            link.count = 0
            try link.append(here.view)
            here.count = 0
            try replace(&rest, &position, link)
            start(&overlay, &here)
            continue
          }
          here.count = 0
          try here.append(gone.path)
          removed = gone
          continue
        }
        guard let inside = magic(here.view, link.view) else {
          // A directory that more is looked up in is as good as its path.
          if !isLast, link.view[0] == slash, !link.view.hasSuffix(" (deleted)") {
            links += 1
            if links > linkLimit { throw .loop }
            here.count = 0
            try replace(&rest, &position, link)
            start(&overlay, &here)
          }
          continue
        }
        try restriction.follow(isMagic: true)
        // The object itself, which may have lost its name: ".." leads on from a directory all the same.
        var st = stat()
        if !isLast, unsafe lx_fstatat(AT_FDCWD, here.cString, &st, 0) == 0 {
          atStart = st.type == S_IFDIR
        }
        overlay = inside.overlay.index
        touched = true
        here.count = 0
        try here.append(inside.rel)
        if try inside.overlay.followLower(&here, layer: inside.layer).isRemoved {
          guard isLast else { throw .notDirectory }
          return try removedFile(inside, here, link.view, scratch)
        }
        continue
      }
      try restriction.follow()
      links += 1
      if links > linkLimit { throw .loop }
      here.count = before
      try replace(&rest, &position, link)
      if link.view[0] == slash { try jump(dirfd, restriction, &overlay, &here) }
    }
    if let gone = removed {
      return try gone.location(overlay, here, last: last, touched: touched, scratch)
    }
    if overlay >= 0 {
      if state.overlay != overlay || !state.isAt(here.view)
        || (wantBelow && !state.hadBelow)
      {
        try state.look(overlay, here.view, wantBelow: wantBelow, fresh: fresh)
      }
      if state.lookup.length < here.count {
        throw state.lookup.node.kind == .none ? .noEntry : .notDirectory
      }
    } else if here.count == 0 {
      try here.append(slash)
    } else if trailing, touched, here.view[here.count - 1] != slash {
      // The kernel is to see that a directory was meant.
      try here.append(slash)
    }
    if last == .root, overlay >= 0, !here.view.isEmpty { last = .name }
    return Location(
      overlay: overlay, path: here, lookup: state.lookup, trailing: trailing, last: last,
      touched: touched)
  }

  /// A lower file without a name, by way of /proc.
  private static func removedFile(
    _ inside: (overlay: Overlay, rel: PathView, layer: Int), _ here: PathBuffer,
    _ real: PathView, _ scratch: Scratch
  ) throws(Errno) -> Location {
    var st = stat()
    var path = scratch.real2
    try path.append(real)
    try unsafe check(lx_fstatat(AT_FDCWD, path.cString, &st, AT_SYMLINK_NOFOLLOW))
    let node = Node(Kind(mode: st.st_mode), layer: inside.layer, flags: Node.removed)
    return Location(
      overlay: inside.overlay.index, path: here, lookup: Lookup(removed: node, at: here.view),
      touched: true)
  }

  /// The overlay whose target is "/", if there is one.
  private static var rootOverlay: Int? {
    for i in 0..<Overlay.count where Overlay(index: i).target.count == 0 { return i }
    return nil
  }

  private static func start(_ overlay: inout Int, _ here: inout PathBuffer) {
    overlay = rootOverlay ?? -1
    here.count = 0
  }

  /// Where a relative path starts; whether that directory was removed.
  private static func base(_ dirfd: Int32, _ overlay: inout Int, _ here: inout PathBuffer)
    throws(Errno) -> WorkingDirectory.Position
  {
    let position =
      dirfd == AT_FDCWD
      ? try WorkingDirectory.read(into: &here)
      : try WorkingDirectory.ofDescriptor(dirfd, into: &here)
    overlay = position.overlay
    if overlay < 0, here.count == 1 { here.count = 0 }
    return position
  }

  /// To where an absolute symbolic link starts.
  private static func jump(
    _ dirfd: Int32, _ restriction: Restriction, _ overlay: inout Int, _ here: inout PathBuffer
  ) throws(Errno) {
    if restriction.beneath { throw .crossDevice }
    if restriction.inRoot {
      if try base(dirfd, &overlay, &here).removed { throw .noEntry }
    } else {
      start(&overlay, &here)
    }
  }

  private static func onlySlashes(_ text: PathView) -> Bool {
    for i in 0..<text.count where text[i] != slash { return false }
    return true
  }

  private static func replace(
    _ rest: inout PathBuffer, _ position: inout Int, _ target: PathBuffer
  ) throws(Errno) {
    // Drop what is walked, then put the link's text in front.
    let left = rest.count - position
    for i in 0..<left { unsafe rest.base[i] = rest.base[i + position] }
    rest.count = left
    try rest.prepend(target.view)
    position = 0
  }

  private static func parent(_ overlay: inout Int, _ here: inout PathBuffer) {
    if overlay >= 0, here.view.isEmpty {
      // Above the target: back outside, or to the overlay around this one.
      let target = Overlay(index: overlay).target
      let above = target.parent
      here.count = 0
      if target.count == 0 { return }
      try? here.append(above)
      overlay = -1
      if let (outer, rel) = RealPaths.target(of: here.view) {
        overlay = outer.index
        let shift = here.count - rel.count
        for i in 0..<rel.count { unsafe here.base[i] = here.base[i + shift] }
        here.count = rel.count
      }
      return
    }
    here.count = here.view.parent.count
  }

  private static func readLink(_ overlay: Overlay, _ rel: PathView, _ scratch: Scratch)
    throws(Errno) -> PathBuffer
  {
    var link = scratch.link
    let n = try unsafe check(
      lx_readlinkat(
        AT_FDCWD, scratch.real2.unterminated,
        UnsafeMutableRawPointer(link.base).assumingMemoryBound(to: CChar.self), 4096))
    link.count = n
    return link
  }

  /// `/proc/self/fd/N`, `/proc/self/cwd` and the like of any process, where they show a layer.
  private static func magic(_ path: PathView, _ text: PathView) -> (
    overlay: Overlay, rel: PathView, layer: Int
  )? {
    if text.isEmpty || text[0] != slash || RealPathReader.isRemoved(text) { return nil }
    var lowers = false
    // /proc/<pid>/fd/<n>: our own table knows whether a lower path is the overlay's.
    let name = path.name
    if path.parent.hasSuffix("/fd"), let fd = decimal(name) {
      let entry = DescriptorTable.entry(Int32(truncatingIfNeeded: fd))
      lowers = !entry.isKnown || entry.isOurs
    } else if name.equals("cwd") {
      lowers = WorkingDirectory.wasInside
    }
    return RealPaths.merged(text, lowers: lowers)
  }
}

/// The last lookup of a walk, kept so that the end of the walk need not repeat it.
private struct WalkState {
  let scratch: Scratch
  var merge: Merge?
  var overlay = -1
  var lookup = Lookup(
    node: Node(.none, layer: -1), length: -1, hash: PathHash(0, 0), directory: PathHash(0, 0),
    total: 0)
  var length = -1
  var hadBelow = false

  init(_ scratch: Scratch) { self.scratch = scratch }

  func isAt(_ path: PathView) -> Bool { length == path.count }

  /// Whether the cache knows a directory there: the lookup of what is in it starts from that too.
  mutating func passes(_ index: Int, _ path: PathView) -> Bool {
    guard Overlay(index: index).cachedNode(path)?.kind == .directory else { return false }
    // The last lookup is not where the walk stands any more.
    overlay = -1
    return true
  }

  mutating func look(_ index: Int, _ path: PathView, wantBelow: Bool, fresh: Bool) throws(Errno) {
    let target = Overlay(index: index)
    var merge = Merge(target, scratch)
    lookup = try target.lookup(path, scratch, wantBelow: wantBelow, fresh: fresh, merge: &merge)
    overlay = index
    length = path.count
    hadBelow = wantBelow
  }

  /// The same of where a walk starts, which is a directory, or was one.
  mutating func requireSearch(_ overlay: Int, _ path: PathView) throws(Errno) {
    if lx_geteuid() == 0 { return }
    do throws(Errno) {
      try requireDirectory(overlay, path)
    } catch {
      if error == .access { throw error }
    }
  }

  /// "." and ".." may only be taken from a directory that may be searched.
  mutating func requireDirectory(_ overlay: Int, _ path: PathView) throws(Errno) {
    guard overlay >= 0 else {
      if path.isEmpty { return }
      var here = scratch.real
      try here.append(path)
      // The kernel says as well whether it may be searched.
      try here.append("/.")
      var st = stat()
      try unsafe check(lx_fstatat(AT_FDCWD, here.cString, &st, 0))
      return
    }
    if path.isEmpty {
      if lx_geteuid() == 0 { return }
      let target = Overlay(index: overlay)
      var root = scratch.real
      try root.append(target.layerPath(target.hasUpper ? 0 : 1))
      try root.append("/.")
      try unsafe Permission.access(root.cString, X_OK)
      return
    }
    if self.overlay != overlay || !isAt(path) {
      try look(overlay, path, wantBelow: false, fresh: false)
    }
    guard lookup.isWhole else { throw .noEntry }
    switch lookup.node.kind {
    case .directory:
      if lx_geteuid() != 0 { try unsafe Permission.access(scratch.real2.unterminated, X_OK) }
    case .none: throw .noEntry
    default: throw .notDirectory
    }
  }
}
