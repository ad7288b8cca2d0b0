/// A lock as the kernel reports it: a line of /proc/locks, or what follows "lock:" in
/// /proc/PID/fdinfo/FD. Source: proc_locks(5), proc_pid_fdinfo(5); fs/locks.c, lock_get_status.
struct KernelLock: Hashable {
  enum Kind: String, Encodable {
    case posix = "POSIX"
    case ofd = "OFDLCK"
    case flock = "FLOCK"
    case lease = "LEASE"
    case delegation = "DELEG"

    var name: String {
      switch self {
      case .posix: "posix"
      case .ofd: "ofd"
      case .flock: "flock"
      case .lease: "lease"
      case .delegation: "delegation"
      }
    }
  }

  /// Lines of one number are about one lock: who holds it, then who waits.
  var number: Int
  /// 0: held. Else it waits for the nearest line above that has one less.
  var depth: Int
  var kind: Kind
  /// `ADVISORY`; of a lease `ACTIVE`, `BREAKING` or `BREAKER`.
  var state: String
  /// `READ`, `WRITE`; of a broken lease `UNLCK`.
  var mode: String
  /// 0 or less: nobody in this PID namespace, or an open file description's.
  var pid: Int32
  /// Major and minor number in hexadecimal, as printed.
  var device: String
  var inode: UInt64
  var start: UInt64
  /// The last byte; nil: to the end of the file, however long.
  var end: UInt64?

  /// nil: not a line of the known form.
  init?(line: some StringProtocol) {
    guard let colon = line.firstIndex(of: ":"), let number = Int(line[..<colon]) else { return nil }
    var rest = line[line.index(after: colon)...].dropFirst()
    let indent = rest.prefix { $0 == " " }.count
    rest = rest.dropFirst(indent)
    depth = 0
    if rest.hasPrefix("->") {
      depth = indent + 1
      rest = rest.dropFirst(2)
    }
    let fields = rest.split(separator: " ")
    guard fields.count >= 7, let kind = Kind(rawValue: String(fields[0])),
      let pid = Int32(fields[3]),
      let dash = fields[4].lastIndex(of: ":"),
      let inode = UInt64(fields[4][fields[4].index(after: dash)...]), let start = UInt64(fields[5])
    else { return nil }
    self.number = number
    self.kind = kind
    state = String(fields[1])
    mode = String(fields[2])
    self.pid = pid
    device = String(fields[4][..<dash])
    self.inode = inode
    self.start = start
    if fields[6] == "EOF" {
      end = nil
    } else if let last = UInt64(fields[6]) {
      end = last
    } else {
      return nil
    }
  }

  /// Names the file: the same for every lock on it.
  var file: String { "\(device):\(inode)" }

  /// The same for the line in /proc/locks and the one in /proc/PID/fdinfo.
  var asHeld: KernelLock {
    var copy = self
    copy.number = 0
    // An OFD lock has no process; a flock's is whoever took it.
    copy.pid = kind == .posix ? pid : 0
    return copy
  }

  /// What an interrupted reading of /proc/locks may give: lines of the known form.
  static func parse(_ text: String) -> [KernelLock] {
    text.split(separator: "\n").compactMap { KernelLock(line: $0) }
  }
}
