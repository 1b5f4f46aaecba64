/* tile_32.cu -- the kernels of tile.h of 256 outputs x 32 tokens. */
#include "linear/tile.h"

nb_status nb_cuda_linear_tile_32(nb_backend *be, const nb_weight *w, const Io &io, const Scratch &s, int n_block, nb_error *err)
{
    return nb_with_codec(w->codes, [&](auto codec) { return tile_run<decltype(codec), 4, 8>(be, "tile_256x32", w, io, s, n_block, err); });
}
