import Testing

@testable import overlock

/// Guards what stands between the user's spelling of a path and the one that the core reads: a path
/// that is cut or escaped wrongly is another directory.
@Suite("Option lines") struct OptionLineTests {
  let home = Path("/home/me/a:b")

  @Test("relative paths are taken from the working directory, which is escaped, and others stay")
  func absolute() {
    let line = OptionLine("lowerdir=top:/base,upperdir=../u,workdir=/w,target=.,userxattr")
    #expect(
      line.absolute(from: home).text
        == #"lowerdir=/home/me/a\:b/top:/base,upperdir=/home/me/a\:b/../u,workdir=/w,"#
        + #"target=/home/me/a\:b/.,userxattr"#)
  }

  @Test("an escaped separator does not separate")
  func escapedSeparators() {
    let line = OptionLine(#"lowerdir=/a\:b:/c\,d,target=/e\\,userxattr"#)
    #expect(line.layers.map(\.path) == [Path("/a:b"), Path("/c,d")])
    #expect(line.path("target") == Path(#"/e\"#))
    #expect(line.options.last == OptionLine.Option(key: "userxattr", value: nil))
  }

  @Test("a newline never reaches OVERLOCK, where it would end the overlay")
  func newline() {
    let text = OptionLine("lowerdir=/a\nb,target=t").absolute(from: Path("/x\ny")).text
    #expect(text == #"lowerdir=/a\012b,target=/x\012y/t"#)
    #expect(OptionLine(text).path("target") == Path("/x\ny/t"))
  }

  @Test("an option without a value is left for the core to refuse")
  func emptyValue() {
    #expect(OptionLine("lowerdir=,target").absolute(from: home).text == "lowerdir=,target")
  }

  @Test(
    "what is escaped is read back as it was",
    arguments: [
      "/plain", "/a:b,c\\d", "/new\nline\ttab", "/\\012", "/ümlaut", "/trailing\\", "/\\1234",
    ])
  func roundTrip(path: String) {
    let escaped = Path(path).escaped
    #expect(OptionLine.unescape(escaped) == Path(path))
    #expect(OptionLine.split(escaped, at: ",").count == 1)
    #expect(OptionLine.split(escaped, at: ":").count == 1)
  }

  @Test("bytes that are no text survive in octal")
  func notText() {
    let path = Path([0x2f, 0xff, 0x3a, 0xfe])
    #expect(path.escaped == #"/\377\:\376"#)
    #expect(OptionLine.unescape(path.escaped) == path)
  }
}

@Suite("Paths") struct PathTests {
  @Test("below means below a whole component")
  func below() {
    #expect(Path("/a/b").isAt(orBelow: Path("/a")))
    #expect(Path("/a").isAt(orBelow: Path("/a")))
    #expect(!Path("/ab").isAt(orBelow: Path("/a")))
    #expect(!Path("/").isAt(orBelow: Path("/a")))
    #expect(Path("/a").isAt(orBelow: Path("/")))
  }
}
