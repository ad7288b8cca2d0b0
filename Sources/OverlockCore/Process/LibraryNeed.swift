import CLinux

/// Which programs ld.so must be told about the merged tree for (DESIGN: an audit library costs an exec
/// something). The others' libraries are where the layers show what the merged tree shows.
enum LibraryNeed {
  /// - Parameters:
  ///   - head: the first `n` bytes of the program.
  ///   - inside: the program is in an overlay. One outside is not looked at: what leads from it into an
  ///     overlay is LD_LIBRARY_PATH.
  static func has(
    _ fd: Int32, _ head: UnsafePointer<UInt8>, _ n: Int, inside: Bool,
    searchPath: UnsafePointer<CChar>?
  ) -> Bool {
    if unsafe searched(searchPath) || hidesDefaults() { return true }
    guard inside else { return false }
    var has = false
    try? withScratch { (s) throws(Errno) in
      let half = Scratch.spareSize / 2
      guard let section = unsafe DynamicSection(fd, head, n, s.spare, half) else { return }
      has = unsafe section.hasSearchPath || section.needsPath(s.spare + half, half)
    }
    return has
  }

  /// Fills in what a library needs. False: ld.so finds it in its default directories.
  static func read(_ needs: UnsafeMutablePointer<ovl_needs>, _ real: UnsafePointer<CChar>)
    throws(Errno) -> Bool
  {
    unsafe needs.pointee.count = 0
    unsafe needs.pointee.next = 0
    let r = unsafe lx_openat(AT_FDCWD, real, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0)
    if r < 0 { return false }
    let fd = Int32(truncatingIfNeeded: r)
    defer { _ = lx_close(fd) }
    return try withScratch { (s) throws(Errno) -> Bool in
      let head = unsafe s.rest.base
      let n = unsafe lx_pread(fd, head, 1024, 0)
      let half = Scratch.spareSize / 2
      guard n >= 64, unsafe head[0] == 0x7f,
        let section = unsafe DynamicSection(fd, head, n, s.spare, half),
        unsafe section.hasSearchPath || section.needsPath(s.spare + half, half)
      else { return false }
      var at = unsafe PathBuffer(ovl_needs_text(needs), capacity: Int(ovl_needs_text_size()))
      let rpath = try unsafe take(section, section.value(DynamicSection.rpath), s, &at)
      let runpath = try unsafe take(section, section.value(DynamicSection.runpath), s, &at)
      unsafe needs.pointee.rpath = rpath
      unsafe needs.pointee.runpath = runpath
      let soname = try unsafe take(section, section.value(DynamicSection.name), s, &at)
      unsafe needs.pointee.soname = soname
      let names = unsafe ovl_needs_names(needs)!
      var i = 0
      while i < Int(ovl_needs_max()), let value = section.value(DynamicSection.needed, i),
        let name = try unsafe take(section, value, s, &at)
      {
        unsafe names[i] = name
        i += 1
      }
      unsafe needs.pointee.count = Int32(i)
      return true
    }
  }

  /// Copies one string behind those that are there already.
  private static func take(
    _ section: DynamicSection, _ value: UInt64?, _ s: Scratch, _ to: inout PathBuffer
  ) throws(Errno) -> UnsafePointer<CChar>? {
    guard let text = unsafe section.string(value, s.here.base, s.here.capacity) else { return nil }
    let start = unsafe to.base + to.count
    try to.append(text)
    try to.append(UInt8(0))
    return unsafe UnsafeRawPointer(start).assumingMemoryBound(to: CChar.self)
  }

  /// Whether an element of LD_LIBRARY_PATH is in an overlay, or would be if it existed.
  static func searched(_ searchPath: UnsafePointer<CChar>?) -> Bool {
    guard let searchPath = unsafe searchPath, unsafe searchPath.pointee != 0 else { return false }
    let list = unsafe PathView(searchPath)
    var start = 0
    while start <= list.count {
      var end = start
      while end < list.count, !LibrarySearch.isSearchPath(list[end]) { end += 1 }
      let element = list.from(start).prefix(end - start)
      start = end + 1
      if leads(element) { return true }
    }
    return false
  }

  private static func leads(_ element: PathView) -> Bool {
    for i in 0..<element.count where element[i] == UInt8(ascii: "$") { return true }
    var inside = false
    try? withScratch { (s) throws(Errno) in
      var path = s.here
      if element.isEmpty { try path.append(dot) } else { try path.append(element) }
      let found = unsafe UnsafeMutableRawPointer(s.spare).assumingMemoryBound(to: ovl_path.self)
      let r = unsafe ovlLocate(found, AT_FDCWD, path.cString, UInt32(OVL_FOLLOW))
      inside = unsafe r == 0 && found.pointee.overlay >= 0
      if r < 0, r != passResult {
        inside = path.view[0] != slash || RealPaths.target(of: path.view) != nil
      }
      unsafe ovlPathRelease(found)
    }
    return inside
  }

  /// Whether a default directory is in an overlay, and is not simply the target's own.
  private static func hidesDefaults() -> Bool {
    for i in 0..<Overlay.count {
      let target = Overlay(index: i).target
      // "" or "/usr", "/usr/lib", "/lib": what is longer holds no default directory as a whole.
      guard target.count <= 9, isDefault(target) else { continue }
      if differs("/lib/x86_64-linux-gnu") || differs("/usr/lib/x86_64-linux-gnu")
        || differs("/lib64") || differs("/usr/lib64") || differs("/usr/lib") || differs("/lib")
        || differs("/usr/local/lib")
      {
        return true
      }
    }
    return false
  }

  private static func isDefault(_ target: PathView) -> Bool {
    target.isEmpty || target.equals("/usr") || target.equals("/usr/lib") || target.equals("/lib")
      || target.equals("/lib64") || target.equals("/usr/lib64")
  }

  private static func differs(_ directory: StaticString) -> Bool {
    let path = unsafe PathView(directory.utf8Start, directory.utf8CodeUnitCount)
    var differs = false
    try? withScratch { (s) throws(Errno) in
      var name = s.here
      try name.append(path)
      let found = unsafe UnsafeMutableRawPointer(s.spare).assumingMemoryBound(to: ovl_path.self)
      // Through /lib, a link to usr/lib: an upper directory shows in what it leads to.
      let r = unsafe ovlLocate(found, AT_FDCWD, name.cString, UInt32(OVL_FOLLOW))
      differs = unsafe r == 0 && found.pointee.overlay >= 0 && found.pointee.layer == 0
      unsafe ovlPathRelease(found)
    }
    return differs
  }
}
