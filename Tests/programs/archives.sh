# Archivers and copiers: they look at everything a tree has (inode numbers, link counts, times to the
# nanosecond, holes, modes) and so notice first where a union is not a directory.
. "$HERE/lib/harness.bash"
make_fixture

mkdir -p "$AUX/incoming/src/deep" "$AUX/incoming/fresh"
echo 'from outside' | tee "$AUX/incoming/README" "$AUX/incoming/src/u3.c" "$AUX/incoming/fresh/new" >/dev/null
ln -sf ../elsewhere "$AUX/incoming/src/deep/link"
find "$AUX/incoming" -exec touch -h -d '2019-01-01 01:01:01.5' {} +
tar -C "$AUX/incoming" --sort=name -cf "$AUX/incoming.tar" .

like_plain "tar c reads a lower tree bit for bit" <<'BODY'
tar --sort=name -c . | sha256sum
tar --sort=name --sparse -c big | sha256sum
BODY

like_plain "tar x over lower files" <<'BODY'
tar xf "$AUX/incoming.tar"
cat README src/u3.c fresh/new
readlink src/deep/link
BODY

like_plain "tar x replaces a directory link and keeps old files" <<'BODY'
mkdir staging && tar c src | tar x -C staging
tar xf "$AUX/incoming.tar" --keep-newer-files 2>&1 | sort
tar xf "$AUX/incoming.tar" --unlink-first || true # refuses src/deep: not empty
tar xf "$AUX/incoming.tar" --overwrite
diff -r staging/src src || true
BODY

like_plain "tar --listed-incremental sees only what changed" <<'BODY'
tar --listed-incremental="$OUT/snapshot" -cf /dev/null .
echo more >>src/u1.c && touch -d 2030-01-01 src/u1.c # clocks are coarse
rm -r many
touch -d 2020-02-03 README
tar --listed-incremental="$OUT/snapshot" -c . | tar t
rm "$OUT/snapshot"
BODY

like_plain "rsync -aH in" <<'BODY'
rsync -aHi "$AUX/incoming/" ./
rsync -aHi "$AUX/incoming/" ./ | wc -l
BODY

like_plain "rsync -aHS out" <<'BODY'
rsync -aHS ./ "$OUT/"
rsync -aHSic --delete ./ "$OUT/" | wc -l
rm -r many && echo x >>README
rsync -aHSi --delete ./ "$OUT/" | grep -v '^\*deleting  *many/[0-9]'
BODY

like_plain "rsync -a between directories of the overlay, with --delete" <<'BODY'
rsync -a src/ copy/
rm copy/u1.c && echo changed >copy/u2.c
rsync -ai --delete --checksum copy/ src/
BODY

like_plain "cp -a inside, out of and into the overlay" <<'BODY'
cp -a src src2
cp -a . "$OUT/whole"
cp -a "$AUX/incoming/." .
cp -al many linked
stat -c '%h %n' linked/1.txt many/1.txt hard1
diff -r src2 "$OUT/whole/src"
BODY

like_plain "cp with every overwrite mode" <<'BODY'
cp README src/u1.c
cp -f README doc/locked
cp --remove-destination README link
cp --backup=numbered README src/u2.c
cp -u README src/u4.c
cp --reflink=auto --sparse=always big big2
cp --attributes-only --preserve=all README src/u5.c
ls -A src
BODY

like_plain "mv of files and of lower directories keeps inode numbers" <<'BODY'
f=$(stat -c %i README) d=$(stat -c %i src) e=$(stat -c %i src/deep/er/file)
mv README src/
mv src source
mv source/deep .
[[ $f == "$(stat -c %i source/README)" && $d == "$(stat -c %i source)" && $e == "$(stat -c %i deep/er/file)" ]] && echo same
mv -T many empty-dir
mv "$AUX/incoming.tar" "$OUT/x.tar" && mv "$OUT/x.tar" inside.tar && mv inside.tar "$AUX/incoming.tar"
mv doc "$OUT/doc"
mv bin/script bin/.hidden
ls -A . bin source
BODY

like_plain "mv of a lower directory is a rename, not a copy" <<'BODY'
# mv falls back to copying on EXDEV; rename(2) itself must do.
"$PYTHON" -c '
import os
os.rename("src", "src2"); os.rename("src2/deep", "deep"); os.rename("deep/er/file", "src2/file")
os.rename("src2", "src")
try: os.rename("many", "src")
except OSError as e: print(e.strerror)
try: os.rename("src", "src/inner")
except OSError as e: print(e.strerror)
try: os.rename("README", "src")
except OSError as e: print(e.strerror)
os.rename("hard1", "hard2"); print(os.path.exists("hard1"))
'
BODY

like_plain "find by age, size, emptiness, link count and inode" <<'BODY'
touch -d '2020-02-03 04:05:06.2' src/u7.c
find . -newer README | sort
find . -size +100k | sort
find . -empty | sort
find . -links 2 -type f | sort
find . -samefile hard1 | sort
find -L . -samefile README 2>/dev/null | sort
find . -inum "$(stat -c %i src/u3.c)"
find . -xtype l | sort
find src -type f -execdir basename {} \; | sort
BODY

like_plain "find -delete" <<'BODY'
find many -name '1*' -delete
find src -type d -empty -print
find src/deep -delete
find . -name '*.c' -newermt 2020-01-01 -delete
ls src many | head -n 30
BODY

like_plain "rm -rf of a lower tree, and one of the same name again" <<'BODY'
rm -rf src many
mkdir src
ls -A src
echo new >src/u1.c
mkdir -p src/deep/er
ls -AR src
rm -r src
[[ ! -e src ]]
echo 'now a file' >src
rm src && ln -s doc src && ls src/
rm src && mkdir src && rmdir src
BODY

like_plain "rm -rf of everything" <<'BODY'
rm -rf "${T:?}"/*
ls -A
mkdir -p a/b/c && echo x >a/b/c/d
BODY

like_plain "rm refuses what it must" <<'BODY'
rmdir src || true
rm src || true
rm nothing || true
rm -f nothing
rmdir README || true
mkdir README || true
mkdir src || true
ln README link || true
BODY

like_plain "du counts bytes, inodes and links" <<'BODY'
du -sb . src
du -s --inodes . many
echo grow >>hard1
du -sb --inodes hard1 hard2 || true
du -ab src | sort -k 2
BODY

like_plain "diff -r, cmp and sha256sum -c" <<'BODY'
cp -a src src2
diff -r src src2
echo more >>src2/u3.c && rm src2/u4.c
diff -r src src2 || true
sha256sum src/*.c >sums && sha256sum -c --quiet sums
sed -i s/unit/UNIT/ src/u9.c
sha256sum -c --quiet sums 2>&1 || true
BODY

like_plain "compress in place: gzip, xz, zip" <<'BODY'
gzip -n README && zcat README.gz | head -n 1 && gunzip README.gz
gzip -n -r src && ls src && gunzip -r src
if command -v xz >/dev/null; then xz many/1.txt && unxz many/1.txt.xz; fi
if command -v zip >/dev/null; then
  zip -qrX -y "$OUT/z.zip" src && rm -r src && unzip -q "$OUT/z.zip" && ls src && rm "$OUT/z.zip"
  find src -exec touch -h -d 2020-02-03 {} +
fi
BODY

like_plain "tree copies through pipes: tar | tar, find | cpio-like" <<'BODY'
mkdir copy
(cd src && find . -depth -print0 | tar --null --no-recursion -T - -c) | tar x -C copy
diff -r src copy && echo same
BODY
