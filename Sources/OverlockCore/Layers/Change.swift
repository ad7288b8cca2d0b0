import CLinux

/// What one change of a name works with: the turn is held, the lookup was made under it, the
/// directory is in the upper.
struct Change {
  let overlay: Overlay
  let rel: PathView
  var look: Lookup
  var turn: Turn
  let s: Scratch
  /// Second block, for what must outlive a lookup.
  let s2: Scratch

  /// The upper's path of the name.
  var upper: PathBuffer
}

extension Overlay {
  /// Takes the turn of the name's directory and looks the name up under it.
  ///
  /// - Parameters:
  ///   - missing: whether the name may be missing (ENOENT otherwise).
  ///   - epoch: whether cached lookups below the name may become wrong.
  ///   - identity: the inode number that an object shows whose turn is needed too.
  func change(
    _ rel: PathView, missing: Bool, epoch: Bool = false, identity: UInt64? = nil, _ s: Scratch,
    _ s2: Scratch
  ) throws(Errno) -> Change {
    guard hasUpper else { throw .readOnly }
    guard !rel.isEmpty else { throw .busy }
    var hash = emptyHash
    let parent = rel.parent
    hash.appendComponents(parent)
    try copyUpParents(rel, changing: true)
    var turn = try Turn(self, s2)
    do throws(Errno) {
      if let identity { try turn.takeIdentity(identity) }
      return try changeUnder(&turn, rel, hash, missing: missing, epoch: epoch, s, s2)
    } catch {
      turn.release()
      throw error
    }
  }

  private func changeUnder(
    _ turn: inout Turn, _ rel: PathView, _ hash: PathHash, missing: Bool, epoch: Bool,
    _ s: Scratch, _ s2: Scratch
  ) throws(Errno) -> Change {
    if epoch { try turn.takeEpoch() }
    if try turn.take(hash) { turn.sweep(hash) }
    var merge = Merge(self, s)
    let look = try lookup(rel, s, wantBelow: true, merge: &merge)
    guard look.isWhole else { throw look.node.kind == .none ? .noEntry : .notDirectory }
    if look.node.kind == .none, !missing { throw .noEntry }
    var upper = s2.real
    try upperPath(rel, into: &upper)
    Fault.step()
    return Change(
      overlay: self, rel: rel, look: look, turn: turn, s: s, s2: s2, upper: upper)
  }

  /// Runs a change with its scratch memory. ENOENT of the upper's directory means that somebody
  /// renamed or removed it between the walk and the turn: the caller walks again.
  func changing<R>(
    _ rel: PathView, missing: Bool, epoch: Bool = false, identity: UInt64? = nil,
    _ body: (inout Change) throws(Errno) -> R
  ) throws(Errno) -> R {
    try withScratch { (s) throws(Errno) -> R in
      try withScratch { (s2) throws(Errno) -> R in
        var change = try self.change(
          rel, missing: missing, epoch: epoch, identity: identity, s, s2)
        defer { change.turn.release() }
        return try body(&change)
      }
    }
  }
}

extension PathHash {
  /// The hash of a canonical relative path, continued component by component.
  mutating func appendComponents(_ rel: PathView) {
    var start = 0
    while start < rel.count {
      var end = start
      while end < rel.count, rel[end] != slash { end += 1 }
      unsafe append(rel.base + start, end - start)
      start = end + 1
    }
  }
}
