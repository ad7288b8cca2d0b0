import CLinux

/// AF_UNIX pathname addresses. sun_path holds 108 bytes: a layer's path may not fit, so the kernel is
/// given `/proc/self/fd/N/name` with N on the real directory for the time of the call.

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
private func write(
  _ real: PathBuffer, to out: UnsafeMutableRawPointer, _ s: Scratch
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
  try directory.append(real.view.parent)
  if directory.count == 0 { try directory.append(slash) }
  let opened = try unsafe check(
    lx_openat(AT_FDCWD, directory.cString, O_PATH | O_DIRECTORY | O_CLOEXEC, 0))
  let fd = Int32(truncatingIfNeeded: opened)
  do throws(Errno) {
    try short.append("/proc/self/fd/")
    try short.append(decimal: UInt64(opened))
    try short.append(slash)
    try short.append(real.view.name)
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
          _ = try existing(location)
          try real.append(s2.real2.written.view)
        }
        (unsafe outLength.pointee, unsafe hold.pointee) = try unsafe write(real, to: out, s)
        return 0
      }
    }
  }
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
        if location.overlay < 0 { return bind(fd, location.path, s) }
        if location.lookup.node.kind != .none { throw Errno(rawValue: EADDRINUSE) }
        if location.trailing { throw .noEntry }
        try Overlay(index: location.overlay).makeSocket(location.path.view) { bind(fd, $0, s) }
        return 0
      }
    }
  }
}

/// bind(2) to a real path: 0 or -errno.
private func bind(_ fd: Int32, _ real: PathBuffer, _ s: Scratch) -> Int {
  var address: InlineArray<128, UInt8> = InlineArray(repeating: 0)
  return unsafe withUnsafeMutablePointer(to: &address) { bytes in
    do throws(Errno) {
      let (length, hold) = try unsafe write(real, to: UnsafeMutableRawPointer(bytes), s)
      let r = unsafe lx_bind(fd, bytes, length)
      if hold >= 0 { _ = lx_close(hold) }
      return r
    } catch { return error.result }
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
  var count = 0
  while count < Int(length) - 2, unsafe name[count] != 0 { count += 1 }
  do throws(Errno) {
    return try withScratch { (s) throws(Errno) -> UInt32 in
      var bound = s.link
      let found: (overlay: Overlay, rel: PathView, layer: Int)?
      if let overlay = try unsafe Overlay.bound(PathView(name, count), into: &bound) {
        found = (overlay, bound.view, 0)
      } else {
        found = unsafe RealPaths.merged(PathView(name, count), lowers: true)
      }
      guard let (overlay, rel, _) = found else { return length }
      var shown = s.rest
      try shown.append(overlay.target)
      try shown.appendBelow(rel)
      // What the caller's buffer cannot hold is cut off, as accept(2) does; the length says so.
      let room = min(Int(capacity) - 2, 108)
      let kept = min(shown.count, room)
      unsafe copyBytes(name, UnsafePointer(shown.base), kept)
      if kept < room { unsafe name[kept] = 0 }
      return UInt32(2 + shown.count + 1)
    }
  } catch { return length }
}
