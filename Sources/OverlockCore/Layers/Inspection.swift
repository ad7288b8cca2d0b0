import CLinux

#if !$Embedded
  /// An overlay seen from outside: what a tool may ask of one that other processes are in.
  ///
  /// It works on a copy of the configuration that the registry keeps; nothing of the overlay is changed,
  /// locked or waited for. Not for several threads: the core has one set of overlays a process.
  @safe public final class InspectedOverlay {
    let raw: ovl_overlay
    private let memory: [UnsafeMutableRawPointer]
    /// Who waited for a lock on the other inode of an object when the registry was read.
    public let waiters: [Waiter]

    /// - Parameter segment: path of the registry's file. nil: it is no segment of this build, cannot be read,
    ///   or keeps no configuration.
    public init?(segment: UnsafePointer<CChar>) {
      ovl_set_tables()
      let size = Registry.configurationOffset + Registry.configurationSize
      let opened = unsafe lx_openat(
        AT_FDCWD, segment, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0)
      guard opened >= 0 else { return nil }
      defer { _ = lx_close(Int32(truncatingIfNeeded: opened)) }
      let copy = UnsafeMutableRawPointer.allocate(byteCount: size, alignment: 16)
      defer { unsafe copy.deallocate() }
      let bytes = unsafe copy.assumingMemoryBound(to: CChar.self)
      guard unsafe lx_pread(Int32(truncatingIfNeeded: opened), bytes, size, 0) == size else {
        return nil
      }
      let registry = unsafe Registry(copy)
      let slot = Overlay(index: 0)
      unsafe slot.raw.pointee = ovl_overlay()
      var memory: [UnsafeMutableRawPointer] = unsafe []
      var restored = false
      if registry.layout == Registry.layoutWord {
        let found = unsafe try? registry.restore(slot) { (size) throws(Errno) in
          unsafe memory.append(.allocate(byteCount: size, alignment: 16))
          return unsafe memory[memory.count - 1]
        }
        restored = found == true
      }
      unsafe slot.raw.pointee.id = registry.overlayID
      unsafe slot.raw.pointee.key0 = registry.overlayID
      unsafe slot.raw.pointee.key1 = ~registry.overlayID
      unsafe raw = slot.raw.pointee
      unsafe self.memory = memory
      let page = UnsafeMutableRawPointer.allocate(byteCount: Registry.pageSize, alignment: 16)
      defer { unsafe page.deallocate() }
      let isMet = unsafe restored && InspectedOverlay.read(slot, page)
      waiters =
        restored
        ? InspectedOverlay.waiters(
          unsafe isMet ? Registry(copy, page: page, sole: registry.key0) : registry) : []
      if !restored { return nil }
    }

    /// An overlay by its options, which somebody was in once, and nobody needs to be: without a registry.
    ///
    /// - Parameter message: gets what is wrong with them.
    /// - Errors: EINVAL and whatever the file system answered.
    public init(options line: UnsafePointer<CChar>, message: inout String) throws(Errno) {
      ovl_set_tables()
      let slot = Overlay(index: 0)
      unsafe slot.raw.pointee = ovl_overlay()
      unsafe memory = []
      waiters = []
      var words = ""
      do throws(Errno) {
        try withScratch { (s) throws(Errno) in
          var text = s.link
          defer { words = InspectedOverlay.text(text.view) }
          try unsafe slot.configure(PathView(line), message: &text)
        }
      } catch {
        message = words
        throw error
      }
      unsafe raw = slot.raw.pointee
    }

    deinit {
      for i in unsafe 0..<memory.count { unsafe memory[i].deallocate() }
    }

    /// Somebody who waits for a lock on the other inode of an object.
    public struct Waiter: Equatable {
      public enum Kind { case record, description, whole }
      public var pid: Int32
      /// As `Place` has it.
      public var inode: UInt64
      public var kind: Kind
      public var isExclusive: Bool
      public var start: UInt64
      /// The last byte; nil: to the end of the file.
      public var end: UInt64?
    }

    /// Where the programs of several segments say who waits. False: there is no such place.
    private static func read(_ overlay: Overlay, _ page: UnsafeMutableRawPointer) -> Bool {
      guard overlay.hasUpper,
        let fd = try? withScratch({ (s) throws(Errno) in
          try CommonWords.open(overlay, O_RDONLY, s.real)
        })
      else { return false }
      defer { _ = lx_close(fd) }
      return unsafe lx_pread(fd, page, Registry.pageSize, 0) == Registry.pageSize
    }

    private static func waiters(_ registry: Registry) -> [Waiter] {
      let now = lx_realtime_ns()
      return Waiters.indices.compactMap { index in
        guard let found = Waiters(registry)[index], found.looked &+ Waiters.stale > now else {
          return nil
        }
        let kind: Waiter.Kind =
          switch found.kind {
          case .record: .record
          case .description: .description
          case .whole: .whole
          }
        return Waiter(
          pid: found.pid, inode: found.inode, kind: kind, isExclusive: found.isExclusive,
          start: found.start, end: found.end == .max ? nil : found.end)
      }
    }

    /// Where an object is that some process has open.
    public struct Place: Equatable {
      /// Path in the merged tree, absolute; of a removed object where it was last.
      public var path: [UInt8]
      /// 0: the upper. Lowers count from 1, the top one first.
      public var layer: Int
      /// The inode number that every name and descriptor of the object shows; 0: the layer's own.
      public var inode: UInt64
      public var isRemoved: Bool
      /// The object is on two inodes, and each lock asks at both.
      public var isContested: Bool
    }

    /// - Parameters:
    ///   - real: a path in one of the layers, as /proc shows it (without " (deleted)").
    ///   - inode: the inode number there.
    /// - Returns: nil where no layer has such a path.
    public func place(of real: [UInt8], inode: UInt64) -> Place? {
      _ = use()
      return unsafe real.withUnsafeBufferPointer { (bytes) -> Place? in
        guard let start = bytes.baseAddress,
          let (overlay, rel, layer) = unsafe RealPaths.merged(
            PathView(start, bytes.count), lowers: true),
          layer < overlay.layerCount
        else { return nil }
        return try? withScratch { (s) throws(Errno) -> Place in
          try place(overlay, rel, layer, inode, s)
        }
      }
    }

    /// Makes it the one overlay of this process.
    func use() -> Overlay {
      let slot = Overlay(index: 0)
      unsafe slot.raw.pointee = raw
      ovl_set_overlay_count(1)
      return slot
    }

    static func bytes(_ path: PathView) -> [UInt8] {
      unsafe Array(UnsafeBufferPointer(start: path.base, count: path.count))
    }

    static func text(_ path: PathView) -> String { String(decoding: bytes(path), as: UTF8.self) }

    private func place(
      _ overlay: Overlay, _ rel: PathView, _ layer: Int, _ inode: UInt64, _ s: Scratch
    ) throws(Errno) -> Place {
      var here = s.here
      try here.append(rel)
      var removed = false
      if layer > 0 { removed = try overlay.followLower(&here, layer: layer).isRemoved }
      var shown = layer > 0 ? overlay.shownInode(inode, layer: layer) : 0
      if layer == 0 {
        shown = try withScratch { (s2) throws(Errno) -> UInt64 in
          var merge = Merge(overlay, s2)
          return try overlay.lookup(here.view, s2, merge: &merge).node.shownInode
        }
      }
      var merged = s.rest
      if overlay.target.count > 1 { try merged.append(overlay.target) }
      if here.count > 0 { try merged.appendBelow(here.view) }
      var origin = s.link
      var contested = false
      if shown != 0 { contested = try overlay.contested(shown, into: &origin, s) }
      return Place(
        path: InspectedOverlay.bytes(merged.view), layer: layer, inode: shown, isRemoved: removed,
        isContested: contested)
    }
  }
#endif
