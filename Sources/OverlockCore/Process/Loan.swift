import CLinux

/// A true vfork: the child runs in its parent's memory while the parent sleeps, and what it does to its
/// own descriptors and working directory must not be what the parent believes of its own.
///
/// The working directory is copied when the loan begins; of descriptors, the child notes what it is about
/// to change. Where there is no more room for notes, an entry becomes unknown, and whoever needs it asks
/// the kernel. Only a process with one thread lends.
enum Loan {
  @inline(__always) static var isActive: Bool {
    unsafe ovl_loan_now()!.pointee.active != 0
  }

  /// False: this memory is itself on loan, or a turn is held in it.
  static func begin() -> Bool {
    let process = unsafe ovl_self()!
    let loan = unsafe ovl_loan_now()!
    if isActive || Turn.isAnyHeld { return false }
    unsafe loan.pointee.scratch = at_load64(&process.pointee.scratch_busy)
    let cwd = unsafe ovl_cwd_place()!
    let copy = unsafe ovl_loan_cwd()!
    unsafe copy.pointee = cwd.pointee
    if unsafe cwd.pointee.length > 0 {
      unsafe copyBytes(ovl_place_path(copy), ovl_place_path(cwd), Int(cwd.pointee.length) - 1)
    }
    unsafe loan.pointee.count = 0
    unsafe loan.pointee.active = 1
    return true
  }

  /// The child has exec'd or is gone, killed at any instruction perhaps.
  static func end() {
    let process = unsafe ovl_self()!
    let loan = unsafe ovl_loan_now()!
    let cwd = unsafe ovl_cwd_place()!
    let copy = unsafe ovl_loan_cwd()!
    let stamp = unsafe (cwd.pointee.stamp | 1) &+ 1
    unsafe cwd.pointee = copy.pointee
    unsafe cwd.pointee.stamp = stamp
    if unsafe cwd.pointee.length > 0 {
      unsafe copyBytes(ovl_place_path(cwd), ovl_place_path(copy), Int(copy.pointee.length) - 1)
    }
    unsafe loan.pointee.active = 0
    let count = unsafe Int(loan.pointee.count)
    for i in 0..<count {
      let fd = unsafe ovl_loan_fds()![i]
      guard let raw = unsafe DescriptorTable.raw(fd) else { continue }
      let kept = unsafe ovl_loan_entries()![i]
      let now = unsafe at_load64(&raw.pointee.listing)
      unsafe raw.pointee = kept
      if now != 0, now & ~1 != kept.listing & ~1 { Listing.unmap(now) }
      if let place = unsafe DescriptorTable.place(fd), unsafe place.pointee.length != 0 {
        unsafe place.pointee.length = 0
        unsafe place.pointee.stamp = (place.pointee.stamp | 1) &+ 1
      }
    }
    unsafe at_store64(&process.pointee.scratch_busy, loan.pointee.scratch)
    Turn.forgetHeld()
  }

  /// A copy of the memory, made by a fork of the child, is nobody's loan.
  static func forget() { unsafe ovl_loan_now()!.pointee.active = 0 }

  /// Before the child's first change of an entry. False: there is no room to note it.
  static func note(_ fd: Int32) -> Bool {
    guard let raw = unsafe DescriptorTable.raw(fd) else { return true }
    let loan = unsafe ovl_loan_now()!
    let count = unsafe Int(loan.pointee.count)
    for i in 0..<count { if unsafe ovl_loan_fds()![i] == fd { return true } }
    guard count < Int(OVL_LOAN_ENTRIES) else { return false }
    unsafe ovl_loan_fds()![count] = fd
    unsafe ovl_loan_entries()![count] = raw.pointee
    unsafe loan.pointee.count = UInt32(count + 1)
    return true
  }

  /// Whether the parent still needs a listing.
  static func holds(_ fd: Int32, listing: UInt64) -> Bool {
    let count = unsafe Int(ovl_loan_now()!.pointee.count)
    for i in 0..<count where unsafe ovl_loan_fds()![i] == fd {
      return unsafe ovl_loan_entries()![i].listing & ~1 == listing & ~1
    }
    // Not noted for want of room: it is the parent's.
    return true
  }
}
