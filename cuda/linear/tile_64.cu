/* tile_64.cu -- the kernels of tile.h of 256 outputs x 64 tokens, for the usual codes (linear.cu). */
#include "linear/tile.h"

nb_status nb_cuda_linear_tile_64(nb_backend *be, const nb_weight *w, const Io &io, const Scratch &s, int n_block, nb_error *err)
{
    const auto run = [&](auto codec) { return tile_run<decltype(codec), 8, 8>(be, "tile_256x64", w, io, s, n_block, err); };
    return w->codes == NB_CUDA_U4 ? run(U4()) : w->codes == NB_CUDA_U8 ? run(U8()) : w->codes == NB_CUDA_T4 ? run(T4()) : run(Bf16());
}
