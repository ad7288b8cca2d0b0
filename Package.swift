// swift-tools-version: 6.2
import PackageDescription

/// The core that is linked into strangers' processes: Embedded mode, always optimised (a debug build
/// of a hook costs every program in the tree), whole-module because Embedded Swift requires it.
let embedded: [SwiftSetting] = [
  .enableExperimentalFeature("Embedded"),
  .strictMemorySafety(),
  .unsafeFlags(["-wmo", "-Osize"]),
  // Numbered steps at which a test can kill the process.
  .define("OVERLOCK_STEPS", .when(configuration: .debug)),
]

let package = Package(
  name: "overlock",
  products: [
    // The Embedded target must stand here itself: reached only through the C target, the driver
    // would link libswiftCore in.
    .library(name: "overlock", type: .dynamic, targets: ["OverlockShim", "OverlockCoreEmbedded"]),
    // What ld.so asks for shared libraries in programs that need it: it lives beside every libc, so it
    // links none, and is a library of its own.
    .library(
      name: "overlock-audit", type: .dynamic, targets: ["OverlockAudit", "OverlockCoreEmbedded"]),
    // Not "overlock": SwiftPM drops a second product of one name. The Makefile makes `overlock` of it.
    .executable(name: "overlock-cli", targets: ["overlock"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.0")
  ],
  targets: [
    .target(name: "CLinux", cSettings: [.unsafeFlags(["-O2", "-fvisibility=hidden"])]),
    .target(name: "OverlockCore", dependencies: ["CLinux"], swiftSettings: [.strictMemorySafety()]),
    .target(name: "OverlockCoreEmbedded", dependencies: ["CLinux"], swiftSettings: embedded),
    .target(
      name: "OverlockShim",
      dependencies: ["CLinux", "OverlockCoreEmbedded"],
      path: "shim",
      exclude: ["exports.map", "hooks.def", "make-exports.sh"],
      publicHeadersPath: "include",
      cSettings: [
        .unsafeFlags(["-O2", "-Wall", "-Wextra", "-fvisibility=hidden", "-ftls-model=initial-exec"]
        ),
        .define("OVERLOCK_STEPS", .when(configuration: .debug)),
      ],
      linkerSettings: [
        .unsafeFlags([
          "-Xlinker", "--version-script=\(Context.packageDirectory)/shim/exports.map",
          "-Xlinker", "-z", "-Xlinker", "initfirst",
          "-Xlinker", "--hash-style=gnu",
        ]),
        // Symbols of the core help a debugger, not a stranger's process.
        .unsafeFlags(["-Xlinker", "-s"], .when(configuration: .release)),
      ]
    ),
    .target(
      name: "OverlockAudit",
      dependencies: ["CLinux", "OverlockCoreEmbedded"],
      path: "audit",
      exclude: ["exports.map"],
      publicHeadersPath: "include",
      cSettings: [
        .unsafeFlags([
          "-O2", "-Wall", "-Wextra", "-fvisibility=hidden", "-ffreestanding", "-fno-builtin",
          "-fno-stack-protector",
        ])
      ],
      linkerSettings: [
        .unsafeFlags([
          "-Xlinker", "--version-script=\(Context.packageDirectory)/audit/exports.map",
          "-Xlinker", "--hash-style=gnu", "-Xlinker", "--gc-sections",
          "-Xlinker", "--as-needed", "-Xlinker", "-z", "-Xlinker", "defs",
          "-Xclang-linker", "-nostdlib",
        ]),
        .unsafeFlags(["-Xlinker", "-s"], .when(configuration: .release)),
      ]
    ),
    .executableTarget(
      name: "overlock",
      dependencies: [
        "OverlockCore",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ],
      swiftSettings: [.strictMemorySafety()]
    ),
    .testTarget(name: "OverlockCoreTests", dependencies: ["OverlockCore"]),
    .testTarget(name: "OverlockCLITests", dependencies: ["overlock"]),
  ]
)
