/* samples.h -- what repeated measurements come to. Each sorts its samples. */
#ifndef NB_API_SAMPLES_H
#define NB_API_SAMPLES_H

#include <math.h>
#include <stdlib.h>

static inline int nb_samples_ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The sample below which a share q of the others lies, between neighbours in proportion. n >= 1. */
static inline double nb_samples_quantile(double *s, int n, double q)
{
    qsort(s, (size_t)n, sizeof *s, nb_samples_ascending);
    const double at = q * (double)(n - 1);
    const int i = (int)at;
    return i + 1 < n ? s[i] + (at - (double)i) * (s[i + 1] - s[i]) : s[i];
}

static inline double nb_samples_median(double *s, int n)
{
    return nb_samples_quantile(s, n, 0.5);
}

/* Standard deviation, of n - 1 degrees of freedom; 0 for one sample. */
static inline double nb_samples_stddev(const double *s, int n)
{
    double mean = 0, sum = 0;
    for (int i = 0; i < n; i++)
        mean += s[i] / (double)n;
    for (int i = 0; i < n; i++)
        sum += (s[i] - mean) * (s[i] - mean);
    return n > 1 ? sqrt(sum / (double)(n - 1)) : 0.0;
}

#endif
