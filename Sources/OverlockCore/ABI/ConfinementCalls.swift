import CLinux

@c(ovl_confining)
public func ovlConfining(_ filter: UnsafeRawPointer?) -> Int32 {
  if let filter = unsafe filter {
    guard let filter = unsafe Confinement.filter(filter) else { return 0 }
    if Confinement.killsForMarkers(filter), !Loan.isActive {
      unsafe ovl_self()!.pointee.unmarked = 1
    }
    if !Confinement.kills(filter) { return 0 }
  }
  Confinement.identifyAll()
  return 1
}

@c(ovl_confined)
public func ovlConfined() {
  // What a vfork child does to itself is not its parent's.
  if !Loan.isActive { unsafe ovl_self()!.pointee.confined = 1 }
}
