# Programs that lock their files, on files that begin on a lower and are copied up while they run: databases with two
# writers, package managers, git, mailboxes.
. "$HERE/lib/harness.bash"
make_fixture
needs_program "programs that lock" python3 || exit 0

# Holds a lock until its input ends: holder.py lockf|flock r|rw FILE. Says "holds" when it does.
cat >"$AUX/holder.py" <<'PYTHON'
import fcntl, os, sys
kind, mode, name = sys.argv[1:4]
fd = os.open(name, os.O_RDONLY if mode == "r" else os.O_RDWR)
getattr(fcntl, kind)(fd, (fcntl.LOCK_SH if mode == "r" else fcntl.LOCK_EX) | fcntl.LOCK_NB)
print("holds", flush=True)
sys.stdin.read()
PYTHON
# hold lockf|flock r|rw FILE; give_up: as a coprocess of the shell that is checked.
cat >"$AUX/hold.bash" <<'BASH'
hold() { coproc HOLDER { exec "$PYTHON" "$AUX/holder.py" "$@"; }; holder=$HOLDER_PID; read -r <&"${HOLDER[0]}"; }
give_up() { eval "exec ${HOLDER[1]}>&-"; wait "$holder"; }
BASH

# sqlite3 by way of Python's module: the statements of one writer.
cat >"$AUX/writer.py" <<'PYTHON'
import sqlite3, sys
base = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)
base.execute("pragma synchronous=off")
for number in range(60):
    base.execute("begin immediate")
    base.execute("insert into t values(?)", (number,))
    base.execute("update counter set n = n + 1")
    base.execute("commit")
PYTHON
for journal in delete wal; do
  "$PYTHON" - "$FIXTURE/$journal.db" "$journal" <<'PY'
import sqlite3, sys
base = sqlite3.connect(sys.argv[1])
base.execute(f"pragma journal_mode={sys.argv[2]}")
base.execute("create table t(x)")
base.execute("create table counter(n)")
base.execute("insert into counter values(0)")
base.executemany("insert into t values(?)", [(i,) for i in range(500)])
base.commit()
PY
done
ignoring='delete.db' like_plain "sqlite3, rollback journal: two writers and a reader from before the copy-up" <<'BODY'
"$PYTHON" - <<'PY'
import os, sqlite3, subprocess, sys
reader = sqlite3.connect("file:delete.db?mode=ro", uri=True, timeout=60, isolation_level=None)
reader.execute("begin")
print(reader.execute("select count(*) from t").fetchone())
# Nobody commits while it reads, whichever inode it reads from.
writer = sqlite3.connect("delete.db", timeout=0, isolation_level=None)
writer.execute("begin immediate")
writer.execute("insert into t values(0)")
try:
    writer.execute("commit")
    print("committed")
except sqlite3.OperationalError as error:
    print(error)
reader.execute("commit")
writer.execute("commit")
writers = [subprocess.Popen([sys.executable, os.environ["AUX"] + "/writer.py", "delete.db"]) for _ in range(2)]
print([one.wait() for one in writers])
base = sqlite3.connect("delete.db")
print(base.execute("select count(*) from t").fetchone(), base.execute("select n from counter").fetchone())
print(base.execute("pragma integrity_check").fetchone())
PY
BODY
ignoring='wal.db' like_plain "sqlite3, write-ahead log: two writers" <<'BODY'
"$PYTHON" - <<'PY'
import os, sqlite3, subprocess, sys
first = sqlite3.connect("wal.db", timeout=60, isolation_level=None)
print(first.execute("pragma journal_mode").fetchone(), first.execute("select count(*) from t").fetchone())
writers = [subprocess.Popen([sys.executable, os.environ["AUX"] + "/writer.py", "wal.db"]) for _ in range(2)]
print([one.wait() for one in writers])
print(first.execute("select count(*) from t").fetchone(), first.execute("select n from counter").fetchone())
first.execute("insert into t values(1)")
print(first.execute("pragma integrity_check").fetchone())
PY
BODY
if needs_program "sqlite3(1)" sqlite3; then
  ignoring='delete.db' like_plain "sqlite3(1): a database that somebody has locked on the lower is busy" <<'BODY'
. "$AUX/hold.bash"
hold lockf r delete.db
# The lock of the whole file covers the bytes that sqlite3 locks.
sqlite3 delete.db 'insert into t values(1)' 2>&1 | sed 's/.*: //' || true
give_up
sqlite3 delete.db 'insert into t values(1); select count(*) from t; pragma integrity_check'
BODY
fi

if needs_program "dpkg" dpkg dpkg-deb; then
  mkdir -p "$AUX/package/DEBIAN" "$AUX/package/usr" "$FIXTURE"/root/var/lib/dpkg/{info,updates,triggers}
  printf 'Package: small\nVersion: 1\nArchitecture: all\nMaintainer: nobody <n@example.org>\nDescription: small\n' \
    >"$AUX/package/DEBIAN/control"
  echo small >"$AUX/package/usr/small"
  dpkg-deb --root-owner-group -b "$AUX/package" "$AUX/small.deb" >/dev/null
  : >"$FIXTURE/root/var/lib/dpkg/status" >"$FIXTURE/root/var/lib/dpkg/lock" >"$FIXTURE/root/var/lib/dpkg/lock-frontend"
  for kind in r rw; do
    ignoring='dpkg|root/var' like_plain "dpkg: whoever locks the database on the lower ($kind) keeps it out" <<BODY
. "\$AUX/hold.bash"
install_small() {
  dpkg --root="\$PWD/root" --force-script-chrootless --force-not-root --log=/dev/null -i "\$AUX/small.deb" >"\$OUT/log" 2>&1 ||
    { grep -o 'locked by another process' "\$OUT/log" | head -n 1; return 1; }
}
hold lockf $kind root/var/lib/dpkg/lock
install_small || echo refused
give_up
install_small
cat root/usr/small
rm "\$OUT/log"
BODY
  done
fi

if needs_program "apt" apt-get; then
  mkdir -p "$FIXTURE"/apt/{etc/apt/{apt.conf.d,sources.list.d,preferences.d,trusted.gpg.d},lists/partial,cache/archives/partial,log}
  : >"$FIXTURE/apt/lists/lock" >"$FIXTURE/apt/status" >"$FIXTURE/apt/etc/apt/sources.list"
  ignoring='apt/' like_plain "apt-get: a lock on the lower's list directory keeps update out" <<'BODY'
. "$AUX/hold.bash"
update() {
  apt-get -o Dir::Etc="$PWD/apt/etc/apt" -o Dir::State::Lists="$PWD/apt/lists" -o Dir::State::status="$PWD/apt/status" \
    -o Dir::Cache="$PWD/apt/cache" -o Dir::Log="$PWD/apt/log" -o APT::Sandbox::User=root update >"$OUT/log" 2>&1 ||
    { grep -o 'Could not get lock\|is held by process' "$OUT/log" | sort -u; return 1; }
}
hold lockf r apt/lists/lock
update || echo refused
give_up
update
echo updated
rm "$OUT/log"
BODY
fi

if needs_program "git" git; then
  mkdir "$FIXTURE/repository"
  (
    cd "$FIXTURE/repository"
    git init -q . && git config user.name n && git config user.email n@example.org && git config gc.auto 0
    for i in {1..30}; do echo "$i" >"a$i"; echo "$i" >"b$i"; done
    git add . && git commit -qm start
  ) >/dev/null 2>&1
  ignoring='repository' like_plain "git: two at once in a repository of a lower lose nothing" <<'BODY'
cd repository
work() {
  local i
  for i in {1..30}; do
    echo more >>"$1$i"
    # Somebody else has the index: again, as its message says.
    until git add "$1$i" 2>/dev/null; do :; done
    until git commit -qm "$1$i" -- "$1$i" 2>/dev/null; do :; done
  done
}
work a & work b & wait
git log --format=%s | sort | uniq -c | wc -l
git log --format=%s | wc -l
git status --porcelain | wc -l
git fsck --strict 2>&1 | grep -v '^dangling' || true
ls .git/*.lock 2>/dev/null || echo no lock is left
BODY
fi

printf 'From a@example.org Thu Jan  1 00:00:00 2020\nSubject: first\n\ntext\n\n' >"$FIXTURE/box"
ignoring='box' like_plain "Python's mailbox: two deliver into a box that a third one has locked on the lower" <<'BODY'
"$PYTHON" - <<'PY'
import fcntl, mailbox, multiprocessing, os
reader = open("box", "rb")
fcntl.lockf(reader, fcntl.LOCK_SH)

def deliver(number):
    box = mailbox.mbox("box")
    for n in range(15):
        while True:
            try:
                box.lock()
                break
            except mailbox.ExternalClashError:
                pass
        box.add(f"Subject: {number}.{n}\n\ntext\n")
        box.flush()
        box.unlock()

def attempt():
    try:
        mailbox.mbox("box").lock()
        print("locked", flush=True)
    except mailbox.ExternalClashError:
        print("refused", flush=True)

fork = multiprocessing.get_context("fork")
one = fork.Process(target=attempt)
one.start(); one.join()
reader.close()
both = [fork.Process(target=deliver, args=(n,)) for n in range(2)]
for one in both: one.start()
for one in both: one.join()
subjects = sorted(message["Subject"] for message in mailbox.mbox("box"))
print(len(subjects), len(set(subjects)), os.path.exists("box.lock"))
PY
BODY

if needs_program "perl's databases" perl && perl -MGDBM_File -e 1 2>/dev/null; then
  perl -MGDBM_File -e 'tie(%h, "GDBM_File", $ARGV[0], GDBM_WRCREAT, 0644) or die; $h{$_} = $_ for 1..50' "$FIXTURE/gdbm"
  # gdbm takes a flock: shared for readers, exclusive for a writer, and waits for neither.
  ignoring='gdbm' like_plain "gdbm: who reads a database of a lower keeps writers out, who writes it everybody" <<'BODY'
cat >"$OUT/try.pl" <<'PERL'
use GDBM_File;
tie(my %h, "GDBM_File", "gdbm", $ARGV[0] eq "w" ? GDBM_WRITER : GDBM_READER, 0644) or do { print "$ARGV[0] refused\n"; exit };
$h{new} = $$ if $ARGV[0] eq "w";
print "$ARGV[0] ", scalar(keys %h), "\n";
system($^X, $0, @ARGV[1 .. $#ARGV]) if @ARGV > 1;
PERL
perl "$OUT/try.pl" r r
perl "$OUT/try.pl" r w
perl "$OUT/try.pl" w
perl "$OUT/try.pl" w r
perl "$OUT/try.pl" r w
rm "$OUT/try.pl"
BODY
elif command -v perl >/dev/null; then
  skip "gdbm" "perl has no GDBM_File"
fi

# Debian's module is for its own Python.
for DBM_PYTHON in "$PYTHON" /usr/bin/python3; do
  ! "$DBM_PYTHON" -c 'import dbm.gnu' 2>/dev/null || break
done
export DBM_PYTHON
if "$DBM_PYTHON" -c 'import dbm.gnu' 2>/dev/null; then
  "$DBM_PYTHON" -c 'import dbm, sys
with dbm.open(sys.argv[1], "n") as d:
    for i in range(50): d[str(i)] = "x"' "$FIXTURE/pydbm"
  ignoring='pydbm' like_plain "Python's dbm: readers and a writer of a database of a lower keep each other out" <<'BODY'
"$DBM_PYTHON" - <<'PY'
import dbm, subprocess, sys
print(dbm.whichdb("pydbm"))
def other(mode):
    code = f"""import dbm
try:
    with dbm.open("pydbm", "{mode}") as d:
        if "{mode}" == "w": d[str(len(d))] = "more"
        print("{mode}", len(d))
except dbm.error as e: print("{mode}", e)"""
    subprocess.run([sys.executable, "-c", code], check=True)
with dbm.open("pydbm", "r") as d:
    other("r"); other("w")
other("w")
with dbm.open("pydbm", "r") as d:
    other("w"); print(len(d))
with dbm.open("pydbm", "w") as d:
    other("r"); other("w"); d["last"] = "one"
other("r")
PY
BODY
else
  skip "Python's dbm" "Python has no dbm.gnu"
fi

if needs_program "Berkeley DB" db5.3_load db5.3_dump db5.3_verify; then
  for i in {1..200}; do printf 'key%d\nvalue%d\n' "$i" "$i"; done | db5.3_load -T -t btree "$FIXTURE/berkeley.db"
  ignoring='berkeley|__db' like_plain "Berkeley DB: an environment over a database of a lower" <<'BODY'
load() { for i in {1..200}; do printf 'new%s%d\nvalue%d\n' "$1" "$i" "$i"; done | db5.3_load -h . -T -t btree berkeley.db; }
load a
db5.3_verify -q berkeley.db && db5.3_dump -p berkeley.db | grep -c '^ new'
load b
db5.3_verify -q berkeley.db && db5.3_dump -p berkeley.db | grep -c '^ new'
BODY
fi
