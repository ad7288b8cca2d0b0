import CLinux

/// What exec has to do: find the file in the merged tree, interpret `#!` where the kernel would look
/// in the wrong world, and recognise programs that a preload does not reach.
///
/// The decision about unreached programs stands in one place (`judge`), so that another answer than
/// refusing them finds its room.
enum Exec {
  static func prepare(
    _ e: UnsafeMutablePointer<ovl_exec>, _ dirfd: Int32, _ path: UnsafePointer<CChar>?,
    _ flags: Int32
  ) throws(Errno) -> Int {
    unsafe e.pointee.file.block = 0
    unsafe e.pointee.file.overlay = -1
    unsafe e.pointee.script = 0
    unsafe e.pointee.unreached = 0
    unsafe e.pointee.refuse = 0
    unsafe e.pointee.warn = 0
    unsafe e.pointee.audit = 0
    try unsafe saveState(e)
    guard let path = unsafe path, unsafe isMapped(path) else { return passResult }
    let file = unsafe fileOf(e)
    if unsafe path.pointee == 0 {
      // fexecve: the descriptor's own file.
      guard flags & AT_EMPTY_PATH != 0 else { return passResult }
      _ = unsafe inspect(e, dirfd, path, nil, empty: true)
      let entry = DescriptorTable.entry(dirfd)
      if entry.isOurs { try unsafe saveProgram(e, entry.overlay, entry.layer) }
      return passResult
    }
    let follow = flags & AT_SYMLINK_NOFOLLOW == 0
    let r = unsafe ovlLocate(file, dirfd, path, follow ? UInt32(OVL_FOLLOW) : 0)
    if r == passResult {
      _ = unsafe inspect(e, dirfd, path, path, empty: false)
      return passResult
    }
    try check(r)
    if unsafe file.pointee.overlay >= 0 {
      switch unsafe file.pointee.kind {
      case Kind.directory.rawValue: throw .access
      case Kind.link.rawValue: throw .loop
      default: break
      }
    }
    let isScript = unsafe inspect(e, AT_FDCWD, file.pointee.real, path, empty: false)
    if isScript, unsafe file.pointee.overlay >= 0 {
      try unsafe check(
        lx_faccessat2(AT_FDCWD, file.pointee.real, X_OK, AT_EACCESS))
      try unsafe interpret(e, dirfd, path)
    }
    try unsafe saveProgram(e, Int(file.pointee.overlay), Int(file.pointee.layer))
    return 0
  }

  private static func fileOf(_ e: UnsafeMutablePointer<ovl_exec>)
    -> UnsafeMutablePointer<ovl_path>
  {
    unsafe ovl_exec_file(e)
  }

  private static func line(_ e: UnsafeMutablePointer<ovl_exec>) -> UnsafeMutablePointer<UInt8> {
    unsafe ovl_exec_line(e)
  }

  private static func saveState(_ e: UnsafeMutablePointer<ovl_exec>) throws(Errno) {
    var text = unsafe PathBuffer(ovl_exec_state(e), capacity: ovl_exec_state_size())
    try CarriedState.save(into: &text)
    _ = unsafe text.cString
  }

  /// Enough for the program headers of what linkers make; the kernel reads less of a `#!` line.
  private static var headSize: Int { 1023 }

  /// The same again if the program is a lower's which the target is not: only we know that it is meant.
  private static func saveProgram(
    _ e: UnsafeMutablePointer<ovl_exec>, _ index: Int, _ layer: Int
  ) throws(Errno) {
    guard index >= 0, index < Overlay.count, layer > 0, layer < Overlay(index: index).layerCount
    else { return }
    let overlay = Overlay(index: index)
    if overlay.layerPath(layer).equals(overlay.target) { return }
    var text = unsafe PathBuffer(ovl_exec_state(e), capacity: ovl_exec_state_size())
    try CarriedState.save(into: &text, program: overlay)
    _ = unsafe text.cString
  }

  /// Reads the head of the file. True: it is a `#!` script, whose first line is in `e.line`.
  private static func inspect(
    _ e: UnsafeMutablePointer<ovl_exec>, _ dirfd: Int32, _ real: UnsafePointer<CChar>,
    _ shown: UnsafePointer<CChar>?, empty: Bool
  ) -> Bool {
    let index = unsafe Int(e.pointee.file.overlay)
    guard index >= 0, !empty else { return unsafe readHead(e, dirfd, real, empty: empty) }
    // For who watches, the kernel reads it.
    var markers = Markers(Overlay(index: index))
    unsafe markers.object(at: PathView(real), .reading)
    let isAny = markers.isAny
    let isScript = unsafe readHead(e, dirfd, real, empty: false)
    markers.end()
    // A script we read in its place.
    return unsafe isAny && isScript ? readHead(e, dirfd, real, empty: false) : isScript
  }

  private static func readHead(
    _ e: UnsafeMutablePointer<ovl_exec>, _ dirfd: Int32, _ real: UnsafePointer<CChar>,
    empty: Bool
  ) -> Bool {
    var fd = dirfd
    if !empty {
      let r = unsafe lx_openat(dirfd, real, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0)
      // Not readable, or not there: execve says so itself.
      if r < 0 { return false }
      fd = Int32(truncatingIfNeeded: r)
    }
    defer { if !empty { _ = lx_close(fd) } }
    let head = unsafe line(e)
    let n = unsafe lx_pread(fd, head, headSize, 0)
    guard n >= 4 else { return false }
    unsafe head[n] = 0
    if unsafe head[0] == 0x23, unsafe head[1] == 0x21 {
      // Outside, the kernel starts the interpreter.
      if unsafe LibraryNeed.searched(e.pointee.search_path) { unsafe e.pointee.audit = 1 }
      return true
    }
    if unsafe head[0] == 0x7f, unsafe head[1] == 0x45 {
      unsafe consider(e, fd, head, n, inside: empty || e.pointee.file.overlay >= 0)
    }
    return false
  }

  /// A program's ELF header has been read: is it within reach, and where are its libraries?
  private static func consider(
    _ e: UnsafeMutablePointer<ovl_exec>, _ fd: Int32, _ head: UnsafeMutablePointer<UInt8>,
    _ n: Int, inside: Bool
  ) {
    unsafe e.pointee.unreached = Elf.reach(fd, head, n)
    guard unsafe e.pointee.unreached == Int32(OVL_REACHED.rawValue) else { return unsafe judge(e) }
    let searchPath = unsafe e.pointee.search_path
    if unsafe LibraryNeed.has(fd, head, n, inside: inside, searchPath: searchPath) {
      unsafe e.pointee.audit = 1
    }
  }

  /// DESIGN: never silent; refused where the target is itself a lower, since such a program would
  /// write into the lower.
  private static func judge(_ e: UnsafeMutablePointer<ovl_exec>) {
    guard unsafe e.pointee.unreached != Int32(OVL_REACHED.rawValue) else { return }
    var refuse = false
    var warn = false
    for i in 0..<Overlay.count {
      let overlay = Overlay(index: i)
      if overlay.has(OVL_UNREACHED_ALLOW) { continue }
      if overlay.has(OVL_UNREACHED_REFUSE) {
        refuse = true
      } else if overlay.has(OVL_UNREACHED_WARN) {
        warn = true
      } else if overlay.has(OVL_TARGET_IS_LOWER), overlay.hasUpper {
        refuse = true
      } else {
        warn = true
      }
    }
    unsafe e.pointee.refuse = refuse ? 1 : 0
    unsafe e.pointee.warn = warn ? 1 : 0
  }

  /// Splits the `#!` line as the kernel does (fs/binfmt_script.c): interpreter, and the rest of the
  /// line as one argument.
  private static func interpret(
    _ e: UnsafeMutablePointer<ovl_exec>, _ dirfd: Int32, _ path: UnsafePointer<CChar>
  ) throws(Errno) {
    let head = unsafe line(e)
    var i = 2
    while unsafe head[i] == 32 || head[i] == 9 { i += 1 }
    let start = i
    while unsafe head[i] != 0 && head[i] != 10 && head[i] != 32 && head[i] != 9 { i += 1 }
    guard i > start, i < 255 else { throw Errno(rawValue: ENOEXEC) }
    var end = i
    var argument = i
    while unsafe head[argument] == 32 || head[argument] == 9 { argument += 1 }
    var last = argument
    while unsafe head[last] != 0 && head[last] != 10 && last < 255 { last += 1 }
    while last > argument, unsafe head[last - 1] == 32 || head[last - 1] == 9 { last -= 1 }
    unsafe head[end] = 0
    end = last
    let hasArgument = last > argument
    if hasArgument { unsafe head[last] = 0 }
    unsafe e.pointee.interpreter = UnsafePointer(
      UnsafeMutableRawPointer(head + start).assumingMemoryBound(to: CChar.self))
    unsafe e.pointee.argument =
      hasArgument
      ? UnsafePointer(
        UnsafeMutableRawPointer(head + argument).assumingMemoryBound(to: CChar.self)) : nil
    unsafe e.pointee.path = path
    unsafe e.pointee.script = 1
    let file = unsafe fileOf(e)
    unsafe ovlPathRelease(file)
    let r = unsafe ovlLocate(file, AT_FDCWD, e.pointee.interpreter, UInt32(OVL_FOLLOW))
    if r == passResult {
      unsafe file.pointee.real = e.pointee.interpreter
    } else {
      try check(r)
    }
    // The interpreter may be out of reach too.
    try unsafe inspectInterpreter(e, file.pointee.real)
  }

  private static func inspectInterpreter(
    _ e: UnsafeMutablePointer<ovl_exec>, _ real: UnsafePointer<CChar>
  ) throws(Errno) {
    let r = unsafe lx_openat(AT_FDCWD, real, O_RDONLY | O_CLOEXEC | O_NONBLOCK, 0)
    if r < 0 { return }
    let fd = Int32(truncatingIfNeeded: r)
    defer { _ = lx_close(fd) }
    try withScratch { (s) throws(Errno) in
      let n = unsafe lx_pread(fd, s.spare, headSize, 0)
      guard n >= 64, unsafe s.spare[0] == 0x7f else { return }
      unsafe consider(e, fd, s.spare, n, inside: e.pointee.file.overlay >= 0)
    }
  }
}
