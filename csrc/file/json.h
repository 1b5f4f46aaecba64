/* json.h -- a strict reader of RFC 8259: no duplicates, no bad UTF-8, no trailing bytes, exact
 * 64-bit integers, depth at most 128.
 *
 * The header of every checkpoint and tokenizer is JSON of up to 100 MB from strangers. The document
 * is one array of nodes in document order plus one pool of unescaped strings; both are freed at
 * once. Object members are found by hash (seeded per document) when there are more than eight.
 * Stricter than the RFC: duplicate keys and lone surrogates are refused. Integers beyond 64 bits
 * become reals; a real beyond the range of double is refused. */
#ifndef NB_FILE_JSON_H
#define NB_FILE_JSON_H

#include "base/status.h"
#include <stdbool.h>
#include <stddef.h>

typedef enum nb_json_type {
    NB_JSON_NULL,
    NB_JSON_BOOL,
    NB_JSON_INT,
    NB_JSON_REAL,
    NB_JSON_STRING,
    NB_JSON_ARRAY,
    NB_JSON_OBJECT
} nb_json_type;

typedef struct nb_json nb_json;           /* a document */
typedef struct nb_json_node nb_json_node; /* a value in it; borrowed from the document */

/* path is only named in errors. text is not kept. NB_BAD_INPUT with the byte offset; NB_UNSUPPORTED
 * for a long text with more than a value in three bytes; NB_NO_ROOM. */
nb_status nb_json_parse(const char *path, const char *text, size_t n, nb_json **out,
                        nb_error *err) NB_CHECKED;
/* The same for text that starts at byte `base` of the file: only the offsets of errors count from
 * the file's start. */
nb_status nb_json_parse_at(const char *path, size_t base, const char *text, size_t n, nb_json **out,
                           nb_error *err) NB_CHECKED;
void nb_json_close(nb_json *doc); /* NULL is fine */
const nb_json_node *nb_json_root(const nb_json *doc);

nb_json_type nb_json_typeof(const nb_json_node *v);
size_t nb_json_offset(const nb_json_node *v); /* byte offset of the value in the text */
size_t nb_json_count(
    const nb_json_node *v); /* elements of an array, members of an object, else 0; v may be NULL */

/* Iteration: the first element or member value (v may be NULL), then the next; NULL at the end.
 * key: of a member, NULL in arrays. */
const nb_json_node *nb_json_first(const nb_json_node *v);
const nb_json_node *nb_json_next(const nb_json_node *v);
const char *nb_json_key(const nb_json_node *v, size_t *n);

const nb_json_node *nb_json_get(const nb_json_node *object,
                                const char *key); /* NULL if absent or v is NULL or no object */
const nb_json_node *nb_json_at(const nb_json_node *array, size_t i); /* O(i) */

/* Values; false when v is NULL or of another type. Strings are NUL-terminated in memory but may
 * hold NUL: use n (which may be NULL). real accepts integers; int accepts -2^63 .. 2^63-1, u64 0 ..
 * 2^64-1. */
bool nb_json_string(const nb_json_node *v, const char **s, size_t *n);
bool nb_json_int(const nb_json_node *v, int64_t *out);
bool nb_json_u64(const nb_json_node *v, uint64_t *out);
bool nb_json_real(const nb_json_node *v, double *out);
bool nb_json_bool(const nb_json_node *v, bool *out);

#endif
