import ArgumentParser
import Glibc
import OverlockCore

/// `overlock check`: what dead processes left in workdirs and registries.
struct Check: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Find what processes that died left behind in workdirs and registries.",
    usage:
      "overlock check [--repair] [--json] [--registry DIR]... [--name NAME]... [-o OPTIONS]...",
    discussion: """
      Programs that were killed leave files in workdir/overlock: objects that were on their way to a name, anchors \
      of files that nobody maps or watches any more, lists of who watched them. They do no harm, and are swept when \
      programs start or change things; so are registries of overlays that are no more. With nothing else given, \
      all overlays of this user are looked at that have a registry or a name. They may be in use: what a living \
      process needs or is at work on is no leftover.

      EXIT STATUS
        0    there is nothing
        1    something was found (with --repair: and removed)
        2    something was found that could not be removed
        125  Overlock itself failed, or an overlay could not be looked at
      """)

  @Flag(help: "Remove what is found.")
  var repair = false

  @Flag(help: "Print an array of objects in JSON.")
  var json = false

  @Option(
    help: .init(
      "A folder of registries, as given with registry=; may be repeated (default: those in /dev/shm).",
      valueName: "dir"), completion: .directory)
  var registry: [String] = []

  @Option(help: "Look at the overlays of this name of 'overlock run' alone; may be repeated.")
  var name: [String] = []

  @Option(
    name: .customShort("o"),
    help: .init(
      "Look at the overlay with these options alone; may be repeated.", valueName: "options"))
  var optionLines: [String] = []

  /// A leftover, as it is told.
  struct Finding: Encodable, Hashable {
    /// The overlay's id, in hexadecimal, as its registry is named.
    var overlay: String
    var kind: String
    var path: String
    var removed: Bool
  }

  func run() throws {
    let isAll = registry.isEmpty && name.isEmpty && optionLines.isEmpty
    // Another user's registry could name any directory as a workdir, in which root would then remove files.
    let own = isAll ? ["/dev/shm/overlock-\(geteuid())"].map { Path($0) } : []
    let folders = registry.isEmpty ? own : try RunningOverlay.folders(registry)
    let working = Path.working()
    var lines = optionLines.map { OptionLine($0).absolute(from: working) }
    for name in isAll ? try StateFolder.names() : name {
      lines += try StateFolder.overlays(named: name)
    }
    var findings: [Finding] = []
    var looked: Set<String> = []
    for overlay in RunningOverlay.all(in: folders).map(\.seen) {
      if looked.insert(overlay.name).inserted { findings += try look(at: overlay) }
    }
    for line in lines {
      guard let overlay = try Check.overlay(line), looked.insert(overlay.name).inserted else {
        continue
      }
      findings += try look(at: overlay)
    }
    for folder in folders { findings += try segments(in: folder) }
    TextTable.write(json ? try TextTable.json(findings) : text(findings))
    if repair, findings.contains(where: { !$0.removed }) { throw ExitCode(2) }
    if !findings.isEmpty { throw ExitCode(1) }
  }

  private func text(_ findings: [Finding]) -> String {
    findings.map { finding in
      let end = !repair ? "" : finding.removed ? ": removed" : ": cannot be removed"
      return "\(finding.kind) \(printable(finding.path))\(end)\n"
    }.joined()
  }

  /// nil: no program was ever in it.
  private static func overlay(_ line: OptionLine) throws -> InspectedOverlay? {
    guard let work = line.path("workdir") else { return nil }
    guard unsafe work.appending("overlock").withCString({ unsafe access($0, F_OK) }) == 0 else {
      // That it cannot be asked is no sign that it is not there.
      guard errno != ENOENT else {
        _ = try work.resolved(as: "workdir")
        return nil
      }
      throw Failure(
        "workdir \(work.text)", code: errno, advice: Advice.next(errno, about: "workdir"))
    }
    var message = ""
    do throws(Errno) {
      return try unsafe InspectedOverlay(options: line.text, message: &message)
    } catch {
      throw Advice.refused(message, code: error.rawValue, lines: [line])
    }
  }

  private func look(at overlay: InspectedOverlay) throws -> [Finding] {
    do throws(Errno) {
      let found = try overlay.leftovers()
      if !repair || found.isEmpty { return found.map { finding($0, overlay, removed: false) } }
      try overlay.sweepLeftovers()
      let left = Set(try overlay.leftovers())
      return found.map { finding($0, overlay, removed: !left.contains($0)) }
    } catch {
      // The workdir of one that is no more.
      if error.rawValue == ENOENT { return [] }
      let work = Path(overlay.workFolder)
      throw Failure(
        "workdir \(work.text)", code: error.rawValue,
        advice: Advice.next(error.rawValue, about: "workdir"))
    }
  }

  private func finding(
    _ leftover: InspectedOverlay.Leftover, _ overlay: InspectedOverlay, removed: Bool
  ) -> Finding {
    Finding(
      overlay: overlay.name, kind: leftover.kind.rawValue, path: Path(leftover.path).text,
      removed: removed)
  }

  private func segments(in folder: Path) throws -> [Finding] {
    do throws(Errno) {
      let names = try unsafe folder.withCString { (path) throws(Errno) in
        unsafe try InspectedOverlay.abandonedSegments(in: path, removing: repair)
      }
      return names.map { name in
        Finding(
          overlay: Path(Array(name.prefix(16))).text,
          kind: InspectedOverlay.Leftover.Kind.segment.rawValue,
          path: folder.appending(name).text,
          removed: repair && !Check.stands(folder.appending(name)))
      }
    } catch {
      // Nobody of this user was in an overlay since the machine started.
      if error.rawValue == ENOENT { return [] }
      throw Failure("--registry \(folder.text)", code: error.rawValue)
    }
  }

  private static func stands(_ path: Path) -> Bool {
    unsafe path.withCString { unsafe access($0, F_OK) } == 0
  }
}
