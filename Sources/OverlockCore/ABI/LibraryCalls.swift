import CLinux

/// Shared libraries: what the audit library and the dlopen hooks ask.

@c(ovl_library_find)
public func ovlLibraryFind(
  _ library: UnsafeMutablePointer<ovl_library>?, _ name: UnsafePointer<CChar>?,
  _ seeker: UnsafePointer<ovl_seeker>?
) -> Int {
  guard let library = unsafe library, let name = unsafe name, let seeker = unsafe seeker else {
    return 0
  }
  return bordered { () throws(Errno) -> Int in
    let text = unsafe PathView(name)
    let found =
      text.lastSlash >= 0
      ? try unsafe LibrarySearch.locate(library, text, seeker)
      : try unsafe LibrarySearch.find(library, text, seeker)
    return found ? 1 : 0
  }
}

@c(ovl_library_candidate)
public func ovlLibraryCandidate(
  _ library: UnsafeMutablePointer<ovl_library>?, _ path: UnsafePointer<CChar>?,
  _ cache: UnsafeMutablePointer<ovl_search_cache>?
) -> Int {
  guard let library = unsafe library, let path = unsafe path else { return 0 }
  return bordered { () throws(Errno) -> Int in
    try unsafe LibrarySearch.candidate(library, path, cache)
  }
}

@c(ovl_library_origin)
public func ovlLibraryOrigin(_ path: UnsafePointer<CChar>?, _ buffer: UnsafeMutablePointer<CChar>?)
  -> Int
{
  guard let buffer = unsafe buffer else { return -Int(EFAULT) }
  return bordered { () throws(Errno) -> Int in
    var origin = unsafe PathBuffer(
      UnsafeMutableRawPointer(buffer).assumingMemoryBound(to: UInt8.self),
      capacity: Int(OVL_PATH_MAX))
    if let path = unsafe path {
      try unsafe LibrarySearch.directory(of: PathView(path), into: &origin)
    } else {
      try LibrarySearch.programDirectory(into: &origin)
    }
    _ = unsafe origin.cString
    return 0
  }
}

@c(ovl_library_needs)
public func ovlLibraryNeeds(
  _ needs: UnsafeMutablePointer<ovl_needs>?, _ real: UnsafePointer<CChar>?
) -> Int {
  guard let needs = unsafe needs, let real = unsafe real else { return 0 }
  return bordered { () throws(Errno) -> Int in try unsafe LibraryNeed.read(needs, real) ? 1 : 0 }
}

@c(ovl_library_moved)
public func ovlLibraryMoved() { WorkingDirectory.forget() }
