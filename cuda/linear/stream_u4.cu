/* stream_u4.cu -- the kernels of stream.h over U4: codes of 4 bits. */
#include "linear/stream.h"

nb_status nb_cuda_stream_u4(const StreamCall &c)
{
    static const StreamKinds one = {NULL,
                                    stream_start<U4, 1, NB_LINE_F16>,
                                    stream_start<U4, 1, NB_LINE_ZERO>,
                                    NULL,
                                    NULL,
                                    stream_start<U4, 1, NB_LINE_OFFSET>,
                                    stream_start<U4, 1, NB_LINE_F32>},
                             two = {NULL,
                                    stream_start<U4, 2, NB_LINE_F16>,
                                    stream_start<U4, 2, NB_LINE_ZERO>,
                                    NULL,
                                    NULL,
                                    stream_start<U4, 2, NB_LINE_OFFSET>,
                                    stream_start<U4, 2, NB_LINE_F32>,
                                    stream_start<U4, 2, NB_LINE_LEVELS>},
                             four = {NULL, NULL, stream_start<U4, 4, NB_LINE_ZERO>, NULL,
                                     NULL, NULL, stream_start<U4, 4, NB_LINE_F32>};
    const int shift = c.w->packed.shift;
    return (shift >= 0 ? one : shift == -1 ? two : four)[c.w->packed.kind](c);
}
