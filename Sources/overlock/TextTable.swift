import FoundationEssentials
import Glibc

/// What lists print on standard output: columns for people, JSON for programs.
enum TextTable {
  /// Rows whose columns are as wide as the widest of their cells; nothing after the last.
  static func text(_ rows: [[String]]) -> String {
    let widths = (rows.first ?? []).indices.map { column in
      rows.map { $0[column].count }.max() ?? 0
    }
    return rows.map { row in
      let padded = zip(row, widths).map { $0 + String(repeating: " ", count: $1 - $0.count) }
      return (padded.dropLast() + [row[row.count - 1]]).joined(separator: "  ") + "\n"
    }.joined()
  }

  static func json(_ list: [some Encodable]) throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    return String(decoding: try encoder.encode(list), as: UTF8.self) + "\n"
  }

  static func write(_ text: String) {
    let bytes = Array(text.utf8)
    var from = 0
    while from < bytes.count {
      let count = unsafe bytes.withUnsafeBytes {
        unsafe Glibc.write(1, $0.baseAddress! + from, $0.count - from)
      }
      if count < 0, errno == EINTR { continue }
      // A pipe that nobody reads any more.
      guard count > 0 else { Glibc.exit(1) }
      from += count
    }
  }
}
