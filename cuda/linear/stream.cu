/* stream.cu -- the row of stream.h, and its kernels over values: tables of 16 and bf16. */
#include "linear/stream.h"

static nb_status values(const StreamCall &c)
{
    if (c.w->codes == NB_CUDA_BF16)
        return stream_start<Bf16, false, NB_LINE_NONE>(c);
    return c.w->packed.kind == NB_LINE_F32 ? stream_lines<T4, NB_LINE_F32>(c) : stream_lines<T4, NB_LINE_F16>(c);
}

nb_status nb_cuda_linear_stream(nb_backend *be, const nb_weight *w, const Io &io, const Scratch &s, int n_block, nb_error *err)
{
    const StreamCall c = {be, w, &io, &s, n_block, err};
    return w->codes == NB_CUDA_U4 ? nb_cuda_stream_u4(c) : w->codes == NB_CUDA_U8 ? nb_cuda_stream_u8(c) : values(c);
}
