# What Overlock does not do yet. A check that needs it says so, and is skipped with the reason in the
# world of Overlock; when it is built, its line goes, and every check that waits for it runs again.
# `run.sh --unbuilt` runs them all the same.
declare -A NOT_BUILT=(
  [watched-directories]='watches on directories that see every layer'
  [shared-links]='hard-link counts of an upper that kernel overlayfs and Overlock use in turn'
)

# built NAME CAPABILITY…: whether the check NAME can run; prints the skip line if not.
built() {
  local name=$1 capability
  shift
  for capability; do
    if ! has "$capability"; then
      skip "$name" "needs ${NOT_BUILT[$capability]}: not built"
      return 1
    fi
  done
}
# has CAPABILITY: the same without a word, for a check of which only a part needs it.
has() { [[ $WORLD != overlock || $UNBUILT || ! ${NOT_BUILT[$1]:-} ]]; }
