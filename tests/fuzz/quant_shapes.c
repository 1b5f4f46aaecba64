/* quant_shapes.c -- fuzz target: a quantization_config, a NUL byte, and a linear as a scheme stores
 * it (hardening.md QZ).
 *
 *   JSON \0 N/8-1 K/8-1 flags { kind dim0 dim1 }[NB_SCHEME_TENSORS] bytes...       dim: 0 as it
 * should be, else the size itself; bytes: repeated
 *
 * What is accepted has codes of its width, groups that are there and finite scales; and where a
 * writer could have written it, writing and reading it again gives the same. */
#include "base/scalar.h"
#include "fuzz/fuzz.h"
#include "scheme/scheme.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { kMostSide = 128, kMostDim = 256, kMostCount = kMostDim * kMostDim };

typedef struct feed {
    const uint8_t *p;
    size_t n;
} feed;

static unsigned take(feed *f)
{
    if (!f->n)
        return 0;
    f->n--;
    return *f->p++;
}

/* The parts of one linear, each in memory of exactly its size. */
typedef struct parts {
    nb_tensor tensor[NB_SCHEME_TENSORS];
    const nb_tensor *part[NB_SCHEME_TENSORS];
} parts;

static void parts_free(parts *x)
{
    for (int i = 0; i < NB_SCHEME_TENSORS; i++)
        free((void *)(uintptr_t)x->tensor[i].data);
}

static bool parts_make(parts *x, const nb_scheme_spec *s, int64_t N, int64_t K, feed *f)
{
    static const char *const types[] = {"f16", "f32", "bf16", "i32", "i8", "i64"};
    nb_scheme_tensor want[NB_SCHEME_TENSORS];
    const int n = s->scheme->tensors(s, N, K, want);
    memset(x, 0, sizeof *x);
    for (int i = 0; i < n; i++) {
        nb_tensor *t = &x->tensor[i];
        const unsigned kind = take(f);
        *t =
            (nb_tensor){.name = "w", .dtype = want[i].dtype, .n_dim = want[i].n_dim, .offset = 100};
        if (kind % 8 == 7)
            continue; /* missing */
        if (kind >= 128)
            t->dtype = nb_dtype_by_name(types[kind % 6]);
        if (kind >= 240)
            t->n_dim = (int)(kind % 4);
        size_t count = 1;
        for (int d = 0; d < t->n_dim; d++) {
            const unsigned own = take(f);
            t->shape[d] = own ? (int64_t)own : d < 2 ? want[i].shape[d] : 1;
            if (t->shape[d] > kMostDim)
                return false;
            count *= (size_t)t->shape[d];
        }
        if (count > kMostCount)
            return false;
        t->bytes = count * (size_t)t->dtype->bytes;
        uint8_t *to = malloc(t->bytes ? t->bytes : 1);
        if (!to)
            return false;
        for (size_t k = 0; k < t->bytes; k++)
            to[k] = f->n ? f->p[k % f->n] : (uint8_t)k;
        if (f->n > 4 * (size_t)n) { /* each tensor its own piece, the last one what is left */
            f->p += f->n / (size_t)n;
            f->n -= f->n / (size_t)n;
        }
        t->data = to;
        x->part[i] = t;
    }
    return true;
}

typedef struct matrix { /* canonical, in memory of exactly its size */
    uint8_t *codes;
    nb_group *groups;
    int32_t *g_idx;
    bool act_order;
} matrix;

static void matrix_free(matrix *m)
{
    free(m->codes);
    free(m->groups);
    free(m->g_idx);
}

static nb_status matrix_read(matrix *m, const nb_scheme_spec *s, int64_t N, int64_t K,
                             const nb_tensor *const *part, nb_error *err)
{
    *m = (matrix){malloc((size_t)(N * K)),
                  calloc((size_t)(N * nb_scheme_groups(s, K)), sizeof *m->groups),
                  malloc((size_t)K * sizeof *m->g_idx), false};
    if (!m->codes || !m->groups || !m->g_idx)
        return NB_NO_ROOM;
    return s->scheme->unpack(s, "fuzz", "linear", N, K, part, m->codes, m->groups, m->g_idx,
                             &m->act_order, 1, err);
}

static void in_range(const matrix *m, const nb_scheme_spec *s, int64_t N, int64_t K)
{
    const int64_t G = nb_scheme_groups(s, K);
    for (int64_t i = 0; i < N * K; i++)
        FUZZ_PROMISE(m->codes[i] < 1u << s->bits, "a code of its width");
    for (int64_t i = 0; i < N * G; i++)
        FUZZ_PROMISE(isfinite(m->groups[i].scale) && m->groups[i].zero >= 0.0f &&
                         m->groups[i].zero <= (float)(1 << s->bits) - 1.0f,
                     "a finite scale, a zero among the codes");
    for (int64_t k = 0; k < K; k++)
        FUZZ_PROMISE(m->g_idx[k] >= 0 && m->g_idx[k] < G, "a group that is there");
}

/* What was read, written and read again. */
static void round_trip(const matrix *m, const nb_scheme_spec *s, int64_t N, int64_t K)
{
    parts x;
    matrix again = {0};
    uint8_t *bytes[NB_SCHEME_TENSORS] = {0};
    nb_scheme_tensor want[NB_SCHEME_TENSORS];
    nb_error err = {.offset = -1};
    const int64_t G = nb_scheme_groups(s, K);
    const int n = s->scheme->tensors(s, N, K, want);
    memset(&x, 0, sizeof x);
    for (int i = 0; i < n; i++) {
        if (!want[i].written)
            continue;
        const size_t size =
            (size_t)(want[i].shape[0] * (want[i].n_dim > 1 ? want[i].shape[1] : 1)) *
            (size_t)want[i].dtype->bytes;
        bytes[i] = malloc(size ? size : 1);
        if (!bytes[i])
            exit(1);
        x.tensor[i] = (nb_tensor){.name = "w",
                                  .dtype = want[i].dtype,
                                  .n_dim = want[i].n_dim,
                                  .shape = {want[i].shape[0], want[i].shape[1]},
                                  .data = bytes[i],
                                  .bytes = size};
        x.part[i] = &x.tensor[i];
    }
    const nb_matrix canon = {.N = N,
                             .K = K,
                             .codes = m->codes,
                             .groups = m->groups,
                             .bits = s->bits,
                             .group = s->group,
                             .g_idx = m->act_order ? m->g_idx : NULL};
    nb_status st = s->scheme->pack(s, "linear", &canon, bytes, 1, &err);
    FUZZ_PROMISE(st == NB_OK || st == NB_UNSUPPORTED,
                 "a matrix that was read is written or has no place");
    if (st == NB_OK) {
        st = matrix_read(&again, s, N, K, x.part, &err);
        FUZZ_PROMISE(st == NB_OK, "what was written is read");
        FUZZ_PROMISE(memcmp(again.codes, m->codes, (size_t)(N * K)) == 0, "the same codes");
        FUZZ_PROMISE(memcmp(again.g_idx, m->g_idx, (size_t)K * sizeof *m->g_idx) == 0,
                     "the same order");
        for (int64_t i = 0; i < N * G; i++)
            FUZZ_PROMISE(again.groups[i].zero == m->groups[i].zero &&
                             again.groups[i].scale == m->groups[i].scale,
                         "the same groups");
    }
    matrix_free(&again);
    parts_free(&x);
}

static void linear(const nb_scheme_spec *s, feed *f)
{
    parts x;
    matrix m = {0};
    nb_error err = {.offset = -1};
    const int64_t N = 8 * (1 + take(f) % (kMostSide / 8)), K = 8 * (1 + take(f) % (kMostSide / 8));
    const bool wide = take(f) % 2; /* whole words along both sides at every width */
    const int64_t n = wide ? (N + 31) / 32 * 32 : N, k = wide ? (K + 31) / 32 * 32 : K;
    if (parts_make(&x, s, n, k, f)) {
        nb_status st = nb_scheme_check_parts(s, "fuzz", "linear", n, k, x.part, &err);
        FUZZ_PROMISE(st == NB_OK || (st == NB_BAD_INPUT && err.message[0]), "parts or a refusal");
        if (st == NB_OK) {
            st = matrix_read(&m, s, n, k, x.part, &err);
            FUZZ_PROMISE(st == NB_OK ||
                             ((st == NB_BAD_INPUT || st == NB_UNSUPPORTED) && err.message[0]),
                         "a matrix or a refusal");
        }
        if (st == NB_OK) {
            in_range(&m, s, n, k);
            if (s->scheme->check(s, "linear", n, k, &err) == NB_OK &&
                (!m.act_order || s->act_order))
                round_trip(&m, s, n, k);
        }
    }
    matrix_free(&m);
    parts_free(&x);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    nb_json *doc = NULL;
    nb_error err = {.offset = -1};
    nb_scheme_spec base, own;
    bool quantized = false;
    const uint8_t *end = size ? memchr(data, 0, size) : NULL;
    const size_t n = end ? (size_t)(end - data) : size;
    if (nb_json_parse("fuzz", (const char *)data, n, &doc, &err) != NB_OK)
        return 0;
    nb_status st = nb_scheme_detect("fuzz", nb_json_root(doc), &base, &err);
    FUZZ_PROMISE(st == NB_OK || ((st == NB_BAD_INPUT || st == NB_UNSUPPORTED) && err.message[0]),
                 "a config is read, wrong or unsupported");
    if (st == NB_OK && base.scheme) {
        FUZZ_PROMISE(base.bits == 2 || base.bits == 3 || base.bits == 4 || base.bits == 8,
                     "a width that is read");
        FUZZ_PROMISE(base.group >= 0, "a group");
        st = nb_scheme_module(&base, "fuzz", "model.layers.0.self_attn.q_proj", &quantized, &own,
                              &err);
        FUZZ_PROMISE(st == NB_OK ||
                         ((st == NB_BAD_INPUT || st == NB_UNSUPPORTED) && err.message[0]),
                     "a module is quantized, not, or a refusal");
        feed f = {end ? end + 1 : data + size, end ? size - n - 1 : 0};
        if (st == NB_OK && quantized)
            linear(&own, &f);
    }
    nb_json_close(doc);
    return 0;
}
