import CLinux

/// AF_UNIX pathname addresses. sun_path holds 108 bytes: a layer's path may not fit, so the kernel is
/// given `/proc/self/fd/N/name` with N on the real directory for the time of the call.

@c(ovl_sockaddr)
public func ovlSockaddr(
  _ address: UnsafeRawPointer?, _ length: UInt32, _ creating: Int32,
  _ out: UnsafeMutableRawPointer?, _ outLength: UnsafeMutablePointer<UInt32>?,
  _ hold: UnsafeMutablePointer<Int32>?
) -> Int {
  guard let address = unsafe address, let out = unsafe out, let outLength = unsafe outLength,
    let hold = unsafe hold
  else { return passResult }
  unsafe hold.pointee = -1
  let offset = 2
  guard length > 2, length <= 110,
    unsafe address.loadUnaligned(as: UInt16.self) == UInt16(AF_UNIX),
    unsafe address.load(fromByteOffset: offset, as: UInt8.self) != 0
  else { return passResult }
  return bordered { () throws(Errno) in
    try withScratch { (s) throws(Errno) -> Int in
      var name = s.link
      var i = offset
      while i < Int(length), unsafe address.load(fromByteOffset: i, as: UInt8.self) != 0 {
        try name.append(unsafe address.load(fromByteOffset: i, as: UInt8.self))
        i += 1
      }
      return try withScratch { (s2) throws(Errno) -> Int in
        guard
          let location = try unsafe Resolve.walk(
            AT_FDCWD, name.cString, follow: creating == 0, s2)
        else { return passResult }
        var real = s.real
        if location.overlay < 0 {
          try real.append(location.path.view)
        } else if creating != 0 {
          let overlay = Overlay(index: location.overlay)
          if location.lookup.node.kind != .none { throw Errno(rawValue: EADDRINUSE) }
          if location.trailing { throw .noEntry }
          guard overlay.hasUpper else { throw .readOnly }
          // The kernel makes the node itself, at its name: a whiteout there has to go first.
          try overlay.clearForSocket(location.path.view)
          try overlay.upperPath(location.path.view, into: &real)
        } else {
          _ = try existing(location)
          try real.append(s2.real2.written.view)
        }
        var short = unsafe PathBuffer(
          out.assumingMemoryBound(to: UInt8.self) + 2, capacity: 108)
        unsafe out.storeBytes(of: UInt16(AF_UNIX), as: UInt16.self)
        if real.count < 107 {
          try short.append(real.view)
          _ = unsafe short.cString
          unsafe outLength.pointee = UInt32(2 + short.count + 1)
          return 0
        }
        var directory = s.staging
        try directory.append(real.view.parent)
        if directory.count == 0 { try directory.append(slash) }
        let fd = try unsafe check(
          lx_openat(AT_FDCWD, directory.cString, O_PATH | O_DIRECTORY | O_CLOEXEC, 0))
        do throws(Errno) {
          try short.append("/proc/self/fd/")
          try short.append(decimal: UInt64(fd))
          try short.append(slash)
          try short.append(real.view.name)
        } catch {
          _ = lx_close(Int32(truncatingIfNeeded: fd))
          throw Errno(rawValue: ENAMETOOLONG)
        }
        _ = unsafe short.cString
        unsafe outLength.pointee = UInt32(2 + short.count + 1)
        unsafe hold.pointee = Int32(truncatingIfNeeded: fd)
        return 0
      }
    }
  }
}

/// The text of a pathname address.
private func sockName(_ address: UnsafeRawPointer, _ length: UInt32) -> PathView {
  let name = unsafe (address + 2).assumingMemoryBound(to: UInt8.self)
  var count = 0
  while count < Int(length) - 2, unsafe name[count] != 0 { count += 1 }
  return unsafe PathView(name, count)
}

/// Names of bound sockets: `workdir/overlock/sockets/<hash of the name that the kernel has>` is a
/// symbolic link whose text is the name as the program gave it. A peer in any process is told that.
private struct SocketNote {
  private var path: PathBuffer
  private let folder: Int

  init(_ overlay: Overlay, _ real: PathView, _ s: Scratch) throws(Errno) {
    path = s.staging
    try path.append(overlay.work)
    try path.append("/sockets")
    folder = path.count
    var hash = PathHash(1, 2)
    unsafe hash.append(real.base, real.count)
    try path.append(slash)
    try path.append(hex: hash.a)
    try path.append(hex: hash.b)
    _ = unsafe path.cString
  }

  func write(_ name: PathView, _ s: Scratch) throws(Errno) {
    var text = s.link
    try text.append(name)
    _ = unsafe lx_unlinkat(AT_FDCWD, path.terminated, 0)
    var r = unsafe lx_symlinkat(text.cString, AT_FDCWD, path.terminated)
    if r == -Int(ENOENT) {
      // A workdir that another build made.
      var directory = s.rest
      try directory.append(path.view.prefix(folder))
      _ = unsafe lx_mkdirat(AT_FDCWD, directory.cString, 0o700)
      r = unsafe lx_symlinkat(text.cString, AT_FDCWD, path.terminated)
    }
    try check(r)
  }

  func read(into text: inout PathBuffer) -> Bool {
    let n = unsafe lx_readlinkat(
      AT_FDCWD, path.terminated,
      UnsafeMutableRawPointer(text.base).assumingMemoryBound(to: CChar.self), 109)
    guard n > 0 else { return false }
    text.count = n
    return true
  }
}

@c(ovl_bound)
public func ovlBound(
  _ real: UnsafeRawPointer?, _ realLength: UInt32, _ address: UnsafeRawPointer?, _ length: UInt32
) {
  guard let real = unsafe real, let address = unsafe address else { return }
  let given = unsafe sockName(address, length)
  let bound = unsafe sockName(real, realLength)
  // A name that cannot be kept is shown as the absolute path that it leads to.
  try? withScratch { (s) throws(Errno) in
    for i in 0..<Overlay.count {
      let overlay = Overlay(index: i)
      guard overlay.hasUpper,
        bound.isAt(orBelow: overlay.layerPath(0)) || bound.hasPrefix("/proc/self/fd/")
      else { continue }
      try SocketNote(overlay, bound, s).write(given, s)
      return
    }
  }
}

/// After a bind that failed: a lower's name that the whiteout hid is hidden again.
@c(ovl_bind_failed)
public func ovlBindFailed(_ address: UnsafeRawPointer?, _ length: UInt32) {
  guard let address = unsafe address, length > 2, length <= 110,
    unsafe address.loadUnaligned(as: UInt16.self) == UInt16(AF_UNIX),
    unsafe address.load(fromByteOffset: 2, as: UInt8.self) != 0
  else { return }
  try? withScratch { (s) throws(Errno) in
    var name = s.link
    var i = 2
    while i < Int(length), unsafe address.load(fromByteOffset: i, as: UInt8.self) != 0 {
      try name.append(unsafe address.load(fromByteOffset: i, as: UInt8.self))
      i += 1
    }
    try withScratch { (s2) throws(Errno) in
      guard
        let location = try unsafe Resolve.walk(AT_FDCWD, name.cString, follow: false, s2),
        location.overlay >= 0, location.lookup.node.layer > 0,
        location.lookup.node.kind != .none, location.lookup.node.kind != .directory
      else { return }
      try Overlay(index: location.overlay).unlink(location.path.view)
    }
  }
}

extension Overlay {
  /// Makes a name free for a bind(2): its directory in the upper, no whiteout in the way. Between the
  /// two steps a lower object of that name would show: so the whiteout only goes if there is none.
  func clearForSocket(_ rel: PathView) throws(Errno) {
    try changing(rel, missing: true) { (c) throws(Errno) in
      guard c.look.node.kind == .none else { throw Errno(rawValue: EADDRINUSE) }
      let name = NameChange(self, directory: c.look.directory, name: c.look.hash)
      defer { name.end() }
      if c.look.node.has(Node.whiteout) {
        // bind(2) makes the node itself and replaces nothing, so the whiteout has to go first; if the
        // bind then fails, `ovl_bind_failed` puts it back.
        try unsafe check(lx_unlinkat(AT_FDCWD, c.upper.cString, 0))
      }
    }
  }
}

@c(ovl_sockaddr_shown)
public func ovlSockaddrShown(
  _ address: UnsafeMutableRawPointer?, _ length: UInt32, _ capacity: UInt32
) -> UInt32 {
  guard let address = unsafe address, length > 3, capacity >= length,
    unsafe address.loadUnaligned(as: UInt16.self) == UInt16(AF_UNIX)
  else { return length }
  let name = unsafe (address + 2).assumingMemoryBound(to: UInt8.self)
  guard unsafe name[0] == slash else { return length }
  let real = unsafe sockName(address, length)
  let merged = RealPaths.merged(real, lowers: true)
  guard merged != nil || real.hasPrefix("/proc/self/fd/") else { return length }
  do throws(Errno) {
    return try withScratch { (s) throws(Errno) -> UInt32 in
      var shown = s.rest
      if let (overlay, rel, layer) = merged {
        let known = layer == 0 ? try SocketNote(overlay, real, s).read(into: &shown) : false
        if !known {
          shown.count = 0
          try shown.append(overlay.target)
          try shown.appendBelow(rel)
        }
      } else {
        var known = false
        for i in 0..<Overlay.count where !known && Overlay(index: i).hasUpper {
          known = try SocketNote(Overlay(index: i), real, s).read(into: &shown)
        }
        if !known { return length }
      }
      // What the caller's buffer cannot hold is cut off, as accept(2) does; the length says so.
      let room = min(Int(capacity) - 2, 108)
      let kept = min(shown.count, room)
      unsafe copyBytes(name, UnsafePointer(shown.base), kept)
      if kept < room { unsafe name[kept] = 0 }
      return UInt32(2 + shown.count + 1)
    }
  } catch { return length }
}
