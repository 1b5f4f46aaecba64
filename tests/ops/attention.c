/* attention.c -- causal attention over the cache, prefill and decode, on every backend. NUMERICS.md
 * "attention". */
#include "backend/kv.h"
#include "ops/bounds.h"
#include "ops/ops.h"

typedef struct attention_case {
    int32_t M, n_head, n_kv_head, head_dim, n_page, n_seq, seq_pages, max_len, window;
    int64_t ldq, ldo;
    float scale, soft_cap;
    nb_kv_type type;
    const float *q;
    const uint8_t *k, *v; /* the caches as they lie in memory; positions no query may see are NaN */
    const float *kf, *vf; /* the same as floats */
    const int32_t *seq, *pos, *page;
} attention_case;

static size_t cache_count(const attention_case *c)
{
    return (size_t)c->n_page * NB_KV_PAGE * (size_t)c->n_kv_head * (size_t)c->head_dim;
}

static nb_kv cache_of(const attention_case *c)
{
    return (nb_kv){.type = c->type,
                   .n_page = c->n_page,
                   .n_seq = c->n_seq,
                   .seq_pages = c->seq_pages,
                   .n_kv_head = c->n_kv_head,
                   .head_dim = c->head_dim,
                   .page = c->page};
}

static bool run_attention(ops *o, const void *args, void *out)
{
    const attention_case *c = args;
    nb_error err = {.message = ""};
    if (!ops_has(o, o->be->op->attention != NULL, "attention"))
        return false;
    nb_kv kv = cache_of(c);
    kv.k = ops_inout(o, c->k, nb_kv_bytes(&kv));
    kv.v = ops_inout(o, c->v, nb_kv_bytes(&kv));
    kv.page = ops_in(o, c->page, (size_t)(c->n_seq * c->seq_pages) * 4);
    const nb_batch batch = {.n_token = c->M,
                            .seq = ops_in(o, c->seq, (size_t)c->M * 4),
                            .pos = ops_in(o, c->pos, (size_t)c->M * 4),
                            .max_len = c->max_len};
    nb_attention_args a = {.q = ops_in(o, c->q, (size_t)(c->M * c->ldq) * sizeof(float)),
                           .ldq = c->ldq,
                           .ldo = c->ldo,
                           .batch = &batch,
                           .kv = &kv,
                           .n_head = c->n_head,
                           .scale = c->scale,
                           .window = c->window,
                           .soft_cap = c->soft_cap,
                           .out = ops_out(o, (size_t)(c->M * c->ldo) * sizeof(float))};
    a.scratch = ops_out(o, o->be->op->attention_scratch(o->be, &a));
    const bool good = ops_ok(o, o->be->op->attention(o->be, &a, &err), &err);
    if (good)
        ops_get(o, a.out, out);
    return good;
}

/* The bound of one query and head. With p the softmax, out = sum_t p_t v_t and to first order
 *     d out = sum_t p_t (v_t - out) ds_t  +  the roundings of the weighted sum itself,
 * so a score's error ds_t counts as far as its value stands off the mean. */
static void compare_head(ops *o, const attention_case *c, int64_t m, int32_t h, const float *y,
                         const float *ref, double *p, double *ds)
{
    const nb_kv kv = cache_of(c);
    const int64_t dim = c->head_dim, step = c->n_kv_head * dim, pos = c->pos[m],
                  head = h / (c->n_head / c->n_kv_head) * dim;
    const int64_t first = c->window > 0 && pos >= c->window ? pos - c->window + 1 : 0;
    const float *q = c->q + m * c->ldq + h * dim;
    const double bf16 = o->row->arith == OPS_F32 ? 0 : BOUND_BF16;
    double top = -HUGE_VAL, sum = 0;
    for (int64_t t = first; t <= pos; t++) {
        const float *k = c->kf + nb_kv_place(&kv, c->seq[m], t) * step + head;
        bound_sum dot = {0, 0};
        double rss = 0;
        for (int64_t i = 0; i < dim; i++) {
            const double x = (double)q[i] * (double)k[i];
            bound_add(&dot, x);
            rss += 2 * x * bf16 * x * bf16;
        }
        p[t] = (double)c->scale * dot.sum;
        ds[t] =
            fabs((double)c->scale) * (bound_of(&dot) + 4 * sqrt(rss)) + 2 * BOUND_U * fabs(p[t]);
        if (c->soft_cap > 0) {
            p[t] = (double)c->soft_cap * tanh(p[t] / (double)c->soft_cap);
            ds[t] += 4 * BOUND_U * (double)c->soft_cap;
        }
        top = p[t] > top ? p[t] : top;
    }
    for (int64_t t = first; t <= pos; t++) {
        ds[t] += BOUND_U * (4 + 2 * (top - p[t])); /* exp of a rounded difference */
        sum += p[t] = exp(p[t] - top);
    }
    for (int64_t i = 0; i < dim; i++) {
        const double out = (double)ref[h * dim + i];
        bound_sum weighted = {0, 0};
        double moved = 0, rss = 0;
        for (int64_t t = first; t <= pos; t++) {
            const double w = p[t] / sum,
                         v = (double)c->vf[nb_kv_place(&kv, c->seq[m], t) * step + head + i];
            bound_add(&weighted, w * v);
            moved += w * fabs(v - out) * ds[t];
            rss += 2 * w * v * bf16 * w * v * bf16;
        }
        const double tol = bound_of(&weighted) + 4 * sqrt(rss) + moved + 4 * BOUND_U * fabs(out);
        CHECK_NEAR(o->c, y[h * dim + i], out, tol, o->what);
    }
}

static void compare_attention(ops *o, const void *args, const void *got, const void *want)
{
    const attention_case *c = args;
    double *p = ops_alloc((size_t)c->max_len, sizeof *p),
           *ds = ops_alloc((size_t)c->max_len, sizeof *ds);
    ops_gaps(o, got, sizeof(float), c->M, (int64_t)c->n_head * c->head_dim, c->ldo);
    for (int64_t m = 0; m < c->M; m++)
        for (int32_t h = 0; h < c->n_head; h++)
            compare_head(o, c, m, h, (const float *)got + m * c->ldo,
                         (const float *)want + m * c->ldo, p, ds);
    free(p);
    free(ds);
}

static const ops_test test = {run_attention, compare_attention};

static const char *const kTypes[] = {"f32", "f16", "bf16", "q8", "fp8"};

static const struct attention_shape {
    int32_t M, n_seq, past, n_head, n_kv_head, head_dim, window;
    float soft_cap, spread; /* spread: standard deviation of q, so of the scores */
    nb_kv_type type;
} shapes[] = {
    {1, 1, 0, 9, 3, 64, 0, 0, 1, NB_KV_F16},
    {1, 1, 300, 9, 3, 64, 0, 0, 1, NB_KV_F16},
    {1, 1, 300, 9, 3, 64, 0, 0, 1, NB_KV_F32},
    {7, 1, 0, 4, 4, 128, 0, 0, 1, NB_KV_F32},
    {8, 8, 65, 8, 2, 64, 0, 0, 1, NB_KV_F16},
    {9, 3, 20, 14, 2, 64, 0, 0, 4, NB_KV_F16},
    {17, 2, 129, 9, 3, 64, 0, 0, 1, NB_KV_F32},
    {64, 1, 0, 9, 3, 64, 0, 0, 1, NB_KV_F16},
    {64, 1, 63, 8, 1, 96, 0, 0, 1, NB_KV_F32},
    {17, 1, 40, 4, 2, 256, 16, 50, 3, NB_KV_F32},
    {64, 1, 0, 4, 1, 256, 24, 50, 2, NB_KV_F16},
    {5, 5, 100, 2, 2, 80, 1, 0, 1, NB_KV_F16},
    {3, 1, 500, 4, 2, 64, 128, 0, 8, NB_KV_F32},
    {2, 2, 255, 32, 8, 128, 0, 0, 1, NB_KV_F16},
    {1, 1, 31, 2, 1, 16, 0, 30, 10, NB_KV_F32},
    {130, 2, 0, 3, 3, 64, 0, 0, 1, NB_KV_F16},
    {70, 1, 200, 6, 2, 128, 64, 0, 2, NB_KV_F16},
    /* every row of the CUDA sources, small enough for the emulator: few tokens over a cut cache,
     * tiles of tokens, neither */
    {3, 3, 200, 8, 1, 64, 0, 0, 2, NB_KV_F16},
    {2, 2, 150, 12, 1, 96, 100, 30, 3, NB_KV_F16},
    {1, 1, 130, 4, 2, 256, 70, 0, 2, NB_KV_F32},
    {4, 2, 70, 6, 2, 192, 0, 0, 1, NB_KV_F16},
    {1, 1, 200, 2, 2, 8, 0, 0, 1, NB_KV_F16},
    {2, 1, 66, 3, 1, 80, 0, 20, 2, NB_KV_F32},
    {70, 1, 140, 2, 1, 64, 0, 0, 2, NB_KV_F16},
    {66, 2, 70, 1, 1, 64, 40, 0, 1, NB_KV_F16},
    {20, 1, 60, 2, 2, 80, 0, 30, 3, NB_KV_F16},
    {33, 1, 64, 2, 1, 96, 0, 0, 2, NB_KV_F16},
    {17, 1, 120, 2, 1, 128, 100, 0, 4, NB_KV_F16},
    {18, 3, 40, 1, 1, 128, 9, 0, 2, NB_KV_F16},
    {12, 1, 50, 1, 1, 192, 0, 50, 2, NB_KV_F16},
    {40, 1, 33, 1, 1, 256, 0, 0, 2, NB_KV_F16},
    {20, 1, 10, 4, 2, 16, 0, 0, 1, NB_KV_F16},
    {12, 2, 30, 3, 1, 20, 0, 0, 2, NB_KV_F16},
    /* the first query ends one position before its tile; even weights, so that one shows */
    {10, 1, 62, 1, 1, 64, 0, 0, 0.1f, NB_KV_F16},
    {1, 1, 64, 2, 1, 64, 0, 0, 0.1f, NB_KV_F16}, /* a last split of one position */
    /* a tile that all queries have reached, and the window of the last ones leaves in part */
    {10, 1, 140, 1, 1, 64, 80, 0, 0.1f, NB_KV_F16},
    {10, 1, 20, 2, 1, 64, 0, 25, 2, NB_KV_F32},
    {3, 1, 20, 2, 1, 28, 11, 0, 2, NB_KV_F16},
    /* the other types in every row and size of tile; heads whose last group of q8 is short */
    {1, 1, 300, 9, 3, 64, 0, 0, 1, NB_KV_BF16},
    {2, 2, 150, 12, 1, 96, 100, 30, 3, NB_KV_BF16},
    {1, 1, 130, 4, 2, 256, 70, 0, 2, NB_KV_BF16},
    {70, 1, 140, 2, 1, 64, 0, 0, 2, NB_KV_BF16},
    {12, 1, 50, 1, 1, 192, 0, 50, 2, NB_KV_BF16},
    {12, 2, 30, 3, 1, 20, 0, 0, 2, NB_KV_BF16},
    {1, 1, 300, 9, 3, 64, 0, 0, 1, NB_KV_Q8},
    {3, 3, 200, 8, 1, 80, 0, 0, 2, NB_KV_Q8},
    {4, 2, 70, 6, 2, 192, 0, 0, 1, NB_KV_Q8},
    {64, 1, 63, 8, 1, 96, 0, 0, 1, NB_KV_Q8},
    {66, 2, 70, 1, 1, 64, 40, 0, 1, NB_KV_Q8},
    {20, 1, 60, 2, 2, 80, 0, 30, 3, NB_KV_Q8},
    {17, 1, 120, 4, 2, 128, 100, 0, 4, NB_KV_Q8},
    {40, 1, 33, 1, 1, 256, 0, 0, 2, NB_KV_Q8},
    {12, 2, 30, 3, 3, 20, 0, 0, 2, NB_KV_Q8},
    {3, 1, 20, 4, 2, 52, 11, 0, 2, NB_KV_Q8},
    {1, 1, 300, 9, 3, 64, 0, 0, 1, NB_KV_FP8},
    {2, 1, 66, 3, 1, 80, 0, 20, 2, NB_KV_FP8},
    {18, 3, 40, 1, 1, 128, 9, 0, 2, NB_KV_FP8},
    {33, 1, 64, 2, 1, 96, 0, 0, 2, NB_KV_FP8},
    {10, 2, 30, 3, 1, 28, 0, 0, 2, NB_KV_FP8},
    /* scores so far below zero that a maximum begun there leaves nothing: of one position, of many */
    {1, 1, 0, 8, 8, 64, 0, 0, 300, NB_KV_F16},
    {9, 9, 0, 8, 8, 64, 0, 0, 300, NB_KV_F16},
    {66, 66, 0, 4, 4, 64, 0, 0, 300, NB_KV_F16},
    /* the row of wgmma: two blocks; both sizes of head; a tile of one page; one that only the first
     * query does not see whole; a ring that goes round; sequences that see what others do not */
    {129, 1, 0, 1, 1, 64, 0, 0, 2, NB_KV_F16},
    {70, 1, 58, 1, 1, 128, 0, 0, 0.1f, NB_KV_F16},
    {66, 1, 126, 1, 1, 64, 0, 0, 0.1f, NB_KV_F16},
    {66, 1, 200, 1, 1, 64, 100, 0, 0.1f, NB_KV_F16},
    {72, 3, 150, 1, 1, 128, 0, 30, 2, NB_KV_F16},
    {40, 2, 150, 1, 1, 64, 0, 0, 0.1f, NB_KV_F16}, /* the same in tiles of mma.sync */
    /* several pieces of the CPU's rows: shared by threads, one behind the other; a window that leaves
     * some of them out; a piece of one position; heavy scores in an early one */
    {1, 1, 1300, 6, 2, 64, 0, 0, 1, NB_KV_F16},
    {3, 3, 1100, 4, 2, 64, 600, 0, 1, NB_KV_F16},
    {2, 1, 511, 3, 1, 80, 0, 20, 8, NB_KV_F32},
    {34, 1, 1000, 2, 1, 64, 0, 0, 8, NB_KV_F16},
    {9, 1, 1020, 2, 1, 128, 300, 0, 1, NB_KV_Q8},
};

/* Head by head, every position up to each token's own; of each head the value that is rounded and
 * comes back. */
static void fill_cache(const attention_case *k, nb_rng *r, uint8_t *raw, float *value)
{
    const nb_kv kv = cache_of(k);
    float head[256];
    memset(raw, 0xff, nb_kv_bytes(&kv));
    for (int32_t m = 0; m < k->M; m++)
        for (int32_t at = 0; at < (k->pos[m] + 1) * k->n_kv_head; at++) {
            const int64_t h =
                nb_kv_place(&kv, k->seq[m], at / k->n_kv_head) * k->n_kv_head + at % k->n_kv_head;
            for (int32_t i = 0; i < k->head_dim; i++)
                head[i] = nb_rng_normal(r);
            nb_kv_put(&kv, raw, h * k->head_dim, head);
            for (int32_t i = 0; i < k->head_dim; i++)
                value[h * k->head_dim + i] = nb_kv_get(&kv, raw, h * k->head_dim + i);
        }
}

static void each_shape(check *c, ops_set *set)
{
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const struct attention_shape *s = &shapes[i];
        nb_rng r;
        ops_seed(&r, 4000 + i);
        attention_case k = {.M = s->M,
                            .n_head = s->n_head,
                            .n_kv_head = s->n_kv_head,
                            .head_dim = s->head_dim,
                            .n_seq = s->n_seq + 1,
                            .window = s->window,
                            .scale = (float)(1.0 / sqrt((double)s->head_dim)),
                            .soft_cap = s->soft_cap,
                            .type = s->type};
        k.ldq = s->n_head * s->head_dim + (int64_t)(i % 3) * 3;
        k.ldo = s->n_head * s->head_dim + (int64_t)(i % 2) * 5;
        float *q = ops_rows(&r, k.M, s->n_head * s->head_dim, k.ldq, s->spread);
        int32_t *seq = ops_alloc((size_t)k.M, sizeof *seq),
                *pos = ops_alloc((size_t)k.M, sizeof *pos),
                *len = ops_alloc((size_t)k.n_seq, sizeof *len);
        memset(len, 0, (size_t)k.n_seq * sizeof *len);
        for (int32_t m = 0; m < k.M;
             m++) { /* sequence 0 stays empty; the others start at different lengths */
            seq[m] = 1 + m % s->n_seq;
            pos[m] = m / s->n_seq + (seq[m] == 1 ? s->past : s->past * seq[m] / (s->n_seq + 1));
            len[seq[m]] = pos[m] + 1;
            k.max_len = pos[m] + 1 > k.max_len ? pos[m] + 1 : k.max_len;
        }
        k.seq_pages = nb_kv_pages(k.max_len + 1);
        int32_t *page = ops_pages(&r, len, k.n_seq, k.seq_pages, &k.n_page);
        k.q = q;
        k.seq = seq;
        k.pos = pos;
        k.page = page;
        uint8_t *raw_k = ops_alloc(cache_count(&k), 4), *raw_v = ops_alloc(cache_count(&k), 4);
        float *kf = ops_alloc(cache_count(&k), sizeof *kf),
              *vf = ops_alloc(cache_count(&k), sizeof *vf);
        fill_cache(&k, &r, raw_k, kf);
        fill_cache(&k, &r, raw_v, vf);
        k.k = raw_k;
        k.v = raw_v;
        k.kf = kf;
        k.vf = vf;
        char what[160];
        snprintf(what, sizeof what,
                 "M %d in %d sequences after %d, heads %d/%d of %d, window %d, cap %g, cache %s",
                 s->M, s->n_seq, s->past, s->n_head, s->n_kv_head, s->head_dim, s->window,
                 (double)s->soft_cap, kTypes[s->type]);
        const size_t bytes = (size_t)(k.M * k.ldo) * sizeof(float);
        /* vector loads, matrix instructions */
        const int64_t work = (int64_t)k.M * k.max_len * k.n_head * k.head_dim / 8;
        if (set)
            ops_against_ref(set, &test, &k, bytes, work, what);
        else
            ops_same_bits(c, &test, &k, bytes, work, what);
        free(q);
        free(seq);
        free(pos);
        free(len);
        free(page);
        free(raw_k);
        free(raw_v);
        free(kf);
        free(vf);
    }
}

/* Keys at right angles and one query make scores 0 and ln 3: weights 1/4 and 3/4 for the last of
 * two positions. */
static void a_worked_query(check *c)
{
    nb_error err = {.message = ""};
    nb_backend *be = NULL;
    const nb_backend_options opt = {.exact = true};
    CHECK_EQ(c, nb_backend_open("ref", &opt, &be, &err), NB_OK);
    if (!be)
        return;
    float k[NB_KV_PAGE][2] = {{1, 0}, {0, 1}}, v[NB_KV_PAGE][2] = {{4, 0}, {0, 8}},
          q[2][2] = {{5, 7}, {0, 1.09861229f}}, out[2][2];
    static const int32_t seq[] = {0, 0}, pos[] = {0, 1}, page[] = {0};
    const nb_batch batch = {.n_token = 2, .seq = seq, .pos = pos, .max_len = 2};
    const nb_kv kv = {.type = NB_KV_F32,
                      .n_page = 1,
                      .n_seq = 1,
                      .seq_pages = 1,
                      .n_kv_head = 1,
                      .head_dim = 2,
                      .page = page,
                      .k = k,
                      .v = v};
    double scratch[4];
    nb_attention_args a = {.q = &q[0][0],
                           .ldq = 2,
                           .ldo = 2,
                           .batch = &batch,
                           .kv = &kv,
                           .n_head = 1,
                           .scale = 1,
                           .out = &out[0][0],
                           .scratch = scratch};
    CHECK(c, be->op->attention_scratch(be, &a) <= sizeof scratch);
    CHECK_EQ(c, be->op->attention(be, &a, &err), NB_OK);
    CHECK_NEAR(c, out[0][0], 4, 0, "the first token sees itself only");
    CHECK_NEAR(c, out[0][1], 0, 0, "the first token sees itself only");
    CHECK_NEAR(c, out[1][0], 1, 1e-6, "a quarter of 4");
    CHECK_NEAR(c, out[1][1], 6, 1e-6, "three quarters of 8");
    a.window = 1;
    CHECK_EQ(c, be->op->attention(be, &a, &err), NB_OK);
    CHECK_NEAR(c, out[1][0], 0, 0, "a window of 1");
    CHECK_NEAR(c, out[1][1], 8, 0, "a window of 1");
    a.window = 0;
    a.soft_cap =
        0.5f; /* 0.5 tanh(2 ln 3) = 0.5 (81 - 1) / (81 + 1) = 0.48780488, e^that = 1.6287370 */
    CHECK_EQ(c, be->op->attention(be, &a, &err), NB_OK);
    CHECK_NEAR(c, out[1][1], 8 * 1.6287370 / 2.6287364, 1e-5, "a soft cap");
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
    {"ref weighs two positions by a worked query, with a window and a soft cap", a_worked_query},
    {"every backend agrees with ref on every shape and never reads what a query may not see",
     every_shape},
    {"the bits do not depend on the run or the number of threads", same_bits},
};
CHECK_MAIN(cases)
