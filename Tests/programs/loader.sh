# Shared libraries that the dynamic loader looks for in an overlay: the same ones are loaded as in a plain
# directory, in the same order and under the same names, whatever layer they are in.
. "$HERE/lib/harness.bash"
for program in gcc readelf; do needs_program "shared libraries" "$program" || exit 0; done

rm -rf "$FIXTURE" && mkdir -p "$FIXTURE"/{bin,lib/sub,plugins/deps,lib/glibc-hwcaps/x86-64-v2}
cat >"$AUX/library.c" <<'C'
const char *NAME(void) { return VERSION; }
#ifdef NEXT
const char *NEXT(void);
const char *CHAIN(void) { return NEXT(); }
#endif
C
# Says what it got and from where, in the order of loading; with arguments it opens those first.
cat >"$AUX/says.c" <<'C'
#define _GNU_SOURCE
#include <dlfcn.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
static int show(struct dl_phdr_info *info, size_t size, void *data) {
  (void)size, (void)data;
  if (!strstr(info->dlpi_name, "liboverlock") && !strstr(info->dlpi_name, "vdso")) printf(" [%s]", info->dlpi_name);
  return 0;
}
const char *FIRST(void);
int main(int argc, char **argv) {
#ifndef BARE
  printf("%s", FIRST());
#endif
  for (int i = 1; i < argc; i++) {
    void *handle = dlopen(argv[i], RTLD_NOW);
    if (!handle) { printf(" %s", dlerror()); continue; }
    const char *(*chain)(void) = dlsym(handle, "chain");
    Dl_info where;
    if (chain && dladdr((void *)chain, &where)) printf(" %s from %s", chain(), where.dli_fname);
  }
  if (!getenv("NO_LIST")) dl_iterate_phdr(show, NULL);
  puts("");
}
C
# Several threads open and close one plugin, one of them forks meanwhile; prints how often what it says is
# wrong.
cat >"$AUX/threads.c" <<'C'
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
static const char *path, *expected;
static int wrong;
static int once(int flag) {
  void *handle = dlopen(path, RTLD_NOW | flag);
  const char *(*chain)(void) = handle ? (const char *(*)(void))dlsym(handle, "chain") : NULL;
  Dl_info where;
  int bad = !chain || strcmp(chain(), expected) || !dladdr((void *)chain, &where) || strcmp(where.dli_fname, path);
  return bad | (handle && dlclose(handle));
}
static void *work(void *forks) {
  for (int i = 0; i < 300; i++) {
    int status = 0;
    if (forks && i % 100 == 0) {
      pid_t child = fork();
      if (child == 0) _exit(once(0));
      waitpid(child, &status, 0);
    }
    if (once(i & 1 ? RTLD_GLOBAL : 0) || status) __atomic_fetch_add(&wrong, 1, __ATOMIC_RELAXED);
  }
  return NULL;
}
int main(int argc, char **argv) {
  if (argc < 3) return 2;
  path = argv[1], expected = argv[2];
  pthread_t threads[4];
  for (int i = 0; i < 4; i++) pthread_create(&threads[i], NULL, work, i == 0 ? &wrong : NULL);
  for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
  printf("%d wrong\n", wrong);
}
C
library() { # FILE FUNCTION VERSION OPTION…
  local file=$1 function=$2 version=$3
  shift 3
  gcc -shared -fPIC "-DNAME=$function" "-DVERSION=\"$version\"" "$AUX/library.c" "$@" -o "$file"
}
cd "$FIXTURE"
library lib/libwhich.so which lower -Wl,-soname,libwhich.so
library lib/sub/libinner.so inner lower -Wl,-soname,libinner.so.1 && ln -s libinner.so lib/sub/libinner.so.1
library lib/libouter.so outer lower -DNEXT=inner -DCHAIN=which -Llib/sub -linner '-Wl,-rpath,$ORIGIN/sub' -Wl,-soname,libouter.so
library plugins/deps/libdep.so dep lower -Wl,-soname,libdep.so
library plugins/deps/nosoname.so nosoname lower
library plugins/plugin.so plugin plugin -DNEXT=dep -DCHAIN=chain -Lplugins/deps -ldep -l:nosoname.so '-Wl,--no-as-needed,-rpath,${ORIGIN}/deps'
(cd lib && library slash.so slash lower)
program() { # NAME FIRST OPTION…
  local name=$1 first=$2
  shift 2
  gcc "-DFIRST=$first" "$AUX/says.c" "$@" -o "bin/$name"
}
program by-origin which -Llib -lwhich '-Wl,-rpath,$ORIGIN/../lib'
program absolute which -Llib -lwhich "-Wl,-rpath,$T/lib"
program old-tag which -Llib -lwhich '-Wl,--disable-new-dtags,-rpath,$ORIGIN/../lib'
program inherited which -Llib -louter '-Wl,--disable-new-dtags,-rpath,$ORIGIN/../lib' -Wl,-rpath-link,lib/sub
program searched which -Llib -lwhich
(cd "$FIXTURE" && gcc -DFIRST=slash "$AUX/says.c" lib/slash.so -o bin/by-path)
program opens which -DBARE
program opens-near which -DBARE '-Wl,-rpath,$ORIGIN/../plugins'
cp bin/opens "$AUX/opens"
gcc -pthread "$AUX/threads.c" -o "$AUX/threads"
gcc -pthread "$AUX/threads.c" -o bin/threads '-Wl,-rpath,$ORIGIN'
LOADER=$(readelf -l bin/opens | sed -n 's/.*interpreter: \(.*\)]/\1/p')
cd - >/dev/null
export LOADER
export -f library

each='each() { for p in by-origin absolute old-tag inherited by-path; do bin/$p 2>&1 || true; done
  for l in $PWD/lib :lib "/nowhere;./lib/" "\$ORIGIN/../lib" ""; do LD_LIBRARY_PATH=$l bin/searched 2>&1 || true; done
  (cd lib 2>/dev/null || exit 0; LD_LIBRARY_PATH=. ../bin/searched 2>&1; LD_LIBRARY_PATH= PATH=../bin:$PATH searched 2>&1) || true; }
'
ignoring='lib(which|inner|dep)|nosoname' like_plain "libraries of the lower, and changed ones" <<BODY
$each
each
library lib/new which upper -Wl,-soname,libwhich.so; mv lib/new lib/libwhich.so; each
library lib/slash.so slash upper; library lib/sub/libinner.so inner upper -Wl,-soname,libinner.so.1; each
LD_LIBRARY_PATH=/nowhere:lib "$LOADER" bin/by-origin
cp bin/by-origin bin/copied; bin/copied; cp -r bin elsewhere; elsewhere/by-origin; elsewhere/inherited
BODY
like_plain "removed libraries, renamed directories, new directories" <<BODY
$each
mkdir built; cp lib/libwhich.so built; LD_LIBRARY_PATH=built:lib bin/searched
cp bin/by-origin built/here; mkdir lib2; built/here; mv lib renamed; each 2>&1 | sed 's/ :/:/'; ln -s renamed lib; each
LD_LIBRARY_PATH=renamed bin/searched; mv bin programs; programs/by-origin; ln -s programs bin
rm renamed/libwhich.so; each; mkdir -p renamed/glibc-hwcaps/x86-64-v2; cp built/libwhich.so renamed/glibc-hwcaps/x86-64-v2; each
rm -r renamed/glibc-hwcaps; each; bin/opens lib/slash.so 2>&1; rm lib/slash.so; bin/by-path 2>/dev/null || echo none
BODY
ignoring='lib(which|inner|dep)|nosoname' like_plain "dlopen by name, by path, of plugins with libraries of their own" <<'BODY'
all() {
  # Without a list: where nothing tells at exec that a program will need libraries of the overlay, what a
  # plugin needs may be loaded before it.
  for p in bin/opens "$AUX/opens"; do
    NO_LIST=1 $p plugins/plugin.so; NO_LIST=1 $p ./plugins/plugin.so "$PWD/plugins/plugin.so" plugins/none.so
    (cd plugins; NO_LIST=1 "$AUX/opens" ./plugin.so plugin.so)
    LD_LIBRARY_PATH=$PWD/plugins $p plugin.so; LD_LIBRARY_PATH=plugins $p plugin.so none.so
  done
  bin/opens-near plugin.so; bin/opens-near '$ORIGIN/../plugins/plugin.so' plugin.so; (cd plugins; ../bin/opens-near ./plugin.so)
}
all
library plugins/deps/libdep.so dep upper -Wl,-soname,libdep.so; all
library plugins/deps/nosoname.so nosoname upper; all
mv plugins other; mkdir plugins; cp other/plugin.so plugins; mv other/deps plugins; all
BODY
ignoring='libdep' like_plain "threads open and close a plugin whose library was changed" <<'BODY'
library plugins/deps/libdep.so dep upper -Wl,-soname,libdep.so
for p in bin/threads "$AUX/threads"; do $p "$PWD/plugins/plugin.so" upper; $p plugins/plugin.so upper; done
BODY
like_plain "children do not inherit what a program needs" <<'BODY'
LD_LIBRARY_PATH=lib bin/searched
cat >run.sh <<'X'
#!/bin/sh
env | grep LD_AUDIT; LD_LIBRARY_PATH=lib bin/searched
X
chmod +x run.sh; ./run.sh; LD_LIBRARY_PATH=lib ./run.sh; bin/by-origin
LD_LIBRARY_PATH=lib sh -c 'env | grep -c LD_AUDIT || true; bin/searched; env -i bin/by-origin; xargs -n 1 echo <bin/../run.sh | wc -l'
LD_LIBRARY_PATH=$PWD/lib perl -e 'system("bin/searched"); print $ENV{LD_AUDIT} // "none", "\n"; exec "bin/searched"'
BODY
if needs_program "a module of an interpreter" cc && [[ -f $("$PYTHON" -c 'import sysconfig; print(sysconfig.get_paths()["include"])')/Python.h ]]; then
  cat >"$FIXTURE/module.c" <<'C'
#include <Python.h>
const char *dep(void);
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "module", NULL, -1};
PyMODINIT_FUNC PyInit_module(void) {
  PyObject *m = PyModule_Create(&definition);
  PyModule_AddStringConstant(m, "dep", dep());
  return m;
}
C
  ignoring='module|libdep' like_plain "a Python extension built in place finds its libraries" <<'BODY'
mkdir -p package/libs; cp plugins/deps/libdep.so package/libs
gcc -shared -fPIC -I"$("$PYTHON" -c 'import sysconfig; print(sysconfig.get_paths()["include"])')" module.c -Lplugins/deps -ldep '-Wl,-rpath,$ORIGIN/libs' -o package/module.so
"$PYTHON" -c 'import sys; sys.path.insert(0, "package"); import module; print(module.dep, module.__file__); print(sorted({l.split()[-1] for l in open("/proc/self/maps") if "libdep" in l}) != [])'
library package/libs/libdep.so dep upper -Wl,-soname,libdep.so
"$PYTHON" -c 'import sys; sys.path.insert(0, "package"); import module; print(module.dep); import ctypes; print(ctypes.CDLL("package/libs/libdep.so")._name)'
rm -r package/libs; "$PYTHON" -c 'import sys; sys.path.insert(0, "package"); import module' 2>&1 | tail -n 1 || true
BODY
fi
if needs_program "a CMake project" cmake make; then
  cat >"$FIXTURE/CMakeLists.txt" <<'CMAKE'
cmake_minimum_required(VERSION 3.10)
project(sample C)
enable_testing()
add_library(one SHARED one.c)
add_library(two SHARED two.c)
target_link_libraries(two one)
add_executable(sample main.c)
target_link_libraries(sample two)
add_test(NAME sample COMMAND sample)
install(TARGETS one two sample)
CMAKE
  echo 'const char *one(void) { return "one"; }' >"$FIXTURE/one.c"
  echo 'const char *one(void); const char *two(void) { return one(); }' >"$FIXTURE/two.c"
  printf '#include <stdio.h>\nconst char *two(void);\nint main(void) { puts(two()); return 0; }\n' >"$FIXTURE/main.c"
  ignoring='build|moved' like_plain "a CMake project runs its tests from the build directory" <<'BODY'
cmake -S . -B build >/dev/null && cmake --build build >/dev/null && build/sample
(cd build && ctest | grep -c Passed)
sed -i 's/"one"/"changed"/' one.c && cmake --build build >/dev/null && build/sample
mv build moved && moved/sample 2>&1 | sed 's/.*moved/moved/' || true
BODY
fi

needs_layers "several lowers" || exit 0
place
mkdir -p "$SCRATCH"/{second/lib,third/bin,target}
library "$SCRATCH/second/lib/libwhich.so" which second -Wl,-soname,libwhich.so
cp "$FIXTURE/bin/by-origin" "$FIXTURE/bin/searched" "$SCRATCH/third/bin"
OVERLAYS=("lowerdir=$SCRATCH/second:$SCRATCH/third,upperdir=$SCRATCH/upper,workdir=$SCRATCH/work,target=$SCRATCH/target")
says "a program and its libraries are in different layers, none of them the target" \
  "second [] [$SCRATCH/target/bin/../lib/libwhich.so] [/lib/x86_64-linux-gnu/libc.so.6] [/lib64/ld-linux-x86-64.so.2]
second [] [lib/libwhich.so] [/lib/x86_64-linux-gnu/libc.so.6] [/lib64/ld-linux-x86-64.so.2]" <<'BODY'
bin/by-origin; LD_LIBRARY_PATH=lib bin/searched
BODY
