import CLinux
import Glibc

/// Paths of files of which only device and inode number are known.
///
/// They are looked for among what processes have open, which costs little, then in directory trees: name after name,
/// until all are found, on the file systems alone that they are on. What was found is remembered, and checked before
/// it is believed; what was not is not looked for again before something new is.
struct FileSearch {
  struct Found: Equatable {
    /// As the kernel spells them, all that were come by; of a removed file where it was last.
    var paths: [[UInt8]]
    var isRemoved: Bool
    var isDirectory: Bool
    /// How many names it has.
    var links: UInt64 = 1
  }

  /// A tree to look in.
  struct Tree {
    var root: Path
    /// Does what opens and reads a directory in it.
    var reading: ([UInt8], () -> Void) -> Void
  }

  private(set) var found: [KernelFile: Found] = [:]
  private var missing: Set<KernelFile> = []
  private var mounts = Mounts()
  /// Directories that are not entered.
  private var closed: [Path] = []
  private var wanted: Set<KernelFile> = []
  private var inodes: Set<UInt64> = []

  /// - Parameters:
  ///   - files: to be found. What else was found before is forgotten.
  ///   - trees: where; the likeliest first.
  ///   - closed: directories that are passed by.
  mutating func find(_ files: Set<KernelFile>, in trees: [Tree], but closed: [Path]) {
    found = found.filter { files.contains($0.key) }
    for (file, known) in found {
      found[file]?.paths = known.paths.filter { known.isRemoved || FileSearch.has($0, file) }
    }
    found = found.filter { !$0.value.paths.isEmpty }
    let unknown = files.subtracting(found.keys)
    guard !unknown.subtracting(missing).isEmpty else { return }
    mounts = Mounts()
    self.closed = closed
    // Where none of the trees is nothing is found.
    let devices = Set(unknown.map(\.device))
    let within = trees.map { tree -> [(Path, UInt64)] in
      ([tree.root] + mounts.points(below: tree.root, on: devices)).compactMap { root in
        mounts.device(of: root).map { (root, $0) }
      }.filter { devices.contains($0.1) }
    }
    let reached = Set(within.joined().map(\.1))
    wanted = unknown.filter { reached.contains($0.device) }
    inodes = Set(wanted.map(\.inode))
    if !wanted.isEmpty { findOpen() }
    for (tree, roots) in zip(trees, within) {
      for (root, device) in roots where wanted.contains(where: { $0.device == device }) {
        walk(root, device, tree.reading)
      }
    }
    missing = unknown.subtracting(found.keys)
  }

  private mutating func note(_ file: KernelFile, _ path: [UInt8], _ value: Found) {
    guard wanted.contains(file) else { return }
    var known = found[file] ?? value
    if !known.paths.contains(path) { known.paths.append(path) }
    found[file] = known
    // Not each name of a group of links need be one that an overlay shows.
    if known.isRemoved || known.isDirectory || known.paths.count >= known.links {
      wanted.remove(file)
    }
  }

  /// A removed file's inode is not another file's, as long as it is watched.
  private static func has(_ path: [UInt8], _ file: KernelFile) -> Bool {
    status(Path(path))?.inode == file.inode
  }

  // MARK: - Among what is open

  private mutating func findOpen() {
    for pid in Processes.all() {
      for descriptor in Processes.descriptors(pid) {
        guard let file = Processes.file(descriptor), inodes.contains(file.inode),
          let link = Processes.path(descriptor)
        else { continue }
        note(
          KernelFile(statDevice: file.device, inode: file.inode), link.path,
          Found(
            paths: [], isRemoved: link.isRemoved, isDirectory: file.isDirectory, links: file.links))
      }
    }
  }

  // MARK: - In trees

  private struct Status {
    var device: UInt64
    var inode: UInt64
    var isDirectory: Bool
    var links: UInt64
  }

  private static func status(_ path: Path) -> Status? {
    var st = stat()
    let r = unsafe path.withCString {
      unsafe lx_fstatat(AT_FDCWD, $0, &st, AT_SYMLINK_NOFOLLOW)
    }
    guard r == 0 else { return nil }
    return Status(
      device: UInt64(st.st_dev), inode: UInt64(st.st_ino),
      isDirectory: st.st_mode & S_IFMT == S_IFDIR, links: UInt64(st.st_nlink))
  }

  private mutating func walk(
    _ root: Path, _ device: UInt64, _ reading: ([UInt8], () -> Void) -> Void
  ) {
    guard let top = FileSearch.status(root) else { return }
    check(root, top.inode, top, device)
    guard top.isDirectory else { return }
    var waiting = [root]
    while let directory = waiting.popLast(), wanted.contains(where: { $0.device == device }) {
      if closed.contains(where: { directory.isAt(orBelow: $0) }) { continue }
      var entries: [Entry] = []
      reading(directory.bytes) { entries = FileSearch.entries(directory, on: top.device) }
      for entry in entries {
        let isWanted = inodes.contains(entry.inode)
        guard isWanted || entry.mayBeDirectory else { continue }
        let path = directory.appending(entry.name)
        // The type is not told everywhere.
        let status = isWanted || !entry.isDirectory ? FileSearch.status(path) : nil
        if isWanted, let status { check(path, entry.inode, status, device, top.device) }
        if entry.isDirectory || status?.isDirectory == true { waiting.append(path) }
      }
    }
  }

  /// - Parameter plain: the device in the words of stat(2).
  private mutating func check(
    _ path: Path, _ inode: UInt64, _ status: Status, _ device: UInt64, _ plain: UInt64? = nil
  ) {
    // What is mounted there is another file.
    guard status.inode == inode, plain == nil || status.device == plain else { return }
    note(
      KernelFile(device: device, inode: inode), path.bytes,
      Found(
        paths: [], isRemoved: false, isDirectory: status.isDirectory, links: status.links))
  }

  private struct Entry {
    var inode: UInt64
    var type: UInt8
    var name: [UInt8]
    var isDirectory: Bool { type == UInt8(DT_DIR) }
    var mayBeDirectory: Bool { isDirectory || type == UInt8(DT_UNKNOWN) }
  }

  /// The entries of a directory, none where it may not be read or another file system is mounted.
  private static func entries(_ directory: Path, on device: UInt64) -> [Entry] {
    let flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC
    let opened = unsafe directory.withCString { (path) in
      // Leaves no trace where the owner looks.
      let quiet = unsafe lx_openat(AT_FDCWD, path, flags | O_NOATIME, 0)
      return quiet == -Int(EPERM) ? unsafe lx_openat(AT_FDCWD, path, flags, 0) : quiet
    }
    guard opened >= 0 else { return [] }
    let fd = Int32(truncatingIfNeeded: opened)
    defer { _ = lx_close(fd) }
    var st = stat()
    guard unsafe lx_fstat(fd, &st) == 0, UInt64(st.st_dev) == device else { return [] }
    var entries: [Entry] = []
    var buffer = [UInt8](repeating: 0, count: 65536)
    while true {
      let count = unsafe buffer.withUnsafeMutableBytes {
        unsafe lx_getdents64(fd, $0.baseAddress!, $0.count)
      }
      guard count > 0 else { return entries }
      unsafe buffer.withUnsafeBytes { (bytes) in
        var at = 0
        while at + 19 < count {
          let length = unsafe Int(bytes.loadUnaligned(fromByteOffset: at + 16, as: UInt16.self))
          guard length > 19, at + length <= count else { return }
          let name = unsafe bytes[(at + 19)..<(at + length)].prefix { $0 != 0 }
          if unsafe !name.elementsEqual([46]), unsafe !name.elementsEqual([46, 46]) {
            entries.append(
              unsafe Entry(
                inode: bytes.loadUnaligned(fromByteOffset: at, as: UInt64.self),
                type: bytes[at + 18], name: Array(name)))
          }
          at += length
        }
      }
    }
  }
}
