import Glibc
import Testing

@testable import overlock

/// Guards that two directories never share an upper: one would show the other's changes.
@Suite("State folders", .serialized) struct StateFolderTests {
  let scratch: Path

  init() throws {
    var template = Array("/tmp/overlock-cli-tests.XXXXXX\0".utf8CString)
    let made = try #require(unsafe mkdtemp(&template))
    scratch = unsafe Path(cString: made)
    setenv("XDG_STATE_HOME", scratch.appending("state").text, 1)
  }

  private func directory(_ name: String) -> Path {
    let path = scratch.appending(name)
    mkdir(path.text, 0o755)
    return path
  }

  private func mode(_ path: Path) throws -> mode_t {
    var st = stat()
    try #require(stat(path.text, &st) == 0)
    return st.st_mode & 0o7777
  }

  @Test("the default name is readable, a plain word, and differs with the path")
  func defaultNames() {
    let name = StateFolder.defaultName([Path("/home/me/my project")])
    #expect(name.hasPrefix("my_project-"))
    #expect(name != StateFolder.defaultName([Path("/home/you/my project")]))
    #expect(StateFolder.defaultName([Path("/")]).hasPrefix("root-"))
    #expect(!StateFolder.defaultName([Path("/.hidden")]).hasPrefix("."))
    #expect(
      StateFolder.defaultName([Path("/a"), Path("/b")])
        != StateFolder.defaultName([Path("/a/b")]))
  }

  @Test("the same directory finds its upper again; another one may not take the name")
  func nameBelongs() throws {
    let (a, b) = (directory("a"), directory("b"))
    let first = try StateFolder(name: "n", over: [a]).prepare([a])
    #expect(try StateFolder(name: "n", over: [a]).prepare([a]) == first)
    let failure = #expect(throws: Failure.self) {
      try StateFolder(name: "n", over: [b]).prepare([b])
    }
    #expect(failure?.line.contains(a.text) == true)
  }

  @Test("several directories get numbered folders of their own")
  func numbered() throws {
    let (a, b) = (directory("c"), directory("d"))
    let lines = try StateFolder(name: "two", over: [a, b]).prepare([a, b])
    let folder = scratch.appending("state/overlock/two")
    #expect(
      lines.map { $0.path("upperdir") } == [
        folder.appending("1/upper"), folder.appending("2/upper"),
      ])
  }

  @Test("a new upper has its directory's mode, and the folders above are private")
  func modes() throws {
    let a = directory("e")
    chmod(a.text, 0o2751)
    let lines = try StateFolder(name: "m", over: [a]).prepare([a])
    #expect(try mode(#require(lines[0].path("upperdir"))) == 0o2751)
    #expect(try mode(scratch.appending("state/overlock")) == 0o700)
  }

  @Test("a name that would lead elsewhere is refused", arguments: ["", ".", "..", "a/b", ".x"])
  func badNames(name: String) {
    #expect(throws: Failure.self) { try StateFolder(name: name, over: [Path("/a")]) }
  }
}

@Suite("Nested runs") struct NestingTests {
  let outer = [OptionLine("lowerdir=/usr,upperdir=/u,workdir=/w,target=/usr")]

  @Test("a second overlay on one target is refused")
  func sameTarget() {
    let line = OptionLine("lowerdir=/etc,target=/usr")
    #expect(throws: Failure.self) { try Nesting.check([line], inside: outer) }
    #expect(throws: Failure.self) { try Nesting.check([line, line], inside: []) }
  }

  @Test("a layer that another overlay shows changed is refused; one elsewhere is not")
  func layers() throws {
    let inside = OptionLine("lowerdir=/usr/share,target=/opt")
    #expect(throws: Failure.self) { try Nesting.check([inside], inside: outer) }
    try Nesting.check([OptionLine("lowerdir=/etc,target=/opt")], inside: outer)
  }
}
