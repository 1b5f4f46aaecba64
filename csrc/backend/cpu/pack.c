/* pack.c -- from a checkpoint's matrices to the tiles of weight.h.
 *
 * Which layout:
 *   affine, or a table of small integers; groups a
 *   multiple of 16 and K a multiple of 32             U4 or U8
 *   f32, f16, bf16                                    their own type
 *   all else (fp8, other tables, odd K, groups by index ...)        decoded to F32: 4 bytes a
 *       weight
 * All of them keep the values as the format defines them, in fast mode too: only activations are
 * rounded there. Parts of several kinds in one stack take the first layout that holds all, F32 at
 * worst.
 *
 * Memory while packing: one tile of rows per thread. Cost: O(N K), parallel over tiles. */
#include "backend/cpu/cpu.h"
#include "backend/cpu/weight.h"
#include "base/memory.h"
#include "base/scalar.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>

/* The parts as one matrix: `of` finds the part and the row in it of row n of the stack. */
typedef struct source {
    const nb_matrix *part;
    int n_part;
    int64_t N, K;
} source;

/* One thread's room for a tile of rows. */
typedef struct stage {
    float *value;       /* [16][K] */
    uint8_t *code;      /* [16][K] */
    float *scale, *off; /* [16][K / unit]; off: zero or min, as the layout wants */
    float *pair;        /* [2][K]: scales and mins of one row as its format splits them */
} stage;

static const nb_matrix *part_of(const source *s, int64_t n, int64_t *row)
{
    int i = 0;
    while (n >= s->part[i].N)
        n -= s->part[i++].N;
    *row = n;
    return &s->part[i];
}

/* 1 or 2 when that many times every entry of the table is an integer from -128 to 127; else 0. */
static int table_factor(const nb_dtype *t)
{
    for (int f = 1; f <= 2; f++) {
        bool good = true;
        for (int i = 0; i < 1 << t->bits; i++) {
            const float v = t->table[i] * (float)f;
            good = good && v >= -128.0f && v <= 127.0f && v == (float)(int)v;
        }
        if (good)
            return f;
    }
    return 0;
}

static bool in_blocks(const nb_matrix *m)
{
    const nb_dtype *t = m->dtype;
    if (m->K % NB_BLOCK)
        return false;
    if (!t)
        return m->bits <= 8 && m->group % NB_HALF == 0 && !m->g_idx && !m->table;
    return t->canon != NB_CANON_NONE && t->split && t->bits <= 8 && t->group % NB_HALF == 0 &&
           (t->canon == NB_CANON_AFFINE || (t->table && table_factor(t)));
}

static int code_bits(const nb_matrix *m)
{
    return !m->dtype ? m->bits : m->dtype->canon == NB_CANON_TABLE ? 8 : m->dtype->bits;
}

static bool is_f16(float x)
{
    return nb_f32_bits(nb_f32_from_f16(nb_f16_from_f32(x))) == nb_f32_bits(x);
}

static bool is_code(float zero)
{
    return zero >= 0.0f && zero <= 255.0f && zero == (float)(int)zero;
}

/* The offsets a canonical part needs: all zeros equal to *zero and no min, or zeros that are codes
 * and no min, or mins. False: both a zero and a min in one group, which only decoding keeps exact.
 */
static bool canonical_offset(const nb_matrix *m, nb_cpu_offset *kind, int32_t *zero)
{
    const int64_t G = m->group ? (m->K + m->group - 1) / m->group : 1;
    bool any_zero = false, any_min = false, same = true, code = true;
    for (int64_t i = 0; i < m->N * G; i++) {
        const nb_group *g = &m->groups[i];
        any_zero = any_zero || g->zero != 0.0f;
        any_min = any_min || g->min != 0.0f;
        same = same && g->zero == m->groups[0].zero;
        code = code && is_code(g->zero);
    }
    if ((any_zero && any_min) || !code)
        return false;
    *kind = any_min ? NB_OFFSET_MIN : same ? NB_OFFSET_CONST : NB_OFFSET_ZERO;
    *zero = m->N ? (int32_t)m->groups[0].zero : 0;
    return true;
}

static bool part_offset(const nb_matrix *m, nb_cpu_offset *kind, int32_t *zero)
{
    if (!m->dtype)
        return canonical_offset(m, kind, zero);
    const bool min = m->dtype->canon == NB_CANON_AFFINE && m->dtype->has_min;
    *kind = min ? NB_OFFSET_MIN : NB_OFFSET_CONST;
    *zero = min ? 0 : m->dtype->canon == NB_CANON_TABLE ? 128 : m->dtype->zero;
    return true;
}

/* The least offset kind that holds both. */
static bool join_offset(nb_cpu_offset *kind, int32_t *zero, nb_cpu_offset k, int32_t z)
{
    if (*kind == NB_OFFSET_CONST && k == NB_OFFSET_CONST && *zero != z)
        k = NB_OFFSET_ZERO;
    if ((*kind == NB_OFFSET_MIN) != (k == NB_OFFSET_MIN))
        return false;
    *kind = k > *kind ? k : *kind;
    return true;
}

static nb_cpu_codes float_codes(const nb_matrix *m)
{
    const char *own = m->dtype ? m->dtype->st_name : NULL;
    if (own && strcmp(own, "F32") == 0)
        return NB_CODES_F32;
    if (own && strcmp(own, "F16") == 0)
        return NB_CODES_F16;
    if (own && strcmp(own, "BF16") == 0)
        return NB_CODES_BF16;
    return NB_CODES_F32;
}

static void choose(const source *s, nb_weight *w)
{
    bool blocks = true;
    int bits = 0;
    w->unit = NB_BLOCK;
    for (int i = 0; i < s->n_part; i++) {
        const nb_matrix *m = &s->part[i];
        nb_cpu_offset kind = NB_OFFSET_CONST;
        int32_t zero = 0;
        blocks = blocks && in_blocks(m) && part_offset(m, &kind, &zero);
        if (blocks && i == 0) {
            w->offset = kind;
            w->zero = zero;
        }
        blocks = blocks && join_offset(&w->offset, &w->zero, kind, zero);
        bits = blocks && code_bits(m) > bits ? code_bits(m) : bits;
        if ((m->dtype ? m->dtype->group : m->group) % NB_BLOCK)
            w->unit = NB_HALF;
    }
    if (blocks) {
        w->codes = bits <= 4 ? NB_CODES_U4 : NB_CODES_U8;
        return;
    }
    w->codes = float_codes(&s->part[0]);
    for (int i = 1; i < s->n_part; i++)
        if (float_codes(&s->part[i]) != w->codes)
            w->codes = NB_CODES_F32;
}

static void measure(nb_weight *w)
{
    const int64_t G = w->K / NB_BLOCK;
    size_t tile = 0;
    switch (w->codes) {
    case NB_CODES_F32:
        tile = (size_t)w->K * NB_TILE * sizeof(float);
        break;
    case NB_CODES_F16:
        tile = (size_t)w->K * NB_TILE * sizeof(uint16_t);
        break;
    case NB_CODES_BF16:
        tile = (size_t)(w->K + w->K % 2) * NB_TILE * sizeof(uint16_t);
        break;
    case NB_CODES_U4:
    case NB_CODES_U8:
        w->code_bytes = NB_TILE * NB_BLOCK / (w->codes == NB_CODES_U4 ? 2 : 1);
        w->scale_bytes = NB_BLOCK / w->unit * NB_TILE * (w->wide ? 4 : 2);
        w->block_bytes = w->code_bytes + w->scale_bytes +
                         (w->offset == NB_OFFSET_MIN    ? w->scale_bytes
                          : w->offset == NB_OFFSET_ZERO ? NB_BLOCK / w->unit * NB_TILE
                                                        : 0);
        tile = (size_t)G * (size_t)w->block_bytes;
        break;
    }
    w->tile_bytes = (tile + 63) / 64 * 64;
    w->bytes = w->tile_bytes * (size_t)w->n_tile;
}

/* Row n of the stack as codes, and scale and offset of each unit, into lane c of the stage. */
static void split_row(const source *s, const nb_weight *w, int64_t n, int c, stage *t)
{
    int64_t row = 0;
    const nb_matrix *m = part_of(s, n, &row);
    const nb_dtype *d = m->dtype;
    const int64_t K = s->K, U = K / w->unit;
    uint8_t *code = t->code + c * K;
    float *scale = t->scale + c * U, *off = t->off + c * U;
    if (!d) {
        const int64_t group = m->group ? m->group : K, n_group = (K + group - 1) / group;
        memcpy(code, m->codes + row * K, (size_t)K);
        for (int64_t u = 0; u < U; u++) {
            const nb_group *p = &m->groups[row * n_group + u * w->unit / group];
            scale[u] = p->scale;
            off[u] = w->offset == NB_OFFSET_MIN ? p->min : p->zero;
        }
        return;
    }
    const bool table = d->canon == NB_CANON_TABLE;
    const int factor = table ? table_factor(d) : 1, zero = table ? 128 : d->zero;
    float *ss = t->pair, *mm = t->pair + K;
    d->split(m->rows + row * nb_dtype_row_bytes(d, K), K / d->block, code, ss, mm);
    for (int64_t u = 0; u < U; u++) {
        const int64_t g = u * w->unit / d->group;
        scale[u] = ss[g] / (float)factor;
        off[u] = w->offset == NB_OFFSET_MIN ? mm[g] : (float)zero;
    }
    for (int64_t k = 0; k < K && table; k++)
        code[k] = (uint8_t)((int)(d->table[code[k]] * (float)factor) + 128);
}

static void store_scales(uint8_t *dst, const float *v, int64_t stride, bool wide)
{
    for (int c = 0; c < NB_TILE; c++) {
        const float x = v[c * stride];
        const uint16_t h = nb_f16_from_f32(x);
        if (wide)
            memcpy(dst + 4 * c, &x, 4);
        else
            memcpy(dst + 2 * c, &h, 2);
    }
}

static void store_codes_u4(uint8_t *dst, const uint8_t *code, int64_t K)
{
    for (int c = 0; c < NB_TILE; c++)
        for (int j = 0; j < 4; j++)
            for (int b = 0; b < 4; b++)
                dst[64 * j + 4 * c + b] =
                    (uint8_t)((code[c * K + 8 * j + b] & 15) | code[c * K + 8 * j + 4 + b] << 4);
}

static void store_codes_u8(uint8_t *dst, const uint8_t *code, int64_t K)
{
    for (int c = 0; c < NB_TILE; c++)
        for (int j = 0; j < 8; j++)
            memcpy(dst + 64 * j + 4 * c, code + c * K + 4 * j, 4);
}

/* False when a scale or min is no f16 and the layout has f16. */
static bool pack_blocks(const source *s, const nb_weight *w, int64_t tile, stage *t)
{
    const int64_t K = w->K, U = K / w->unit;
    for (int c = 0; c < NB_TILE; c++) {
        if (tile * NB_TILE + c < w->N) {
            split_row(s, w, tile * NB_TILE + c, c, t);
            continue;
        }
        memset(t->code + c * K, 0, (size_t)K);
        memset(t->scale + c * U, 0, (size_t)U * sizeof(float));
        memset(t->off + c * U, 0, (size_t)U * sizeof(float));
    }
    for (int64_t i = 0; i < NB_TILE * U && !w->wide; i++)
        if (!is_f16(t->scale[i]) || (w->offset == NB_OFFSET_MIN && !is_f16(t->off[i])))
            return false;
    const int H = NB_BLOCK / w->unit, line = w->scale_bytes / H; /* one [16] of scales */
    uint8_t *dst = w->p + (size_t)tile * w->tile_bytes;
    for (int64_t g = 0; g < K / NB_BLOCK; g++, dst += w->block_bytes) {
        uint8_t *scales = dst + w->code_bytes, *off = scales + w->scale_bytes;
        if (w->codes == NB_CODES_U4)
            store_codes_u4(dst, t->code + g * NB_BLOCK, K);
        else
            store_codes_u8(dst, t->code + g * NB_BLOCK, K);
        for (int h = 0; h < H; h++) {
            store_scales(scales + h * line, t->scale + g * H + h, U, w->wide);
            if (w->offset == NB_OFFSET_MIN)
                store_scales(off + h * line, t->off + g * H + h, U, w->wide);
            for (int c = 0; c < NB_TILE && w->offset == NB_OFFSET_ZERO; c++)
                off[h * NB_TILE + c] = (uint8_t)t->off[c * U + g * H + h];
        }
    }
    return true;
}

static void decode_row(const source *s, int64_t n, float *dst)
{
    int64_t row = 0;
    const nb_matrix *m = part_of(s, n, &row);
    nb_matrix_row(m, row, dst);
}

static void pack_floats(const source *s, const nb_weight *w, int64_t tile, stage *t)
{
    const int64_t K = w->K;
    uint8_t *dst = w->p + (size_t)tile * w->tile_bytes;
    float *f32 = (float *)(void *)dst;
    uint16_t *u16 = (uint16_t *)(void *)dst;
    memset(dst, 0, w->tile_bytes);
    for (int c = 0; c < NB_TILE && tile * NB_TILE + c < w->N; c++)
        decode_row(s, tile * NB_TILE + c, t->value + c * K);
    for (int64_t k = 0; k < K; k++)
        for (int c = 0; c < NB_TILE && tile * NB_TILE + c < w->N; c++) {
            const float v = t->value[c * K + k];
            if (w->codes == NB_CODES_F32)
                f32[k * NB_TILE + c] = v;
            else if (w->codes == NB_CODES_F16)
                u16[k * NB_TILE + c] = nb_f16_from_f32(v);
            else
                u16[(k / 2 * NB_TILE + c) * 2 + k % 2] = nb_bf16_from_f32(v);
        }
}

/* A slice of `bytes` per thread; 64 bytes apart at least, so that threads share no line. */
static size_t stage_bytes(int64_t K)
{
    const size_t per_k = NB_TILE * (sizeof(float) + 1) + 2 * sizeof(float);
    return ((size_t)K * per_k + 2 * NB_TILE * sizeof(float) * (size_t)(K / NB_HALF + 1) + 127) /
           64 * 64;
}

static stage stage_at(uint8_t *p, int64_t K)
{
    stage t;
    t.value = (float *)(void *)p;
    t.pair = t.value + NB_TILE * K;
    t.scale = t.pair + 2 * K;
    t.off = t.scale + NB_TILE * (K / NB_HALF + 1);
    t.code = (uint8_t *)(t.off + NB_TILE * (K / NB_HALF + 1));
    return t;
}

typedef struct fill_job {
    const source *s;
    const nb_weight *w;
    uint8_t *room; /* a stage a worker */
    _Atomic bool bad;
} fill_job;

static void fill_tile(const void *arg, int64_t tile, int worker)
{
    fill_job *j = (fill_job *)(uintptr_t)arg; /* the flag is for all workers to set */
    stage t = stage_at(j->room + stage_bytes(j->w->K) * (size_t)worker, j->w->K);
    if (j->w->codes != NB_CODES_U4 && j->w->codes != NB_CODES_U8)
        pack_floats(j->s, j->w, tile, &t);
    else if (!atomic_load(&j->bad) && !pack_blocks(j->s, j->w, tile, &t))
        atomic_store(&j->bad, true);
}

/* Fills the tiles; false when f16 scales do not suffice. */
static bool fill(nb_pool *pool, const source *s, const nb_weight *w, uint8_t *room)
{
    fill_job j = {.s = s, .w = w, .room = room};
    nb_pool_run(pool, w->n_tile, fill_tile, &j);
    return !atomic_load(&j.bad);
}

static nb_status check_parts(const nb_matrix *part, int n_part, source *s, nb_error *err)
{
    uint64_t N = 0, count = 0;
    if (n_part < 1)
        return nb_fail(err, NB_INTERNAL, "cpu: pack_weight was given no matrix");
    s->part = part;
    s->n_part = n_part;
    s->K = part[0].K;
    for (int i = 0; i < n_part; i++) {
        const nb_matrix *m = &part[i];
        if (m->N < 0 || m->K < 1 || m->K != s->K || m->group < 0)
            return nb_fail(err, NB_INTERNAL,
                           "cpu: part %d to pack is [%" PRId64 ", %" PRId64
                           "], part 0 has K %" PRId64,
                           i, m->N, m->K, s->K);
        if (m->dtype && !m->dtype->decode)
            return nb_fail(err, NB_UNSUPPORTED, "cpu: %s holds whole numbers, not weights",
                           m->dtype->name);
        if (m->dtype && nb_dtype_row_bytes(m->dtype, m->K) < 0)
            return nb_fail(err, NB_UNSUPPORTED,
                           "cpu: rows of %" PRId64 " values are no whole number of %s blocks", m->K,
                           m->dtype->name);
        if (!nb_add_ok(N, (uint64_t)m->N, &N))
            return nb_fail(err, NB_NO_ROOM,
                           "cpu: the parts to pack have more rows than can be counted");
    }
    /* 4 bytes a weight, a tile of padding: bounded here, so no size below overflows */
    if (!nb_mul_ok(N + NB_TILE, (uint64_t)s->K + 64, &count) || count > PTRDIFF_MAX / 1024)
        return nb_fail(err, NB_NO_ROOM,
                       "cpu: a weight of [%" PRIu64 ", %" PRId64 "] exceeds the address space", N,
                       s->K);
    s->N = (int64_t)N;
    return NB_OK;
}

nb_status nb_cpu_pack_weight(nb_backend *be, const nb_matrix *part, int n_part, nb_weight **out,
                             nb_error *err)
{
    source s;
    *out = NULL;
    nb_status st = check_parts(part, n_part, &s, err);
    if (st != NB_OK)
        return st;
    uint8_t *room =
        nb_alloc_aligned((size_t)be->n_thread, stage_bytes(s.K), "rows of a weight", err);
    nb_weight *w = nb_alloc_zero(1, sizeof *w, "a weight", err);
    st = room && w ? NB_OK : NB_NO_ROOM;
    if (st != NB_OK)
        goto done;
    *w = (nb_weight){.N = s.N, .K = s.K, .n_tile = (s.N + NB_TILE - 1) / NB_TILE};
    choose(&s, w);
    for (bool filled = false; !filled && st == NB_OK; w->wide = w->wide || !filled) {
        free(w->p);
        measure(w);
        w->p = nb_alloc_aligned(w->bytes, 1, "a packed weight", err);
        if (!w->p)
            st = NB_NO_ROOM;
        else
            filled = fill(nb_cpu_of(be)->pool, &s, w, room);
    }
done:
    free(room);
    if (st != NB_OK) {
        nb_cpu_release_weight(be, w);
        return st;
    }
    *out = w;
    return NB_OK;
}

/* Two-level scales (a super-scale times a small integer) are rarely f16; scales of a block of its
 * own are. */
static bool guess_wide(const source *s)
{
    for (int i = 0; i < s->n_part; i++) {
        const nb_matrix *m = &s->part[i];
        if (m->dtype && m->dtype->group < m->dtype->block)
            return true;
        const int64_t n = m->dtype ? 0 : m->N * (m->group ? (m->K + m->group - 1) / m->group : 1);
        /* canonical: they are there, as choose() has looked at them */
        for (int64_t g = 0; g < n; g++)
            if (!is_f16(m->groups[g].scale) || !is_f16(m->groups[g].min))
                return true;
    }
    return false;
}

nb_status nb_cpu_measure_weight(nb_backend *be, const nb_matrix *part, int n_part, nb_weight **out,
                                nb_error *err)
{
    source s;
    (void)be;
    *out = NULL;
    const nb_status st = check_parts(part, n_part, &s, err);
    nb_weight *w = st == NB_OK ? nb_alloc_zero(1, sizeof *w, "a weight", err) : NULL;
    if (!w)
        return st == NB_OK ? NB_NO_ROOM : st;
    *w = (nb_weight){.N = s.N, .K = s.K, .n_tile = (s.N + NB_TILE - 1) / NB_TILE};
    choose(&s, w);
    w->wide = guess_wide(&s);
    measure(w);
    *out = w;
    return NB_OK;
}

void nb_cpu_release_weight(nb_backend *be, nb_weight *w)
{
    (void)be;
    if (!w)
        return;
    free(w->p);
    free(w);
}

size_t nb_cpu_weight_bytes(const nb_weight *w)
{
    return w->bytes;
}
