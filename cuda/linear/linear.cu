/* linear.cu -- the table of linear's rows; the first that fits a call runs. */
#include "linear/linear.h"

const nb_cuda_linear_row nb_cuda_linear_rows[] = {
    {"gemv_u4", 1 << NB_CUDA_U4, 8, true, nb_cuda_gemv_u4},
    {"gemm_tile", 1 << NB_CUDA_U4 | 1 << NB_CUDA_BF16, 0, false, nb_cuda_gemm_tile},
};

size_t nb_cuda_linear_scratch(nb_backend *, const nb_linear_args *)
{
    return 0;
}

nb_status nb_cuda_linear(nb_backend *be, const nb_linear_args *a, nb_error *err)
{
    const Io io = {a->x, a->bias, a->y, a->ldx, a->ldy, (int)a->M, a->add};
    const bool aligned = (uintptr_t)a->x % 16 == 0 && a->ldx % 4 == 0;
    const nb_cuda_linear_row *row = nb_cuda_linear_rows;
    while (!(row->codes >> a->w->codes & 1) || (row->max_M && a->M > row->max_M) || (row->aligned_x && !aligned))
        row++;
    return row->run(be, a->w, io, err);
}
