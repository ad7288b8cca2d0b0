import CLinux

/// What a name of the merged tree is.
enum Kind: Int32 {
  case none = 0
  case file = 1
  case directory = 2
  case link = 3
  case special = 4
  /// Not looked at: the name lies in a directory that only one layer has, and the kernel will tell.
  case unknown = 7

  @inline(__always) init(mode: UInt32) {
    switch mode & S_IFMT {
    case S_IFREG: self = .file
    case S_IFDIR: self = .directory
    case S_IFLNK: self = .link
    default: self = .special
    }
  }
}

/// The result of a merged lookup: where the object of a canonical path is, and what else is known.
struct Node {
  var kind: Kind
  /// Topmost layer that has it; for `.none`, the one layer in which it could still appear.
  var layer: Int
  var flags: UInt32 = 0
  /// Inode number to show, 0: the kernel's own.
  var shownInode: UInt64 = 0
  /// Directories: the layers that contribute, bit by layer; 0 when it cannot be said so.
  var contributors: UInt32 = 0

  /// A directory whose whole content is in `layer`, at the same path.
  static var single: UInt32 { 1 }
  /// The real path is not the layer's root plus the merged path.
  static var redirected: UInt32 { 2 }
  /// The upper has a whiteout of this name.
  static var whiteout: UInt32 { 4 }
  /// Something of that name is visible in the lowers if the upper's goes (asked for only).
  static var below: UInt32 { 8 }
  /// A merged ancestor's permissions differ between the layers.
  static var checkAccess: UInt32 { 16 }
  /// An upper directory that holds objects with an origin: their inode numbers are not their own.
  static var impure: UInt32 { 32 }
  /// The real file is the hard-link index's (`workdir/overlock/index`).
  static var indexed: UInt32 { 64 }
  /// A directory that more than one layer contributes to.
  static var merged: UInt32 { 128 }
  /// An upper directory that hides the lowers' (opaque xattr).
  static var opaque: UInt32 { 256 }
  /// `.none` for certain: no layer may be asked.
  static var absent: UInt32 { 512 }
  /// The object has more than one hard link in its layer.
  static var linked: UInt32 { 1024 }
  /// The object has no name left: a descriptor or working directory led to it. Never cached.
  static var removed: UInt32 { 2048 }

  /// All that is left of it is its attributes (`StandIn`). Never cached.
  static var attributesOnly: UInt32 { 4096 }

  @inline(__always) func has(_ flag: UInt32) -> Bool { flags & flag != 0 }

  @inline(__always) init(_ kind: Kind, layer: Int, flags: UInt32 = 0) {
    self.kind = kind
    self.layer = layer
    self.flags = flags
  }

  // Packed for the lookup cache: kind 3, flags 13, layer 16, contributors 32.
  @inline(__always) var packed: UInt64 {
    UInt64(UInt32(bitPattern: kind.rawValue) & 7) | UInt64(flags & 0x1fff) << 3
      | UInt64(UInt16(truncatingIfNeeded: layer)) << 16 | UInt64(contributors) << 32
  }

  @inline(__always) init(packed: UInt64, inode: UInt64) {
    kind = Kind(rawValue: Int32(packed & 7)) ?? .unknown
    flags = UInt32(packed >> 3 & 0x1fff)
    layer = Int(packed >> 16 & 0xffff)
    contributors = UInt32(packed >> 32)
    shownInode = inode
  }
}
