import CLinux

@c(ovl_lock_course)
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

@c(ovl_lock_across)
public func ovlLockAcross(
  _ fd: Int32, _ command: Int32, _ argument: UnsafeMutableRawPointer?,
  _ wait: UnsafeMutablePointer<ovl_lock_wait>?
) -> Int {
  guard let request = unsafe LockRequest(command: command, argument: argument),
    let wait = unsafe wait
  else { return -Int(EFAULT) }
  return bordered { () throws(Errno) in unsafe try Locks.across(fd, request, &wait.pointee) }
}

@c(ovl_lease)
public func ovlLease(_ fd: Int32, _ type: Int) -> Int {
  bordered { () throws(Errno) in try Leases.take(fd, type) ?? passResult }
}
