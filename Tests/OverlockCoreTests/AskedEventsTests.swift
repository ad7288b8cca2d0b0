import CLinux
import Testing

@testable import OverlockCore

/// Guards that the kernel's masks say what a program asked for, whatever it was.
@Suite("What was asked of a watch") struct AskedEventsTests {
  @Test("every mask of events is read back from those of a lower and its anchor")
  func files() {
    for mask in UInt32(1)...0xfff {
      let lower = mask | Watches.extraOnLower(mask)
      let anchor = AskedEvents.onAnchor(mask)
      // All that is needed of it is asked.
      #expect(anchor & Watches.extra(mask) == Watches.extra(mask))
      #expect(anchor & mask & ~0x3c0 == mask & ~0x3c0)
      #expect(AskedEvents.ofFile(lower: lower, anchor: anchor) == mask)
    }
  }

  @Test("every mask of events is read back from those of a directory and its marker folder")
  func directories() {
    for mask in UInt32(1)...0xfff {
      let rings = UInt32(IN_CREATE | IN_DELETE | IN_CLOSE_WRITE) | AskedEvents.onMarkers(mask)
      #expect(
        AskedEvents.ofDirectory(upper: mask | DirectoryEvents.changes, markers: rings) == mask)
    }
  }

  @Test("a staging name tells its turn, with a path behind it or without")
  func turns() {
    func turn(_ name: String) -> Int? {
      var name = name
      return name.withUTF8 { unsafe WorkFolder.turn(of: PathView($0.baseAddress!, $0.count)) }
    }
    #expect(turn("3ff.00000000000000ab") == 0x3ff)
    #expect(turn("001.00000000000000ab.src") == 1)
    #expect(turn("001.00000000000000ab-src") == nil)
    #expect(turn("400.00000000000000ab") == nil)
    #expect(turn("001.00000000000000a") == nil)
    #expect(turn("00000000000000ab") == nil)
  }
}
