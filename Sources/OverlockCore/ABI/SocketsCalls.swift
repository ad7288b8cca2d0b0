import CLinux

/// AF_UNIX pathname addresses. sun_path holds 108 bytes: a layer's path may not fit, so the kernel is
/// given `/proc/self/fd/N` for the time of the call, with N on the socket, or `/proc/self/fd/N/name` with N on
/// the directory of a socket that is to be. A name without a slash is bound as it is, in its real directory:
/// that is what the kernel then tells everybody, in /proc/net/unix too.

/// Where sun_path starts.
private var pathOffset: Int { 2 }

/// The path of a pathname address; false: it is another kind of address.
private func read(
  _ address: UnsafeRawPointer?, _ length: UInt32, into name: inout PathBuffer
) throws(Errno) -> Bool {
  guard let address = unsafe address, length > 2, length <= 110,
    unsafe address.loadUnaligned(as: UInt16.self) == UInt16(AF_UNIX)
  else { return false }
  for i in pathOffset..<Int(length) {
    let byte = unsafe address.load(fromByteOffset: i, as: UInt8.self)
    if byte == 0 { break }
    try name.append(byte)
  }
  return name.count > 0
}

/// Writes the address of a real path. Returns its length and a descriptor to close after the call, or
/// -1. Errors: ENAMETOOLONG; as open(2) of the directory.
///
/// - Parameter exists: the socket is there.
private func write(
  _ real: PathBuffer, exists: Bool, to out: UnsafeMutableRawPointer, _ s: Scratch
) throws(Errno) -> (length: UInt32, hold: Int32) {
  var short = unsafe PathBuffer(
    (out + pathOffset).assumingMemoryBound(to: UInt8.self), capacity: 108)
  unsafe out.storeBytes(of: UInt16(AF_UNIX), as: UInt16.self)
  if real.count < 107 {
    try short.append(real.view)
    _ = unsafe short.cString
    return (UInt32(pathOffset + short.count + 1), -1)
  }
  var directory = s.staging
  try directory.append(exists ? real.view : real.view.parent)
  if directory.count == 0 { try directory.append(slash) }
  let opened = try unsafe check(
    lx_openat(
      AT_FDCWD, directory.cString, O_PATH | O_CLOEXEC | (exists ? 0 : O_DIRECTORY), 0))
  let fd = Int32(truncatingIfNeeded: opened)
  do throws(Errno) {
    try short.append("/proc/self/fd/")
    try short.append(decimal: UInt64(opened))
    if !exists {
      try short.append(slash)
      try short.append(real.view.name)
    }
  } catch {
    _ = lx_close(fd)
    throw Errno(rawValue: ENAMETOOLONG)
  }
  _ = unsafe short.cString
  return (UInt32(pathOffset + short.count + 1), fd)
}

@c(ovl_sockaddr)
public func ovlSockaddr(
  _ address: UnsafeRawPointer?, _ length: UInt32, _ out: UnsafeMutableRawPointer?,
  _ outLength: UnsafeMutablePointer<UInt32>?, _ hold: UnsafeMutablePointer<Int32>?
) -> Int {
  guard let out = unsafe out, let outLength = unsafe outLength, let hold = unsafe hold else {
    return passResult
  }
  unsafe hold.pointee = -1
  return bordered { () throws(Errno) in
    try withScratch { (s) throws(Errno) -> Int in
      var name = s.link
      guard try unsafe read(address, length, into: &name) else { return passResult }
      return try withScratch { (s2) throws(Errno) -> Int in
        guard
          let location = try unsafe Resolve.walk(AT_FDCWD, name.cString, follow: true, s2)
        else { return passResult }
        var real = s.real
        if location.overlay < 0 {
          try real.append(location.path.view)
        } else {
          let node = try existing(location)
          if try !origin(location, node, into: &real, s2) {
            try real.append(s2.real2.written.view)
          }
        }
        (unsafe outLength.pointee, unsafe hold.pointee) = try unsafe write(
          real, exists: true, to: out, s)
        return 0
      }
    }
  }
}

/// The lower socket that one of the upper was copied from: who bound that is still there. Whether it may be
/// used its copy says. False: it was not copied up, or the lower one is gone.
private func origin(
  _ location: Location, _ node: Node, into real: inout PathBuffer, _ s: Scratch
) throws(Errno) -> Bool {
  guard node.kind == .special, node.layer == 0, node.shownInode != 0 else { return false }
  let overlay = Overlay(index: location.overlay)
  guard try overlay.origin(.meeting, node.shownInode, into: &real, s) != nil else {
    real.count = 0
    return false
  }
  try unsafe check(
    lx_faccessat2(AT_FDCWD, s.real2.unterminated, W_OK, AT_EACCESS | AT_SYMLINK_NOFOLLOW))
  return true
}

@c(ovl_bind)
public func ovlBind(_ fd: Int32, _ address: UnsafeRawPointer?, _ length: UInt32) -> Int {
  bordered { () throws(Errno) in
    try withScratch { (s) throws(Errno) -> Int in
      var name = s.link
      guard try unsafe read(address, length, into: &name) else { return passResult }
      return try withScratch { (s2) throws(Errno) -> Int in
        guard
          let location = try unsafe Resolve.walk(AT_FDCWD, name.cString, follow: false, s2)
        else { return passResult }
        if location.overlay < 0 { return bind(fd, location.path, nil, name.view, s) }
        if location.lookup.node.kind != .none { throw Errno(rawValue: EADDRINUSE) }
        if location.trailing { throw .noEntry }
        let overlay = Overlay(index: location.overlay)
        try overlay.makeSocket(location.path.view) { bind(fd, $0, overlay, name.view, s) }
        return 0
      }
    }
  }
}

/// bind(2) to a real path, whose name the overlay notes: 0 or -errno.
private func bind(
  _ fd: Int32, _ real: PathBuffer, _ overlay: Overlay?, _ name: PathView, _ s: Scratch
) -> Int {
  var address: InlineArray<128, UInt8> = InlineArray(repeating: 0)
  return unsafe withUnsafeMutablePointer(to: &address) { bytes in
    let start = UnsafeMutableRawPointer(bytes)
    do throws(Errno) {
      if name.equals(real.view.name), name.count <= 108 {
        var directory = s.staging
        try directory.append(real.view.parent)
        if directory.count == 0 { try directory.append(slash) }
        unsafe start.storeBytes(of: UInt16(AF_UNIX), as: UInt16.self)
        let text = unsafe (start + pathOffset).assumingMemoryBound(to: UInt8.self)
        unsafe copyBytes(text, name.base, name.count)
        return unsafe lx_bind_in(
          directory.cString, fd, bytes, UInt32(min(pathOffset + name.count + 1, 110)))
      }
      let (length, hold) = try unsafe write(real, exists: false, to: start, s)
      let r = unsafe lx_bind(fd, bytes, length)
      if hold >= 0 { _ = lx_close(hold) }
      // A name that cannot be kept is shown as the absolute path that it leads to.
      if r == 0, let overlay { try? overlay.noteSocket(unsafe text(start, length), named: name, s) }
      return r
    } catch { return error.result }
  }
}

/// The text of a pathname address.
private func text(_ address: UnsafeRawPointer, _ length: UInt32) -> PathView {
  let name = unsafe (address + pathOffset).assumingMemoryBound(to: UInt8.self)
  var count = 0
  while count < Int(length) - pathOffset, unsafe name[count] != 0 { count += 1 }
  return unsafe PathView(name, count)
}

@c(ovl_sockaddr_shown)
public func ovlSockaddrShown(
  _ address: UnsafeMutableRawPointer?, _ length: UInt32, _ capacity: UInt32
) -> UInt32 {
  guard let address = unsafe address, length > 3, capacity >= length,
    unsafe address.loadUnaligned(as: UInt16.self) == UInt16(AF_UNIX)
  else { return length }
  let name = unsafe (address + pathOffset).assumingMemoryBound(to: UInt8.self)
  guard unsafe name[0] == slash else { return length }
  let real = unsafe text(address, length)
  do throws(Errno) {
    return try withScratch { (s) throws(Errno) -> UInt32 in
      var shown = s.rest
      guard try findName(of: real, into: &shown, s) else { return length }
      // What the caller's buffer cannot hold is cut off, as accept(2) does; the length says so.
      let room = min(Int(capacity) - pathOffset, 108)
      let kept = min(shown.count, room)
      unsafe copyBytes(name, UnsafePointer(shown.base), kept)
      if kept < room { unsafe name[kept] = 0 }
      return UInt32(pathOffset + shown.count + 1)
    }
  } catch { return length }
}

/// The name to show for a path that the kernel has. False: that itself.
private func findName(
  of real: PathView, into shown: inout PathBuffer, _ s: Scratch
) throws(Errno) -> Bool {
  let merged = RealPaths.merged(real, lowers: true)
  for i in 0..<Overlay.count {
    let overlay = Overlay(index: i)
    guard overlay.hasUpper,
      real.isAt(orBelow: overlay.layerPath(0)) || real.isAt(orBelow: overlay.work)
        || real.hasPrefix("/proc/self/fd/")
    else { continue }
    if try overlay.socketName(real, into: &shown, s) { return true }
  }
  guard let (overlay, rel, _) = merged else { return false }
  shown.count = 0
  try shown.append(overlay.target)
  try shown.appendBelow(rel)
  return true
}
