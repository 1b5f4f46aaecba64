/* rope.c -- rotation of q and k and the append to the cache, on every backend. NUMERICS.md
 * "rope_append_kv".
 *
 * out of a run: q, k, then both caches, as bytes behind one another. */
#include "backend/kv.h"
#include "ops/bounds.h"
#include "ops/ops.h"

typedef struct rope_case {
    int32_t M, n_head, n_kv_head, head_dim, rope_dim, n_page, n_seq, seq_pages, max_len;
    int64_t ldq, ldk, ldv;
    bool interleaved;
    nb_kv_type type;
    const float *q, *k, *v, *inv_freq;
    const int32_t *seq, *pos, *page;
} rope_case;

static nb_kv cache_of(const rope_case *c)
{
    return (nb_kv){.type = c->type,
                   .n_page = c->n_page,
                   .n_seq = c->n_seq,
                   .seq_pages = c->seq_pages,
                   .n_kv_head = c->n_kv_head,
                   .head_dim = c->head_dim,
                   .page = c->page};
}

static size_t kv_count(const rope_case *c)
{
    return (size_t)c->n_page * NB_KV_PAGE * (size_t)c->n_kv_head * (size_t)c->head_dim;
}

static size_t q_bytes(const rope_case *c)
{
    return (size_t)(c->M * c->ldq) * sizeof(float);
}

static size_t k_bytes(const rope_case *c)
{
    return (size_t)(c->M * c->ldk) * sizeof(float);
}

static bool run_rope(ops *o, const void *args, void *out)
{
    const rope_case *c = args;
    nb_error err = {.message = ""};
    if (!ops_has(o, o->be->op->rope_append_kv != NULL, "rope_append_kv"))
        return false;
    nb_kv kv = cache_of(c);
    const size_t cache = nb_kv_bytes(&kv);
    kv.k = ops_out(o, cache);
    kv.v = ops_out(o, cache);
    kv.page = ops_in(o, c->page, (size_t)(c->n_seq * c->seq_pages) * 4);
    const nb_batch batch = {.n_token = c->M,
                            .seq = ops_in(o, c->seq, (size_t)c->M * 4),
                            .pos = ops_in(o, c->pos, (size_t)c->M * 4),
                            .max_len = c->max_len};
    const nb_rope_args a = {.q = ops_inout(o, c->q, q_bytes(c)),
                            .k = ops_inout(o, c->k, k_bytes(c)),
                            .v = ops_in(o, c->v, (size_t)(c->M * c->ldv) * sizeof(float)),
                            .ldq = c->ldq,
                            .ldk = c->ldk,
                            .ldv = c->ldv,
                            .n_head = c->n_head,
                            .rope_dim = c->rope_dim,
                            .interleaved = c->interleaved,
                            .inv_freq =
                                ops_in(o, c->inv_freq, (size_t)(c->rope_dim / 2) * sizeof(float)),
                            .batch = &batch,
                            .kv = &kv};
    const bool good = ops_ok(o, o->be->op->rope_append_kv(o->be, &a, &err), &err);
    if (good) {
        uint8_t *to = out;
        ops_get(o, a.q, to);
        ops_get(o, a.k, to += q_bytes(c));
        ops_get(o, kv.k, to += k_bytes(c));
        ops_get(o, kv.v, to + cache);
    }
    return good;
}

/* How far apart two roundings of the same value may be: one step of the type where the value is b;
 * of q8 also a last bit of the scale, which moves 127 codes. */
static double one_step(const nb_kv *kv, const uint8_t *cache, int64_t at, double b)
{
    switch (kv->type) {
    case NB_KV_F16:
        return 0x1p-10 * fabs(b) + 0x1p-24;
    case NB_KV_BF16:
        return 0x1p-7 * fabs(b);
    case NB_KV_Q8:
        return (double)nb_f32_from_f16(
                   nb_kv_scales(kv, cache, at)[at % kv->head_dim / NB_KV_GROUP]) +
               0x1p-10 * fabs(b);
    case NB_KV_FP8:
        return 0x1p-3 * fabs(b) + 0x1p-9;
    default:
        return 0;
    }
}

/* Rows of heads: a rotated element may differ by the roundings of two products, their sum, cos and
 * sin. */
static void compare_heads(ops *o, const rope_case *c, const float *x0, int64_t ld, int32_t n_head,
                          const float *got, const float *want)
{
    ops_gaps(o, got, sizeof(float), c->M, (int64_t)n_head * c->head_dim, ld);
    for (int64_t m = 0; m < c->M; m++)
        for (int32_t i = 0; i < n_head * c->head_dim; i++) {
            const int32_t d = i % c->head_dim, half = c->rope_dim / 2;
            const int32_t other = c->interleaved ? i ^ 1 : d < half ? i + half : i - half;
            const double tol =
                d < c->rope_dim
                    ? 4 * BOUND_U *
                          (fabs((double)x0[m * ld + i]) + fabs((double)x0[m * ld + other]))
                    : 0;
            CHECK_NEAR(o->c, got[m * ld + i], want[m * ld + i], tol, o->what);
        }
}

static void compare_rope(ops *o, const void *args, const void *got, const void *want)
{
    const rope_case *c = args;
    const uint8_t *g = got, *w = want;
    compare_heads(o, c, c->q, c->ldq, c->n_head, (const float *)got, (const float *)want);
    g += q_bytes(c);
    w += q_bytes(c);
    compare_heads(o, c, c->k, c->ldk, c->n_kv_head, (const float *)(const void *)g,
                  (const float *)(const void *)w);
    g += k_bytes(c);
    w += k_bytes(c);
    /* what was not written is still the poison in both; a k that differs in a last bit may be
     * rounded the other way */
    const nb_kv kv = cache_of(c);
    const int64_t n = (int64_t)kv_count(c);
    int64_t poison = 0;
    for (int of_v = 0; of_v < 2; of_v++, g += nb_kv_bytes(&kv), w += nb_kv_bytes(&kv))
        for (int64_t i = 0; i < n; i++) {
            const double a = (double)nb_kv_get(&kv, g, i), b = (double)nb_kv_get(&kv, w, i);
            poison += isnan(b);
            CHECK_NEAR(o->c, a, b, of_v ? 0 : one_step(&kv, w, i, b) + 16 * BOUND_U * (fabs(b) + 4),
                       o->what);
        }
    CHECK_EQ(o->c, poison, 2 * (n - (int64_t)c->M * c->n_kv_head * c->head_dim));
}

static const ops_test test = {run_rope, compare_rope};

static const char *const kTypes[] = {"f32", "f16", "bf16", "q8", "fp8"};

static const struct rope_shape {
    int32_t M, n_head, n_kv_head, head_dim, rope_dim;
    bool interleaved;
    nb_kv_type type;
} shapes[] = {
    {1, 9, 3, 64, 64, false, NB_KV_F16},  {1, 9, 3, 64, 64, false, NB_KV_F32},
    {7, 4, 4, 128, 128, true, NB_KV_F16}, {8, 8, 1, 80, 20, false, NB_KV_F16},
    {9, 14, 2, 64, 32, true, NB_KV_F32},  {17, 4, 2, 96, 96, false, NB_KV_F32},
    {64, 9, 3, 64, 64, false, NB_KV_F16}, {64, 3, 1, 256, 256, false, NB_KV_F32},
    {5, 2, 2, 16, 2, true, NB_KV_F16},    {3, 2, 1, 48, 0, false, NB_KV_F16},
    {9, 9, 3, 64, 64, false, NB_KV_BF16}, {5, 4, 2, 80, 20, true, NB_KV_BF16},
    {9, 9, 3, 64, 64, false, NB_KV_Q8},   {7, 4, 2, 80, 20, true, NB_KV_Q8},
    {2, 3, 1, 256, 256, false, NB_KV_Q8}, {5, 2, 2, 20, 20, false, NB_KV_Q8},
    {9, 9, 3, 64, 64, false, NB_KV_FP8},  {5, 4, 2, 80, 20, true, NB_KV_FP8},
};

static void each_shape(check *c, ops_set *set)
{
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const struct rope_shape *s = &shapes[i];
        nb_rng r;
        ops_seed(&r, 77 + i);
        rope_case k = {.M = s->M,
                       .n_head = s->n_head,
                       .n_kv_head = s->n_kv_head,
                       .head_dim = s->head_dim,
                       .rope_dim = s->rope_dim,
                       .interleaved = s->interleaved,
                       .type = s->type,
                       .n_seq = 3,
                       .seq_pages = 2};
        k.ldq = s->n_head * s->head_dim + (int64_t)(i % 3) * 3;
        k.ldk = s->n_kv_head * s->head_dim + (int64_t)(i % 2) * 5;
        k.ldv = s->n_kv_head * s->head_dim + (int64_t)(i % 4) * 4;
        float *q = ops_rows(&r, k.M, s->n_head * s->head_dim, k.ldq, 1.0f),
              *kk = ops_rows(&r, k.M, s->n_kv_head * s->head_dim, k.ldk, 1.0f);
        float *v = ops_rows(&r, k.M, s->n_kv_head * s->head_dim, k.ldv, 1.0f),
              *f = ops_alloc((size_t)(s->rope_dim / 2), sizeof *f);
        int32_t *seq = ops_alloc((size_t)k.M, sizeof *seq),
                *pos = ops_alloc((size_t)k.M, sizeof *pos);
        for (int32_t j = 0; j < s->rope_dim / 2; j++)
            f[j] = (float)pow(10000.0, -2.0 * j / s->rope_dim);
        int32_t next[3] = {0, 31, 118};
        for (int32_t m = 0; m < k.M;
             m++) { /* three sequences, interleaved; the last is nearly full */
            const int32_t t = next[m % 3] < k.seq_pages * NB_KV_PAGE ? m % 3 : 0;
            seq[m] = t;
            pos[m] = next[t]++;
            k.max_len = pos[m] + 1 > k.max_len ? pos[m] + 1 : k.max_len;
        }
        int32_t *page = ops_pages(&r, next, k.n_seq, k.seq_pages, &k.n_page);
        /* beyond a type, below it, halfway */
        static const float odd[] = {500.0f, -1e-9f,    7e4f,  -0.0f,   448.0f,
                                    464.0f, -0x1p-10f, 3e-3f, 1.0625f, -1.1875f};
        for (size_t j = 0; s->type > NB_KV_F16 && j < sizeof odd / sizeof *odd; j++)
            v[j] = odd[j];
        for (int32_t j = 0; s->type > NB_KV_F16 && k.M > 1 && j < NB_KV_GROUP && j < s->head_dim;
             j++)
            v[k.ldv + j] = 0.0f; /* a group without a scale */
        k.q = q;
        k.k = kk;
        k.v = v;
        k.inv_freq = f;
        k.seq = seq;
        k.pos = pos;
        k.page = page;
        char what[128];
        snprintf(what, sizeof what, "M %d heads %d/%d of %d, rope_dim %d%s, cache %s", s->M,
                 s->n_head, s->n_kv_head, s->head_dim, s->rope_dim,
                 s->interleaved ? " interleaved" : "", kTypes[s->type]);
        const nb_kv kv = cache_of(&k);
        const size_t bytes = q_bytes(&k) + k_bytes(&k) + 2 * nb_kv_bytes(&kv);
        const int64_t work = k.M * (k.ldq + k.ldk);
        if (set)
            ops_against_ref(set, &test, &k, bytes, work, what);
        else
            ops_same_bits(c, &test, &k, bytes, work, what);
        free(q);
        free(kk);
        free(v);
        free(f);
        free(seq);
        free(pos);
        free(page);
    }
}

static void a_quarter_turn(check *c)
{
    /* inv_freq pi/2 at pos 1: (a, b) -> (-b, a); pos 2: (-a, -b). head_dim 6, rope_dim 4: elements
     * 4, 5 pass. */
    static const float inv_freq[] = {1.57079637f, 1.57079637f};
    static const int32_t seq[] = {0, 0}, pos[] = {1, 2}, page[] = {0};
    static const float want[2][2][6] = {{{-3, -4, 1, 2, 5, 6}, {-1, -2, -3, -4, 5, 6}},
                                        {{-2, 1, -4, 3, 5, 6}, {-1, -2, -3, -4, 5, 6}}};
    nb_error err = {.message = ""};
    nb_backend *be = NULL;
    const nb_backend_options opt = {.exact = true};
    CHECK_EQ(c, nb_backend_open("ref", &opt, &be, &err), NB_OK);
    if (!be)
        return;
    for (int inter = 0; inter < 2; inter++) {
        float q[2][6] = {{1, 2, 3, 4, 5, 6}, {1, 2, 3, 4, 5, 6}}, k[2][6],
              v[2][6] = {{1.5f, 2, 3, 4, 5, 6}, {7, 8, 9, 10, 11, 12}};
        float cache_k[NB_KV_PAGE][6] = {{0}}, cache_v[NB_KV_PAGE][6] = {{0}};
        memcpy(k, q, sizeof k);
        const nb_batch batch = {.n_token = 2, .seq = seq, .pos = pos, .max_len = 3};
        const nb_kv kv = {.type = NB_KV_F32,
                          .n_page = 1,
                          .n_seq = 1,
                          .seq_pages = 1,
                          .n_kv_head = 1,
                          .head_dim = 6,
                          .page = page,
                          .k = cache_k,
                          .v = cache_v};
        const nb_rope_args a = {.q = &q[0][0],
                                .k = &k[0][0],
                                .v = &v[0][0],
                                .ldq = 6,
                                .ldk = 6,
                                .ldv = 6,
                                .n_head = 1,
                                .rope_dim = 4,
                                .interleaved = inter != 0,
                                .inv_freq = inv_freq,
                                .batch = &batch,
                                .kv = &kv};
        CHECK_EQ(c, be->op->rope_append_kv(be, &a, &err), NB_OK);
        for (int m = 0; m < 2; m++)
            for (int i = 0; i < 6; i++) {
                CHECK_NEAR(c, q[m][i], want[inter][m][i], 1e-6, "q turned");
                CHECK_NEAR(c, k[m][i], want[inter][m][i], 1e-6, "k turned");
                CHECK_NEAR(c, cache_k[pos[m]][i], k[m][i], 0, "k in the cache");
                CHECK_NEAR(c, cache_v[pos[m]][i], v[m][i], 0, "v in the cache");
            }
    }
    nb_backend_close(be);
}

static void every_shape(check *c)
{
    ops_set set;
    ops_set_open(&set, c);
    each_shape(c, &set);
    ops_set_close(&set);
}

static void same_bits(check *c)
{
    each_shape(c, NULL);
}

static const check_case cases[] = {
    {"ref turns pairs by a quarter and fills the cache", a_quarter_turn},
    {"every backend agrees with ref on every shape, both pairings, every type of the cache",
     every_shape},
    {"the bits do not depend on the run or the number of threads", same_bits},
};
CHECK_MAIN(cases)
