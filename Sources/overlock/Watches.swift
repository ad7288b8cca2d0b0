import ArgumentParser
import Glibc

/// `overlock watches`: who is told by inotify of what happens to which object of an overlay.
struct Watches: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "List the inotify watches on objects of overlays.",
    discussion: """
      Every watch on a file or directory that an overlay shows, whoever has it: a program in the overlay, one \
      in another overlay over the same lower, or one that never heard of Overlock, which is outside: it is told \
      of what happens to the real object alone. What belongs to another user is shown to root alone.

      ON says which real objects stand behind a watch: an upper, lowers, an anchor (the inode that a lower \
      file will have in the upper). Files are looked for by their inode numbers in the layers, but only where \
      something that may be in them is watched.
      """)

  @OptionGroup var options: ListOptions

  func run() throws {
    var finder = WatchFinder()
    try options.show(
      now: { finder.now(registries: $0) }, text: Watches.text,
      json: { try TextTable.json($0.watches) })
  }

  static func text(_ table: WatchTable) -> String {
    var rows = [["COMMAND", "PID", "FD", "WD", "EVENTS", "ON", "STATE", "PATH"]]
    for watch in table.watches {
      let words = [watch.outside ? "outside" : nil, watch.removed ? "removed" : nil]
        .compactMap { $0 }
      rows.append([
        watch.process.command, "\(watch.process.pid)",
        watch.descriptors.map { "\($0)" }.joined(separator: ","), "\(watch.watch)",
        events(watch.events), watch.objects.map(\.layer).joined(separator: ","),
        words.isEmpty ? "-" : words.joined(separator: ","), printable(watch.path ?? "?"),
      ])
    }
    return TextTable.text(rows)
  }

  private static func events(_ names: [String]) -> String {
    if names.isEmpty { return "-" }
    return names.count == 12 ? "IN_ALL_EVENTS" : names.joined(separator: "|")
  }
}
