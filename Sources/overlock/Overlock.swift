import ArgumentParser
import Glibc

/// The `overlock` command. Owns the way in and the way every failure leaves: one line on stderr and
/// a documented status.
@main
struct Overlock: ParsableCommand {
  static let version = "0.1.0-dev"

  static let configuration = CommandConfiguration(
    abstract: "Run a program on a directory made of several, and keep what it writes apart.",
    discussion: """
      A union file system without root, mount, daemon, FUSE or user namespace: read-only lower \
      directories appear under one writable upper directory, to the command and to all that it \
      starts.
      """,
    version: "overlock \(version)",
    subcommands: [Run.self, Locks.self, Watches.self, Check.self])

  /// The step inside the overlay is no command for users: its arguments are another command's, which
  /// need not be text, so it is told apart before anything is parsed.
  static func main() {
    let arguments = unsafe ArgumentVector(CommandLine.unsafeArgv, count: Int(CommandLine.argc))
    do {
      if CommandLine.arguments.dropFirst().first == InsideStep.name {
        throw InsideStep.replaceProcess(arguments)
      }
      var command = try parseAsRoot(arguments.texts())
      if let run = command as? Run {
        try run.replaceProcess(arguments)
      } else {
        try command.run()
      }
    } catch let failure as Failure {
      failure.exit()
    } catch let status as ExitCode {
      Glibc.exit(status.rawValue)
    } catch {
      guard exitCode(for: error).isSuccess else {
        let text = message(for: error)
        Failure(text.prefix(1).lowercased() + text.dropFirst(), advice: "see 'overlock run --help'")
          .exit()
      }
      print(fullMessage(for: error))
    }
  }
}
