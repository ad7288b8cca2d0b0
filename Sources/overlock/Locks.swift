import ArgumentParser
import Glibc

/// `overlock locks`: like lslocks(8), with the paths that programs in an overlay know.
struct Locks: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "List the locks on files of overlays.",
    discussion: """
      Every lock that the kernel knows on a file that an overlay shows, whoever holds it: a program in the \
      overlay, one in another overlay over the same lower, or one that never heard of Overlock. What belongs \
      to another user is shown to root alone.

      A file that was copied up while it was locked is contested: it has an inode on its lower and one in \
      the upper, and locks on either exclude each other. LAYER says where a lock is.
      """)

  @OptionGroup var options: ListOptions

  func run() throws {
    try options.show(
      now: { LockTable.now(registries: $0) }, text: Locks.text,
      json: { try TextTable.json($0.locks) })
  }

  static func text(_ table: LockTable) -> String {
    var rows = [["COMMAND", "PID", "KIND", "MODE", "START", "END", "LAYER", "STATE", "PATH"]]
    for lock in table.locks {
      let place = [lock.layer, state(lock), printable(lock.path)]
      rows += lines(lock.holders).map {
        $0 + [lock.kind, lock.mode, "\(lock.start)", lock.end.map { "\($0)" } ?? "EOF"] + place
      }
      for waiter in lock.waiters {
        let blockers = waiter.waitsFor.map { "\($0.pid)" }.joined(separator: " ")
        rows.append(
          lines([waiter.process].compactMap { $0 })[0]
            + [waiter.kind, waiter.mode, "\(waiter.start)", waiter.end.map { "\($0)" } ?? "EOF"]
            + [lock.layer, "waits for \(blockers)", printable(lock.path)])
      }
    }
    return TextTable.text(rows)
  }

  private static func lines(_ processes: [LockTable.Process]) -> [[String]] {
    processes.isEmpty ? [["-", "-"]] : processes.map { [$0.command, "\($0.pid)"] }
  }

  private static func state(_ lock: LockTable.Lock) -> String {
    let words = [lock.contested ? "contested" : nil, lock.removed ? "removed" : nil].compactMap {
      $0
    }
    return words.isEmpty ? "-" : words.joined(separator: ",")
  }
}
