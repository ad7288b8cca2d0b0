import CLinux

/// The warm path: from a program's path to a real path with no system call, where nothing on the way
/// needs one.
///
/// The canonical relative path is assembled inside `ovl_path.small` behind room for the longest layer
/// root, and hashed component by component on the way; the layer's root is then put in front of it.
/// Anything out of the ordinary ("..", a path that does not fit, a cold cache) answers `slow`.
struct FastPath {
  enum Outcome { case slow, outside, inside }

  var outcome = Outcome.slow
  var overlay = Overlay(index: 0)
  var node = Node(.none, layer: -1)
  var trailing = false
  /// The canonical path inside `small`: relative to the target, or absolute when outside.
  var offset = 0
  var count = 0
  /// Hashes of the path and of its directory.
  var hash = PathHash(0, 0)
  var directory = PathHash(0, 0)

  /// The node is known by lookup, not only by its directory.
  var isKnown: Bool { node.kind != .unknown }

  @inline(__always)
  static func find(
    _ p: UnsafeMutablePointer<ovl_path>, _ dirfd: Int32, _ path: UnsafePointer<CChar>
  ) -> FastPath {
    var fast = FastPath()
    let process = unsafe ovl_self()!
    let text = unsafe UnsafeRawPointer(path).assumingMemoryBound(to: UInt8.self)
    let small = unsafe base(p)
    let room = unsafe Int(process.pointee.longest_layer) + 1
    let limit = Int(OVL_PATH_INLINE) - 8
    guard room < limit / 2 else { return fast }
    fast.offset = room
    var writer = unsafe Writer(small: small, at: room, start: room, limit: limit)
    if unsafe text[0] == slash {
      // The usual case: the target's own spelling, then the rest.
      for i in 0..<Overlay.count {
        let overlay = Overlay(index: i)
        let target = overlay.target
        if unsafe matches(text, target), !hasInner(overlay) {
          writer.hash = overlay.emptyHash
          writer.directory = writer.hash
          writer.grand = writer.hash
          guard unsafe writer.append(text + target.count) else { return fast }
          fast.finishInside(overlay, writer)
          return fast
        }
      }
    } else {
      guard let overlay = unsafe base(dirfd, &writer) else { return fast }
      if overlay >= 0 {
        let inside = Overlay(index: overlay)
        guard !hasInner(inside) else { return fast }
        writer.rehash(inside.emptyHash)
        guard unsafe writer.append(text) else { return fast }
        fast.finishInside(inside, writer)
        return fast
      }
    }
    // Outside, as written; whether links lead inside is another question (`Outside`).
    guard unsafe writer.append(text) else { return fast }
    fast.count = writer.at - writer.start
    fast.trailing = writer.trailing
    unsafe small[writer.at] = 0
    let view = unsafe PathView(small + room, fast.count)
    if RealPaths.target(of: view) != nil { return fast }
    fast.outcome = .outside
    return fast
  }

  @inline(__always)
  private static func matches(_ text: UnsafePointer<UInt8>, _ target: PathView) -> Bool {
    var i = 0
    while i < target.count {
      if unsafe text[i] != target[i] { return false }
      i += 1
    }
    return unsafe text[i] == slash || text[i] == 0
  }

  /// Another overlay's target lies below this one's.
  @inline(__always) private static func hasInner(_ overlay: Overlay) -> Bool {
    if Overlay.count == 1 { return false }
    for i in 0..<Overlay.count {
      let other = Overlay(index: i)
      if other.target.count > overlay.target.count, other.target.isAt(orBelow: overlay.target) {
        return true
      }
    }
    return false
  }

  /// Puts the directory that a relative path starts from at the front. nil: not known without asking.
  @inline(__always)
  private static func base(_ dirfd: Int32, _ writer: inout Writer) -> Int? {
    var here = unsafe PathBuffer(writer.small + writer.at, capacity: writer.limit - writer.at)
    if dirfd == AT_FDCWD {
      guard let position = try? WorkingDirectory.cached(into: &here) else { return nil }
      if position.overlay < 0 { return absolute(here, &writer) }
      writer.at += here.count
      return position.overlay
    }
    guard let slot = try? DescriptorTable.slot(dirfd, into: &here) else { return nil }
    if slot.overlay < 0 { return absolute(here, &writer) }
    writer.at += here.count
    return slot.overlay
  }

  @inline(__always)
  private static func absolute(_ here: PathBuffer, _ writer: inout Writer) -> Int {
    // "/" is written as nothing: every component brings its slash.
    writer.at += here.count == 1 ? 0 : here.count
    writer.isAbsolute = true
    return -1
  }

  @inline(__always)
  private mutating func finishInside(_ overlay: Overlay, _ writer: Writer) {
    self.overlay = overlay
    count = writer.at - writer.start
    trailing = writer.trailing
    hash = writer.hash
    directory = writer.directory
    unsafe writer.small[writer.at] = 0
    if count == 0 {
      node = overlay.rootNode
      outcome = .inside
      return
    }
    // A directory that one layer has alone answers for everything in it.
    if writer.directory != overlay.emptyHash {
      if let parent = overlay.cachedNode(hash: writer.directory, directory: writer.grand),
        parent.kind == .directory
      {
        if parent.has(Node.checkAccess) { return }
        if parent.has(Node.single), !parent.has(Node.impure),
          parent.layer == 0 || !(overlay.registry?.hasIndex ?? true)
        {
          node = Node(.unknown, layer: parent.layer)
          outcome = .inside
          return
        }
      }
    }
    guard let found = overlay.cachedNode(hash: hash, directory: directory) else { return }
    if found.has(Node.redirected | Node.indexed | Node.checkAccess) { return }
    if found.kind == .none, !found.has(Node.absent), found.layer < (overlay.hasUpper ? 0 : 1) {
      return
    }
    node = found
    outcome = .inside
  }

  /// Puts the layer's root in front and gives the whole.
  @inline(__always)
  func real(_ p: UnsafeMutablePointer<ovl_path>, layer: Int) -> UnsafePointer<CChar> {
    let small = unsafe FastPath.base(p)
    let root = overlay.layerPath(layer)
    var start = offset - root.count
    if count > 0 {
      start -= 1
      unsafe small[offset - 1] = slash
    }
    unsafe copyBytes(small + start, root.base, root.count)
    if count == 0 {
      if root.count == 0 {
        unsafe small[start] = slash
        unsafe small[start + 1] = 0
      } else {
        unsafe small[offset] = 0
      }
    }
    return unsafe UnsafeRawPointer(small + start).assumingMemoryBound(to: CChar.self)
  }

  /// The canonical path.
  @inline(__always)
  func path(_ p: UnsafeMutablePointer<ovl_path>) -> PathView {
    unsafe PathView(UnsafePointer(FastPath.base(p) + offset), count)
  }

  @inline(__always)
  static func base(_ p: UnsafeMutablePointer<ovl_path>) -> UnsafeMutablePointer<UInt8> {
    unsafe ovl_path_small(p)
  }

  /// Normalises and hashes components on their way into the buffer.
  private struct Writer {
    let small: UnsafeMutablePointer<UInt8>
    var at: Int
    let start: Int
    let limit: Int
    var isAbsolute = false
    var hash = PathHash(0, 0)
    var directory = PathHash(0, 0)
    var grand = PathHash(0, 0)
    var trailing = false

    init(small: UnsafeMutablePointer<UInt8>, at: Int, start: Int, limit: Int) {
      unsafe self.small = small
      self.at = at
      self.start = start
      self.limit = limit
      isAbsolute = false
    }

    /// Hashes what a working directory put there.
    @inline(__always) mutating func rehash(_ empty: PathHash) {
      hash = empty
      directory = empty
      grand = empty
      var i = start
      while i < at {
        var end = i
        while end < at, unsafe small[end] != slash { end += 1 }
        grand = directory
        directory = hash
        unsafe hash.append(UnsafePointer(small + i), end - i)
        i = end + 1
      }
    }

    /// False: "..", or no room.
    @inline(__always) mutating func append(_ text: UnsafePointer<UInt8>) -> Bool {
      var i = 0
      // A path that starts with a slash and has no target in front is absolute.
      let slashes = isAbsolute || (unsafe text[0] == slash && hash == PathHash(0, 0))
      while true {
        while unsafe text[i] == slash {
          i += 1
          trailing = true
        }
        if unsafe text[i] == 0 {
          // So long a text is ENAMETOOLONG, however little it says.
          if i >= Int(OVL_PATH_MAX) - 256 { return false }
          break
        }
        let name = i
        while unsafe text[i] != slash && text[i] != 0 { i += 1 }
        let length = i - name
        trailing = false
        if unsafe text[name] == dot {
          if length == 1 {
            trailing = true
            continue
          }
          if length == 2, unsafe text[name + 1] == dot { return false }
        }
        guard at + length + 2 < limit else { return false }
        if at > start || slashes {
          unsafe small[at] = slash
          at += 1
        }
        unsafe copyBytes(small + at, text + name, length)
        grand = directory
        directory = hash
        unsafe hash.append(UnsafePointer(small + at), length)
        at += length
      }
      return true
    }
  }
}
