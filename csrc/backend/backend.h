/* backend.h -- the waist: every operation on tensors, as one table of functions a device fills in.
 *
 * Above it nothing knows the device; below it nothing knows what a model is. `ref` is the naive,
 * double-accumulating truth the others are held to, op by op (tests/ops).
 *
 * Rules for every op. It enqueues and returns: it never allocates, synchronises or reads a clock
 * (the ones marked "waits" excepted). Scratch is asked for first (`*_scratch` on the same
 * arguments) and given by the caller in `scratch`; two ops of one stream may share it. Activations
 * are f32 [rows, cols] with the row stride (ld*) in elements; pointers are device memory from
 * `alloc`. M tokens, N out, K in. Results are bit-identical from run to run and for any number of
 * threads: fixed order of summation, no float atomics.
 * An op a device does not have is NULL in its table: callers go through nb_op_check, which makes it
 * NB_UNSUPPORTED with a sentence. Errors: NB_DEVICE when the device failed, NB_UNSUPPORTED when no
 * row serves the shape; on error the outputs are unspecified.
 *
 * This header is C and C++ (the cuda module is C++). */
#ifndef NB_BACKEND_BACKEND_H
#define NB_BACKEND_BACKEND_H

#include "dtype/dtype.h"
#include "dtype/grid.h"
#include "dtype/matrix.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct nb_backend nb_backend;
typedef struct nb_weight nb_weight; /* a packed matrix; its layout is the backend's own */
typedef struct nb_replay nb_replay; /* recordings of ops, by key; the backend's own */
enum { NB_REPLAY_KEY = 64 };

/* M tokens of one or several sequences, and where they stand. Arrays are device memory. */
typedef struct nb_batch {
    int32_t n_token;
    const int32_t *seq; /* [n_token] sequence of each token, 0 <= seq < n_seq of the cache */
    const int32_t *pos; /* [n_token] its position; tokens of a sequence come in ascending order
                         * of position */
    int32_t max_len;    /* max of pos + 1, known on the host */
} nb_batch;

/* what each is: kv.h */
typedef enum nb_kv_type {
    NB_KV_F32,
    NB_KV_F16,
    NB_KV_BF16,
    NB_KV_Q8,
    NB_KV_FP8,
    NB_KV_TYPES
} nb_kv_type;

/* Keys and values of one layer, in pages: [n_page][NB_KV_PAGE][n_kv_head][head_dim] each, as kv.h
 * lays them out. Which pages a sequence holds is the same for every layer. */
enum {
    NB_KV_PAGE = 64
}; /* positions; the rows of attention take as many keys at a time, or a part
                           * that divides it */
typedef struct nb_kv {
    nb_kv_type type;
    int32_t n_page, n_seq, seq_pages, n_kv_head, head_dim;
    const int32_t *page; /* [n_seq][seq_pages] device: the page of positions 64 i .. 64 i + 63 of a
                          * sequence; anything where it holds none */
    void *k, *v;
} nb_kv;

typedef struct nb_embed_args { /* y[m] = scale * W[ids[m]] */
    const nb_weight *w;
    const int32_t *ids; /* [M], each in [0, N): checked by the caller */
    int64_t M, ldy;
    float scale;
    float *y; /* [M,K] */
} nb_embed_args;

typedef struct nb_rms_norm_args { /* y = x / sqrt(mean(x^2) + eps) * weight; y may be x */
    const float *x;
    int64_t M, K, ldx, ldy;
    int32_t n_part;      /* a row holds n_part vectors of K beside each other, each normed by itself
                     * with the same weight (heads); 0: one */
    const float *weight; /* [K] */
    float eps;
    float *y;
} nb_rms_norm_args;

typedef enum nb_activation { NB_ACT_SILU, NB_ACT_GELU_TANH } nb_activation;

/* What x goes through on its way into a linear: one of two ops, in the op's own arithmetic, its
 * result rounded to f32; so the bits are those of the op and the linear behind it. All 0: nothing.
 * For devices whose linear_takes says so; elsewhere the op is run first. */
typedef struct nb_through {
    const float *norm; /* rms_norm by this weight [K]; NULL: not */
    float eps;
    const float *up; /* gated_activation, x being the gate: act(x) up, with the stride of x; NULL:
                      * not. Never with norm */
    nb_activation act;
} nb_through;

typedef struct nb_linear_args { /* y = through(x) W^T (+ bias) (+ y when add) */
    const float *x;
    nb_through through;
    int64_t M, ldx, ldy;
    const nb_weight *w;
    const float *bias; /* [N] or NULL */
    bool add;          /* add to what y holds: the residual epilogue */
    float *y;          /* [M,N]; must not overlap x, nor up */
    void *scratch;
} nb_linear_args;

/* Rotates q and k in place and writes k, v of the batch's tokens into the cache.
 * pair i of a head, angle pos * inv_freq[i]:  interleaved: elements (2i, 2i+1)   otherwise: (i, i +
 *     rope_dim/2).
 * (a, b) -> (a cos - b sin, b cos + a sin); cos and sin of the f32 angle. Elements from rope_dim on
 * pass unchanged. */
typedef struct nb_rope_args {
    float *q, *k;   /* [M, n_head * head_dim], [M, n_kv_head * head_dim] */
    const float *v; /* [M, n_kv_head * head_dim] */
    int64_t ldq, ldk, ldv;
    int32_t n_head, rope_dim;
    bool interleaved;
    const float *inv_freq; /* [rope_dim / 2] device */
    const nb_batch *batch;
    const nb_kv *kv; /* its n_kv_head, head_dim hold for k and v */
} nb_rope_args;

/* Causal attention of the batch's queries over the cache (which already holds the batch's own
 * keys). Head h reads KV head h / (n_head / n_kv_head). */
typedef struct nb_attention_args {
    const float *q;
    int64_t ldq, ldo;
    const nb_batch *batch;
    const nb_kv *kv;
    int32_t n_head;
    float scale;    /* of q.k */
    int32_t window; /* 0: all; else a query sees itself and window - 1 positions before it */
    float soft_cap; /* 0: none; else s = cap * tanh(s / cap) before the mask */
    float *out;     /* [M, n_head * head_dim] */
    void *scratch;
} nb_attention_args;

typedef struct nb_gated_args { /* out = act(gate) * up; out may be gate */
    const float *gate, *up;
    int64_t M, N, ld, ldo;
    nb_activation act;
    float *out;
} nb_gated_args;

typedef struct nb_soft_cap_args { /* x = cap * tanh(x / cap) in place, n elements */
    float *x;
    int64_t n;
    float cap;
} nb_soft_cap_args;

typedef struct nb_add_args { /* y += scale * x: the residual of what was normed or scaled first */
    const float *x;
    int64_t M, N, ldx, ldy;
    float scale;
    float *y; /* [M,N]; must not overlap x */
} nb_add_args;

/* ---- mixtures of experts: pair p = m n_used + j is token m's j-th choice ---- */

/* p = softmax of a row of logits; its n_used greatest, the greatest first, of equals the lower
 * expert first. renormalize: divided by their sum. */
typedef struct nb_route_args {
    const float *logits; /* [M, n_expert] */
    int64_t M, ldl;
    int32_t n_expert, n_used;
    bool renormalize;
    int32_t *expert; /* [M, n_used] out */
    float *weight;   /* [M, n_used] out */
} nb_route_args;

/* y[p] = x[p / share] W[expert[p]]^T for P pairs: share n_used reads a token's row for each of its
 * pairs, 1 the pair's own. */
typedef struct nb_grouped_args {
    const float *x;
    int64_t P, ldx, ldy;
    int32_t share, n_expert;
    const int32_t *expert;     /* [P] device */
    const nb_weight *const *w; /* [n_expert] host, all of one [N,K] */
    float *y;                  /* [P,N]; must not overlap x */
    void *scratch;
} nb_grouped_args;

/* y[m] (+)= scale * sum over j, ascending, of weight[m][j] x[m n_used + j] */
typedef struct nb_combine_args {
    const float *x;      /* [M n_used, N] */
    const float *weight; /* [M, n_used] */
    int64_t M, N, ldx, ldy;
    int32_t n_used;
    float scale;
    bool add;
    float *y; /* [M,N]; must not overlap x */
} nb_combine_args;

/* y[i] = x[row[i]], or where row[i] < 0 other[-1 - row[i]]: the tokens of one expert, out of those
 * of all. */
typedef struct nb_gather_args {
    const float *x, *other; /* other: may be NULL when no row is negative */
    const int32_t *row;     /* [M] device */
    int64_t M, K, ldx, ldo, ldy;
    float *y; /* [M,K]; must not overlap what is read */
} nb_gather_args;

/* out[m] = the lowest index of the greatest x[m][.]; -1: a NaN or +Inf is among them */
typedef struct nb_argmax_args {
    const float *x;
    int64_t M, N, ldx;
    int32_t *out;
} nb_argmax_args;

/* out[m] = a token drawn from the logits x[m][.]:  d_i = (x_i - max) / temp,  p_i = e^d_i of those
 * with d_i >= -20, in the order of p, the lower index first of equals; of these the first top_k (0:
 * all); of these the shortest beginning whose weight reaches top_p of theirs (outside (0, 1): all);
 * of these those with p >= min_p (at least the first). draw[m], 64 random bits, is a place in the
 * sum of what is left: out[m] has it. -1: a NaN or +Inf is among the logits. The same bits on every
 * device: sample.h has p and the weights. */
typedef struct nb_sample_args {
    const float *x;
    int64_t M, N, ldx; /* N at most 2^19 */
    float temp;        /* > 0; without chance it is argmax */
    int32_t top_k;
    float top_p, min_p;
    const uint64_t *draw; /* [M] device */
    int32_t *out;         /* [M] */
    void *scratch;
} nb_sample_args;

/* ---- quantization ---- */

/* H += X^T X;  with x_orig also C += (x_orig - x)^T x  (C[i][j]: i from the difference, j from x).
 * f64 [K,K], full (both triangles of H). Products of f32 may be summed in f32 within fixed blocks
 * of at most 256 tokens, blocks are added in f64. */
typedef struct nb_gram_args {
    const float *x;
    const float *x_orig; /* [M,K] or NULL */
    int64_t M, K, ldx, ld_orig;
    double *h, *c; /* c NULL when x_orig is NULL */
    bool more;     /* another call follows: H's lower triangle need not be there yet. The last call
                * makes it from the upper one */
    void *scratch;
} nb_gram_args;

/* D += Y^T X,  Y = (X_orig - X) W^T:  W C of gram_accumulate's C, summed as such. f64 [N,K]. 4 M N
 * K FLOP for C's 2 M K^2, 8 N K bytes for its 8 K^2: where N < K / 2 it is less of both, and the
 * correction is given it ready. Where X was divided by scales (> 0) and X_orig was not, they are
 * given: the difference is X_orig diag(1 / scale) - X, made as (x_orig - scale x) / scale with one
 * rounding of the numerator. It may be rounded to f32, and so may Y; products of f32 may be summed
 * in f32 within fixed blocks of at most 256 (inputs for Y, tokens for D), blocks are added in f64. */
typedef struct nb_drift_args {
    const float *x, *x_orig; /* [M,K] */
    int64_t M, K, ldx, ld_orig;
    const float *scale; /* [K] or NULL */
    const float *w;     /* [N,K], before it is corrected */
    int64_t N;
    double *d; /* [N,K] */
    void *scratch;
} nb_drift_args;

/* y[m] = w[m] x[m], and y_orig[m] = w[m] x_orig[m] with the same w:  w[m] = min(1, limit q /
 * |x[m]|),  q the median of |x[m]| (the one at M / 2 in ascending order). A row of zeros, or with
 * NaN, keeps w = 1. What a few tokens with huge inputs (the first of a text, in many models) may
 * weigh in H and C. */
typedef struct nb_limit_rows_args {
    const float *x, *x_orig; /* [M,K]; x_orig NULL: there is none */
    int64_t M, K;
    float limit;       /* > 0 */
    float *y, *y_orig; /* [M,K]; may be x and x_orig */
    double *scratch;   /* device, [M + 1] */
} nb_limit_rows_args;

/* y[m][j] = x[m][col[j]], elements of `size` bytes as they are; zeros where col[j] < 0. col NULL:
 * x[m][j]. A matrix with its columns in another order, or some of them cleared; a copy on the
 * device; and, as K rows of one element with ldx = K + 1, a diagonal. */
typedef struct nb_take_args {
    const void *x;
    int64_t M, K, ldx, ldy; /* K of y; in elements */
    int32_t size;           /* 1, 4 or 8 */
    const int32_t *col;     /* [K] device, or NULL */
    void *y;                /* [M,K], overlapping nothing that is read; or x itself where nothing
                             * moves: ldy = ldx, and each col[j] is j or below 0 */
} nb_take_args;

/* R upper triangular with  P (H + diag(add)) P^T = R R^T,  P the order `perm` (row j of the
 * permuted matrix is row perm[j]); quantizers.md 2.2. One factorisation, no inverse: Cholesky of
 * the index-reversed matrix. h is kept. Waits.
 * In place, r = h, where the device has `unfactor`: R takes the upper triangle and the diagonal, H
 * stays in the strict lower one, and its diagonal, which the caller holds, is `diag`. No op that
 * takes R reads its lower triangle. It may be called again with another diag_add; `unfactor` brings
 * H back. */
typedef struct nb_factor_args {
    const double *h;
    const double *diag;     /* [K], host: H's diagonal; NULL: where h has it (not in place) */
    const double *diag_add; /* [K], host */
    const int32_t *perm;    /* [K], host, or NULL */
    int64_t K;
    double *r;             /* [K,K]; the strict lower triangle is set to 0, or kept in place */
    int64_t *failed_minor; /* host: 0, or the order of the leading minor (of the reversed matrix)
                            * that is not positive definite; r is then unspecified and the status
                            * is NB_OK */
} nb_factor_args;

/* Behind a factor in place: H's upper triangle from its lower one, its diagonal from diag. Waits. */
typedef struct nb_unfactor_args {
    double *h;
    const double *diag; /* [K], host */
    int64_t K;
} nb_unfactor_args;

/* Least-squares correction for drifted inputs (quantizers.md 2.3): W += alpha W C (H + lambda
 * I)^-1, with R (and perm) of nb_factor. One of the two is given: C, or W C as drift_accumulate
 * sums it. */
typedef struct nb_correct_args {
    float *w; /* [N,K], natural column order */
    int64_t N, K;
    const double *c;  /* [K,K] or NULL */
    const double *wc; /* [N,K] or NULL */
    const double *r;
    const int32_t *perm; /* host or NULL */
    double alpha;
    void *scratch;
} nb_correct_args;

/* groups[n][g] = params of W's group, codes = round(W): round to nearest (any grid) */
typedef struct nb_quantize_rows_args {
    const float *w; /* [N,K] */
    int64_t N, K;
    const nb_grid *grid; /* host */
    nb_group *groups;    /* [N,G] out */
    uint8_t *codes;      /* [N,K] out, or NULL: parameters only */
} nb_quantize_rows_args;

/* Parameters of every group from a narrower range (quantizers.md 1, 3): candidate i < n_step has
 * the group's values held within 1 - i step of their extremes (0 stays inside), the candidate with
 * the least error wins, the first of equals; then codes as in quantize_rows. The error of a group,
 * d = q - w:
 *   h NULL:   sum d^2                         MSE clipping (GPTQ's search: 80 steps of 0.01)
 *   h [K,K]:  d^T H_gg d                      the group's own share of the output error (AWQ's
 *                                             search: 10 steps of 0.05)
 * quantile > 0: no search, values are held within that quantile of |w| (the ceil(quantile n)-th
 * smallest). Sums in f64, i from 0, j below i. */
typedef struct nb_clip_rows_args {
    const float *w; /* [N,K] */
    int64_t N, K;
    const nb_grid *grid; /* host */
    const double *h;
    int32_t n_step;
    float step, quantile;
    nb_group *groups; /* [N,G] out */
    uint8_t *codes;   /* [N,K] out, or NULL */
    void *scratch;
} nb_clip_rows_args;

/* error[m] = sum over k of cost[k] (round(w[m][k] scale[k]) / scale[k] - w[m][k])^2: what rounding
 * costs where inputs are scaled (AWQ's search, quantizers.md 3); round: as quantize_rows and
 * dequantize do. Product and quotient in f32, squares and their sum in f64, in an order of the
 * device's own. */
typedef struct nb_scale_error_args {
    const float *w;     /* [M,K] */
    const float *scale; /* [K], > 0 */
    const double *cost; /* [K] */
    int64_t M, K;
    const nb_grid *grid; /* host */
    double *error;       /* [M] out */
    void *scratch;
} nb_scale_error_args;

/* GPTQ over all columns (quantizers.md 2.2, R-form): columns in the order perm; codes and groups
 * come out in natural order. groups_fixed: static groups, parameters of natural group k / group,
 * given. NULL: parameters of a group are taken from the current values of its columns when its
 * first column is reached (perm must then be NULL). */
typedef struct nb_gptq_sweep_args {
    const float *w; /* [N,K] natural order, dead columns already 0 */
    int64_t N, K;
    const double *r;
    const int32_t *perm; /* host or NULL */
    const nb_grid *grid;
    const nb_group *groups_fixed; /* [N,G] or NULL */
    nb_group *groups;             /* [N,G] out */
    uint8_t *codes;               /* [N,K] out */
    const double *diag_add;       /* [K] host: what was added to H's diagonal; for: */
    double *error; /* [N] host, out: D H D^T of every row, D = w - q, to the rounding of D (H +
                    * diag(add)) D^T, and the op waits; or NULL. A device that does not know it
                    * (ref) leaves it alone: fill it with NaN to see that */
    void *scratch;
} nb_gptq_sweep_args;

typedef struct nb_dequantize_args { /* q = scale * (code - zero) + min */
    const uint8_t *codes;
    const nb_group *groups;
    int64_t N, K;
    const nb_grid *grid;
    float *q; /* [N,K] */
} nb_dequantize_args;

/* *out (host) = tr(D H D^T), D = w - q (q NULL: D = w). Waits. */
typedef struct nb_quant_error_args {
    const float *w, *q;
    int64_t N, K;
    const double *h;
    double *out;
    void *scratch;
} nb_quant_error_args;

/* What a row multiplies; each has a peak of its own. */
typedef enum nb_arith {
    NB_ARITH_F32,
    NB_ARITH_BF16,
    NB_ARITH_BF16_TILES /* AMX, tensor cores */,
    NB_ARITH_INT8,
    NB_ARITH_COUNT
} nb_arith;

typedef struct nb_limits {
    double read_bytes_per_s;           /* all threads, a buffer beyond the caches; 0: not known */
    double flop_per_s[NB_ARITH_COUNT]; /* a multiply-add is 2; 0: no such instructions, or
                                        * unknown */
    size_t cache_bytes;                /* the last level */
} nb_limits;

typedef struct nb_backend_ops {
    void (*close)(nb_backend *be);
    /* Device memory; 64-byte aligned. NB_NO_ROOM names `what`. */
    nb_status (*alloc)(nb_backend *be, size_t bytes, const char *what, void **out, nb_error *err);
    void (*release)(nb_backend *be, void *p); /* NULL is fine */
    nb_status (*upload)(nb_backend *be, void *dst, const void *src, size_t bytes, nb_error *err);
    /* waits */
    nb_status (*download)(nb_backend *be, void *dst, const void *src, size_t bytes, nb_error *err);
    nb_status (*zero)(nb_backend *be, void *dst, size_t bytes, nb_error *err);
    nb_status (*sync)(nb_backend *be, nb_error *err); /* waits for all that was enqueued; its
                                                       * faults surface here */

    /* Packs n_part matrices of one K, stacked along N (q,k,v; gate,up), into the layout the kernels
     * read. The source may be unmapped afterwards. */
    nb_status (*pack_weight)(nb_backend *be, const nb_matrix *part, int n_part, nb_weight **out,
                             nb_error *err);
    void (*release_weight)(nb_backend *be, nb_weight *w); /* NULL is fine */
    size_t (*weight_bytes)(const nb_weight *w);

    nb_status (*embed)(nb_backend *be, const nb_embed_args *a, nb_error *err);
    nb_status (*rms_norm)(nb_backend *be, const nb_rms_norm_args *a, nb_error *err);
    size_t (*linear_scratch)(nb_backend *be, const nb_linear_args *a);
    nb_status (*linear)(nb_backend *be, const nb_linear_args *a, nb_error *err);
    /* whether linear puts x through a->through itself; NULL: never */
    bool (*linear_takes)(nb_backend *be, const nb_linear_args *a);
    nb_status (*rope_append_kv)(nb_backend *be, const nb_rope_args *a, nb_error *err);
    size_t (*attention_scratch)(nb_backend *be, const nb_attention_args *a);
    nb_status (*attention)(nb_backend *be, const nb_attention_args *a, nb_error *err);
    nb_status (*gated_activation)(nb_backend *be, const nb_gated_args *a, nb_error *err);
    nb_status (*logits_soft_cap)(nb_backend *be, const nb_soft_cap_args *a, nb_error *err);
    nb_status (*argmax)(nb_backend *be, const nb_argmax_args *a, nb_error *err);
    size_t (*sample_scratch)(nb_backend *be, const nb_sample_args *a);
    nb_status (*sample)(nb_backend *be, const nb_sample_args *a, nb_error *err);
    nb_status (*add_scaled)(nb_backend *be, const nb_add_args *a, nb_error *err);
    nb_status (*route_experts)(nb_backend *be, const nb_route_args *a, nb_error *err);
    size_t (*grouped_linear_scratch)(nb_backend *be, const nb_grouped_args *a);
    nb_status (*grouped_linear)(nb_backend *be, const nb_grouped_args *a, nb_error *err);
    nb_status (*combine_experts)(nb_backend *be, const nb_combine_args *a, nb_error *err);
    nb_status (*gather_rows)(nb_backend *be, const nb_gather_args *a, nb_error *err);

    nb_status (*take_columns)(nb_backend *be, const nb_take_args *a, nb_error *err);
    nb_status (*limit_rows)(nb_backend *be, const nb_limit_rows_args *a, nb_error *err);
    size_t (*gram_scratch)(nb_backend *be, const nb_gram_args *a);
    nb_status (*gram_accumulate)(nb_backend *be, const nb_gram_args *a, nb_error *err);
    size_t (*drift_scratch)(nb_backend *be, const nb_drift_args *a);
    /* NULL: C is summed whatever N is */
    nb_status (*drift_accumulate)(nb_backend *be, const nb_drift_args *a, nb_error *err);
    nb_status (*factor)(nb_backend *be, const nb_factor_args *a, nb_error *err);
    size_t (*correct_scratch)(nb_backend *be, const nb_correct_args *a);
    nb_status (*correct)(nb_backend *be, const nb_correct_args *a, nb_error *err);
    nb_status (*quantize_rows)(nb_backend *be, const nb_quantize_rows_args *a, nb_error *err);
    size_t (*clip_rows_scratch)(nb_backend *be, const nb_clip_rows_args *a);
    nb_status (*clip_rows)(nb_backend *be, const nb_clip_rows_args *a, nb_error *err);
    size_t (*scale_error_scratch)(nb_backend *be, const nb_scale_error_args *a);
    nb_status (*scale_error)(nb_backend *be, const nb_scale_error_args *a, nb_error *err);
    size_t (*gptq_sweep_scratch)(nb_backend *be, const nb_gptq_sweep_args *a);
    nb_status (*gptq_sweep)(nb_backend *be, const nb_gptq_sweep_args *a, nb_error *err);
    nb_status (*dequantize)(nb_backend *be, const nb_dequantize_args *a, nb_error *err);
    size_t (*quant_error_scratch)(nb_backend *be, const nb_quant_error_args *a);
    nb_status (*quant_error)(nb_backend *be, const nb_quant_error_args *a, nb_error *err);

    /* A weight without its data, to know what pack_weight would need: the parts' rows are not read.
     * Only weight_bytes, the *_scratch functions and release_weight may be given it. For planning
     * (count.h). */
    nb_status (*measure_weight)(nb_backend *be, const nb_matrix *part, int n_part, nb_weight **out,
                                nb_error *err);

    /* NULL: factor needs an r of its own */
    nb_status (*unfactor)(nb_backend *be, const nb_unfactor_args *a, nb_error *err);

    size_t (*free_bytes)(nb_backend *be); /* what alloc could give out now; NULL: the device has
                                           * no memory of its own */

    /* Behind limits.h; NULL: the device cannot say. */
    nb_status (*limits)(nb_backend *be, nb_limits *out, nb_error *err);
    const char *(*linear_row)(nb_backend *be, const nb_linear_args *a, nb_arith *arith);
    const char *(*attention_row)(nb_backend *be, const nb_attention_args *a, nb_arith *arith);

    /* y [M, N] = x [M, K] w^T, w [N, K], all bf16, by the library of the device's vendor, which is
     * looked for at run time: what `bench kernels` compares with. NB_UNSUPPORTED: it is not there.
     * NULL: there is no vendor. */
    nb_status (*peer_bf16)(nb_backend *be, int64_t M, int64_t N, int64_t K, const void *x,
                           const void *w, void *y, nb_error *err);

    /* All four or none: ops that are enqueued again and again, recorded once and from then on
     * enqueued as a whole. Equal keys (at most NB_REPLAY_KEY bytes) promise the same ops with the
     * same arguments; what changes lies in device memory. *again: what goes by this key was
     * enqueued, nothing is left to do. Else the caller enqueues its ops and ends with replay_end,
     * good or not; in between nothing may wait, allocate, or copy from or to the host. *r is NULL
     * at first, of one caller, and closed before the memory that its ops use is released. */
    nb_status (*replay_begin)(nb_backend *be, nb_replay **r, const void *key, size_t key_bytes,
                              bool *again, nb_error *err);
    nb_status (*replay_end)(nb_backend *be, nb_replay *r, bool good, nb_error *err);
    void (*replay_close)(nb_backend *be, nb_replay *r); /* NULL is fine */
    /* Enqueues what was recorded by this key and waits: ns by the device's own clock, from what was
     * enqueued before it to its end. Only `bench kernels` asks. */
    nb_status (*replay_time)(nb_backend *be, nb_replay *r, const void *key, size_t key_bytes,
                             double *ns, nb_error *err);

    /* The version of the vendor's library that rows of linear use; NULL: it is not there, and other
     * rows serve. NULL in the table: no row wants one. */
    const char *(*product_library)(nb_backend *be);
} nb_backend_ops;

/* The public head of every backend; an implementation's struct begins with it. */
struct nb_backend {
    const nb_backend_ops *op;
    char name[32];       /* "cpu", "ref", "cuda:0", "simt" */
    bool exact;          /* --exact */
    int32_t n_thread;    /* of the host, which decodes, encodes and moves rows on every device; of
                          * the CPU's ops, too */
    nb_kv_type kv_type;  /* default type of the cache: f32 when exact, but on a GPU */
    int32_t step_tokens; /* of a prompt at a time, 0: no wish */
    size_t memory_bytes; /* of the device, 0 if unknown */
    int64_t n_launch;    /* so far, on a device that launches: kernels enqueued one by one, */
    int64_t n_replay;    /* and recordings enqueued as a whole */
};

typedef struct nb_backend_options {
    bool exact;
    int32_t n_thread; /* 0: all this process may use */
} nb_backend_options;

/* Opens "auto", "cpu", "ref", "cuda:N" or "simt"; or "plan:" and one of these, which only counts
 * (count.h). auto takes cuda:0 when a driver and a device are there, else cpu. NB_DEVICE with a
 * sentence when the device (or the module file) is not there; NB_USAGE for another name. */
nb_status nb_backend_open(const char *device, const nb_backend_options *o, nb_backend **out,
                          nb_error *err) NB_CHECKED;
void nb_backend_close(nb_backend *be); /* NULL is fine */

/* What a module (libnibble_cuda.so, libnibble_simt.so) exports under the name
 * "nb_backend_module_open"; abi must equal NB_BACKEND_ABI. index: device number. */
#define NB_BACKEND_ABI 14
typedef nb_status (*nb_backend_module_open_fn)(int abi, int index, const nb_backend_options *o,
                                               nb_backend **out, nb_error *err);

/* NB_OK if the device has the op, else NB_UNSUPPORTED: "simt: op is not there yet". Use:
 * nb_op_check(be, be->op->correct != NULL, "correct", err). */
nb_status nb_op_check(const nb_backend *be, bool has, const char *op, nb_error *err);

/* Before n linears that read one x [M,K] through the same op: where one of them does not take it, the
 * op is run into room [M,K], and they read that as it lies. */
nb_status nb_linear_ready(nb_backend *be, nb_linear_args *a, int n, int64_t K, float *room,
                          nb_error *err);

#ifdef __cplusplus
}
#endif
#endif
