import CLinux
import Testing

@testable import OverlockCore

/// What a program's filter does to a call. The codes are those of linux/bpf_common.h.
@Suite("Seccomp filters")
struct SeccompFilterTests {
  private struct Step {
    var code: UInt16
    var yes: UInt8 = 0
    var no: UInt8 = 0
    var k: UInt32
  }

  private func kills(_ steps: [Step], _ number: Int32) -> Bool {
    steps.withUnsafeBytes { bytes in
      unsafe SeccompFilter(base: bytes.baseAddress!, count: steps.count).kills(number)
    }
  }

  private let load = Step(code: 0x20, k: 0)
  private let kill = Step(code: 0x06, k: 0x8000_0000)
  private let allow = Step(code: 0x06, k: 0x7fff_0000)

  @Test("what is not allowed is killed")
  func list() {
    let program = [
      load, Step(code: 0x15, yes: 1, no: 0, k: UInt32(SYS_read)),
      Step(code: 0x15, yes: 0, no: 1, k: UInt32(SYS_fstat)), allow, kill,
    ]
    #expect(!kills(program, SYS_read))
    #expect(!kills(program, SYS_fstat))
    #expect(kills(program, SYS_openat))
  }

  @Test(
    "actions",
    arguments: [
      (UInt32(0x8000_0000), true), (0, true), (0x0003_0000, true), (0x0005_000d, false),
      (0x7ffc_0000, false), (0x7fff_0000, false),
    ])
  func actions(action: UInt32, isDeath: Bool) {
    #expect(kills([Step(code: 0x06, k: action)], SYS_fstat) == isDeath)
  }

  @Test("the architecture is this one, and arguments are zeros")
  func words() {
    let architecture = [
      Step(code: 0x20, k: 4), Step(code: 0x15, yes: 0, no: 1, k: UInt32(OVL_AUDIT_ARCH)), allow,
      kill,
    ]
    #expect(!kills(architecture, SYS_fstat))
    let argument = [
      Step(code: 0x20, k: 16), Step(code: 0x15, yes: 0, no: 1, k: 0), allow, kill,
    ]
    #expect(!kills(argument, SYS_fstat))
  }

  @Test("memory, arithmetic and jumps")
  func arithmetic() {
    // a = number; m[3] = a; a = 0; x = m[3]; a = x + 7 - 7, doubled and halved
    let program = [
      load, Step(code: 0x02, k: 3), Step(code: 0x00, k: 0), Step(code: 0x61, k: 3),
      Step(code: 0x87, k: 0), Step(code: 0x04, k: 7), Step(code: 0x14, k: 7),
      Step(code: 0x24, k: 2), Step(code: 0x34, k: 2), Step(code: 0x05, k: 1), kill,
      Step(code: 0x15, yes: 0, no: 1, k: UInt32(SYS_close)), kill, allow,
    ]
    #expect(kills(program, SYS_close))
    #expect(!kills(program, SYS_read))
  }

  @Test("what the kernel does not take as a filter kills nobody")
  func broken() {
    #expect(!kills([Step(code: 0xff, k: 0)], SYS_fstat), "no such code")
    #expect(!kills([Step(code: 0x05, k: 9), kill], SYS_fstat), "a jump beyond the end")
    #expect(!kills([Step(code: 0x60, k: 16), kill], SYS_fstat), "no such memory")
    #expect(!kills([load], SYS_fstat), "no return")
    #expect(
      kills([load, Step(code: 0x34, k: 0), allow], SYS_fstat), "a division by zero ends with 0")
  }
}
