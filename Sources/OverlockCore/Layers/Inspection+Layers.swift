import CLinux

#if !$Embedded
  /// Looking into the layers of an overlay from outside.
  extension InspectedOverlay {
    /// Their real paths by number: the upper, empty where there is none, then the lowers, the top one first. A
    /// root's is "/".
    public var layers: [[UInt8]] {
      let overlay = use()
      return (0..<overlay.layerCount).map { layer in
        if layer == 0, !overlay.hasUpper { return [] }
        let path = InspectedOverlay.bytes(overlay.layerPath(layer))
        return path.isEmpty ? [slash] : path
      }
    }

    /// What the lowers' objects that show an inode number have for one there: one for each lower that may have it.
    public func origins(of shown: UInt64) -> [(layer: Int, inode: UInt64)] {
      let overlay = use()
      return (1..<max(overlay.layerCount, 1)).compactMap { layer in
        let high = overlay.shownInode(0, layer: layer)
        return shown & high == high ? (layer, shown & ~high) : nil
      }
    }

    /// Reads a directory of a layer so that programs in the overlay that watch it are told nothing of it.
    ///
    /// - Parameters:
    ///   - real: its real path.
    ///   - body: opens, reads and closes it. Signals are blocked meanwhile, if somebody watches it.
    public func reading(_ real: [UInt8], _ body: () -> Void) {
      let overlay = use()
      var markers = Markers(overlay)
      unsafe real.withUnsafeBufferPointer { (bytes) in
        guard let start = bytes.baseAddress,
          let (_, rel, layer) = unsafe RealPaths.merged(
            PathView(start, bytes.count), lowers: true)
        else { return }
        try? withScratch { (s) throws(Errno) in
          var here = s.here
          try here.append(rel)
          _ = try overlay.followMoved(&here, layer: layer)
          markers.directory(here.view, .reading)
          markers.name(here.view, .reading)
        }
      }
      defer { markers.end() }
      body()
    }
  }
#endif
