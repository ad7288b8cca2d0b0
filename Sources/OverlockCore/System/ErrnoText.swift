import CLinux

extension Errno {
  /// The words of strerror(3) for what setting an overlay up can meet; nil for the rest.
  var words: StaticString? {
    switch rawValue {
    case EPERM: "Operation not permitted"
    case ENOENT: "No such file or directory"
    case EIO: "Input/output error"
    case ENOMEM: "Cannot allocate memory"
    case EACCES: "Permission denied"
    case EEXIST: "File exists"
    case ENOTDIR: "Not a directory"
    case EMFILE: "Too many open files"
    case ENFILE: "Too many open files in system"
    case ENOSPC: "No space left on device"
    case EROFS: "Read-only file system"
    case ENAMETOOLONG: "File name too long"
    case ELOOP: "Too many levels of symbolic links"
    case EDQUOT: "Disk quota exceeded"
    case ESTALE: "Stale file handle"
    default: nil
    }
  }
}

extension PathBuffer {
  /// Adds ": " and the words, or the number where there are none.
  mutating func append(_ error: Errno) throws(Errno) {
    try append(": ")
    if let words = error.words {
      try append(words)
    } else {
      try append("error ")
      try append(decimal: UInt64(error.rawValue.magnitude))
    }
  }
}
