# What the library is, seen from outside: its symbols, what it needs, its size, what it costs in
# memory, and that programs of other run-times start under it.
. "$HERE/lib/harness.bash"
needs_overlock "the library" || exit 0
make_fixture

if needs_program "exported symbols" nm; then
  hooks=$HERE/../../shim/hooks.def
  if [[ -f $hooks ]]; then
    # HOOK(result, name, …) and ALIAS(name, target, …): a result type may hold blanks and a star.
    sed -n 's/^HOOK[A-Z_]*([^,]*, *\([A-Za-z_0-9]*\),.*/\1/p; s/^ALIAS(\([A-Za-z_0-9]*\),.*/\1/p' \
      "$hooks" | sort -u >"$SCRATCH/listed"
    # Lower case letters are local symbols, which nobody can bind to.
    nm -D --defined-only "$LIBRARY" | awk '$2 ~ /^[B-Z]$/ { sub(/@.*/, "", $3); print $3 }' | sort -u >"$SCRATCH/exported"
    if cmp -s "$SCRATCH/listed" "$SCRATCH/exported"; then
      pass "exported symbols are hooks.def ($(wc -l <"$SCRATCH/listed"))"
    else
      only() { comm "$1" "$SCRATCH/listed" "$SCRATCH/exported" | head -n 5 | paste -sd' '; }
      fail "exported symbols are hooks.def" "only listed: $(only -23); only exported: $(only -13)"
    fi
  else
    fail "exported symbols are hooks.def" "no shim/hooks.def"
  fi
fi

if needs_program "the audit library" nm readelf; then
  audit=$(dirname "$LIBRARY")/liboverlock-audit.so
  exported=$(nm -D --defined-only "$audit" | awk '{ print $3 }' | sort | paste -sd' ')
  if [[ $exported == 'la_objclose la_objopen la_objsearch la_preinit la_version' ]]; then
    pass "the audit library exports rtld-audit's names alone"
  else
    fail "the audit library exports rtld-audit's names alone" "$exported"
  fi
  # With libc among them, each program that is audited would have a second one.
  others=$(readelf -d "$audit" | grep -E 'NEEDED|TEXTREL|BIND_NOW' || true)
  undefined=$(nm -D --undefined-only "$audit")
  if [[ $others$undefined ]]; then
    fail "the audit library needs no other" "$others$undefined"
  else
    pass "the audit library needs no other"
  fi
fi

if needs_program "NEEDED" readelf; then
  others=$(readelf -d "$LIBRARY" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | grep -vxE 'libc\.so\.6|ld-linux.*' | paste -sd' ' || true)
  if [[ $others ]]; then fail "needs libc alone" "also $others"; else pass "needs libc alone"; fi
  # RUNPATH $ORIGIN is not looked at: SwiftPM gives it to every dynamic product.
  if readelf -d "$LIBRARY" | grep -q TEXTREL; then
    fail "no TEXTREL" "$(readelf -d "$LIBRARY" | grep TEXTREL | paste -sd' ')"
  else
    pass "no TEXTREL"
  fi
fi

size=$(stat -L -c %s "$LIBRARY")
if ((size < 1000000)); then pass "smaller than 1 MB ($size bytes)"; else fail "smaller than 1 MB" "$size bytes"; fi

# Compiled outside the overlay, run in it.
if needs_program "a Swift program" swiftc; then
  cat >"$SCRATCH/main.swift" <<'SWIFT'
import Dispatch
import Glibc

final class Box: @unchecked Sendable { var lines = 0 }
let queue = DispatchQueue(label: "lines")
let box = Box()
DispatchQueue.concurrentPerform(iterations: 200) { i in
  guard let file = fopen("many/\(i + 1).txt", "a+") else { return }
  fputs("swift\n", file)
  fclose(file)
  queue.sync { box.lines += 1 }
}
print(box.lines, (1...200).reduce(into: [:]) { $0[$1 % 7, default: 0] += $1 }.count)
SWIFT
  if swiftc -O "$SCRATCH/main.swift" -o "$AUX/swift-program" 2>"$SCRATCH/swiftc.log"; then
    ignoring='many$|many ' like_plain "a Swift program (Dispatch, reference counting) runs" <<'BODY'
"$AUX/swift-program"
BODY
  else
    skip "a Swift program" "swiftc failed: $(head -n 1 "$SCRATCH/swiftc.log")"
  fi
fi

if needs_program "a C++ program" g++; then
  # Constructors of two shared objects and the program open, write and remove before main.
  cat >"$SCRATCH/static.cc" <<'CXX'
#include <dirent.h>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <string>
#include <thread>
#include <vector>
#ifndef NAME
#define NAME "main"
#endif
namespace {
struct Opener {
  std::string line;
  int entries = 0;
  Opener() {
    std::ifstream("README") >> line;
    std::ofstream("src/from-" NAME) << line << '\n';
    std::ofstream("README", std::ios::app) << NAME << '\n';
    if (DIR *d = opendir("many")) { while (readdir(d)) entries++; closedir(d); }
    std::remove("many/7.txt");
  }
  ~Opener() { std::ofstream("README", std::ios::app) << "bye " NAME "\n"; }
} early;
}
#ifdef LIBRARY
int LIBRARY() { return early.entries > 0; }
#else
int first(); int second();
int main() {
  std::vector<std::thread> threads;
  for (int i = 1; i <= 8; i++) threads.emplace_back([i] { std::ofstream("many/" + std::to_string(i * 10) + ".txt") << i; });
  for (auto &t : threads) t.join();
  thread_local std::string x = early.line; std::cout << x << ' ' << first() << second() << '\n';
}
#endif
CXX
  (cd "$AUX" && for n in first second; do g++ -O1 -fPIC -shared -DLIBRARY=$n -DNAME="\"$n\"" "$SCRATCH/static.cc" -o lib$n.so; done &&
    g++ -O1 -pthread "$SCRATCH/static.cc" -o c++-program -L. -lfirst -lsecond "-Wl,-rpath,$AUX")
  like_plain "a C++ program whose static constructors open files runs" <<'BODY'
"$AUX/c++-program"; cat README; ls src many | grep -c .
BODY
fi

if needs_program "other preloads and limits" gcc; then
  printf '%s\n' '#include <sys/resource.h>' '#include <fcntl.h>' '#include <stdio.h>' '#include <unistd.h>' \
    'int main(void) { for (int fd = 3; fd < 4096; fd++) close(fd); close(0); int a = open("README", O_RDONLY);' \
    'struct rlimit few = {8, 8}; setrlimit(RLIMIT_NOFILE, &few); int b = open("README", O_WRONLY | O_APPEND);' \
    'int n = 0; while (open("src/u1.c", O_RDONLY) >= 0) n++; printf("%d %d %d\n", a, b, n); return write(b, "x", 1) != 1; }' |
    gcc -O1 -xc - -o "$AUX/few"
  like_plain "a program that closes every descriptor and has very few" <<'BODY'
"$AUX/few"; tail -c 1 README; echo
BODY
fi

if needs_program "shared libraries of the merged tree" gcc; then
  # The loader's own search: by $ORIGIN, by an absolute path, by LD_LIBRARY_PATH; the library of the
  # lower, one changed in the overlay, one in a directory made there.
  cp -a "$FIXTURE" "$SCRATCH/plain-fixture"
  mkdir "$FIXTURE/lib"
  echo 'const char *which(void) { return VERSION; }' >"$AUX/which.c"
  printf '#include <stdio.h>\nconst char *which(void);\nint main(void) { puts(which()); }\n' >"$AUX/says.c"
  gcc -shared -fPIC '-DVERSION="lower"' "$AUX/which.c" -Wl,-soname,libwhich.so -o "$FIXTURE/lib/libwhich.so"
  gcc "$AUX/says.c" -L"$FIXTURE/lib" -lwhich '-Wl,-rpath,$ORIGIN/../lib' -o "$FIXTURE/bin/by-origin"
  gcc "$AUX/says.c" -L"$FIXTURE/lib" -lwhich "-Wl,-rpath,$T/lib" -o "$FIXTURE/bin/absolute"
  gcc "$AUX/says.c" -L"$FIXTURE/lib" -lwhich -o "$FIXTURE/bin/searched"
  ignoring='libwhich' like_plain "shared libraries are those of the merged tree" <<'BODY'
each() { bin/by-origin; bin/absolute; LD_LIBRARY_PATH=$PWD/lib bin/searched; (cd lib; LD_LIBRARY_PATH=. ../bin/searched); }
each
cp bin/by-origin bin/copied; bin/copied
gcc -shared -fPIC '-DVERSION="upper"' "$AUX/which.c" -Wl,-soname,libwhich.so -o lib/new && mv lib/new lib/libwhich.so
each
mv lib other; ln -s other lib; each; LD_LIBRARY_PATH=$PWD/other bin/searched
rm other/libwhich.so; for program in by-origin absolute; do bin/$program 2>/dev/null || echo none; done
BODY
  rm -rf "$FIXTURE" && mv "$SCRATCH/plain-fixture" "$FIXTURE"
fi

# Private memory of a program that waits: what the library itself writes into each process. Measured of the second
# of two, since the segment, which is one an overlay, is private only to who is alone in it. The program says over a
# pipe that it has started; nothing waits by the clock.
needs_program "private memory" gcc || exit 0
cat >"$SCRATCH/wait.c" <<'C'
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
int main(void) {
  struct stat st;
  char byte;
  stat("README", &st); /* warm: the first look-up is done */
  if (write(1, "r", 1) != 1) return 1;
  return read(0, &byte, 1) != 0; /* until the other side closes */
}
C
gcc -O2 "$SCRATCH/wait.c" -o "$AUX/wait"
private_kb() { # COMMAND…: Private_* of the waiting process, in kB
  local ready kb pid
  coproc WAITING { exec "$@"; }
  pid=$WAITING_PID
  IFS= read -r -n 1 ready <&"${WAITING[0]}" || { echo -1; return; }
  kb=$(awk '/^Private_(Clean|Dirty)/ { sum += $2 } END { print sum }' "/proc/$pid/smaps_rollup")
  local to=${WAITING[1]}
  exec {to}>&-
  wait "$pid" 2>/dev/null || true
  echo "$kb"
}
place
cd "$T"
native=$(private_kb "$AUX/wait")
in_it=(env OVERLOCK="${OVERLAYS[0]},registry=$REGISTRY" LD_PRELOAD="$LIBRARY" "$AUX/wait")
coproc FIRST { exec "${in_it[@]}"; }
first=$FIRST_PID
IFS= read -r -n 1 _ <&"${FIRST[0]}"
first_end=${FIRST[1]}
overlay=$(private_kb "${in_it[@]}")
exec {first_end}>&-
wait "$first" || true
cd "$SCRATCH"
if ((overlay > 0 && overlay - native < 1000)); then
  pass "private memory: $((overlay - native)) kB more than native"
else
  fail "private memory less than 1 MB more than native" "native $native kB, Overlock $overlay kB"
fi
