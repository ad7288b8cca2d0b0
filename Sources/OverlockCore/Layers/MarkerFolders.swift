import CLinux

/// The folders of markers (`Marker`), one for each directory that somebody watches.
///
/// Each process that watches names its directories in a list beside that of its anchors (`WatchLists`), which
/// counts as long as the process lives. Folders are made and removed under the turn of the identity that has the
/// inode number of the upper's directory.
extension Overlay {
  /// True: there was none.
  func makeMarkerFolder(_ directory: UInt64, into path: inout PathBuffer) throws(Errno) -> Bool {
    try Marker.folder(self, directory, into: &path)
    var made = unsafe lx_mkdirat(AT_FDCWD, path.cString, 0o700)
    if made == -Int(ENOENT) {
      let length = path.count
      path.count = length - 17
      _ = unsafe lx_mkdirat(AT_FDCWD, path.cString, 0o700)
      _ = unsafe lx_fchmodat(AT_FDCWD, path.cString, 0o700)
      try Marker.folder(self, directory, into: &path)
      made = unsafe lx_mkdirat(AT_FDCWD, path.cString, 0o700)
    }
    if made == -Int(EEXIST) { return false }
    try check(made)
    // Whatever the umask.
    _ = unsafe lx_fchmodat(AT_FDCWD, path.cString, 0o700)
    // A sweep may have found nothing just before.
    registry?.noteAnchor()
    return true
  }

  /// Removes those that nobody needs. Returns how many are left, or may be.
  func removeUnusedMarkerFolders(_ turn: Turn) -> Int {
    var kept = 0
    do throws(Errno) {
      try eachEntry(of: Marker.folder) { (path) throws(Errno) in
        if !self.removeIfUnwatched(path, turn) { kept += 1 }
        return true
      }
    } catch { kept += 1 }
    return kept
  }

  private func removeIfUnwatched(_ path: PathBuffer, _ turn: Turn) -> Bool {
    guard let directory = hexadecimal(path.view.name) else { return true }
    guard turn.tryIdentity(directory) else { return false }
    defer { turn.dropIdentity(directory) }
    if isWatched(directory: directory) { return false }
    Fault.step()
    // Markers of the dead are in it.
    let r = unsafe lx_unlinkat(AT_FDCWD, path.terminated, AT_REMOVEDIR)
    if r == -Int(ENOTEMPTY) { try? removeStagedDirectory(path) }
    Fault.step()
    return r == 0 || r == -Int(ENOENT)
  }

  private func removeStagedDirectory(_ path: PathBuffer) throws(Errno) {
    try withScratch { (s) throws(Errno) in
      var copy = s.staging
      try copy.append(path.view)
      try self.removeStaged(copy)
    }
  }
}
