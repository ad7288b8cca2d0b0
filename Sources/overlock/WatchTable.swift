import Glibc
import OverlockCore

/// Every inotify watch on objects of overlays, with the path that programs in the overlay know.
struct WatchTable: Encodable, Equatable {
  /// A real object that the kernel watches for the program.
  struct Object: Encodable, Hashable {
    /// `upper`, `lower N`; `anchor`: the inode that will be the upper's, or has lost its name.
    var layer: String
    var path: String
    var watch: Int32
  }

  struct Watch: Encodable, Hashable {
    /// The overlay's id, in hexadecimal, as its registry is named.
    var overlay: String
    /// nil: not known.
    var path: String?
    /// The inode number that programs see.
    var inode: UInt64
    /// The object has no name any more; the path is its last one.
    var removed: Bool
    /// The process is not in the overlay: it sees what happens to the real object, and no more.
    var outside: Bool
    var process: LockTable.Process
    /// Of the instance: more than one if the process has copies of it.
    var descriptors: [Int32]
    /// The watch descriptor that the program has.
    var watch: Int32
    /// What the program asked for.
    var events: [String]
    var objects: [Object]
  }

  var watches: [Watch]
}

/// Looks at processes and overlays, and remembers where files are.
struct WatchFinder {
  private var search = FileSearch()

  /// An overlay and what there is in its workdir.
  private struct Place {
    var overlay: RunningOverlay
    var housekeeping: Housekeeping
    /// Where the names of a group of hard links are that have none in the upper: in which files of the lowers.
    func origins(_ shown: UInt64, _ mounts: Mounts) -> [KernelFile] {
      overlay.seen.origins(of: shown).compactMap { (layer, inode) in
        let layers = overlay.seen.layers
        guard layer < layers.count, let device = mounts.device(of: Path(layers[layer])) else {
          return nil
        }
        return KernelFile(device: device, inode: inode)
      }
    }
  }

  /// What is watched now. It is read while it changes: a watch that comes or goes meanwhile may be missing.
  ///
  /// - Parameter folders: where the registries are.
  mutating func now(registries folders: [Path]) -> WatchTable {
    let instances = Instance.all()
    let mounts = Mounts()
    let places = RunningOverlay.all(in: folders).map {
      Place(overlay: $0, housekeeping: Housekeeping(Path($0.seen.workFolder), mounts))
    }
    let watched = Set(instances.flatMap(\.watches).map(\.file))
    var files = watched
    var origins: [KernelFile: [KernelFile]] = [:]
    for place in places {
      for (file, entry) in place.housekeeping.entries {
        if case .group(let shown, _) = entry {
          guard watched.contains(file) else { continue }
          origins[file, default: []] += place.origins(shown, mounts)
        } else {
          files.remove(file)
        }
      }
    }
    files.formUnion(origins.values.joined())
    let workFolders = places.map(\.overlay.seen.workFolder).filter { !$0.isEmpty }
    search.find(files, in: WatchFinder.trees(places), but: workFolders.map { Path($0) })
    var watches: [WatchTable.Watch] = []
    for place in places {
      for instance in instances { watches += rows(instance, place, origins) }
    }
    watches.sort {
      ($0.path ?? "", $0.process.pid, $0.descriptors[0], $0.watch, $0.overlay) < (
        $1.path ?? "", $1.process.pid, $1.descriptors[0], $1.watch, $1.overlay
      )
    }
    return WatchTable(watches: watches)
  }

  /// Uppers first: they have the least in them.
  private static func trees(_ places: [Place]) -> [FileSearch.Tree] {
    // Another user's could have this one make files anywhere.
    let watched = places.filter { place in
      place.housekeeping.isOwn
        && place.housekeeping.entries.values.contains {
          if case .markers = $0 { true } else { false }
        }
    }.map(\.overlay.seen)
    var roots: [Path] = []
    for isUpper in [true, false] {
      for layers in places.map(\.overlay.seen.layers) {
        for layer in isUpper ? layers.prefix(1) : layers.dropFirst() {
          let root = Path(layer)
          if !layer.isEmpty, !roots.contains(root) { roots.append(root) }
        }
      }
    }
    return roots.map { root in
      FileSearch.Tree(root: root) { (directory, body) in
        quietly(watched[...], directory, body)
      }
    }
  }

  private static func quietly(
    _ overlays: ArraySlice<InspectedOverlay>, _ directory: [UInt8], _ body: () -> Void
  ) {
    guard let first = overlays.first else { return body() }
    first.reading(directory) { quietly(overlays.dropFirst(), directory, body) }
  }

  // MARK: - One instance in one overlay

  private struct Part {
    enum Key: Hashable {
      case watch(Int32), object(UInt64), directory([UInt8], isRemoved: Bool)
    }
    var key: Key
    var watch: KernelWatch
    /// 0: the upper; nil: not in a layer.
    var layer: Int?
    var real: [UInt8]
    var place: InspectedOverlay.Place?
    var isRemoved: Bool
    var inode: UInt64

    var object: WatchTable.Object {
      let name = layer.map { $0 == 0 ? "upper" : "lower \($0)" } ?? "anchor"
      return .init(layer: name, path: Path(real).text, watch: watch.descriptor)
    }
  }

  private func rows(
    _ instance: Instance, _ place: Place, _ origins: [KernelFile: [KernelFile]]
  ) -> [WatchTable.Watch] {
    let entries = instance.watches.map { ($0, place.housekeeping.entries[$0.file]) }
    let hasList = entries.contains { $0.1 == .list }
    var markers: [UInt64: UInt32] = [:]
    for case (let watch, .markers(let directory)?) in entries { markers[directory] = watch.mask }
    var parts: [Part] = []
    var isInside: Bool?
    for (watch, entry) in entries {
      if case .anchor(let shown, let path)? = entry {
        parts.append(
          Part(
            key: .object(shown), watch: watch, layer: nil, real: path, isRemoved: false,
            inode: shown))
      } else if case .group(let shown, let path)? = entry {
        let names = [watch.file] + (origins[watch.file] ?? [])
        let seen = names.compactMap { file in
          search.found[file].flatMap {
            WatchFinder.shown($0, file.inode, in: place.overlay.seen)?.1
          }
        }
        let named = seen.first { !$0.isRemoved } ?? seen.first
        parts.append(
          Part(
            key: .object(shown), watch: watch, layer: 0,
            real: path, place: named,
            isRemoved: named?.isRemoved ?? true, inode: shown))
      } else if entry == nil, let found = search.found[watch.file],
        let (path, seen) = WatchFinder.shown(found, watch.file.inode, in: place.overlay.seen)
      {
        let inside = isInside ?? (hasList || place.overlay.isEntered(by: instance.pid))
        isInside = inside
        let isRemoved = found.isRemoved || seen.isRemoved
        let inode = seen.inode == 0 ? watch.file.inode : seen.inode
        let key: Part.Key =
          !inside
          ? .watch(watch.descriptor)
          : found.isDirectory ? .directory(seen.path, isRemoved: isRemoved) : .object(inode)
        parts.append(
          Part(
            key: key, watch: watch, layer: seen.layer, real: path, place: seen,
            isRemoved: isRemoved, inode: inode))
      }
    }
    return Dictionary(grouping: parts, by: \.key).values.map { parts in
      let parts = parts.sorted { ($0.layer ?? -1) < ($1.layer ?? -1) }
      return row(instance, place, parts, markers, isOutside: !(isInside ?? hasList))
    }
  }

  /// A real name of a file in an overlay's layers, if there is one that the overlay still shows.
  private static func shown(
    _ found: FileSearch.Found, _ inode: UInt64, in overlay: InspectedOverlay
  ) -> ([UInt8], InspectedOverlay.Place)? {
    var removed: ([UInt8], InspectedOverlay.Place)?
    for path in found.paths {
      guard let place = overlay.place(of: path, inode: inode) else { continue }
      if !place.isRemoved { return (path, place) }
      removed = removed ?? (path, place)
    }
    return removed
  }

  /// - Parameter parts: of one watch of the program; anchor or upper first.
  private func row(
    _ instance: Instance, _ place: Place, _ parts: [Part], _ markers: [UInt64: UInt32],
    isOutside: Bool
  ) -> WatchTable.Watch {
    let top = parts[0]
    let mask: UInt32
    var programs = top.watch
    if case .directory = top.key {
      let rings = top.layer == 0 ? markers[top.watch.file.inode] : nil
      mask =
        rings.map { AskedEvents.ofDirectory(upper: top.watch.mask, markers: $0) }
        ?? top.watch.mask
    } else if let lower = parts.first(where: { ($0.layer ?? 0) > 0 })?.watch {
      programs = lower
      mask =
        parts.count > 1
        ? AskedEvents.ofFile(lower: lower.mask, anchor: top.watch.mask) : lower.mask
    } else {
      mask = top.watch.mask
    }
    // The upper knows the object's place as it is now; an anchor's is that of its lower.
    let named = parts.first { $0.place != nil }
    return WatchTable.Watch(
      overlay: place.overlay.name, path: named.map { Path($0.place?.path ?? []).text },
      inode: top.inode, removed: named?.isRemoved ?? true, outside: isOutside,
      process: .init(pid: instance.pid, command: Processes.command(instance.pid)),
      descriptors: instance.descriptors, watch: programs.descriptor,
      events: KernelWatch.events(mask), objects: parts.map(\.object))
  }
}

/// An inotify instance of a process, by all its descriptors there.
struct Instance {
  var pid: Int32
  var descriptors: [Int32]
  var watches: [KernelWatch]

  static func all() -> [Instance] {
    Processes.all().flatMap { pid -> [Instance] in
      var instances: [Instance] = []
      for descriptor in Processes.descriptors(pid).sorted(by: { $0.fd < $1.fd }) {
        let watches = Processes.watches(descriptor)
        if watches.isEmpty { continue }
        let known = instances.firstIndex {
          $0.watches == watches
            && Processes.isCopy(descriptor, of: .init(pid: pid, fd: $0.descriptors[0])) == true
        }
        if let known {
          instances[known].descriptors.append(descriptor.fd)
        } else {
          instances.append(Instance(pid: pid, descriptors: [descriptor.fd], watches: watches))
        }
      }
      return instances
    }
  }
}
