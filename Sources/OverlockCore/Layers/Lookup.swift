import CLinux

/// Where a merged lookup ended.
struct Lookup {
  var node: Node
  /// Bytes of the path that were consumed: less than all of them where a component on the way is not
  /// a directory; then `node` is that component.
  var length: Int
  /// Hashes of the name and of the directory it is in, for generations and turns.
  var hash: PathHash
  var directory: PathHash

  var isWhole: Bool { length == total }
  var total: Int

  init(node: Node, length: Int, hash: PathHash, directory: PathHash, total: Int) {
    self.node = node
    self.length = length
    self.hash = hash
    self.directory = directory
    self.total = total
  }

  /// What is known of an object without a name, that had this one.
  init(removed node: Node, at path: PathView) {
    self.init(
      node: node, length: path.count, hash: PathHash(0, 0), directory: PathHash(0, 0),
      total: path.count)
  }
}

extension Overlay {
  /// Looks a canonical relative path up in the merged tree, component by component from the nearest
  /// directory that the cache knows, and puts every component into the cache.
  ///
  /// - Parameters:
  ///   - rel: no ".", "..", "//" or slash at either end; "" is the root.
  ///   - wantBelow: also find out whether the lowers have the name (`Node.below`); costs calls, so
  ///     only changes ask.
  ///   - fresh: ask the layers, not the cache.
  ///   - merge: left standing at the directory, if the result is one; at its parent otherwise.
  /// - Returns: `scratch.real2` holds the real path of what was found (upper or lower).
  /// - Errors: EACCES, ENAMETOOLONG, ELOOP (too many redirects), as a layer answered.
  @_optimize(speed)
  func lookup(
    _ rel: PathView, _ scratch: Scratch, wantBelow: Bool = false, fresh: Bool = false,
    merge: inout Merge
  ) throws(Errno) -> Lookup {
    merge = Merge(self, scratch)
    var result = Lookup(
      node: rootNode, length: 0, hash: emptyHash, directory: emptyHash, total: rel.count)
    if rel.isEmpty {
      var real = scratch.real2
      if merge.count > 0 { try merge.realPath(0, into: &real) }
      _ = unsafe real.cString
      return result
    }
    var start = 0
    if !fresh { start = try enterCached(rel, scratch, &merge, &result) }
    while start < rel.count {
      var end = start
      while end < rel.count, rel[end] != slash { end += 1 }
      let name = rel.from(start).prefix(end - start)
      result.directory = merge.hash
      var next = merge.hash
      unsafe next.append(name.base, name.count)
      let before = registry?.vintage(directory: result.directory, name: next)
      var node = try merge.descend(name, wantBelow: wantBelow && end == rel.count)
      if node.kind == .directory, node.layer == 0 { settleModes() }
      result.hash = next
      result.length = end
      if node.has(Node.linked), node.layer > 0, hasUpper { try redirectToIndex(&node, scratch) }
      // The lower part of an absent name is asked anew each time; of a change it says too much.
      if let before, before.isStable, let registry, !(wantBelow && end == rel.count),
        node.layer >= 0, registry.vintage(directory: result.directory, name: next) == before
      {
        registry.insert(next, before, node.packed, node.shownInode)
      }
      result.node = node
      if node.kind != .directory { return result }
      start = end + 1
    }
    return result
  }

  /// The root of the overlay, as a node.
  var rootNode: Node {
    var node = Node(.directory, layer: hasUpper ? 0 : 1)
    let total = layerCount - (hasUpper ? 0 : 1)
    if total == 1 {
      node.flags = hasFileWhiteouts(node.layer) ? 0 : Node.single
    } else {
      node.flags = Node.merged | Node.below
    }
    if hasUpper { node.flags |= Node.impure }
    node.shownInode = unsafe raw.pointee.root_ino
    return node
  }

  /// Starts from the deepest directory on the way that the cache knows; returns the offset of the
  /// component to look up next.
  private func enterCached(
    _ rel: PathView, _ scratch: Scratch, _ merge: inout Merge, _ result: inout Lookup
  ) throws(Errno) -> Int {
    guard let registry else { return 0 }
    var hash = emptyHash
    var start = 0
    var best = 0
    while true {
      var end = start
      while end < rel.count, rel[end] != slash { end += 1 }
      if end >= rel.count { break }
      let directory = hash
      unsafe hash.append(rel.base + start, end - start)
      start = end + 1
      let vintage = registry.vintage(directory: directory, name: hash)
      guard vintage.isStable, let (v0, v1) = registry.cached(hash, vintage) else { continue }
      let node = Node(packed: v0, inode: v1)
      guard node.kind == .directory, !node.has(Node.redirected),
        node.has(Node.single) || node.contributors != 0
      else { continue }
      guard node.layer < layerCount, node.layer > 0 || hasUpper,
        node.has(Node.single) || node.contributors >> UInt32(min(layerCount, 32)) == 0
          || layerCount >= 32
      else { continue }
      best = start
      merge = try Merge(self, scratch, at: rel.prefix(end), node, hash: hash)
      result.node = node
      result.hash = hash
      result.directory = directory
      result.length = end
    }
    return best
  }

  /// What the cache says of a path whose hashes are known. No system call.
  @inline(__always)
  func cachedNode(hash: PathHash, directory: PathHash) -> Node? {
    guard let registry else { return nil }
    let words = registry.words(directory: directory, name: hash)
    guard let (v0, v1) = registry.cached(hash, words) else { return nil }
    let node = Node(packed: v0, inode: v1)
    // The words may be anybody's: a layer that does not exist reads as a miss.
    guard node.layer < layerCount, node.layer > 0 || hasUpper || node.kind == .none else {
      return nil
    }
    return node
  }

  /// What the cache says of a canonical path that is not the root.
  func cachedNode(_ rel: PathView) -> Node? {
    var directory = emptyHash
    directory.appendComponents(rel.parent)
    var hash = directory
    let name = rel.name
    unsafe hash.append(name.base, name.count)
    return cachedNode(hash: hash, directory: directory)
  }

  /// What is known of a directory that somebody has open: from the cache, if it can say. nil: the path leads to
  /// something else by now.
  func directory(_ rel: PathView, _ s: Scratch) throws(Errno) -> Node? {
    if let node = rel.isEmpty ? rootNode : cachedNode(rel), node.kind == .directory { return node }
    var merge = Merge(self, s)
    let look = try lookup(rel, s, merge: &merge)
    return look.isWhole && look.node.kind == .directory ? look.node : nil
  }

  /// A lower file with several names whose data already lives in the hard-link index.
  private func redirectToIndex(_ node: inout Node, _ scratch: Scratch) throws(Errno) {
    var st = stat()
    let r = unsafe lx_fstatat(AT_FDCWD, scratch.real2.unterminated, &st, AT_SYMLINK_NOFOLLOW)
    guard r == 0 else { return }
    let shown = shownInode(st.inode, layer: node.layer)
    var path = scratch.staging
    try indexPath(shown, into: &path)
    guard unsafe lx_fstatat(AT_FDCWD, path.cString, &st, AT_SYMLINK_NOFOLLOW) == 0 else { return }
    node.flags |= Node.indexed
    node.layer = 0
    node.shownInode = shown
    var real = scratch.real2
    try real.append(path.view)
    _ = unsafe real.cString
  }

  /// Whether a group of hard links has its upper inode; its path is then in `s.real2`.
  func isIndexed(_ shown: UInt64, _ s: Scratch) throws(Errno) -> Bool {
    var path = s.real2
    try indexPath(shown, into: &path)
    var st = stat()
    return unsafe lx_fstatat(AT_FDCWD, path.cString, &st, AT_SYMLINK_NOFOLLOW) == 0
  }

  static var indexFolder: StaticString { "/index" }

  /// `workdir/overlock/index/<shown inode>`: the upper inode of a group of hard links.
  func indexPath(_ shown: UInt64, into path: inout PathBuffer) throws(Errno) {
    path.count = 0
    try path.append(work)
    try path.append("/index/")
    try path.append(hex: shown)
  }
}

extension PathBuffer {
  /// The bytes as they are, where somebody has already written the NUL.
  var unterminated: UnsafePointer<CChar> {
    unsafe UnsafeRawPointer(base).assumingMemoryBound(to: CChar.self)
  }
  /// The same memory, up to the NUL that somebody has written.
  var written: PathBuffer { unsafe unchecked(count: pathLength(UnsafePointer(base))) }
}
