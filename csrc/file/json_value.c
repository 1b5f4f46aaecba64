/* json_value.c -- reading the values of a parsed document. No text is looked at here; a lookup
 * costs O(members) in a small object and O(1) in one with an index. */
#include "file/json_node.h"

#include <stdlib.h>
#include <string.h>

nb_status nb_json_parse(const char *path, const char *text, size_t n, nb_json **out, nb_error *err)
{
    return nb_json_parse_at(path, 0, text, n, out, err);
}

void nb_json_close(nb_json *doc)
{
    if (!doc)
        return;
    for (size_t i = 0; i < doc->n_node; i++)
        if (doc->node[i].type == NB_JSON_OBJECT && doc->node[i].wide)
            nb_names_close(doc->node[i].v.names);
    free(doc->node);
    free(doc->pool);
    free(doc);
}

const nb_json_node *nb_json_root(const nb_json *doc)
{
    return doc->node;
}

nb_json_type nb_json_typeof(const nb_json_node *v)
{
    return (nb_json_type)v->type;
}

size_t nb_json_offset(const nb_json_node *v)
{
    return v->offset;
}

size_t nb_json_count(const nb_json_node *v)
{
    if (!v || (v->type != NB_JSON_ARRAY && v->type != NB_JSON_OBJECT))
        return 0;
    return v->wide ? nb_names_count(v->v.names) : (size_t)v->v.u;
}

const nb_json_node *nb_json_first(const nb_json_node *v)
{
    return nb_json_count(v) ? v + 1 : NULL;
}

const nb_json_node *nb_json_next(const nb_json_node *v)
{
    return v->last ? NULL : v + v->skip;
}

const char *nb_json_key(const nb_json_node *v, size_t *n)
{
    if (n)
        *n = v->key ? nb_json_pool_length(v->key) : 0;
    return v->key;
}

const nb_json_node *nb_json_get(const nb_json_node *object, const char *key)
{
    if (!object || object->type != NB_JSON_OBJECT)
        return NULL;
    const size_t n = strlen(key);
    if (object->wide) {
        size_t i = 0;
        return nb_names_find(object->v.names, object, key, n, &i) ? object + i : NULL;
    }
    for (const nb_json_node *v = nb_json_first(object); v; v = nb_json_next(v))
        if (nb_json_pool_length(v->key) == n && memcmp(v->key, key, n) == 0)
            return v;
    return NULL;
}

const nb_json_node *nb_json_at(const nb_json_node *array, size_t i)
{
    if (!array || array->type != NB_JSON_ARRAY)
        return NULL;
    const nb_json_node *v = nb_json_first(array);
    while (v && i--)
        v = nb_json_next(v);
    return v;
}

bool nb_json_string(const nb_json_node *v, const char **s, size_t *n)
{
    if (!v || v->type != NB_JSON_STRING)
        return false;
    *s = v->v.s;
    if (n)
        *n = nb_json_pool_length(v->v.s);
    return true;
}

bool nb_json_int(const nb_json_node *v, int64_t *out)
{
    if (!v || v->type != NB_JSON_INT || v->wide)
        return false;
    *out = v->v.i;
    return true;
}

bool nb_json_u64(const nb_json_node *v, uint64_t *out)
{
    if (!v || v->type != NB_JSON_INT || (!v->wide && v->v.i < 0))
        return false;
    *out = v->v.u;
    return true;
}

bool nb_json_real(const nb_json_node *v, double *out)
{
    if (!v || (v->type != NB_JSON_REAL && v->type != NB_JSON_INT))
        return false;
    *out = v->type == NB_JSON_REAL ? v->v.r : v->wide ? (double)v->v.u : (double)v->v.i;
    return true;
}

bool nb_json_bool(const nb_json_node *v, bool *out)
{
    if (!v || v->type != NB_JSON_BOOL)
        return false;
    *out = v->v.u != 0;
    return true;
}
