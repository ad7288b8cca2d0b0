import Glibc

/// Overlays inside overlays. Layers are read as they lie on disk, so one that another overlay shows
/// changed would be shown unchanged: that is refused and not passed over.
enum Nesting {
  static func check(_ lines: [OptionLine], inside inherited: [OptionLine]) throws {
    var targets = inherited.compactMap { $0.path("target").map(canonical) }
    for line in lines {
      for layer in line.layers {
        try check(canonical(layer.path), role: layer.key, inside: inherited)
      }
      guard let target = line.path("target").map(canonical) else { continue }
      if targets.contains(target) {
        throw Failure(
          "target \(target.text) has an overlay already",
          advice: "leave that one first, or name another target")
      }
      targets.append(target)
    }
  }

  /// Refuses a path that the inherited overlays show otherwise than it lies on disk.
  static func check(_ path: Path, role: String, inside inherited: [OptionLine]) throws {
    for target in inherited.compactMap({ $0.path("target") }).map(canonical)
    where path.isAt(orBelow: target) {
      throw Failure(
        "\(role) \(path.text) lies in the overlay over \(target.text) that this program runs in",
        advice: "start it outside of that overlay, or name a directory outside of its target")
    }
  }

  /// What does not exist is the core's to report.
  private static func canonical(_ path: Path) -> Path {
    guard let real = unsafe path.withCString({ unsafe realpath($0, nil) }) else { return path }
    defer { unsafe free(real) }
    return unsafe Path(cString: real)
  }
}
