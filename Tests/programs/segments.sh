# Programs of one overlay that do not share a registry segment: what one of them changes, the others see, and
# whom one of them locks out stays out. Guards against caches that nobody tells of a change.
. "$HERE/lib/harness.bash"
needs_program "segments" python3 || exit 0
make_fixture

# The shell goes on with what it has learned; all programs after the removal are in another segment.
like_plain "the segment is removed under a shell and what it starts" <<'BODY'
[[ -e many/1.txt && -e src/u1.c && ! -e new && -d doc ]] && cat src/deep/er/file
exec 8<README 9<>hard1 && flock 9 && flock -s 8
cd src/deep
rm -rf "$REGISTRY"/*
for i in {1..40}; do
  sh -c 'cd ../..; rm "many/$1.txt"; echo "$1" >>README; mkdir "made$1"; mv "made$1" "new$1"' sh "$i"
  [[ ! -e ../../many/$i.txt ]] && [[ -d ../../new$i ]] && [[ ! -e ../../made$i ]] || echo "$i is not seen"
done
sh -c 'cd ../..; mv src source; rm -r doc; ln -s source src; for i in hard1 README; do flock -n "$i" true || echo "$i is locked"; done'
pwd -P | sed "s,$T,," && ls ../u1.c ../../source | head -n 3
[[ -d ../../doc ]] || echo 'no doc'
cd ../.. && echo x >source/from-the-shell && rm source/u2.c && mv new1 new1b
sh -c 'ls source new1b; tail -n 2 README; echo y >made-by-a-program'
[[ -e made-by-a-program ]] && echo made
flock -u 8 && flock -u 9 && sh -c 'flock -n README true && flock -n hard1 true && echo free'
BODY

[[ $WORLD != kernel ]] || { skip "segments: random operations" "about Overlock's own segments"; exit 0; }
library=$LIBRARY
[[ $WORLD == overlock ]] || library=plain
# For two users: a place, an interpreter and a library that both reach.
chmod 755 "$SCRATCH"
interpreter=$(realpath "$(command -v python3)")
[[ -x /usr/bin/python3 ]] && interpreter=/usr/bin/python3
if [[ $library != plain ]]; then
  install -m 755 "$LIBRARY" "$SCRATCH/liboverlock.so"
  library=$SCRATCH/liboverlock.so
fi
install -m 644 "$HERE/lib/segments.py" "$SCRATCH/segments.py"
first=$((SRANDOM % 100000))
for world in registries nowhere removed wiped users mounts; do
  name="random operations of two programs: $world"
  if [[ $world == users || $world == mounts ]]; then
    needs_root "$name" && needs_program "$name" setpriv unshare || continue
    [[ $world != mounts ]] || unshare -m true 2>/dev/null || { skip "$name" "no mount namespaces here"; continue; }
  fi
  worst=
  for seed in 1 "$first"; do
    place=$(mktemp -d "$SCRATCH/segments.XXXXXX") && chmod 755 "$place"
    if ! timeout -k 5 "$LIMIT_S" "$interpreter" "$SCRATCH/segments.py" "$world" "$seed" 250 "$library" "$place" \
      >"$SCRATCH/said" 2>&1; then
      worst="seed $seed: $(tail -n 2 "$SCRATCH/said" | paste -sd'|')"
      cat "$SCRATCH/said" >&2
    fi
    rm -rf "$place"
  done
  if [[ $worst ]]; then fail "$name" "$worst"; else pass "$name (seeds 1, $first)"; fi
done
