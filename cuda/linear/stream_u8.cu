/* stream_u8.cu -- the kernels of stream.h over U8: codes of 5 to 8 bits. */
#include "linear/stream.h"

nb_status nb_cuda_stream_u8(const StreamCall &c)
{
    static nb_status (*const by_line[])(const StreamCall &) = {/* nb_cuda_lines */
                                                               NULL, stream_lines<U8, NB_LINE_F16>, stream_lines<U8, NB_LINE_ZERO>,
                                                               stream_lines<U8, NB_LINE_OFFSET>, stream_lines<U8, NB_LINE_F32>};
    return by_line[c.w->packed.kind](c);
}
