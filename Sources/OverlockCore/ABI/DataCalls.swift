import CLinux

@c(ovl_data_is_here)
@_optimize(speed)
public func ovlDataIsHere(_ fd: Int32) -> Int32 {
  if Confinement.isOn { return 1 }
  var entry = DescriptorTable.entry(fd)
  if !entry.isKnown {
    entry = DescriptorObject.identify(fd)
    if !entry.isKnown {
      // Neither file nor directory: nobody has to ask again.
      if unsafe DescriptorTable.raw(fd) != nil, lx_fcntl(fd, F_GETFD, 0) >= 0 {
        DescriptorTable.set(fd, .plain)
      }
      return 1
    }
  }
  guard entry.isOurs, entry.isLower, !entry.isDirectory, entry.overlay < Overlay.count,
    Overlay(index: entry.overlay).hasUpper, !DescriptorObject.isCurrent(fd, entry)
  else { return 1 }
  return 0
}

@c(ovl_data)
@_optimize(speed)
public func ovlData(_ call: UnsafeMutablePointer<ovl_data_call>?) -> Int {
  guard let call = unsafe call else { return -Int(EFAULT) }
  return bordered { () throws(Errno) in unsafe try DataCall.run(call) }
}

@c(ovl_data_apart)
@_optimize(speed)
public func ovlDataApart(_ call: UnsafeMutableRawPointer?) {
  guard let call = unsafe call else { return }
  unsafe DataCall.performApart(call.assumingMemoryBound(to: ovl_data_call.self))
}

@c(ovl_synchronize)
@_optimize(speed)
public func ovlSynchronize(_ fd: Int32, _ number: Int) -> Int {
  bordered { () throws(Errno) in try Synchronize.run(fd, number) }
}
