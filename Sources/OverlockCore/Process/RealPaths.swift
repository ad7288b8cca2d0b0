import CLinux

/// From a real path, as /proc shows it, back to the merged tree.
enum RealPaths {
  /// The overlay and the path in it of a real path: anything in an upper, and anything in a lower
  /// that is its overlay's own target. A lower elsewhere is a plain directory to whoever names it.
  ///
  /// - Parameter lowers: also take paths of other lowers (for descriptors known to be the overlay's).
  /// - Returns: the offset in `real` at which the merged path starts.
  static func merged(_ real: PathView, lowers: Bool = false) -> (
    overlay: Overlay, rel: PathView, layer: Int
  )? {
    for i in 0..<Overlay.count {
      let overlay = Overlay(index: i)
      for layer in (overlay.hasUpper ? 0 : 1)..<overlay.layerCount {
        let root = overlay.layerPath(layer)
        guard real.isAt(orBelow: root) else { continue }
        if layer > 0, !lowers, !root.equals(overlay.target) { continue }
        return (overlay, below(real, root), layer)
      }
    }
    // What the target itself covers, seen by who was in it before: no layer has it.
    if let (overlay, rel) = target(of: real) { return (overlay, rel, overlay.layerCount) }
    return nil
  }

  /// The overlay whose merged tree a merged absolute path is in.
  @inline(__always) static func target(of path: PathView) -> (overlay: Overlay, rel: PathView)? {
    var best: (overlay: Overlay, rel: PathView)? = nil
    var bestLength = -1
    for i in 0..<Overlay.count {
      let overlay = Overlay(index: i)
      let target = overlay.target
      if target.count > bestLength, path.isAt(orBelow: target) {
        best = (overlay, below(path, target))
        bestLength = target.count
      }
    }
    return best
  }

  @inline(__always) private static func below(_ path: PathView, _ root: PathView) -> PathView {
    path.count > root.count ? path.from(root.count + 1) : path.from(path.count)
  }
}

extension PathView {
  func hasSuffix(_ literal: StaticString) -> Bool {
    count >= literal.utf8CodeUnitCount
      && from(count - literal.utf8CodeUnitCount).equals(literal)
  }
}
