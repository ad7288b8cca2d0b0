import Glibc

/// Overlays inside overlays. Layers are read as they lie on disk, so one that another overlay shows
/// changed would be shown unchanged: that is refused and not passed over.
enum Nesting {
  static func check(_ lines: [OptionLine], inside inherited: [OptionLine]) throws {
    var targets = inherited.compactMap { $0.path("target").map(canonical) }
    for line in lines {
      if let target = line.path("target").map(canonical) {
        if targets.contains(target) { throw taken(target) }
        targets.append(target)
      }
      for layer in line.layers {
        try check(canonical(layer.path), role: layer.key, inside: inherited)
      }
    }
  }

  /// Refuses a path that the inherited overlays show otherwise than it lies on disk.
  static func check(_ path: Path, role: String, inside inherited: [OptionLine]) throws {
    for target in inherited.compactMap({ $0.path("target") }).map(canonical)
    where path.isAt(orBelow: target) {
      if path == target, role == "--over" { throw taken(target) }
      throw Failure(
        "\(role) \(path.text) lies in the overlay over \(target.text) that this program runs in",
        advice: "start it outside of that overlay, or name a directory outside of its target")
    }
  }

  private static func taken(_ target: Path) -> Failure {
    Failure(
      "\(target.text) has an overlay already", advice: "leave that one, or name another directory")
  }

  /// What does not exist is the core's to report.
  private static func canonical(_ path: Path) -> Path {
    guard let real = unsafe path.withCString({ unsafe realpath($0, nil) }) else { return path }
    defer { unsafe free(real) }
    return unsafe Path(cString: real)
  }
}
