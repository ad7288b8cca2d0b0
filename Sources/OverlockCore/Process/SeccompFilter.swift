import CLinux

/// A seccomp filter (seccomp(2)), run as the kernel runs it, on a call whose arguments are zeros.
@safe struct SeccompFilter {
  /// Bytes of a struct sock_filter: code, two jumps, a constant.
  static var size: Int { 8 }

  let base: UnsafeRawPointer
  let count: Int

  /// Whether the call ends the process or thread, or raises SIGSYS.
  func kills(_ number: Int32) -> Bool {
    guard let action = run(number) else { return false }
    switch action & 0xffff_0000 {
    case 0x8000_0000, 0x0000_0000, 0x0003_0000: return true  // KILL_PROCESS, KILL_THREAD, TRAP
    default: return false
    }
  }

  /// A word of struct seccomp_data.
  private func data(_ offset: UInt32, _ number: Int32) -> UInt32 {
    switch offset {
    case 0: return UInt32(bitPattern: number)
    case 4: return UInt32(OVL_AUDIT_ARCH)
    default: return 0
    }
  }

  /// What the filter returns; nil: it is none that the kernel takes. Jumps lead forward alone, so it ends.
  private func run(_ number: Int32) -> UInt32? {
    var a: UInt32 = 0
    var x: UInt32 = 0
    var memory = InlineArray<16, UInt32>(repeating: 0)
    var at = 0
    while at < count {
      let word = unsafe base + at * SeccompFilter.size
      let code = unsafe word.loadUnaligned(as: UInt16.self)
      let k = unsafe word.loadUnaligned(fromByteOffset: 4, as: UInt32.self)
      at += 1
      switch code {
      case 0x20: a = data(k, number)  // ld [k]
      case 0x00: a = k
      case 0x01: x = k
      case 0x80: a = 64  // the length of struct seccomp_data
      case 0x81: x = 64
      case 0x60, 0x61, 0x02, 0x03:
        guard k < 16 else { return nil }
        switch code {
        case 0x60: a = memory[Int(k)]
        case 0x61: x = memory[Int(k)]
        case 0x02: memory[Int(k)] = a
        default: memory[Int(k)] = x
        }
      case 0x07: x = a
      case 0x87: a = x
      case 0x06: return k
      case 0x16: return a
      case 0x84: a = 0 &- a
      case 0x05: at += Int(k)
      default:
        let operand = code & 0x08 != 0 ? x : k
        if code & 0x07 == 0x05 {
          let taken: Bool
          switch code & 0xf0 {
          case 0x10: taken = a == operand
          case 0x20: taken = a > operand
          case 0x30: taken = a >= operand
          case 0x40: taken = a & operand != 0
          default: return nil
          }
          at += unsafe Int(word.load(fromByteOffset: taken ? 2 : 3, as: UInt8.self))
        } else if code & 0x07 == 0x04 {
          switch code & 0xf0 {
          case 0x00: a = a &+ operand
          case 0x10: a = a &- operand
          case 0x20: a = a &* operand
          case 0x30:
            // As the kernel ends it: with 0.
            guard operand != 0 else { return 0 }
            a /= operand
          case 0x40: a |= operand
          case 0x50: a &= operand
          case 0x60: a = a &<< operand
          case 0x70: a = a &>> operand
          case 0xa0: a ^= operand
          default: return nil
          }
        } else {
          return nil
        }
      }
    }
    return nil
  }
}
