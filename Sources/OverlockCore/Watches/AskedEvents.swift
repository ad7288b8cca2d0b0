import CLinux

/// Which events a program asked for, where the kernel is asked for more.
///
/// /proc/PID/fdinfo shows the kernel's masks to everybody who may look, and nothing else tells another process. So
/// each further watch of ours has bits for what was asked besides: those of events that never happen on it. A
/// regular file has no names in it, and in a marker folder nothing is written, moved or changed.
public enum AskedEvents {
  private static var names: UInt32 { UInt32(IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO) }

  // What an anchor may be asked for besides, and the bit that says that the program asked for it, too.
  private static var ofAnchor: InlineArray<4, (asked: UInt32, bit: UInt32)> {
    [
      (UInt32(IN_MOVE_SELF), UInt32(IN_MOVED_FROM)), (UInt32(IN_OPEN), UInt32(IN_CREATE)),
      (UInt32(IN_CLOSE_WRITE), UInt32(IN_DELETE)), (UInt32(IN_CLOSE_NOWRITE), UInt32(IN_MOVED_TO)),
    ]
  }
  // The same of a directory and its marker folder.
  private static var ofMarkers: InlineArray<4, (asked: UInt32, bit: UInt32)> {
    [
      (UInt32(IN_CREATE), UInt32(IN_MODIFY)), (UInt32(IN_DELETE), UInt32(IN_ATTRIB)),
      (UInt32(IN_MOVED_FROM), UInt32(IN_MOVED_FROM)), (UInt32(IN_MOVED_TO), UInt32(IN_MOVED_TO)),
    ]
  }

  /// The mask for an anchor.
  ///
  /// - Parameter mask: the program's.
  static func onAnchor(_ mask: UInt32) -> UInt32 {
    mask & ~names | Watches.extra(mask) | encode(mask, ofAnchor)
  }

  /// Bits for the mask of a marker folder.
  static func onMarkers(_ mask: UInt32) -> UInt32 { encode(mask, ofMarkers) }

  /// What was asked of a file that is watched on its lower and on its anchor, or upper, by the kernel's masks.
  public static func ofFile(lower: UInt32, anchor: UInt32) -> UInt32 {
    // Without it the program has set the upper's mask itself.
    guard anchor & UInt32(IN_MOVE_SELF) != 0 else { return anchor }
    return decode(anchor & ~names, anchor, ofAnchor) | lower & names
  }

  /// What was asked of a directory that is watched on the upper and has a marker folder.
  public static func ofDirectory(upper: UInt32, markers: UInt32) -> UInt32 {
    decode(upper, markers, ofMarkers)
  }

  private static func encode(
    _ mask: UInt32, _ pairs: InlineArray<4, (asked: UInt32, bit: UInt32)>
  ) -> UInt32 {
    var bits: UInt32 = 0
    for i in 0..<4 where mask & pairs[i].asked != 0 { bits |= pairs[i].bit }
    return bits
  }

  private static func decode(
    _ mask: UInt32, _ bits: UInt32, _ pairs: InlineArray<4, (asked: UInt32, bit: UInt32)>
  ) -> UInt32 {
    var mask = mask
    for i in 0..<4 where bits & pairs[i].bit == 0 { mask &= ~pairs[i].asked }
    return mask
  }
}
