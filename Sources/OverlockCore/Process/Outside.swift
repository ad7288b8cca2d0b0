import CLinux

/// Paths that are lexically outside of every overlay. A symbolic link on the way may lead inside, so
/// such a path is walked once; that it stays outside is then remembered for at most a second of the
/// coarse clock, and no longer than until a preloaded process changes a link or renames a directory
/// outside.
enum Outside {
  @inline(__always)
  private static func key(_ path: PathView) -> (PathHash, Vintage)? {
    guard let registry = Overlay(index: 0).registry else { return nil }
    var hash = unsafe PathHash(ovl_self()!.pointee.outside_key, registry.key0)
    unsafe hash.append(path.base, path.count)
    return (
      hash,
      Vintage(epoch: registry.outside, generation: lx_coarse_seconds() << 1 | 1, isStable: true)
    )
  }

  @inline(__always) private static func isRemembered(_ path: PathView) -> Bool {
    guard let (hash, vintage) = key(path), let registry = Overlay(index: 0).registry else {
      return false
    }
    return registry.cached(hash, vintage) != nil
  }

  /// Whether the way to the path (and, when following, its last component) is known to stay outside.
  @inline(__always) static func isSafe(_ path: PathView?, follow: Bool) -> Bool {
    guard let path else { return false }
    if unsafe path.isAt(orBelow: PathView("/proc", 5)) || path.isAt(orBelow: PathView("/dev", 4)) {
      return false
    }
    return isRemembered(follow ? path : path.parent)
  }

  /// Remembers the result of a walk that never touched an overlay.
  static func remember(_ path: PathView, follow: Bool) {
    let subject = follow ? path : path.parent
    guard let (hash, vintage) = key(subject), let registry = Overlay(index: 0).registry else {
      return
    }
    registry.insert(hash, vintage, 1, 1)
  }

  /// A link or a directory outside is about to change.
  static func noteChange() { Overlay(index: 0).registry?.noteOutsideChange() }
}
