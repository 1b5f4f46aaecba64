/* columns.cu -- take_columns (backend.h): a matrix with its columns in another order or cleared, a
 * copy, a diagonal. Elements are moved as bits. */
#include "device.h"

template <class T>
__global__ void take_kernel(const T *x, int64_t M, int64_t K, int64_t ldx, int64_t ldy,
                            const int32_t *col, T *y)
{
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < M * K;
         i += (int64_t)gridDim.x * blockDim.x) {
        const int64_t m = i / K, j = i % K, from = col ? col[j] : j;
        y[m * ldy + j] = from < 0 ? (T)0 : x[m * ldx + from];
    }
}

template <class T> static nb_status take(nb_backend *be, const nb_take_args *a, nb_error *err)
{
    return nb_launch(be, "take_columns", take_kernel<T>, nb_blocks(a->M * a->K), dim3(256), 0, err,
                     (const T *)a->x, a->M, a->K, a->ldx, a->ldy, a->col, (T *)a->y);
}

nb_status nb_cuda_take_columns(nb_backend *be, const nb_take_args *a, nb_error *err)
{
    if (!a->col && a->ldx == a->K && a->ldy == a->K)
        return nb_cuda_status(be,
                              cudaMemcpyAsync(a->y, a->x, (size_t)(a->M * a->K * a->size),
                                              cudaMemcpyDeviceToDevice, nb_cuda_of(be)->stream),
                              "a copy on the device", err);
    return a->size == 1   ? take<uint8_t>(be, a, err)
           : a->size == 4 ? take<uint32_t>(be, a, err)
                          : take<uint64_t>(be, a, err);
}
