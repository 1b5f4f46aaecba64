/* device.cu -- the CUDA backend's head: opening a device, its memory, copies, and the table of its
 * ops. */
#include "device.h"
#include "linear/cublaslt.h"
#include "staging.h"
#include "turn.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>

#ifdef __CUDACC__
static const char *const kDevice = "cuda";
static int emulated(int index)
{
    return index;
}
static const char *emulator_fault(void)
{
    return NULL;
}
static nb_status set_emulator(nb_error *)
{
    return NB_OK;
}
#else /* the emulator: no device number, and faults it saw in kernels count as the device's */
static const char *const kDevice = "simt";
static const char *emulator_fault(void)
{
    return simt::errors() ? simt::first_error() : NULL;
}
/* NIBBLE_SIMT_MEMORY=BYTES: a device of that size, to see what does not fit.
 * NIBBLE_SIMT_LIBRARIES=none: a machine without the vendor's.
 * NIBBLE_SIMT_SM=80: a device of that compute capability, 90 unless told.
 * NIBBLE_SIMT_DEVICE=1: the device of that number, of two; 0 unless told.
 * NIBBLE_SIMT_SCHED=NAME[:SEED[:N]]: which thread runs next, forward unless told; with N it also
 * changes inside accesses, every N of them or so. */
static int emulated(int)
{
    const char *number = getenv("NIBBLE_SIMT_DEVICE");
    return number ? atoi(number) : 0;
}
static nb_status set_emulator(nb_error *err)
{
    const char *bytes = getenv("NIBBLE_SIMT_MEMORY"), *libraries = getenv("NIBBLE_SIMT_LIBRARIES"),
               *sm = getenv("NIBBLE_SIMT_SM"), *sched = getenv("NIBBLE_SIMT_SCHED");
    simt::cfg.sm = sm ? atoi(sm) : 90;
    simt::cfg.memory_limit = bytes ? strtoull(bytes, NULL, 10) : 0;
    simt::cfg.libraries = !libraries || strcmp(libraries, "none") != 0;
    return simt::set_schedule(sched)
               ? NB_OK
               : nb_fail(
                     err, NB_USAGE,
                     "NIBBLE_SIMT_SCHED=%.40s is no schedule of the emulator: forward, reverse, "
                     "warp, warp-rev or random, then :SEED and :N to change inside accesses",
                     sched);
}
#endif

nb_status nb_cuda_status(const nb_backend *be, cudaError_t e, const char *what, nb_error *err)
{
    if (e == cudaSuccess)
        return NB_OK;
    return nb_fail(err, e == cudaErrorMemoryAllocation ? NB_NO_ROOM : NB_DEVICE, "%s: %s: %s",
                   be->name, what, cudaGetErrorString(e));
}

static void cuda_close(nb_backend *be)
{
    nb_lt_close(nb_cuda_of(be)->lt);
    nb_staging_close(nb_cuda_of(be)->staging);
    (void)cudaFree(nb_cuda_of(be)->turn);
    (void)cudaStreamDestroy(nb_cuda_of(be)->stream);
    delete nb_cuda_of(be);
}

static size_t cuda_free_bytes(nb_backend *be)
{
    size_t there = 0, all = 0;
    nb_cuda_here(be);
    return cudaMemGetInfo(&there, &all) == cudaSuccess ? there : 0;
}

static nb_status cuda_alloc(nb_backend *be, size_t bytes, const char *what, void **out,
                            nb_error *err)
{
    *out = NULL;
    nb_cuda_here(be);
    const cudaError_t e = cudaMalloc(out, bytes ? bytes : 1);
    if (e == cudaSuccess)
        return NB_OK;
    (void)cudaGetLastError(); /* it is told here; the next launch must not find it */
    if (e == cudaErrorMemoryAllocation)
        return nb_fail(err, NB_NO_ROOM,
                       "%s: %.1f MiB for %s: out of memory, %.1f of %.1f MiB are free", be->name,
                       (double)bytes / 1048576.0, what, (double)cuda_free_bytes(be) / 1048576.0,
                       (double)be->memory_bytes / 1048576.0);
    return nb_fail(err, NB_DEVICE, "%s: %.1f MiB for %s: %s", be->name, (double)bytes / 1048576.0,
                   what, cudaGetErrorString(e));
}

static void cuda_release(nb_backend *be, void *p)
{
    (void)be;
    (void)cudaFree(p);
}

/* Of a call that waits, so that e may be the fault of any kernel before it. The driver does not say
 * whose; the last one is named as such. */
static nb_status fault(const nb_cuda *c, cudaError_t e, const char *what, nb_error *err)
{
    char text[240];
    if (e == cudaSuccess || !c->last)
        return nb_cuda_status(&c->base, e, what, err);
    snprintf(text, sizeof text,
             "%s (the last kernel was %s on %u x %u x %u blocks of %u threads, the fault may be "
             "that of an earlier one)",
             what, c->last, c->last_grid.x, c->last_grid.y, c->last_grid.z,
             c->last_block.x * c->last_block.y * c->last_block.z);
    return nb_cuda_status(&c->base, e, text, err);
}

static nb_status cuda_sync(nb_backend *be, nb_error *err)
{
    const nb_cuda *c = nb_cuda_of(be);
    const cudaError_t e = cudaStreamSynchronize(c->stream);
    if (e != cudaSuccess)
        return fault(c, e, "a kernel failed", err);
    return emulator_fault()
               ? nb_fail(err, NB_DEVICE, "%s: the emulator saw a fault in a kernel: %s", be->name,
                         emulator_fault())
               : NB_OK;
}

/* A copy that does not lie wholly on the device may wait for what was enqueued before it. */
static nb_status copy(nb_backend *be, void *dst, const void *src, size_t bytes, cudaMemcpyKind kind,
                      const char *what, nb_error *err)
{
    const nb_cuda *c = nb_cuda_of(be);
    return bytes ? fault(c, cudaMemcpyAsync(dst, src, bytes, kind, c->stream), what, err) : NB_OK;
}

/* The driver copies what is small into pinned memory of its own, at the pace of one thread. */
static nb_status cuda_upload(nb_backend *be, void *dst, const void *src, size_t bytes,
                             nb_error *err)
{
    enum { kSmall = 64 << 10 };
    if (bytes > kSmall)
        return nb_staging_copy(be, dst, src, bytes, err);
    return copy(be, dst, src, bytes, cudaMemcpyHostToDevice, "a copy to the device", err);
}

static nb_status cuda_download(nb_backend *be, void *dst, const void *src, size_t bytes,
                               nb_error *err)
{
    const nb_status st =
        copy(be, dst, src, bytes, cudaMemcpyDeviceToHost, "a copy from the device", err);
    return st == NB_OK ? cuda_sync(be, err) : st;
}

static nb_status cuda_zero(nb_backend *be, void *dst, size_t bytes, nb_error *err)
{
    return bytes ? nb_cuda_status(be, cudaMemsetAsync(dst, 0, bytes, nb_cuda_of(be)->stream),
                                  "clearing memory", err)
                 : NB_OK;
}

static nb_backend_ops table(void)
{
    nb_backend_ops op = {};
    op.close = cuda_close;
    op.alloc = cuda_alloc;
    op.free_bytes = cuda_free_bytes;
    op.release = cuda_release;
    op.upload = cuda_upload;
    op.download = cuda_download;
    op.zero = cuda_zero;
    op.sync = cuda_sync;
    op.pack_weight = nb_cuda_pack_weight;
    op.measure_weight = nb_cuda_measure_weight;
    op.release_weight = nb_cuda_release_weight;
    op.weight_bytes = nb_cuda_weight_bytes;
    op.embed = nb_cuda_embed;
    op.rms_norm = nb_cuda_rms_norm;
    op.linear_scratch = nb_cuda_linear_scratch;
    op.linear = nb_cuda_linear;
    op.linear_takes = nb_cuda_linear_takes;
    op.rope_append_kv = nb_cuda_rope_append_kv;
    op.attention_scratch = nb_cuda_attention_scratch;
    op.attention = nb_cuda_attention;
    op.gated_activation = nb_cuda_gated_activation;
    op.logits_soft_cap = nb_cuda_logits_soft_cap;
    op.argmax = nb_cuda_argmax;
    op.sample_scratch = nb_cuda_sample_scratch;
    op.sample = nb_cuda_sample;
    op.add_scaled = nb_cuda_add_scaled;
    op.route_experts = nb_cuda_route_experts;
    op.grouped_linear_scratch = nb_cuda_grouped_linear_scratch;
    op.grouped_linear = nb_cuda_grouped_linear;
    op.combine_experts = nb_cuda_combine_experts;
    op.gather_rows = nb_cuda_gather_rows;
    op.take_columns = nb_cuda_take_columns;
    op.limit_rows = nb_cuda_limit_rows;
    op.gram_scratch = nb_cuda_gram_scratch;
    op.gram_accumulate = nb_cuda_gram_accumulate;
    op.drift_scratch = nb_cuda_drift_scratch;
    op.drift_accumulate = nb_cuda_drift_accumulate;
    op.factor = nb_cuda_factor;
    op.unfactor = nb_cuda_unfactor;
    op.correct_scratch = nb_cuda_correct_scratch;
    op.correct = nb_cuda_correct;
    op.quantize_rows = nb_cuda_quantize_rows;
    op.clip_rows_scratch = nb_cuda_clip_rows_scratch;
    op.clip_rows = nb_cuda_clip_rows;
    op.scale_error_scratch = nb_cuda_scale_error_scratch;
    op.scale_error = nb_cuda_scale_error;
    op.gptq_sweep_scratch = nb_cuda_gptq_sweep_scratch;
    op.gptq_sweep = nb_cuda_gptq_sweep;
    op.dequantize = nb_cuda_dequantize;
    op.quant_error_scratch = nb_cuda_quant_error_scratch;
    op.quant_error = nb_cuda_quant_error;
    op.limits = nb_cuda_limits;
    op.linear_row = nb_cuda_limits_row;
    op.attention_row = nb_cuda_attention_row_name;
    op.peer_bf16 = nb_cuda_peer_bf16;
    op.replay_begin = nb_cuda_replay_begin;
    op.replay_end = nb_cuda_replay_end;
    op.replay_close = nb_cuda_replay_close;
    op.replay_time = nb_cuda_replay_time;
    op.product_library = nb_cuda_product_library;
    return op;
}

static const nb_backend_ops cuda_ops = table();

/* A step of M tokens reads every weight once: 4.5 bits at 4.3 TB/s against 2 M operations at 788
 * TFLOP/s (H200) are 10 % of the time with 512 tokens, 2.5 % with 2048; the activations of a 70B
 * take 0.5 GB then. */
enum { kStepTokens = 2048 };

/* NIBBLE_WGMMA=0: no, so that its rows can be measured against the others. */
static bool wants_wgmma(void)
{
    const char *text = getenv("NIBBLE_WGMMA");
    return !text || strcmp(text, "0") != 0;
}

/* NIBBLE_CUBLASLT_FROM=M (device.h). */
static nb_status read_dense_from(int64_t *out, nb_error *err)
{
    const char *text = getenv("NIBBLE_CUBLASLT_FROM");
    char *end = NULL;
    *out = -1;
    if (!text || !*text)
        return NB_OK;
    *out = strtoll(text, &end, 10);
    return *end == 0 && *out >= 0
               ? NB_OK
               : nb_fail(err, NB_USAGE,
                         "NIBBLE_CUBLASLT_FROM=%.40s is no number of tokens; 0 is none, 1 all",
                         text);
}

extern "C" __attribute__((visibility("default"))) nb_status
nb_backend_module_open(int abi, int index, const nb_backend_options *o, nb_backend **out,
                       nb_error *err)
{
    int n = 0;
    *out = NULL;
    const nb_status set = set_emulator(err);
    if (set != NB_OK)
        return set;
    if (abi != NB_BACKEND_ABI)
        return nb_fail(err, NB_DEVICE,
                       "%s: the module is of another version of nibble (%d, wanted %d)", kDevice,
                       NB_BACKEND_ABI, abi);
    index = emulated(index);
    cudaError_t e = cudaGetDeviceCount(&n);
    if (e != cudaSuccess || index >= n)
        return nb_fail(err, NB_DEVICE, "%s:%d is not there: %s", kDevice, index,
                       e != cudaSuccess ? cudaGetErrorString(e)
                       : n              ? "fewer devices than that"
                                        : "no device");
    nb_cuda *c = new (std::nothrow) nb_cuda();
    if (!c)
        return nb_fail(err, NB_NO_ROOM, "the %s backend: out of memory", kDevice);
    const nb_status asked = read_dense_from(&c->dense_from, err);
    if (asked != NB_OK) {
        delete c;
        return asked;
    }
    cudaDeviceProp prop;
    nb_backend *be = &c->base;
    be->op = &cuda_ops;
    c->index = index;
    be->exact = o && o->exact;
    be->kv_type = NB_KV_F16; /* under --exact too: three bits more than the operands have */
    be->step_tokens = kStepTokens;
    if (strcmp(kDevice, "simt") == 0)
        snprintf(be->name, sizeof be->name, "simt");
    else
        snprintf(be->name, sizeof be->name, "cuda:%d", index);
    e = cudaSetDevice(index);
    if (e == cudaSuccess)
        e = cudaGetDeviceProperties(&prop, index);
    if (e == cudaSuccess)
        e = cudaStreamCreate(&c->stream);
    if (e == cudaSuccess)
        e = cudaMalloc((void **)&c->turn, kTurns * sizeof *c->turn);
    if (e == cudaSuccess)
        e = cudaMemset(c->turn, 0, kTurns * sizeof *c->turn);
    if (e != cudaSuccess) {
        const nb_status st = nb_cuda_status(be, e, "opening the device", err);
        (void)cudaFree(c->turn);
        delete c;
        return st;
    }
    be->memory_bytes = prop.totalGlobalMem;
    c->sm = 10 * prop.major + prop.minor;
    c->wgmma = c->sm == 90 && wants_wgmma() && nb_cuda_has_wgmma();
    c->n_sm = prop.multiProcessorCount;
    c->sm_shared = prop.sharedMemPerMultiprocessor;
    c->l2_bytes = (size_t)prop.l2CacheSize;
    *out = be;
    return NB_OK;
}
