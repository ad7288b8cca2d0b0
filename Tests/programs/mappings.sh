# Mappings of files that begin on a lower: a shared one shows what is written later, by whatever way, as on a plain
# file; and nothing is left of it when nobody has it any more.
. "$HERE/lib/harness.bash"
make_fixture
needs_program "mappings" gcc || exit 0

gcc -O1 -Wall "$HERE/lib/mapped.c" -o "$AUX/mapped"
seq -f 'line %g' 1 4000 >"$FIXTURE/lines"
for i in {0..99}; do echo "data $i" >"$FIXTURE/many/f$i"; done
truncate -s 3M "$FIXTURE/sparse"
printf middle | dd of="$FIXTURE/sparse" bs=1 seek=1500000 conv=notrunc status=none
find "$FIXTURE" -depth -exec touch -h -d '2020-02-03 04:05:06.123456789' {} +

like_plain "a mapping shows what another process writes, stores, cuts and extends" <<'BODY'
"$AUX/mapped" follow lines
BODY
like_plain "a mapping of a file that an open cuts to nothing" <<'BODY'
"$AUX/mapped" truncated lines
BODY
like_plain "a mapping of an empty file that is written" <<'BODY'
"$AUX/mapped" empty empty
BODY
like_plain "every way to call mmap, refused and granted, and what else is done to a mapping" <<'BODY'
"$AUX/mapped" calls lines
BODY
like_plain "a descriptor from before a copy-up is mapped after it" <<'BODY'
"$AUX/mapped" stale lines
BODY
like_plain "private mappings beside shared ones" <<'BODY'
"$AUX/mapped" private lines
BODY
like_plain "one name of a file is mapped, another written" <<'BODY'
"$AUX/mapped" linked hard1 hard2
ls -l hard1 hard2 | awk '{ print $1, $2 }'
BODY
like_plain "a mapped file is renamed, written and removed" <<'BODY'
"$AUX/mapped" moved lines many/elsewhere
BODY
like_plain "a mapped file changes its mode" <<'BODY'
"$AUX/mapped" attributes lines
BODY
like_plain "a mapping of a file larger than any that the process may write" <<'BODY'
ulimit -f 8
"$AUX/mapped" ends lines read
BODY
like_plain "a sparse file that is mapped and copied up has its holes" <<'BODY'
"$AUX/mapped" follow sparse | sha256sum
"$AUX/mapped" attributes README
stat -c %s,%b big
"$AUX/mapped" private big | tail -n 1
stat -c %s,%b big
BODY

like_plain "python: mmap for reading, by every access it knows, shows what another process writes" <<'BODY'
"$PYTHON" - <<'PY'
import mmap, os
maps = []
for name in "README", "lines":
    with open(name, "rb") as file:
        maps.append(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        maps.append(mmap.mmap(file.fileno(), 0, mmap.MAP_SHARED, mmap.PROT_READ))
        maps.append(mmap.mmap(file.fileno(), 10, mmap.MAP_SHARED, mmap.PROT_READ))
    if os.fork() == 0:
        with open(name, "r+b") as file:
            file.write(b"FIRST")
        with open(name, "r+b") as file, mmap.mmap(file.fileno(), 0) as writable:
            writable[5:10] = b"-STORE"[:5]
            writable.flush()
        os._exit(0)
    os.wait()
print([m[:12] for m in maps], [len(m) for m in maps])
for m in maps: m.close()
PY
BODY

"$PYTHON" - "$FIXTURE" <<'PY'
import os, sqlite3, sys
os.chdir(sys.argv[1])
for name, mode in ("base", "delete"), ("wal", "wal"):
    base = sqlite3.connect(name)
    base.execute(f"pragma journal_mode={mode}")
    base.execute("create table t(x)")
    base.executemany("insert into t values(?)", [(i,) for i in range(5000)])
    base.commit()
os._exit(0)  # leaves wal-shm and wal-wal
PY
cat >"$AUX/sqlite.py" <<'PYTHON'
import os, sqlite3, sys


def write(name, count):
    if os.fork() == 0:
        base = sqlite3.connect(name, timeout=10)
        base.executemany("insert into t values(?)", [(1,)] * count)
        base.commit()
        base.close()
        os._exit(0)
    os.wait()


name, how = sys.argv[1:3]
reader = sqlite3.connect(f"file:{name}?mode={how}", uri=True, timeout=10, isolation_level=None)
print(reader.execute("pragma mmap_size=100000000").fetchone())
for count in 0, 3, 20000, 1:
    write(name, count)
    print(reader.execute("select count(*), sum(x) from t").fetchone())
print(reader.execute("pragma integrity_check").fetchone())
PYTHON
ignoring='base|wal' needing=held like_plain "sqlite3 maps a database for reading that another process writes" <<'BODY'
"$PYTHON" "$AUX/sqlite.py" base ro
BODY
ignoring='base|wal' like_plain "sqlite3 with a write-ahead log whose index lies on the lower, mapped by two processes" <<'BODY'
"$PYTHON" "$AUX/sqlite.py" wal rw
BODY
ignoring='base|wal' needing=held like_plain "sqlite3 with a write-ahead log, opened for reading before it is copied up" <<'BODY'
"$PYTHON" "$AUX/sqlite.py" wal ro
BODY

if [[ -e /usr/include/lmdb.h ]]; then
  gcc -O1 -Wall "$HERE/lib/lmdb.c" -o "$AUX/lmdb" -llmdb
  mkdir "$FIXTURE/db"
  "$AUX/lmdb" "$FIXTURE/db" make
  for how in read read-unlocked; do
    ignoring='mdb' like_plain "LMDB: a reader that mapped the database on the lower sees later commits ($how)" <<BODY
"\$AUX/lmdb" db $how
BODY
  done
  if needs_program "LMDB's tools" mdb_stat mdb_dump; then
    ignoring='mdb' like_plain "LMDB's tools read a database of the lower, before and after it is written" <<'BODY'
mdb_stat -e db
"$AUX/lmdb" db read
mdb_stat -a db
mdb_dump -p db | tail -n 4
BODY
  fi
else
  skip "LMDB" "lmdb.h is not installed"
fi

for seed in 1 2 3; do
  ignoring='many' like_plain "processes map files while they are written, and all see it (seed $seed)" <<BODY
"\$AUX/mapped" storm many 100 4 $seed
BODY
done

# What lies in the workdir of anchors: their number.
anchors() { find "$SCRATCH/work/overlock/anchors" "$SCRATCH/work/overlock/copyup/0" -type f | wc -l; }
# Lets processes start until none is left; they may be kept for some milliseconds each.
swept() {
  local -i tries=0
  until [[ $(anchors) == 0 ]]; do
    ((++tries < 500)) || return 1
    in_overlay true
  done
}

if needs_overlock "nothing is left of mappings that nobody has"; then
  place
  UNTOUCHED=("$T")
  says "10,000 mappings of a hundred files" '0 of 10000 wrong' <<'BODY'
"$AUX/mapped" cycles many 10000
BODY
  left=$(anchors)
  if ((left > 2)); then
    fail "10,000 mappings leave nothing" "$left anchors before anybody swept"
  elif swept; then
    pass "10,000 mappings leave nothing"
  else
    fail "10,000 mappings leave nothing" "$(anchors) anchors"
  fi

  place
  mkfifo "$SCRATCH/pipe"
  in_overlay "$AUX/mapped" wait lines >"$SCRATCH/pipe" 2>"$SCRATCH/errors" & # bash tells of the kill there
  read -r mapper <"$SCRATCH/pipe"
  for _ in {1..5}; do in_overlay true; done
  kept=$(anchors)
  kill -KILL "$mapper"
  wait $! || true
  rm -f "$SCRATCH/pipe"
  if [[ $kept != 1 ]]; then
    fail "an anchor lives as long as its mapper, who is killed" "$kept anchors while it was mapped"
  elif swept; then
    pass "an anchor lives as long as its mapper, who is killed"
  else
    fail "an anchor lives as long as its mapper, who is killed" "$(anchors) anchors left"
  fi
fi

name='a full disk: what has no room for an anchor is mapped all the same, what has one is written'
if needs_overlock "$name" && needs_root "$name" && unshare -m true 2>/dev/null; then
  place
  mkdir -p "$SCRATCH/small"
  cat >"$SCRATCH/full" <<'BODY'
mount -t tmpfs -o size=512k,mode=755 tmpfs "$SCRATCH/small"
mkdir "$SCRATCH/small/u" "$SCRATCH/small/w"
export OVERLOCK="lowerdir=$T,upperdir=$SCRATCH/small/u,workdir=$SCRATCH/small/w,target=$T,registry=$REGISTRY"
export LD_PRELOAD=$LIBRARY
left() { find "$SCRATCH/small/w/overlock" -type f ! -name lock ! -name words | wc -l; }
"$AUX/mapped" ends big read
left
"$AUX/mapped" wait lines >"$SCRATCH/pipe" &
read -r mapper <"$SCRATCH/pipe"
dd if=/dev/zero of="$SCRATCH/small/filler" bs=4k 2>/dev/null || true
"$AUX/mapped" ends README read
left
# Takes no room for its data (38 kB), but for names and notes.
truncate -s -16k "$SCRATCH/small/filler"
"$AUX/mapped" ends lines write
left
kill -KILL "$mapper"
BODY
  mkfifo "$SCRATCH/pipe"
  said=$(cd "$T" && timeout -k 5 90 unshare -m bash -uo pipefail "$SCRATCH/full" 2>/dev/null || true)
  rm -f "$SCRATCH/pipe"
  want='the end: \0a150000\0a|0|the end: rd line\0a|1|the end: ne 4000\0a|the start: writtenl|0'
  if [[ $(paste -sd'|' <<<"$said") == "$want" ]]; then
    pass "$name"
  else
    fail "$name" "expected $want got $(paste -sd'|' <<<"$said")"
  fi
fi
