/* stream_u2.cu -- the kernels of stream.h over U2 and U3: codes of 2 and 3 bits. */
#include "linear/stream.h"

nb_status nb_cuda_stream_u2(const StreamCall &c)
{
    static const StreamKinds one = {NULL,
                                    stream_start<U2, 1, NB_LINE_F16>,
                                    stream_start<U2, 1, NB_LINE_ZERO>,
                                    NULL,
                                    NULL,
                                    NULL,
                                    stream_start<U2, 1, NB_LINE_F32>},
                             four = {NULL,
                                     NULL,
                                     stream_start<U2, 4, NB_LINE_ZERO>,
                                     NULL,
                                     NULL,
                                     NULL,
                                     stream_start<U2, 4, NB_LINE_F32>,
                                     NULL,
                                     stream_start<U2, 4, NB_LINE_NIBBLES>};
    return (c.w->packed.shift < 0 ? four : one)[c.w->packed.kind](c);
}

nb_status nb_cuda_stream_u3(const StreamCall &c)
{
    static const StreamKinds one = {NULL,
                                    stream_start<U3, 1, NB_LINE_F16>,
                                    stream_start<U3, 1, NB_LINE_ZERO>,
                                    NULL,
                                    NULL,
                                    NULL,
                                    stream_start<U3, 1, NB_LINE_F32>},
                             four = {NULL,
                                     NULL,
                                     stream_start<U3, 4, NB_LINE_ZERO>,
                                     stream_start<U3, 4, NB_LINE_LEVEL>,
                                     NULL,
                                     NULL,
                                     stream_start<U3, 4, NB_LINE_F32>};
    return (c.w->packed.shift < 0 ? four : one)[c.w->packed.kind](c);
}
