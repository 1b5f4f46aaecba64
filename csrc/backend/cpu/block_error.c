/* block_error.c -- e = d^T H d of one group of inputs, eight rows of W side by side; compiled once
 * per level. A row's operations are those of one row alone (products and sums apart, i from 0, j
 * below i), so the bits are ref's. */
#include "backend/cpu/level.h"

void NB_LEVEL_NAME(nb_cpu_block_error)(const double *d, const double *h, int64_t ldh, int64_t n,
                                       double *e)
{
    double sum[NB_CLIP_ROWS] = {0};
    for (int64_t i = 0; i < n; i++) {
        const double *row = h + i * ldh, *di = d + i * NB_CLIP_ROWS;
        double t[NB_CLIP_ROWS] = {0};
        for (int64_t j = 0; j < i; j++)
            for (int c = 0; c < NB_CLIP_ROWS; c++)
                t[c] += row[j] * d[j * NB_CLIP_ROWS + c];
        for (int c = 0; c < NB_CLIP_ROWS; c++)
            sum[c] += di[c] * (row[i] * di[c] + 2.0 * t[c]);
    }
    memcpy(e, sum, sizeof sum);
}
