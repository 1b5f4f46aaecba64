/* stream_u5.cu -- the kernels of stream.h over U5 and U6: codes of 5 and 6 bits. */
#include "linear/stream.h"

nb_status nb_cuda_stream_u5(const StreamCall &c)
{
    static const StreamKinds two = {NULL,
                                    stream_start<U5, 2, NB_LINE_F16>,
                                    NULL,
                                    NULL,
                                    NULL,
                                    stream_start<U5, 2, NB_LINE_OFFSET>,
                                    stream_start<U5, 2, NB_LINE_F32>,
                                    stream_start<U5, 2, NB_LINE_LEVELS>};
    return two[c.w->packed.kind](c);
}

nb_status nb_cuda_stream_u6(const StreamCall &c)
{
    return stream_start<U6, 4, NB_LINE_LEVEL>(c); /* Q6_K's */
}
