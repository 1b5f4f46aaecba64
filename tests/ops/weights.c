/* weights.c -- random weights of every kind. A format with an encoder encodes normals; of another,
 * random bytes are taken whose decoded block is finite and of sane size. Blocks come from a pool of
 * 256, drawn again for every place, so that a format whose sane blocks are rare costs no more than
 * any other. */
#include "ops/weights.h"
#include "base/scalar.h"
#include "ops/ops.h"

enum { POOL = 256, TRIES = 100000, MAX_BLOCK = 1024 };

/* How inputs belong to groups: in turn; shuffled, each group of its size (act-order); any, groups
 * of any size. */
enum { IN_TURN, SHUFFLED, ANY };

/* The canonical rows: bits x group, symmetric and not, one with a minimum. group 0 is the row. */
static const struct canonical {
    int bits, group;
    bool sym, has_min;
    int order;
} canonical[] = {
    {4, 32, true, false, IN_TURN},    {4, 32, false, true, IN_TURN},
    {4, 64, false, false, IN_TURN},   {4, 128, true, false, IN_TURN},
    {4, 128, false, false, IN_TURN},  {4, 0, false, false, IN_TURN},
    {2, 32, false, false, IN_TURN},   {2, 64, true, false, IN_TURN},
    {2, 128, false, false, IN_TURN},  {2, 0, false, false, IN_TURN},
    {3, 32, true, false, IN_TURN},    {3, 64, false, false, IN_TURN},
    {3, 128, false, false, IN_TURN},  {3, 0, true, false, IN_TURN},
    {8, 32, true, false, IN_TURN},    {8, 64, false, false, IN_TURN},
    {8, 128, true, false, IN_TURN},   {8, 0, false, false, IN_TURN},
    {4, 48, false, false, IN_TURN},   {4, 96, false, true, IN_TURN},
    {4, 192, true, false, IN_TURN},   {4, 32, true, false, SHUFFLED},
    {4, 64, false, false, SHUFFLED},  {4, 128, true, false, SHUFFLED},
    {8, 128, false, false, SHUFFLED}, {3, 64, false, true, ANY},
    {2, 16, false, false, IN_TURN},   {3, 16, true, false, IN_TURN},
    {4, 16, false, false, IN_TURN},   {8, 16, false, true, IN_TURN},
    {5, 64, false, false, IN_TURN},   {2, 64, true, false, SHUFFLED},
    {4, 128, false, true, IN_TURN},   {4, 384, false, false, IN_TURN},
    {2, 16, false, true, IN_TURN},
};
enum { N_CANONICAL = sizeof canonical / sizeof *canonical };

/* The kind-th format that holds weights (whole numbers decode to nothing); NULL past the last. */
static const nb_dtype *format_of(int kind)
{
    for (const nb_dtype *const *t = nb_dtypes; *t; t++)
        if ((*t)->decode && kind-- == 0)
            return *t;
    return NULL;
}

static int n_format(void)
{
    int n = 0;
    while (format_of(n))
        n++;
    return n;
}

int ops_kind_count(void)
{
    return n_format() + N_CANONICAL;
}

static const struct canonical *canonical_of(int kind)
{
    const int n = n_format();
    return kind < n ? NULL : &canonical[kind - n];
}

void ops_kind_name(int kind, char *dst, size_t n)
{
    const struct canonical *c = canonical_of(kind);
    if (c)
        snprintf(dst, n, "int%d group %d%s%s%s", c->bits, c->group, c->sym ? " sym" : "",
                 c->has_min ? " min" : "",
                 c->order == SHUFFLED ? " act-order"
                 : c->order == ANY    ? " any order"
                                      : "");
    else
        snprintf(dst, n, "%s", format_of(kind)->name);
}

bool ops_kind_fits(int kind, int64_t K)
{
    return canonical_of(kind) || nb_dtype_row_bytes(format_of(kind), K) >= 0;
}

bool ops_kind_float(int kind)
{
    return !canonical_of(kind) && format_of(kind)->block == 1;
}

static bool sane(const float *v, int n)
{
    float top = 0;
    for (int i = 0; i < n; i++) {
        if (!isfinite(v[i]))
            return false;
        top = fabsf(v[i]) > top ? fabsf(v[i]) : top;
    }
    return top >= 0x1p-4f && top <= 0x1p4f;
}

static bool make_block(const nb_dtype *t, nb_rng *r, uint8_t *dst)
{
    float v[MAX_BLOCK];
    if (t->block > MAX_BLOCK)
        return false;
    for (int i = 0; i < TRIES; i++) {
        if (t->encode) {
            for (int j = 0; j < t->block; j++)
                v[j] = nb_rng_normal(r);
            t->encode(v, dst, 1);
        } else {
            for (int j = 0; j < t->bytes; j++)
                dst[j] = (uint8_t)(nb_rng_u64(r) >> 56);
        }
        t->decode(dst, v, 1);
        if (sane(v, t->block))
            return true;
    }
    return false;
}

static bool make_rows(const nb_dtype *t, nb_rng *r, ops_weight *w)
{
    const int64_t N = w->m.N, K = w->m.K, n_block = N * (K / t->block);
    const size_t bytes = (size_t)t->bytes;
    uint8_t *pool = ops_alloc(POOL, bytes);
    bool good = true;
    for (int i = 0; i < POOL && good; i++)
        good = make_block(t, r, pool + (size_t)i * bytes);
    if (good) {
        w->rows = ops_alloc((size_t)n_block, bytes);
        for (int64_t b = 0; b < n_block; b++)
            memcpy(w->rows + (size_t)b * bytes, pool + (nb_rng_u64(r) >> 56) * bytes, bytes);
        t->decode(w->rows, w->value, n_block);
        memcpy(w->part, w->value, (size_t)(N * K) * sizeof *w->part);
        if (t->canon == NB_CANON_AFFINE) {
            uint8_t *code = ops_alloc((size_t)(N * K), 1);
            float *scale = ops_alloc((size_t)(N * K / t->group), sizeof *scale);
            float *min = ops_alloc((size_t)(N * K / t->group), sizeof *min);
            t->split(w->rows, n_block, code, scale, min);
            for (int64_t i = 0; i < N * K; i++)
                w->part[i] = scale[i / t->group] * (float)code[i];
            free(code);
            free(scale);
            free(min);
        }
    }
    free(pool);
    w->m.dtype = t;
    w->m.rows = w->rows;
    return good;
}

static void make_canonical(const struct canonical *c, nb_rng *r, ops_weight *w)
{
    const int64_t N = w->m.N, K = w->m.K, group = c->group ? c->group : K,
                  G = (K + group - 1) / group;
    const int q = (1 << c->bits) - 1;
    w->codes = ops_alloc((size_t)(N * K), 1);
    w->groups = ops_alloc((size_t)(N * G), sizeof *w->groups);
    for (int64_t i = 0; i < N * G; i++) {
        nb_group *p = &w->groups[i];
        p->scale = nb_f32_from_f16(nb_f16_from_f32((float)((0.5 + nb_rng_double(r)) * 4.0 / q)));
        p->zero = c->has_min ? 0.0f
                  : c->sym   ? (float)((q + 1) / 2)
                             : (float)(nb_rng_u64(r) % (unsigned)(q + 1));
        p->min =
            c->has_min ? nb_f32_from_f16(nb_f16_from_f32(-2.0f * (float)nb_rng_double(r))) : 0.0f;
    }
    if (c->order != IN_TURN) {
        w->g_idx = ops_alloc((size_t)K, sizeof *w->g_idx);
        for (int64_t k = 0; k < K; k++)
            w->g_idx[k] =
                (int32_t)(c->order == ANY ? (int64_t)(nb_rng_u64(r) % (uint64_t)G) : k / group);
        for (int64_t k = K - 1; k > 0 && c->order == SHUFFLED; k--) {
            const int64_t j = (int64_t)(nb_rng_u64(r) % (uint64_t)(k + 1));
            const int32_t g = w->g_idx[k];
            w->g_idx[k] = w->g_idx[j];
            w->g_idx[j] = g;
        }
    }
    for (int64_t n = 0; n < N; n++)
        for (int64_t k = 0; k < K; k++) {
            const nb_group *p = &w->groups[n * G + (w->g_idx ? w->g_idx[k] : k / group)];
            const int code = (int)(nb_rng_u64(r) % (unsigned)(q + 1));
            w->codes[n * K + k] = (uint8_t)code;
            w->value[n * K + k] = nb_group_value(p, w->m.table, code);
            w->part[n * K + k] = p->scale * (float)code;
        }
    w->m.codes = w->codes;
    w->m.groups = w->groups;
    w->m.bits = c->bits;
    w->m.group = c->group;
    w->m.g_idx = w->g_idx;
}

bool ops_weight_make(int kind, int64_t N, int64_t K, nb_rng *r, ops_weight *out)
{
    *out = (ops_weight){.m = {.N = N, .K = K}};
    out->value = ops_alloc((size_t)(N * K), sizeof *out->value);
    out->part = ops_alloc((size_t)(N * K), sizeof *out->part);
    const struct canonical *c = canonical_of(kind);
    if (!c)
        return make_rows(format_of(kind), r, out);
    make_canonical(c, r, out);
    return true;
}

void ops_weight_free(ops_weight *w)
{
    free(w->rows);
    free(w->codes);
    free(w->groups);
    free(w->g_idx);
    free(w->value);
    free(w->part);
    *w = (ops_weight){.m = {.N = 0}};
}

void ops_int8_half_steps(const float *x, int64_t K, float *half)
{
    enum { ACT_GROUP = 256 };
    for (int64_t first = 0; first < K; first += ACT_GROUP) {
        const int64_t end = first + ACT_GROUP < K ? first + ACT_GROUP : K;
        float top = 0;
        for (int64_t k = first; k < end; k++)
            top = fabsf(x[k]) > top ? fabsf(x[k]) : top;
        for (int64_t k = first; k < end; k++)
            half[k] = top / 254.0f;
    }
}

void ops_product(const ops *o, int kind, const float *w, const float *part, const float *x,
                 const float *half, int64_t K, bound_sum *whole, double *rss)
{
    const bool int8 = o->row->arith == OPS_INT8 && !ops_kind_float(kind) && !o->no_int8,
               bf16 = o->row->arith != OPS_F32;
    bound_sum codes = {0, 0}, mins = {0, 0};
    for (int64_t k = 0; k < K; k++) {
        const double wk = (double)w[k], xk = (double)x[k];
        bound_add(whole, wk * xk);
        if (part[k] != w[k]) {
            bound_add(&codes, (double)part[k] * xk);
            bound_add(&mins, (wk - (double)part[k]) * xk);
        }
        const double d8 = int8 ? wk * (double)half[k] : 0, d16 = bf16 ? wk * xk * BOUND_BF16 : 0;
        *rss += d8 * d8 + 2 * d16 * d16;
    }
    whole->drift += codes.drift + mins.drift;
}
