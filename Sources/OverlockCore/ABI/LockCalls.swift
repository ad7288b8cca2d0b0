import CLinux

@c(ovl_lock_course)
@_optimize(speed)
public func ovlLockCourse(
  _ fd: Int32, _ command: Int32, _ seen: UnsafeMutablePointer<ovl_lock_seen>?
) -> Int32 {
  let record = command == F_SETLK || command == F_SETLKW
  switch Locks.course(fd, record: record) {
  case .plain: return Int32(OVL_LOCK_PLAIN.rawValue)
  case .checked(let disturbed):
    unsafe seen?.pointee = disturbed
    return Int32(OVL_LOCK_CHECKED.rawValue)
  case .across: return Int32(OVL_LOCK_ACROSS.rawValue)
  }
}

@c(ovl_lock_verify)
@_optimize(speed)
public func ovlLockVerify(
  _ fd: Int32, _ command: Int32, _ argument: UnsafeMutableRawPointer?
) -> Int {
  guard let request = unsafe LockRequest(command: command, argument: argument),
    request.action == .take
  else { return 0 }
  return bordered { () throws(Errno) in
    if try Locks.verify(fd, request) { return 0 }
    if !request.waits { throw .again }
    return Int(OVL_LOCK_AGAIN)
  }
}

@c(ovl_lock_refusal)
@_optimize(speed)
public func ovlLockRefusal(
  _ workdir: UnsafeMutablePointer<UnsafePointer<CChar>?>?,
  _ reason: UnsafeMutablePointer<UnsafePointer<CChar>?>?
) -> Int32 {
  guard let (overlay, error) = LockRefusal.take() else { return 0 }
  let words: StaticString = error.words ?? "cannot be used"
  unsafe workdir?.pointee = overlay.raw.pointee.work
  unsafe reason?.pointee = UnsafeRawPointer(words.utf8Start).assumingMemoryBound(to: CChar.self)
  return 1
}

@c(ovl_lock_across)
@_optimize(speed)
public func ovlLockAcross(
  _ fd: Int32, _ command: Int32, _ argument: UnsafeMutableRawPointer?,
  _ wait: UnsafeMutablePointer<ovl_lock_wait>?
) -> Int {
  guard let wait = unsafe wait else { return -Int(EFAULT) }
  guard let request = unsafe LockRequest(command: command, argument: argument) else {
    return unsafe LockRequest.refusal(fd, argument)
  }
  return bordered { () throws(Errno) in unsafe try Locks.across(fd, request, &wait.pointee) }
}

@c(ovl_lease)
@_optimize(speed)
public func ovlLease(_ fd: Int32, _ type: Int) -> Int {
  bordered { () throws(Errno) in try Leases.take(fd, type) ?? passResult }
}
