/* linear.cu -- the table of linear's rows, the scratch they share, and a call: the first row that
 * fits runs, behind the activations where it does not bring x itself. */
#include "linear/linear.h"

constexpr int kAll = (2 << NB_CUDA_BF16) - 1;
/* of a block's piece: fewer are not worth its partial sums */
constexpr int kLeastUnits = 8;
constexpr size_t kAlign = 256;

static const nb_cuda_linear_own dense = {nb_cuda_dense_scratch, nb_cuda_dense};

const nb_cuda_linear_row nb_cuda_linear_rows[] = {
    {"cublaslt", kAll, 0, 0, 0, 0, false, nb_cuda_dense_serves, NULL, &dense, false},
    {"stream", kAll, 16, kPanel, 8, 2, false, NULL, nb_cuda_linear_stream, NULL, true},
    {"tile_256x32", kAll, 32, 256, 32, 1, false, NULL, nb_cuda_linear_tile_32, NULL, false},
    {"tile_256x64", kUsual, 64, 256, 64, 1, false, NULL, nb_cuda_linear_tile_64, NULL, false},
    {"wgmma_256x128", kUsual, 0, 256, 128, 1, true, nb_cuda_wgmma_256_serves,
     nb_cuda_linear_wgmma_256, NULL, false},
    {"wgmma_128x128", kUsual, 0, 128, 128, 1, true, NULL, nb_cuda_linear_wgmma_128, NULL, false},
    {"tile_128x128", kAll, 0, 128, 128, 1, false, NULL, nb_cuda_linear_tile_128, NULL, false},
};

/* Whether the row has kernels for this weight on this device. */
static bool is_there(const nb_backend *be, const nb_cuda_linear_row *row, const nb_weight *w)
{
    return (row->codes >> w->codes & 1) && (!row->wgmma || ((const nb_cuda *)be)->wgmma);
}

const nb_cuda_linear_row *nb_cuda_linear_row_of(nb_backend *be, const nb_linear_args *a)
{
    const nb_cuda_linear_row *row = nb_cuda_linear_rows;
    while (!is_there(be, row, a->w) || (row->max_M && a->M > row->max_M) ||
           (row->serves && !row->serves(be, a)))
        row++;
    return row;
}

/* How a row of tiles meets a shape. */
struct Plan {
    int64_t tiles, n_oct;
    int n_block;
    size_t sum, part, count, bytes; /* where the parts of scratch begin, behind x, and their end */
};

/* Blocks: as many as run at once, each with a piece of equal length; or one a tile, where many
 * tokens share what L2 holds and the last wave is full. */
static int blocks(const nb_cuda_linear_row *row, int64_t tiles, int64_t n_unit, int64_t at_once)
{
    const int64_t waves = nb_ceil_div(tiles, at_once), most = tiles * n_unit;
    if (!row->max_M && tiles > at_once && tiles * 16 >= waves * at_once * 15)
        return (int)tiles;
    const int64_t n = nb_ceil_div(most, kLeastUnits), run = at_once < kTurns ? at_once : kTurns;
    return (int)(n < run ? n : run);
}

static Plan plan(const nb_backend *be, const nb_cuda_linear_row *row, const nb_weight *w, int64_t M)
{
    const Packed *p = &w->packed;
    const int64_t columns = nb_ceil_div(M, row->tile_M),
                  tile_M = row->max_M && columns * row->tile_M < row->max_M ? columns * row->tile_M
                                                                            : row->max_M;
    Plan a;
    const bool wide = row->max_M > row->tile_M; /* one tile takes all tokens */
    a.tiles = nb_ceil_div(p->n_panel, row->tile_N / kPanel) * (wide ? 1 : columns);
    a.n_oct = columns * row->tile_M / 8;
    const nb_cuda *c = (const nb_cuda *)be;
    const int a_sm = c->sm_shared < kRoomForTwo ? 1 : row->blocks_a_sm;
    const int64_t at_once = (int64_t)c->n_sm * a_sm;
    a.n_block = blocks(row, a.tiles, p->n_unit, at_once);
    const size_t tile = (size_t)(row->tile_N * (wide ? tile_M : row->tile_M)) * sizeof(float);
    a.sum = nb_align256((size_t)p->n_unit * (size_t)a.n_oct * 1024);
    a.part = a.sum + nb_align256((size_t)p->n_unit * (size_t)nb_lines_a_unit(*p) * (size_t)a.n_oct *
                                 8 * sizeof(float));
    /* with a block a tile none is shared, but with fewer tokens it may be */
    a.count = a.part + nb_align256(2 * (size_t)(a.n_block < at_once ? a.n_block : at_once) * tile);
    a.bytes = a.count + nb_align256((size_t)a.tiles * sizeof(unsigned)) + kAlign;
    return a;
}

/* Enough for any M up to the call's, so that who plans for the most tokens has room for fewer. */
size_t nb_cuda_linear_scratch(nb_backend *be, const nb_linear_args *a)
{
    size_t most = 0;
    for (const nb_cuda_linear_row *row = nb_cuda_linear_rows;; row++) {
        if (!is_there(be, row, a->w))
            continue;
        const bool last = !row->serves && (!row->max_M || row->max_M >= a->M);
        const size_t n = row->own
                             ? row->own->scratch(be, a)
                             : plan(be, row, a->w, last || !row->max_M ? a->M : row->max_M).bytes;
        most = n > most ? n : most;
        if (last)
            return most;
    }
}

/* Where x comes by activations.cu. */
bool nb_cuda_linear_takes(nb_backend *be, const nb_linear_args *a)
{
    return !nb_cuda_linear_row_of(be, a)->own;
}

nb_status nb_cuda_linear(nb_backend *be, const nb_linear_args *a, nb_error *err)
{
    if (!a->M)
        return NB_OK;
    const nb_cuda_linear_row *row = nb_cuda_linear_row_of(be, a);
    if (row->own && (a->through.norm || a->through.up))
        return nb_fail(err, NB_UNSUPPORTED, "%s: row %s of linear takes x as it lies", be->name,
                       row->name);
    if (row->own)
        return row->own->run(be, a, err);
    const Plan p = plan(be, row, a->w, a->M);
    const Io io = {a->x, a->bias, a->y, a->ldx, a->ldy, (int)a->M, a->add, a->through};
    uint8_t *at = (uint8_t *)(((uintptr_t)a->scratch + kAlign - 1) / kAlign * kAlign);
    const Scratch s = {at,
                       (float *)(void *)(at + p.sum),
                       (float *)(void *)(at + p.part),
                       (unsigned *)(void *)(at + p.count),
                       (int)p.n_oct,
                       (int)p.tiles};
    const nb_status st =
        row->sees_to_x ? NB_OK : nb_cuda_activations(be, a->w, io, s, row->wgmma, err);
    return st == NB_OK ? row->run(be, a->w, io, s, p.n_block, err) : st;
}
