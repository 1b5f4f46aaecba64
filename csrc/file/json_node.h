/* json_node.h -- what a JSON document is in memory. Only json.c and json_value.c look inside.
 *
 *   node[]  24 bytes a value, in document order; a value's children follow it, `skip` leads behind
 * the last of them pool    the unescaped strings: | u32 length | bytes | NUL |
 *
 * so the next sibling of v is v + skip and its first child v + 1. A string takes at most 5/3 of its
 * text in the pool, so the pool is allocated once and never moves. An object of more than eight
 * members is `wide`: it has an index of names. */
#ifndef NB_FILE_JSON_NODE_H
#define NB_FILE_JSON_NODE_H

#include "base/scalar.h"
#include "file/json.h"
#include "file/names.h"

enum { NB_JSON_MAX_SKIP = (1 << 27) - 1 };

struct nb_json_node {
    const char *key; /* in the pool; NULL: not a member of an object */
    union {
        int64_t i;
        uint64_t
            u; /* a wide integer (above 2^63 - 1), a bool, the count of an array or narrow object */
        double r;
        const char *s;   /* in the pool */
        nb_names *names; /* of a wide object: items are counted from the object's node */
    } v;
    uint32_t offset;
    unsigned type : 3, last : 1, wide : 1, skip : 27;
};
_Static_assert(sizeof(struct nb_json_node) == 24, "the head comment and json.c count on it");

struct nb_json {
    nb_json_node *node;
    size_t n_node;
    char *pool;
};

static inline uint32_t nb_json_pool_length(const char *s)
{
    return nb_load_u32(s - sizeof(uint32_t));
}

static inline const char *nb_json_member_name(const void *object, size_t i, size_t *n)
{
    const nb_json_node *v = (const nb_json_node *)object + i;
    *n = nb_json_pool_length(v->key);
    return v->key;
}

#endif
