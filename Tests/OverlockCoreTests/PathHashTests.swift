import Testing

@testable import OverlockCore

/// The hash that names a path in the lookup cache: equal paths agree however they were hashed, different
/// ones do not.
@Suite("Path hash")
struct PathHashTests {
  private func hash(_ path: String) -> PathHash {
    var result = PathHash(1, 2)
    var text = path
    text.withUTF8 { bytes in
      unsafe result.appendComponents(PathView(bytes.baseAddress!, bytes.count))
    }
    return result
  }

  @Test("is the same for the same components")
  func same() { #expect(hash("a/bc/def") == hash("a/bc/def")) }

  @Test("tells where a component ends")
  func boundaries() {
    #expect(hash("ab/c") != hash("a/bc"))
    #expect(hash("a/b") != hash("a/b/b"))
    #expect(hash("abcdefgh/i") != hash("abcdefghi"))
  }

  @Test("tells all of a hundred thousand names apart")
  func distinct() {
    var seen = Set<UInt64>()
    for i in 0..<100_000 { seen.insert(hash("dir/name-\(i)").a) }
    #expect(seen.count == 100_000)
  }
}
