/* random.h -- xoshiro256** (Blackman and Vigna 2018), seeded by splitmix64: the same stream on
 * every machine. */
#ifndef NB_BASE_RANDOM_H
#define NB_BASE_RANDOM_H

#include <stdint.h>

typedef struct nb_rng {
    uint64_t s[4];
} nb_rng;

static inline uint64_t nb_rng_splitmix(uint64_t *x)
{
    uint64_t z = (*x += 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}
static inline void nb_rng_seed(nb_rng *r, uint64_t seed)
{
    for (int i = 0; i < 4; i++)
        r->s[i] = nb_rng_splitmix(&seed);
}
static inline uint64_t nb_rng_u64(nb_rng *r)
{
    uint64_t *s = r->s;
    const uint64_t x = s[1] * 5, out = ((x << 7) | (x >> 57)) * 9, t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = (s[3] << 45) | (s[3] >> 19);
    return out;
}
/* Uniform in [0, 1), 53 bits. */
static inline double nb_rng_double(nb_rng *r)
{
    return (double)(nb_rng_u64(r) >> 11) * 0x1p-53;
}
/* Roughly normal, mean 0, variance 1: the sum of 12 uniforms less 6. Enough for test data. */
static inline float nb_rng_normal(nb_rng *r)
{
    double t = -6.0;
    for (int i = 0; i < 12; i++)
        t += nb_rng_double(r);
    return (float)t;
}

#endif
