/* stream.cu -- the row of stream.h, and its kernels over values: tables of 8 and 16, and bf16. */
#include "linear/stream.h"

static nb_status values8(const StreamCall &c) /* always with two-level scales */
{
    return c.w->packed.shift == -1 ? stream_start<T3, 2, NB_LINE_LEVEL>(c)
                                   : stream_start<T3, 4, NB_LINE_LEVEL>(c);
}

static nb_status values16(const StreamCall &c)
{
    static const StreamKinds two = {NULL, stream_start<T4, 2, NB_LINE_F16>,
                                    NULL, stream_start<T4, 2, NB_LINE_LEVEL>,
                                    NULL, stream_start<T4, 2, NB_LINE_F32>},
                             four = {NULL, stream_start<T4, 4, NB_LINE_F16>, NULL, NULL,
                                     NULL, stream_start<T4, 4, NB_LINE_F32>};
    return (c.w->packed.shift == -1 ? two : four)[c.w->packed.kind](c);
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
