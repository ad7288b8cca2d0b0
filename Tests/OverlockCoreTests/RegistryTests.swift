import CLinux
import Testing

@testable import OverlockCore

/// The shared segment survives what may happen to it: wiped, scribbled and torn words are misses, never
/// wrong answers.
@Suite("Registry")
struct RegistryTests {
  private func withRegistry(_ body: (Registry) -> Void) {
    let memory = UnsafeMutableRawPointer.allocate(byteCount: Registry.size, alignment: 4096)
    defer { unsafe memory.deallocate() }
    unsafe memory.initializeMemory(as: UInt8.self, repeating: 0, count: Registry.size)
    let registry = unsafe Registry(memory)
    unsafe at_put64(registry.word(8), 0x1234_5678_9abc_def0)
    unsafe at_put64(registry.word(16), 0x0fed_cba9_8765_4321)
    registry.initializeGenerations()
    body(registry)
  }

  private let directory = PathHash(3, 4)
  private let name = PathHash(5, 6)

  @Test("an entry is found under the vintage it was inserted with")
  func roundTrip() {
    withRegistry { registry in
      let vintage = registry.vintage(directory: directory, name: name)
      #expect(vintage.isStable)
      registry.insert(name, vintage, 42, 7)
      #expect(registry.cached(name, vintage)?.0 == 42)
      #expect(registry.cached(name, vintage)?.1 == 7)
      #expect(registry.cachedWord(name, in: directory) == 42)
    }
  }

  @Test("a change of the name makes the entry a miss")
  func generations() {
    withRegistry { registry in
      let vintage = registry.vintage(directory: directory, name: name)
      registry.insert(name, vintage, 42, 7)
      let turn = Registry.turnIndex(directory)
      registry.beginGeneration(turn: turn, name: name)
      #expect(!registry.vintage(directory: directory, name: name).isStable)
      #expect(registry.cachedWord(name, in: directory) == 0)
      registry.endGeneration(turn: turn, name: name)
      #expect(registry.vintage(directory: directory, name: name).isStable)
      #expect(registry.cachedWord(name, in: directory) == 0)
    }
  }

  @Test("the epoch makes every entry a miss")
  func epoch() {
    withRegistry { registry in
      let vintage = registry.vintage(directory: directory, name: name)
      registry.insert(name, vintage, 42, 7)
      registry.advanceEpoch()
      #expect(registry.cachedWord(name, in: directory) == 0)
      #expect(registry.vintage(directory: directory, name: name).isStable)
    }
  }

  @Test("a wiped generation is no generation, and what was cached under the old one stays lost")
  func wiped() {
    withRegistry { registry in
      let vintage = registry.vintage(directory: directory, name: name)
      registry.insert(name, vintage, 42, 7)
      for i in 0..<(Registry.turnCount * Registry.generationsPerTurn) {
        unsafe at_put64(registry.word(Registry.generationsOffset + i * 8), 0)
      }
      #expect(!registry.vintage(directory: directory, name: name).isStable)
      #expect(registry.cachedWord(name, in: directory) == 0)
      let turn = Registry.turnIndex(directory)
      registry.beginGeneration(turn: turn, name: name)
      registry.endGeneration(turn: turn, name: name)
      #expect(registry.vintage(directory: directory, name: name).isStable)
      #expect(registry.cachedWord(name, in: directory) == 0)
    }
  }

  @Test("one changed bit anywhere in an entry is a miss", arguments: 0..<256)
  func torn(bit: Int) {
    withRegistry { registry in
      let vintage = registry.vintage(directory: directory, name: name)
      registry.insert(name, vintage, 42, 7)
      var flipped = false
      for i in 0..<(Registry.cacheEntries * 4) {
        let word = unsafe registry.word(Registry.cacheOffset + i * 8)
        guard unsafe word.pointee != 0, !flipped else { continue }
        // The first word of the one entry there is; the bit may be in any of its four.
        let target = unsafe registry.word(Registry.cacheOffset + (i + bit / 64) * 8)
        unsafe target.pointee ^= 1 << UInt64(bit % 64)
        flipped = true
      }
      #expect(flipped)
      #expect(registry.cached(name, vintage) == nil)
    }
  }

  @Test("an epoch advanced by somebody else meanwhile is not lost")
  func racingEpoch() async {
    let memory = UnsafeMutableRawPointer.allocate(byteCount: Registry.size, alignment: 4096)
    defer { unsafe memory.deallocate() }
    unsafe memory.initializeMemory(as: UInt8.self, repeating: 0, count: Registry.size)
    let address = UInt(bitPattern: memory)
    unsafe Registry(memory).initializeGenerations()
    let rounds: UInt64 = 200_000
    let first = unsafe Registry(memory).epoch >> 24
    await withTaskGroup(of: Void.self) { group in
      group.addTask {
        let registry = unsafe Registry(UnsafeMutableRawPointer(bitPattern: address)!)
        for _ in 0..<rounds {
          registry.beginEpoch()
          registry.endEpoch()
        }
      }
      group.addTask {
        let registry = unsafe Registry(UnsafeMutableRawPointer(bitPattern: address)!)
        for _ in 0..<rounds { registry.advanceEpoch() }
      }
    }
    #expect(unsafe Registry(memory).epoch >> 24 == first + 4 * rounds)
  }

  @Test("names in the workdir are never given twice, also after a wipe")
  func sequence() {
    withRegistry { registry in
      let first = registry.nextSequence()
      #expect(registry.nextSequence() > first)
      unsafe at_put64(registry.word(40), 0)
      #expect(registry.nextSequence() > first)
    }
  }
}
