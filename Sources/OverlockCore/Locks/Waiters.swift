import CLinux

/// Who waits for a lock on the other inode of an object, or (`Mandatory`) to read or write: the kernel shows nobody in
/// its queue (/proc/locks), since nobody sleeps there. For people who look (`overlock locks`), and to find circles
/// (`Deadlock`).
///
/// Slots of seven words: the process, when it looked last (nanoseconds of the real-time clock), the inode number
/// that the object shows, what is asked for, first and last byte, who holds it. A slot whose process does not look any more
/// (killed, or its handler jumped away) is stale, and taken by the next one.
struct Waiters {
  private static var offset: Int { 3648 }
  private static var words: Int { 7 }
  private static var count: Int { 8 }
  static var end: Int { offset + count * words * 8 }
  /// Nanoseconds. Who waits looks every few milliseconds, unless it is stopped.
  static var stale: UInt64 { 2_000_000_000 }

  struct Waiter {
    var pid: Int32
    var inode: UInt64
    var kind: LockRequest.Kind
    var isExclusive: Bool
    var start: UInt64
    /// The last byte; UInt64.max: to the end of the file.
    var end: UInt64
    /// The process that has what is waited for; 0 or less: not known.
    var holder: Int32
    var looked: UInt64
  }

  private let registry: Registry

  init(_ registry: Registry) { self.registry = registry }

  private static func place(_ index: Int) -> Int { offset + index * words * 8 }

  private func slot(_ index: Int) -> UnsafeMutablePointer<UInt64> {
    unsafe registry.common(Waiters.place(index))
  }

  /// Shows a waiter. nil: no slot is free.
  func show(_ waiter: Waiter, in overlay: Overlay) -> Int? {
    let now = lx_realtime_ns()
    let kind: UInt64 = waiter.kind == .record ? 0 : waiter.kind == .description ? 1 : 2
    let said: InlineArray<7, UInt64> = [
      UInt64(waiter.pid), now, waiter.inode, kind << 1 | (waiter.isExclusive ? 1 : 0), waiter.start,
      waiter.end, UInt64(max(waiter.holder, 0)),
    ]
    for index in 0..<Waiters.count {
      let slot = unsafe slot(index)
      let owner = unsafe at_load64(slot)
      if owner != 0, unsafe at_load64(slot + 1) &+ Waiters.stale > now { continue }
      if registry.isSplit {
        // Two may take one slot: the loser's look is soon over, and shows him again.
        return Waiters.write(said, 56, index, overlay) ? index : nil
      }
      if unsafe at_cas64(slot, owner, said[0]) == 0 { continue }
      for i in 2..<7 { unsafe at_store64(slot + i, said[i]) }
      unsafe at_store64(slot + 1, now)
      return index
    }
    return nil
  }

  func hide(_ index: Int, pid: Int32, in overlay: Overlay) {
    if !registry.isSplit {
      _ = unsafe at_cas64(slot(index), UInt64(pid), 0)
    } else if unsafe at_load64(slot(index)) == UInt64(pid) {
      _ = Waiters.write(InlineArray(repeating: 0), 8, index, overlay)
    }
  }

  /// Writes a slot of the page.
  private static func write(
    _ said: InlineArray<7, UInt64>, _ size: Int, _ index: Int, _ overlay: Overlay
  ) -> Bool {
    let fd = try? withScratch { (s) throws(Errno) in try CommonWords.open(overlay, O_RDWR, s.real) }
    guard let fd else { return false }
    defer { _ = lx_close(fd) }
    return unsafe withUnsafePointer(to: said) { unsafe lx_pwrite(fd, $0, size, place(index)) }
      == size
  }

  /// What a slot says; nil: nothing, or nothing that can be.
  subscript(index: Int) -> Waiter? {
    let slot = unsafe slot(index)
    let pid = unsafe at_load64(slot)
    let request = unsafe at_load64(slot + 3)
    guard pid > 0, pid <= UInt64(Int32.max), request < 6 else { return nil }
    let kind: LockRequest.Kind = request < 2 ? .record : request < 4 ? .description : .whole
    return unsafe Waiter(
      pid: Int32(pid), inode: at_load64(slot + 2), kind: kind, isExclusive: request & 1 != 0,
      start: at_load64(slot + 4), end: at_load64(slot + 5),
      holder: Int32(truncatingIfNeeded: at_load64(slot + 6)), looked: at_load64(slot + 1))
  }

  static var indices: Range<Int> { 0..<count }
}

/// One wait for the other inode, between two looks.
@safe struct CrossWait {
  private var overlay: Overlay?
  private var index: Int?
  private var pid: Int32 = 0

  init() {}

  /// - Parameter holder: who is in the way.
  /// - Errors: EDEADLK.
  mutating func begin(
    _ fd: Int32, _ entry: DescriptorTable.Entry, _ request: LockRequest, holder: Int32,
    looksForCircles: Bool
  ) throws(Errno) {
    let overlay = Overlay(index: entry.overlay)
    pid = Int32(truncatingIfNeeded: lx_getpid())
    self.overlay = overlay
    let registry = overlay.registry
    if request.kind == .record, looksForCircles, Deadlock.closes(pid, holder, registry) {
      throw Errno(rawValue: EDEADLK)
    }
    guard let registry else { return }
    let range = request.range
    let start = UInt64(max(range.l_start, 0))
    index = Waiters(registry).show(
      Waiters.Waiter(
        pid: pid, inode: RecordLocks.identity(fd, entry, overlay), kind: request.kind,
        isExclusive: request.isExclusive, start: start,
        end: range.l_len > 0 ? start + UInt64(range.l_len) - 1 : UInt64.max, holder: holder,
        looked: 0), in: overlay)
  }

  func end() {
    guard let overlay, let registry = overlay.registry, let index else { return }
    Waiters(registry).hide(index, pid: pid, in: overlay)
  }
}
