import CLinux

@c(ovl_exec)
public func ovlExec(
  _ e: UnsafeMutablePointer<ovl_exec>?, _ dirfd: Int32, _ path: UnsafePointer<CChar>?,
  _ flags: Int32
) -> Int {
  guard let e = unsafe e else { return passResult }
  return bordered { () throws(Errno) in try unsafe Exec.prepare(e, dirfd, path, flags) }
}
