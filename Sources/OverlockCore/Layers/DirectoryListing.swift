import CLinux

/// The merged listing of a directory: every visible name of the contributing layers once, top first,
/// whiteouts taken out. A snapshot: POSIX leaves open whether names made or removed meanwhile show.
enum DirectoryListing {
  /// Whether the directory that `merge` stands at shows no name.
  static func isEmpty(_ merge: Merge, _ s: Scratch) throws(Errno) -> Bool {
    var builder = try Builder(merge)
    defer { builder.discardTable() }
    try builder.addLayers(s, withInodes: false)
    let empty = builder.count == 0
    builder.discardRecords()
    return empty
  }

  /// Builds the listing; the caller owns the mapping (`size` bytes).
  ///
  /// - Parameter hasOrigins: the upper's directory may hold objects that show another inode number.
  static func make(
    _ merge: Merge, own: UInt64, parent: UInt64, hasOrigins: Bool, _ s: Scratch
  ) throws(Errno) -> UnsafeMutablePointer<ovl_listing> {
    var builder = try Builder(merge)
    defer { builder.discardTable() }
    try unsafe builder.add(PathView(".", 1), own, UInt8(DT_DIR))
    try unsafe builder.add(PathView("..", 2), parent, UInt8(DT_DIR))
    do throws(Errno) {
      try builder.addLayers(s, withInodes: true, hasOrigins: hasOrigins)
    } catch {
      builder.discardRecords()
      throw error
    }
    return unsafe builder.finish()
  }

  /// Records in one growing mapping, and an open hash table of their offsets.
  @safe private struct Builder {
    let merge: Merge
    private(set) var count = 0
    private var memory: UnsafeMutableRawPointer
    private var size = 65536
    private var used: Int
    private var table: UnsafeMutablePointer<UInt32>
    private var slots = 1024
    private var filled = 0

    private static var headerSize: Int { MemoryLayout<ovl_listing>.size }

    init(_ merge: Merge) throws(Errno) {
      self.merge = merge
      used = Builder.headerSize
      unsafe memory = try Builder.map(size)
      unsafe table = try Builder.map(slots * 4).assumingMemoryBound(to: UInt32.self)
    }

    private static func map(_ size: Int) throws(Errno) -> UnsafeMutableRawPointer {
      guard
        let p = unsafe lx_mmap(size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1)
      else { throw .noMemory }
      return unsafe p
    }

    mutating func discardTable() { _ = unsafe lx_munmap(table, slots * 4) }
    mutating func discardRecords() { _ = unsafe lx_munmap(memory, size) }

    mutating func finish() -> UnsafeMutablePointer<ovl_listing> {
      let listing = unsafe memory.assumingMemoryBound(to: ovl_listing.self)
      unsafe listing.pointee.size = size
      unsafe listing.pointee.bytes = used - Builder.headerSize
      unsafe listing.pointee.next = 0
      unsafe listing.pointee.count = count
      return unsafe listing
    }

    mutating func add(_ name: PathView, _ ino: UInt64, _ type: UInt8) throws(Errno) {
      let length = (19 + name.count + 1 + 7) & ~7
      if used + length > size {
        let larger = unsafe try Builder.map(size * 2)
        unsafe larger.copyMemory(from: memory, byteCount: used)
        _ = unsafe lx_munmap(memory, size)
        unsafe memory = larger
        size *= 2
      }
      let record = unsafe memory + used
      unsafe record.storeBytes(of: ino, as: UInt64.self)
      used += length
      unsafe record.storeBytes(
        of: Int64(used - Builder.headerSize + 1), toByteOffset: 8, as: Int64.self)
      unsafe record.storeBytes(of: UInt16(length), toByteOffset: 16, as: UInt16.self)
      unsafe record.storeBytes(of: type, toByteOffset: 18, as: UInt8.self)
      unsafe copyBytes(
        (record + 19).assumingMemoryBound(to: UInt8.self), name.base, name.count)
      unsafe record.storeBytes(of: 0, toByteOffset: 19 + name.count, as: UInt8.self)
    }

    /// Whether the name is new; remembers it. Hidden names are remembered too, as records beyond the
    /// table's reach would be lost: they are stored with type 255 and squeezed out at the end.
    private mutating func enter(_ name: PathView, at offset: Int) throws(Errno) -> Bool {
      if (filled + 1) * 2 > slots { try growTable() }
      var hash = PathHash(1, 2)
      unsafe hash.append(name.base, name.count)
      var i = Int(truncatingIfNeeded: hash.a) & (slots - 1)
      while true {
        let entry = unsafe table[i]
        if entry == 0 { break }
        let other = unsafe PathView(
          (memory + Int(entry) + 19).assumingMemoryBound(to: CChar.self))
        if other.equals(name) { return false }
        i = (i + 1) & (slots - 1)
      }
      unsafe table[i] = UInt32(truncatingIfNeeded: offset)
      filled += 1
      return true
    }

    private mutating func growTable() throws(Errno) {
      let larger = unsafe try Builder.map(slots * 8).assumingMemoryBound(to: UInt32.self)
      let newSlots = slots * 2
      for k in 0..<slots {
        let entry = unsafe table[k]
        if entry == 0 { continue }
        let name = unsafe PathView(
          (memory + Int(entry) + 19).assumingMemoryBound(to: CChar.self))
        var hash = PathHash(1, 2)
        unsafe hash.append(name.base, name.count)
        var i = Int(truncatingIfNeeded: hash.a) & (newSlots - 1)
        while unsafe larger[i] != 0 { i = (i + 1) & (newSlots - 1) }
        unsafe larger[i] = entry
      }
      _ = unsafe lx_munmap(table, slots * 4)
      unsafe table = larger
      slots = newSlots
    }

    mutating func addLayers(_ s: Scratch, withInodes: Bool, hasOrigins: Bool = false) throws(Errno)
    {
      var hidden = false
      for i in 0..<merge.count {
        try addLayer(i, s, withInodes: withInodes, hasOrigins: hasOrigins, &hidden)
      }
      if hidden { squeeze() }
    }

    private mutating func addLayer(
      _ i: Int, _ s: Scratch, withInodes: Bool, hasOrigins: Bool, _ hidden: inout Bool
    ) throws(Errno) {
      var path = s.rest
      try merge.realPath(i, into: &path)
      let length = path.count
      let opened = unsafe lx_openat(
        AT_FDCWD, path.cString, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW, 0)
      if opened == -Int(ENOENT) { return }
      let fd = Int32(truncatingIfNeeded: try check(opened))
      defer { _ = lx_close(fd) }
      let layer = merge.layer(i)
      let overlay = merge.overlay
      let isLowest = i + 1 == merge.count
      while true {
        let n = try unsafe check(lx_getdents64(fd, s.spare, Scratch.spareSize))
        if n == 0 { return }
        var offset = 0
        while offset + 19 < n {
          let record = unsafe UnsafeRawPointer(s.spare) + offset
          let reclen = unsafe Int(record.loadUnaligned(fromByteOffset: 16, as: UInt16.self))
          guard reclen >= 20 else { throw .inputOutput }
          offset += reclen
          let name = unsafe PathView((record + 19).assumingMemoryBound(to: CChar.self))
          if name.isDot || name.isDotDot { continue }
          var ino = unsafe record.loadUnaligned(as: UInt64.self)
          let type = unsafe record.loadUnaligned(fromByteOffset: 18, as: UInt8.self)
          var isHidden = false
          if type == UInt8(DT_CHR) || type == UInt8(DT_UNKNOWN) || merge.hasXWhiteouts(i) {
            path.count = length
            try path.append(slash)
            try path.append(name)
            isHidden = merge.isWhiteoutEntry(path, i)
          }
          let at = used
          if isLowest, merge.count == 1 {
            if isHidden { continue }
          } else {
            // The name must stand in memory before the table can point at it.
            try add(name, ino, isHidden ? 255 : type)
            if try !enter(name, at: at) {
              used = at
              continue
            }
            if isHidden {
              hidden = true
              continue
            }
            used = at
          }
          count += 1
          if withInodes {
            if layer == 0 {
              if hasOrigins, let known = cachedInode(name) {
                if known != 0 { ino = known }
              } else if hasOrigins {
                path.count = length
                try path.append(slash)
                try path.append(name)
                // As in st_mode; of DT_UNKNOWN a file is made, which asks the kernel.
                let origin = unsafe overlay.origin(
                  path.cString, type: type == 0 ? S_IFREG : UInt32(type) << 12, inode: ino)
                if origin != 0 { ino = origin }
              }
            } else {
              ino = overlay.shownInode(ino, layer: layer)
            }
          }
          try add(name, ino, type)
        }
      }
    }

    /// What the cache says of the inode number that an upper object shows, 0: its own.
    private func cachedInode(_ name: PathView) -> UInt64? {
      var hash = merge.hash
      unsafe hash.append(name.base, name.count)
      guard let node = merge.overlay.cachedNode(hash: hash, directory: merge.hash),
        node.kind != .none, node.kind != .unknown, node.layer == 0
      else { return nil }
      return node.shownInode
    }

    /// Takes the hidden records out.
    private mutating func squeeze() {
      var from = Builder.headerSize
      var to = from
      while from < used {
        let record = unsafe memory + from
        let length = unsafe Int(record.loadUnaligned(fromByteOffset: 16, as: UInt16.self))
        if unsafe record.loadUnaligned(fromByteOffset: 18, as: UInt8.self) != 255 {
          if to != from {
            unsafe (memory + to).copyMemory(from: record, byteCount: length)
          }
          to += length
          unsafe (memory + to - length).storeBytes(
            of: Int64(to - Builder.headerSize + 1), toByteOffset: 8, as: Int64.self)
        }
        from += length
      }
      used = to
    }
  }
}

extension Merge {
  func isWhiteoutEntry(_ path: PathBuffer, _ i: Int) -> Bool {
    var st = stat()
    // A directory that may be read and not searched shows its names, and no whiteouts.
    let r = unsafe lx_owner_stat(path.cString, &st)
    if r < 0 { return r == -Int(EACCES) && !hasXWhiteouts(i) }
    return isWhiteout(st, path, hasXWhiteouts(i))
  }
}
