import CLinux

/// Numbered steps of the changes that need several: in builds with OVERLOCK_STEPS a test can have
/// SIGKILL raised at any of them. Elsewhere this is nothing.
enum Fault {
  @inline(__always) static func step() {
    #if OVERLOCK_STEPS
      let process = unsafe ovl_self()!
      let passed = unsafe at_add64(&process.pointee.steps, 1) + 1
      if unsafe passed == process.pointee.step_to_die {
        _ = lx_kill(Int32(truncatingIfNeeded: lx_getpid()), SIGKILL)
      }
    #endif
  }
}
