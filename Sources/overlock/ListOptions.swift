import ArgumentParser
import Glibc

/// What every list of what the kernel has of overlays takes: `locks`, `watches`.
struct ListOptions: ParsableArguments {
  @Flag(help: "Print an array of objects in JSON.")
  var json = false

  @Flag(help: "Go on, and print the list again whenever it has changed.")
  var watch = false

  @Option(
    help: .init(
      "A folder of registries, as given with registry=; may be repeated (default: those in /dev/shm).",
      valueName: "dir"), completion: .directory)
  var registry: [String] = []

  /// Prints the table, and again when it is another one.
  ///
  /// - Parameter now: the table, by the folders of registries.
  func show<Table: Equatable>(
    now: ([Path]) throws -> Table, text: (Table) -> String, json: (Table) throws -> String
  ) throws {
    var shown: Table?
    repeat {
      let table = try now(RunningOverlay.folders(registry))
      if table != shown {
        if shown != nil { TextTable.write("\n") }
        TextTable.write(self.json ? try json(table) : text(table))
        shown = table
      }
      // /proc cannot be waited for.
      if watch { usleep(500_000) }
    } while watch
  }
}
