/* gram.c -- H += X^T X and C += (X_orig - X)^T X in f64.
 *
 * X is first laid out as product_f32 reads it: in panels of 16 columns (B), and negated and turned,
 * 12 columns side by side (A; the product subtracts); the difference of the streams likewise as an
 * A. Blocks of the result are independent (the tasks of the pool); an element's products are summed
 * in f32 within NB_DEPTH tokens and added in f64. H is symmetric: blocks from the diagonal on are
 * computed, the others are their mirror, made when no more tokens follow. Cost M K^2 FLOP for H, 2
 * M K^2 for C; scratch 8 M K bytes, half as much again with C. Where there are AMX tiles gram_amx.c
 * computes the blocks. */
#include "backend/cpu/kernels.h"

enum {
    kPanel = 48,         /* columns laid out by one task: whole panels of B, whole groups of A */
    kColumns = 16,       /* of a panel of B */
    kBlock = 2 * kPanel, /* of the result: 256 tokens of both operands are 192 KiB */
    kMirror = 32
};

static int64_t panels(int64_t K)
{
    return (K + kPanel - 1) / kPanel;
}

size_t nb_cpu_gram_scratch(nb_backend *be, const nb_gram_args *a)
{
#if NB_CPU_X86
    if (nb_cpu_splits(nb_cpu_of(be)))
        return nb_cpu_gram_amx_scratch(a);
#endif
    (void)be;
    return (size_t)(panels(a->K) * kPanel * a->M) * sizeof(float) * (a->c ? 3 : 2);
}

struct gram_job {
    const nb_cpu *cpu;
    const nb_gram_args *a;
    float *b, *turned, *diff; /* X; -X; X - X_orig */
};

/* to[m][0..12) = less - x of 12 columns from k0 on, less NULL: -x; columns beyond K are zero. */
static void turn(const nb_gram_args *a, const float *x, int64_t ldx, const float *less,
                 int64_t ld_less, int64_t k0, float *to)
{
    const int64_t left = a->K - k0, width = left < 0 ? 0 : left < NB_TURNED ? left : NB_TURNED;
    for (int64_t m = 0; m < a->M; m++, to += NB_TURNED)
        for (int64_t k = 0; k < NB_TURNED; k++)
            to[k] =
                k < width ? (less ? less[m * ld_less + k0 + k] : 0.0f) - x[m * ldx + k0 + k] : 0.0f;
}

static void panel_task(const void *arg, int64_t p, int worker)
{
    const struct gram_job *j = arg;
    const nb_gram_args *a = j->a;
    (void)worker;
    for (int64_t k0 = p * kPanel; k0 < (p + 1) * kPanel; k0 += kColumns) {
        float *to = j->b + k0 * a->M;
        for (int64_t m = 0; m < a->M; m++, to += kColumns)
            for (int64_t k = 0; k < kColumns; k++)
                to[k] = k0 + k < a->K ? a->x[m * a->ldx + k0 + k] : 0.0f;
    }
    for (int64_t k0 = p * kPanel; k0 < (p + 1) * kPanel; k0 += NB_TURNED) {
        turn(a, a->x, a->ldx, NULL, 0, k0, j->turned + k0 * a->M);
        if (a->x_orig)
            turn(a, a->x_orig, a->ld_orig, a->x, a->ldx, k0, j->diff + k0 * a->M);
    }
}

/* Rows [i, i + M) and columns [k, end) of a result; i and k are multiples of kPanel. */
static void add_block(const struct gram_job *j, const float *turned, int64_t i, int64_t M,
                      int64_t k, int64_t end, double *out)
{
    const nb_gram_args *a = j->a;
    const nb_product_f32 p = {.c = out + i * a->K + k,
                              .a = turned + i * a->M,
                              .panels = j->b + k * a->M,
                              .ldc = a->K,
                              .M = M,
                              .N = end - k,
                              .K = a->M,
                              .turned = true};
    j->cpu->run->product_f32(&p);
}

/* Block t: those in a column of blocks share the panels of X. */
static void block_task(const void *arg, int64_t t, int worker)
{
    const struct gram_job *j = arg;
    const int64_t K = j->a->K, n = (K + kBlock - 1) / kBlock, i = t % n * kBlock,
                  k = t / n * kBlock, M = K - i < kBlock ? K - i : kBlock,
                  end = k + kBlock < K ? k + kBlock : K;
    (void)worker;
    if (k > i)
        add_block(j, j->turned, i, M, k, end, j->a->h);
    for (int64_t d = i; k == i && d < end; d += kPanel) /* on the diagonal */
        add_block(j, j->turned, d, end - d < kPanel ? end - d : kPanel, d, end, j->a->h);
    if (j->a->x_orig)
        add_block(j, j->diff, i, M, k, end, j->a->c);
}

/* Rows of tile i below the diagonal from what lies above it, by tiles, so that both sides stay in
 * the cache. */
static void mirror_task(const void *arg, int64_t i, int worker)
{
    const nb_gram_args *a = arg;
    const int64_t K = a->K, end = (i + 1) * kMirror < K ? (i + 1) * kMirror : K;
    (void)worker;
    for (int64_t j = 0; j <= i * kMirror; j += kMirror)
        for (int64_t r = i * kMirror; r < end; r++)
            for (int64_t c = j; c < r && c < j + kMirror; c++)
                a->h[r * K + c] = a->h[c * K + r];
}

static void vector_blocks(const nb_cpu *cpu, const nb_gram_args *a)
{
    const int64_t n = panels(a->K), n_block = (a->K + kBlock - 1) / kBlock, one = n * kPanel * a->M;
    float *b = a->scratch;
    const struct gram_job j = {cpu, a, b, b + one, b + 2 * one};
    nb_pool_run(cpu->pool, n, panel_task, &j);
    nb_pool_run(cpu->pool, n_block * n_block, block_task, &j);
}

nb_status nb_cpu_gram_accumulate(nb_backend *be, const nb_gram_args *a, nb_error *err)
{
    const nb_cpu *cpu = nb_cpu_of(be);
    (void)err;
#if NB_CPU_X86
    if (nb_cpu_splits(cpu))
        nb_cpu_gram_amx(cpu, a);
    else
#endif
        vector_blocks(cpu, a);
    if (!a->more)
        nb_pool_run(cpu->pool, (a->K + kMirror - 1) / kMirror, mirror_task, a);
    return NB_OK;
}
