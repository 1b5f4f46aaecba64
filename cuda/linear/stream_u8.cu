/* stream_u8.cu -- the kernels of stream.h over U8: bytes. */
#include "linear/stream.h"

nb_status nb_cuda_stream_u8(const StreamCall &c)
{
    static const StreamKinds
        one = {NULL, stream_start<U8, 1, NB_LINE_F16>,    stream_start<U8, 1, NB_LINE_ZERO>, NULL,
               NULL, stream_start<U8, 1, NB_LINE_OFFSET>, stream_start<U8, 1, NB_LINE_F32>},
        two = {NULL, stream_start<U8, 2, NB_LINE_F16>,    stream_start<U8, 2, NB_LINE_ZERO>, NULL,
               NULL, stream_start<U8, 2, NB_LINE_OFFSET>, stream_start<U8, 2, NB_LINE_F32>},
        four = {NULL, NULL, stream_start<U8, 4, NB_LINE_ZERO>, NULL,
                NULL, NULL, stream_start<U8, 4, NB_LINE_F32>};
    const int shift = c.w->packed.shift;
    return (shift >= 0 ? one : shift == -1 ? two : four)[c.w->packed.kind](c);
}
