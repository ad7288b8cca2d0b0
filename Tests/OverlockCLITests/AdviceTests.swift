import Glibc
import Testing

@testable import overlock

/// Guards that a refusal tells the user what, which path, why, and what to do, in one line.
@Suite("Refusals") struct AdviceTests {
  @Test(
    "a misspelt option is answered with the nearest one",
    arguments: [
      ("uperdir", "upperdir"), ("lowerdirs", "lowerdir"), ("targt", "target"),
      ("userxatr", "userxattr"), ("workdri", "workdir"),
    ])
  func nearest(written: String, meant: String) {
    #expect(Advice.nearest(written) == meant)
  }

  @Test("a word that is near to nothing gets no guess")
  func noGuess() {
    #expect(Advice.nearest("frobnicate") == nil)
    #expect(Advice.nearest("x") == nil)
  }

  @Test("errno's words and the next step follow the core's message")
  func words() {
    let failure = Advice.refused("upperdir /u: cannot be opened", code: EACCES, lines: [])
    #expect(
      failure.line == "upperdir /u: cannot be opened: Permission denied; "
        + "make it writable for this user, or name another directory")
    #expect(failure.status == .cannotStart)
  }

  @Test("words that the message says already, or that would mislead, are left out")
  func sparing() {
    #expect(
      !Advice.refused("overlapping layers: /a", code: ELOOP, lines: []).line.contains("links"))
    let said = Advice.refused("lowerdir /a: permission denied", code: EACCES, lines: []).line
    #expect(!said.contains("Permission denied"))
  }

  @Test("a registry of another build: the whole path, and that it may be removed")
  func registry() {
    let line = Advice.refused(
      "the registry was made by another build: /dev/shm/overlock-…/00ff", code: EPROTO, lines: []
    ).line
    #expect(line.contains("/dev/shm/overlock-\(geteuid())/00ff"))
    #expect(line.contains("remove that file once no program uses the overlay"))
  }

  @Test("a path with a newline in it keeps the message on one line")
  func oneLine() {
    #expect(
      Failure("lowerdir /a\nb", code: ENOENT).line == #"lowerdir /a\012b: "#
        + "No such file or directory")
  }

  @Test("what exec answered decides between 126 and 127")
  func statuses() {
    #expect(InsideStep.failure(Path("nosuch"), ENOENT).status == .notFound)
    #expect(InsideStep.failure(Path("/no/such"), ENOENT).status == .notFound)
    #expect(InsideStep.failure(Path("/etc/passwd"), EACCES).status == .notExecutable)
    // It is there, so what is missing is its interpreter.
    #expect(InsideStep.failure(Path("/etc/passwd"), ENOENT).status == .notExecutable)
  }
}

@Suite("Preloading") struct LibraryTests {
  let ours = Path("/new/liboverlock.so")

  @Test("the library comes first, other entries stay, an earlier Overlock goes")
  func order() {
    let value = Library.preload(
      ours, before: Path("/x.so:/old/liboverlock.so /y.so::liboverlock.so"))
    #expect(value == Path("/new/liboverlock.so:/x.so:/y.so"))
    #expect(Library.preload(ours, before: nil) == ours)
  }
}
