import CLinux

/// From options to an overlay that works: canonical layers, checked against each other, a prepared
/// workdir. Done by the first process; what it found is kept in the registry for those that follow.
struct Configuration {
  let overlay: Overlay
  /// The workdir is as somebody else has prepared it, and stays so.
  private let looksOnly: Bool
  private var message: PathBuffer
  private let s: Scratch

  init(_ overlay: Overlay, _ message: PathBuffer, _ s: Scratch, looksOnly: Bool = false) {
    self.overlay = overlay
    self.looksOnly = looksOnly
    self.message = message
    self.s = s
  }

  /// A directory, as the kernel names it.
  private struct Root {
    var path: PathView
    var device: UInt64
    var inode: UInt64
  }

  /// Fills the overlay in. On failure the message says why, in one line.
  mutating func compile(_ options: Options, message out: inout PathBuffer) throws(Errno) {
    do throws(Errno) {
      try build(options)
    } catch {
      out = message
      throw error
    }
  }

  private mutating func build(_ options: Options) throws(Errno) {
    var count = 0
    var position = 0
    while try Options.nextLower(options.lowers, &position) != nil { count += 1 }
    guard count < Int(OVL_MAX_LAYERS) else {
      try fail("more than 511 lowers", options.lowers.prefix(0), .invalid)
    }
    let layers = unsafe try Arena.allocate((count + 1) * MemoryLayout<ovl_layer>.stride)
      .assumingMemoryBound(to: ovl_layer.self)
    let raw = unsafe overlay.raw
    unsafe raw.pointee.layers = layers
    unsafe raw.pointee.layer_count = UInt32(count + 1)
    unsafe raw.pointee.flags = options.flags
    let target = try root(options.target, "target")
    unsafe raw.pointee.target = cString(target.path)
    unsafe raw.pointee.target_length = UInt32(target.path.count)
    unsafe layers[0] = ovl_layer(
      path: cString(target.path.from(target.path.count)), length: 0, flags: 0, device: 0,
      ino_high: 0)
    if !options.upper.isEmpty {
      let upper = try root(options.upper, "upperdir")
      let work = try root(options.work, "workdir")
      try checkUpper(upper, work, target)
      unsafe layers[0] = layer(upper)
      unsafe raw.pointee.flags |= UInt32(OVL_HAS_UPPER)
      try prepareWork(work)
    } else {
      unsafe raw.pointee.work = layers[0].path
      unsafe raw.pointee.work_length = 0
    }
    position = 0
    var index = 1
    while let path = try Options.nextLower(options.lowers, &position) {
      guard !path.isEmpty, path[0] == slash else {
        try fail("lowerdir: paths must be absolute: ", path, .invalid)
      }
      let lower = try root(path, "lowerdir")
      unsafe layers[index] = layer(lower)
      if lower.path.equals(target.path) {
        unsafe raw.pointee.flags |= UInt32(OVL_TARGET_IS_LOWER)
      }
      if index == 1 { unsafe raw.pointee.root_ino = lower.inode }
      index += 1
    }
    try checkOverlap()
    numberDevices()
    try overlay.markPolledLayers(options.poll, s)
    for i in (overlay.hasUpper ? 0 : 1)..<overlay.layerCount {
      var root = s.real2
      try root.append(overlay.layerPath(i))
      if root.count == 0 { try root.append(slash) }
      if i == 0 && overlay.has(OVL_XATTR_WHITEOUTS)
        || (unsafe overlay.letter(.opaque, root.cString)) == UInt8(ascii: "x")
      {
        unsafe raw.pointee.layers[i].flags |= UInt32(OVL_LAYER_FILE_WHITEOUTS)
      }
    }
  }

  private func layer(_ root: Root) -> ovl_layer {
    unsafe ovl_layer(
      path: cString(root.path), length: UInt32(root.path.count), flags: 0, device: root.device,
      ino_high: 0)
  }

  private func cString(_ view: PathView) -> UnsafePointer<CChar> {
    unsafe UnsafeRawPointer(view.base).assumingMemoryBound(to: CChar.self)
  }

  private mutating func fail(_ text: StaticString, _ path: PathView, _ error: Errno)
    throws(Errno) -> Never
  {
    message.count = 0
    try? message.append(text)
    try? message.append(path)
    // Ours to refuse, or the system's: only the latter has words of its own.
    if error != .invalid, error != .loop, error != .crossDevice { try? message.append(error) }
    throw error
  }

  /// Opens a directory and asks the kernel for its canonical path.
  private mutating func root(_ path: PathView, _ role: StaticString) throws(Errno) -> Root {
    let fd = unsafe lx_openat(AT_FDCWD, cString(path), O_PATH | O_DIRECTORY | O_CLOEXEC, 0)
    if fd < 0 {
      message.count = 0
      try? message.append(role)
      try? message.append(" ")
      try? message.append(path)
      let error = Errno(result: fd)
      try? message.append(error)
      throw error
    }
    defer { _ = lx_close(Int32(truncatingIfNeeded: fd)) }
    var st = stat()
    try unsafe check(lx_fstat(Int32(truncatingIfNeeded: fd), &st))
    var real = s.real
    guard try RealPathReader.ofDescriptor(Int32(truncatingIfNeeded: fd), into: &real) else {
      try fail("/proc does not tell the path of ", path, .noEntry)
    }
    // "/" is the empty path: everything is below it by one more slash.
    if real.count == 1 { real.count = 0 }
    return Root(path: try Arena.copy(real.view), device: st.device, inode: st.inode)
  }

  private mutating func checkUpper(_ upper: Root, _ work: Root, _ target: Root) throws(Errno) {
    if upper.device != work.device {
      try fail("workdir is on another file system than upperdir: ", work.path, .crossDevice)
    }
    if upper.path.isAt(orBelow: work.path) || work.path.isAt(orBelow: upper.path) {
      try fail("upperdir and workdir must be separate directories: ", work.path, .invalid)
    }
    if target.path.isAt(orBelow: upper.path) {
      try fail("target is inside upperdir: ", target.path, .loop)
    }
    if target.path.isAt(orBelow: work.path) {
      try fail("target is inside workdir: ", target.path, .loop)
    }
    // Not access(2): it would answer for the real user.
    let r = unsafe lx_faccessat2(AT_FDCWD, cString(upper.path), W_OK | X_OK, AT_EACCESS)
    if r < 0, !upper.path.isEmpty {
      try fail("upperdir is not writable: ", upper.path, Errno(result: r))
    }
  }

  /// A layer inside another shows the same object twice: refused as the kernel does, but for an upper
  /// below a lower (`target=/`, a home directory with its own state in it).
  private mutating func checkOverlap() throws(Errno) {
    for i in (overlay.hasUpper ? 0 : 1)..<overlay.layerCount {
      let a = overlay.layerPath(i)
      for j in 1..<overlay.layerCount where j != i {
        let b = overlay.layerPath(j)
        if i == 0 ? b.isAt(orBelow: a) : a.isAt(orBelow: b) {
          try fail("overlapping layers: ", i == 0 ? b : a, .loop)
        }
      }
    }
    guard overlay.hasUpper else { return }
    let work = overlay.work
    for j in 1..<overlay.layerCount where overlay.layerPath(j).isAt(orBelow: work) {
      try fail("overlapping layers: ", overlay.layerPath(j), .loop)
    }
  }

  /// Inode numbers of several file systems would collide under one device number: those of the second
  /// and later ones get a number of their own in the top byte (as the kernel's xino).
  private func numberDevices() {
    let raw = unsafe overlay.raw
    let first = overlay.hasUpper ? 0 : 1
    unsafe raw.pointee.device = raw.pointee.layers[first].device
    var oneDevice = true
    for i in first..<overlay.layerCount {
      let device = overlay.layerDevice(i)
      if device == overlay.device { continue }
      oneDevice = false
      var number = 1
      var k = first
      while k < i, overlay.layerDevice(k) != device {
        k += 1
        number += 1
      }
      unsafe raw.pointee.layers[i].ino_high = UInt64(number & 0xff) << 56
    }
    if oneDevice { unsafe raw.pointee.flags |= UInt32(OVL_ONE_DEVICE) }
    unsafe raw.pointee.root_ino = overlay.shownInode(raw.pointee.root_ino, layer: 1)
  }

  /// Makes the workdir's folders and finds out what the upper's file system takes.
  private mutating func prepareWork(_ work: Root) throws(Errno) {
    var path = s.real2
    try path.append(work.path)
    try path.append("/overlock")
    let raw = unsafe overlay.raw
    let base = try Arena.copy(path.view)
    unsafe raw.pointee.work = cString(base)
    unsafe raw.pointee.work_length = UInt32(base.count)
    noteUserMarks(base)
    if looksOnly { return }
    let sharing = Sharing(overlay)
    let entered = sharing.enter(work.path)
    defer { if entered >= 0 { _ = lx_close(entered) } }
    let folders: InlineArray<20, StaticString> = [
      "", "/copyup", "/copyup/0", "/create", "/create/0", "/whiteout", "/whiteout/0", "/gone",
      "/gone/0", "/index", "/moved", "/sockets", "/contested", "/leased", "/origins", "/anchors",
      "/kept", "/removed", "/meeting", "/running",
    ]
    for i in 0..<20 {
      path.count = base.count
      try path.append(folders[i])
      let r = unsafe lx_mkdirat(AT_FDCWD, path.cString, 0o700)
      if r < 0, r != -Int(EEXIST) {
        try fail("workdir cannot be written: ", work.path, Errno(result: r))
      }
      sharing.apply(path, isDirectory: true)
    }
    path.count = base.count
    try path.append("/lock")
    let fd = unsafe lx_openat(
      AT_FDCWD, path.cString, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o600)
    if fd < 0 { try fail("workdir cannot be written: ", work.path, Errno(result: fd)) }
    sharing.apply(path, isDirectory: false)
    _ = lx_close(Int32(truncatingIfNeeded: fd))
    if sharing.isShared {
      path.count = base.count
      try path.append("/words")
      sharing.apply(path, isDirectory: false)
    }
    try probe(base, work)
  }

  /// An ordinary user has made it, and could not see root's own marks.
  private func noteUserMarks(_ base: PathView) {
    var mark: (UInt64, UInt64) = (0, 0)
    if unsafe lx_getxattr(cString(base), "user.overlay.impure", &mark, 16, 1) > 0 {
      unsafe overlay.raw.pointee.flags |= UInt32(OVL_USERXATTR)
    }
  }

  private mutating func probe(_ base: PathView, _ work: Root) throws(Errno) {
    let raw = unsafe overlay.raw
    let path = unsafe cString(base)
    if !overlay.has(OVL_USERXATTR) {
      var r = 0
      do throws(Errno) {
        try unsafe overlay.setLetter(.impure, path, UInt8(ascii: "y"))
      } catch { r = error.result }
      if r < 0 { unsafe raw.pointee.flags |= UInt32(OVL_USERXATTR) }
    }
    if overlay.has(OVL_USERXATTR) {
      do throws(Errno) {
        try unsafe overlay.setLetter(.impure, path, UInt8(ascii: "y"))
      } catch {
        if error == Errno(rawValue: ENOSPC) || error == Errno(rawValue: EDQUOT) {
          try fail("no space for xattrs in workdir: ", work.path, error)
        }
        try fail("upperdir's file system takes no user xattrs: ", work.path, error)
      }
    }
    var whiteout = s.rest
    try whiteout.append(base)
    try whiteout.append("/whiteout/0/probe.")
    let length = whiteout.count
    // Another process may start in the same tick of the clock, one of another PID namespace with the same number.
    var r = -Int(EEXIST)
    var tries: UInt64 = 0
    while r == -Int(EEXIST), tries < 256 {
      whiteout.count = length
      try whiteout.append(hex: lx_realtime_ns())
      try whiteout.append(dot)
      try whiteout.append(hex: UInt64(lx_getpid()) << 8 | tries)
      r = unsafe lx_mknodat(AT_FDCWD, whiteout.cString, UInt32(S_IFCHR), 0)
      tries += 1
    }
    if r == -Int(EPERM) || r == -Int(EOPNOTSUPP) || r == -Int(EINVAL) {
      unsafe raw.pointee.flags |= UInt32(OVL_XATTR_WHITEOUTS)
      return
    }
    if r < 0 { try fail("workdir cannot be written: ", work.path, Errno(result: r)) }
    var moved = s.here
    try moved.append(whiteout.view)
    try moved.append(".2")
    // Some file systems take the node but not the rename that leaves one (an overlay as the upper).
    let renamed = unsafe lx_renameat2(
      AT_FDCWD, whiteout.cString, AT_FDCWD, moved.cString, UInt32(RENAME_WHITEOUT))
    if renamed < 0 { unsafe raw.pointee.flags |= UInt32(OVL_XATTR_WHITEOUTS) }
    _ = unsafe lx_unlinkat(AT_FDCWD, whiteout.cString, 0)
    _ = unsafe lx_unlinkat(AT_FDCWD, moved.cString, 0)
  }
}
