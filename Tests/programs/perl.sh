# perl: its own directory, file-test and copying modules.
. "$HERE/lib/harness.bash"
needs_program "perl" perl || exit 0
make_fixture

like_plain "perl: File::Find, opendir, file tests" <<'BODY'
perl -MFile::Find -we 'use strict;
  my @n;
  find({wanted => sub { push @n, $File::Find::name }, no_chdir => 0}, ".");
  print join("\n", sort @n), "\n";
  my @d; finddepth(sub { push @d, $File::Find::dir }, "src"); print scalar(@d), "\n";'
perl -we 'opendir my $d, "many" or die;
  my $p = telldir $d;
  my @a = readdir $d;
  seekdir $d, $p;
  my @b = readdir $d;
  rewinddir $d;
  my @c = readdir $d;
  print scalar(@a), " ", "@a" eq "@b" ? "same" : "differ", " ", "@a" eq "@c" ? "same" : "differ", "\n";
  print join(" ", map { -l $_ ? "l" : -d $_ ? "d" : -p $_ ? "p" : -f $_ ? "f" . -s $_ : "?" } sort glob("*")), "\n"'
BODY

like_plain "perl: File::Copy, rename, unlink, link, utime, in-place edit" <<'BODY'
perl -MFile::Copy -we 'copy("README", "copy") or die;
  move("src/u1.c", "doc/u1.c") or die;
  move("many", "lots") or die "$!";
  rename "lots", "many" or die "$!";
  unlink "src/u2.c" or die;
  link "README", "hard" or die;
  symlink "README", "soft" or die;
  utime 1e9, 1e9, "src/u3.c" or die;
  chmod 0600, "src/u4.c" or die;
  mkdir "made" or die;
  rmdir "made" or die;
  print join(" ", (stat "src/u3.c")[7, 9]), " ", (stat "README")[3], "\n";
  print -e "src/u2.c" ? "there" : "gone", "\n";
  print readlink("soft"), "\n"'
perl -i.orig -pe 's/line/LINE/' README
cat README README.orig
perl -i -ne 'print if /return/' src/u5.c src/u6.c
cat src/u5.c
BODY

like_plain "perl: File::Path, File::Temp, Cwd, File::Spec" <<'BODY'
perl -MFile::Path=make_path,remove_tree -MFile::Temp=tempfile,tempdir -MCwd=getcwd,abs_path -we 'make_path("a/b/c", "src/x/y");
  remove_tree("src", {keep_root => 1});
  my ($h, $n) = tempfile(DIR => ".", UNLINK => 1);
  print $h "x";
  close $h;
  print -s $n, "\n";
  my $d = tempdir(DIR => "many", CLEANUP => 1);
  print -d $d ? "dir\n" : "none\n";
  print getcwd(), " ", abs_path("linkdir/../doc") // "undef", " ", abs_path("link"), "\n";
  chdir "a/b";
  print getcwd(), "\n"'
BODY

like_plain "perl: open modes, seek, truncate, sysopen, pipes" <<'BODY'
perl -MFcntl=:DEFAULT,:seek -we 'open my $w, "+<", "README" or die;
  seek $w, 0, SEEK_END;
  print $w "fourth\n";
  close $w;
  open my $r, "<", "README" or die;
  print scalar(<$r>), <$r>;
  sysopen my $s, "src/new", O_CREAT | O_EXCL | O_WRONLY or die;
  print sysopen(my $t, "src/u2.c", O_CREAT | O_EXCL | O_WRONLY) ? "wrong" : "$!", "\n";
  truncate "src/u3.c", 4;
  print -s "src/u3.c", "\n";
  open my $pipe, "-|", "cat", "README" or die;
  print scalar(my @x = <$pipe>), "\n";
  print `cat src/u4.c`'
BODY

like_plain "perl: a handle for reading sees what another handle appends" <<'BODY'
perl -MFcntl=:seek -we 'open my $r, "<", "README" or die;
  my $l = <$r>;
  open my $w, "+<", "README" or die;
  seek $w, 0, SEEK_END;
  print $w "fourth\n";
  close $w;
  print $l, <$r>'
BODY

needing=locks like_plain "perl: flock across fork and copy-up" <<'BODY'
perl -MFcntl=:flock -we 'open my $k, "<", "src/u1.c";
  flock $k, LOCK_EX or die;
  my $p = fork // die;
  if (!$p) { open my $o, ">>", "src/u1.c" or die;
  print flock($o, LOCK_EX | LOCK_NB) ? "wrong\n" : "excluded\n";
  exit 0 } waitpid $p, 0'
BODY
