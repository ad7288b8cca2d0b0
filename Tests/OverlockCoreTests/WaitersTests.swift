import CLinux
import Testing

@testable import OverlockCore

/// Who waits is shown while it waits; what is in a slot otherwise is stale or noise, and harms nobody.
@Suite("Waiters")
struct WaitersTests {
  private func withWaiters(_ body: (Waiters, Registry) -> Void) {
    let memory = UnsafeMutableRawPointer.allocate(byteCount: Registry.size, alignment: 4096)
    defer { unsafe memory.deallocate() }
    unsafe memory.initializeMemory(as: UInt8.self, repeating: 0, count: Registry.size)
    let registry = unsafe Registry(memory)
    body(Waiters(registry), registry)
  }

  private func waiter(_ pid: Int32) -> Waiters.Waiter {
    Waiters.Waiter(
      pid: pid, inode: 77, kind: .description, isExclusive: true, start: 3, end: .max, holder: 4,
      looked: 0)
  }

  @Test("the slots lie between what is before and behind them")
  func place() { #expect(Registry.homeEnd <= 3648 && Waiters.end <= Registry.turnsOffset) }

  @Test("a waiter is shown until it is hidden")
  func roundTrip() throws {
    withWaiters { waiters, _ in
      let index = waiters.show(waiter(5), in: Overlay(index: 0))
      #expect(index == 0)
      let found = waiters[0]
      #expect(
        found?.pid == 5 && found?.inode == 77 && found?.isExclusive == true && found?.end == .max)
      #expect(found?.kind == .description)
      waiters.hide(0, pid: 5, in: Overlay(index: 0))
      #expect(waiters[0] == nil)
    }
  }

  @Test("one more than there is room for is not shown, and takes nobody's place")
  func full() {
    withWaiters { waiters, _ in
      for index in Waiters.indices {
        #expect(waiters.show(waiter(Int32(index) + 1), in: Overlay(index: 0)) == index)
      }
      #expect(waiters.show(waiter(99), in: Overlay(index: 0)) == nil)
      #expect(waiters[0]?.pid == 1)
    }
  }

  @Test("a slot whose owner does not look any more is taken, and the old owner does not touch it")
  func stale() {
    withWaiters { waiters, registry in
      for index in Waiters.indices {
        _ = waiters.show(waiter(Int32(index) + 1), in: Overlay(index: 0))
      }
      unsafe at_store64(registry.word(3648 + 8), 1)
      #expect(waiters.show(waiter(99), in: Overlay(index: 0)) == 0)
      waiters.hide(0, pid: 1, in: Overlay(index: 0))
      #expect(waiters[0]?.pid == 99)
    }
  }

  @Test("noise is nobody")
  func noise() {
    withWaiters { waiters, registry in
      unsafe at_store64(registry.word(3648), UInt64.max)
      #expect(waiters[0] == nil)
      unsafe at_store64(registry.word(3648), 5)
      unsafe at_store64(registry.word(3648 + 24), UInt64.max)
      #expect(waiters[0] == nil)
    }
  }
}
