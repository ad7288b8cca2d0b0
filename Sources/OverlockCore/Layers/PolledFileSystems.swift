import CLinux

/// Which lowers are looked at for changes that inotify does not tell (docs/decisions/0021).
///
/// Those on a file system that others change without this kernel: another machine's, or a daemon's. `poll=SECONDS`
/// is for every lower, at that interval; `poll=0` for none.
enum PolledFileSystems {
  /// Where none is given.
  static var defaultInterval_ns: UInt64 { 1_000_000_000 }
  static var longestInterval_ns: UInt64 { 86_400_000_000_000 }

  /// By the type that statfs(2) gives: linux/magic.h, and of file systems outside the kernel what they give.
  static func has(_ type: UInt32) -> Bool {
    switch type {
    case 0x6969,  // NFS
      0x517b, 0xff53_4d42, 0xfe53_4d42,  // SMB: smbfs, cifs, smb3
      0x0102_1997,  // 9p
      0x6573_5546,  // FUSE, virtiofs
      0x00c3_6400,  // Ceph
      0x5346_414f, 0x6b41_4653,  // AFS: OpenAFS, the kernel's
      0x7375_7245,  // Coda
      0x564c,  // NCP
      0x0bd0_0bd0,  // Lustre
      0x4750_4653,  // GPFS
      0x1983_0326,  // BeeGFS
      0x2003_0528,  // OrangeFS
      0x7461_636f,  // OCFS2
      0x0116_1970,  // GFS2
      0x786f_4256, 0xbacb_acbc, 0x7c7c_6673:  // folders of a host: VirtualBox, VMware, Parallels
      return true
    default: return false
    }
  }

  /// What `poll=` says, in nanoseconds: decimal seconds, a day at most. nil: it is no such number.
  static func interval(_ text: PathView) -> UInt64? {
    var value: UInt64 = 0
    var unit: UInt64 = 1_000_000_000
    var isFraction = false
    var digits = 0
    for i in 0..<text.count {
      if text[i] == UInt8(ascii: "."), !isFraction {
        isFraction = true
        continue
      }
      guard text[i] >= UInt8(ascii: "0"), text[i] <= UInt8(ascii: "9") else { return nil }
      digits += 1
      let digit = UInt64(text[i] - UInt8(ascii: "0"))
      if isFraction {
        unit /= 10
        value += digit * unit
      } else {
        value = value * 10 + digit * unit
      }
      if value > longestInterval_ns { return nil }
    }
    return digits > 0 ? value : nil
  }
}

extension Overlay {
  func isPolled(_ layer: Int) -> Bool {
    unsafe raw.pointee.layers[layer].flags & UInt32(OVL_LAYER_POLLED) != 0
  }

  /// Whether some lower is looked at.
  var hasPolledLayers: Bool { unsafe raw.pointee.poll_ns != 0 }

  /// Marks the lowers that are to be looked at.
  ///
  /// - Parameter asked: the interval of the options, nil: there is none.
  func markPolledLayers(_ asked: UInt64?, _ s: Scratch) throws(Errno) {
    unsafe raw.pointee.poll_ns = 0
    if asked == 0 { return }
    for i in 1..<layerCount {
      var root = s.real2
      try root.append(layerPath(i))
      if root.count == 0 { try root.append(slash) }
      guard unsafe asked != nil || PolledFileSystems.has(lx_file_system(root.cString)) else {
        continue
      }
      unsafe raw.pointee.layers[i].flags |= UInt32(OVL_LAYER_POLLED)
      unsafe raw.pointee.poll_ns = asked ?? PolledFileSystems.defaultInterval_ns
    }
  }
}
