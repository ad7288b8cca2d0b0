import CLinux

/// Segments of overlays that are no more. Nobody else would remove them, and each takes its full size: a
/// sparse one would be SIGBUS on a full tmpfs.
///
/// A segment says where its overlay is: the canonical path of the upper (of the target where there is no
/// upper). Whoever makes a new segment looks at some of those beside it, and removes one whose path leads
/// nowhere or to another directory than the one that it is named after: no program can be at work in such
/// an overlay, since all of them reach its layers by that path. Only those of the same mount namespace and
/// root are looked at, to others the path means something else.
///
/// In the segment, from `homeOffset`: a check of what follows, the mount namespace, device and inode of the
/// root, whether there is an upper, the length of the path, the path.
extension Registry {
  private static var homeOffset: Int { 512 }
  private static var homeHeader: Int { 48 }
  /// Longer paths are not recorded: their segments stay.
  private static var longestHome: Int { 3072 }
  static var homeEnd: Int { homeOffset + homeHeader + longestHome }

  private static func check(_ home: UnsafeRawPointer) -> UInt64 {
    var hash = PathHash(0x686f, 0x6d65)
    let length = unsafe home.load(fromByteOffset: 40, as: UInt64.self)
    guard length <= UInt64(longestHome) else { return 0 }
    unsafe hash.append(
      (home + 8).assumingMemoryBound(to: UInt8.self), homeHeader - 8 + Int(length))
    return hash.a ^ hash.b | 1
  }

  /// Writes down where the overlay is. False: that was done before, or cannot be.
  func recordHome(_ overlay: Overlay, _ here: NameSpace) -> Bool {
    let path = overlay.hasUpper ? overlay.layerPath(0) : overlay.target
    let home = unsafe base + Registry.homeOffset
    let known = unsafe at_load64(word(Registry.homeOffset))
    if known != 0, unsafe known == Registry.check(home) { return false }
    guard path.count <= Registry.longestHome else { return false }
    unsafe home.storeBytes(of: here.mounts, toByteOffset: 8, as: UInt64.self)
    unsafe home.storeBytes(of: here.device, toByteOffset: 16, as: UInt64.self)
    unsafe home.storeBytes(of: here.root, toByteOffset: 24, as: UInt64.self)
    unsafe home.storeBytes(of: overlay.hasUpper ? 1 : 0, toByteOffset: 32, as: UInt64.self)
    unsafe home.storeBytes(of: UInt64(path.count), toByteOffset: 40, as: UInt64.self)
    unsafe copyBytes(
      (home + Registry.homeHeader).assumingMemoryBound(to: UInt8.self), path.base, path.count)
    unsafe at_store64(word(Registry.homeOffset), Registry.check(home))
    return true
  }

  /// Whether the overlay of a segment's first page is certainly no more.
  ///
  /// - Parameter id: the one that the segment is named after.
  static func isAbandoned(
    _ page: UnsafeMutablePointer<UInt8>, id: UInt64, _ here: NameSpace
  ) -> Bool {
    let raw = UnsafeMutableRawPointer(page)
    guard unsafe raw.load(as: UInt64.self) == layoutWord else { return false }
    let home = unsafe raw + homeOffset
    guard unsafe home.load(as: UInt64.self) == check(home),
      unsafe here
        == NameSpace(
          mounts: home.load(fromByteOffset: 8, as: UInt64.self),
          device: home.load(fromByteOffset: 16, as: UInt64.self),
          root: home.load(fromByteOffset: 24, as: UInt64.self))
    else { return false }
    let length = unsafe Int(home.load(fromByteOffset: 40, as: UInt64.self))
    unsafe home.storeBytes(of: 0, toByteOffset: homeHeader + length, as: UInt8.self)
    let path = unsafe UnsafePointer((home + homeHeader).assumingMemoryBound(to: CChar.self))
    if unsafe home.load(fromByteOffset: 32, as: UInt64.self) == 0 {
      return unsafe isMissing(lx_faccessat2(AT_FDCWD, path, F_OK, 0))
    }
    switch unsafe Overlay.identity(ofUpper: path) {
    case .success(let found): return found != id
    case .failure(let error): return isMissing(error.result)
    }
  }

  private static func isMissing(_ result: Int) -> Bool {
    result == -Int(ENOENT) || result == -Int(ENOTDIR)
  }
}

/// What absolute paths mean to this process.
struct NameSpace: Equatable {
  var mounts: UInt64
  var device: UInt64
  var root: UInt64

  init(mounts: UInt64, device: UInt64, root: UInt64) {
    self.mounts = mounts
    self.device = device
    self.root = root
  }

  init() throws(Errno) {
    var st = stat()
    try unsafe check(lx_fstatat(AT_FDCWD, "/proc/self/ns/mnt", &st, 0))
    mounts = st.inode
    try unsafe check(lx_fstatat(AT_FDCWD, "/", &st, 0))
    device = st.device
    root = st.inode
  }
}

extension Segment {
  /// How many segments one sweep looks at: more die than are made only where many are swept.
  private static var sweepAtMost: Int { 64 }
  /// Seconds after which a segment that never got its name was left by a dead process.
  private static var stale: Int { 600 }

  /// Looks at some of the segments in the folder, from anywhere on, and removes the abandoned ones.
  static func sweep(_ directory: PathView, _ here: NameSpace, _ s: Scratch) throws(Errno) {
    var path = s.rest
    try folder(directory, into: &path)
    let fd = Int32(
      truncatingIfNeeded: try unsafe check(
        lx_openat(
          AT_FDCWD, path.cString, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW, 0)))
    defer { _ = lx_close(fd) }
    var count = 0
    try DirectoryReader.each(fd, s) { (_, _, _) throws(Errno) in
      count += 1
      return true
    }
    let extra = max(count - sweepAtMost, 0)
    let first = extra == 0 ? 0 : Int(lx_realtime_ns() >> 10 % UInt64(extra + 1))
    _ = lx_lseek(fd, 0, SEEK_SET)
    var index = -1
    try DirectoryReader.each(fd, s) { (name, _, _) throws(Errno) in
      index += 1
      if index < first { return true }
      if index >= first + sweepAtMost { return false }
      try withScratch { (s2) throws(Errno) in try look(name, in: fd, here, s2) }
      return true
    }
  }

  private static func look(
    _ name: PathView, in folder: Int32, _ here: NameSpace, _ s: Scratch
  ) throws(Errno) {
    guard try isAbandoned(name, in: folder, here, s) else { return }
    var file = s.link
    try file.append(name)
    _ = unsafe lx_unlinkat(folder, file.cString, 0)
  }

  private static func isAbandoned(
    _ name: PathView, in folder: Int32, _ here: NameSpace, _ s: Scratch
  ) throws(Errno) -> Bool {
    var file = s.link
    try file.append(name)
    let path = unsafe file.cString
    guard let id = hexadecimal(name.prefix(min(16, name.count))) else { return false }
    if name.count > 16 {
      var st = stat()
      try unsafe check(lx_fstatat(folder, path, &st, AT_SYMLINK_NOFOLLOW))
      let now = Int(lx_realtime_ns() / 1_000_000_000)
      return unsafe name[16] == dot && lx_mtime(&st).tv_sec + stale < now
    }
    let fd = Int32(
      truncatingIfNeeded: try unsafe check(
        lx_openat(folder, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0)))
    defer { _ = lx_close(fd) }
    let read = unsafe lx_pread(fd, s.spare, Registry.homeEnd, 0)
    return unsafe read == Registry.homeEnd && Registry.isAbandoned(s.spare, id: id, here)
  }
}

#if !$Embedded
  extension Segment {
    /// The names of all abandoned segments in a folder. One that cannot be read is none.
    ///
    /// - Parameter removing: whether they are removed, too.
    /// - Errors: as open(2) of the folder.
    static func abandoned(
      in directory: UnsafePointer<CChar>, removing: Bool
    ) throws(Errno) -> [[UInt8]] {
      let flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW
      let fd = Int32(
        truncatingIfNeeded: try unsafe check(lx_openat(AT_FDCWD, directory, flags, 0)))
      defer { _ = lx_close(fd) }
      let here = try NameSpace()
      var names: [[UInt8]] = []
      try withScratch { (s) throws(Errno) in
        try DirectoryReader.each(fd, s) { (name, _, _) throws(Errno) in
          try withScratch { (s2) throws(Errno) in
            guard (try? isAbandoned(name, in: fd, here, s2)) == true else { return }
            if removing { try look(name, in: fd, here, s2) }
            names.append(InspectedOverlay.bytes(name))
          }
          return true
        }
      }
      return names
    }
  }
#endif
