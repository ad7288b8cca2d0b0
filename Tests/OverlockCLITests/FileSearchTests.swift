import Glibc
import Testing

@testable import overlock

/// Guards that files are found by their numbers in the trees alone where they may be, and that nothing is looked
/// through for nothing.
@Suite("The search for files") final class FileSearchTests {
  private let root: Path

  init() throws {
    var template = Array("/tmp/overlock-search.XXXXXX".utf8CString)
    _ = try #require(unsafe mkdtemp(&template))
    root = try Path(template.dropLast().map { UInt8(bitPattern: $0) }).resolved(as: "root")
    for directory in ["a", "a/deep", "b", "closed"] {
      #expect(unsafe mkdir(root.appending(directory).text, 0o700) == 0)
    }
    for file in ["a/deep/f", "a/u\n1", "b/g", "closed/h"] { make(file) }
  }

  deinit {
    for file in ["a/deep/f", "a/u\n1", "b/g", "b/new", "closed/h", "b/moved"] {
      _ = unsafe unlink(root.appending(file).text)
    }
    for directory in ["a/deep", "a", "b", "closed", ""] {
      _ = unsafe rmdir(root.appending(directory).text)
    }
  }

  private func make(_ name: String) {
    let fd = unsafe open(root.appending(name).text, O_CREAT | O_WRONLY | O_CLOEXEC, 0o600)
    #expect(fd >= 0)
    close(fd)
  }

  private func file(_ name: String) throws -> KernelFile {
    var st = stat()
    try #require(unsafe lstat(root.appending(name).text, &st) == 0)
    let device = try #require(Mounts().device(of: root.appending(name)))
    return KernelFile(device: device, inode: UInt64(st.st_ino))
  }

  private final class Visits { var list: [[UInt8]] = [] }

  private func tree(_ name: String, _ visits: Visits) -> FileSearch.Tree {
    FileSearch.Tree(root: root.appending(name)) { (directory, body) in
      visits.list.append(directory)
      body()
    }
  }

  @Test("files and directories are found, the root too, and closed directories are passed by")
  func finds() throws {
    let visits = Visits()
    var search = FileSearch()
    let wanted = try ["a", "a/deep", "a/deep/f", "a/u\n1", "b/g", "closed/h"].map(file)
    search.find(
      Set(wanted), in: [tree("a", visits), tree("", visits)], but: [root.appending("closed")])
    #expect(try search.found[file("a")]?.isDirectory == true)
    #expect(try search.found[file("a/deep/f")]?.paths == [root.appending("a/deep/f").bytes])
    #expect(try search.found[file("a/u\n1")]?.isDirectory == false)
    #expect(try search.found[file("b/g")]?.isRemoved == false)
    #expect(try search.found[file("closed/h")] == nil)
    #expect(!visits.list.contains(root.appending("closed").bytes))
  }

  @Test("no directory is read for nothing, nor again for what was found or not found before")
  func reads() throws {
    let visits = Visits()
    var search = FileSearch()
    search.find([], in: [tree("a", visits)], but: [])
    // On a file system that is not in the tree.
    search.find([KernelFile(device: 0xfff_ffff, inode: 2)], in: [tree("a", visits)], but: [])
    #expect(visits.list.isEmpty)
    let known = try Set([file("a/deep/f"), file("b/g")])
    search.find(known, in: [tree("a", visits)], but: [])
    #expect(visits.list.count == 2)
    search.find(known, in: [tree("a", visits)], but: [])
    #expect(visits.list.count == 2)
    // All is found before the second tree.
    search.find(
      try [file("a/deep/f"), file("a")], in: [tree("a", visits), tree("b", visits)], but: [])
    #expect(!visits.list.contains(root.appending("b").bytes))
  }

  @Test("what was renamed since is found anew")
  func renamed() throws {
    let visits = Visits()
    var search = FileSearch()
    let moved = try file("b/g")
    search.find([moved], in: [tree("b", visits)], but: [])
    #expect(unsafe rename(root.appending("b/g").text, root.appending("b/moved").text) == 0)
    search.find([moved], in: [tree("b", visits)], but: [])
    #expect(search.found[moved]?.paths == [root.appending("b/moved").bytes])
  }

  @Test("of a file with several names all that are in the trees are found")
  func links() throws {
    let visits = Visits()
    #expect(unsafe link(root.appending("b/g").text, root.appending("b/new").text) == 0)
    #expect(unsafe link(root.appending("b/g").text, root.appending("closed/g").text) == 0)
    defer { _ = unsafe unlink(root.appending("closed/g").text) }
    var search = FileSearch()
    search.find([try file("b/g")], in: [tree("a", visits), tree("b", visits)], but: [])
    let names = [root.appending("b/g").text, root.appending("b/new").text]
    #expect(try search.found[file("b/g")]?.paths.map { Path($0).text }.sorted() == names)
  }

  @Test("a removed file is known by who has it open")
  func removed() throws {
    let visits = Visits()
    make("b/new")
    let fd = unsafe open(root.appending("b/new").text, O_RDONLY | O_CLOEXEC)
    defer { close(fd) }
    let wanted = try file("b/new")
    #expect(unsafe unlink(root.appending("b/new").text) == 0)
    var search = FileSearch()
    search.find([wanted], in: [tree("b", visits)], but: [])
    #expect(search.found[wanted]?.paths == [root.appending("b/new").bytes])
    #expect(search.found[wanted]?.isRemoved == true)
  }
}
