# Shells and the tools that scripts are made of.
. "$HERE/lib/harness.bash"
make_fixture

for shell in bash dash 'bash --posix'; do
  command -v "${shell%% *}" >/dev/null || { skip "$shell" "not installed"; continue; }
  export SHELL_UNDER_TEST=$shell

  like_plain "$shell: cd, cd -P, cd -L, cd .., pwd" <<'BODY'
cat >"$OUT/s" <<'SCRIPT'
pwd; pwd -P
cd src/deep/er && pwd && cd .. && pwd && cd "$OLDPWD" && pwd
cd "$T" && cd linkdir && pwd && pwd -P && ls && cd .. && pwd
cd -P linkdir && pwd && cd .. && pwd && cd "$T"
cd empty-dir && touch here && cd .. && ls empty-dir
mkdir -p n/e/w && cd n/e/w && pwd -P && cd ../../.. && pwd
cd src && mv ../src ../moved && pwd -P && ls ../moved | head -n 2 && touch born && ls ../moved/born
cd "$T" && mkdir gone && cd gone && rmdir ../gone && (ls . ; touch x 2>/dev/null || echo none)
cd "$T" || exit 1
(cd nowhere) 2>/dev/null || echo no; (cd README) 2>/dev/null || echo no
SCRIPT
$SHELL_UNDER_TEST "$OUT/s"
rm "$OUT/s"
BODY

  like_plain "$shell: globs, tests, here-documents, redirections" <<'BODY'
cat >"$OUT/s" <<'SCRIPT'
echo * ; echo src/u?.c; echo */; echo .*; echo many/1[0-3]*.txt; echo a*; echo no*such
for f in README src link linkdir dangling fifo empty 'a name' nothing doc/locked bin/script; do
  for t in e f d h L p s r w x; do [ -$t "$f" ] && printf '%s%s ' -$t "$f"; done; echo
done
[ hard1 -ef hard2 ] && echo linked
[ README -nt src ] || echo not newer
[ link -ef README ] && echo same
cat >README <<HERE
here $(wc -l <src/u1.c)
HERE
cat README; rm src/u2.c many/*; echo src/*; echo many/*
echo a >src/u1.c; echo b >>src/u1.c; cat <src/u1.c; { echo 3; } 3>src/u3.c; wc -c <src/u3.c
exec 5>src/u5.c; echo five >&5; exec 5>&-; cat src/u5.c; : >empty; read -r l <src/u1.c; echo "$l"
. ./bin/script
./bin/script
PATH=$PWD/bin:$PATH
script
(cd bin; ./script)
umask 077
echo s >secret
ls -l secret | cut -c1-10
SCRIPT
$SHELL_UNDER_TEST "$OUT/s"
rm "$OUT/s"
BODY
done

like_plain "sed -i, with backup, on links and many files" <<'BODY'
sed -i 's/first/FIRST/' README; cat README
sed -i.bak 's/unit/UNIT/' src/u1.c src/u2.c; cat src/u1.c src/u1.c.bak
sed -i --follow-symlinks 's/second/SECOND/' link; cat link README; ls -l link | cut -c1
sed -i 1d many/*.txt; cat many/*.txt | wc -l
sed -n 'w src/out' README; cat src/out
BODY

like_plain "awk, grep, xargs, ed-like rewriting" <<'BODY'
awk '{ print > ("many/" NR ".txt") }' README; cat many/1.txt many/2.txt
grep -rl return src | sort; grep -c line README; grep -r --include='*.c' unit . | sort | head -n 3
ls src/*.c | xargs -n 3 -P 2 sed -i s/return/RETURN/; cat src/*.c | grep -c RETURN
printf '%s\0' many/*.txt | xargs -0 rm; ls many
BODY

like_plain "make: timestamps, parallel jobs, include, .INTERMEDIATE, touch" <<'BODY'
cat >Makefile <<'MAKE'
objects := $(patsubst %.c,%.o,$(wildcard src/*.c))
all: lib.a
lib.a: $(objects) ; rm -f $@ && cat $^ >$@
%.o: %.c ; @sed s/unit/object/ $< >$@
clean: ; rm -f $(objects) lib.a
-include extra.mk
.PHONY: all clean
MAKE
# How many seconds ahead a time is, depends on when one looks.
make() { command make "$@" 2>&1 | sed 's/modification time .* s in the future/a time in the future/'; }
make -j2 -s; make -q && echo 'up to date'
touch -d 2029-01-01 src/u3.c
make -j1 -n
make -s
echo 'all: more' >extra.mk
echo 'more: ; @echo more' >>extra.mk
make -s
make -s clean
ls src
touch -d 2019-01-01 src/u1.c; make -s -j2; touch -d 2030-01-01 README; make -q || true
BODY

like_plain "#! scripts: in the overlay, through links, with arguments, replaced" <<'BODY'
printf '#!/bin/sh -eu\necho "$0 $*"\n' >bin/two; chmod +x bin/two; bin/two a b
ln -s ../bin/two src/three; src/three c; (cd src; ./three d; ../bin/script)
printf '#!%s/bin/interpreter\nbody\n' "$T" >bin/four; chmod +x bin/four
cp "$(command -v cat)" bin/interpreter; bin/four
env -i PATH="$T/bin:$PATH" script
sh -c 'exec bin/script'
chmod -x bin/script
bin/script || echo "status $?"
nosuch 2>/dev/null || echo "status $?"; ./src 2>/dev/null || echo "status $?"
BODY

like_plain "a program copied into the overlay runs there, and its text is busy" <<'BODY'

mkfifo "$OUT/f"
cp "$(command -v cat)" bin/kitten
bin/kitten "$OUT/f" >"$OUT/said" & pid=$!
exec 3>"$OUT/f"
readlink "/proc/$pid/exe" | grep -c "^$T/bin/kitten$" || true
(echo x >bin/kitten) 2>"$OUT/e" || sed 's/.*: //' "$OUT/e"
echo said >&3; exec 3>&-; wait "$pid"; cat "$OUT/said"; rm "$OUT"/*
BODY

like_plain "what /proc says: cwd, fd, exe and maps name the target" <<'BODY'
cd src
readlink /proc/self/cwd
exec 3<u1.c
readlink /proc/self/fd/3
echo x >>u1.c
readlink /proc/self/fd/3
exec 4>>u2.c; readlink /proc/self/fd/4; cat /proc/self/fd/3 | wc -l; ls /proc/self/fd | wc -l
realpath /proc/self/cwd; stat -L -c %n:%s /proc/self/fd/4
BODY

like_plain "environment dropped by env -i: children stay inside" <<'BODY'
env -i PATH="$PATH" sh -c 'echo inside >>README'
env -i PATH="$PATH" T="$T" "$PYTHON" -c 'import os; open("README","a").write("python\n"); os.execve("/bin/sh", ["sh", "-c", "echo exec >>README"], {})'
tail -n 3 README
BODY

like_plain "background jobs, pipes, subshells and traps writing to one file" <<'BODY'
for i in 1 2 3 4 5 6 7 8; do (for j in 1 2 3 4 5; do echo "$i $j" >>src/u1.c; done) & done; wait
sort -o src/u1.c src/u1.c
wc -l <src/u1.c
trap 'echo bye >>README' EXIT
seq 100 | tee src/u2.c | tail -n 1
BODY

like_plain "long names and deep paths" <<'BODY'
n=$(printf 'n%.0s' {1..255})
echo long >"$n"
cat "$n"
mv "$n" "src/$n"
rm "src/$n"
touch "x$n" 2>/dev/null || echo 'too long'
for i in {1..18}; do mkdir -p "d$n" 2>/dev/null || mkdir "${n:0:200}"; cd "${n:0:200}"; done; echo deep >f; cat f; pwd -P | wc -c
cd "$T"; find . -name f -type f | wc -c; rm -rf "${n:0:200}"
touch $'new\nline' $'tab\there' 'ünï' -- '-dash'; ls -b; rm -- $'new\nline' -dash
BODY

like_plain "paths longer than PATH_MAX" <<'BODY'
n=$(printf 'n%.0s' {1..200})
for i in {1..30}; do mkdir "$n"; cd "$n"; done; echo deep >f; cat f; pwd -P | wc -c
cd "$T"; find . -name f -type f | wc -c; rm -rf "$n"
BODY

like_plain "sqlite3: a lower database, journal and WAL, two connections" <<'BODY'
db() { "$PYTHON" - "$@" <<'PY'
import sqlite3, sys
c = sqlite3.connect(sys.argv[1], timeout=20, isolation_level=None)
for statement in sys.argv[2:]:
    print(statement, c.execute(statement).fetchall())
PY
}
db t.db 'create table if not exists t(x)' 'insert into t values(1)' 'pragma journal_mode=wal' 'insert into t values(2)'
for i in {1..6}; do db t.db "insert into t values(10)" >/dev/null & done; wait
db t.db 'select count(*) from t' 'pragma integrity_check' 'pragma journal_mode=delete' 'vacuum' 'select sum(x) from t'
rm t.db
BODY
