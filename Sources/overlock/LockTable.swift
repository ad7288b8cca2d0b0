import Glibc
import OverlockCore

/// Every lock on files of overlays, with the path that programs in the overlay know.
struct LockTable: Encodable, Equatable {
  struct Process: Encodable, Hashable {
    var pid: Int32
    var command: String
  }

  struct Waiter: Encodable, Hashable {
    /// nil: the kernel does not say whose open file description waits, and it could not be found.
    var process: Process?
    var kind: String
    var mode: String
    var start: UInt64
    var end: UInt64?
    /// Those who hold what it waits for.
    var waitsFor: [Process]
  }

  struct Lock: Encodable, Hashable {
    /// The overlay's id, in hexadecimal, as its registry is named.
    var overlay: String
    var path: String
    /// The inode number that programs see.
    var inode: UInt64
    /// `upper`, or `lower N`: where the inode is that the lock is on.
    var layer: String
    /// The object has two inodes, and locks on either exclude each other.
    var contested: Bool
    /// The object has no name any more; the path is its last one.
    var removed: Bool
    var kind: String
    var mode: String
    var start: UInt64
    /// The last byte; nil: to the end of the file.
    var end: UInt64?
    var holders: [Process]
    var waiters: [Waiter]
  }

  var locks: [Lock]

  /// What is locked now. It is read while it changes: a lock that comes or goes meanwhile may be missing.
  ///
  /// - Parameter folders: where the registries are.
  static func now(registries folders: [Path]) -> LockTable {
    let held = Holdings.now()
    let overlays = RunningOverlay.all(in: folders)
    var locks: [Lock] = []
    for group in held.groups {
      guard let real = held.path(of: group.lock) else { continue }
      for overlay in overlays {
        guard let place = overlay.seen.place(of: real.path, inode: group.lock.inode) else {
          continue
        }
        locks.append(lock(group, place, overlay, removed: real.isRemoved, held))
      }
    }
    for overlay in overlays { locks.add(overlay.seen.waiters, of: overlay.name) }
    locks.sort {
      ($0.path, $0.start, $0.kind, $0.layer, $0.overlay) < (
        $1.path, $1.start, $1.kind, $1.layer, $1.overlay
      )
    }
    return LockTable(locks: locks)
  }

  private static func lock(
    _ group: Holdings.Group, _ place: InspectedOverlay.Place, _ overlay: RunningOverlay,
    removed: Bool,
    _ held: Holdings
  ) -> Lock {
    let lock = group.lock
    return Lock(
      overlay: overlay.name, path: String(decoding: place.path, as: UTF8.self),
      inode: place.inode == 0 ? lock.inode : place.inode,
      layer: place.layer == 0 ? "upper" : "lower \(place.layer)", contested: place.isContested,
      removed: removed || place.isRemoved, kind: lock.kind.name, mode: lock.mode.lowercased(),
      start: lock.start, end: lock.end, holders: held.holders(of: lock).map(process),
      waiters: group.waiters.map { waiter in
        Waiter(
          process: held.waiter(waiter.lock).map(process), kind: waiter.lock.kind.name,
          mode: waiter.lock.mode.lowercased(), start: waiter.lock.start, end: waiter.lock.end,
          waitsFor: held.holders(of: waiter.blocker).map(process))
      })
  }

  private static func process(_ pid: Int32) -> Process {
    Process(pid: pid, command: Processes.command(pid))
  }
}

extension [LockTable.Lock] {
  /// Who waits for a lock on the other inode of an object, or (`mand`) to read or write: behind every lock that is in
  /// the way.
  mutating func add(_ waiters: [InspectedOverlay.Waiter], of overlay: String) {
    for waiter in waiters {
      let kind =
        switch waiter.kind {
        case .record: KernelLock.Kind.posix
        case .description: KernelLock.Kind.ofd
        case .whole: KernelLock.Kind.flock
        }
      let blocking = indices.filter { index in
        let lock = self[index]
        return lock.overlay == overlay && lock.inode == waiter.inode
          && (lock.kind == KernelLock.Kind.flock.name) == (kind == .flock)
          && (lock.mode == "write" || waiter.isExclusive)
          && lock.start <= waiter.end ?? .max && waiter.start <= lock.end ?? .max
          // Its own record locks are in nobody's own way; a shared description's may be.
          && (kind != .posix || !lock.holders.contains { $0.pid == waiter.pid })
      }
      guard let first = blocking.first else { continue }
      let holders = blocking.flatMap { self[$0].holders }
      self[first].waiters.append(
        LockTable.Waiter(
          process: .init(pid: waiter.pid, command: Processes.command(waiter.pid)), kind: kind.name,
          mode: waiter.isExclusive ? "write" : "read", start: waiter.start, end: waiter.end,
          waitsFor: holders))
    }
  }
}

/// An overlay that has a registry: programs are, or were, in it.
struct RunningOverlay {
  /// Its id in hexadecimal.
  var name: String
  var seen: InspectedOverlay

  /// The default folders of this user; of everybody for root.
  static func defaultFolders() -> [Path] {
    if geteuid() != 0 { return [Path("/dev/shm/overlock-\(geteuid())")] }
    return Processes.entries("/dev/shm").filter {
      $0.hasPrefix("overlock-") && UInt32($0.dropFirst(9)) != nil
    }
    .map { Path("/dev/shm").appending($0) }
  }

  /// Those of `--registry`, or the default ones. Errors: a failure that names the folder.
  static func folders(_ given: [String]) throws -> [Path] {
    if given.isEmpty { return defaultFolders() }
    for folder in given { _ = try Path(folder).resolved(as: "--registry") }
    return given.map { Path($0) }
  }

  /// Whether a process is in it: it has the registry mapped.
  func isEntered(by pid: Int32) -> Bool { Processes.maps(pid, pathEnding: "/" + name) }

  static func all(in folders: [Path]) -> [RunningOverlay] {
    var found: [String: RunningOverlay] = [:]
    for folder in folders {
      for name in Processes.entries(folder.text) where name.count == 16 {
        let overlay = unsafe folder.appending(name).withCString {
          unsafe InspectedOverlay(segment: $0)
        }
        if let overlay { found[name] = RunningOverlay(name: name, seen: overlay) }
      }
    }
    return found.values.sorted { $0.name < $1.name }
  }
}

/// The kernel's locks, with the processes that hold them and those that wait.
struct Holdings {
  struct Group {
    var lock: KernelLock
    var waiters: [(lock: KernelLock, blocker: KernelLock)]
  }

  var groups: [Group] = []
  /// By the lock as held.
  private var descriptors: [KernelLock: [Processes.Descriptor]] = [:]
  /// By the file: any descriptor that has it open.
  private var anyDescriptor: [String: Processes.Descriptor] = [:]
  private var sleepers: [String: [Int32]] = [:]

  static func now() -> Holdings {
    var result = Holdings()
    result.group(KernelLock.parse(Processes.read("/proc/locks")))
    let processes = Processes.all()
    for pid in processes {
      for descriptor in Processes.descriptors(pid) {
        for lock in Processes.locks(descriptor) {
          result.descriptors[lock.asHeld, default: []].append(descriptor)
          result.anyDescriptor[lock.file] = descriptor
        }
      }
    }
    if result.groups.contains(where: { $0.waiters.contains { $0.lock.pid <= 0 } }) {
      for pid in processes {
        for descriptor in Processes.waiting(pid) {
          guard let file = Processes.file(descriptor) else { continue }
          result.sleepers["\(file.inode)", default: []].append(pid)
        }
      }
    }
    return result
  }

  /// Lines of one number stand together: the lock, then who waits for it, each below whom it waits for.
  mutating func group(_ lines: [KernelLock]) {
    var chain: [KernelLock] = []
    for line in lines {
      chain = Array(chain.prefix(line.depth))
      if line.depth == 0 || chain.count < line.depth || chain[0].number != line.number {
        chain = [line]
        if line.depth == 0 { groups.append(Group(lock: line, waiters: [])) }
        continue
      }
      groups[groups.count - 1].waiters.append((line, chain[line.depth - 1]))
      chain.append(line)
    }
  }

  func holders(of lock: KernelLock) -> [Int32] {
    let found = Set((descriptors[lock.asHeld] ?? []).map(\.pid))
    if found.isEmpty, lock.pid > 0 { return [lock.pid] }
    return found.sorted()
  }

  /// Who waits: the kernel says it of all but open file descriptions.
  func waiter(_ lock: KernelLock) -> Int32? {
    lock.pid > 0 ? lock.pid : sleepers["\(lock.inode)"]?.first
  }

  func path(of lock: KernelLock) -> (path: [UInt8], isRemoved: Bool)? {
    let known = descriptors[lock.asHeld] ?? []
    for descriptor in known + [anyDescriptor[lock.file]].compactMap({ $0 }) {
      if let path = Processes.path(descriptor) { return path }
    }
    return nil
  }
}
