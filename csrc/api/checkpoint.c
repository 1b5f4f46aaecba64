/* checkpoint.c -- nb_checkpoint_*: what a file holds, without loading it. */
#include "api/verify.h"
#include "base/memory.h"
#include "base/text.h"
#include "dtype/dtype.h"
#include "file/container.h"
#include "model/model.h"
#include "nibble.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct nb_checkpoint {
    nb_container *c;
    char arch[64];
    char key[512]; /* of the metadata entry last asked for */
    nb_buf value;
};

enum { kValueMax = 1 << 20, kShown = 8 };

nb_status nb_checkpoint_open(const char *path, nb_checkpoint **out, nb_error *err)
{
    *out = NULL;
    nb_checkpoint *k = nb_alloc_zero(1, sizeof *k, "a checkpoint", err);
    if (!k)
        return NB_NO_ROOM;
    nb_buf_init(&k->value, kValueMax);
    const nb_status st = nb_container_open(path, &k->c, err);
    if (st != NB_OK) {
        nb_checkpoint_close(k);
        return st;
    }
    nb_str s;
    const char *a = NULL;
    size_t n = 0;
    if (k->c->gguf && nb_gguf_string(k->c->gguf, "general.architecture", &s, NULL) == NB_OK)
        nb_escape(k->arch, (int64_t)sizeof k->arch, s.p, (int64_t)s.n);
    else if (k->c->config &&
             nb_json_string(nb_json_first(nb_json_get(nb_json_root(k->c->config), "architectures")),
                            &a, &n))
        nb_escape(k->arch, (int64_t)sizeof k->arch, a, (int64_t)n);
    *out = k;
    return NB_OK;
}

void nb_checkpoint_close(nb_checkpoint *k)
{
    if (!k)
        return;
    nb_buf_free(&k->value);
    nb_container_close(k->c);
    free(k);
}

static int64_t n_value(const nb_tensor *t) /* stored */
{
    int64_t n = 1;
    for (int d = 0; d < t->n_dim; d++)
        n *= t->shape[d];
    return n;
}

void nb_checkpoint_get_info(const nb_checkpoint *k, nb_checkpoint_info *out)
{
    const nb_container *c = k->c;
    int64_t bytes = 0;
    *out = (nb_checkpoint_info){.format = c->gguf ? "gguf" : "safetensors",
                                .scheme = c->gguf ? "gguf" : "plain",
                                .arch = k->arch,
                                .n_tensor = c->n_tensor,
                                .warning = c->warning,
                                .bytes = (int64_t)c->file_bytes};
    nb_scheme_spec scheme = {0};
    if (nb_scheme_read(c, &scheme, NULL) == NB_OK && scheme.scheme)
        out->scheme = scheme.scheme->name;
    else if (c->config && nb_json_get(nb_json_root(c->config), "quantization_config")) {
        /* one that is not read */
        const char *s = "quantized";
        size_t n = 0;
        (void)nb_json_string(
            nb_json_get(nb_json_get(nb_json_root(c->config), "quantization_config"),
                        "quant_method"),
            &s, &n);
        out->scheme = s;
    }
    out->n_metadata = c->gguf     ? c->gguf->n_kv
                      : c->config ? (int64_t)nb_json_count(nb_json_root(c->config))
                                  : 0;
    for (int64_t i = 0; i < c->n_tensor; i++) {
        out->n_param += nb_tensor_n_weight(c, &scheme, &c->tensor[i]);
        bytes += (int64_t)c->tensor[i].bytes;
    }
    out->bits_per_weight = out->n_param ? 8.0 * (double)bytes / (double)out->n_param : 0.0;
}

bool nb_checkpoint_get_tensor(const nb_checkpoint *k, int64_t i, nb_checkpoint_tensor *out)
{
    if (i < 0 || i >= k->c->n_tensor)
        return false;
    const nb_tensor *t = &k->c->tensor[i];
    *out = (nb_checkpoint_tensor){
        .name = t->name, .type = t->dtype->name, .n_dim = t->n_dim, .bytes = (int64_t)t->bytes};
    memcpy(out->shape, t->shape, sizeof out->shape);
    return true;
}

/* ---- metadata as JSON text ---- */

static nb_status add_string(nb_buf *b, const char *s, size_t n)
{
    nb_status st = nb_buf_add(b, "\"", 1, NULL);
    for (size_t i = 0; i < n && st == NB_OK;) {
        const unsigned char ch = (unsigned char)s[i];
        uint32_t c = 0;
        const int len = nb_character(s + i, (int64_t)(n - i), &c);
        if (!len) /* a value of GGUF may be any bytes */
            st = nb_buf_str(b, "\xef\xbf\xbd", NULL);
        else if (ch == '"' || ch == '\\')
            st = nb_buf_printf(b, NULL, "\\%c", ch);
        else if (ch < 0x20 || ch == 0x7f)
            st = nb_buf_printf(b, NULL, "\\u%04x", ch);
        else
            st = nb_buf_add(b, s + i, (size_t)len, NULL);
        i += len ? (size_t)len : 1;
    }
    return st == NB_OK ? nb_buf_add(b, "\"", 1, NULL) : st;
}

static nb_status add_number(nb_buf *b, double x, bool f32)
{
    char s[NB_NUMBER];
    nb_number(s, x, f32);
    return nb_buf_str(b, s, NULL);
}

/* One scalar at p; returns its size in the file, 0 when the buffer is full. */
static size_t add_scalar(nb_buf *b, nb_gguf_type type, const uint8_t *p)
{
    static const unsigned char size[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    uint64_t u = 0;
    nb_status st = NB_OK;
    if (type == NB_GGUF_STRING) {
        memcpy(&u, p, 8);
        return add_string(b, (const char *)p + 8, u) == NB_OK ? 8 + u : 0;
    }
    memcpy(&u, p, size[type]);
    const unsigned drop = 64 - 8u * size[type];
    double f = 0;
    float f32 = 0;
    switch (type) {
    case NB_GGUF_F32:
        memcpy(&f32, p, 4);
        st = add_number(b, (double)f32, true);
        break;
    case NB_GGUF_F64:
        memcpy(&f, p, 8);
        st = add_number(b, f, false);
        break;
    case NB_GGUF_BOOL:
        st = nb_buf_str(b, u ? "true" : "false", NULL);
        break;
    case NB_GGUF_I8:
    case NB_GGUF_I16:
    case NB_GGUF_I32:
    case NB_GGUF_I64:
        st = nb_buf_printf(b, NULL, "%lld", (long long)((int64_t)(u << drop) >> drop));
        break;
    default:
        st = nb_buf_printf(b, NULL, "%llu", (unsigned long long)u);
    }
    return st == NB_OK ? size[type] : 0;
}

static bool gguf_value(nb_buf *b, const nb_gguf_kv *kv)
{
    if (kv->type != NB_GGUF_ARRAY)
        return add_scalar(b, kv->type, kv->p) != 0;
    const uint8_t *p = kv->p;
    nb_status st = nb_buf_str(b, "[", NULL);
    for (uint64_t i = 0; i < kv->count && i < kShown && st == NB_OK && kv->elem != NB_GGUF_ARRAY;
         i++) {
        if (i)
            st = nb_buf_str(b, ",", NULL);
        const size_t n = st == NB_OK ? add_scalar(b, kv->elem, p) : 0;
        if (!n)
            return false;
        p += n;
    }
    /* still JSON: the last element says how many there are */
    if (st == NB_OK && kv->count > kShown)
        st = nb_buf_printf(b, NULL, ",\"... %llu in all\"", (unsigned long long)kv->count);
    return st == NB_OK && nb_buf_str(b, "]", NULL) == NB_OK;
}

static bool json_value(nb_buf *b, const nb_json_node *v)
{
    const char *s = NULL;
    size_t n = 0;
    int64_t i = 0;
    double d = 0;
    bool t = false;
    if (nb_json_string(v, &s, &n))
        return add_string(b, s, n) == NB_OK;
    if (nb_json_int(v, &i))
        return nb_buf_printf(b, NULL, "%lld", (long long)i) == NB_OK;
    if (nb_json_bool(v, &t))
        return nb_buf_str(b, t ? "true" : "false", NULL) == NB_OK;
    if (nb_json_real(v, &d))
        return add_number(b, d, false) == NB_OK;
    if (nb_json_typeof(v) == NB_JSON_NULL)
        return nb_buf_str(b, "null", NULL) == NB_OK;
    const bool array = nb_json_typeof(v) == NB_JSON_ARRAY;
    bool ok = nb_buf_str(b, array ? "[" : "{", NULL) == NB_OK;
    size_t at = 0;
    /* depth: the reader allows 128 */
    for (const nb_json_node *e = nb_json_first(v); e && ok; e = nb_json_next(e), at++) {
        const char *key = nb_json_key(e, &n);
        ok = !at || nb_buf_str(b, ",", NULL) == NB_OK;
        if (ok && key)
            ok = add_string(b, key, n) == NB_OK && nb_buf_str(b, ":", NULL) == NB_OK;
        ok = ok && json_value(b, e);
    }
    return ok && nb_buf_str(b, array ? "]" : "}", NULL) == NB_OK;
}

bool nb_checkpoint_get_metadata(const nb_checkpoint *c, int64_t i, const char **key,
                                const char **value_json)
{
    /* the text of the last answer is the only thing that changes */
    nb_checkpoint *k = (nb_checkpoint *)(uintptr_t)c;
    k->value.n = 0;
    bool ok = false;
    if (k->c->gguf && i >= 0 && i < k->c->gguf->n_kv) {
        const nb_gguf_kv *kv = &k->c->gguf->kv[i];
        nb_escape(k->key, (int64_t)sizeof k->key, kv->key.p, (int64_t)kv->key.n);
        ok = gguf_value(&k->value, kv);
    } else if (k->c->config && i >= 0) {
        const nb_json_node *v = nb_json_first(nb_json_root(k->c->config));
        size_t n = 0;
        for (int64_t at = 0; v && at < i; at++)
            v = nb_json_next(v);
        if (!v)
            return false;
        const char *name = nb_json_key(v, &n);
        if (name) {
            nb_escape(k->key, (int64_t)sizeof k->key, name, (int64_t)n);
            ok = json_value(&k->value, v);
        }
    } else
        return false;
    *key = k->key;
    *value_json = ok ? k->value.p : "null"; /* longer than 1 MiB */
    return true;
}

nb_status nb_checkpoint_verify(const nb_checkpoint *k, bool *manifest, nb_error *err)
{
    enum { kValues = 1 << 16 };
    float *f = nb_alloc(kValues, sizeof *f, "a slice", err);
    nb_status st = f ? NB_OK : NB_NO_ROOM;
    for (int64_t i = 0; i < k->c->n_tensor && st == NB_OK; i++) {
        const nb_tensor *t = &k->c->tensor[i];
        if (!t->dtype->decode)
            continue;
        const int64_t blocks = n_value(t) / t->dtype->block, step = kValues / t->dtype->block;
        for (int64_t b = 0; b < blocks && st == NB_OK; b += step) {
            const int64_t n = blocks - b < step ? blocks - b : step;
            t->dtype->decode(t->data + b * t->dtype->bytes, f, n);
            for (int64_t v = 0; v < n * t->dtype->block && st == NB_OK; v++)
                if (!isfinite(f[v]))
                    st = nb_fail_at(err, NB_NEGATIVE, nb_container_file(k->c, t),
                                    (int64_t)(t->offset + (uint64_t)(b * t->dtype->bytes)),
                                    "tensor %s holds NaN or Inf at value %lld", t->name,
                                    (long long)(b * t->dtype->block + v));
        }
        nb_container_release(k->c, t);
    }
    free(f);
    return st == NB_OK ? nb_verify_manifest(k->c, manifest, err) : st;
}
