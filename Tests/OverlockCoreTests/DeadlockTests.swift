import Testing

@testable import OverlockCore

/// /proc/locks is read as the kernel writes it: whom a process waits for is the line above that is less deep.
@Suite("Deadlocks")
struct DeadlockTests {
  private func blocker(of pid: Int32, in lines: [String]) -> Int32? {
    var queue = LockQueue(pid)
    for line in lines {
      let bytes = Array(line.utf8)
      let found = unsafe bytes.withUnsafeBufferPointer {
        unsafe queue.take(PathView($0.baseAddress!, $0.count))
      }
      if let found { return found }
    }
    return nil
  }

  private let lines = [
    "1: POSIX  ADVISORY  WRITE 3548 fe:00:16499737 1073741824 1073742335",
    "1: -> POSIX  ADVISORY  READ 3549 fe:00:16499737 0 EOF",
    "1:  -> POSIX  ADVISORY  WRITE 3550 fe:00:16499737 0 0",
    "1: -> POSIX  ADVISORY  WRITE 3551 fe:00:16499737 0 0",
    "2: FLOCK  ADVISORY  READ 29818 00:19:12 0 EOF",
    "2: -> FLOCK  ADVISORY  WRITE 3552 00:19:12 0 EOF",
    "3: OFDLCK ADVISORY  WRITE -1 08:01:7 5 14",
    "3: -> OFDLCK ADVISORY  WRITE -1 08:01:7 0 EOF",
  ]

  @Test(
    "who waits, and for whom",
    arguments: [(3548, nil), (3549, 3548), (3550, 3549), (3551, 3548), (3552, nil), (1, nil)]
      as [(Int32, Int32?)])
  func chains(pid: Int32, holder: Int32?) { #expect(blocker(of: pid, in: lines) == holder) }

  @Test(
    "noise is nobody",
    arguments: [
      "1", "1:", "1: ->", "1: -> POSIX", ":::", "1:                    -> POSIX  A  B 5 6 7 8",
    ])
  func noise(line: String) { #expect(blocker(of: 5, in: [line, "x"]) == nil) }
}
