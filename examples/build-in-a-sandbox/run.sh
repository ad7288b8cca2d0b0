#!/usr/bin/env bash
# Two configurations of one source tree, configured and built in place and at the same time, each in
# its own overlay over the tree. Exits non-zero if a product is wrong or the tree was touched.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
build=${OVERLOCK_BUILD:-$here/../../.build/release}
overlock=$(realpath -m -- "$build")/overlock
for program in "$overlock" gcc make; do
  command -v "$program" >/dev/null || { echo "$program is missing" >&2; exit 1; }
done

scratch=$(realpath "$(mktemp -d)")
trap 'wait; rm -rf "$scratch"' EXIT
tree=$scratch/tree
cp -R "$here/tree" "$tree"

# Everything that could show a change of the tree: names, types, modes, times and contents.
manifest() {
  (cd "$tree" && find . -printf '%p %y %m %s %T@ %C@\n' | sort && find . -type f -exec sha256sum {} + | sort)
}

wrong() {
  echo "wrong: $*" >&2
  exit 1
}

# The command sees the tree at its own path; what it writes lands in $scratch/NAME/upper.
sandbox() { # NAME COMMAND…
  local name=$1
  shift
  mkdir -p "$scratch/$name/upper" "$scratch/$name/work"
  (cd "$tree" && "$overlock" run \
    -o "lowerdir=$tree,upperdir=$scratch/$name/upper,workdir=$scratch/$name/work,target=$tree" -- "$@")
}

manifest >"$scratch/before"

sandbox debug sh -c './configure --debug --enable-shout && make -s check' >"$scratch/debug.log" 2>&1 &
debug=$!
sandbox release sh -c './configure && make -s check' >"$scratch/release.log" 2>&1 &
release=$!
wait "$debug" || wrong "the debug build failed: $(tail -n 3 "$scratch/debug.log")"
wait "$release" || wrong "the release build failed: $(tail -n 3 "$scratch/release.log")"

for name in debug release; do
  echo "== $name: $(head -n 1 "$scratch/$name.log")"
  echo "   written to its upper: $(cd "$scratch/$name/upper" && find . -type f -printf '%P\n' | sort | paste -sd' ')"
  echo "   run in its overlay:"
  sandbox "$name" ./greet reader | tee "$scratch/$name.out" | sed 's/^/     /'
  [[ -x $scratch/$name/upper/greet ]] || wrong "no product in the upper of $name"
done

[[ $(head -n 1 "$scratch/debug.out") == 'HELLO, READER' ]] || wrong 'the debug product does not shout'
[[ $(head -n 1 "$scratch/release.out") == 'hello, reader' ]] || wrong 'the release product shouts'
grep -q -- '-O0 -g' "$scratch/debug.out" || wrong 'the debug product has other flags'
grep -q -- '-O2' "$scratch/release.out" || wrong 'the release product has other flags'

manifest >"$scratch/after"
cmp -s "$scratch/before" "$scratch/after" ||
  wrong "the tree was touched: $(diff "$scratch/before" "$scratch/after" | head -n 3)"
echo "== the tree itself is untouched: $(cd "$tree" && find . -type f | wc -l) files, not one object or header changed"
