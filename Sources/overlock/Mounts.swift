import CLinux
import Glibc

/// The mounts of this process, for the device numbers that the kernel itself uses.
/// Source: proc_pid_mountinfo(5).
struct Mounts {
  struct Mount {
    var device: UInt64
    var point: [UInt8]
  }

  private(set) var byNumber: [Int: Mount] = [:]

  init() { self.init(Processes.read("/proc/self/mountinfo")) }

  init(_ text: String) {
    for line in text.split(separator: "\n") {
      let words = line.split(separator: " ", maxSplits: 5)
      guard words.count > 4, let number = Int(words[0]) else { continue }
      let device = words[2].split(separator: ":").compactMap { UInt64($0) }
      guard device.count == 2 else { continue }
      byNumber[number] = Mount(
        device: device[0] << 20 | device[1], point: OptionLine.unescape(String(words[4])).bytes)
    }
  }

  /// The device of what is at a path; nil where that cannot be opened.
  func device(of path: Path) -> UInt64? {
    let opened = unsafe path.withCString {
      unsafe lx_openat(AT_FDCWD, $0, O_PATH | O_CLOEXEC | O_NOFOLLOW, 0)
    }
    guard opened >= 0 else { return nil }
    defer { _ = lx_close(Int32(truncatingIfNeeded: opened)) }
    for line in Processes.read("/proc/self/fdinfo/\(opened)").split(separator: "\n")
    where line.hasPrefix("mnt_id:") {
      let number = Int(line.dropFirst(7).drop { $0 == "\t" || $0 == " " })
      return number.flatMap { byNumber[$0]?.device }
    }
    return nil
  }

  /// Where file systems of these devices are mounted below a directory.
  func points(below root: Path, on devices: Set<UInt64>) -> [Path] {
    byNumber.values.filter { devices.contains($0.device) }.map { Path($0.point) }
      .filter { $0 != root && $0.isAt(orBelow: root) }
  }
}
