import Testing

@testable import overlock

/// Guards that /proc/locks is read as the kernel writes it, and that who waits is put behind whom it waits for.
@Suite("The kernel's locks") struct KernelLockTests {
  private let lines = """
    1: POSIX  ADVISORY  WRITE 3548 fe:00:16499737 1073741824 1073742335
    1: -> POSIX  ADVISORY  READ 3549 fe:00:16499737 0 EOF
    1:  -> POSIX  ADVISORY  WRITE 3550 fe:00:16499737 0 0
    2: FLOCK  ADVISORY  READ 29818 00:19:12 0 EOF
    3: OFDLCK ADVISORY  WRITE -1 08:01:7 5 14
    3: -> OFDLCK ADVISORY  WRITE -1 08:01:7 0 EOF
    4: LEASE  ACTIVE    READ 7 08:01:9 0 EOF
    """

  @Test("every kind, range and mode is read")
  func fields() throws {
    let locks = KernelLock.parse(lines)
    #expect(locks.count == 7)
    #expect(locks[0].kind == .posix && locks[0].pid == 3548 && locks[0].end == 1_073_742_335)
    #expect(locks[0].file == "fe:00:16499737" && locks[0].mode == "WRITE" && locks[0].depth == 0)
    #expect(locks[1].depth == 1 && locks[1].end == nil)
    #expect(locks[2].depth == 2 && locks[2].end == 0)
    #expect(locks[4].kind == .ofd && locks[4].pid == -1 && locks[4].start == 5)
    #expect(locks[6].kind == .lease && locks[6].state == "ACTIVE")
  }

  @Test("the line in /proc/locks and the one in fdinfo are one lock")
  func same() throws {
    let held = try #require(KernelLock(line: "3: OFDLCK ADVISORY  WRITE -1 08:01:7 5 14"))
    let shown = try #require(KernelLock(line: "1: OFDLCK ADVISORY  WRITE -1 08:01:7 5 14"))
    #expect(held != shown && held.asHeld == shown.asHeld)
  }

  @Test(
    "a waiter stands behind the lock that it waits for, and so does one that waits for a waiter")
  func chains() {
    var holdings = Holdings()
    holdings.group(KernelLock.parse(lines))
    #expect(holdings.groups.map(\.lock.number) == [1, 2, 3, 4])
    #expect(holdings.groups[0].waiters.map(\.lock.pid) == [3549, 3550])
    #expect(holdings.groups[0].waiters.map(\.blocker.pid) == [3548, 3549])
    #expect(holdings.groups[2].waiters.count == 1)
  }

  @Test(
    "what is no lock is left out",
    arguments: [
      "", "1:", "1: POSIX", "x: POSIX  ADVISORY  WRITE 1 08:01:7 0 EOF",
      "1: POSIX  ADVISORY  WRITE 1 08017 0 EOF", "1: POSIX  ADVISORY  WRITE 1 08:01:7 0 end",
      "1: <none>:0", "1: -> ",
    ])
  func noise(line: String) {
    #expect(KernelLock(line: line) == nil)
  }

  @Test("a waiter whose lock is not there is dropped")
  func orphan() {
    var holdings = Holdings()
    holdings.group(KernelLock.parse("7: -> POSIX  ADVISORY  READ 3549 fe:00:1 0 EOF"))
    #expect(holdings.groups.isEmpty)
  }
}
