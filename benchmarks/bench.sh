#!/usr/bin/env bash
# Overlock, the kernel's overlayfs and fuse-overlayfs against a plain directory: ratios of times taken
# in turns in one run, so that a machine that slows down slows everybody down.
#
#   bench.sh [--rounds N] [--quick] [--no-build] [--only OPERATION]…    times
#   bench.sh --syscalls [--only OPERATION]…     system calls and instructions per warm operation
#
# It prints, and asserts nothing. As root it measures the two mounted file systems too, in a mount
# namespace of its own. Environment: OVERLOCK_BUILD, OVERLOCK_SOURCES, TMPDIR (where the files lie).
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
arguments=("$@")
rounds=15 syscalls='' lua=1 scale=1
declare -A wanted=()
while (($#)); do
  case $1 in
    --rounds) rounds=${2:?--rounds wants a number} && shift 2 ;;
    --quick) rounds=5 scale=4 lua='' && shift ;;
    --no-build) lua='' && shift ;;
    --only) wanted[${2:?--only wants an operation}]=1 && shift 2 ;;
    --syscalls) syscalls=1 && shift ;;
    *) echo "bench.sh: unknown argument $1" >&2 && exit 2 ;;
  esac
done

# Mounts live and die with a namespace of our own.
if [[ ! ${BENCH_NAMESPACE-} ]] && unshare -m true 2>/dev/null; then
  BENCH_NAMESPACE=1 exec unshare -m "${BASH_SOURCE[0]}" "${arguments[@]}"
fi

library=$(realpath -m -- "${OVERLOCK_BUILD:-$here/../.build/release}/liboverlock.so")
SCRATCH=$(realpath "$(mktemp -d "${TMPDIR:-/tmp}/overlock-bench.XXXXXX")")
registry=$(mktemp -d /dev/shm/overlock-bench.XXXXXX)
finish() {
  cd /
  for mounted in kernel fuse; do
    mountpoint -q "$SCRATCH/$mounted" && umount "$SCRATCH/$mounted"
  done
  rm -rf "$SCRATCH" "$registry"
}
trap finish EXIT
export LC_ALL=C
unset OVERLOCK LD_PRELOAD

gcc -O2 -Wall -Wextra "$here/bench.c" -o "$SCRATCH/bench"

# One tree for each contender: what is read, and what is written or moved.
tree=$SCRATCH/native
mkdir -p "$tree"/{thousand,a/b/c/d/e}
head -c 8192 /dev/zero | tee "$tree/file" >"$tree/a/b/c/d/e/file"
for i in {1..1000}; do : >"$tree/thousand/entry-$i"; done
echo x | tee "$tree/written" >"$tree/moving"

if [[ $lua && ! $syscalls ]]; then
  # shellcheck source=../Tests/programs/lib/sources.bash
  . "$here/../Tests/programs/lib/sources.bash"
  if fetch_sources lua5.4; then
    unpack_source lua5.4 "$tree/lua"
  else
    echo "no build is measured: $WHY"
    lua=
  fi
fi

contenders=(native)
for name in overlock kernel fuse; do
  mkdir "$SCRATCH/$name" "$SCRATCH/$name"-{upper,work}
done
if [[ -f $library ]]; then
  contenders+=(overlock)
  cp -a "$tree/." "$SCRATCH/overlock"
else
  echo "no Overlock is measured: $library is missing"
fi
configuration="lowerdir=$SCRATCH/overlock,upperdir=$SCRATCH/overlock-upper,workdir=$SCRATCH/overlock-work,target=$SCRATCH/overlock,registry=$registry"
# callgrind is a static program that runs the one to be counted: it has to be let through.
[[ ! $syscalls ]] || configuration+=,unreached=allow
for name in kernel fuse; do
  options="lowerdir=$SCRATCH/$name-lower,upperdir=$SCRATCH/$name-upper,workdir=$SCRATCH/$name-work"
  case $name in
    kernel) mount_it=(mount -t overlay overlay -o "$options,redirect_dir=on" "$SCRATCH/kernel") ;;
    fuse) mount_it=(fuse-overlayfs -o "$options" "$SCRATCH/fuse") ;;
  esac
  cp -a "$tree" "$SCRATCH/$name-lower"
  if [[ ${BENCH_NAMESPACE-} ]] && "${mount_it[@]}" 2>"$SCRATCH/why"; then
    contenders+=("$name")
  else
    echo "no $name overlay is measured: $(head -n 1 "$SCRATCH/why" 2>/dev/null || echo 'needs root')"
  fi
done

# Runs a command in a contender's tree. `instead` may hold a program that runs it (strace,
# valgrind), which itself stays outside the overlay.
instead=()
within() { # CONTENDER COMMAND…
  local name=$1
  shift
  cd "$SCRATCH/$name"
  if [[ $name == overlock ]]; then
    "${instead[@]}" env "OVERLOCK=$configuration" "LD_PRELOAD=$library" "$@"
  elif [[ $name == empty ]]; then
    "${instead[@]}" env "LD_PRELOAD=$SCRATCH/empty.so" "$@"
  else
    "${instead[@]}" "$@"
  fi
  cd "$SCRATCH"
}

# What is measured as being on the upper is put there first.
for name in "${contenders[@]}"; do
  within "$name" sh -c 'echo y >>written; echo y >>moving'
done

operations=(open+close open+close-deep stat lstat-missing access pread-4k readdir-1000 create+unlink
  rename open-append posix_spawn vfork+exec record-upper record-lower ofd-upper ofd-lower flock-upper
  flock-lower first-lock hand-off told poll poll-watching epoll epoll-watching watch)
if ((${#wanted[@]})); then
  chosen=()
  for operation in "${operations[@]}"; do
    [[ ${wanted[$operation]-} ]] && chosen+=("$operation")
  done
  operations=("${chosen[@]}")
  [[ ${wanted[build]-} ]] || lua=
fi
declare -A count=([readdir-1000]=300 [create+unlink]=3000 [rename]=3000 [posix_spawn]=150 [vfork+exec]=150 [watch]=2000
  [first-lock]=900)
declare -A aim=([open+close]=1.25 [stat]=1.30 [posix_spawn]=1.05 [vfork+exec]=1.05 [build]=1.10
  [pread-4k]=1.03 [record-upper]=1.05 [record-lower]=2.30 [ofd-upper]=1.05 [ofd-lower]=2.30
  [flock-upper]=1.05 [flock-lower]=2.30 [hand-off]=1.10 [told]=1.20
  [poll]=1.02 [poll-watching]=1.10 [epoll]=1.02 [epoll-watching]=1.10 [watch]=2)

private_kb() { # CONTENDER: Private_* of a process that has looked something up and waits
  local ready kb pid to
  coproc WAITING { within "$1" "$SCRATCH/bench" wait; }
  pid=$WAITING_PID
  IFS= read -r -n 1 ready <&"${WAITING[0]}"
  # The program itself, below the shell of the coprocess.
  local child
  child=$(cat "/proc/$pid/task/$pid/children")
  kb=$(awk '/^Private_(Clean|Dirty)/ { sum += $2 } END { print sum }' "/proc/${child%% *}/smaps_rollup")
  to=${WAITING[1]}
  exec {to}>&-
  wait "$pid"
  echo "$kb"
}

if [[ $syscalls ]]; then
  # ---- exact counts: the difference between n and 2n operations leaves the start-up out
  n=100
  tool() { command -v "$1" >/dev/null; }
  trace() { # CONTENDER OPERATION COUNT → lines "NAME TIMES"
    instead=(strace -f -qq -s 0 -o "$SCRATCH/trace")
    within "$1" "$SCRATCH/bench" "$2" "$3" >/dev/null
    instead=()
    awk '!/resumed>|^[0-9]+ +(---|\+\+\+)/ { sub(/\(.*/, "", $2); times[$2]++ } END { for (name in times) print name, times[name] }' "$SCRATCH/trace" | sort
  }
  instructions() { # CONTENDER OPERATION COUNT
    instead=(valgrind --tool=callgrind --callgrind-out-file=/dev/null --trace-children=yes)
    within "$1" "$SCRATCH/bench" "$2" "$3" 2>&1 >/dev/null | sed -n 's/.*Collected *: *//p' | tail -n 1
    instead=()
  }
  printf '%-16s' operation
  for name in native overlock; do printf '%14s calls%14s instr' "$name" "$name"; done
  printf '   beyond native\n'
  for operation in "${operations[@]}"; do
    printf '%-16s' "$operation"
    for name in native overlock; do
      [[ " ${contenders[*]} " == *" $name "* ]] || { printf '%20s%20s' - -; continue; }
      calls=- instr=-
      if tool strace; then
        trace "$name" "$operation" "$n" >"$SCRATCH/once"
        trace "$name" "$operation" $((2 * n)) >"$SCRATCH/twice"
        join -a 2 -e 0 -o 0,1.2,2.2 "$SCRATCH/once" "$SCRATCH/twice" |
          awk -v n="$n" '{ if ($3 != $2) printf "%s %.2f\n", $1, ($3 - $2) / n }' >"$SCRATCH/$name.calls"
        calls=$(awk '{ sum += $2 } END { printf "%.2f", sum }' "$SCRATCH/$name.calls")
      fi
      if tool valgrind && [[ $operation != *spawn* && $operation != *exec* ]]; then
        once=$(instructions "$name" "$operation" "$n") twice=$(instructions "$name" "$operation" $((2 * n)))
        [[ $once && $twice ]] && instr=$(((twice - once) / n))
      fi
      printf '%20s%20s' "$calls" "$instr"
    done
    if [[ -f $SCRATCH/overlock.calls ]]; then
      printf '   %s' "$(join -a 2 -e 0 -o 0,1.2,2.2 "$SCRATCH/native.calls" "$SCRATCH/overlock.calls" |
        awk '$3 != $2 { printf "%s%s %+.2f", sep, $1, $3 - $2; sep = ", " }')"
    fi
    printf '\n'
  done
  exit 0
fi

# ---- times
table() { # OPERATION UNIT-DIVISOR UNIT: from $SCRATCH/times, one line a round, one column a contender
  awk -v operation="$1" -v divisor="$2" -v unit="$3" -v contenders="${contenders[*]}" -v aim="${aim[$1]-}" '
    function median(list, n,   i, j, swap) {
      for (i = 2; i <= n; i++) for (j = i; j > 1 && list[j] < list[j - 1]; j--) { swap = list[j]; list[j] = list[j - 1]; list[j - 1] = swap }
      return n % 2 ? list[(n + 1) / 2] : (list[n / 2] + list[n / 2 + 1]) / 2
    }
    { for (i = 1; i <= NF; i++) time[i, NR] = $i }
    END {
      names = split(contenders, name, " ")
      for (r = 1; r <= NR; r++) list[r] = time[1, r]
      printf "%-16s%10.2f %-3s", operation, median(list, NR) / divisor, unit
      for (i = 2; i <= names; i++) {
        for (r = 1; r <= NR; r++) list[r] = time[i, r] / time[1, r]
        middle = median(list, NR)
        printf "%9.2f [%5.2f-%6.2f]", middle, list[1], list[NR]
        if (name[i] == "overlock" && aim) printf " %s%.2f", middle <= aim ? "<=" : "> ", aim
        else if (name[i] == "overlock") printf "       "
      }
      printf "\n"
    }' "$SCRATCH/times"
}

echo "median of per-round ratios to native [lowest-highest] over $rounds rounds; aim beside Overlock"
header() {
  local name
  printf '%-16s%14s' operation native
  for name in "${contenders[@]:1}"; do
    if [[ $name == overlock ]]; then printf '%31s' "$name"; else printf '%24s' "$name"; fi
  done
  printf '\n'
}
measure() { # OPERATION
  local round line k at
  for ((round = 0; round < rounds; round++)); do
    line=() # in turns, and the first in turn is another one each round
    for ((k = 0; k < ${#contenders[@]}; k++)); do
      at=$(((k + round) % ${#contenders[@]}))
      line[at]=$(within "${contenders[at]}" "$SCRATCH/bench" "$1" $((${count[$1]-20000} / scale)))
    done
    echo "${line[*]}"
  done >"$SCRATCH/times"
  table "$1" 1000 us
}
header
for operation in "${operations[@]}"; do measure "$operation"; done

if [[ $lua ]]; then
  rounds=$((rounds < 5 ? rounds : 5))
  for ((round = 0; round < rounds; round++)); do
    line=()
    for ((k = 0; k < ${#contenders[@]}; k++)); do
      at=$(((k + round) % ${#contenders[@]}))
      name=${contenders[at]}
      from=${EPOCHREALTIME/./}
      within "$name" make -C lua -s -j2 linux >/dev/null 2>"$SCRATCH/build.log" ||
        { echo "the build fails in $name: $(tail -n 1 "$SCRATCH/build.log")"; exit 1; }
      line[at]=$((${EPOCHREALTIME/./} - from))
      within "$name" make -C lua -s clean
    done
    echo "${line[*]}"
  done >"$SCRATCH/times"
  table build 1000000 s
fi

# What a preloaded library costs a new process before it does anything is the loader's and the kernel's.
started=()
for operation in "${operations[@]}"; do
  [[ $operation == posix_spawn || $operation == vfork+exec ]] && started+=("$operation")
done
if [[ -f $library ]] && ((${#started[@]})); then
  gcc -O2 -shared -fPIC -x c /dev/null -o "$SCRATCH/empty.so"
  ln -s native "$SCRATCH/empty"
  contenders=(native overlock empty)
  echo
  echo "beside a preloaded library that is empty"
  header
  for operation in "${started[@]}"; do measure "$operation"; done
fi

if [[ -f $library ]]; then
  echo
  echo "library: $(stat -L -c %s "$library") bytes"
  echo "private memory of a waiting process: native $(private_kb native) kB, Overlock $(private_kb overlock) kB"
fi
