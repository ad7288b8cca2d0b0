import ArgumentParser
import Glibc
import OverlockCore

/// `overlock run`: sets the overlays up and becomes the command. No process stays behind, so status,
/// signals and job control are the command's own.
struct Run: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Run a command in one or more overlays.",
    usage: """
      overlock run [--over DIR]... [--name NAME] [--] COMMAND [ARGUMENT...]
      overlock run -o OPTIONS [-o OPTIONS]... [--] COMMAND [ARGUMENT...]
      """,
    discussion: """
      With neither --over nor -o the overlay is over the current directory. What the command \
      writes below it lands in an upper directory that is kept; the next run finds it again.

      OPTIONS, separated by commas:
        lowerdir=A:B     read-only layers, the top one first
        upperdir=U       the writable layer; without it the overlay is read-only
        workdir=W        an empty directory on the upper's file system
        target=T         the directory at which the merged tree appears; it
                         exists, and may itself be a lower
        registry=R       private directory for shared memory
                         (default: /dev/shm/overlock-UID)
        mand             mandatory locks on files with set-group-ID and without
                         the group's right to execute
        userxattr        keep marks in user.overlay.* even as root
        locks=W          source, origin or overlay: whose locks on a lower file
                         count for its copy in the upper
        unreached=W      allow, warn or refuse: what to do when a program is
                         started that preloading cannot reach
        poll=SECONDS     how often to look for changes of lowers of which inotify
                         tells nothing (0: never; default: every second where
                         a lower is on NFS, SMB, FUSE and the like)
      In a path, ':' and ',' are written '\\:' and '\\,', a backslash '\\\\',
      and any byte '\\NNN' (octal).

      ENVIRONMENT
        OVERLOCK_LIBRARY path of liboverlock.so (default: beside overlock, then
                         in ../lib)
        XDG_STATE_HOME   where uppers of --over are kept (default:
                         ~/.local/state)

      EXIT STATUS
        125  Overlock itself failed, and the command was not run
        126  the command was found but cannot be executed
        127  the command was not found
        otherwise that of the command
      """)

  @Option(
    name: .customShort("o"),
    help: .init("One overlay's options; may be repeated.", valueName: "options"))
  var optionLines: [String] = []

  @Option(
    help: .init("Put an overlay over this directory; may be repeated.", valueName: "dir"),
    completion: .directory)
  var over: [String] = []

  @Option(
    help: """
      Name of the upper under $XDG_STATE_HOME/overlock (default: made from the directory's path).
      """)
  var name: String?

  @Argument(
    parsing: .captureForPassthrough, help: "The command, looked up as it is in the overlay.",
    completion: .shellCommand("command"))
  var command: [String] = []

  /// Returns only by throwing.
  func replaceProcess(_ arguments: ArgumentVector) throws -> Never {
    let first = try commandIndex(arguments)
    let program = try Path("/proc/self/exe").resolved(as: "own program")
    let library = try Library.find(besides: program)
    let working = Path.working()
    let inherited = Run.inherited()
    let lines = try overlays(working, inherited)
    let value = (inherited + lines).map(\.text).joined(separator: "\n")
    try check(value, lines)

    let preload = Library.preload(library, before: Path.variable("LD_PRELOAD"))
    _ = unsafe unsetenv("OVERLOCK_STATE")
    _ = unsafe setenv("OVERLOCK", value, 1)
    _ = unsafe preload.withCString { unsafe setenv("LD_PRELOAD", $0, 1) }
    throw unsafe enter(program, library, working, arguments.from(first))
  }

  func run() throws {}

  // MARK: - Arguments

  /// Where the command starts among the arguments, which are passed on as bytes.
  func commandIndex(_ arguments: ArgumentVector) throws -> Int {
    // What is passed through is not parsed: neither is a request for help in front of it.
    if let word = command.first, ["--help", "-h"].contains(word) {
      throw CleanExit.helpRequest(self)
    }
    var first = arguments.count - command.count
    for i in 1..<first where !arguments.isText(i) {
      throw Failure(
        "an option of overlock is not UTF-8: \(arguments.path(i).text)",
        advice: "write such bytes of a path as '\\NNN' in an -o option")
    }
    if command.first == "--" {
      first += 1
    } else if let word = command.first, word.hasPrefix("-") {
      throw Failure("unknown option '\(word)'", advice: "see 'overlock run --help'")
    }
    guard first < arguments.count else {
      throw Failure("no command to run", advice: "see 'overlock run --help'")
    }
    return first
  }

  /// The new overlays, with the folders of `--over` made.
  private func overlays(_ working: Path?, _ inherited: [OptionLine]) throws -> [OptionLine] {
    var lines = optionLines.map { OptionLine($0).absolute(from: working) }
    var directories = try over.map { try Path($0).resolved(as: "--over") }
    if over.isEmpty, lines.isEmpty {
      guard let working else {
        throw Failure("the current directory has no path", code: ENOENT, advice: "use --over")
      }
      directories = [working]
    }
    if directories.isEmpty, name != nil {
      throw Failure("--name is for --over; with -o, upperdir= and workdir= say where things go")
    }
    let state = directories.isEmpty ? nil : try StateFolder(name: name, over: directories)
    for directory in directories {
      try Nesting.check(directory, role: "--over", inside: inherited)
    }
    if let state {
      try Nesting.check(state.path, role: "the upper's folder", inside: inherited)
      lines += try state.prepare(directories)
    }
    try Nesting.check(lines, inside: inherited)
    return lines
  }

  /// The overlays that this process is in already: a nested run adds to them.
  private static func inherited() -> [OptionLine] {
    guard let value = Path.variable("OVERLOCK") else { return [] }
    return value.text.split(separator: "\n").map { OptionLine(String($0)) }
  }

  // MARK: - Start

  /// Has the core set everything up here first, where a refusal can be explained.
  private func check(_ value: String, _ lines: [OptionLine]) throws {
    var message = [CChar](repeating: 0, count: 16384)
    let result = unsafe ovlStart(value, nil, &message, message.count)
    guard result < 0 else { return }
    let text = String(
      decoding: message.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    throw Advice.refused(text, code: Int32(truncatingIfNeeded: -result), lines: lines)
  }

  private func enter(
    _ program: Path, _ library: Path, _ working: Path?,
    _ command: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>
  ) -> Failure {
    let step = ["overlock", InsideStep.name].map { Path($0) } + [library, working ?? Path("")]
    var vector = unsafe step.map { unsafe $0.withCString { unsafe strdup($0) } }
    var i = 0
    while let argument = unsafe command[i] {
      unsafe vector.append(argument)
      i += 1
    }
    unsafe vector.append(nil)
    unsafe program.withCString { _ = unsafe execv($0, vector) }
    return Failure("cannot run \(program.text)", code: errno)
  }
}
