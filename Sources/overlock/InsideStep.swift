import Glibc

/// The last step before the command: this program once more, with the library preloaded, so that the
/// working directory and the command are looked up as the overlay has them.
///
///     overlock __exec LIBRARY DIRECTORY COMMAND [ARGUMENT…]
///
/// DIRECTORY is empty where the caller's has no path.
enum InsideStep {
  static let name = "__exec"

  /// Returns only on failure.
  static func replaceProcess(_ arguments: ArgumentVector) -> Failure {
    guard arguments.count > 4 else { return Failure("\(name) is for overlock itself") }
    let library = arguments.path(2)
    guard Library.isLoaded(library) else {
      return Failure(
        "\(library.text) was not preloaded, so the command was not run",
        advice: "the dynamic linker's own message tells why")
    }
    let directory = arguments.path(3)
    if !directory.bytes.isEmpty, unsafe directory.withCString({ unsafe chdir($0) }) != 0 {
      return Failure("\(directory.text), as the overlay has it", code: errno)
    }
    let command = arguments.path(4)
    unsafe execvp(arguments.from(4)[0]!, arguments.from(4))
    return failure(command, errno)
  }

  static func failure(_ command: Path, _ code: Int32) -> Failure {
    let isPath = command.bytes.contains(UInt8(ascii: "/"))
    guard code == ENOENT else {
      return Failure(
        "cannot run \(command.text)", code: code,
        status: code == ENOTDIR ? .notFound : .notExecutable)
    }
    guard isPath else { return Failure("\(command.text): command not found", status: .notFound) }
    guard unsafe command.withCString({ unsafe access($0, F_OK) }) == 0 else {
      return Failure("cannot run \(command.text)", code: code, status: .notFound)
    }
    return Failure(
      "cannot run \(command.text): its interpreter is missing", status: .notExecutable)
  }
}
