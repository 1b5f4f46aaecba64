/* tile_64.cu -- the kernels of tile.h of 256 outputs x 64 tokens, for the usual codes
 * (linear.cu). */
#include "linear/tile.h"

nb_status nb_cuda_linear_tile_64(nb_backend *be, const nb_weight *w, const Io &io, const Scratch &s,
                                 int n_block, nb_error *err)
{
    return nb_with_lines(w, [&](auto codec, auto lines) {
        using C = decltype(codec);
        if constexpr ((kUsual >> C::kCodes & 1) != 0)
            return tile_start<Tile<C, 8, 8, decltype(lines)::n>>(be, "tile_256x64", w, io, s,
                                                                 n_block, err);
        else
            /* the table of rows knows */
            return nb_fail(err, NB_DEVICE, "%s: tile_256x64 does not serve this weight", be->name);
    });
}
