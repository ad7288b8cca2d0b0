# git on a repository that begins on the lower: locks by O_EXCL and rename, an index full of inode
# numbers and times, memory-mapped packs, hard links in local clones.
. "$HERE/lib/harness.bash"
needs_program "git" git || exit 0

export GIT_CONFIG_GLOBAL=$SCRATCH/gitconfig GIT_CONFIG_NOSYSTEM=1
export GIT_AUTHOR_DATE='2020-02-03T04:05:06Z' GIT_COMMITTER_DATE='2020-02-03T04:05:06Z'
# One thread and no background work: the packs, and so the trees, compare byte for byte.
cat >"$GIT_CONFIG_GLOBAL" <<CONFIG
[user]
	name = Tester
	email = tester@example.org
[init]
	defaultBranch = main
[pack]
	threads = 1
[gc]
	auto = 0
	autoDetach = false
[safe]
	directory = *
[protocol "file"]
	allow = always
[advice]
	detachedHead = false
CONFIG

rm -rf "$FIXTURE" && mkdir "$FIXTURE"
(
  cd "$FIXTURE"
  git init -q
  mkdir -p src/inner doc
  for i in {1..30}; do printf 'file %d\nline\n' "$i" >"src/f$i.txt"; done
  ln -s src/f1.txt link
  printf '#!/bin/sh\necho run\n' >run && chmod +x run
  printf '*.o\n' >.gitignore
  echo inner >src/inner/deep
  git add . && git commit -qm one
  git checkout -qb side
  git mv src/f2.txt doc/moved.txt && git rm -q src/f3.txt && echo side >>src/f4.txt
  git commit -qam side
  git checkout -q main
  echo main >>src/f5.txt && git commit -qam two
  git gc -q
  echo loose >>src/f6.txt && git commit -qam three
  touch junk.o
  find . -exec touch -h -d '2020-02-03 04:05:06' {} +
)
# The index holds inode numbers and change times, and git freshens the time of an object at will.
# What the objects hold is compared by the commits' hashes and by fsck.
ignoring='[.]git/objects/|[.]git/(worktrees/[^/]*/)?index |[.]git/.*/(index|gc.log)|/index$|bitmap'

like_plain "git status of an untouched lower repository is clean" <<'BODY'
git status --porcelain=v2 --branch
git log --format='%H %s' --all
git diff --stat
git ls-files -s | sha256sum
BODY

like_plain "git index stays fresh in the next process, copy-up or not" <<'BODY'
git status >/dev/null
git diff-files --name-only
chmod 600 src/f7.txt # copies up without a change that git knows
git status --porcelain
git diff-files --name-only
git status --porcelain
BODY

like_plain "git commit, amend, tag" <<'BODY'
echo new >src/new.txt && echo changed >>src/f1.txt && git add -A
git commit -qm 'in the overlay' && git commit -q --amend -m 'in the overlay, amended'
git tag -a v1 -m v1
git log --format=%H -n 3; git status --porcelain; git describe
BODY

like_plain "git checkout between branches, and back" <<'BODY'
git checkout -q side; ls . src doc; git status --porcelain
git checkout -q main; ls . src; git status --porcelain
git checkout -q HEAD~2; git status --porcelain; git switch -q -
git checkout side -- doc; git status --porcelain
BODY

like_plain "git merge, rebase, cherry-pick, revert, stash" <<'BODY'
git checkout -q -b work side
git merge -q main -m merged; git log --format=%H -n 1
git checkout -q -b other side~0 && git rebase -q main && git log --format=%H -n 2
echo wip >>src/f9.txt; git stash -q; git status --porcelain; git stash pop -q; git checkout -q .
git cherry-pick main >/dev/null 2>&1 || git cherry-pick --skip
git revert --no-edit HEAD >/dev/null
git log --format=%H -n 1
git status --porcelain
BODY

like_plain "git merge conflict, and its resolution" <<'BODY'
git checkout -q -b clash side && echo clash >>src/f5.txt && git commit -qam clash
git merge main || true
git status --porcelain; cat src/f5.txt
git checkout --theirs src/f5.txt && git add -A && git commit -qm resolved && git log --format=%T -n 1
BODY

like_plain "git clone: local with hard links, bare, shared" <<'BODY'
git clone -q . "$OUT/c1" && git -C "$OUT/c1" status --porcelain
git clone -q . inner && git -C inner log --format=%H -n 1
git clone -q --bare . bare.git && git -C bare.git fsck
git clone -q --no-hardlinks "$OUT/c1" inner2 && (cd inner2 && echo x >x && git add x && git commit -qm x && git push -q origin HEAD:pushed)
git -C "$OUT/c1" log --format=%H -n 1 pushed
git fetch -q "$OUT/c1" pushed:pushed && git log --format=%H -n 1 pushed
rm -rf "$OUT/c1" inner inner2 bare.git
BODY

like_plain "git gc, repack, prune, fsck" <<'BODY'
echo x >x && git add x && git commit -qm x && git reset -q --hard HEAD~
git gc -q --prune=now && git fsck --full --strict 2>&1
git repack -adfq && git count-objects -v | grep -v size
git reflog expire --expire=now --all && git prune && git fsck --full
git pack-refs --all
git branch
BODY

like_plain "git worktree, mv, rm, clean" <<'BODY'
git worktree add -q tree side && ls tree && git -C tree status --porcelain && git worktree remove tree
git mv src source && git status --porcelain | wc -l && git commit -qm renamed
git rm -qr source/inner && git clean -ndX && git clean -qfdX && ls -A . source | head -n 20
git reset -q --hard HEAD~ && ls src | wc -l; git status --porcelain
BODY

like_plain "git diff, format-patch, apply, am, archive, bundle" <<'BODY'
git format-patch -q -1 side -o patches && git apply --check patches/* && git am -q patches/* && git log --format=%T -n 1
git archive HEAD | sha256sum; git bundle create -q b main && git bundle verify -q b; rm b
git diff HEAD~2 --stat; git grep -n main; git blame -s src/f5.txt
BODY
