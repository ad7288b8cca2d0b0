import CLinux

@c(ovl_map)
public func ovlMap(
  _ address: UnsafeMutableRawPointer?, _ length: Int, _ protection: Int32, _ flags: Int32,
  _ fd: Int32, _ offset: Int
) -> Int {
  let words = unsafe lx_mapping(
    address: address, length: length, protection: protection, flags: flags, offset: offset)
  return unsafe Mappings.map(fd, Mappings.Request(words))
}
