#!/bin/sh
# Writes exports.map, the linker's version script, from hooks.def. `make-exports.sh -` prints it.
set -eu
cd "$(dirname "$0")"
list() {
  echo '/* Made by make-exports.sh from hooks.def. */'
  echo '{'
  echo '  global:'
  sed -nE -e 's/^HOOK\([^,]*, ([A-Za-z0-9_]+),.*/    \1;/p' \
    -e 's/^ALIAS\(([A-Za-z0-9_]+),.*/    \1;/p' hooks.def | LC_ALL=C sort
  echo '  local: *;'
  echo '};'
}
if [ "${1-}" = - ]; then list; else list >exports.map; fi
