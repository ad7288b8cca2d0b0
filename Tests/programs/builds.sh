# Whole builds of other people's programs with their own build systems and test suites: first in a
# plain copy of the tree, then in an overlay over the tree, both at the same path.
. "$HERE/lib/harness.bash"
. "$HERE/lib/sources.bash"
LIMIT_S=900

for program in gcc make; do
  needs_program "builds" "$program" || exit 0
done

# The commands of each project. A test suite's outcome is what its lines say, without times.
declare -A build test products
build[lua5.4]='make -j2 linux'
test[lua5.4]='src/lua -e "
  local n = 0 for line in io.lines(\"README\") do n = n + 1 end print(n)
  local f = assert(io.open(\"doc/lua.1\", \"r+\")) f:seek(\"end\") f:write(\"more\") f:close()
  print(os.rename(\"doc/luac.1\", \"doc/moved\"), os.remove(\"doc/moved\"), io.open(\"doc/luac.1\"))
  local t = os.tmpname() print(os.remove(t)) print(#string.dump(load(\"return 1\")))
" && make test && make install INSTALL_TOP=$PWD/installed && installed/bin/luac -v && src/luac -o x src/../doc/none.lua || ls installed installed/bin'
products[lua5.4]='src/*.o src/lua src/luac src/liblua.a'
build[zlib]='./configure && make -j2'
test[zlib]='make test && make install prefix=$PWD/installed && ls -R installed && make distclean >/dev/null'
products[zlib]='*.o *.lo libz.* example minigzip zconf.h zlib.pc'
# libtool: the test programs must find the library of the build directory, not one of the system.
build[popt]='CFLAGS=-O0 ./configure --disable-static --disable-nls && make -j2'
test[popt]='make check && cat tests/*.log && sed -i "s/unknown option/strange option/" src/popt.c && make >/dev/null && { tests/test1 --none || true; } && make install prefix=$PWD/installed >/dev/null && ls -R installed'
products[popt]='src/*.lo src/.libs/*.so*'
# -O0: it is the files that are tried here, not the compiler.
build[sqlite3]='mkdir -p b && cd b && CFLAGS=-O0 ../configure --disable-static && make -j2 testfixture sqlite3'
test[sqlite3]='cd b && for t in lock lock2 lock3 shared wal wal2 walprotocol pager1 journal2 vacuum attach2 superlock exclusive delete tempdb; do ./testfixture ../test/$t.test || true; done 2>&1'
products[sqlite3]='b/sqlite3 b/sqlite3.c b/testfixture b/lemon b/parse.c b/opcodes.[ch]'

packages=(lua5.4 zlib popt)
if [[ $QUICK ]]; then
  skip "sqlite3" "--quick"
elif ! command -v tclsh >/dev/null || ! compgen -G '/usr/include/tcl*/tcl.h' >/dev/null; then
  skip "sqlite3" "its test suite needs tclsh and tcl.h"
else
  packages+=(sqlite3)
fi
if ! fetch_sources "${packages[@]}"; then
  skip "builds of ${packages[*]}" "$WHY"
  exit 0
fi

digest() { # PATTERN…: of the tree in the current directory
  eval "find $1 -maxdepth 0 -type f 2>/dev/null" | sort | xargs -r sha256sum
}
symbols() {
  eval "find $1 -maxdepth 0 -type f 2>/dev/null" | sort | while read -r file; do
    echo "$file: $(nm "$file" 2>/dev/null | sed 's/^[0-9a-f]* *//' | sort | sha256sum)"
  done
}
# Times, process numbers and speeds differ between any two runs.
outcome() {
  sed -E 's/[0-9]+(\.[0-9]+)? *(ms|seconds|sec|s|microseconds)\b/TIME/g; s/^(Time|Memory used|Page-cache|Number of|Maximum|Allocator|Current|Lookaside|Scratch|Pager|Heap).*//; s/0x[0-9a-f]+/ADDRESS/g; s/[ 0-9]+ms$//; s/(pid|PID) [0-9]+/PID/; s/hash [0-9a-f]+/HASH/; s/on [^ ]+ 64-bit.*//; s/\.\.\. *$//; s/^make\[?[0-9]*\]?:.*//' | grep -v '^$' || true
}

for package in "${packages[@]}"; do
  rm -rf "$FIXTURE" && unpack_source "$package" "$FIXTURE"
  echo "${build[$package]}" >"$SCRATCH/build-body"
  echo "${test[$package]}" >"$SCRATCH/test-body"

  status=0
  for run in plain1 plain2 overlay; do
    # A second plain build tells which products are reproducible at all.
    [[ $run != plain2 || ! $QUICK ]] || continue
    place
    in_world=in_plain
    if [[ $run == overlay ]]; then
      in_world=in_overlay
      ledger "$T" >"$SCRATCH/before"
    fi
    $in_world bash -eo pipefail "$SCRATCH/build-body" >"$SCRATCH/$run.log" 2>&1 </dev/null || status=$?
    $in_world bash -c "$(declare -f digest symbols); digest '${products[$package]}'" >"$SCRATCH/$run.digest" || status=$?
    $in_world bash -c "$(declare -f digest symbols); symbols '${products[$package]}'" >"$SCRATCH/$run.symbols" || status=$?
    $in_world find . -printf '%y %m %P\n' | sort >"$SCRATCH/$run.files"
    ((status == 0)) || break
    if [[ $run != plain2 ]]; then
      tested=0
      $in_world bash -eo pipefail "$SCRATCH/test-body" >"$SCRATCH/$run.test" 2>&1 </dev/null || tested=$?
      outcome <"$SCRATCH/$run.test" >"$SCRATCH/$run.outcome"
      echo "exit status $tested" >>"$SCRATCH/$run.outcome"
    fi
  done
  if ((status != 0)); then
    fail "$package builds" "status $status in the $run tree: $(grep -iE 'error|cannot|No such' "$SCRATCH/$run.log" | head -n 2 | cut -c1-200 | paste -sd'|') $(tail -n 1 "$SCRATCH/$run.log" | cut -c1-160)"
    continue
  fi
  pass "$package builds"

  [[ -e $SCRATCH/plain2.digest && ! $QUICK ]] || cp "$SCRATCH/plain1.digest" "$SCRATCH/plain2.digest"
  # Only files that two plain builds make alike can be asked to be alike here.
  comm -12 <(sort "$SCRATCH/plain1.digest") <(sort "$SCRATCH/plain2.digest") >"$SCRATCH/reproducible"
  different=$(comm -23 "$SCRATCH/reproducible" <(sort "$SCRATCH/overlay.digest") | awk '{ print $2 }' | head -n 5 | paste -sd' ')
  if [[ ! -s $SCRATCH/reproducible ]]; then
    fail "$package: same products" "found none"
  elif [[ $different ]]; then
    fail "$package: same products" "$different"
  else
    pass "$package: same products ($(wc -l <"$SCRATCH/reproducible") files byte for byte)"
  fi
  for what in files symbols outcome; do
    name="$package: same $what"
    [[ $what == outcome ]] && name="$package: its test suite ends the same ($(wc -l <"$SCRATCH/plain1.outcome") lines)"
    if cmp -s "$SCRATCH/plain1.$what" "$SCRATCH/overlay.$what"; then
      pass "$name"
    else
      fail "$name" "$(first_difference "$SCRATCH/plain1.$what" "$SCRATCH/overlay.$what")"
    fi
  done
  if [[ $WORLD != plain ]]; then
    ledger "$T" >"$SCRATCH/after"
    if cmp -s "$SCRATCH/before" "$SCRATCH/after"; then
      pass "$package: lower untouched ($(wc -l <"$SCRATCH/before") objects)"
    else
      fail "$package: lower untouched" "$(diff "$SCRATCH/before" "$SCRATCH/after" | grep '^[<>]' | head -n 2 | paste -sd'|')"
    fi
  fi
  rm -f "$SCRATCH"/plain2.*
done
