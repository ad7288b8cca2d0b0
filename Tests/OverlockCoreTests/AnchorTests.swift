import CLinux
import Testing

@testable import OverlockCore

/// What the registry says of anchors, and bringing one up to date while it is mapped.
@Suite("Anchors")
struct AnchorTests {
  private func withRegistry(_ body: (Registry) -> Void) {
    let memory = UnsafeMutableRawPointer.allocate(byteCount: Registry.size, alignment: 4096)
    defer { unsafe memory.deallocate() }
    unsafe memory.initializeMemory(as: UInt8.self, repeating: 0, count: Registry.size)
    let registry = unsafe Registry(memory)
    unsafe at_put64(registry.word(8), 0x1234_5678_9abc_def0)
    unsafe at_put64(registry.word(16), 0x0fed_cba9_8765_4321)
    body(registry)
  }

  @Test("none is said only by who looked while nothing was noted")
  func word() {
    withRegistry { registry in
      #expect(!registry.saysNoAnchors(registry.anchorsWord), "a new word says nothing")
      registry.noteNoAnchors(since: registry.anchorsWord)
      #expect(registry.saysNoAnchors(registry.anchorsWord))
      registry.noteAnchor()
      let seen = registry.anchorsWord
      #expect(!registry.saysNoAnchors(seen))
      registry.noteAnchor()
      registry.noteNoAnchors(since: seen)
      #expect(!registry.saysNoAnchors(registry.anchorsWord), "somebody made one meanwhile")
      registry.noteNoAnchors(since: registry.anchorsWord)
      #expect(registry.saysNoAnchors(registry.anchorsWord))
    }
  }

  @Test("a wiped or scribbled word says nothing")
  func scribbled() {
    withRegistry { registry in
      registry.noteNoAnchors(since: registry.anchorsWord)
      let word = registry.anchorsWord
      for bit in UInt64(0)..<64 where bit != 24 {
        #expect(!registry.saysNoAnchors(word ^ 1 << bit), "bit \(bit)")
      }
      #expect(!registry.saysNoAnchors(0))
    }
  }

  @Test("a time for the next look that nobody set is due")
  func pace() {
    withRegistry { registry in
      let now = lx_realtime_ns()
      registry.setNextSweep(now + 1_000_000_000)
      #expect(!registry.isSweepDue(now))
      #expect(registry.isSweepDue(now + 1_000_000_000))
      registry.setNextSweep(.max)
      #expect(registry.isSweepDue(now))
    }
  }

  private static let page = 4096

  /// A file without a name: `nil` pages are holes.
  private func file(_ pages: [UInt8?], cut: Int = 0) throws -> Int32 {
    let path = "/tmp/overlock-anchor-\(lx_getpid())-\(lx_realtime_ns())"
    let fd = Int32(try check(unsafe lx_openat(AT_FDCWD, path, O_RDWR | O_CREAT | O_EXCL, 0o600)))
    _ = unsafe lx_unlinkat(AT_FDCWD, path, 0)
    for (index, byte) in pages.enumerated() {
      guard let byte else { continue }
      let data = [UInt8](repeating: byte, count: AnchorTests.page)
      _ = lx_lseek(fd, index * AnchorTests.page, SEEK_SET)
      try check(unsafe lx_write(fd, data, data.count))
    }
    try check(lx_ftruncate(fd, pages.count * AnchorTests.page - cut))
    return fd
  }

  private func content(_ fd: Int32) throws -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: Int(lx_lseek(fd, 0, SEEK_END)))
    let count = bytes.count
    try check(unsafe lx_pread(fd, &bytes, count, 0))
    return bytes
  }

  @Test(
    "an older copy becomes the source, wherever either has data, a hole or nothing",
    arguments: [
      ([1, 2, 3, 4], [9, 9, 9, 9]), ([1, nil, 3], [9, 9, 9, 9, 9, 9]), ([nil, nil], [9, 9, 9]),
      ([1, nil, nil, 4], [9]), ([nil, 2, nil], [nil, nil, 9]), ([1, 2, 3], []), ([7], [9, 9]),
    ] as [([UInt8?], [UInt8?])])
  func inPlace(_ source: [UInt8?], _ old: [UInt8?]) throws {
    for cut in [0, 1000] {
      let from = try file(source, cut: cut)
      let out = try file(old)
      defer {
        _ = lx_close(from)
        _ = lx_close(out)
      }
      let wanted = try content(from)
      try withScratch { (s) throws(Errno) in
        try DataCopy.copy(from: from, to: out, size: wanted.count, s)
      }
      #expect(try content(out) == wanted, "\(source) over \(old), cut by \(cut)")
    }
  }

  @Test("no more is copied than there is room for")
  func room() throws {
    let from = try file([1, 2, 3, 4])
    let out = try file([])
    defer {
      _ = lx_close(from)
      _ = lx_close(out)
    }
    #expect(throws: Errno(rawValue: ENOSPC)) {
      try withScratch { (s) throws(Errno) in
        try DataCopy.copy(from: from, to: out, size: 4 * AnchorTests.page, room: 1000, s)
      }
    }
    #expect(try content(out).isEmpty)
  }
}
