/* device.h -- the CUDA backend: its state, and what every file of it needs to launch a kernel and
 * tell its failure.
 *
 * The same sources are compiled by nvcc into libnibble_cuda.so and by the host compiler against the
 * emulator into libnibble_simt.so (gpu.h); nothing here or in the ops knows which. One stream a
 * backend: ops enqueue in order, sync and download wait. Matrices of activations are f32 as
 * everywhere above the waist; operands of the tensor cores are rounded to bf16, sums are f32. */
#ifndef NB_CUDA_DEVICE_H
#define NB_CUDA_DEVICE_H

#include "gpu.h"

#include "backend/backend.h"

#include <cmath>
#include <cstdio>
#include <mutex>

struct nb_lt;
struct nb_staging;

struct nb_cuda {
    nb_backend base;
    cudaStream_t stream;
    int index;        /* of the device */
    int n_sm;         /* multiprocessors */
    size_t sm_shared; /* bytes of shared memory each has */
    size_t l2_bytes;
    unsigned *turn;     /* [kTurns] device, 0 between kernels (turn.h) */
    int sm;             /* 90: compute capability 9.0 */
    bool wgmma;         /* that, and the module has its code (linear/wgmma.cu) */
    int64_t dense_from; /* NIBBLE_CUBLASLT_FROM=M: linears of M tokens and more go to cuBLASLt, 0
                         * none; -1: as linear/dense.cu reckons */
    nb_lt *lt;          /* once asked for (linear/cublaslt.h) */
    std::once_flag lt_asked;
    nb_staging *staging; /* of uploads, once asked for (staging.h) */
    const char *last; /* the kernel that was enqueued last, with its grid: a fault shows only where
                       * something waits */
    dim3 last_grid, last_block;
};

static inline nb_cuda *nb_cuda_of(nb_backend *be)
{
    return (nb_cuda *)be; /* base is its first member */
}

/* The runtime's current device is a matter of the thread, and ops come from others than the one
 * that opened the backend. Where memory is taken, a kernel launched or its attributes set. */
static inline void nb_cuda_here(nb_backend *be)
{
    const int index = nb_cuda_of(be)->index;
    int now = -1;
    if (cudaGetDevice(&now) != cudaSuccess || now != index)
        (void)cudaSetDevice(index); /* what follows tells its failure */
}

/* NB_OK, or a status with "cuda:0: WHAT: the driver's sentence"; out of memory is NB_NO_ROOM. */
nb_status nb_cuda_status(const nb_backend *be, cudaError_t e, const char *what, nb_error *err);

/* Enqueues kernel k; a failure names it and its shape. A grid without blocks is nothing to do. */
template <class... P, class... A>
nb_status nb_launch(nb_backend *be, const char *name, void (*k)(P...), dim3 grid, dim3 block,
                    size_t smem, nb_error *err, A &&...args)
{
    if (!grid.x || !grid.y || !grid.z)
        return NB_OK;
    nb_cuda *c = nb_cuda_of(be);
    be->n_launch++;
    nb_cuda_here(be);
    launch(k, grid, block, smem, c->stream, static_cast<A &&>(args)...);
    c->last = name;
    c->last_grid = grid;
    c->last_block = block;
    const cudaError_t e = cudaGetLastError();
    if (e == cudaSuccess)
        return NB_OK;
    char what[160];
    snprintf(what, sizeof what, "kernel %s on %u x %u x %u blocks of %u threads", name, grid.x,
             grid.y, grid.z, block.x * block.y * block.z);
    return nb_cuda_status(be, e, what, err);
}

/* As nb_launch, for more shared memory than a kernel has unasked. */
template <class... P, class... A>
nb_status nb_launch_large(nb_backend *be, const char *name, void (*k)(P...), dim3 grid, dim3 block,
                          size_t smem, nb_error *err, A &&...args)
{
    nb_cuda_here(be);
    const cudaError_t e =
        cudaFuncSetAttribute(k, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)smem);
    if (e != cudaSuccess)
        return nb_cuda_status(be, e, name, err);
    return nb_launch(be, name, k, grid, block, smem, err, static_cast<A &&>(args)...);
}

static inline int64_t nb_ceil_div(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

/* Arrays that share an allocation begin at multiples of 256 bytes, as cudaMalloc's own do. */
static inline size_t nb_align256(size_t n)
{
    return (n + 255) / 256 * 256;
}

/* Blocks of a loop over n elements by 256 threads; the kernels stride, so a large n is cut off
 * here. */
static inline dim3 nb_blocks(int64_t n)
{
    const int64_t blocks = nb_ceil_div(n, 256);
    return dim3((unsigned)(blocks < 65535 ? blocks : 65535));
}

/* ---- the ops; one file each ---- */
nb_status nb_cuda_measure_weight(nb_backend *be, const nb_matrix *part, int n_part, nb_weight **out,
                                 nb_error *err);
nb_status nb_cuda_pack_weight(nb_backend *be, const nb_matrix *part, int n_part, nb_weight **out,
                              nb_error *err);
void nb_cuda_release_weight(nb_backend *be, nb_weight *w);
size_t nb_cuda_weight_bytes(const nb_weight *w);
nb_status nb_cuda_embed(nb_backend *be, const nb_embed_args *a, nb_error *err);
nb_status nb_cuda_rms_norm(nb_backend *be, const nb_rms_norm_args *a, nb_error *err);
bool nb_cuda_has_wgmma(void);
size_t nb_cuda_linear_scratch(nb_backend *be, const nb_linear_args *a);
nb_status nb_cuda_linear(nb_backend *be, const nb_linear_args *a, nb_error *err);
bool nb_cuda_linear_takes(nb_backend *be, const nb_linear_args *a);
nb_status nb_cuda_rope_append_kv(nb_backend *be, const nb_rope_args *a, nb_error *err);
size_t nb_cuda_attention_scratch(nb_backend *be, const nb_attention_args *a);
nb_status nb_cuda_attention(nb_backend *be, const nb_attention_args *a, nb_error *err);
nb_status nb_cuda_gated_activation(nb_backend *be, const nb_gated_args *a, nb_error *err);
nb_status nb_cuda_logits_soft_cap(nb_backend *be, const nb_soft_cap_args *a, nb_error *err);
nb_status nb_cuda_argmax(nb_backend *be, const nb_argmax_args *a, nb_error *err);
size_t nb_cuda_sample_scratch(nb_backend *be, const nb_sample_args *a);
nb_status nb_cuda_sample(nb_backend *be, const nb_sample_args *a, nb_error *err);
nb_status nb_cuda_add_scaled(nb_backend *be, const nb_add_args *a, nb_error *err);
nb_status nb_cuda_route_experts(nb_backend *be, const nb_route_args *a, nb_error *err);
size_t nb_cuda_grouped_linear_scratch(nb_backend *be, const nb_grouped_args *a);
nb_status nb_cuda_grouped_linear(nb_backend *be, const nb_grouped_args *a, nb_error *err);
nb_status nb_cuda_combine_experts(nb_backend *be, const nb_combine_args *a, nb_error *err);
nb_status nb_cuda_gather_rows(nb_backend *be, const nb_gather_args *a, nb_error *err);
nb_status nb_cuda_take_columns(nb_backend *be, const nb_take_args *a, nb_error *err);
nb_status nb_cuda_limit_rows(nb_backend *be, const nb_limit_rows_args *a, nb_error *err);
size_t nb_cuda_gram_scratch(nb_backend *be, const nb_gram_args *a);
nb_status nb_cuda_gram_accumulate(nb_backend *be, const nb_gram_args *a, nb_error *err);
size_t nb_cuda_drift_scratch(nb_backend *be, const nb_drift_args *a);
nb_status nb_cuda_drift_accumulate(nb_backend *be, const nb_drift_args *a, nb_error *err);
nb_status nb_cuda_factor(nb_backend *be, const nb_factor_args *a, nb_error *err);
nb_status nb_cuda_unfactor(nb_backend *be, const nb_unfactor_args *a, nb_error *err);
size_t nb_cuda_correct_scratch(nb_backend *be, const nb_correct_args *a);
nb_status nb_cuda_correct(nb_backend *be, const nb_correct_args *a, nb_error *err);
nb_status nb_cuda_quantize_rows(nb_backend *be, const nb_quantize_rows_args *a, nb_error *err);
size_t nb_cuda_clip_rows_scratch(nb_backend *be, const nb_clip_rows_args *a);
nb_status nb_cuda_clip_rows(nb_backend *be, const nb_clip_rows_args *a, nb_error *err);
size_t nb_cuda_scale_error_scratch(nb_backend *be, const nb_scale_error_args *a);
nb_status nb_cuda_scale_error(nb_backend *be, const nb_scale_error_args *a, nb_error *err);
size_t nb_cuda_gptq_sweep_scratch(nb_backend *be, const nb_gptq_sweep_args *a);
nb_status nb_cuda_gptq_sweep(nb_backend *be, const nb_gptq_sweep_args *a, nb_error *err);
nb_status nb_cuda_dequantize(nb_backend *be, const nb_dequantize_args *a, nb_error *err);
size_t nb_cuda_quant_error_scratch(nb_backend *be, const nb_quant_error_args *a);
nb_status nb_cuda_quant_error(nb_backend *be, const nb_quant_error_args *a, nb_error *err);
nb_status nb_cuda_limits(nb_backend *be, nb_limits *out, nb_error *err);
const char *nb_cuda_limits_row(nb_backend *be, const nb_linear_args *a, nb_arith *arith);
const char *nb_cuda_attention_row_name(nb_backend *be, const nb_attention_args *a, nb_arith *arith);
const char *nb_cuda_product_library(nb_backend *be);
nb_status nb_cuda_peer_bf16(nb_backend *be, int64_t M, int64_t N, int64_t K, const void *x,
                            const void *w, void *y, nb_error *err);
nb_status nb_cuda_replay_begin(nb_backend *be, nb_replay **r, const void *key, size_t key_bytes,
                               bool *again, nb_error *err);
nb_status nb_cuda_replay_end(nb_backend *be, nb_replay *r, bool good, nb_error *err);
void nb_cuda_replay_close(nb_backend *be, nb_replay *r);
nb_status nb_cuda_replay_time(nb_backend *be, nb_replay *r, const void *key, size_t key_bytes,
                              double *ns, nb_error *err);

#endif
