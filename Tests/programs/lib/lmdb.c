/* An LMDB reader that mapped the database before anybody wrote it.
 *
 *   lmdb DIRECTORY make|read|read-unlocked
 *
 * Opens the environment for reading only, then has another process commit, twice, and says what it
 * finds each time. Unlocked: without its lock file, so that a reader writes nothing. */
#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void must(int r, const char *what) {
  if (r == MDB_SUCCESS) return;
  fprintf(stderr, "%s: %s\n", what, mdb_strerror(r));
  exit(2);
}

static MDB_env *environment(const char *path, unsigned flags) {
  MDB_env *env;
  must(mdb_env_create(&env), "create");
  must(mdb_env_set_mapsize(env, 1 << 20), "mapsize");
  must(mdb_env_open(env, path, flags, 0644), "open");
  return env;
}

static void commit(const char *path, int from, int count) {
  MDB_env *env = environment(path, 0);
  MDB_txn *txn;
  MDB_dbi dbi;
  must(mdb_txn_begin(env, NULL, 0, &txn), "begin");
  must(mdb_dbi_open(txn, NULL, MDB_CREATE, &dbi), "dbi");
  for (int i = from; i < from + count; i++) {
    char key[32], value[64];
    snprintf(key, sizeof key, "key %08d", i);
    snprintf(value, sizeof value, "value of %d", i);
    MDB_val k = {strlen(key), key}, v = {strlen(value), value};
    must(mdb_put(txn, dbi, &k, &v, 0), "put");
  }
  must(mdb_txn_commit(txn), "commit");
  mdb_env_close(env);
}

static void look(MDB_env *env) {
  MDB_txn *txn;
  MDB_dbi dbi;
  MDB_stat stat;
  MDB_cursor *cursor;
  MDB_val k, v;
  must(mdb_txn_begin(env, NULL, MDB_RDONLY, &txn), "begin to read");
  must(mdb_dbi_open(txn, NULL, 0, &dbi), "dbi");
  must(mdb_stat(txn, dbi, &stat), "stat");
  must(mdb_cursor_open(txn, dbi, &cursor), "cursor");
  must(mdb_cursor_get(cursor, &k, &v, MDB_LAST), "last");
  printf("%zu entries, the last %.*s: %.*s\n", stat.ms_entries, (int)k.mv_size, (char *)k.mv_data,
         (int)v.mv_size, (char *)v.mv_data);
  mdb_cursor_close(cursor);
  mdb_txn_abort(txn);
}

static void elsewhere(const char *path, int from, int count) {
  fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    commit(path, from, count);
    _exit(0);
  }
  int status;
  if (waitpid(child, &status, 0) != child || status != 0) exit(2);
}

int main(int count, char **words) {
  if (count != 3) return 2;
  if (strcmp(words[2], "make") == 0) {
    commit(words[1], 0, 500);
    return 0;
  }
  const int unlocked = strcmp(words[2], "read-unlocked") == 0;
  MDB_env *env = environment(words[1], MDB_RDONLY | (unlocked ? MDB_NOLOCK : 0));
  look(env);
  elsewhere(words[1], 500, 20);
  look(env);
  elsewhere(words[1], 520, 2000);
  look(env);
  mdb_env_close(env);
  return 0;
}
