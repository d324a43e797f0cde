// The LMDB 0.9 inside py-lmdb's extension, called without the interpreter lock. The symbols (mdb09_*) are exported but
// private, hence the pinned version; a library of our own would be a second one in the process, which LMDB forbids.
// Signatures: lmdb.h of LMDB 0.9.
#ifndef TICKWRIGHT_LMDB_H
#define TICKWRIGHT_LMDB_H

#include <dlfcn.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

typedef struct {
    size_t size;
    void *at;
} lmdb_val_t;

typedef struct {
    void *map_address;
    size_t map_bytes;
    size_t last_page;
    size_t last_txn;
    unsigned int readers_max;
    unsigned int readers;
} lmdb_info_t;

#define LMDB_CREATE 0x40000u
#define LMDB_APPEND 0x20000u

static struct {
    int (*env_create)(void **env);
    int (*env_set_mapsize)(void *env, size_t bytes);
    int (*env_set_maxdbs)(void *env, unsigned int count);
    int (*env_open)(void *env, const char *path, unsigned int flags, mode_t mode);
    int (*env_info)(void *env, lmdb_info_t *info);
    void (*env_close)(void *env);
    int (*txn_begin)(void *env, void *parent, unsigned int flags, void **txn);
    int (*txn_commit)(void *txn);
    void (*txn_abort)(void *txn);
    int (*dbi_open)(void *txn, const char *name, unsigned int flags, unsigned int *dbi);
    int (*put)(void *txn, unsigned int dbi, lmdb_val_t *key, lmdb_val_t *value, unsigned int flags);
    int (*reader_check)(void *env, int *dead);
    char *(*error_text)(int code);
} lmdb;

// 0 when every function was found in the extension that Python has loaded already.
static inline int lmdb_load(const char *extension) {
    void *handle = dlopen(extension, RTLD_NOW | RTLD_NOLOAD);
    if (!handle) return -1;
#define LMDB_FIND(field, symbol) \
    if (!(*(void **)&lmdb.field = dlsym(handle, "mdb09_" symbol))) return -1
    LMDB_FIND(env_create, "env_create");
    LMDB_FIND(env_set_mapsize, "env_set_mapsize");
    LMDB_FIND(env_set_maxdbs, "env_set_maxdbs");
    LMDB_FIND(env_open, "env_open");
    LMDB_FIND(env_info, "env_info");
    LMDB_FIND(env_close, "env_close");
    LMDB_FIND(txn_begin, "txn_begin");
    LMDB_FIND(txn_commit, "txn_commit");
    LMDB_FIND(txn_abort, "txn_abort");
    LMDB_FIND(dbi_open, "dbi_open");
    LMDB_FIND(put, "put");
    LMDB_FIND(reader_check, "reader_check");
    LMDB_FIND(error_text, "strerror");
#undef LMDB_FIND
    return 0;
}

static inline int lmdb_env_create(void **env) { return lmdb.env_create(env); }
static inline int lmdb_env_set_mapsize(void *env, size_t bytes) { return lmdb.env_set_mapsize(env, bytes); }
static inline int lmdb_env_set_maxdbs(void *env, unsigned int count) { return lmdb.env_set_maxdbs(env, count); }
static inline int lmdb_env_open(void *env, const char *path, unsigned int flags, mode_t mode) {
    return lmdb.env_open(env, path, flags, mode);
}
static inline int lmdb_env_info(void *env, lmdb_info_t *info) { return lmdb.env_info(env, info); }
static inline void lmdb_env_close(void *env) { lmdb.env_close(env); }
static inline int lmdb_txn_begin(void *env, void **txn) { return lmdb.txn_begin(env, NULL, 0, txn); }
static inline int lmdb_txn_commit(void *txn) { return lmdb.txn_commit(txn); }
static inline void lmdb_txn_abort(void *txn) { lmdb.txn_abort(txn); }
static inline int lmdb_dbi_open(void *txn, const char *name, unsigned int *dbi) { return lmdb.dbi_open(txn, name, 0, dbi); }
static inline int lmdb_append(void *txn, unsigned int dbi, lmdb_val_t *key, lmdb_val_t *value) {
    return lmdb.put(txn, dbi, key, value, LMDB_APPEND);
}
static inline int lmdb_reader_check(void *env, int *dead) { return lmdb.reader_check(env, dead); }
static inline const char *lmdb_error_text(int code) { return lmdb.error_text(code); }

#endif
