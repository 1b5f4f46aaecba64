/* stream_u4.cu -- the kernels of stream.h over U4: codes of 2 to 4 bits. */
#include "linear/stream.h"

nb_status nb_cuda_stream_u4(const StreamCall &c)
{
    static nb_status (*const by_line[])(const StreamCall &) = {/* nb_cuda_lines */
                                                               NULL, stream_lines<U4, NB_LINE_F16>, stream_lines<U4, NB_LINE_ZERO>,
                                                               stream_lines<U4, NB_LINE_OFFSET>, stream_lines<U4, NB_LINE_F32>};
    return by_line[c.w->packed.kind](c);
}
