import CLinux
import Testing

@testable import OverlockCore

/// Options are the kernel's, with the kernel's escapes; what is wrong is said in one line.
@Suite("Options")
struct OptionsTests {
  private func parse(_ line: String) -> (Options?, String) {
    let memory = UnsafeMutablePointer<UInt8>.allocate(capacity: 4096)
    defer { unsafe memory.deallocate() }
    var message = unsafe PathBuffer(memory, capacity: 4096)
    let bytes = Array(line.utf8)
    let kept = UnsafeMutablePointer<UInt8>.allocate(capacity: bytes.count + 1)
    for (i, byte) in bytes.enumerated() { unsafe kept[i] = byte }
    do throws(Errno) {
      return (try Options.parse(unsafe PathView(kept, bytes.count), &message), "")
    } catch {
      return (nil, text(message.view))
    }
  }

  private func text(_ view: PathView) -> String {
    String(decoding: (0..<view.count).map { view[$0] }, as: UTF8.self)
  }

  @Test("lowers are a list, escapes are taken out")
  func lowers() throws {
    let (options, _) = parse(#"lowerdir=/a:/b\:c:/d\,e,upperdir=/u,workdir=/w,target=/t\134x"#)
    let parsed = try #require(options)
    var position = 0
    var found: [String] = []
    while let lower = try Options.nextLower(parsed.lowers, &position) { found.append(text(lower)) }
    #expect(found == ["/a", "/b:c", "/d,e"])
    #expect(text(parsed.target) == #"/t\x"#)
  }

  @Test("mandatory locks are asked for, with no value")
  func mandatory() {
    #expect(parse("lowerdir=/a,target=/t").0?.flags == 0)
    #expect(parse("lowerdir=/a,target=/t,mand").0?.flags == UInt32(OVL_MAND))
    #expect(parse("lowerdir=/a,target=/t,mand=1").1 == "unknown option 'mand'")
  }

  @Test(
    "what is wrong is named",
    arguments: [
      ("lowerdir=/a", "target= is missing"),
      ("target=/t", "lowerdir= is missing"),
      ("lowerdir=/a,target=/t,upperdir=/u", "upperdir= and workdir= go together"),
      ("lowerdir=/a,target=/t,uperdir=/u", "unknown option 'uperdir'"),
      ("lowerdir=/a,target=t", "'t': paths must be absolute"),
      ("lowerdir=/a,target=/t,target=/s", "target= given twice"),
      ("lowerdir=/a,target=/t,locks=all", "locks= takes source, origin or overlay, not 'all'"),
      ("lowerdir=/a,target=/t,poll=-1", "poll= takes seconds, a day at most, not '-1'"),
      ("lowerdir=/a,target=/t,poll=", "poll= takes seconds, a day at most, not ''"),
      ("lowerdir=/a,target=/t,poll=90000", "poll= takes seconds, a day at most, not '90000'"),
      ("lowerdir=/a,target=/t,unreached=no", "unreached= takes allow, warn or refuse, not 'no'"),
    ])
  func wrong(line: String, expected: String) {
    let (options, message) = parse(line)
    #expect(options == nil)
    #expect(message == expected)
  }
}
