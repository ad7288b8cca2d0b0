import CLinux
import Testing

@testable import OverlockCore

/// Where an overlay has several segments, the words of the page count, whatever the segment says; and a page
/// that is no page makes misses.
@Suite("Common words")
struct CommonWordsTests {
  private let directory = PathHash(3, 4)
  private let name = PathHash(5, 6)
  private static var key: UInt64 { 0x1234_5678_9abc_def1 }

  private func withPage(_ body: (Registry, UnsafeMutablePointer<UInt64>) -> Void) {
    let memory = UnsafeMutableRawPointer.allocate(byteCount: Registry.size, alignment: 4096)
    let page = UnsafeMutableRawPointer.allocate(byteCount: Registry.pageSize, alignment: 4096)
    defer {
      unsafe memory.deallocate()
      unsafe page.deallocate()
    }
    unsafe memory.initializeMemory(as: UInt8.self, repeating: 0, count: Registry.size)
    unsafe page.initializeMemory(as: UInt8.self, repeating: 0, count: Registry.pageSize)
    let registry = unsafe Registry(memory, page: page, sole: CommonWordsTests.key)
    unsafe at_put64(registry.word(8), CommonWordsTests.key)
    unsafe at_put64(registry.word(16), 0x0fed_cba9_8765_4321)
    registry.initializeGenerations()
    let words = unsafe page.assumingMemoryBound(to: UInt64.self)
    unsafe words[Registry.stateOffset / 8] = CommonWordsTests.key
    unsafe body(registry, words)
  }

  private func split(_ words: UnsafeMutablePointer<UInt64>) {
    for turn in 0..<Registry.turnCount {
      let offset = Registry.turnOffset(turn)
      unsafe words[offset / 8] = Registry.following(7, offset, odd: false)
    }
    unsafe words[Registry.epochOffset / 8] = Registry.following(
      9, Registry.epochOffset, odd: false)
    unsafe words[Registry.stateOffset / 8] = Registry.split
  }

  @Test("what was cached while the segment was the only one is a miss once there are several")
  func entriesOfBothStates() {
    withPage { registry, words in
      let alone = registry.vintage(directory: directory, name: name)
      registry.insert(name, alone, 42, 7)
      #expect(registry.cachedWord(name, in: directory) == 42)
      unsafe split(words)
      #expect(registry.isSplit)
      #expect(registry.cachedWord(name, in: directory) == 0)
      let several = registry.vintage(directory: directory, name: name)
      #expect(several.isStable)
      registry.insert(name, several, 43, 7)
      #expect(registry.cachedWord(name, in: directory) == 43)
    }
  }

  @Test("a turn that is held, and one that was given back, make every name under it a miss")
  func turns() {
    withPage { registry, words in
      unsafe split(words)
      let offset = Registry.turnOffset(Registry.turnIndex(directory))
      let before = registry.vintage(directory: directory, name: name)
      registry.insert(name, before, 42, 7)
      let held = unsafe Registry.following(words[offset / 8], offset, odd: true)
      unsafe words[offset / 8] = held
      #expect(!registry.vintage(directory: directory, name: name).isStable)
      #expect(registry.cachedWord(name, in: directory) == 0)
      unsafe words[offset / 8] = Registry.following(held, offset, odd: false)
      #expect(registry.vintage(directory: directory, name: name).isStable)
      #expect(registry.cachedWord(name, in: directory) == 0)
    }
  }

  @Test("whatever moves the epoch is a miss for all")
  func epoch() {
    withPage { registry, words in
      unsafe split(words)
      registry.insert(name, registry.vintage(directory: directory, name: name), 42, 7)
      registry.advanceEpoch()
      #expect(registry.vintage(directory: directory, name: name).isStable)
      #expect(registry.cachedWord(name, in: directory) == 0)
    }
  }

  @Test(
    "a page of zeros or of noise is split, and in the middle of changes", arguments: [0, 1, 2, 3])
  func wiped(seed: UInt64) {
    withPage { registry, words in
      var state = seed
      for i in 0..<Registry.pageSize / 8 {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        unsafe words[i] = seed == 0 ? 0 : state
      }
      #expect(registry.isSplit)
      #expect(!registry.vintage(directory: directory, name: name).isStable)
      #expect(!registry.saysUncontested(registry.contestedWord))
    }
  }

  @Test("who counts and who looks meet in the same word, in either state")
  func counters() {
    withPage { registry, words in
      for isSplit in [false, true] {
        if isSplit { unsafe split(words) }
        let seen = (registry.positions, registry.copyUps, registry.outside)
        let lock = unsafe registry.copyUpsSeen(seen.1)
        #expect(unsafe ovl_lock_disturbed([lock]) == 0)
        registry.notePositionsChange()
        registry.noteCopyUp()
        registry.noteOutsideChange()
        #expect(registry.positions != seen.0)
        #expect(registry.copyUps != seen.1)
        #expect(registry.outside != seen.2)
        #expect(unsafe ovl_lock_disturbed([lock]) != 0)
      }
    }
  }

  @Test("a lock that was taken while the registry became split is looked at again")
  func splitMeanwhile() {
    withPage { registry, words in
      let lock = unsafe registry.copyUpsSeen(registry.copyUps)
      unsafe split(words)
      #expect(unsafe ovl_lock_disturbed([lock]) != 0)
    }
  }

  @Test("modes that wait are waited for until somebody has found none since")
  func pendingModes() {
    withPage { registry, words in
      unsafe split(words)
      registry.countPendingModes(1)
      #expect(registry.hasPendingModes)
      let seen = registry.pendingModes
      registry.countPendingModes(1)
      registry.forgetPendingModes(seen)
      #expect(registry.hasPendingModes)
      registry.forgetPendingModes(registry.pendingModes)
      #expect(!registry.hasPendingModes)
    }
  }
}
