#!/usr/bin/env bash
# Runs real programs inside an overlay and compares what they print, how they end and what they
# leave behind with a plain directory, and checks that the lower layers stay untouched.
#
#   run.sh [--library PATH] [--world overlock|kernel|plain] [--only SUBJECT] [--quick] [--unbuilt]
#          [--keep]
#
# --world kernel   the same checks on a kernel overlayfs mount (in a mount namespace of its own):
#                  what the kernel's union gets right and wrong
# --world plain    a plain directory instead of the overlay: are the checks themselves repeatable?
# --quick          leaves the slowest builds out
# --unbuilt        runs the checks of what is not built yet (lib/built.bash) instead of skipping them
# --keep           keeps the scratch directory and prints its name
# Environment: OVERLOCK_BUILD (directory of liboverlock.so and overlock), OVERLOCK_SOURCES
# (directory of already fetched source packages), TMPDIR.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
build=${OVERLOCK_BUILD:-$here/../../.build/release}
library=
world=overlock
only=
keep=
quick=
unbuilt=
while (($#)); do
  case $1 in
    --library) library=${2:?--library wants a path} && shift 2 ;;
    --world) world=${2:?--world wants a name} && shift 2 ;;
    --only) only=${2:?--only wants a subject} && shift 2 ;;
    --quick) quick=1 && shift ;;
    --unbuilt) unbuilt=1 && shift ;;
    --keep) keep=1 && shift ;;
    *) echo "run.sh: unknown argument $1" >&2 && exit 2 ;;
  esac
done

subjects=(
  archives files git processes
  locks whose-locks segments lock-table lock-users leases mandatory mappings reads
  watches watchers polled watch-table check
  proc
  shell perl node python
  layers user untouched edges command-line
  library loader
  bad-input builds
)
if [[ $only ]]; then
  [[ -f $here/$only.sh && $only != run ]] ||
    { echo "run.sh: no subject $only; there are: ${subjects[*]}" >&2; exit 2; }
  subjects=("$only")
fi

case $world in
  overlock)
    library=$(realpath -- "${library:-$build/liboverlock.so}")
    if [[ ! -f $library ]]; then
      echo "run.sh: $library is missing; build first, or say --library or OVERLOCK_BUILD" >&2
      exit 2
    fi
    ;;
  kernel)
    unshare -m true 2>/dev/null || { echo "run.sh: --world kernel needs root (unshare -m)" >&2; exit 2; }
    ;;
  plain) ;;
  *) echo "run.sh: no world $world" >&2 && exit 2 ;;
esac

# /proc shows resolved paths, so the scratch directory has to be one.
SCRATCH=$(realpath "$(mktemp -d "${TMPDIR:-/tmp}/overlock-programs.XXXXXX")")
REGISTRY=$(mktemp -d /dev/shm/overlock-programs.XXXXXX)
finish() {
  cd /
  rm -rf "$REGISTRY"
  if [[ $keep ]]; then
    echo "scratch kept: $SCRATCH"
  else
    chmod -R u+w "$SCRATCH" 2>/dev/null || true
    rm -rf "$SCRATCH"
  fi
}
trap finish EXIT

export SCRATCH REGISTRY HERE=$here
export WORLD=$world QUICK=$quick UNBUILT=$unbuilt LIBRARY=$library
# `swift build` calls the command overlock-cli, `make build` adds the name overlock.
for CLI in {"$(dirname "${library:-$build/x}")","$build"}/overlock{,-cli}; do
  [[ ! -f $CLI || ! -x $CLI ]] || break
done
CLI=$(realpath -m -- "$CLI")
export CLI
export RESULTS=$SCRATCH/results
: >"$RESULTS"

# Nothing of the caller's may change what the programs print.
export LC_ALL=C TZ=UTC HOME=$SCRATCH/home
mkdir -p "$HOME"
cd "$SCRATCH"
umask 022
unset OVERLOCK LD_PRELOAD CDPATH

for subject in "${subjects[@]}"; do
  status=0
  bash -euo pipefail "$here/$subject.sh" || status=$?
  if ((status != 0)); then
    echo "FAIL $subject: the subject stopped early (status $status)" | tee -a "$RESULTS"
  fi
done

count() { grep -c "^$1 " "$RESULTS" || true; }
failed=$(count FAIL)
echo "$(count ok) passed, $failed failed, $(count skip) skipped"
((failed == 0))
