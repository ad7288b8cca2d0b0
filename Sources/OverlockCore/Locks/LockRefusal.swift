import CLinux

/// A lock that needs the workdir (a mark, a turn) and cannot have it is refused with ENOLCK: granted, it would
/// exclude nobody on the other inode. Why is said once a process.
enum LockRefusal {
  /// Errors: ENOLCK, always.
  static func refuse(_ overlay: Overlay, _ error: Errno) -> Errno {
    // Of what a process has too little itself it hears by its own calls.
    switch error.rawValue {
    case ENOLCK, EMFILE, ENFILE, ENOMEM: return Errno(rawValue: ENOLCK)
    default: break
    }
    let process = unsafe ovl_self()!
    if unsafe at_load32(&process.pointee.lock_refused) == 0 {
      unsafe process.pointee.refused_by = Int32(truncatingIfNeeded: overlay.index)
      unsafe process.pointee.refused_why = error.rawValue
      _ = unsafe at_cas32(&process.pointee.lock_refused, 0, 1)
    }
    return Errno(rawValue: ENOLCK)
  }

  /// What is to be said, if it has not been.
  static func take() -> (Overlay, Errno)? {
    let process = unsafe ovl_self()!
    guard unsafe at_cas32(&process.pointee.lock_refused, 1, 2) != 0 else { return nil }
    return unsafe (
      Overlay(index: Int(process.pointee.refused_by)),
      Errno(rawValue: process.pointee.refused_why)
    )
  }
}
