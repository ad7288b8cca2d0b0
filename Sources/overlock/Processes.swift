import CLinux
import Glibc

/// What /proc says of processes. Whoever is gone by the time of asking, or may not be asked, is left out.
///
/// Paths, inode numbers and texts are asked of the kernel itself: this tool may run in an overlay, where libc's
/// functions answer for the merged tree.
enum Processes {
  /// An open descriptor of a process.
  struct Descriptor: Hashable {
    var pid: Int32
    var fd: Int32
  }

  static func all() -> [Int32] { entries("/proc").compactMap { Int32($0) }.sorted() }

  static func threads(_ pid: Int32) -> [Int32] {
    entries("/proc/\(pid)/task").compactMap { Int32($0) }
  }

  static func descriptors(_ pid: Int32) -> [Descriptor] {
    entries("/proc/\(pid)/fdinfo").compactMap { Int32($0) }.map { Descriptor(pid: pid, fd: $0) }
  }

  /// The locks that the kernel shows for a descriptor.
  static func locks(_ descriptor: Descriptor) -> [KernelLock] {
    let text = read("/proc/\(descriptor.pid)/fdinfo/\(descriptor.fd)")
    guard text.contains("lock:") else { return [] }
    return text.split(separator: "\n").compactMap { line in
      guard line.hasPrefix("lock:") else { return nil }
      return KernelLock(line: line.dropFirst(5).drop { $0 == "\t" || $0 == " " })
    }
  }

  /// The watches of an inotify instance.
  static func watches(_ descriptor: Descriptor) -> [KernelWatch] {
    KernelWatch.parse(read("/proc/\(descriptor.pid)/fdinfo/\(descriptor.fd)"))
  }

  /// Whether two descriptors of a process are copies of one; nil where that may not be asked. The corresponding
  /// system call is `kcmp`.
  static func isCopy(_ a: Descriptor, of b: Descriptor) -> Bool? {
    let files = 0
    let r = lx_call6(Int(SYS_kcmp), Int(a.pid), Int(b.pid), files, Int(a.fd), Int(b.fd), 0)
    return r < 0 ? nil : r == 0
  }

  /// Where a descriptor leads, and whether the name was removed.
  static func path(_ descriptor: Descriptor) -> (path: [UInt8], isRemoved: Bool)? {
    var buffer = [CChar](repeating: 0, count: 8192)
    let link = "/proc/\(descriptor.pid)/fd/\(descriptor.fd)"
    let length = unsafe lx_readlinkat(AT_FDCWD, link, &buffer, buffer.count)
    guard length > 0, buffer[0] == CChar(bitPattern: UInt8(ascii: "/")) else { return nil }
    let path = buffer.prefix(length).map { UInt8(bitPattern: $0) }
    let deleted = Array(" (deleted)".utf8)
    guard path.count > deleted.count, path.suffix(deleted.count).elementsEqual(deleted) else {
      return (path, false)
    }
    // A name may end so too.
    var st = stat()
    let stands = unsafe Path(path).withCString {
      unsafe lx_fstatat(AT_FDCWD, $0, &st, AT_SYMLINK_NOFOLLOW) == 0
    }
    if stands { return (path, false) }
    return (Array(path.dropLast(deleted.count)), true)
  }

  /// What stat(2) says of what it leads to.
  static func file(_ descriptor: Descriptor) -> (
    device: UInt64, inode: UInt64, isDirectory: Bool, links: UInt64
  )? {
    var st = stat()
    guard unsafe lx_fstatat(AT_FDCWD, "/proc/\(descriptor.pid)/fd/\(descriptor.fd)", &st, 0) == 0
    else { return nil }
    return (
      UInt64(st.st_dev), UInt64(st.st_ino), st.st_mode & S_IFMT == S_IFDIR, UInt64(st.st_nlink)
    )
  }

  /// Whether a process has a file mapped whose path ends so.
  static func maps(_ pid: Int32, pathEnding end: String) -> Bool {
    read("/proc/\(pid)/maps").split(separator: "\n").contains {
      $0.hasSuffix(end) || $0.hasSuffix(end + " (deleted)")
    }
  }

  static func command(_ pid: Int32) -> String {
    let name = read("/proc/\(pid)/comm")
    return printable(name.hasSuffix("\n") ? String(name.dropLast()) : name)
  }

  /// Threads that sleep in a call that waits for a lock, with its descriptor. Needs the permission to trace.
  static func waiting(_ pid: Int32) -> [Descriptor] {
    threads(pid).compactMap { thread in
      // proc_pid_syscall(5): the number, then the arguments in hexadecimal.
      let words = read("/proc/\(pid)/task/\(thread)/syscall").split(separator: " ")
      guard words.count > 3, let number = Int(words[0]), let fd = hexadecimal(words[1]) else {
        return nil
      }
      let command = hexadecimal(words[2])
      let waits =
        number == Int(SYS_flock)
        || (number == Int(SYS_fcntl)
          && (command == UInt64(F_SETLKW) || command == UInt64(F_OFD_SETLKW)))
      return waits ? Descriptor(pid: pid, fd: Int32(truncatingIfNeeded: fd)) : nil
    }
  }

  private static func hexadecimal(_ word: Substring) -> UInt64? {
    UInt64(word.hasPrefix("0x") ? word.dropFirst(2) : word, radix: 16)
  }

  // MARK: - Files of /proc

  static func read(_ path: String) -> String {
    let opened = unsafe lx_openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK, 0)
    guard opened >= 0 else { return "" }
    let fd = Int32(truncatingIfNeeded: opened)
    defer { _ = lx_close(fd) }
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 65536)
    while true {
      let count = unsafe buffer.withUnsafeMutableBytes {
        unsafe Glibc.read(fd, $0.baseAddress!, $0.count)
      }
      if count < 0, errno == EINTR { continue }
      guard count > 0 else { break }
      bytes += buffer.prefix(count)
    }
    return String(decoding: bytes, as: UTF8.self)
  }

  static func entries(_ directory: String) -> [String] {
    guard let stream = unsafe opendir(directory) else { return [] }
    defer { unsafe closedir(stream) }
    var names: [String] = []
    while let entry = unsafe readdir(stream) {
      let name = unsafe withUnsafePointer(to: &entry.pointee.d_name) {
        unsafe String(cString: UnsafeRawPointer($0).assumingMemoryBound(to: CChar.self))
      }
      if name != ".", name != ".." { names.append(name) }
    }
    return names
  }
}
