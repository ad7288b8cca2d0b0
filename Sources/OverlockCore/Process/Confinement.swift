import CLinux

/// A process that forbids itself the system calls with which a descriptor is looked at (seccomp, strict mode or a
/// filter that kills): what it has open is identified before, and afterwards nobody looks.
///
/// A file that is copied up later is then read on the lower, by the descriptors from before: the process would not
/// live to see the copy. Filters that only refuse change nothing, and an exec'd program begins anew. Judged for the
/// whole process, although a filter may be one thread's.
enum Confinement {
  @inline(__always) static var isOn: Bool { unsafe ovl_self()!.pointee.confined != 0 }

  /// What a look needs: `DescriptorObject`, `DataCall`.
  private static let calls: InlineArray<8, Int32> = [
    SYS_fcntl, SYS_fstat, SYS_newfstatat, SYS_readlinkat, SYS_openat, SYS_openat2, SYS_pread64,
    SYS_close,
  ]

  /// Whether a filter, a struct sock_fprog of the program's, kills for one of them. What the kernel refuses as a
  /// filter does not.
  static func kills(_ filter: UnsafeRawPointer) -> Bool {
    let header = MemoryLayout<UInt>.size
    guard unsafe ovl_is_readable_all(filter, 2 * header) != 0 else { return false }
    let count = unsafe Int(filter.loadUnaligned(as: UInt16.self))
    let words = unsafe filter.loadUnaligned(fromByteOffset: header, as: UInt.self)
    let size = count * SeccompFilter.size
    guard count > 0, count <= 4096, let base = unsafe UnsafeRawPointer(bitPattern: words),
      !words.addingReportingOverflow(UInt(size)).overflow
    else { return false }
    var at = 0
    while at < size {
      guard unsafe ovl_is_readable_all(base + at, min(size - at, 4096)) != 0 else { return false }
      at += 4096
    }
    let program = unsafe SeccompFilter(base: base, count: count)
    for i in calls.indices where program.kills(calls[i]) { return true }
    return false
  }

  /// Identifies every open descriptor that is not known yet.
  static func identifyAll() {
    try? withScratch { (s) throws(Errno) in
      let opened = try unsafe check(
        lx_openat(AT_FDCWD, "/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0))
      let directory = Int32(truncatingIfNeeded: opened)
      defer { _ = lx_close(directory) }
      try DirectoryReader.each(directory, s) { (name, _, _) throws(Errno) in
        guard let number = decimal(name), let fd = Int32(exactly: number), fd != directory else {
          return true
        }
        if !DescriptorTable.entry(fd).isKnown, !DescriptorObject.identify(fd).isKnown {
          DescriptorTable.set(fd, .plain)
        }
        return true
      }
    }
  }
}

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
