# Fetches source packages of the distribution without touching the machine's own apt configuration.
# Sets SOURCES to a directory of tarballs; OVERLOCK_SOURCES names one that is kept between runs.

SOURCES=${OVERLOCK_SOURCES:-$SCRATCH/sources}

# fetch_sources PACKAGE…: 0 when the upstream tarball of each is in $SOURCES. Why not is in $WHY.
fetch_sources() {
  local private=$SCRATCH/apt package missing=()
  mkdir -p "$SOURCES"
  for package; do
    [[ $(upstream_tarball "$package") ]] || missing+=("$package")
  done
  ((${#missing[@]})) || return 0
  command -v apt-get >/dev/null || { WHY="no apt-get to fetch ${missing[*]} with"; return 1; }

  mkdir -p "$private"/{lists/partial,cache/archives/partial,parts}
  cat >"$private/apt.conf" <<CONF
Dir::State::lists "$private/lists";
Dir::Cache "$private/cache";
Dir::Etc::sourcelist "$private/sources.list";
Dir::Etc::sourceparts "$private/parts";
APT::Sandbox::User "";
CONF
  # The machine's own mirrors, as source entries, in its order (where two offer a package, apt takes
  # the first); the key rings are its own as well.
  apt-get indextargets --format '$(SIGNED_BY)|$(REPO_URI) $(RELEASE) $(COMPONENT)' \
    'Identifier: Packages' 'Origin: Debian' 2>/dev/null |
    sed -E 's/^([^|$]+)\|/deb-src [signed-by=\1] /; s/^[^|]*\|/deb-src /' |
    awk '!seen[$0]++' >"$private/sources.list"
  [[ -s $private/sources.list ]] || { WHY='apt knows no Debian mirror'; return 1; }
  (
    cd "$SOURCES" && export APT_CONFIG=$private/apt.conf
    apt-get update -q && apt-get source -q --download-only "${missing[@]}"
  ) >"$SCRATCH/fetch.log" 2>&1 || { WHY="apt could not fetch: $(grep -m 1 '^E:' "$SCRATCH/fetch.log" || tail -n 1 "$SCRATCH/fetch.log")"; return 1; }
}

upstream_tarball() { # PACKAGE
  local candidates=("$SOURCES/$1"_*.orig.tar.*)
  [[ -e ${candidates[0]} ]] && echo "${candidates[0]}"
  return 0
}

# unpack_source PACKAGE DIRECTORY: the tree itself, as it left upstream.
unpack_source() {
  mkdir -p "$2"
  tar -C "$2" --strip-components=1 --no-same-owner -xf "$(upstream_tarball "$1")"
}
