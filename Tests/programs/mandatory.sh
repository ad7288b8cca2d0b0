# Mandatory locks (option mand), which no kernel has any more: what fs/locks.c of Linux 5.14 answers, written down
# (lib/mandatory.expected), on files that begin on a lower. Without the option: what a plain file answers.
. "$HERE/lib/harness.bash"
needs_overlock "mandatory locks" || exit 0
make_fixture
needs_program "mandatory locks" gcc || exit 0
gcc -O1 -Wall -pthread "$HERE/lib/mandatory.c" -o "$AUX/mandatory"
for i in 1 2 3; do
  seq 1 100 >"$FIXTURE/marked$i"
  chmod 2664 "$FIXTURE/marked$i"
done

ignoring=marked like_plain "without the option a mark has no meaning" <<'BODY'
"$AUX/mandatory" marked1 never
BODY

mandatory() { # NAME BODY: in an overlay with the option
  place
  OVERLAYS=("${OVERLAYS[0]},mand")
  UNTOUCHED=("$T")
  says "$1" "$(cat "$HERE/lib/mandatory.expected")" <<<"$2"
}
mandatory "a lock keeps others from reading, writing, truncating, mapping" '"$AUX/mandatory" marked1'
mandatory "so it does for a descriptor from before the copy-up" '"$AUX/mandatory" marked2 early'
mandatory "and for a file that was copied up before" 'echo 1 >>marked3; "$AUX/mandatory" marked3'

[[ -x $CLI ]] || { skip "real programs wait, and go on" "no $CLI"; exit 0; }
export CLI REGISTRY
place
OVERLAYS=("${OVERLAYS[0]},mand")
says "real programs wait, and go on" $'waits\nwritten' <<'BODY'
mkfifo "$AUX/go" "$AUX/held"
perl -MFcntl -e '
  open my $f, "+<", "marked1" or die; my $l = pack("s s x4 q q i x4", F_WRLCK, 0, 0, 0, 0);
  fcntl($f, F_SETLK, $l) or die;
  open my $h, ">", "$ENV{AUX}/held"; close $h; open my $g, "<", "$ENV{AUX}/go"; <$g>' &
read -r <"$AUX/held" || true
sh -c 'echo written >>marked1; tail -n 1 marked1' &
writer=$!
# It has no lock: it is in the table as one who waits.
until env -u LD_PRELOAD -u OVERLOCK "$CLI" locks --json --registry "$REGISTRY" | grep -qw "$writer"; do :; done
echo waits
echo >"$AUX/go"
wait
BODY
rm -f "$AUX/go" "$AUX/held"
