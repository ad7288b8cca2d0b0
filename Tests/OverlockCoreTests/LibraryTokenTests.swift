import CLinux
import Testing

@testable import OverlockCore

@Suite("Dynamic string tokens")
struct LibraryTokenTests {
  private func expand(_ text: String, origin: String? = "/o", platform: String? = "p") throws
    -> String
  {
    var memory = [UInt8](repeating: 0, count: 256)
    return try unsafe memory.withUnsafeMutableBufferPointer { bytes in
      var path = unsafe PathBuffer(bytes.baseAddress!, capacity: bytes.count)
      try unsafe text.withCString { text in
        try unsafe withOptional(origin) { origin in
          try unsafe withOptional(platform) { platform in
            var seeker = unsafe ovl_seeker()
            unsafe seeker.origin = origin
            unsafe seeker.platform = platform
            try unsafe LibraryToken.expand(PathView(text), &seeker, into: &path)
          }
        }
      }
      return unsafe String(
        decoding: UnsafeBufferPointer(start: path.base, count: path.count), as: UTF8.self)
    }
  }

  private func withOptional(
    _ text: String?, _ body: (UnsafePointer<CChar>?) throws -> Void
  ) throws {
    guard let text else { return try body(nil) }
    try unsafe text.withCString { try unsafe body($0) }
  }

  @Test(
    "are replaced, with braces and without",
    arguments: [
      ("$ORIGIN/lib", "/o/lib"), ("${ORIGIN}/../lib", "/o/../lib"), ("/a/$PLATFORM", "/a/p"),
      ("/a/${PLATFORM}x", "/a/px"), ("$ORIGIN$ORIGIN", "/o/o"), ("/plain", "/plain"),
    ])
  func replaced(text: String, expected: String) throws {
    #expect(try expand(text) == expected)
  }

  @Test(
    "are no other names that start so",
    arguments: [
      "$ORIGINAL/lib", "${ORIGIN/lib", "$", "$$", "a$", "${}", "$ORIGIN_X", "$PLATFORM1",
    ])
  func untouched(text: String) throws {
    #expect(try expand(text) == text)
  }

  @Test("that nobody knows make an element none")
  func unknown() {
    #expect(throws: Errno.noEntry) { try expand("$ORIGIN/lib", origin: nil) }
    #expect(throws: Errno.noEntry) { try expand("${PLATFORM}", platform: nil) }
  }
}
