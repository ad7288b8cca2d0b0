/// The arguments of this process as bytes: those of the command to run are passed on unseen.
@safe struct ArgumentVector {
  private let base: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>
  let count: Int

  init(_ base: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>, count: Int) {
    unsafe self.base = base
    self.count = count
  }

  /// All but the program's name, for the parser. Bytes that are not UTF-8 come out replaced.
  func texts() -> [String] {
    (1..<max(count, 1)).map { unsafe String(cString: base[$0]!) }
  }

  func path(_ index: Int) -> Path { unsafe Path(cString: base[index]!) }

  func isText(_ index: Int) -> Bool { unsafe String(validatingCString: base[index]!) != nil }

  /// The arguments from `index` on, NULL-terminated as exec wants them.
  func from(_ index: Int) -> UnsafeMutablePointer<UnsafeMutablePointer<CChar>?> {
    unsafe base + index
  }
}
