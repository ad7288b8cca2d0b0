import CLinux

/// The layers of one merged directory, top first, and the descent into it.
///
/// Follows the kernel's rules (fs/overlayfs/namei.c, ovl_lookup): a whiteout or a non-directory ends
/// the search, an opaque directory ends it below itself, a redirect changes the name looked for in the
/// layers below. Works in the memory of a scratch block: one path for all layers, and another for the
/// layers below each redirect on the way (at most `Scratch.variantCount` at a time, then ELOOP; one that no
/// contributing directory is at any more makes room for the next).
@safe struct Merge {
  let overlay: Overlay
  let scratch: Scratch
  private(set) var count = 0
  /// The variants in use, one bit each. The first is the path without any redirect.
  private var variants = UInt32(1)
  private var lengths: InlineArray<6, Int> = [0, 0, 0, 0, 0, 0]
  var hash: PathHash
  /// Some merged directory on the way has other permissions than its lower.
  var checkAccess = false

  /// The overlay's root.
  init(_ overlay: Overlay, _ scratch: Scratch) {
    self.overlay = overlay
    self.scratch = scratch
    hash = overlay.emptyHash
    for layer in (overlay.hasUpper ? 0 : 1)..<overlay.layerCount { push(layer, variant: 0) }
  }

  /// A directory that the cache knows.
  init(_ overlay: Overlay, _ scratch: Scratch, at rel: PathView, _ node: Node, hash: PathHash)
    throws(Errno)
  {
    self.overlay = overlay
    self.scratch = scratch
    self.hash = hash
    var path = scratch.variant(0)
    try path.append(rel)
    lengths[0] = rel.count
    checkAccess = node.has(Node.checkAccess)
    if node.has(Node.single) {
      push(node.layer, variant: 0)
    } else {
      for layer in 0..<32 where node.contributors >> UInt32(layer) & 1 == 1 {
        push(layer, variant: 0)
      }
    }
  }

  private mutating func push(_ layer: Int, variant: Int, xWhiteouts: Bool = false) {
    unsafe scratch.layers[count] =
      UInt32(layer) | UInt32(variant) << 16 | (xWhiteouts ? 1 << 31 : 0)
    count += 1
  }

  func layer(_ i: Int) -> Int { unsafe Int(scratch.layers[i] & 0xffff) }
  private func variantIndex(_ i: Int) -> Int { unsafe Int(scratch.layers[i] >> 16 & 0x7fff) }
  /// The directory says that it has whiteouts in the xattr form.
  private func saysXWhiteouts(_ i: Int) -> Bool { unsafe scratch.layers[i] >> 31 == 1 }
  /// The same of a directory that a single layer has. The upper has whiteouts only beside lowers.
  var aloneHidesFiles: Bool { layer(0) == 0 ? saysXWhiteouts(0) : hasXWhiteouts(0) }
  /// An empty regular file in it may be one.
  func hasXWhiteouts(_ i: Int) -> Bool {
    saysXWhiteouts(i) || overlay.hasFileWhiteouts(layer(i))
  }

  /// The path, below the layer's root, of the i-th contributing directory.
  func relativePath(_ i: Int) -> PathView { variantPath(variantIndex(i)) }

  private func variantPath(_ v: Int) -> PathView {
    scratch.variant(v).unchecked(count: lengths[v]).view
  }

  /// Writes the real path of the i-th contributing directory.
  func realPath(_ i: Int, into real: inout PathBuffer) throws(Errno) {
    real.count = 0
    try real.append(overlay.layerPath(layer(i)))
    try real.appendBelow(relativePath(i))
    if real.count == 0 { try real.append(slash) }
  }

  /// Of the bytes of a name (NAME_MAX).
  static var nameLimit: Int { 255 }

  /// Looks a name up and, if it is a directory, becomes that directory. `scratch.real` holds the real
  /// path of what was found. Errors: EACCES, ENAMETOOLONG, EIO… as a layer answered.
  mutating func descend(_ name: PathView, wantBelow: Bool) throws(Errno) -> Node {
    guard name.count <= Merge.nameLimit else { throw .nameTooLong }
    var node = Node(.none, layer: -1)
    var found = false
    var foundVariant = 0
    var kept = 0
    let baseVariants = variants
    var redirectOf: InlineArray<6, Int> = [-1, -1, -1, -1, -1, -1]
    var redirectName = unsafe PathView(name.base, 0)
    var isRelativeRedirect = false
    var topStat = stat()
    var i = 0
    let total = count
    var absolute = -1
    var hidesBelow = false
    var absoluteLayer = 0
    // A layer on an absolute redirect's way hides what is below it.
    var isCut = false
    while true {
      // After an absolute redirect every layer below counts, not only the parent's.
      var layer: Int
      var v: Int
      var xWhiteouts = false
      if absolute >= 0 {
        absoluteLayer += 1
        if absoluteLayer >= overlay.layerCount || isCut { break }
        layer = absoluteLayer
        v = absolute
        xWhiteouts = overlay.hasFileWhiteouts(layer)
        if layer + 1 < overlay.layerCount {
          let reaches = try followWay(layer, &absolute, &isCut)
          if !reaches { continue }
        }
      } else {
        if i >= total { break }
        layer = self.layer(i)
        v = variantIndex(i)
        xWhiteouts = hasXWhiteouts(i)
        i += 1
      }
      var real = scratch.real
      try real.append(overlay.layerPath(layer))
      var childVariant = v
      if absolute >= 0 {
        try real.appendBelow(variantPath(v))
      } else {
        try real.appendBelow(variantPath(v))
        try real.append(slash)
        if isRelativeRedirect {
          try real.append(redirectName)
          if redirectOf[v] < 0 {
            redirectOf[v] = try addVariant(variantPath(v), redirectName)
          }
          childVariant = redirectOf[v]
        } else {
          try real.append(name)
        }
      }
      var st = stat()
      let r = unsafe lx_fstatat(AT_FDCWD, real.cString, &st, AT_SYMLINK_NOFOLLOW)
      if r == -Int(ENOENT) || r == -Int(ENOTDIR) { continue }
      // A directory that may not be searched is the program's business where it is the first to
      // answer; hidden behind another layer it is none.
      try check(r)
      let kind = Kind(mode: st.st_mode)
      if isWhiteout(st, real, xWhiteouts) {
        if !found, layer == 0 { node.flags |= Node.whiteout }
        if layer == 0, wantBelow, !found {
          // Only asked for by changes: is there something for the whiteout to hide?
          continue
        }
        break
      }
      if node.has(Node.whiteout) {
        node.flags |= Node.below
        break
      }
      if hidesBelow {
        node.flags |= Node.below
        break
      }
      if kind != .directory {
        if found {
          if node.layer == 0, absolute < 0, !isRelativeRedirect { node.flags |= Node.below }
          break
        }
        found = true
        node.kind = kind
        node.layer = layer
        foundVariant = childVariant
        if st.st_nlink > 1 { node.flags |= Node.linked }
        if layer == 0 {
          node.shownInode = unsafe overlay.origin(
            real.cString, type: st.type, inode: st.inode)
        } else if overlay.shownInode(st.inode, layer: layer) != st.inode {
          node.shownInode = overlay.shownInode(st.inode, layer: layer)
        }
        try keep(real)
        if layer == 0, wantBelow { continue }
        break
      }
      if found, node.kind != .directory {
        node.flags |= Node.below
        break
      }
      // A directory: it contributes, and may end or bend the search below it.
      var attributes = DirectoryAttributes()
      let isLast = absolute >= 0 ? isCut || layer + 1 >= overlay.layerCount : i >= total
      if layer == 0 || !isLast {
        attributes = try readAttributes(real, upper: layer == 0)
      }
      if !found {
        found = true
        node.kind = .directory
        node.layer = layer
        foundVariant = childVariant
        topStat = st
        if attributes.impure { node.flags |= Node.impure }
        if attributes.opaque, layer == 0 { node.flags |= Node.opaque }
        if layer == 0 {
          node.shownInode = attributes.hasAny ? unsafe overlay.origin(real.cString) : 0
        } else if overlay.shownInode(st.inode, layer: layer) != st.inode {
          node.shownInode = overlay.shownInode(st.inode, layer: layer)
        }
        try keep(real)
      } else {
        node.flags |= Node.merged
        if node.layer == 0, kept == 1 {
          // What a redirect leads to stands at another name.
          if absolute < 0, !isRelativeRedirect { node.flags |= Node.below }
          if topStat.st_mode != st.st_mode || topStat.st_uid != st.st_uid
            || topStat.st_gid != st.st_gid
          {
            checkAccess = true
          }
        }
      }
      unsafe scratch.layers[kept] =
        UInt32(layer) | UInt32(childVariant) << 16 | (attributes.xWhiteouts ? 1 << 31 : 0)
      kept += 1
      if attributes.opaque {
        // Only asked for by changes: would a lower show the name if this directory went?
        guard wantBelow, layer == 0 else { break }
        hidesBelow = true
        continue
      }
      if attributes.redirectLength > 0, !isLast || attributes.isAbsoluteRedirect {
        if layer == 0, wantBelow, try hasName(name, from: i, total) { node.flags |= Node.below }
        let value = unsafe PathView(UnsafePointer(scratch.spare), attributes.redirectLength)
        if attributes.isAbsoluteRedirect {
          absolute = try unsafe addVariant(PathView(value.base, 0), value.from(1))
          absoluteLayer = layer
        } else {
          isRelativeRedirect = true
          for k in 0..<6 { redirectOf[k] = -1 }
          redirectName = value
        }
      }
    }
    unsafe hash.append(name.base, name.count)
    if node.kind != .none {
      var needed = UInt32(1)
      for k in 0..<kept { needed |= 1 << UInt32(variantIndex(k)) }
      variants = needed
    }
    for v in 0..<Scratch.variantCount where (variants & baseVariants) >> UInt32(v) & 1 == 1 {
      var path = scratch.variant(v).unchecked(count: lengths[v])
      try path.appendRelative(name)
      lengths[v] = path.count
    }
    // What follows relies on the order above: variants of redirects are complete already.
    if node.kind == .directory { count = kept } else if node.kind != .none { count = 0 }
    finish(&node, variant: foundVariant)
    return node
  }

  /// Whether the layers from the i-th of the parent on show the name itself.
  private func hasName(_ name: PathView, from first: Int, _ total: Int) throws(Errno) -> Bool {
    for i in first..<total {
      var real = scratch.real
      try real.append(overlay.layerPath(layer(i)))
      try real.appendBelow(variantPath(variantIndex(i)))
      try real.append(slash)
      try real.append(name)
      var st = stat()
      let r = unsafe lx_fstatat(AT_FDCWD, real.cString, &st, AT_SYMLINK_NOFOLLOW)
      if r == -Int(ENOENT) || r == -Int(ENOTDIR) { continue }
      try check(r)
      return !isWhiteout(st, real, hasXWhiteouts(i))
    }
    return false
  }

  /// Looks at the directories on an absolute redirect's way in one layer, as the kernel does: a
  /// whiteout or a non-directory among them ends the search, an opaque one ends it below this layer,
  /// and a redirect bends it there.
  ///
  /// - Returns: whether the layer may have the directory itself.
  private mutating func followWay(_ layer: Int, _ variant: inout Int, _ isCut: inout Bool)
    throws(Errno) -> Bool
  {
    let path = variantPath(variant)
    for end in 0..<path.count where path[end] == slash {
      var real = scratch.real
      try real.append(overlay.layerPath(layer))
      try real.appendBelow(path.prefix(end))
      var st = stat()
      let r = unsafe lx_fstatat(AT_FDCWD, real.cString, &st, AT_SYMLINK_NOFOLLOW)
      if r == -Int(ENOENT) || r == -Int(ENOTDIR) { return false }
      try check(r)
      guard st.type == S_IFDIR else {
        isCut = true
        return false
      }
      let attributes = try readAttributes(real, upper: false)
      if attributes.opaque { isCut = true }
      guard attributes.redirectLength > 0 else { continue }
      let value = unsafe PathView(UnsafePointer(scratch.spare), attributes.redirectLength)
      var bent = scratch.link
      if !attributes.isAbsoluteRedirect { try bent.append(path.prefix(end).parent) }
      try bent.appendRelative(attributes.isAbsoluteRedirect ? value.from(1) : value)
      variant = try addVariant(bent.view, path.from(end + 1))
    }
    return true
  }

  private func finish(_ node: inout Node, variant: Int) {
    if checkAccess { node.flags |= Node.checkAccess }
    if node.kind == .none {
      // Cacheable only where at most one lower could still come to have it.
      if node.has(Node.whiteout) {
        node.flags |= Node.absent
        node.layer = 0
      } else if count == 1 {
        node.layer = layer(0)
        if variantIndex(0) != 0 { node.flags |= Node.redirected }
      } else if count == 2, layer(0) == 0 {
        node.layer = layer(1)
        if variantIndex(1) != 0 { node.flags |= Node.redirected }
      } else {
        node.flags |= Node.absent
      }
      return
    }
    if variant != 0 { node.flags |= Node.redirected }
    guard node.kind == .directory else { return }
    var bits: UInt32 = 0
    var plain = true
    for k in 0..<count {
      if variantIndex(k) != 0 || layer(k) >= 32
        || saysXWhiteouts(k) && !overlay.hasFileWhiteouts(layer(k))
      {
        plain = false
      }
      if layer(k) < 32 { bits |= 1 << UInt32(layer(k)) }
    }
    if plain { node.contributors = bits }
    if count == 1, variantIndex(0) == 0, !saysXWhiteouts(0) { node.flags |= Node.single }
  }

  /// Keeps the real path of what was found: `scratch.real` is reused by later probes.
  private func keep(_ real: PathBuffer) throws(Errno) {
    var copy = scratch.real2
    try copy.append(real.view)
    _ = unsafe copy.cString
  }

  private mutating func addVariant(_ parent: PathView, _ name: PathView) throws(Errno) -> Int {
    let free = (~variants).trailingZeroBitCount
    guard free < Scratch.variantCount else { throw .loop }
    var path = scratch.variant(free)
    try path.append(parent)
    try path.appendRelative(name)
    lengths[free] = path.count
    variants |= 1 << UInt32(free)
    return free
  }

  /// Whether a layer hides from those below it what is at a path, by something on the way there: a
  /// whiteout, another file, an opaque directory (fs/overlayfs/namei.c, ovl_lookup_layer).
  private func bars(_ layer: Int, _ path: PathView) throws(Errno) -> Bool {
    let parent = path.parent
    if parent.isEmpty { return false }
    var real = scratch.real
    var end = 0
    while end < parent.count {
      while end < parent.count, parent[end] != slash { end += 1 }
      try real.set(overlay.layerPath(layer))
      try real.appendBelow(parent.prefix(end))
      var st = stat()
      let r = unsafe lx_fstatat(AT_FDCWD, real.cString, &st, AT_SYMLINK_NOFOLLOW)
      if r == -Int(ENOENT) { return false }
      try check(r)
      if st.type != S_IFDIR { return true }
      if unsafe overlay.letter(.opaque, real.cString) == UInt8(ascii: "y") { return true }
      end += 1
    }
    return false
  }

  func isWhiteout(_ st: stat, _ real: PathBuffer, _ xWhiteouts: Bool) -> Bool {
    if st.type == S_IFCHR { return st.st_rdev == 0 }
    guard xWhiteouts, st.type == S_IFREG, st.st_size == 0 else { return false }
    let path = real
    var byte: UInt8 = 0
    return unsafe lx_getxattr(
      path.cString, OverlayAttribute.whiteout.name(overlay), &byte, 1, 1) >= 0
  }

  private struct DirectoryAttributes {
    var hasAny = false
    var opaque = false
    var xWhiteouts = false
    var impure = false
    /// The redirect's value is in `scratch.spare`.
    var redirectLength = 0
    var isAbsoluteRedirect = false
  }

  private func readAttributes(_ real: PathBuffer, upper: Bool) throws(Errno)
    -> DirectoryAttributes
  {
    var attributes = DirectoryAttributes()
    let path = unsafe real.cString
    // One listxattr tells most directories to have none.
    let listed = unsafe lx_listxattr(path, nil, 0, 1)
    if listed == 0 || listed == -Int(EOPNOTSUPP) { return attributes }
    attributes.hasAny = true
    let opaque = unsafe overlay.letter(.opaque, path)
    attributes.opaque = opaque == UInt8(ascii: "y")
    attributes.xWhiteouts = opaque == UInt8(ascii: "x")
    if upper { attributes.impure = unsafe overlay.letter(.impure, path) == UInt8(ascii: "y") }
    let n = unsafe lx_owner_getxattr(
      path, OverlayAttribute.redirect.name(overlay), scratch.spare, 4096)
    if n > 0 {
      attributes.redirectLength = n
      attributes.isAbsoluteRedirect = unsafe scratch.spare[0] == slash
    }
    return attributes
  }
}

extension PathBuffer {
  /// The same memory with so many bytes taken as written.
  func unchecked(count: Int) -> PathBuffer {
    var copy = self
    copy.count = count
    return copy
  }
}
