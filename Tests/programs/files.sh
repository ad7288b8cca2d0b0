# coreutils and friends on single files: what they change, and what a descriptor shows that was open
# before the change.
. "$HERE/lib/harness.bash"
make_fixture
# Set through the write permission that the owner has for a moment.
(cd "$FIXTURE/doc" && chmod 644 locked && "$PYTHON" -c '
import os
os.setxattr("locked", "user.from", b"below"); os.setxattr(".", "user.from", b"dir")' && chmod 444 locked)

like_plain "one device, and inode numbers that survive copy-up" <<'BODY'
find . -printf '%D\n' | sort -u | wc -l
[[ $(stat -c %d .) == "$(stat -c %d src/u1.c)" ]] && echo 'one device'
i=$(stat -c %i src/u1.c) && echo x >>src/u1.c
[[ $i == "$(stat -c %i src/u1.c)" ]] && echo 'same inode'
[[ $i == "$(ls -i src/u1.c | cut -d' ' -f1)" ]] && echo 'ls agrees'
[[ $i == "$(cd src && ls -iU | awk '$2 == "u1.c" { print $1 }')" ]] && echo 'readdir agrees'
find . -printf '%i\n' | sort | uniq -d | wc -l
d=$(stat -c %i src) && touch src/new && [[ $d == "$(stat -c %i src)" ]] && echo 'same directory'
BODY

like_plain "ls -lR of an unchanged tree, and of a changed one" <<'BODY'
ls -lR --time-style=full-iso | sed '/^d/s/ [0-9]* / N /' | grep -v '^total' | sed -E 's/^(d.*root +root +)[0-9]+/\1/'
rm many/[1-9]*.txt; rm -f README; ls -lA many | head -n 3; ls
BODY

like_plain "a descriptor opened before copy-up sees what is appended later" <<'BODY'
exec 3<README
IFS= read -r line <&3 && echo "$line"
echo 'fourth line' >>README
cat <&3
exec 3<&-
exec 4<src/u1.c
printf 'rewritten\n' >src/u1.c
stat -L -c %s /proc/self/fd/4 src/u1.c
cat <&4
BODY

like_plain "a descriptor of a file that is then removed keeps its data" <<'BODY'
exec 3<README
rm README
cat <&3
[[ ! -e README ]]
exec 4<>src/u1.c
rm src/u1.c; echo other >src/u1.c
cat <&4; cat src/u1.c
BODY

needing=watches like_plain "tail -f follows a lower file through copy-up" <<'BODY'
mkfifo "$OUT/lines"
tail -n 1 -f README >"$OUT/lines" & tail=$!
exec 3<"$OUT/lines"
IFS= read -r line <&3 && echo "$line"
echo appended >>README
IFS= read -r -t 20 line <&3 && echo "$line"
kill "$tail"; wait "$tail" 2>/dev/null || true
rm "$OUT/lines"
BODY

like_plain "redirections: > >> <> and noclobber" <<'BODY'
echo one >README; echo two >>README; cat README
printf X 1<>src/u1.c; head -n 1 src/u1.c
set -o noclobber; (echo no >src/u2.c) 2>/dev/null || echo refused; echo yes >|src/u2.c; cat src/u2.c
: >|big; stat -c %s big
BODY

like_plain "dd, truncate, fallocate, split, shred" <<'BODY'
dd if=/dev/zero of=big bs=1k count=4 seek=1025 conv=notrunc status=none; sha256sum big
dd if=README of=src/u1.c bs=7 skip=1 status=none; cat src/u1.c
truncate -s 5 README; truncate -s +3 README; od -c README
truncate -s 0 src/u2.c; stat -c %s src/u2.c
fallocate -l 100 src/u3.c; stat -c %s src/u3.c
split -b 300k big part. ; ls part.*; cat part.* | cmp - big; shred -u src/u4.c; ls src
BODY

like_plain "holes survive copy-up" <<'BODY'
echo tail >>big
"$PYTHON" -c '
import os
fd = os.open("big", os.O_RDONLY)
print(os.lseek(fd, 0, os.SEEK_DATA), os.lseek(fd, 0, os.SEEK_HOLE))'
BODY

like_plain "touch: now, given times, -r, -h, directories" <<'BODY'
touch -d '2011-11-11 11:11:11.111111111' README src link
touch -h -d '2012-12-12' link dangling
touch -r README src/u1.c
touch -m -d '2013-03-13' src/u2.c
touch -a -d '2013-03-14' src/u3.c
stat -c '%n %y' README src link src/u1.c src/u2.c src/u3.c dangling
stat -c '%n %x' src/u3.c README
[[ README -ot src/u4.c ]] && echo older
BODY

like_plain "chmod and chown of files, links and trees" <<'BODY'
chmod 600 README; chmod -R g+w src; chmod u+s bin/script; chmod 1777 empty-dir; chmod 2755 doc
chmod 0 src/u1.c; stat -c '%A %n' README src/u1.c bin/script empty-dir doc
chmod --reference=README src/u2.c
if [[ $(id -u) == 0 ]]; then chown -R 12:34 many; chown -h 5:6 link; chown 7 linkdir; chgrp 8 README; fi
stat -c '%u:%g %n' README many many/9.txt link src/deep
BODY

like_plain "extended attributes" <<'BODY'
"$PYTHON" -c '
import os
os.setxattr("README", "user.note", b"hello"); os.setxattr("src", "user.dir", b"d")
print(os.listxattr("README"), os.getxattr("README", "user.note"), os.listxattr("src"), os.listxattr("."))
os.setxattr("README", "user.note", b"again", os.XATTR_REPLACE); os.removexattr("src", "user.dir")
for call in (lambda: os.getxattr("src", "user.dir"), lambda: os.setxattr("README", "user.note", b"", os.XATTR_CREATE)):
    try: call()
    except OSError as e: print(e.strerror)
fd = os.open("src/u1.c", os.O_RDONLY)
os.setxattr(fd, "user.fd", b"1")
print(os.getxattr("src/u1.c", "user.fd"))
open("README", "a").write("x"); print(os.listxattr("README"))'
BODY

like_plain "extended attributes of a lower file come along in copy-up" <<'BODY'
"$PYTHON" -c '
import os
print(os.listxattr("doc/locked"))
os.chmod("doc/locked", 0o640)
print(os.listxattr("doc/locked"))
os.rename("doc", "docs")
print(os.listxattr("docs"))'
BODY

like_plain "ln, ln -s, ln -f, readlink -f, realpath" <<'BODY'
ln README r2; ln -f src/u1.c src/u2.c; ln -s ../README src/up; ln -sfn doc linkdir; ln -P link l2
stat -c '%h %F %n' README r2 src/u1.c src/u2.c l2
readlink link linkdir absolute src/up
readlink -f link absolute src/up
realpath linkdir src/up dangling
cat src/up absolute l2
BODY

like_plain "hard links on the lower stay together" <<'BODY'
echo more >>hard1; cat hard2
[[ $(stat -c %i hard1) == "$(stat -c %i hard2)" ]] && stat -c %h hard1 hard2
chmod 640 hard2; stat -c %a hard1
rm hard1; stat -c %h hard2; cat hard2
BODY

like_plain "hard links on the lower: removing one before any change" <<'BODY'
rm hard1; stat -c %h hard2; echo x >>hard2; cat hard2; ln hard2 hard1; stat -c %h hard1
BODY

like_plain "install, mktemp, mkfifo, mknod" <<'BODY'
install -m 700 README bin/tool
install -D -m 644 README a/b/c
install -d -m 711 made
install -b README src/u1.c
f=$(mktemp -p src tmp.XXXXXX); [[ -f $f && $(stat -c %a "$f") == 600 ]] && rm "$f"
d=$(mktemp -d -p .); rmdir "$d"
mkfifo src/pipe
(echo through >src/pipe) & cat src/pipe
wait
(echo lower fifo >fifo) & cat fifo
wait
ls -A bin a/b src | sort; stat -c '%a %n' bin/tool a/b/c made
BODY

like_plain "a fifo of the lower joins a process inside and one outside" <<'BODY'
# LD_PRELOAD= and unsharing are not portable between the worlds: both ends are inside, but one
# changes the fifo's mode (a copy-up) between the two opens.
(exec 3>fifo; echo met >&3) & writer=$!
chmod 600 fifo
cat fifo; wait "$writer"
BODY

like_plain "sort -o, sponge-like rewriting, tee, comm, join, uniq" <<'BODY'
sort -r -o README README; cat README
seq 20 -1 1 >src/u1.c; sort -n -S 1k -T . -o src/u1.c src/u1.c; head -n 3 src/u1.c
echo both | tee -a README src/u2.c >/dev/null; tail -n 1 README src/u2.c
comm <(sort README) <(sort src/u2.c); wc -l README many/1?.txt
BODY

like_plain "flock(1): exclusive against a second process, on a lower and on an upper file" <<'BODY'
exec 8<README
flock -n -x 8 && echo held
flock -n -x README -c 'echo wrong' || echo 'excluded'
flock -n -s README -c 'echo wrong' || echo 'shared excluded too'
exec 8<&-
flock -n -x README -c 'echo free again'
echo change >>README
exec 8<README
flock -n -s 8 && echo held
flock -n -x README -c 'echo wrong' || echo 'excluded'
flock -n -s README -c 'echo shared'
exec 8<&-
flock -n -x README -c 'echo free again'
BODY

needing=locks like_plain "flock(1): a lock taken before copy-up excludes after it" <<'BODY'
exec 8<README
flock -n -x 8 && echo held
flock -n -x README -c 'echo wrong' || echo 'excluded before'
echo change >>README
flock -n -x README -c 'echo wrong' || echo 'excluded after'
flock -n -s README -c 'echo wrong' || echo 'shared excluded too'
exec 8<&-
flock -n -x README -c 'echo free again'
flock -s src -c 'flock -n -x src -c "echo wrong" || echo "directory excluded"'
BODY

like_plain "patch: forward, reverse, rejects, new and removed files" <<'BODY'
cp -a src new; sed -i 's/return 3/return 33/' new/u3.c; rm new/u4.c; echo 'int z;' >new/z.c
diff -Nru src new >"$OUT/p" || true; rm -r new
sed -i '/^\(---\|+++\)/s/\t.*//' "$OUT/p"
patch -p0 <"$OUT/p"; cat src/u3.c; ls src
patch -R -p0 <"$OUT/p"; ls src
echo wrong >src/u3.c; patch -p0 <"$OUT/p" || true; ls src; rm "$OUT/p"
BODY

like_plain "ACLs" <<'BODY'
# An ACL is the xattr system.posix_acl_access; setfacl is not always there.
"$PYTHON" -c '
import os, struct
def acl(*entries): return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *e) for e in entries)
none = 0xffffffff
os.setxattr("README", "system.posix_acl_access", acl((1,6,none),(2,4,12345),(4,4,none),(16,4,none),(32,0,none)))
os.setxattr("src", "system.posix_acl_default", acl((1,7,none),(4,5,none),(32,0,none)))
open("README", "a").write("x"); print(oct(os.stat("README").st_mode), os.listxattr("README"))
open("src/born", "w").close(); print(oct(os.stat("src/born").st_mode))'
BODY

like_plain "df and stat -f answer for the target" <<'BODY'
df . >/dev/null && df README >/dev/null
[[ $(stat -f -c %T .) == "$(stat -f -c %T src/u1.c)" ]] && echo same
BODY

like_plain "two paths that lead nowhere: which of them the error is about" <<'BODY'
ln -s "$PWD" "$OUT/link"
"$PYTHON" "$HERE/lib/twonames.py" "$PWD" "$OUT/link"
BODY
