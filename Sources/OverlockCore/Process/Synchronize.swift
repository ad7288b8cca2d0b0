import CLinux

/// fsync(2), fdatasync(2) and syncfs(2) through a descriptor of a lower directory or file.
///
/// What the program wants on the disk is in the upper: the names of a directory that has been copied up since
/// it was opened, and for syncfs whatever was written through the overlay. Files' own data is `DataCall`'s.
enum Synchronize {
  /// The result, or `passResult`: the kernel's own call is all there is to do.
  static func run(_ fd: Int32, _ number: Int) throws(Errno) -> Int {
    if Confinement.isOn { return passResult }
    var entry = DescriptorTable.entry(fd)
    if !entry.isKnown { entry = DescriptorObject.identify(fd) }
    guard entry.isOurs, entry.isLower, entry.overlay < Overlay.count,
      Overlay(index: entry.overlay).hasUpper
    else { return passResult }
    let flags = Int32(truncatingIfNeeded: try check(lx_fcntl(fd, F_GETFL, 0)))
    if flags & O_PATH != 0 { return passResult }
    return try withScratch { (s) throws(Errno) -> Int in
      if number == Int(SYS_syncfs) {
        var top = s.real
        try top.append(Overlay(index: entry.overlay).layerPath(0))
        let r = unsafe onDirectory(top.cString, number)
        return r < 0 ? r : passResult
      }
      guard entry.isDirectory else { return passResult }
      var here = s.here
      // One that has lost its name has nothing in the upper.
      guard let (overlay, node) = try? DescriptorObject.find(fd, entry, &here, s),
        node.kind == .directory
      else { return passResult }
      var path = s.real2
      try overlay.upperPath(here.view, into: &path)
      var markers = Markers(overlay)
      markers.directory(here.view, .reading)
      markers.name(here.view, .reading)
      defer { markers.end() }
      return unsafe onDirectory(path.cString, number)
    }
  }

  /// With no descriptor left, everything goes to the disk.
  private static func onDirectory(_ path: UnsafePointer<CChar>, _ number: Int) -> Int {
    let opened = unsafe lx_openat(
      AT_FDCWD, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW, 0)
    if opened == -Int(EMFILE) || opened == -Int(ENFILE) {
      _ = lx_call6(Int(SYS_sync), 0, 0, 0, 0, 0, 0)
      return 0
    }
    // Not copied up, or not this process's to open.
    if opened < 0 { return passResult }
    defer { _ = lx_close(Int32(truncatingIfNeeded: opened)) }
    return lx_call6(number, opened, 0, 0, 0, 0, 0)
  }
}
