import Testing

@testable import overlock

/// Guards that an instance's watches are read as the kernel writes them.
@Suite("The kernel's watches") struct KernelWatchTests {
  private let text = """
    pos:\t0
    flags:\t04000
    mnt_id:\t17
    ino:\t1038
    inotify wd:1f ino:fb402d sdev:fe00003 mask:83a ignored_mask:0 fhandle-bytes:8 fhandle-type:1 f_handle:2d40fb00a3
    inotify wd:2 ino:2 sdev:1a mask:84000fff ignored_mask:0
    inotify wd: ino:2 sdev:1a mask:1
    """

  @Test("what is there is read, in hexadecimal, and a line of another form is none")
  func fields() throws {
    let watches = KernelWatch.parse(text)
    #expect(watches.map(\.descriptor) == [31, 2])
    #expect(watches[0].file == KernelFile(device: 0xfe00003, inode: 0xfb402d))
    #expect(watches[0].mask == 0x83a)
    #expect(KernelWatch.parse("pos:\t0\nlock:\t1: FLOCK ADVISORY READ 1 00:19:12 0 EOF").isEmpty)
  }

  @Test("events have the names of inotify(7), and flags are none")
  func events() {
    #expect(
      KernelWatch.events(0x83a) == [
        "IN_MODIFY", "IN_CLOSE_WRITE", "IN_CLOSE_NOWRITE", "IN_OPEN", "IN_MOVE_SELF",
      ])
    #expect(KernelWatch.events(0x8400_0fff).count == 12)
    #expect(KernelWatch.events(0x8000_0000).isEmpty)
  }

  @Test("a device is the same in the words of stat(2) and of the kernel")
  func devices() {
    // 259:1048575, and 254:3.
    #expect(
      KernelFile(statDevice: 0xfff0_03ff | 259 << 8 & 0xfff00, inode: 7).device
        == 259 << 20 | 0xfffff)
    #expect(KernelFile(statDevice: 0xfe03, inode: 7).device == 254 << 20 | 3)
  }

  @Test("mounts are read with their device and place, whatever their names hold")
  func mounts() throws {
    let mounts = Mounts(
      """
      25 1 254:3 / / rw,relatime - ext4 /dev/root rw
      31 25 0:26 / /mnt/a\\040b rw - tmpfs none rw
      32 25 0:26 /sub /mnt/c rw shared:1 - tmpfs none rw
      nothing
      """)
    #expect(mounts.byNumber[25]?.device == 254 << 20 | 3)
    #expect(mounts.byNumber[31]?.point == Array("/mnt/a b".utf8))
    let points = mounts.points(below: Path("/mnt"), on: [26]).map(\.text).sorted()
    #expect(points == ["/mnt/a b", "/mnt/c"])
    #expect(mounts.points(below: Path("/mnt/c"), on: [26]).isEmpty)
    #expect(mounts.points(below: Path("/"), on: [254 << 20 | 3]).isEmpty)
  }
}
