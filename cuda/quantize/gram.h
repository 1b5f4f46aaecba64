/* gram.h -- sums over tokens on the tensor cores: out += L^T R, f64, what gram.cu and drift.cu share. */
#ifndef NB_CUDA_QUANTIZE_GRAM_H
#define NB_CUDA_QUANTIZE_GRAM_H

#include "quantize/split_tile.h"

/* A matrix, a row a token: x, or the difference x - less. */
struct Rows {
    const float *x, *less; /* less NULL: there is none */
    int64_t ldx, ld_less;
};

/* columns k and k + 1 of K */
DEVI void rows_pair(const Rows &a, int64_t r, int64_t k, int64_t K, float (&v)[2])
{
    nb_pair(a.x + r * a.ldx, k, K, v);
    if (!a.less)
        return;
    float l[2];
    nb_pair(a.less + r * a.ld_less, k, K, l);
    v[0] -= l[0];
    v[1] -= l[1];
}
DEVI float rows_at(const Rows &a, int64_t r, int64_t k)
{
    const float v = a.x[r * a.ldx + k];
    return a.less ? v - a.less[r * a.ld_less + k] : v;
}

struct Gram {
    Rows left;          /* L [M,I] */
    const float *right; /* R [M,J] */
    int64_t ld_right;
    int M, I, J;
    bool same;                       /* L is R: half of the result is made, the other its mirror */
    const float *scale_left, *scale; /* [I], [J] of nb_gram_scale */
    double *out;                     /* [I,J] */
};

/* scale[k]: the power of two that column k of a [M,K] is multiplied by before it is split. */
nb_status nb_gram_scale(nb_backend *be, const Rows &a, int M, int K, float *scale, nb_error *err);
/* out += L^T R */
nb_status nb_gram_product(nb_backend *be, const Gram &a, nb_error *err);

#endif
