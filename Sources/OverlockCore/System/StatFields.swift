import CLinux

// The kernel's file types and mode bits, in the type that st_mode has.
let S_IFMT: UInt32 = 0o170000
let S_IFREG: UInt32 = 0o100000
let S_IFDIR: UInt32 = 0o040000
let S_IFLNK: UInt32 = 0o120000
let S_IFCHR: UInt32 = 0o020000
let S_ISUID: UInt32 = 0o4000
let S_ISGID: UInt32 = 0o2000
let S_ISVTX: UInt32 = 0o1000

/// 64-bit numbers under one type: libc's typedefs differ between architectures.
extension stat {
  @inline(__always) var device: UInt64 {
    get { UInt64(st_dev) }
    set { st_dev = dev_t(newValue) }
  }
  @inline(__always) var inode: UInt64 {
    get { UInt64(st_ino) }
    set { st_ino = ino_t(newValue) }
  }
  @inline(__always) var type: UInt32 { st_mode & S_IFMT }
  /// A character device 0/0.
  @inline(__always) var isWhiteoutNode: Bool { type == S_IFCHR && st_rdev == 0 }
  @inline(__always) var links: Int {
    get { Int(st_nlink) }
    set { st_nlink = nlink_t(newValue) }
  }
}
