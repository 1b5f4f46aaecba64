/* names.h -- an index of names that strangers chose: keys of a JSON object, tensors, GGUF keys.
 *
 * Open addressing over a power of two of at least 2 n slots of 8 bytes (hash, item + 1), linear
 * probing. The hash is SipHash-1-3 (Aumasson and Bernstein 2012; one and three rounds) under a key
 * drawn from the system, so that nobody can write a file whose names collide. O(1) a name on
 * average; the items stay with the caller, the index holds their numbers. */
#ifndef NB_FILE_NAMES_H
#define NB_FILE_NAMES_H

#include "base/status.h"
#include <stdbool.h>
#include <stddef.h>

typedef struct nb_hash_key {
    uint64_t k[2];
} nb_hash_key;
void nb_hash_key_draw(nb_hash_key *key);

/* The name of item i and its length. */
typedef const char *(*nb_name_at)(const void *items, size_t i, size_t *n);

typedef struct nb_names nb_names;
/* An index with room for n names, n < 2^31. NULL when memory is out; the sentence is set. */
nb_names *nb_names_open(size_t n, const nb_hash_key *key, nb_name_at at, nb_error *err);
void nb_names_close(nb_names *s); /* NULL is fine */
size_t nb_names_count(const nb_names *s);

/* Adds item i; false when an equal name is there already. At most n times. */
bool nb_names_add(nb_names *s, const void *items, size_t i);
/* The item of that name. */
bool nb_names_find(const nb_names *s, const void *items, const char *name, size_t n, size_t *i);

/* May this be the name of a tensor or key: not empty, UTF-8, nothing that could drive a terminal or
 * turn text around. Such a name needs no escaping in sentences and JSON needs it only for quotes
 * and backslashes. */
bool nb_name_ok(const char *name, size_t n);

#endif
