/* hub_pull.h -- the parts of `nibble pull`: what a repository holds, one blob at a time into the
 * cache, and where it goes there (file/hub.h has the cache's layout). csrc/api/pull.c puts them
 * together. */
#ifndef NB_HUB_HUB_PULL_H
#define NB_HUB_HUB_PULL_H

#include "base/memory.h"
#include "base/sha256.h"
#include "file/hub.h"
#include "hub/http.h"

/* ---- a blob's name is its hash (hash.c) ---- */

enum { NB_BLOB_NAME = 2 * NB_SHA256_BYTES + 1 };
/* 64 hex digits: SHA-256; 40: git's SHA-1 of "blob SIZE\0" and the bytes */
bool nb_blob_name_ok(const char *name);

typedef struct nb_blob_hash {
    bool git;
    nb_sha256_state sha256;
    struct {
        uint32_t h[5];
        uint64_t n;
        uint8_t block[64];
    } sha1;
} nb_blob_hash;
void nb_blob_hash_init(nb_blob_hash *s, const char *name, int64_t size);
void nb_blob_hash_add(nb_blob_hash *s, const void *p, size_t n);
void nb_blob_hash_end(nb_blob_hash *s, char name[NB_BLOB_NAME]);

/* ---- what the hub says a revision holds (tree.c) ---- */

typedef struct nb_tree_file {
    const char *path;        /* relative, every part of it a plain name */
    int64_t size;            /* -1: not said */
    char blob[NB_BLOB_NAME]; /* "" when not said */
} nb_tree_file;
typedef struct nb_tree {
    nb_arena *arena;
    nb_tree_file *file;
    size_t n;
} nb_tree;
/* NB_NOT_FOUND: no such repository or revision. NB_NETWORK also for a listing that nobody should
 * believe (names that lead elsewhere, duplicates). */
nb_status nb_tree_read(nb_http *h, const nb_hub_name *name, nb_tree *out, nb_error *err) NB_CHECKED;
void nb_tree_close(nb_tree *t);

/* HEAD of one file. *file: where the tree did not say size and blob it is filled in, where it did
 * they must agree. commit: "" before the first, then that of the first, which all must have. */
nb_status nb_tree_head(nb_http *h, const nb_hub_name *name, nb_tree_file *file, char commit[64],
                       nb_error *err) NB_CHECKED;
/* ENDPOINT/ORG/REPO/resolve/REVISION/PATH */
nb_status nb_tree_url(const nb_hub_net *net, const nb_hub_name *name, const char *revision,
                      const char *path, char url[NB_URL], nb_error *err) NB_CHECKED;
/* Is the name of file or folder in a repository one that stays where it is put? */
bool nb_tree_path_ok(const char *path, size_t n);

/* ---- one blob (blob.c) ---- */

typedef struct nb_blob {
    const char *what; /* in sentences */
    const char *url;
    const char *repository; /* ROOT/models--ORG--NAME */
    const char *locks;      /* ROOT/.locks/models--ORG--NAME */
    const char *name;
    int64_t size;
    /* What came since the last call, negative when bytes had to be thrown away. */
    void (*progress)(void *arg, int64_t more);
    void *arg;
} nb_blob;
/* Into blobs/NAME, through blobs/NAME.nibble.incomplete, which a later call goes on with.
 * NB_LOCKED: another process fetches it. NB_NETWORK: wrong length or hash (nothing is kept), or a
 * connection that broke too often (what came is kept). */
nb_status nb_blob_fetch(nb_http *h, const nb_blob *b, nb_error *err) NB_CHECKED;
/* Bytes of blobs/NAME.nibble.incomplete; -1 when blobs/NAME is there whole. */
int64_t nb_blob_there(const char *repository, const char *name, int64_t size);

/* ---- places (place.c) ---- */

nb_status nb_make_folders(const char *path, nb_error *err) NB_CHECKED; /* all of them */
nb_status nb_free_bytes(const char *path, uint64_t *out, nb_error *err) NB_CHECKED;
/* SNAPSHOT/PATH -> blobs/NAME, a file of its own where links fail. */
nb_status nb_place(const char *repository, const char *commit, const char *path, const char *blob,
                   nb_error *err) NB_CHECKED;
/* refs/REVISION holds the commit; written whole or not at all. */
nb_status nb_write_ref(const char *repository, const char *revision, const char *commit,
                       nb_error *err) NB_CHECKED;

#endif
