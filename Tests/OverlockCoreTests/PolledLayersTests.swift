import CLinux
import Testing

@testable import OverlockCore

/// What a look at a polled lower makes of two states of an object, and what `poll=` takes.
@Suite("Polled layers")
struct PolledLayersTests {
  private func file(_ change: (inout Glance) -> Void = { _ in }) -> Glance {
    var g = Glance()
    g.inode = 7
    g.size = 10
    g.modified = 100
    g.changed = 100
    g.mode = S_IFREG | 0o644
    g.links = 1
    change(&g)
    return g
  }

  private func words(_ old: Glance, _ new: Glance) -> [UInt32] {
    let (first, second) = old.changes(to: new)
    return [first, second].filter { $0 != 0 }
  }

  private var directory: Glance { file { $0.mode = S_IFDIR | 0o755 } }

  @Test("what stays the same is told nothing of")
  func same() {
    #expect(words(file(), file()) == [])
    #expect(words(Glance(), Glance()) == [])
  }

  @Test("size and time of modification are IN_MODIFY, other attributes IN_ATTRIB")
  func attributes() {
    #expect(words(file(), file { $0.size = 11 }) == [UInt32(IN_MODIFY)])
    #expect(words(file(), file { ($0.modified, $0.changed) = (200, 200) }) == [UInt32(IN_MODIFY)])
    #expect(words(file(), file { $0.mode = S_IFREG | 0o600 }) == [UInt32(IN_ATTRIB)])
    #expect(words(file(), file { $0.links = 2 }) == [UInt32(IN_ATTRIB)])
    #expect(words(file(), file { $0.changed = 200 }) == [UInt32(IN_ATTRIB)])
    let both = file { ($0.size, $0.user) = (11, 5) }
    #expect(words(file(), both) == [UInt32(IN_MODIFY), UInt32(IN_ATTRIB)])
  }

  @Test("what happens in a directory is not told of it")
  func directories() {
    var other = directory
    (other.modified, other.changed, other.links, other.size) = (200, 200, 3, 20)
    #expect(words(directory, other) == [])
    other.mode = S_IFDIR | 0o700
    #expect(words(directory, other) == [UInt32(IN_ATTRIB | IN_ISDIR)])
  }

  @Test("names come and go")
  func names() {
    #expect(words(Glance(), file()) == [UInt32(IN_CREATE), UInt32(IN_MODIFY)])
    #expect(words(Glance(), file { $0.size = 0 }) == [UInt32(IN_CREATE)])
    #expect(words(Glance(), directory) == [UInt32(IN_CREATE | IN_ISDIR)])
    #expect(words(file(), Glance()) == [UInt32(IN_DELETE)])
    #expect(words(directory, Glance()) == [UInt32(IN_DELETE | IN_ISDIR)])
  }

  @Test("another inode number makes another object only together with another time or size")
  func replaced() {
    #expect(words(file(), file { $0.inode = 8 }) == [])
    let other = file { ($0.inode, $0.changed) = (8, 200) }
    #expect(words(file(), other) == [UInt32(IN_DELETE), UInt32(IN_CREATE)])
    #expect(words(file(), directory) == [UInt32(IN_DELETE), UInt32(IN_CREATE | IN_ISDIR)])
  }

  @Test(
    "seconds are decimal, and a day at most",
    arguments: [
      ("1", 1_000_000_000), ("0.05", 50_000_000), ("0", 0), (".5", 500_000_000),
      ("86400", 86_400_000_000_000), ("0.0000000019", 1), ("86401", nil), ("", nil), (".", nil),
      ("1.2.3", nil), ("-1", nil), ("1s", nil), ("99999999999999999999999", nil),
    ] as [(String, UInt64?)])
  func interval(text: String, expected: UInt64?) {
    var bytes = Array(text.utf8) + [0]
    let found = unsafe bytes.withUnsafeMutableBufferPointer { (b) in
      unsafe PolledFileSystems.interval(PathView(b.baseAddress!, text.utf8.count))
    }
    #expect(found == expected)
  }
}
