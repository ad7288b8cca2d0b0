import CLinux

/// The dynamic loader's search for a shared library, done in the merged tree: ld.so's own, whose system
/// calls no hook reaches, sees layers.
///
/// The order is ld.so(8)'s: DT_RPATH of the object that needs the library and of those that loaded it
/// (unless it has a DT_RUNPATH), LD_LIBRARY_PATH, its DT_RUNPATH. The cache and the default directories
/// are left to ld.so, which is told about each candidate there.
///
/// Left out: the hardware directories that glibc looked into before 2.37 (`tls`, `haswell` and the like).
enum LibrarySearch {
  typealias Seeker = UnsafePointer<ovl_seeker>

  /// False: none of the directories has it.
  static func find(
    _ library: UnsafeMutablePointer<ovl_library>, _ name: PathView, _ seeker: Seeker
  ) throws(Errno) -> Bool {
    if let own = unsafe seeker.pointee.runpath {
      if try unsafe findOnSearchPath(library, name, seeker) { return true }
      return try unsafe find(library, name, PathView(own), isList, seeker)
    }
    var next: Seeker? = unsafe seeker
    var sawProgram = false
    while let loader = unsafe next {
      sawProgram = unsafe sawProgram || loader.pointee.is_program != 0
      if try unsafe findByPath(library, name, loader) { return true }
      unsafe next = loader.pointee.loader
    }
    if !sawProgram, let program = unsafe seeker.pointee.program,
      try unsafe findByPath(library, name, program)
    {
      return true
    }
    return try unsafe findOnSearchPath(library, name, seeker)
  }

  /// DT_RPATH of one object, which counts only where it has no DT_RUNPATH.
  private static func findByPath(
    _ library: UnsafeMutablePointer<ovl_library>, _ name: PathView, _ seeker: Seeker
  ) throws(Errno) -> Bool {
    guard unsafe seeker.pointee.runpath == nil, let path = unsafe seeker.pointee.rpath else {
      return false
    }
    return try unsafe find(library, name, PathView(path), isList, seeker)
  }

  private static func findOnSearchPath(
    _ library: UnsafeMutablePointer<ovl_library>, _ name: PathView, _ seeker: Seeker
  ) throws(Errno) -> Bool {
    guard let path = unsafe seeker.pointee.search_path, unsafe path.pointee != 0 else {
      return false
    }
    // $ORIGIN is the program's there.
    let program = unsafe seeker.pointee.program ?? seeker
    return try unsafe find(library, name, PathView(path), isSearchPath, program)
  }

  private static func isList(_ c: UInt8) -> Bool { c == UInt8(ascii: ":") }
  static func isSearchPath(_ c: UInt8) -> Bool { c == UInt8(ascii: ":") || c == UInt8(ascii: ";") }

  private static func find(
    _ library: UnsafeMutablePointer<ovl_library>, _ name: PathView, _ list: PathView,
    _ separates: (UInt8) -> Bool, _ seeker: Seeker
  ) throws(Errno) -> Bool {
    var start = 0
    while start <= list.count {
      var end = start
      while end < list.count, !separates(list[end]) { end += 1 }
      let element = list.from(start).prefix(end - start)
      start = end + 1
      do throws(Errno) {
        if try unsafe findIn(library, name, element, seeker) { return true }
      } catch {
        // A candidate whose path is too long is none; nor is one with a token that nobody can replace.
        if error != .nameTooLong, error != .noEntry { throw error }
      }
    }
    return false
  }

  private static func findIn(
    _ library: UnsafeMutablePointer<ovl_library>, _ name: PathView, _ element: PathView,
    _ seeker: Seeker
  ) throws(Errno) -> Bool {
    try withScratch { (s) throws(Errno) -> Bool in
      var path = s.here
      if element.isEmpty {
        try path.append(dot)
      } else {
        try unsafe LibraryToken.expand(element, seeker, into: &path)
      }
      while path.count > 1, path.view[path.count - 1] == slash { path.count -= 1 }
      if path.view[path.count - 1] != slash { try path.append(slash) }
      let plain = unsafe seeker.pointee.plain != 0
      var canonical = s.staging
      let directory = try unsafe SearchDirectory.look(
        path.view, into: &canonical, seeker.pointee.cache, plain: plain)
      if directory == .missing { return false }
      let shown = path.count
      let start = canonical.count
      if directory == .hardware {
        var level = Int(lx_cpu_level())
        while level >= 2 {
          path.count = shown
          canonical.count = start
          try appendHardware(level, name, to: &path)
          try appendHardware(level, name, to: &canonical)
          if try unsafe take(library, path, canonical, s, plain) { return true }
          level -= 1
        }
      }
      path.count = shown
      canonical.count = start
      try path.append(name)
      try canonical.append(name)
      return try unsafe take(library, path, canonical, s, plain)
    }
  }

  private static func appendHardware(_ level: Int, _ name: PathView, to path: inout PathBuffer)
    throws(Errno)
  {
    try path.append("glibc-hwcaps/x86-64-v")
    try path.append(decimal: UInt64(level))
    try path.append(slash)
    try path.append(name)
  }

  /// Where the name is: nil for nowhere.
  private static func place(
    _ library: UnsafeMutablePointer<ovl_library>, _ path: UnsafePointer<CChar>, _ s: Scratch,
    _ plain: Bool
  ) throws(Errno) -> PathView? {
    let found = unsafe UnsafeMutableRawPointer(s.spare).assumingMemoryBound(to: ovl_path.self)
    unsafe found.pointee.block = 0
    let r = unsafe plain ? passResult : ovlLocate(found, AT_FDCWD, path, UInt32(OVL_FOLLOW))
    defer { unsafe ovlPathRelease(found) }
    unsafe library.pointee.inside = r == 0 && found.pointee.overlay >= 0 ? 1 : 0
    var real = s.real2
    real.count = 0
    if r == passResult {
      guard unsafe lx_faccessat2(AT_FDCWD, path, F_OK, 0) == 0 else { return nil }
      try unsafe real.append(PathView(path))
    } else {
      guard r == 0 else { return nil }
      try unsafe real.append(PathView(found.pointee.real))
    }
    _ = unsafe real.cString
    return real.view
  }

  private static func take(
    _ library: UnsafeMutablePointer<ovl_library>, _ shown: PathBuffer,
    _ canonical: PathBuffer, _ s: Scratch, _ plain: Bool
  ) throws(Errno) -> Bool {
    guard let real = try unsafe place(library, canonical.cString, s, plain) else { return false }
    guard Elf.mayLoad(real) else { return false }
    try unsafe fill(library, shown.view, real)
    return true
  }

  /// A library that is asked for by path, which may hold tokens. False: it is nowhere.
  static func locate(
    _ library: UnsafeMutablePointer<ovl_library>, _ path: PathView, _ seeker: Seeker
  ) throws(Errno) -> Bool {
    try withScratch { (s) throws(Errno) -> Bool in
      var shown = s.here
      try unsafe LibraryToken.expand(path, seeker, into: &shown)
      guard let real = try unsafe place(library, shown.cString, s, false) else {
        guard unsafe lx_faccessat2(AT_FDCWD, shown.cString, F_OK, 0) == 0 else { return false }
        // The kernel would find a lower's: with a blank behind it, ld.so says what it says of a name
        // that is not there.
        var real = s.real2
        try real.append(shown.view)
        try real.append(UInt8(ascii: " "))
        unsafe library.pointee.inside = 1
        try unsafe fill(library, shown.view, real.view)
        return true
      }
      try unsafe fill(library, shown.view, real)
      return true
    }
  }

  /// The real path gets slashes in front, so that the shown one fits into its memory.
  private static func fill(
    _ library: UnsafeMutablePointer<ovl_library>, _ shown: PathView, _ real: PathView
  ) throws(Errno) {
    var to = unsafe PathBuffer(ovl_library_shown(library), capacity: Int(OVL_PATH_MAX))
    try to.append(shown)
    _ = unsafe to.cString
    to = unsafe PathBuffer(ovl_library_real(library), capacity: Int(OVL_PATH_MAX))
    if real[0] == slash {
      for _ in 0..<max(0, shown.count - real.count) { try to.append(slash) }
    }
    try to.append(real)
    _ = unsafe to.cString
  }

  /// A candidate of ld.so's own search. 1: the library's `real`; 0: the path itself; else an error.
  static func candidate(
    _ library: UnsafeMutablePointer<ovl_library>, _ path: UnsafePointer<CChar>,
    _ cache: UnsafeMutablePointer<ovl_search_cache>?
  ) throws(Errno) -> Int {
    try withScratch { (s) throws(Errno) -> Int in
      let text = unsafe PathView(path)
      var canonical = s.staging
      let name = text.name
      let parent = text.prefix(text.count - name.count)
      if unsafe cache != nil, !parent.isEmpty {
        let directory = try unsafe SearchDirectory.look(
          parent, into: &canonical, cache, plain: false)
        if directory == .missing { throw .noEntry }
        let link = unsafe UnsafeMutableRawPointer(s.link.base)
        if directory == .outside,
          unsafe lx_readlinkat(AT_FDCWD, path, link.assumingMemoryBound(to: CChar.self), 8) < 0
        {
          return 0
        }
      }
      let found = unsafe UnsafeMutableRawPointer(s.spare).assumingMemoryBound(to: ovl_path.self)
      let r = unsafe ovlLocate(found, AT_FDCWD, path, UInt32(OVL_FOLLOW))
      defer { unsafe ovlPathRelease(found) }
      if r == passResult {
        // By the real $ORIGIN of a program ld.so comes to layers: that search is done already.
        guard text[0] == slash, RealPaths.merged(text, lowers: true) != nil else { return 0 }
        throw .noEntry
      }
      try check(r)
      try unsafe fill(library, text, PathView(found.pointee.real))
      return 1
    }
  }

  /// Appends the directory that a path is in, absolute.
  static func directory(of path: PathView, into directory: inout PathBuffer) throws(Errno) {
    if path[0] != slash {
      let n = unsafe ovlGetcwd(
        UnsafeMutableRawPointer(directory.base).assumingMemoryBound(to: CChar.self),
        directory.capacity)
      if n == passResult {
        let kernel = unsafe lx_getcwd(
          UnsafeMutableRawPointer(directory.base).assumingMemoryBound(to: CChar.self),
          directory.capacity)
        try check(kernel)
        directory.count = kernel - 1
      } else {
        try check(n)
        directory.count = n - 1
      }
      try directory.append(slash)
    }
    let parent = path.parent
    if parent.isEmpty, path[0] == slash { return try directory.append(slash) }
    try directory.append(parent)
  }

  /// The directory of the running program in the merged tree.
  static func programDirectory(into path: inout PathBuffer) throws(Errno) {
    try withScratch { (s) throws(Errno) in
      var link = s.link
      let n = unsafe lx_readlinkat(
        AT_FDCWD, "/proc/self/exe",
        UnsafeMutableRawPointer(link.base).assumingMemoryBound(to: CChar.self), 4096)
      guard n > 0, unsafe link.base[0] == slash else { throw .noEntry }
      link.count = n
      path.count = 0
      // By a lower's own path the exec hooks alone start programs here.
      guard let (overlay, rel, layer) = RealPaths.merged(link.view, lowers: true) else {
        return try path.append(link.view.parent)
      }
      var here = s.here
      try here.append(rel)
      _ = try overlay.followLower(&here, layer: layer)
      try path.append(overlay.target)
      try path.appendBelow(here.view.parent)
    }
  }
}
