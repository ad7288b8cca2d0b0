#!/usr/bin/env bash
# The shortest tour: real programs change a directory, and the directory does not change.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
build=${OVERLOCK_BUILD:-$here/../../.build/release}
overlock=$(realpath -m -- "$build")/overlock
[[ -x $overlock ]] || { echo "$overlock is missing: build first" >&2; exit 1; }

scratch=$(realpath "$(mktemp -d)")
trap 'rm -rf "$scratch"' EXIT
export LC_ALL=C
cd "$scratch"
mkdir site upper work
mkdir site/old
printf 'title = Plain directory\ncolour = grey\n' >site/config
printf '#include <stdio.h>\nint main(void) { puts("built from a lower file"); }\n' >site/hello.c
echo 'nobody needs this' >site/old/notes

manifest() { (cd site && find . -printf '%p %y %m %s %T@ %C@\n' | sort && find . -type f -exec sha256sum {} + | sort); }
bold() { if [[ -t 1 ]]; then printf '\033[1m%s\033[0m\n' "$*"; else echo "$*"; fi; }
in_overlay() {
  (cd site && "$overlock" run \
    -o "lowerdir=$scratch/site,upperdir=$scratch/upper,workdir=$scratch/work,target=$scratch/site" -- "$@")
}
indent() { sed 's/^/    /'; }

manifest >before
bold 'In the overlay: sed -i, rm -r, mv, and a compiler'
in_overlay sh -euc '
  sed -i "s/Plain directory/Overlock/; s/grey/green/" config
  rm -r old
  if command -v cc >/dev/null; then cc -o hello hello.c && ./hello; fi
  mv hello.c greeting.c'

bold 'What a program sees there (merged)'
in_overlay sh -c 'ls; echo; cat config' | indent

bold 'What was really written (upper; character devices are whiteouts)'
(cd upper && find . -mindepth 1 \( -type c -printf '%P  removed\n' -o -printf '%P\n' \)) | sort | indent

bold 'What lies on disk (lower)'
(cd site && ls && echo && cat config) | indent

manifest >after
if cmp -s before after; then
  bold 'The lower is untouched: names, modes, times and contents are as before.'
else
  bold 'The lower was CHANGED:'
  diff before after | indent
  exit 1
fi
