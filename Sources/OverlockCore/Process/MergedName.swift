import CLinux

/// What a program calls an object that the kernel knows by a path in a layer.
enum MergedName {
  struct Place {
    var overlay: Overlay
    /// 0: the upper. `layerCount`: what the target covers.
    var layer: Int
    var isRemoved: Bool
  }

  /// Turns a real path, as /proc shows it, into the merged tree's absolute one, with " (deleted)" where the
  /// program's object has no name any more. nil: no layer has it, and the path is left as it was.
  ///
  /// - Parameters:
  ///   - path: replaced.
  ///   - lowers: also take lowers that are no target: for objects known to be the overlay's.
  static func replace(
    _ path: inout PathBuffer, lowers: Bool, _ s: Scratch
  ) throws(Errno) -> Place? {
    var removed = RealPathReader.isRemoved(path.view)
    var real = s.link
    try real.append(path.view.prefix(path.count - (removed ? 10 : 0)))
    var here = s.here
    var place: Place
    if removed, let (index, _) = try WorkingDirectory.readStaged(&real) {
      place = Place(overlay: Overlay(index: index), layer: 0, isRemoved: true)
      try here.append(real.view)
    } else {
      guard let (overlay, rel, layer) = RealPaths.merged(real.view, lowers: lowers) else {
        return nil
      }
      place = Place(overlay: overlay, layer: layer, isRemoved: removed)
      try here.append(rel)
      if !removed { removed = try overlay.followLower(&here, layer: layer).isRemoved }
      place.isRemoved = removed
    }
    path.count = 0
    try path.append(place.overlay.target)
    try path.appendBelow(here.view)
    if path.count == 0 { try path.append(slash) }
    if removed { try path.append(" (deleted)") }
    return place
  }
}
