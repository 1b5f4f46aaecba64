/* attention.c -- causal attention over the cache with an online softmax (Milakov and Gimelshein
 * 2018); compiled once per level.
 *
 *   s[t] = scale * q . k[t]      first <= t <= pos,  first = max(0, pos - window + 1), or 0
 *   s[t] = cap tanh(s[t] / cap)  if there is a soft cap
 *   out  = sum_t e^(s[t] - max) v[t] / sum_t e^(s[t] - max)
 *
 * Keys come in blocks of kKeys, a page of the cache each, so that what a (token, head) computes
 * depends on nothing but itself, whoever shares its work:
 *
 *   top' = max(top, max s),  f = e^(top - top'),  p[t] = e^(s[t] - top'),
 *   sum = sum f + sum_t p[t],  acc = acc f + sum_t p[t] v[t]
 *
 * q . k adds by lane (i, i + 16, ...), then by the tree of vec.h; p v adds in the order of t.
 * A task is one KV head and up to kTokens tokens of a sequence: k and v of a block are made f32
 * once for all its query heads (n_head / n_kv_head of them a token).
 *
 * scratch, per thread, width = head_dim rounded up to 16:
 *   k [kKeys][width] | v [kKeys][width] | rows of: q [width], acc [width], {top, sum}
 * Cost: 4 head_dim flop for each query head and visible position. */
#include "backend/cpu/level.h"
#include "backend/kv.h"

#define NB_INLINE static inline __attribute__((always_inline))

enum {
    kKeys = NB_KV_PAGE,
    kGroup = 3, /* query heads of a token at once: 3 x 4 accumulators of p v */
    kWide = 4,
    kTokens = 8,
    kManyTokens = 32,      /* from here on tasks hold kTokens; below, one */
    kThreadsFrom = 1 << 15 /* multiplications of q . k for which a second thread pays */
};

typedef struct work {
    float *k, *v;   /* [kKeys][width] */
    float *q, *acc; /* [rows][width] */
    float *top, *sum;
    int64_t dim, width;
} work;

static int64_t width_of(const nb_attention_args *a)
{
    return (int64_t)(a->kv->head_dim + NB_LANES - 1) / NB_LANES * NB_LANES;
}

static int64_t rows_of(const nb_attention_args *a)
{
    return (int64_t)kTokens * (a->n_head / a->kv->n_kv_head);
}

/* Floats a thread needs. */
static int64_t room_of(const nb_attention_args *a)
{
    return 2 * kKeys * width_of(a) + rows_of(a) * (2 * width_of(a) + 2 * NB_LANES);
}

size_t NB_LEVEL_NAME(nb_cpu_attention_scratch)(const nb_cpu *cpu, const nb_attention_args *a)
{
    return (size_t)cpu->base.n_thread * (size_t)room_of(a) * sizeof(float);
}

static work work_of(const nb_attention_args *a, int thread)
{
    const int64_t rows = rows_of(a), width = width_of(a);
    work t = {
        .k = (float *)a->scratch + thread * room_of(a), .dim = a->kv->head_dim, .width = width};
    t.v = t.k + kKeys * width;
    t.q = t.v + kKeys * width;
    t.acc = t.q + rows * width;
    t.top = t.acc + rows * width;
    t.sum = t.top + rows;
    return t;
}

/* E4M3 by way of f16, whose exponent is 8 greater and whose fraction 7 bits longer. */
NB_INLINE nb_v lanes_from_e4m3(const uint8_t *p)
{
    uint16_t half[NB_LANES];
    for (int i = 0; i < NB_LANES; i++) {
        const uint32_t b = p[i], mag = b & 0x7fu;
        half[i] = (uint16_t)((b & 0x80u) << 8 | (mag == 0x7fu ? 0x7e00u : mag << 7));
    }
    return nb_v_mul(nb_v_set1(256.0f), nb_v_from_f16(half));
}

/* Values i .. i + 15 of the head whose first one is element `at`: they are of one group of q8. */
NB_INLINE nb_v load_lanes(const nb_kv_type type, const nb_kv *kv, const void *cache, int64_t at,
                          int64_t i)
{
    switch (type) {
    case NB_KV_F16:
        return nb_v_from_f16((const uint16_t *)cache + at + i);
    case NB_KV_BF16:
        return nb_v_from_bf16((const uint16_t *)cache + at + i);
    case NB_KV_Q8: {
        const float scale = nb_f32_from_f16(nb_kv_scales(kv, cache, at)[i / NB_KV_GROUP]);
        return nb_v_mul(nb_v_set1(scale), nb_v_from_s8((const int8_t *)cache + at + i));
    }
    case NB_KV_FP8:
        return lanes_from_e4m3((const uint8_t *)cache + at + i);
    default:
        return nb_v_load((const float *)cache + at + i);
    }
}

/* n rows of dim values, step apart from `at` on, to dst [n][width], the gap up to width 0. dim is a
 * constant where it is a common one. */
NB_INLINE void load_rows_of(const nb_kv_type type, const int64_t dim, const nb_kv *kv,
                            const void *cache, int64_t at, int64_t step, int n, float *dst)
{
    const int64_t width = (dim + NB_LANES - 1) / NB_LANES * NB_LANES;
    for (int k = 0; k < n; k++, dst += width, at += step) {
        int64_t i = 0;
        for (; i + NB_LANES <= dim; i += NB_LANES)
            nb_v_store(dst + i, load_lanes(type, kv, cache, at, i));
        for (; i < width; i++)
            dst[i] = i < dim ? nb_kv_get(kv, cache, at + i) : 0.0f;
    }
}

NB_INLINE void load_rows(const int64_t dim, const nb_kv *kv, const void *cache, int64_t at,
                         int64_t step, int n, float *dst)
{
    switch (kv->type) {
    case NB_KV_F16:
        load_rows_of(NB_KV_F16, dim, kv, cache, at, step, n, dst);
        break;
    case NB_KV_BF16:
        load_rows_of(NB_KV_BF16, dim, kv, cache, at, step, n, dst);
        break;
    case NB_KV_Q8:
        load_rows_of(NB_KV_Q8, dim, kv, cache, at, step, n, dst);
        break;
    case NB_KV_FP8:
        load_rows_of(NB_KV_FP8, dim, kv, cache, at, step, n, dst);
        break;
    default:
        load_rows_of(NB_KV_F32, dim, kv, cache, at, step, n, dst);
    }
}

static void load_block(const work *t, const nb_kv *kv, const void *cache, int64_t at, int64_t step,
                       int n, float *dst)
{
    if (t->dim == 64)
        load_rows(64, kv, cache, at, step, n, dst);
    else if (t->dim == 128)
        load_rows(128, kv, cache, at, step, n, dst);
    else
        load_rows(t->dim, kv, cache, at, step, n, dst);
}

/* s[0 .. kKeys) = scale q . k, soft capped; only keys lo .. hi count, rounded out to 16. */
NB_INLINE void scores(const nb_attention_args *a, const work *t, const int64_t width,
                      const float *q, int lo, int hi, float *s)
{
    const nb_v scale = nb_v_set1(a->scale);
    for (int i0 = lo / NB_LANES * NB_LANES; i0 < hi; i0 += NB_LANES) {
        nb_v part[NB_LANES];
        const float *k = t->k + i0 * width;
#pragma GCC unroll 16
        for (int i = 0; i < NB_LANES; i++)
            part[i] = nb_v_mul(nb_v_load(q), nb_v_load(k + i * width));
#pragma GCC unroll 4
        for (int64_t d = NB_LANES; d < width; d += NB_LANES) {
            const nb_v qd = nb_v_load(q + d);
#pragma GCC unroll 16
            for (int i = 0; i < NB_LANES; i++)
                part[i] = nb_v_fma(qd, nb_v_load(k + i * width + d), part[i]);
        }
        nb_v v = nb_v_mul(scale, nb_v_sum16(part));
        if (a->soft_cap > 0.0f) {
            const nb_v cap = nb_v_set1(a->soft_cap);
            v = nb_v_mul(cap, nb_v_tanh(nb_v_div(v, cap)));
        }
        nb_v_store(s + i0, v);
    }
}

/* The softmax of one row over the block: s becomes p, 0 outside lo .. hi; returns f. */
static float weigh(float *top, float *sum, int lo, int hi, float *s)
{
    const int from = lo / NB_LANES * NB_LANES, to = (hi + NB_LANES - 1) / NB_LANES * NB_LANES;
    for (int i = from; i < lo; i++)
        s[i] = -HUGE_VALF;
    for (int i = hi; i < to; i++)
        s[i] = -HUGE_VALF;
    nb_v most = nb_v_set1(*top);
    for (int i = from; i < to; i += NB_LANES)
        most = nb_v_max(nb_v_load(s + i), most);
    const float new_top = nb_v_top(most);
    const nb_v up = nb_v_set1(new_top);
    nb_v total = nb_v_set1(0.0f);
    for (int i = from; i < to; i += NB_LANES) {
        nb_v p = nb_v_exp(nb_v_sub(nb_v_load(s + i), up));
        nb_v_store(s + i, p);
        if (i < lo || hi < i + NB_LANES) { /* e^-inf, which nb_v_exp holds above 0 */
            for (int j = i; j < lo; j++)
                s[j] = 0.0f;
            for (int j = hi > i ? hi : i; j < i + NB_LANES; j++)
                s[j] = 0.0f;
            p = nb_v_load(s + i);
        }
        total = nb_v_add(total, p);
    }
    float lane[NB_LANES];
    nb_v_store(lane, nb_v_exp(nb_v_set1(*top - new_top)));
    const float f = *sum > 0.0f ? lane[0] : 0.0f; /* before the first block top is -inf */
    *sum = *sum * f + nb_v_sum(total);
    *top = new_top;
    return f;
}

/* acc[r] = acc[r] f[r] + sum over lo <= t < hi of p[r][t] v[t], R rows by kWide vectors at a time.
 */
NB_INLINE void add_values(const int R, const work *t, const int64_t width, const float *f,
                          float (*p)[kKeys], int lo, int hi, float *acc)
{
    int64_t d = 0;
    for (; d + kWide * NB_LANES <= width; d += kWide * NB_LANES) {
        nb_v s[kGroup * kWide];
#pragma GCC unroll 16
        for (int i = 0; i < R * kWide; i++)
            s[i] = nb_v_mul(nb_v_set1(f[i / kWide]),
                            nb_v_load(acc + i / kWide * width + d + i % kWide * NB_LANES));
        for (int k = lo; k < hi; k++) {
            nb_v v[kWide];
#pragma GCC unroll 4
            for (int i = 0; i < kWide; i++)
                v[i] = nb_v_load(t->v + k * width + d + i * NB_LANES);
#pragma GCC unroll 16
            for (int i = 0; i < R * kWide; i++)
                s[i] = nb_v_fma(nb_v_set1(p[i / kWide][k]), v[i % kWide], s[i]);
        }
#pragma GCC unroll 16
        for (int i = 0; i < R * kWide; i++)
            nb_v_store(acc + i / kWide * width + d + i % kWide * NB_LANES, s[i]);
    }
    for (; d < width; d += NB_LANES)
        for (int r = 0; r < R; r++) {
            nb_v s = nb_v_mul(nb_v_set1(f[r]), nb_v_load(acc + r * width + d));
            for (int k = lo; k < hi; k++)
                s = nb_v_fma(nb_v_set1(p[r][k]), nb_v_load(t->v + k * width + d), s);
            nb_v_store(acc + r * width + d, s);
        }
}

/* R query heads of one token, rows row .. row + R, over keys lo .. hi of the block in t; width is a
 * constant where it is a common one. */
NB_INLINE void take_rows(const int R, const int64_t width, const nb_attention_args *a,
                         const work *t, int row, int lo, int hi)
{
    float p[kGroup][kKeys], f[kGroup];
#pragma GCC unroll 1
    for (int r = 0; r < R; r++)
        scores(a, t, width, t->q + (row + r) * width, lo, hi, p[r]);
#pragma GCC unroll 1
    for (int r = 0; r < R; r++)
        f[r] = weigh(&t->top[row + r], &t->sum[row + r], lo, hi, p[r]);
    add_values(R, t, width, f, p, lo, hi, t->acc + row * width);
}

NB_INLINE void take_token(const int64_t width, const nb_attention_args *a, const work *t, int row,
                          int n, int lo, int hi)
{
    for (; n >= 3; n -= 3, row += 3)
        take_rows(3, width, a, t, row, lo, hi);
    if (n == 2)
        take_rows(2, width, a, t, row, lo, hi);
    else if (n == 1)
        take_rows(1, width, a, t, row, lo, hi);
}

/* n query heads of one token. */
static void take_block(const nb_attention_args *a, const work *t, int row, int n, int lo, int hi)
{
    if (t->width == 64)
        take_token(64, a, t, row, n, lo, hi);
    else if (t->width == 128)
        take_token(128, a, t, row, n, lo, hi);
    else
        take_token(t->width, a, t, row, n, lo, hi);
}

/* Asks for rows t0 .. t0 + n of one KV head: they lie a row of all heads apart, which no hardware
 * prefetcher follows far. */
static void fetch(const nb_kv *kv, int64_t at, int64_t step, int n)
{
    const size_t size = nb_kv_value_bytes(kv->type);
    const size_t row = (size_t)kv->head_dim * size;
    for (int i = 0; i < n; i++) {
        const size_t first = (size_t)(at + i * step) * size;
        for (size_t b = 0; b < row; b += 64) {
            __builtin_prefetch((const char *)kv->k + first + b);
            __builtin_prefetch((const char *)kv->v + first + b);
        }
    }
}

/* Tokens m .. end, of one sequence, and the query heads of one KV head. */
static void attend(const nb_attention_args *a, const work *t, int64_t m, int64_t end,
                   int32_t kv_head)
{
    const nb_kv *kv = a->kv;
    const int32_t per = a->n_head / kv->n_kv_head;
    const int64_t step = (int64_t)kv->n_kv_head * t->dim;
    const int32_t seq = a->batch->seq[m];
    const int32_t *pos = a->batch->pos;
    const int rows = (int)(end - m) * per;
    for (int r = 0; r < rows; r++) {
        const float *q = a->q + (m + r / per) * a->ldq + (kv_head * per + r % per) * t->dim;
        for (int64_t i = 0; i < t->width; i++) {
            t->q[r * t->width + i] = i < t->dim ? q[i] : 0.0f;
            t->acc[r * t->width + i] = 0.0f;
        }
        t->top[r] = -HUGE_VALF;
        t->sum[r] = 0.0f;
    }
    const int64_t first = a->window > 0 && pos[m] >= a->window ? pos[m] - a->window + 1 : 0;
    for (int64_t t0 = first / kKeys * kKeys; t0 <= pos[end - 1]; t0 += kKeys) {
        const int n = pos[end - 1] + 1 - t0 < kKeys ? (int)(pos[end - 1] + 1 - t0) : kKeys;
        const int n16 = (n + NB_LANES - 1) / NB_LANES * NB_LANES;
        const int64_t at = nb_kv_place(kv, seq, t0) * step + kv_head * t->dim;
        if (t0 == first / kKeys * kKeys)
            fetch(kv, at, step, n);
        const int64_t ahead = pos[end - 1] + 1 - (t0 + kKeys);
        if (ahead > 0)
            fetch(kv, nb_kv_place(kv, seq, t0 + kKeys) * step + kv_head * t->dim, step,
                  ahead < kKeys ? (int)ahead : kKeys);
        load_block(t, kv, kv->k, at, step, n, t->k);
        load_block(t, kv, kv->v, at, step, n, t->v);
        memset(t->k + n * t->width, 0, (size_t)((n16 - n) * t->width) * sizeof(float));
        for (int r = 0; r < rows; r += per) {
            const int64_t p = pos[m + r / per];
            const int64_t from = a->window > 0 && p >= a->window ? p - a->window + 1 : 0;
            const int64_t lo = from > t0 ? from - t0 : 0, hi = p + 1 - t0 < n ? p + 1 - t0 : n;
            if (lo < hi)
                take_block(a, t, r, per, (int)lo, (int)hi);
        }
    }
    for (int r = 0; r < rows; r++) {
        float *out = a->out + (m + r / per) * a->ldo + (kv_head * per + r % per) * t->dim;
        const float one = 1.0f / t->sum[r];
        for (int64_t i = 0; i < t->dim; i++)
            out[i] = t->acc[r * t->width + i] * one;
    }
}

/* Tokens first .. end of the batch, cut where the sequence changes. */
static void attend_runs(const nb_attention_args *a, const work *t, int64_t first, int64_t end,
                        int32_t kv_head)
{
    for (int64_t m = first; m < end;) {
        int64_t next = m + 1;
        while (next < end && a->batch->seq[next] == a->batch->seq[m])
            next++;
        attend(a, t, m, next, kv_head);
        m = next;
    }
}

typedef struct attention_job {
    const nb_attention_args *a;
    int64_t size, n_task;
} attention_job;

static void attention_task(const void *arg, int64_t i, int worker)
{
    const attention_job *j = arg;
    const int64_t n_token = j->a->batch->n_token;
    const int32_t n_kv = j->a->kv->n_kv_head;
    const int64_t task = j->n_task - 1 - i; /* late tokens see more keys: they go first */
    const int64_t first = task / n_kv * j->size;
    const int64_t end = first + j->size < n_token ? first + j->size : n_token;
    const work t = work_of(j->a, worker);
    attend_runs(j->a, &t, first, end, (int32_t)(task % n_kv));
}

void NB_LEVEL_NAME(nb_cpu_attention)(const nb_cpu *cpu, const nb_attention_args *a)
{
    const int64_t n_token = a->batch->n_token, size = n_token >= kManyTokens ? kTokens : 1;
    const int64_t cost = n_token * a->batch->max_len * a->n_head * a->kv->head_dim;
    const attention_job j = {a, size, (n_token + size - 1) / size * a->kv->n_kv_head};
    nb_pool_run(cost >= kThreadsFrom ? cpu->pool : NULL, j.n_task, attention_task, &j);
}
