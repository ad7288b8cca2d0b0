import CLinux

/// An error number as the kernel gives it. A struct, so that numbers this file does not name survive.
public struct Errno: Error, RawRepresentable, Equatable {
  public let rawValue: Int32

  @inlinable public init(rawValue: Int32) { self.rawValue = rawValue }

  /// From a system call's result of `-errno`.
  @inline(__always) init(result: Int) { rawValue = Int32(truncatingIfNeeded: -result) }

  /// What crosses the border to C.
  @inline(__always) var result: Int { -Int(rawValue) }

  static var permission: Errno { Errno(rawValue: EPERM) }
  static var noEntry: Errno { Errno(rawValue: ENOENT) }
  static var exists: Errno { Errno(rawValue: EEXIST) }
  static var notDirectory: Errno { Errno(rawValue: ENOTDIR) }
  static var isDirectory: Errno { Errno(rawValue: EISDIR) }
  static var invalid: Errno { Errno(rawValue: EINVAL) }
  static var loop: Errno { Errno(rawValue: ELOOP) }
  static var nameTooLong: Errno { Errno(rawValue: ENAMETOOLONG) }
  static var notEmpty: Errno { Errno(rawValue: ENOTEMPTY) }
  static var readOnly: Errno { Errno(rawValue: EROFS) }
  static var crossDevice: Errno { Errno(rawValue: EXDEV) }
  static var access: Errno { Errno(rawValue: EACCES) }
  static var busy: Errno { Errno(rawValue: EBUSY) }
  static var fault: Errno { Errno(rawValue: EFAULT) }
  static var badDescriptor: Errno { Errno(rawValue: EBADF) }
  static var noMemory: Errno { Errno(rawValue: ENOMEM) }
  static var range: Errno { Errno(rawValue: ERANGE) }
  static var noData: Errno { Errno(rawValue: ENODATA) }
  static var inputOutput: Errno { Errno(rawValue: EIO) }
  static var noSpace: Errno { Errno(rawValue: ENOSPC) }
  static var again: Errno { Errno(rawValue: EAGAIN) }
  static var textBusy: Errno { Errno(rawValue: ETXTBSY) }

  /// Whether something is kept from this process: by its rights, or since it is read-only.
  var isRefusal: Bool { self == .access || self == .permission || self == .readOnly }

  /// Whether a path does not lead to its object, or not for this process (`badDescriptor`: /proc is not there).
  var isOfPath: Bool {
    switch rawValue {
    case EACCES, EPERM, ENOENT, ENOTDIR, ELOOP, EBADF: return true
    default: return false
    }
  }
}

/// The one place that turns a system call's `-errno` into a thrown error.
@inline(__always) @discardableResult
func check(_ result: Int) throws(Errno) -> Int {
  if result < 0 { throw Errno(result: result) }
  return result
}

/// `OVL_PASS`, as a value that Swift can compare (the macro has a cast).
let passResult = -65536
