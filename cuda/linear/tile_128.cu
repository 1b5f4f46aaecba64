/* tile_128.cu -- the kernels of tile.h of 128 outputs x 128 tokens. */
#include "linear/tile.h"

nb_status nb_cuda_linear_tile_128(nb_backend *be, const nb_weight *w, const Io &io,
                                  const Scratch &s, int n_block, nb_error *err)
{
    return nb_with_lines(w, [&](auto codec, auto lines) {
        return tile_start<Tile<decltype(codec), 8, 4, decltype(lines)::n>>(be, "tile_128x128", w,
                                                                           io, s, n_block, err);
    });
}
