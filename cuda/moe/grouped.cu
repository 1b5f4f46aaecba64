/* grouped.cu -- grouped_linear (backend.h) by the tiles of grouped.h: which pairs go where, their
 * x, and the launches. */
#include "moe/grouped.h"

#include "linear/activations.h"

constexpr int kMostExperts = 4096; /* no more are read (hparams.c) */
constexpr int kBringWarps = 4;
constexpr int kFew = 8, kMany = 32; /* slots a tile; from 8 pairs an expert on, many */

static int slots_of(const nb_grouped_args *a)
{
    return a->P > 8 * (int64_t)a->n_expert ? kMany : kFew;
}
static int64_t most_items(const nb_grouped_args *a, int slots)
{
    return a->P / slots + (a->P < a->n_expert ? a->P : a->n_expert);
}

/* ---- kernels ---- */

/* A block an expert. All count every expert's pairs, so that each knows where its own begin: P
 * reads of L2 a block. */
__global__ void __launch_bounds__(256) order_kernel(Grouped a, int slots)
{
    SHARED(unsigned, count, [kMostExperts]);
    SHARED(int, warp_sum, [8]);
    const int e = (int)blockIdx.x, lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    for (int i = threadIdx.x; i < a.n_expert; i += blockDim.x)
        count[i] = 0;
    __syncthreads();
    for (int64_t p = threadIdx.x; p < a.P; p += blockDim.x)
        atomicAdd(&count[a.expert[p]], 1u);
    __syncthreads();
    int before = 0; /* tiles of the experts before */
    for (int i = lane; i < e; i += 32)
        before += ((int)count[i] + slots - 1) / slots;
#pragma unroll
    for (int o = 16; o > 0; o >>= 1)
        before += __shfl_xor_sync(0xffffffffu, before, o);
    const int mine = (int)count[e], tiles = (mine + slots - 1) / slots;
    int placed = before * slots;
    for (int64_t p0 = 0; p0 < a.P; p0 += blockDim.x) {
        const int64_t p = p0 + threadIdx.x;
        const bool is = p < a.P && a.expert[p] == e;
        const unsigned votes = __ballot_sync(0xffffffffu, is);
        if (lane == 0)
            warp_sum[warp] = __popc(votes);
        __syncthreads();
        int at = placed + __popc(votes & ((1u << lane) - 1));
        for (int i = 0; i < 8; i++) {
            at += i < warp ? warp_sum[i] : 0;
            placed += warp_sum[i];
        }
        if (is)
            a.pair[at] = (int32_t)p;
        __syncthreads();
    }
    for (int i = mine + (int)threadIdx.x; i < tiles * slots; i += blockDim.x)
        a.pair[before * slots + i] = -1;
    for (int i = threadIdx.x; i < tiles; i += blockDim.x)
        a.item[before + i] = e;
    if (e + 1 == a.n_expert && threadIdx.x == 0)
        *a.n_item = before + tiles;
}

__global__ void __launch_bounds__(32 * kBringWarps)
    bring_kernel(Experts experts, Grouped a, Scratch s, int slots)
{
    const int64_t job = (int64_t)blockIdx.x * kBringWarps + (threadIdx.x >> 5);
    const int unit = (int)(job / s.n_oct), oct = (int)(job % s.n_oct);
    const Packed *its = nb_expert_of(experts, a, oct / (slots / 8));
    if (!its || unit >= its->n_unit)
        return;
    const Packed &w = *its;
    const bool whole = !w.src && nb_whole_rows(a.x, a.ldx);
    nb_bring(w, s, unit, oct, [&](int slot, int position, float(&v)[2]) {
        const int p = a.pair[slot];
        if (p >= 0 && whole && position + 2 <= w.K) {
            nb_load(a.x + p / a.share * a.ldx + position, v);
            return;
        }
        for (int i = 0; i < 2; i++) {
            const int k = nb_input_at(w, position + i);
            v[i] = p >= 0 && k >= 0 ? a.x[p / a.share * a.ldx + k] : 0.0f;
        }
    });
}

/* ---- a call ---- */

struct Room { /* where the parts of scratch begin */
    size_t sum, pair, item, n_item, bytes;
};

/* The most units an expert has: an order of inputs may take more in one than in another. */
static int units_of(const nb_grouped_args *a)
{
    int n = 0;
    for (int e = 0; e < a->n_expert; e++)
        n = a->w[e]->packed.n_unit > n ? a->w[e]->packed.n_unit : n;
    return n;
}

static Room room_of(const nb_grouped_args *a, int slots)
{
    const size_t n_item = (size_t)most_items(a, slots), n_slot = n_item * (size_t)slots,
                 n_unit = (size_t)units_of(a);
    Room r;
    r.sum = nb_align256(n_unit * n_slot * 128);
    /* four lines a unit at most */
    r.pair = r.sum + nb_align256(n_unit * n_slot * 4 * sizeof(float));
    r.item = r.pair + nb_align256(n_slot * sizeof(int32_t));
    r.n_item = r.item + nb_align256(n_item * sizeof(int32_t));
    r.bytes = r.n_item + 2 * nb_align256(sizeof(int32_t)); /* and what aligning takes */
    return r;
}

size_t nb_cuda_grouped_linear_scratch(nb_backend *, const nb_grouped_args *a)
{
    /* fewer pairs may get the smaller tiles */
    const size_t few = room_of(a, kFew).bytes, many = room_of(a, kMany).bytes;
    return slots_of(a) == kFew || few > many ? few : many;
}

static bool same_kernel(const nb_weight *a, const nb_weight *b)
{
    return a->codes == b->codes && nb_lines_a_unit(a->packed) == nb_lines_a_unit(b->packed);
}
static int stage_of(const nb_weight *w)
{
    return nb_lines_a_unit(w->packed) * w->packed.line + w->packed.super;
}

/* The experts of a table that have the kernel of the table's like-th; returns the one with the
 * longest lines. NULL: an earlier one had it. */
static const nb_weight *alike(const nb_grouped_args *a, int like, Experts *t)
{
    const nb_weight *const *w = a->w + t->first, *most = w[like];
    for (int i = 0; i < like; i++)
        if (same_kernel(w[i], w[like]))
            return NULL;
    for (int i = 0; i < t->n; i++) {
        const bool in = same_kernel(w[i], w[like]);
        t->w[i] = in ? w[i]->self : NULL;
        most = in && stage_of(w[i]) > stage_of(most) ? w[i] : most;
    }
    return most;
}

nb_status nb_cuda_grouped_linear(nb_backend *be, const nb_grouped_args *a, nb_error *err)
{
    if (!a->P)
        return NB_OK;
    if (a->n_expert > kMostExperts || a->P > INT32_MAX / kMany)
        return nb_fail(err, NB_UNSUPPORTED,
                       "%s: grouped_linear of more than %d experts or 2^26 pairs", be->name,
                       kMostExperts);
    const int slots = slots_of(a), n_item = (int)most_items(a, slots), n_unit = units_of(a);
    const Room r = room_of(a, slots);
    uint8_t *at = (uint8_t *)(((uintptr_t)a->scratch + 255) / 256 * 256);
    const Scratch s = {at, (float *)(void *)(at + r.sum), NULL, NULL, n_item * slots / 8, 0};
    const Grouped g = {a->x,
                       a->expert,
                       a->y,
                       a->P,
                       a->ldx,
                       a->ldy,
                       a->share,
                       a->n_expert,
                       (int32_t *)(void *)(at + r.pair),
                       (int32_t *)(void *)(at + r.item),
                       (int32_t *)(void *)(at + r.n_item)};
    nb_status st = nb_launch(be, "order of pairs", order_kernel, dim3((unsigned)a->n_expert),
                             dim3(256), 0, err, g, slots);
    for (int first = 0; first < a->n_expert && st == NB_OK; first += kTable) {
        Experts t;
        t.first = first;
        t.n = a->n_expert - first < kTable ? a->n_expert - first : kTable;
        for (int like = 0; like < t.n && st == NB_OK; like++) {
            const nb_weight *most = alike(a, like, &t);
            const dim3 grid((unsigned)nb_ceil_div((int64_t)n_unit * s.n_oct, kBringWarps));
            if (!most)
                continue;
            st = nb_launch(be, "grouped activations", bring_kernel, grid, dim3(32 * kBringWarps), 0,
                           err, t, g, s, slots);
            if (st == NB_OK)
                st = (slots == kFew ? nb_grouped_8 : nb_grouped_32)(be, most, t, g, s, n_item, err);
        }
    }
    return st;
}
