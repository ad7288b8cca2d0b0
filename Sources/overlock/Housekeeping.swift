import CLinux
import Glibc

/// What inotify instances watch in an overlay's workdir besides the program's objects: it tells which watches
/// belong together (docs/decisions/0018, 0020).
struct Housekeeping {
  enum Entry: Equatable {
    /// The process's own: only who is in the overlay has one.
    case list
    case bell
    /// Of the directory with that inode number in the upper.
    case markers(UInt64)
    /// A future upper inode, or one that is kept without a name, of what shows that inode number.
    case anchor(UInt64, path: [UInt8])
    /// The upper inode of a group of hard links that shows that inode number.
    case group(UInt64, path: [UInt8])
  }

  private(set) var entries: [KernelFile: Entry] = [:]
  /// Whether the workdir is this user's.
  private(set) var isOwn = false

  /// - Parameter work: the workdir's folder; empty: there is none.
  init(_ work: Path, _ mounts: Mounts) {
    guard !work.bytes.isEmpty, let device = mounts.device(of: work) else { return }
    var st = stat()
    let r = unsafe work.withCString { unsafe lx_fstatat(AT_FDCWD, $0, &st, AT_SYMLINK_NOFOLLOW) }
    isOwn = r == 0 && st.st_uid == geteuid()
    func each(_ folder: String, _ entry: (String, Path) -> Entry?) {
      let directory = work.appending(folder)
      for name in Processes.entries(directory.text) {
        let path = directory.appending(name)
        var st = stat()
        let r = unsafe path.withCString {
          unsafe lx_fstatat(AT_FDCWD, $0, &st, AT_SYMLINK_NOFOLLOW)
        }
        guard r == 0, let entry = entry(name, path) else { continue }
        entries[KernelFile(device: device, inode: UInt64(st.st_ino))] = entry
      }
    }
    func anchor(_ name: String, _ path: Path) -> Entry? {
      UInt64(name.prefix(16), radix: 16).map { .anchor($0, path: path.bytes) }
    }
    each("watchers") { (name, _) in name.utf8.count == 33 ? .bell : .list }
    each("markers") { (name, _) in UInt64(name, radix: 16).map { .markers($0) } }
    each("anchors", anchor)
    each("copyup/0") { (name, path) in name.utf8.count == 16 ? anchor(name, path) : nil }
    each("index") { (name, path) in
      UInt64(name, radix: 16).map { .group($0, path: path.bytes) }
    }
    each("kept") { (name, path) in name.utf8.count == 16 ? anchor(name, path) : nil }
  }
}
