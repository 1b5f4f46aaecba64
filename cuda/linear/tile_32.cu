/* tile_32.cu -- the kernels of tile.h of 256 outputs x 32 tokens. */
#include "linear/tile.h"

nb_status nb_cuda_linear_tile_32(nb_backend *be, const nb_weight *w, const Io &io, const Scratch &s,
                                 int n_block, nb_error *err)
{
    return nb_with_lines(w, [&](auto codec, auto lines) {
        return tile_start<Tile<decltype(codec), 4, 8, decltype(lines)::n>>(be, "tile_256x32", w, io,
                                                                           s, n_block, err);
    });
}
