/* stream.cu -- the row of stream.h, and its kernels over values: tables of 8 and 16, and bf16. */
#include "linear/stream.h"

static nb_status values8(const StreamCall &c) /* always with two-level scales */
{
    return c.w->packed.shift == -1 ? stream_start<T3, 2, NB_LINE_LEVEL>(c)
                                   : stream_start<T3, 4, NB_LINE_LEVEL>(c);
}

static nb_status values16(const StreamCall &c)
{
    static const StreamKinds two = {NULL, stream_start<T4, 2, NB_LINE_F16>, NULL,
                                    stream_start<T4, 2, NB_LINE_LEVEL>,
                                    stream_start<T4, 2, NB_LINE_SCALE>},
                             four = {NULL, stream_start<T4, 4, NB_LINE_F16>, NULL, NULL,
                                     stream_start<T4, 4, NB_LINE_SCALE>};
    if (c.w->packed.shift >= 0) /* groups of 64 and more have f32 scales: NF4, FP4 */
        return stream_start<T4, 1, NB_LINE_SCALE>(c);
    return (c.w->packed.shift == -1 ? two : four)[c.w->packed.kind](c);
}

/* A kernel of activations takes some 2.5 us of a decode step: 1.3 from kernel to kernel inside a CUDA
 * graph, and what a small kernel needs for two trips to L2. A block that brings x itself reads, for
 * each token, 4 bytes an input of its units, as many again of what they are gated with or multiplied
 * by, and 4 K for the sum of squares, of which its units are part. L2 gives H200 some 5.5 TB/s: 2.5
 * us are 52 KB for each of 264 blocks, and 64 KB where two blocks find half of it in the L1 they
 * share. Meanwhile the weights that were asked for before, 64 KiB a multiprocessor, take memory 2 us.
 * Beyond that, or where the units do not fit beside the ring, one kernel for all blocks is better.
 *
 *   one token, 8B: qkv 22 KB a block, o 4, gate_up 32, down 28, output 32
 *              70B: 52, 16, 64; down 109, so that one goes the other way */
constexpr int64_t kMostBrought = 64 << 10;
/* what the system keeps of a block's shared memory, and the kernel's static part, filled up to 1024 */
constexpr int kKept = 2 << 10;

int nb_stream_room(nb_backend *be)
{
    const nb_cuda *c = nb_cuda_of(be);
    return (int)c->sm_shared / (c->sm_shared < kRoomForTwo ? 1 : 2) - kKept;
}

int nb_stream_own(nb_backend *be, const nb_weight *w, const Io &io, int n_block, int bytes)
{
    const Packed &p = w->packed;
    const int64_t piece = nb_ceil_div((int64_t)p.n_panel * p.n_unit, n_block),
                  n = piece < p.n_unit ? piece : p.n_unit, row = n * kUnit * 4,
                  read = io.through.norm ? 4 * (int64_t)p.K + row
                         : io.through.up ? 2 * row
                                         : row;
    return io.M * read <= kMostBrought && bytes + n * io.M * 128 <= nb_stream_room(be) ? (int)n : 0;
}

nb_status nb_cuda_linear_stream(nb_backend *be, const nb_weight *w, const Io &io, const Scratch &s,
                                int n_block, nb_error *err)
{
    static const StreamStart by_codes[] = {
        /* nb_cuda_codes */
        nb_cuda_stream_u2, nb_cuda_stream_u3, nb_cuda_stream_u4,
        nb_cuda_stream_u5, nb_cuda_stream_u6, nb_cuda_stream_u8,
        values8,           values16,          stream_start<Bf16, 1, NB_LINE_NONE>};
    return by_codes[w->codes]({be, w, &io, &s, n_block, err});
}
