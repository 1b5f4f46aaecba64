/* triangle.c -- solves against a triangular block of at most NB_SOLVE columns; compiled once per
 * level.
 *
 *     back   X R^T = S   x_k = (s_k - sum over j > k of x_j R[k][j]) / R[k][k],  k from the last
 *                        column, j descending
 *     on     X R = S     x_k = (s_k - sum over j < k of x_j R[j][k]) / R[k][k],  k from the first
 *                        column, j ascending
 *
 * kRows rows of X lie side by side, turned round: t[k][row]. So a step is a few vectors, and a
 * row's operations are those of one row alone. */
#include "backend/cpu/dv.h"
#include "backend/cpu/level.h"

enum { kVectors = 48 / NB_DV < 6 ? 48 / NB_DV : 6, kRows = kVectors * NB_DV };

static void turn_in(const double *x, int64_t ldx, int64_t M, int64_t n, double *t)
{
    for (int64_t m = 0; m < kRows; m++)
        for (int64_t k = 0; k < n; k++)
            t[k * kRows + m] = m < M ? x[m * ldx + k] : 0.0;
}

static void turn_out(double *x, int64_t ldx, int64_t M, int64_t n, const double *t)
{
    for (int64_t m = 0; m < M; m++)
        for (int64_t k = 0; k < n; k++)
            x[m * ldx + k] = t[k * kRows + m];
}

/* t_k := (t_k - sum of t_j w_j) / pivot over n_j columns j: `step` columns of t apart from each
 * other, as w is `stride` apart. */
static inline void column(double *tk, const double *tj, int64_t step, const double *w,
                          int64_t stride, int64_t n_j, double pivot)
{
    nb_dv s[kVectors];
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; v++)
        s[v] = nb_dv_load(tk + v * NB_DV);
    for (int64_t j = 0; j < n_j; j++, tj += step, w += stride)
#pragma GCC unroll 8
        for (int v = 0; v < kVectors; v++)
            s[v] = nb_dv_fma(-*w, nb_dv_load(tj + v * NB_DV), s[v]);
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; v++)
        nb_dv_store(tk + v * NB_DV, s[v] / pivot);
}

void NB_LEVEL_NAME(nb_cpu_solve_back)(double *x, int64_t ldx, int64_t M, const double *r,
                                      int64_t ldr, int64_t n)
{
    _Alignas(64) double t[NB_SOLVE * kRows];
    for (int64_t m = 0; m < M; m += kRows, x += kRows * ldx) {
        const int64_t rows = M - m < kRows ? M - m : kRows;
        turn_in(x, ldx, rows, n, t);
        for (int64_t k = n - 1; k >= 0; k--)
            column(t + k * kRows, t + (n - 1) * kRows, -kRows, r + k * ldr + n - 1, -1, n - 1 - k,
                   r[k * ldr + k]);
        turn_out(x, ldx, rows, n, t);
    }
}

void NB_LEVEL_NAME(nb_cpu_solve_on)(double *x, int64_t ldx, int64_t M, const double *r, int64_t ldr,
                                    int64_t n)
{
    _Alignas(64) double t[NB_SOLVE * kRows];
    for (int64_t m = 0; m < M; m += kRows, x += kRows * ldx) {
        const int64_t rows = M - m < kRows ? M - m : kRows;
        turn_in(x, ldx, rows, n, t);
        for (int64_t k = 0; k < n; k++)
            column(t + k * kRows, t, kRows, r + k, ldr, k, r[k * ldr + k]);
        turn_out(x, ldx, rows, n, t);
    }
}
