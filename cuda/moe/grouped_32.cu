/* grouped_32.cu -- the kernels of grouped.h of 256 outputs x 32 slots. */
#include "moe/grouped.h"

nb_status nb_grouped_32(nb_backend *be, const nb_weight *most, const Experts &t, const Grouped &a,
                        const Scratch &s, int n_item, nb_error *err)
{
    return grouped_run<4>(be, most, t, a, s, n_item, err);
}
