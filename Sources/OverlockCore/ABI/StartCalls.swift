import CLinux

/// Start-up, fork and fault injection: what the C constructor and its fork handlers call.

@c(ovl_start)
public func ovlStart(
  _ options: UnsafePointer<CChar>?, _ state: UnsafePointer<CChar>?,
  _ message: UnsafeMutablePointer<CChar>?, _ capacity: Int
) -> Int {
  let process = unsafe ovl_self()!
  if unsafe process.pointee.started != 0 { return 0 }
  guard let options = unsafe options, let message = unsafe message, capacity > 1 else { return 0 }
  var text = unsafe PathBuffer(
    UnsafeMutableRawPointer(message).assumingMemoryBound(to: UInt8.self), capacity: capacity)
  do throws(Errno) {
    try unsafe start(PathView(options), &text)
    if let state = unsafe state { try unsafe CarriedState.restore(PathView(state)) }
    unsafe process.pointee.started = 1
    return 0
  } catch {
    if text.count == 0 { try? text.append("cannot be set up") }
    _ = unsafe text.cString
    ovl_set_overlay_count(0)
    return error.result
  }
}

private func start(_ lines: PathView, _ message: inout PathBuffer) throws(Errno) {
  let process = unsafe ovl_self()!
  ovl_set_tables()
  var count = 0
  var start = 0
  while start < lines.count {
    var end = start
    while end < lines.count, lines[end] != UInt8(ascii: "\n") { end += 1 }
    let line = lines.from(start).prefix(end - start)
    start = end + 1
    if line.isEmpty { continue }
    guard count < Int(OVL_MAX_OVERLAYS) else {
      try message.append("more than 16 overlays")
      throw .invalid
    }
    let overlay = Overlay(index: count)
    try withScratch { (s) throws(Errno) in try overlay.attach(line, message: &message, s) }
    count += 1
  }
  var key = PathHash(1, 1)
  for i in 0..<count {
    let overlay = Overlay(index: i)
    if overlay.has(OVL_MAND) { unsafe process.pointee.mandatory = 1 }
    unsafe key.append(overlay.target.base, overlay.target.count)
    for layer in 0..<overlay.layerCount {
      unsafe process.pointee.longest_layer = max(
        process.pointee.longest_layer, overlay.raw.pointee.layers[layer].length)
    }
  }
  unsafe process.pointee.outside_key = key.a
  ovl_set_overlay_count(Int32(count))
}

@c(ovl_keep)
public func ovlKeep(_ size: Int) -> UnsafeMutableRawPointer? { unsafe try? Arena.allocate(size) }

@c(ovl_after_fork_child)
public func ovlAfterForkChild() {
  Loan.forget()
  Turn.dropInherited()
  if Apart.isNeeded { RecordLocks.forgetAll() }
  let pid = UInt64(lx_getpid())
  for i in 0..<Overlay.count { Overlay(index: i).registry?.noteVisitor(pid) }
  Watches.forgetLists()
  unsafe at_store64(&ovl_self()!.pointee.scratch_busy, 0)
  // Another thread may have been in the middle of writing it.
  let place = unsafe ovl_cwd_place()!
  if unsafe at_load32(&place.pointee.stamp) & 1 != 0 {
    unsafe at_store32(&place.pointee.length, 0)
    _ = unsafe at_add32(&place.pointee.stamp, 1)
  }
}

@c(ovl_fault_step)
public func ovlFaultStep(_ n: UInt64) { unsafe ovl_self()!.pointee.step_to_die = n }

@c(ovl_fault_steps)
public func ovlFaultSteps() -> UInt64 { unsafe at_load64(&ovl_self()!.pointee.steps) }

@c(ovl_lend)
public func ovlLend() -> Int32 { Loan.begin() ? 1 : 0 }

@c(ovl_lend_end)
public func ovlLendEnd() { Loan.end() }
