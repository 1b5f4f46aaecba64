/* pack.c -- from a checkpoint's matrices to the tiles of weight.h, in the layout that layout.c
 * chooses.
 *
 * Memory while packing: one tile of rows per thread. Cost: O(N K), parallel over tiles. */
#include "backend/cpu/cpu.h"
#include "backend/cpu/layout.h"
#include "base/memory.h"
#include "base/scalar.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>

/* One thread's room for a tile of rows. */
typedef struct stage {
    float *value;       /* [16][K] */
    uint8_t *code;      /* [16][K] */
    float *scale, *off; /* [16][K / unit]; off: zero or min, as the layout wants */
    float *pair;        /* [2][K]: scales and mins of one row as its format splits them */
} stage;

static const nb_matrix *part_of(const nb_stack *s, int64_t n, int64_t *row)
{
    int i = 0;
    while (n >= s->part[i].N)
        n -= s->part[i++].N;
    *row = n;
    return &s->part[i];
}

/* Row n of the stack as codes, and scale and offset of each unit, into lane c of the stage. */
static void split_row(const nb_stack *s, const nb_weight *w, int64_t n, int c, stage *t)
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
    const bool table = d->canon == NB_CANON_TABLE && w->codes != NB_CODES_T4;
    const int factor = table ? nb_table_factor(d) : 1, zero = table ? 128 : d->zero;
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
static bool pack_blocks(const nb_stack *s, const nb_weight *w, int64_t tile, stage *t)
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
        if (!nb_is_f16(t->scale[i]) || (w->offset == NB_OFFSET_MIN && !nb_is_f16(t->off[i])))
            return false;
    const int64_t block = nb_weight_block(w);
    const int H = (int)block / w->unit, line = w->scale_bytes / H; /* one [16] of scales */
    uint8_t *dst = w->p + (size_t)tile * w->tile_bytes;
    for (int64_t g = 0; g < K / block; g++, dst += w->block_bytes) {
        uint8_t *scales = dst + w->code_bytes, *off = scales + w->scale_bytes;
        for (int64_t k = 0; k < block; k += NB_BLOCK)
            if (w->codes == NB_CODES_U8)
                store_codes_u8(dst, t->code + g * block, K);
            else
                store_codes_u4(dst + k * 8, t->code + g * block + k, K);
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

static void decode_row(const nb_stack *s, int64_t n, float *dst)
{
    int64_t row = 0;
    const nb_matrix *m = part_of(s, n, &row);
    nb_matrix_row(m, row, dst);
}

static void pack_floats(const nb_stack *s, const nb_weight *w, int64_t tile, stage *t)
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
    const nb_stack *s;
    const nb_weight *w;
    uint8_t *room; /* a stage a worker */
    _Atomic bool bad;
} fill_job;

static void fill_tile(const void *arg, int64_t tile, int worker)
{
    fill_job *j = (fill_job *)(uintptr_t)arg; /* the flag is for all workers to set */
    stage t = stage_at(j->room + stage_bytes(j->w->K) * (size_t)worker, j->w->K);
    if (!j->w->code_bytes)
        pack_floats(j->s, j->w, tile, &t);
    else if (!atomic_load(&j->bad) && !pack_blocks(j->s, j->w, tile, &t))
        atomic_store(&j->bad, true);
}

/* Fills the tiles; false when f16 scales do not suffice. */
static bool fill(nb_pool *pool, const nb_stack *s, const nb_weight *w, uint8_t *room)
{
    fill_job j = {.s = s, .w = w, .room = room};
    nb_pool_run(pool, w->n_tile, fill_tile, &j);
    return !atomic_load(&j.bad);
}

static nb_status check_parts(const nb_matrix *part, int n_part, nb_stack *s, nb_error *err)
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
    nb_stack s;
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
    nb_layout_choose(&s, w);
    for (bool filled = false; !filled && st == NB_OK; w->wide = w->wide || !filled) {
        free(w->p);
        nb_layout_measure(w);
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

nb_status nb_cpu_measure_weight(nb_backend *be, const nb_matrix *part, int n_part, nb_weight **out,
                                nb_error *err)
{
    nb_stack s;
    (void)be;
    *out = NULL;
    const nb_status st = check_parts(part, n_part, &s, err);
    nb_weight *w = st == NB_OK ? nb_alloc_zero(1, sizeof *w, "a weight", err) : NULL;
    if (!w)
        return st == NB_OK ? NB_NO_ROOM : st;
    *w = (nb_weight){.N = s.N, .K = s.K, .n_tile = (s.N + NB_TILE - 1) / NB_TILE};
    nb_layout_choose(&s, w);
    w->wide = w->wide || nb_layout_wide(&s);
    nb_layout_measure(w);
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
