/* gguf_keys.c -- typed reads of GGUF keys. The parser has bounded every value; here types are held
 * to what the reader needs. */
#include "file/gguf.h"
#include "base/scalar.h"

#include <string.h>

static const char *const kName[] = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                    "bool", "string", "array", "u64", "i64", "f64"};

static nb_status find(const nb_gguf *g, const char *key, const nb_gguf_kv **out, nb_error *err)
{
    *out = nb_gguf_find(g, key);
    return *out ? NB_OK : nb_fail_at(err, NB_BAD_INPUT, g->path, -1, "key %s is missing", key);
}

static nb_status wrong_type(const nb_gguf *g, const char *key, const nb_gguf_kv *kv,
                            const char *wanted, nb_error *err)
{
    const bool array = kv->type == NB_GGUF_ARRAY;
    return nb_fail_at(err, NB_BAD_INPUT, g->path, kv->offset, "key %s is of type %s%s, not %s", key,
                      array ? "array of " : "", kName[array ? kv->elem : kv->type], wanted);
}

/* Any integer as a sign and a magnitude; false for other types. */
static bool integer(const nb_gguf_kv *kv, bool *minus, uint64_t *magnitude)
{
    int64_t i = 0;
    *minus = false;
    switch (kv->type) {
    case NB_GGUF_U8:
        *magnitude = kv->p[0];
        return true;
    case NB_GGUF_U16:
        *magnitude = nb_load_u16(kv->p);
        return true;
    case NB_GGUF_U32:
        *magnitude = nb_load_u32(kv->p);
        return true;
    case NB_GGUF_U64:
        *magnitude = nb_load_u64(kv->p);
        return true;
    case NB_GGUF_I8:
        i = kv->p[0] < 0x80 ? kv->p[0] : kv->p[0] - 0x100;
        break;
    case NB_GGUF_I16:
        i = (int16_t)nb_load_u16(kv->p);
        break;
    case NB_GGUF_I32:
        i = (int32_t)nb_load_u32(kv->p);
        break;
    case NB_GGUF_I64:
        i = (int64_t)nb_load_u64(kv->p);
        break;
    default:
        return false;
    }
    *minus = i < 0;
    *magnitude = i < 0 ? 0 - (uint64_t)i : (uint64_t)i;
    return true;
}

nb_status nb_gguf_u32(const nb_gguf *g, const char *key, uint32_t *out, nb_error *err)
{
    const nb_gguf_kv *kv = NULL;
    bool minus = false;
    uint64_t v = 0;
    const nb_status st = find(g, key, &kv, err);
    if (!kv)
        return st;
    if (!integer(kv, &minus, &v))
        return wrong_type(g, key, kv, "u32", err);
    if (minus || v > UINT32_MAX)
        return nb_fail_at(err, NB_BAD_INPUT, g->path, kv->offset,
                          "key %s is outside 0 to 4294967295", key);
    *out = (uint32_t)v;
    return NB_OK;
}

/* Converted to float by IEEE 754: what is beyond its range becomes infinite. */
static double f64_at(const uint8_t *p)
{
    double v;
    memcpy(&v, p, sizeof v);
    return v;
}

nb_status nb_gguf_f32(const nb_gguf *g, const char *key, float *out, nb_error *err)
{
    const nb_gguf_kv *kv = NULL;
    const nb_status st = find(g, key, &kv, err);
    if (!kv)
        return st;
    if (kv->type != NB_GGUF_F32 && kv->type != NB_GGUF_F64)
        return wrong_type(g, key, kv, "f32", err);
    *out = kv->type == NB_GGUF_F32 ? nb_f32_from_bits(nb_load_u32(kv->p)) : (float)f64_at(kv->p);
    return NB_OK;
}

nb_status nb_gguf_bool(const nb_gguf *g, const char *key, bool *out, nb_error *err)
{
    const nb_gguf_kv *kv = NULL;
    const nb_status st = find(g, key, &kv, err);
    if (!kv)
        return st;
    if (kv->type != NB_GGUF_BOOL)
        return wrong_type(g, key, kv, "bool", err);
    *out = kv->p[0] != 0;
    return NB_OK;
}

static nb_str string_at(const uint8_t *p)
{
    return (nb_str){(const char *)p + 8, (size_t)nb_load_u64(p)};
}

nb_status nb_gguf_string(const nb_gguf *g, const char *key, nb_str *out, nb_error *err)
{
    const nb_gguf_kv *kv = NULL;
    const nb_status st = find(g, key, &kv, err);
    if (!kv)
        return st;
    if (kv->type != NB_GGUF_STRING)
        return wrong_type(g, key, kv, "string", err);
    *out = string_at(kv->p);
    return NB_OK;
}

/* The array `key` of elem a or b, and an output of its count in the arena. */
static nb_status find_array(const nb_gguf *g, const char *key, nb_gguf_type a, nb_gguf_type b,
                            const char *wanted, const nb_gguf_kv **kv, nb_arena *arena, size_t size,
                            void **out, size_t *n, nb_error *err)
{
    *out = NULL;
    *n = 0;
    const nb_status st = find(g, key, kv, err);
    if (!*kv)
        return st;
    if ((*kv)->type != NB_GGUF_ARRAY || ((*kv)->elem != a && (*kv)->elem != b))
        return wrong_type(g, key, *kv, wanted, err);
    *out = nb_arena_alloc(arena, (size_t)(*kv)->count, size, err);
    if (!*out)
        return NB_NO_ROOM;
    *n = (size_t)(*kv)->count;
    return NB_OK;
}

nb_status nb_gguf_strings(const nb_gguf *g, const char *key, nb_arena *a, nb_str **out, size_t *n,
                          nb_error *err)
{
    const nb_gguf_kv *kv = NULL;
    void *p = NULL;
    const nb_status st = find_array(g, key, NB_GGUF_STRING, NB_GGUF_STRING, "array of string", &kv,
                                    a, sizeof **out, &p, n, err);
    *out = p;
    if (!p)
        return st;
    const uint8_t *at = kv->p;
    for (size_t i = 0; i < *n; i++) {
        (*out)[i] = string_at(at);
        at += 8 + (*out)[i].n;
    }
    return NB_OK;
}

nb_status nb_gguf_i32s(const nb_gguf *g, const char *key, nb_arena *a, int32_t **out, size_t *n,
                       nb_error *err)
{
    const nb_gguf_kv *kv = NULL;
    void *p = NULL;
    const nb_status st = find_array(g, key, NB_GGUF_I32, NB_GGUF_U32, "array of i32", &kv, a,
                                    sizeof **out, &p, n, err);
    *out = p;
    if (!p)
        return st;
    for (size_t i = 0; i < *n; i++) {
        const uint32_t v = nb_load_u32(kv->p + 4 * i);
        if (kv->elem == NB_GGUF_U32 && v > INT32_MAX)
            return nb_fail_at(err, NB_BAD_INPUT, g->path, kv->offset + (int64_t)(4 * i),
                              "key %s holds %u, which is above 2147483647", key, v);
        (*out)[i] = (int32_t)v;
    }
    return NB_OK;
}

nb_status nb_gguf_f32s(const nb_gguf *g, const char *key, nb_arena *a, float **out, size_t *n,
                       nb_error *err)
{
    const nb_gguf_kv *kv = NULL;
    void *p = NULL;
    const nb_status st = find_array(g, key, NB_GGUF_F32, NB_GGUF_F64, "array of f32", &kv, a,
                                    sizeof **out, &p, n, err);
    *out = p;
    if (!p)
        return st;
    for (size_t i = 0; i < *n; i++)
        (*out)[i] = kv->elem == NB_GGUF_F32 ? nb_f32_from_bits(nb_load_u32(kv->p + 4 * i))
                                            : (float)f64_at(kv->p + 8 * i);
    return NB_OK;
}
