/* pack.cu -- from a checkpoint's matrices to the layout of weight.h: panels are packed by all of
 * the host's threads into staging memory and travel from there, a few MiB at a time. */
#include "linear/codec.h"
#include "linear/layout.h"
#include "staging.h"

#include "base/memory.h"
#include "base/scalar.h"

#include <cstdlib>
#include <cstring>
#include <new>

/* How scales lie (weight.h), tried one after another until every one of a matrix fits. */
struct Lines {
    nb_cuda_lines kind;
    float zero, gain;
};

/* A row of a part in words of grid.h: codes by input, one nb_group a group. */
struct Row {
    uint8_t *code;     /* [K] */
    nb_group *group;   /* [groups]; a format with one zero for all has it in `zero` and min 0 */
    float *pair;       /* [2 groups] scratch of split */
    int8_t *level;     /* [2 groups] small integers of two-level scales, then of minima */
    uint16_t *super;   /* [2 blocks] their f16 factors */
    uint8_t *position; /* [64 n_unit] codes where they are to lie */
    float *value;      /* [K], BF16 */
    uint16_t *bf16;    /* [64 n_unit], the same rounded */
    bool unfit;        /* out: a scale had no room */
};

static int64_t groups_of(const nb_matrix *m)
{
    const int64_t g = m->dtype ? m->dtype->group : m->group;
    return g < 1 ? 1 : nb_ceil_div(m->K, g);
}

static void read_row(const nb_matrix *m, int64_t n, Row *r)
{
    const int64_t G = groups_of(m);
    const nb_dtype *t = m->dtype;
    if (!t) {
        memcpy(r->code, m->codes + n * m->K, (size_t)m->K);
        memcpy(r->group, m->groups + n * G, (size_t)G * sizeof *r->group);
        for (int64_t g = 0; g < G && m->table; g++) /* no value depends on them */
            r->group[g].zero = r->group[g].min = 0.0f;
        return;
    }
    t->split(m->rows + n * nb_dtype_row_bytes(t, m->K), m->K / t->block, r->code, r->pair,
             r->pair + G);
    for (int64_t g = 0; g < G; g++)
        r->group[g] = {r->pair[g], t->has_min ? 0.0f : (float)t->zero,
                       t->has_min ? r->pair[G + g] : 0.0f};
}

static bool as_half(float v, float gain, uint16_t *h)
{
    const float scaled = v / gain; /* a power of two: exact, unless it underflows */
    *h = nb_f16_from_f32(scaled);
    return nb_f32_from_f16(*h) * gain == v;
}

/* Where a row's scales lie within a line: [g][block][row g, row g + 8]. */
static int in_line(int row)
{
    return 8 * (row & 7) + 2 * (row >> 4) + (row >> 3 & 1);
}

/* The row's place in each of its panel's lines; false when a scale has no room in this kind. */
static bool write_lines(const Layout *l, const Lines *as, const nb_group *group, int row,
                        uint8_t *line)
{
    /* 128 + zero, or 128 - zero, is exact in bf16 */
    const float most = l->codes == NB_CUDA_U8 ? 255.0f : 127.0f;
    const int at = in_line(row), bytes = nb_line_bytes(as->kind);
    for (int64_t i = 0; i < l->n_line; i++, line += bytes) {
        if (l->group[i] < 0)
            continue;
        const nb_group *g = &group[l->group[i]];
        uint16_t *h = (uint16_t *)(void *)line;
        if (as->kind == NB_LINE_F32) {
            float *f = (float *)(void *)line;
            f[at] = g->scale;
            f[kPanel + at] = g->min - g->scale * g->zero;
            continue;
        }
        if (as->kind == NB_LINE_SCALE) { /* of tables, whose zero and min are 0 */
            memcpy(line + 4 * at, &g->scale, sizeof g->scale);
            continue;
        }
        if (!as_half(g->scale, as->gain, h + at))
            return false;
        if (as->kind == NB_LINE_OFFSET) {
            if (g->zero != 0.0f || !as_half(g->min, as->gain, h + kPanel + at))
                return false;
        } else if (g->min != 0.0f || !(g->zero >= 0.0f && g->zero <= most) ||
                   (as->kind == NB_LINE_F16 && g->zero != as->zero)) {
            return false;
        } else if (as->kind == NB_LINE_ZERO) {
            line[2 * kPanel + at] = (uint8_t)g->zero;
        }
    }
    return true;
}

/* The same for two-level scales, which always fit; super: the panel's first line of
 * super-blocks. */
static void write_levels(const Layout *l, nb_cuda_lines kind, const nb_matrix *m, const Row *r,
                         int row, uint8_t *line, uint8_t *super)
{
    const int64_t G = groups_of(m), n_block = m->K / m->dtype->block;
    const int at = in_line(row), bytes = nb_line_bytes(kind);
    for (int64_t i = 0; i < l->n_line; i++, line += bytes) {
        const int64_t g = l->group[i];
        if (g < 0)
            continue;
        if (kind == NB_LINE_NIBBLES) {
            line[at] = (uint8_t)(r->level[g] | r->level[G + g] << 4);
            continue;
        }
        line[at] = (uint8_t)(r->level[g] + 128);
        if (kind == NB_LINE_LEVELS)
            line[kPanel + at] = (uint8_t)(r->level[G + g] + 128);
    }
    for (int64_t b = 0; b < n_block; b++, super += nb_super_bytes(kind)) {
        uint16_t *h = (uint16_t *)(void *)super;
        h[at] = r->super[b];
        if (kind != NB_LINE_LEVEL)
            h[kPanel + at] = r->super[n_block + b];
    }
}

/* A row's codes (values as bf16) to their lanes: unit is the panel's first. */
template <class C, class Q>
static void write_codes(C, const Q *q, int64_t n_unit, int row, uint8_t *unit)
{
    for (int64_t u = 0; u < n_unit; u++, q += kUnit, unit += C::kBytes)
        for (int i = 0; i < 4; i++)
            for (int t = 0; t < 4; t++)
                C::put(unit, row >> 4, (row & 7) * 4 + t, i, row >> 3 & 1, q + 16 * i + 2 * t);
}
/* of nothing: BF16 has values */
static void write_codes(Bf16, const uint8_t *, int64_t, int, uint8_t *)
{
}

/* Where the parts of the allocation begin. */
struct Image {
    size_t lines, supers, src, pos, self, bytes;
};
static int64_t supers_of(const Layout *l)
{
    return nb_ceil_div(l->n_unit, 1 << kSuperShift);
}
static Image image_of(const Layout *l, nb_cuda_lines kind)
{
    const size_t n_panel = (size_t)nb_ceil_div(l->N, kPanel);
    Image at;
    at.lines = nb_align256(n_panel * (size_t)l->n_unit * nb_unit_bytes(l->codes));
    at.supers = at.lines + nb_align256(n_panel * (size_t)l->n_line * (size_t)nb_line_bytes(kind));
    at.src = at.supers + nb_align256(n_panel * (size_t)supers_of(l) * (size_t)nb_super_bytes(kind));
    at.pos = at.src + (l->src ? nb_align256((size_t)(l->n_unit * kUnit) * sizeof *l->src) : 0);
    at.self = at.pos + (l->src ? nb_align256((size_t)l->K * sizeof *l->pos) : 0);
    at.bytes = at.self + nb_align256(sizeof(Packed));
    return at;
}

/* Panels on their way, and who packs them. */
struct Packing {
    const nb_matrix *part;
    int n_part;
    const Layout *l;
    const Lines *as;
    Row *row; /* [n_row] one a worker */
    int n_row;
    uint8_t *codes, *lines, *supers; /* of panel `first` */
    size_t panel_codes, panel_lines, panel_supers;
    int64_t first;
};

/* A row into its place in a panel; false when a scale does not fit. */
static bool pack_row(const Packing *p, const nb_matrix *m, int64_t n, int in, Row *r, uint8_t *unit,
                     uint8_t *line, uint8_t *super)
{
    const Layout *l = p->l;
    if (l->codes == NB_CUDA_BF16) {
        nb_matrix_row(m, n, r->value);
        for (int64_t k = 0; k < m->K; k++)
            r->bf16[k] = nb_bf16_from_f32(r->value[k]);
        write_codes(Bf16(), r->bf16, l->n_unit, in, unit);
        return true;
    }
    read_row(m, n, r);
    if (nb_super_bytes(p->as->kind)) {
        m->dtype->levels(m->rows + n * nb_dtype_row_bytes(m->dtype, m->K), m->K / m->dtype->block,
                         r->super, r->level);
        write_levels(l, p->as->kind, m, r, in, line, super);
    } else if (!write_lines(l, p->as, r->group, in, line)) {
        return false;
    }
    for (int64_t i = 0; i < l->n_unit * kUnit; i++) {
        const int64_t k = l->src ? l->src[i] : i < l->K ? i : -1;
        r->position[i] = k < 0 ? 0 : r->code[k];
    }
    nb_with_codec(l->codes,
                  [&](auto codec) { write_codes(codec, r->position, l->n_unit, in, unit); });
    return true;
}

static void pack_panel(const void *arg, int64_t i, int worker)
{
    const Packing *p = (const Packing *)arg;
    uint8_t *unit = p->codes + (size_t)i * p->panel_codes,
            *line = p->lines + (size_t)i * p->panel_lines,
            *super = p->supers + (size_t)i * p->panel_supers;
    const nb_matrix *m = p->part;
    int64_t n = (p->first + i) * kPanel; /* in m */
    memset(unit, 0, p->panel_codes);
    memset(line, 0, p->panel_lines);
    memset(super, 0, p->panel_supers);
    for (int in = 0; in < kPanel; in++, n++) {
        while (m < p->part + p->n_part && n >= m->N)
            n -= m++->N;
        if (m == p->part + p->n_part)
            break;
        if (!pack_row(p, m, n, in, &p->row[worker], unit, line, super))
            p->row[worker].unfit = true;
    }
}

/* Packs and sends all panels of a stack to their places behind `to`. *fits: as said, some may have
 * been sent. */
static nb_status send_panels(nb_backend *be, nb_staging *s, Packing *p, uint8_t *to, bool *fits,
                             nb_error *err)
{
    const Image at = image_of(p->l, p->as->kind);
    const int64_t n_panel = nb_ceil_div(p->l->N, kPanel);
    p->panel_codes = (size_t)p->l->n_unit * nb_unit_bytes(p->l->codes);
    p->panel_lines = (size_t)p->l->n_line * (size_t)nb_line_bytes(p->as->kind);
    p->panel_supers = (size_t)supers_of(p->l) * (size_t)nb_super_bytes(p->as->kind);
    const size_t panel = p->panel_codes + p->panel_lines + p->panel_supers;
    const int64_t most = panel < s->most ? (int64_t)(s->most / panel) : 1;
    nb_status st = NB_OK;
    *fits = true;
    for (int i = 0; i < p->n_row; i++)
        p->row[i].unfit = false;
    for (p->first = 0; p->first < n_panel && st == NB_OK && *fits; p->first += most) {
        const int64_t n = n_panel - p->first < most ? n_panel - p->first : most;
        const size_t first = (size_t)p->first, count = (size_t)n;
        st = nb_staging_room(be, s, count * panel, &p->codes, err);
        if (st != NB_OK)
            break;
        p->lines = p->codes + count * p->panel_codes;
        p->supers = p->lines + count * p->panel_lines;
        nb_pool_run(s->pool, n, pack_panel, p);
        for (int i = 0; i < p->n_row; i++)
            *fits = *fits && !p->row[i].unfit;
        st =
            nb_staging_send(be, to + first * p->panel_codes, p->codes, count * p->panel_codes, err);
        if (st == NB_OK)
            st = nb_staging_send(be, to + at.lines + first * p->panel_lines, p->lines,
                                 count * p->panel_lines, err);
        if (st == NB_OK)
            st = nb_staging_send(be, to + at.supers + first * p->panel_supers, p->supers,
                                 count * p->panel_supers, err);
    }
    return st;
}

/* A gain that puts the greatest scale or offset just below 2^15, where f16 has most room below
 * it. */
static float gain_of(const nb_matrix *part, int n_part, Row *r)
{
    float top = 0.0f;
    int e = 0;
    for (int i = 0; i < n_part; i++)
        for (int64_t n = 0; n < part[i].N; n++) {
            read_row(&part[i], n, r);
            for (int64_t g = 0; g < groups_of(&part[i]); g++) {
                top = fmaxf(top, fabsf(r->group[g].scale));
                top = fmaxf(top, fabsf(r->group[g].min));
            }
        }
    (void)frexpf(top, &e);
    return ldexpf(1.0f, e - 15);
}

/* Four bytes a group beside the codes, as NF4 and FP4 have them. */
static bool has_f32_scales(const nb_dtype *t)
{
    return t->bytes - t->block * t->bits / 8 == t->block / t->group * (int)sizeof(float);
}

/* What to try for the lines of a stack, the smallest first; measuring takes the first. The kernels
 * of stream_*.cu are those that this names, and what always fits. */
static int ways(const nb_matrix *m, const Layout *l, Lines *to)
{
    const nb_dtype *t = m->dtype;
    const float zero = !t || t->canon == NB_CANON_TABLE || t->has_min ? 0.0f : (float)t->zero;
    const bool offset =
        l->shift > -2 && l->codes != NB_CUDA_U2 && l->codes != NB_CUDA_U3 && l->codes != NB_CUDA_U6;
    int n = 0;
    if (l->codes == NB_CUDA_BF16)
        to[n++] = {NB_LINE_NONE, 0.0f, 1.0f};
    else if (m->table || (t && t->canon == NB_CANON_TABLE && has_f32_scales(t)))
        to[n++] = {NB_LINE_SCALE, 0.0f, 1.0f};
    else if (t && t->levels)
        to[n++] = {!t->has_min    ? NB_LINE_LEVEL
                   : t->bits == 2 ? NB_LINE_NIBBLES
                                  : NB_LINE_LEVELS,
                   zero, t->level_gain};
    else if (t && t->has_min)
        to[n++] = {offset ? NB_LINE_OFFSET : NB_LINE_F32, 0.0f, 1.0f};
    else if (t)
        to[n++] = {NB_LINE_F16, zero, 1.0f};
    else {
        if (m->groups && l->shift > -2)
            to[n++] = {NB_LINE_F16, m->groups[0].zero, 1.0f};
        to[n++] = {NB_LINE_ZERO, 0.0f, 1.0f};
        if (offset)
            to[n++] = {NB_LINE_OFFSET, 0.0f, 1.0f};
    }
    return n;
}

static bool row_open(Row *r, const nb_matrix *m, const Layout *l, nb_error *err)
{
    const size_t G = (size_t)groups_of(m), K = (size_t)l->K,
                 positions = (size_t)(l->n_unit * kUnit);
    /* one block, the widest first; bf16: zeros behind K */
    r->group = (nb_group *)nb_alloc_zero(
        G * (sizeof *r->group + 2 * sizeof *r->pair + 2 * sizeof *r->super + 2) +
            K * (sizeof *r->value + 1) + positions * (sizeof *r->bf16 + 1),
        1, "packing a weight", err);
    r->pair = (float *)(r->group + G);
    r->value = r->pair + 2 * G;
    r->super = (uint16_t *)(r->value + K);
    r->bf16 = r->super + 2 * G;
    r->code = (uint8_t *)(r->bf16 + positions);
    r->position = r->code + K;
    r->level = (int8_t *)(r->position + positions);
    return r->group != NULL;
}

static void row_close(Row *r)
{
    free(r->group);
}

/* All of a weight but its memory. */
static nb_weight *weight_of(const nb_backend *be, const nb_matrix *m, const Layout *l,
                            const Lines *as, nb_error *err)
{
    nb_weight *w = new (std::nothrow) nb_weight();
    if (!w) {
        (void)nb_fail(err, NB_NO_ROOM, "%s: out of memory for a weight", be->name);
        return NULL;
    }
    w->N = l->N;
    w->K = l->K;
    w->codes = l->codes;
    w->bytes = image_of(l, as->kind).bytes;
    Packed *p = &w->packed;
    p->N = (int)l->N;
    p->K = (int)l->K;
    p->n_panel = (int)nb_ceil_div(l->N, kPanel);
    p->n_unit = (int)l->n_unit;
    p->kind = as->kind;
    p->line = nb_line_bytes(as->kind);
    p->n_line = (int)l->n_line;
    p->super = nb_super_bytes(as->kind);
    p->n_super = (int)supers_of(l);
    p->shift = l->shift;
    p->zero = as->zero;
    p->gain = as->gain;
    if (l->codes == NB_CUDA_T3 || l->codes == NB_CUDA_T4)
        for (int i = 0; i < 1 << (m->dtype ? m->dtype->bits : m->bits); i++) {
            const uint32_t v = nb_bf16_from_f32(m->dtype ? m->dtype->table[i] : m->table[i]);
            p->low[i / 4] |= (v & 255) << (i % 4 * 8);
            p->high[i / 4] |= (v >> 8) << (i % 4 * 8);
        }
    return w;
}

nb_status nb_cuda_measure_weight(nb_backend *be, const nb_matrix *part, int n_part, nb_weight **out,
                                 nb_error *err)
{
    Layout l;
    Lines way[8];
    *out = NULL;
    const nb_status st = nb_layout_open(be, part, n_part, &l, err);
    if (st != NB_OK)
        return st;
    (void)ways(&part[0], &l, way);
    *out = weight_of(be, &part[0], &l, &way[0], err);
    nb_layout_close(&l);
    return *out ? NB_OK : NB_NO_ROOM;
}

/* What kernels get of the weight, and where its inputs lie, behind the rest. */
static nb_status send_rest(nb_backend *be, nb_staging *s, nb_weight *w, const Layout *l,
                           nb_error *err)
{
    const Image at = image_of(l, (nb_cuda_lines)w->packed.kind);
    uint8_t *p = (uint8_t *)w->p, *room;
    const nb_status st = nb_staging_room(be, s, at.bytes - at.src, &room, err);
    if (st != NB_OK)
        return st;
    w->packed.codes = p;
    w->packed.lines = p + at.lines;
    w->packed.supers = p + at.supers;
    w->packed.src = l->src ? (const int32_t *)(const void *)(p + at.src) : NULL;
    w->packed.pos = l->src ? (const int32_t *)(const void *)(p + at.pos) : NULL;
    w->self = (const Packed *)(const void *)(p + at.self);
    memset(room, 0, at.bytes - at.src);
    if (l->src) {
        memcpy(room, l->src, (size_t)(l->n_unit * kUnit) * sizeof *l->src);
        memcpy(room + (at.pos - at.src), l->pos, (size_t)l->K * sizeof *l->pos);
    }
    memcpy(room + (at.self - at.src), &w->packed, sizeof w->packed);
    return nb_staging_send(be, p + at.src, room, at.bytes - at.src, err);
}

/* A weight in one way; *fits: else nothing is left. */
static nb_status try_way(nb_backend *be, nb_staging *s, Packing *p, nb_weight **out, bool *fits,
                         nb_error *err)
{
    nb_weight *w = weight_of(be, p->part, p->l, p->as, err);
    nb_status st = w ? be->op->alloc(be, w->bytes, "a weight matrix", &w->p, err) : NB_NO_ROOM;
    if (st == NB_OK)
        st = send_panels(be, s, p, (uint8_t *)w->p, fits, err);
    if (st == NB_OK && *fits)
        st = send_rest(be, s, w, p->l, err);
    if (st == NB_OK && *fits) {
        *out = w;
        return NB_OK;
    }
    nb_cuda_release_weight(be, w);
    return st;
}

static nb_status pack(nb_backend *be, nb_staging *s, Packing *p, nb_weight **out, nb_error *err)
{
    Lines way[8], as = {};
    const int n_way = ways(p->part, p->l, way);
    const bool table = p->l->codes == NB_CUDA_T3 || p->l->codes == NB_CUDA_T4;
    float gain = 0.0f; /* not looked for yet */
    bool fits = false;
    nb_status st = NB_OK;
    p->as = &as;
    for (int i = 0; st == NB_OK && !fits && i < 2 * n_way + 1; i++) {
        if (i == n_way)
            gain = gain_of(p->part, p->n_part, p->row);
        as =
            i < 2 * n_way ? way[i % n_way] : Lines{table ? NB_LINE_SCALE : NB_LINE_F32, 0.0f, 1.0f};
        if (i >= n_way && i < 2 * n_way)
            as.gain = gain;
        st = try_way(be, s, p, out, &fits, err);
    }
    return st;
}

nb_status nb_cuda_pack_weight(nb_backend *be, const nb_matrix *part, int n_part, nb_weight **out,
                              nb_error *err)
{
    Layout l;
    *out = NULL;
    nb_staging *s;
    nb_status st = nb_staging_of(be, &s, err);
    if (st == NB_OK)
        st = nb_layout_open(be, part, n_part, &l, err);
    if (st != NB_OK)
        return st;
    const int n_row = be->n_thread > 1 ? be->n_thread : 1;
    Row *row = (Row *)nb_alloc_zero((size_t)n_row, sizeof *row, "packing a weight", err);
    bool ok = row != NULL;
    for (int i = 0; ok && i < n_row; i++)
        ok = row_open(&row[i], &part[0], &l, err);
    Packing p = {};
    p.part = part;
    p.n_part = n_part;
    p.l = &l;
    p.row = row;
    p.n_row = n_row;
    st = ok ? pack(be, s, &p, out, err) : NB_NO_ROOM;
    for (int i = 0; row && i < n_row; i++)
        row_close(&row[i]);
    free(row);
    nb_layout_close(&l);
    return st;
}

void nb_cuda_release_weight(nb_backend *be, nb_weight *w)
{
    if (!w)
        return;
    be->op->release(be, w->p);
    delete w;
}

size_t nb_cuda_weight_bytes(const nb_weight *w)
{
    return w->bytes;
}
