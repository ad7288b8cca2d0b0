import CLinux

@c(ovl_chdir)
public func ovlChdir(_ path: UnsafePointer<CChar>?) -> Int {
  guard let path = unsafe path, unsafe isPath(path) else { return passResult }
  return bordered { () throws(Errno) in
    try withScratch { (s) throws(Errno) -> Int in
      guard let location = try unsafe Resolve.walk(AT_FDCWD, path, follow: true, s) else {
        WorkingDirectory.forgetInside()
        return passResult
      }
      if location.overlay >= 0 {
        let node = try existing(location)
        guard node.kind == .directory else { throw .notDirectory }
        var here = location.path
        try WorkingDirectory.change(into: &here) { (_) throws(Errno) in
          if location.isLost {
            let overlay = Overlay(index: location.overlay)
            let fd = try overlay.openRemoved(location.path.view, location.ticket, O_PATH)
            defer { _ = lx_close(fd) }
            try check(lx_fchdir(fd))
          } else {
            try unsafe check(lx_chdir(s.real2.unterminated))
          }
          let removed = node.has(Node.removed)
          return WorkingDirectory.Position(
            overlay: location.overlay, layer: node.layer,
            isDirect: !removed && !node.has(Node.redirected), removed: removed)
        }
        return 0
      }
      try unsafe check(lx_chdir(location.path.terminated))
      WorkingDirectory.forgetInside()
      return 0
    }
  }
}

@c(ovl_fchdir)
public func ovlFchdir(_ fd: Int32) -> Int {
  bordered { () throws(Errno) in
    try withScratch { (s) throws(Errno) -> Int in
      var here = s.here
      if lx_geteuid() != 0, DescriptorTable.entry(fd).isLower {
        // The kernel asks the lower directory, the copy decides.
        let position = try WorkingDirectory.ofDescriptor(fd, into: &here)
        if position.overlay >= 0, !position.removed {
          var merge = Merge(Overlay(index: position.overlay), s)
          let look = try Overlay(index: position.overlay).lookup(here.view, s, merge: &merge)
          if look.isWhole, look.node.kind == .directory, look.node.layer == 0 {
            try unsafe Permission.access(s.real2.unterminated, X_OK)
          }
        }
      }
      try WorkingDirectory.change(into: &here) { (path) throws(Errno) in
        try check(lx_fchdir(fd))
        let position = try? WorkingDirectory.ofDescriptor(fd, into: &path)
        if let position, position.overlay >= 0 { return position }
        if position != nil { unsafe ovl_cwd_place().pointee.inside = 0 }
        return nil
      }
      return 0
    }
  }
}

@c(ovl_getcwd)
public func ovlGetcwd(_ buffer: UnsafeMutablePointer<CChar>?, _ size: Int) -> Int {
  bordered { () throws(Errno) in
    try withScratch { (s) throws(Errno) -> Int in
      var here = s.here
      let position = try WorkingDirectory.read(into: &here)
      // A directory that is gone has no path; the kernel knows.
      if position.removed { throw .noEntry }
      if position.overlay < 0 { return passResult }
      let overlay = Overlay(index: position.overlay)
      var merge = Merge(overlay, s)
      let look = try overlay.lookup(here.view, s, merge: &merge)
      guard look.isWhole, look.node.kind == .directory else { throw .noEntry }
      var shown = s.rest
      try shown.append(overlay.target)
      try shown.appendBelow(here.view)
      if shown.count == 0 { try shown.append(slash) }
      guard shown.count + 1 <= size else { throw .range }
      guard let buffer = unsafe buffer, unsafe ovl_is_writable(buffer, shown.count + 1) != 0
      else { throw .fault }
      unsafe UnsafeMutableRawPointer(buffer).copyMemory(
        from: shown.cString, byteCount: shown.count + 1)
      return shown.count + 1
    }
  }
}

@c(ovl_realpath)
public func ovlRealpath(
  _ path: UnsafePointer<CChar>?, _ buffer: UnsafeMutablePointer<CChar>?, _ size: Int
) -> Int {
  guard let path = unsafe path, let buffer = unsafe buffer, unsafe isPath(path) else {
    return passResult
  }
  return bordered { () throws(Errno) in
    try withScratch { (s) throws(Errno) -> Int in
      guard let location = try unsafe Resolve.walk(AT_FDCWD, path, follow: true, textual: true, s)
      else { return passResult }
      var shown = s.rest
      if location.overlay >= 0 {
        _ = try existing(location)
        try shown.append(Overlay(index: location.overlay).target)
        try shown.appendBelow(location.path.view)
      } else {
        try unsafe check(lx_faccessat2(AT_FDCWD, location.path.terminated, F_OK, 0))
        try shown.append(location.path.view)
        while shown.count > 1, shown.view[shown.count - 1] == slash { shown.count -= 1 }
      }
      if shown.count == 0 { try shown.append(slash) }
      guard shown.count < size else { throw .nameTooLong }
      unsafe UnsafeMutableRawPointer(buffer).copyMemory(
        from: shown.cString, byteCount: shown.count + 1)
      return 0
    }
  }
}
