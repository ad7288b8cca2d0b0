import CLinux

/// Circles of processes that wait for each other's record locks, where a part of the circle leads over the two
/// inodes of an object: the kernel does not see who waits for the other inode. Source: fs/locks.c,
/// posix_locks_deadlock.
///
/// The kernel refuses whoever closes the circle; here it is one of those who wait for the other inode.
enum Deadlock {
  /// As many steps as the kernel goes.
  private static var longest: Int { 10 }

  /// Whether `me`, if it waits for `holder`, waits for itself.
  static func closes(_ me: Int32, _ holder: Int32, _ registry: Registry?) -> Bool {
    var at = holder
    for _ in 0..<longest {
      if at <= 0 { return false }
      if at == me { return true }
      at = acrossBlocker(of: at, registry) ?? (try? kernelBlocker(of: at)) ?? 0
    }
    return false
  }

  /// Whom a process waits for on the other inode of an object of the overlay.
  private static func acrossBlocker(of pid: Int32, _ registry: Registry?) -> Int32? {
    guard let registry else { return nil }
    let waiters = Waiters(registry)
    let now = lx_realtime_ns()
    for index in Waiters.indices {
      guard let waiter = waiters[index], waiter.pid == pid, waiter.kind == .record,
        waiter.holder > 0,
        waiter.looked &+ Waiters.stale > now
      else { continue }
      return waiter.holder
    }
    return nil
  }

  /// Whom a process sleeps for in the kernel's queue of record locks; nil: for nobody.
  private static func kernelBlocker(of pid: Int32) throws(Errno) -> Int32? {
    let opened = try unsafe check(
      lx_openat(AT_FDCWD, "/proc/locks", O_RDONLY | O_CLOEXEC | O_NOCTTY, 0))
    let fd = Int32(truncatingIfNeeded: opened)
    defer { _ = lx_close(fd) }
    return try withScratch { (s) throws(Errno) -> Int32? in
      var line = s.here
      var queue = LockQueue(pid)
      while true {
        let count = try unsafe check(lx_read(fd, s.spare, 4096))
        if count == 0 { return nil }
        for i in 0..<count {
          let byte = unsafe s.spare[i]
          if byte != UInt8(ascii: "\n") {
            // Longer than any line is: not one.
            if line.count < 256 { try line.append(byte) }
            continue
          }
          if let blocker = queue.take(line.view) { return blocker }
          line.count = 0
        }
      }
    }
  }
}

/// Reads the lines of /proc/locks, proc_locks(5), for the one on which a process waits.
struct LockQueue {
  private let pid: Int32
  /// The processes of the lines above, by depth: each line waits for the nearest one that is less deep.
  private var above: InlineArray<8, Int32> = InlineArray(repeating: 0)

  init(_ pid: Int32) { self.pid = pid }

  /// - Returns: the process that the line's waits for, if the line is the one.
  mutating func take(_ line: PathView) -> Int32? {
    var at = 0
    func skip(_ wanted: (UInt8) -> Bool) -> Int {
      let from = at
      while at < line.count, wanted(line[at]) { at += 1 }
      return at - from
    }
    _ = skip { $0 != UInt8(ascii: ":") }
    at += 1
    let indent = skip { $0 == UInt8(ascii: " ") }
    var depth = 0
    if at + 1 < line.count, line[at] == UInt8(ascii: "-"), line[at + 1] == UInt8(ascii: ">") {
      depth = indent
      at += 2
      _ = skip { $0 == UInt8(ascii: " ") }
    }
    guard at < line.count, depth < above.count else { return nil }
    let isRecord = line.from(at).hasPrefix("POSIX ")
    for _ in 0..<3 {
      _ = skip { $0 != UInt8(ascii: " ") }
      _ = skip { $0 == UInt8(ascii: " ") }
    }
    var process: Int32 = 0
    while at < line.count, line[at] >= UInt8(ascii: "0"), line[at] <= UInt8(ascii: "9") {
      process = process &* 10 &+ Int32(line[at] - UInt8(ascii: "0"))
      at += 1
    }
    above[depth] = isRecord ? process : 0
    guard depth > 0, isRecord, process == pid else { return nil }
    return above[depth - 1]
  }
}
