import CLinux

/// The warm path: from a program's path to a real path with no system call, where nothing on the way
/// needs one.
///
/// The path is read once, hashed component by component, and not copied: where the layer that has the
/// object is the target itself, the program's own words are the real path already. Anything out of the
/// ordinary ("..", ".", "//", a path that does not fit, a cold cache) answers `slow`.
@safe struct FastPath {
  enum Outcome { case slow, outside, inside }

  var outcome = Outcome.slow
  var overlay: Overlay
  var node = Node(.none, layer: -1)
  /// The path ended in a slash.
  var trailing = false
  /// The count of copy-ups from before the cache was asked: what it says of a lower object holds under it.
  private(set) var copyUps = UInt64(0)

  /// The caller's path, and how much of it is the target.
  private let text: UnsafePointer<UInt8>
  private var start = 0
  private var end = 0
  /// Bytes of the path of the directory that the text is relative to, -1: it is absolute.
  private var before = -1
  /// That directory: its path is copied only where somebody wants it.
  private var place: Place?
  private var dirfd = AT_FDCWD

  private var hash: PathHash
  private var directory: PathHash
  private var grand: PathHash

  /// The node is known by lookup, not only by its directory.
  @inline(__always) var isKnown: Bool { node.kind != .unknown }

  @inline(__always)
  @_optimize(speed)
  static func find(
    _ p: UnsafeMutablePointer<ovl_path>, _ dirfd: Int32, _ path: UnsafePointer<CChar>
  ) -> FastPath {
    let text = unsafe UnsafeRawPointer(path).assumingMemoryBound(to: UInt8.self)
    var fast = unsafe FastPath(text)
    if unsafe text[0] == slash {
      if Overlay.count == 1 {
        let target = fast.overlay.target
        if unsafe startsWith(text, target) {
          fast.start = target.count
          guard fast.read() else { return fast }
          fast.lookUp()
          return fast
        }
      } else if let found = unsafe among(text) {
        fast.overlay = found
        fast.enter(found.emptyHash)
        fast.start = found.target.count
        guard fast.read() else { return fast }
        fast.lookUp()
        return fast
      }
      unsafe fast.finishOutside(p)
      return fast
    }
    unsafe fast.relative(p, dirfd)
    return fast
  }

  @inline(__always) private init(_ text: UnsafePointer<UInt8>) {
    unsafe self.text = text
    overlay = Overlay(index: 0)
    hash = overlay.emptyHash
    directory = hash
    grand = hash
  }

  @_optimize(speed)
  @inline(__always) private mutating func enter(_ empty: PathHash) {
    hash = empty
    directory = empty
    grand = empty
  }

  /// Whether the text is the target or lies below it.
  @inline(__always)
  @_optimize(speed)
  private static func startsWith(_ text: UnsafePointer<UInt8>, _ target: PathView) -> Bool {
    let n = target.count
    // Reading past the text's end is harmless on the page where it ends.
    if Int(bitPattern: text) & 4095 < 4088 - n {
      guard unsafe sameBytes(text, target.base, n) else { return false }
    } else {
      for i in 0..<n { if unsafe text[i] != target[i] { return false } }
    }
    return unsafe text[n] == slash || text[n] == 0
  }

  /// With several overlays: the innermost whose target the text starts with, unless another target
  /// lies below it.
  @_optimize(speed)
  private static func among(_ text: UnsafePointer<UInt8>) -> Overlay? {
    for i in 0..<Overlay.count {
      let overlay = Overlay(index: i)
      if unsafe startsWith(text, overlay.target), !hasInner(overlay) { return overlay }
    }
    return nil
  }

  @_optimize(speed)
  private static func hasInner(_ overlay: Overlay) -> Bool {
    for i in 0..<Overlay.count {
      let other = Overlay(index: i)
      if other.target.count > overlay.target.count, other.target.isAt(orBelow: overlay.target) {
        return true
      }
    }
    return false
  }

  /// Reads and hashes the components from `start`. False: something that wants a walk.
  @_optimize(speed)
  @inline(__always) private mutating func read() -> Bool {
    var i = start
    if unsafe text[i] == slash {
      i += 1
      start = i
    }
    while true {
      let name = i
      var byte = unsafe text[i]
      while byte != slash, byte != 0 {
        i += 1
        byte = unsafe text[i]
      }
      let length = i - name
      if length == 0 {
        // The end after a slash; or "//".
        guard byte == 0 else { return false }
        trailing = i > start
        end = i > start ? i - 1 : i
        return i < Int(OVL_PATH_MAX) - 1
      }
      if unsafe text[name] == dot, unsafe length == 1 || (length == 2 && text[name + 1] == dot) {
        return false
      }
      grand = directory
      directory = hash
      unsafe hash.append(text + name, length)
      if byte == 0 {
        end = i
        return i < Int(OVL_PATH_MAX) - 1
      }
      i += 1
    }
  }

  /// Asks the cache: the directory first, since one that a single layer has answers for all in it.
  @_optimize(speed)
  @inline(__always) private mutating func lookUp() {
    if hash == overlay.emptyHash {
      node = overlay.rootNode
      outcome = .inside
      return
    }
    guard let registry = overlay.registry else { return }
    copyUps = registry.copyUps
    if directory != overlay.emptyHash {
      let parent = registry.cachedWord(directory, in: grand)
      if parent & 7 == UInt64(Kind.directory.rawValue) {
        let flags = UInt32(truncatingIfNeeded: parent >> 3)
        if flags & Node.checkAccess != 0 { return }
        if flags & (Node.single | Node.impure) == Node.single {
          let layer = Int(parent >> 16 & 0xffff)
          if layer == 0 ? overlay.hasUpper : layer < overlay.layerCount && !registry.hasIndex {
            node = Node(.unknown, layer: layer)
            outcome = .inside
            return
          }
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

  /// Asks the cache for the name itself, where only its directory is known so far.
  @_optimize(speed)
  @inline(__always) mutating func refine() {
    guard !isKnown, let found = overlay.cachedNode(hash: hash, directory: directory),
      found.kind != .none, found.layer == node.layer,
      !found.has(Node.redirected | Node.indexed | Node.checkAccess)
    else { return }
    node = found
  }

  /// A path relative to the working directory or a descriptor.
  @_optimize(speed)
  private mutating func relative(_ p: UnsafeMutablePointer<ovl_path>, _ dirfd: Int32) {
    let known: Place?
    if dirfd == AT_FDCWD {
      known = unsafe Place(ovl_cwd_place(), capacity: Int(OVL_DEEP_MAX))
    } else if let raw = unsafe DescriptorTable.place(dirfd) {
      known = unsafe Place(raw, capacity: Int(OVL_SLOT_PATH))
    } else {
      return
    }
    guard let known else { return }
    let room = unsafe Int(ovl_self()!.pointee.longest_layer) + 1
    guard room + known.length < Int(OVL_PATH_INLINE) - 8 else { return }
    if known.overlay < 0 {
      guard unsafe known.copy(to: FastPath.base(p) + room) else { return }
      before = known.length == 1 ? 0 : known.length
      guard read() else { return }
      return unsafe finishOutside(p)
    }
    overlay = Overlay(index: known.overlay)
    if Overlay.count > 1, FastPath.hasInner(overlay) { return }
    hash = known.hash
    directory = known.directory
    before = known.length
    place = known
    self.dirfd = dirfd
    guard read(), room + before + end + 2 < Int(OVL_PATH_INLINE) - 8 else { return }
    lookUp()
  }

  /// Outside, as written; whether links lead inside is another question (`Outside`).
  @_optimize(speed)
  private mutating func finishOutside(_ p: UnsafeMutablePointer<ovl_path>) {
    if before < 0 {
      guard read() else { return }
    }
    let room = unsafe Int(ovl_self()!.pointee.longest_layer) + 1
    guard room + max(before, 0) + end + 2 < Int(OVL_PATH_INLINE) - 8 else { return }
    outcome = .outside
    guard let path = unsafe path(p), RealPaths.target(of: path) == nil else {
      outcome = .slow
      return
    }
  }

  /// The canonical path, contiguous: relative to the target, or absolute when outside. nil: the working
  /// directory has changed meanwhile.
  @_optimize(speed)
  func path(_ p: UnsafeMutablePointer<ovl_path>) -> PathView? {
    let small = unsafe FastPath.base(p)
    let room = unsafe Int(ovl_self()!.pointee.longest_layer) + 1
    if before < 0 {
      // A path outside keeps its leading slash.
      let from = outcome == .inside ? start : 0
      return unsafe PathView(text + from, max(end - from, outcome == .inside ? 0 : 1))
    }
    if let place, unsafe !place.copy(to: small + room) { return nil }
    var at = room + before
    if outcome == .inside ? before > 0 && end > start : true {
      unsafe small[at] = slash
      at += 1
    }
    unsafe copyBytes(small + at, text + start, end - start)
    at += end - start
    unsafe small[at] = 0
    return unsafe PathView(small + room, at - room)
  }

  /// Where the kernel finds the object in a layer: a directory descriptor and a path. nil: the working
  /// directory has changed meanwhile.
  ///
  /// The program's own words are right where the layer is the target, or has the very directory that
  /// they are relative to.
  @inline(__always)
  @_optimize(speed)
  func at(_ p: UnsafeMutablePointer<ovl_path>, layer: Int) -> (Int32, UnsafePointer<CChar>)? {
    if let place, place.isDirect, place.layer == layer, end > 0 {
      return unsafe (dirfd, UnsafeRawPointer(text).assumingMemoryBound(to: CChar.self))
    }
    guard let real = unsafe real(p, layer: layer) else { return nil }
    return unsafe (AT_FDCWD, real)
  }

  /// The real path in a layer, from the root or the working directory.
  @inline(__always)
  @_optimize(speed)
  func real(_ p: UnsafeMutablePointer<ovl_path>, layer: Int) -> UnsafePointer<CChar>? {
    let root = overlay.layerPath(layer)
    if before < 0, !trailing, start > 0, root.count == overlay.target.count,
      unsafe root.base == overlay.target.base || root.equals(overlay.target)
    {
      return unsafe UnsafeRawPointer(text).assumingMemoryBound(to: CChar.self)
    }
    return unsafe assemble(p, root)
  }

  @_optimize(speed)
  private func assemble(_ p: UnsafeMutablePointer<ovl_path>, _ root: PathView)
    -> UnsafePointer<CChar>?
  {
    let small = unsafe FastPath.base(p)
    let room = unsafe Int(ovl_self()!.pointee.longest_layer) + 1
    guard let rel = unsafe path(p) else { return nil }
    if before < 0 {
      unsafe copyBytes(small + room, rel.base, rel.count)
      unsafe small[room + rel.count] = 0
    }
    var from = room - root.count
    if rel.count > 0 {
      from -= 1
      unsafe small[room - 1] = slash
    }
    unsafe copyBytes(small + from, root.base, root.count)
    if rel.count == 0, root.count == 0 {
      unsafe small[from] = slash
      unsafe small[from + 1] = 0
    }
    return unsafe UnsafeRawPointer(small + from).assumingMemoryBound(to: CChar.self)
  }

  /// Whether the assembled path fits into the buffer.
  @inline(__always) var fits: Bool {
    unsafe Int(ovl_self()!.pointee.longest_layer) + max(before, 0) + end - start + 4
      < Int(OVL_PATH_INLINE) - 8
  }

  @inline(__always)
  @_optimize(speed)
  static func base(_ p: UnsafeMutablePointer<ovl_path>) -> UnsafeMutablePointer<UInt8> {
    unsafe ovl_path_small(p)
  }
}
