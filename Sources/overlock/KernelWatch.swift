import Glibc

/// A file as the kernel knows it, by its file system and inode number, whatever stat(2) says (btrfs).
struct KernelFile: Hashable {
  /// As the kernel has it: the major number times 2²⁰, plus the minor one.
  var device: UInt64
  var inode: UInt64
}

extension KernelFile {
  /// By a device as stat(2) has it, where it tells the file system. Source: huge_encode_dev in the kernel.
  init(statDevice: UInt64, inode: UInt64) {
    let minor = statDevice & 0xff | statDevice >> 12 & 0xfff00
    device = (statDevice >> 8 & 0xfff) << 20 | minor
    self.inode = inode
  }
}

/// A watch of an inotify instance as the kernel reports it: a line of /proc/PID/fdinfo/FD.
/// Source: proc_pid_fdinfo(5); fs/notify/fdinfo.c, inotify_fdinfo.
struct KernelWatch: Hashable {
  /// The watch descriptor.
  var descriptor: Int32
  var file: KernelFile
  var mask: UInt32

  /// nil: not a line of the known form.
  init?(line: some StringProtocol) {
    let words = line.split(separator: " ")
    guard words.first == "inotify" else { return nil }
    func value(_ key: String) -> UInt64? {
      words.first { $0.hasPrefix(key + ":") }.flatMap {
        UInt64($0.dropFirst(key.count + 1), radix: 16)
      }
    }
    // The mask has had more than events in it, and may have again.
    guard let descriptor = value("wd"), descriptor <= UInt64(Int32.max), let inode = value("ino"),
      let device = value("sdev"), let mask = value("mask")
    else { return nil }
    self.descriptor = Int32(descriptor)
    file = KernelFile(device: device, inode: inode)
    self.mask = UInt32(truncatingIfNeeded: mask)
  }

  static func parse(_ text: String) -> [KernelWatch] {
    guard text.contains("inotify ") else { return [] }
    return text.split(separator: "\n").compactMap { KernelWatch(line: $0) }
  }

  /// The events of a mask in the words of inotify(7); flags are none.
  static func events(_ mask: UInt32) -> [String] {
    names.enumerated().filter { mask & 1 << UInt32($0.offset) != 0 }.map(\.element)
  }

  private static let names = [
    "IN_ACCESS", "IN_MODIFY", "IN_ATTRIB", "IN_CLOSE_WRITE", "IN_CLOSE_NOWRITE", "IN_OPEN",
    "IN_MOVED_FROM", "IN_MOVED_TO", "IN_CREATE", "IN_DELETE", "IN_DELETE_SELF", "IN_MOVE_SELF",
  ]
}
