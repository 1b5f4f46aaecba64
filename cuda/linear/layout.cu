/* layout.cu -- the choice of a layout (layout.h) by the parts' words alone. */
#include "linear/layout.h"

#include "linear/codec.h"

#include "base/memory.h"

#include <climits>
#include <cstdlib>
#include <cstring>

constexpr int kWholeRow = 30; /* a shift that makes every unit's line the first */
/* quarters of K that filled-up groups may take before bf16 is the better choice */
constexpr int64_t kMostFilled = 5;

static bool has_codes(const nb_matrix *m, nb_cuda_codes *codes)
{
    const nb_dtype *t = m->dtype;
    const int bits = t ? t->bits : m->bits;
    if (bits < 1 || bits > 8 || (t && (t->canon == NB_CANON_NONE || !t->split)))
        return false;
    static const nb_cuda_codes by_bits[] = {NB_CUDA_U2, NB_CUDA_U2, NB_CUDA_U2,
                                            NB_CUDA_U3, NB_CUDA_U4, NB_CUDA_U5,
                                            NB_CUDA_U6, NB_CUDA_U8, NB_CUDA_U8};
    const bool table = t ? t->canon == NB_CANON_TABLE : m->table != NULL;
    /* no scheme has codes of 5 or 6 bits */
    *codes = table            ? (bits <= 3 ? NB_CUDA_T3 : NB_CUDA_T4)
             : !t && bits > 4 ? NB_CUDA_U8
                              : by_bits[bits];
    return !table || bits <= 4;
}

static bool has_lines(nb_cuda_codes codes, int a_unit)
{
    return nb_with_codec(codes,
                         [&](auto codec) { return (decltype(codec)::kLines & a_unit) != 0; });
}

static int64_t group_of(const nb_matrix *m)
{
    const int64_t g = m->dtype ? m->dtype->group : m->group;
    return g < 1 || g > m->K ? m->K : g;
}

/* Whether one order of inputs serves all parts. */
static bool alike(const nb_matrix *a, const nb_matrix *b)
{
    return group_of(a) == group_of(b) && !a->g_idx == !b->g_idx &&
           (!a->g_idx || memcmp(a->g_idx, b->g_idx, (size_t)a->K * sizeof *a->g_idx) == 0);
}

/* The shift of a regular group: -1 for 32, -2 for 16; what is no power of two times 64 has its
 * lines repeated. */
static int shift_of(nb_cuda_codes codes, int64_t group, int64_t K)
{
    const int64_t units = group / kUnit;
    int shift = 0;
    /* a row shorter than a unit is a short group: T4 has one line a unit for f32 scales only */
    if (group == K && K >= kUnit && has_lines(codes, 1))
        return kWholeRow;
    if (group % kUnit || !has_lines(codes, 1))
        return !has_lines(codes, 4) || (group % 32 == 0 && has_lines(codes, 2)) ? -1 : -2;
    while (!(units >> shift & 1))
        shift++;
    return units >> shift == 1 ? shift : 0;
}

static int64_t in_group(const nb_matrix *m, int64_t k)
{
    return m->g_idx ? m->g_idx[k] : k / group_of(m);
}

/* Groups one after another, each from a multiple of `step` positions on: first[g] where group g
 * begins, first[n] the end. */
static void order(const nb_matrix *m, int64_t step, int64_t *first)
{
    const int64_t n = nb_ceil_div(m->K, group_of(m));
    memset(first, 0, (size_t)(n + 1) * sizeof *first);
    for (int64_t k = 0; k < m->K; k++)
        first[in_group(m, k) + 1]++;
    for (int64_t g = 0; g < n; g++)
        first[g + 1] = first[g] + nb_ceil_div(first[g + 1], step) * step;
}

/* Every group but the last has exactly as many inputs as its size says. */
static bool regular(const nb_matrix *m, const int64_t *first)
{
    const int64_t group = group_of(m), n = nb_ceil_div(m->K, group);
    for (int64_t g = 0; g < n; g++)
        if (first[g] != g * group)
            return false;
    return true;
}

/* The inputs at their positions; first is used up. */
static nb_status reorder(const nb_matrix *m, int64_t *first, Layout *l, nb_error *err)
{
    const int64_t n = l->n_unit * kUnit;
    l->src = (int32_t *)nb_alloc((size_t)n, sizeof *l->src, "the order of a weight's inputs", err);
    l->pos =
        (int32_t *)nb_alloc((size_t)l->K, sizeof *l->pos, "the order of a weight's inputs", err);
    if (!l->src || !l->pos)
        return NB_NO_ROOM;
    for (int64_t p = 0; p < n; p++)
        l->src[p] = -1;
    for (int64_t k = 0; k < l->K; k++) {
        const int64_t p = first[in_group(m, k)]++;
        l->src[p] = (int32_t)k;
        l->pos[k] = (int32_t)p;
    }
    return NB_OK;
}

static nb_status lines(const nb_matrix *m, Layout *l, nb_error *err)
{
    const int64_t step = l->shift < 0 ? kUnit >> -l->shift : (int64_t)kUnit << l->shift;
    l->n_line = nb_ceil_div(l->n_unit * kUnit, step);
    l->group =
        (int32_t *)nb_alloc((size_t)l->n_line, sizeof *l->group, "the groups of a weight", err);
    if (!l->group)
        return NB_NO_ROOM;
    for (int64_t i = 0; i < l->n_line; i++) {
        const int64_t p = i * step, k = l->src ? l->src[p] : p < l->K ? p : -1;
        l->group[i] = k < 0 ? -1 : (int32_t)in_group(m, k);
    }
    return NB_OK;
}

nb_status nb_layout_open(const nb_backend *be, const nb_matrix *part, int n_part, Layout *out,
                         nb_error *err)
{
    Layout l = {};
    nb_cuda_codes codes = NB_CUDA_BF16;
    bool packed = true;
    *out = l;
    l.K = part[0].K;
    for (int i = 0; i < n_part; i++) {
        packed = has_codes(&part[i], &codes) && packed && (i == 0 || codes == l.codes) &&
                 alike(&part[0], &part[i]) && part[i].dtype == part[0].dtype &&
                 nb_matrix_same_table(&part[0], &part[i]);
        l.codes = codes;
        l.N += part[i].N;
    }
    if (l.N > INT_MAX - kPanel || l.K > INT_MAX / 2)
        return nb_fail(err, NB_UNSUPPORTED, "%s: a matrix of more than 2^31 rows or 2^30 columns",
                       be->name);
    const nb_matrix *m = &part[0];
    const int64_t group = group_of(m);
    l.shift = shift_of(l.codes, group, l.K);
    const bool moved =
        packed && group != l.K && (m->g_idx || (l.shift < 0 && group % (kUnit >> -l.shift)));
    int64_t *first = moved ? (int64_t *)nb_alloc((size_t)nb_ceil_div(l.K, group) + 1, sizeof *first,
                                                 "the groups of a weight", err)
                           : NULL;
    nb_status st = moved && !first ? NB_NO_ROOM : NB_OK;
    int64_t n = l.K;
    if (first) {
        order(m, 1, first);
        const bool whole = group % kUnit == 0 && group >> l.shift == kUnit && regular(m, first);
        if (!whole) {
            l.shift = has_lines(l.codes, 2) ? -1 : -2;
            order(m, kUnit >> -l.shift, first);
        }
        n = first[nb_ceil_div(l.K, group)];
        packed = n <= l.K + 2 * kUnit || n * 4 <= l.K * kMostFilled;
    }
    l.n_unit = nb_ceil_div(packed ? n : l.K, kUnit);
    if (!packed)
        l.codes = NB_CUDA_BF16;
    else if (st == NB_OK && moved)
        st = reorder(m, first, &l, err);
    if (st == NB_OK && packed)
        st = lines(m, &l, err);
    free(first);
    if (st != NB_OK) {
        nb_layout_close(&l);
        return st;
    }
    *out = l;
    return NB_OK;
}

void nb_layout_close(Layout *l)
{
    free(l->src);
    free(l->pos);
    free(l->group);
    *l = Layout();
}
