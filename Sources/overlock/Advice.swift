import Glibc

/// What to do next about a refusal, from its errno and the role of the path it is about.
enum Advice {
  static func next(_ code: Int32, about what: String) -> String {
    let ours = what.contains("upperdir") || what.contains("workdir")
    switch code {
    case ENOENT: return "create it, or correct the path"
    case ENOTDIR: return "name a directory"
    case EACCES, EPERM, EROFS:
      return ours
        ? "make it writable for this user, or name another directory"
        : "choose a directory that this user may enter"
    case EXDEV: return "put upperdir and workdir on one file system"
    case ELOOP:
      return "keep every layer, the workdir and the target apart (a lower may be the target)"
    case ENOTSUP:
      return "put upperdir and workdir on ext4, xfs, btrfs, or tmpfs of Linux 6.6 or later"
    case ENOSPC, EDQUOT: return "make room there, or name directories on another file system"
    case EPROTO:
      return "remove that file once no program uses the overlay, or use the build that made it"
    default: return ""
    }
  }

  /// Whether the errno is the core's own judgement, whose words say less than its message.
  static func isJudgement(_ code: Int32) -> Bool {
    code == EINVAL || code == ELOOP || code == EPROTO
  }

  /// The failure for what the core refused: its message, the errno's words, and what to do next.
  static func refused(_ message: String, code: Int32, lines: [OptionLine]) -> Failure {
    // The core does not spell out the directory that it chose.
    let what = message.split(separator: "overlock-…", omittingEmptySubsequences: false)
      .joined(separator: "overlock-\(geteuid())")
    var advice = next(code, about: what)
    if code == EINVAL {
      advice = "see 'overlock run --help'"
      for key in lines.flatMap(\.options).map(\.key) where what.contains("option '\(key)'") {
        if let known = nearest(key) { advice = "did you mean '\(known)'?" }
      }
    }
    return Failure(what, code: isJudgement(code) ? 0 : code, advice: advice)
  }

  /// The option that a misspelt one was probably meant to be.
  static func nearest(_ word: String) -> String? {
    let best = OptionLine.keys.map { (distance(word, $0), $0) }.min { $0.0 < $1.0 }
    guard let best, best.0 <= max(1, word.count / 3) else { return nil }
    return best.1
  }

  /// How many single letters have to be put in, left out or replaced (Levenshtein). O(m × n).
  static func distance(_ a: String, _ b: String) -> Int {
    let b = Array(b)
    var row = Array(0...b.count)
    for (i, letter) in a.enumerated() {
      var diagonal = row[0]
      row[0] = i + 1
      for j in b.indices {
        let replaced = diagonal + (letter == b[j] ? 0 : 1)
        diagonal = row[j + 1]
        row[j + 1] = min(replaced, row[j] + 1, row[j + 1] + 1)
      }
    }
    return row[b.count]
  }
}
