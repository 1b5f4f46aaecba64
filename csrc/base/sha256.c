/* sha256.c -- SHA-256, FIPS 180-4 sections 4.1.2, 5.1.1, 6.2; the same rounds with the SHA
 * instructions of x86 where the processor has them. */
#include "base/sha256.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#endif

static const uint32_t k[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static inline uint32_t rotr(uint32_t x, int n)
{
    return (x >> n) | (x << (32 - n));
}

static void blocks_plain(uint32_t h[8], const uint8_t *p, size_t n_block)
{
    for (; n_block; n_block--, p += 64) {
        uint32_t w[64];
        for (int t = 0; t < 16; t++)
            w[t] = (uint32_t)p[4 * t] << 24 | (uint32_t)p[4 * t + 1] << 16 |
                   (uint32_t)p[4 * t + 2] << 8 | p[4 * t + 3];
        for (int t = 16; t < 64; t++) {
            const uint32_t s0 = rotr(w[t - 15], 7) ^ rotr(w[t - 15], 18) ^ (w[t - 15] >> 3);
            const uint32_t s1 = rotr(w[t - 2], 17) ^ rotr(w[t - 2], 19) ^ (w[t - 2] >> 10);
            w[t] = w[t - 16] + s0 + w[t - 7] + s1;
        }
        /* x: the standard's h */
        uint32_t a = h[0], b = h[1], c = h[2], d = h[3], e = h[4], f = h[5], g = h[6], x = h[7];
        for (int t = 0; t < 64; t++) {
            const uint32_t t1 =
                x + (rotr(e, 6) ^ rotr(e, 11) ^ rotr(e, 25)) + ((e & f) ^ (~e & g)) + k[t] + w[t];
            const uint32_t t2 =
                (rotr(a, 2) ^ rotr(a, 13) ^ rotr(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
            x = g, g = f, f = e, e = d + t1;
            d = c, c = b, b = a, a = t1 + t2;
        }
        h[0] += a, h[1] += b, h[2] += c, h[3] += d;
        h[4] += e, h[5] += f, h[6] += g, h[7] += x;
    }
}

#if defined(__x86_64__)
/* Two rounds an instruction; the state is kept as (a b e f) and (c d g h), high lane first (Intel
 * SDM vol. 2, SHA256RNDS2). */
__attribute__((target("sha,sse4.1,ssse3"))) static void blocks_sha(uint32_t h[8], const uint8_t *p,
                                                                   size_t n_block)
{
    const __m128i swap = _mm_set_epi8(12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3);
    __m128i abef = _mm_set_epi32((int)h[0], (int)h[1], (int)h[4], (int)h[5]);
    __m128i cdgh = _mm_set_epi32((int)h[2], (int)h[3], (int)h[6], (int)h[7]);
    for (; n_block; n_block--, p += 64) {
        const __m128i abef0 = abef, cdgh0 = cdgh;
        __m128i w[4]; /* w[i mod 4]: words 4 i .. 4 i + 3 */
        for (int i = 0; i < 16; i++) {
            if (i < 4)
                w[i] = _mm_shuffle_epi8(
                    _mm_loadu_si128((const __m128i *)(const void *)(p + 16 * i)), swap);
            else {
                /* w[t - 7] */
                const __m128i w7 = _mm_alignr_epi8(w[(i + 3) & 3], w[(i + 2) & 3], 4);
                w[i & 3] = _mm_sha256msg2_epu32(
                    _mm_add_epi32(_mm_sha256msg1_epu32(w[i & 3], w[(i + 1) & 3]), w7),
                    w[(i + 3) & 3]);
            }
            const __m128i wk = _mm_add_epi32(
                w[i & 3], _mm_loadu_si128((const __m128i *)(const void *)(k + 4 * i)));
            cdgh = _mm_sha256rnds2_epu32(cdgh, abef, wk);
            abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(wk, 0x0e));
        }
        abef = _mm_add_epi32(abef, abef0);
        cdgh = _mm_add_epi32(cdgh, cdgh0);
    }
    h[0] = (uint32_t)_mm_extract_epi32(abef, 3), h[1] = (uint32_t)_mm_extract_epi32(abef, 2);
    h[2] = (uint32_t)_mm_extract_epi32(cdgh, 3), h[3] = (uint32_t)_mm_extract_epi32(cdgh, 2);
    h[4] = (uint32_t)_mm_extract_epi32(abef, 1), h[5] = (uint32_t)_mm_extract_epi32(abef, 0);
    h[6] = (uint32_t)_mm_extract_epi32(cdgh, 1), h[7] = (uint32_t)_mm_extract_epi32(cdgh, 0);
}

/* Asked of the processor once: under a hypervisor the question costs 20 us, as much as 16 KB of
 * hashing. 0: not asked, 1: no, 2: yes. */
static bool has_sha(void)
{
    static atomic_int known;
    int is = atomic_load_explicit(&known, memory_order_relaxed);
    if (!is) {
        unsigned a = 0, b = 0, c = 0, d = 0;
        is = __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & (1u << 29)) &&
                     __builtin_cpu_supports("sse4.1")
                 ? 2
                 : 1;
        atomic_store_explicit(&known, is, memory_order_relaxed);
    }
    return is == 2;
}
#endif

void nb_sha256_init_plain(nb_sha256_state *s)
{
    static const uint32_t first[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                      0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    memcpy(s->h, first, sizeof first);
    s->n = 0;
    s->blocks = blocks_plain;
}

void nb_sha256_init(nb_sha256_state *s)
{
    nb_sha256_init_plain(s);
#if defined(__x86_64__)
    if (has_sha())
        s->blocks = blocks_sha;
#endif
}

void nb_sha256_add(nb_sha256_state *s, const void *data, size_t n)
{
    const uint8_t *p = data;
    const size_t held = s->n % 64;
    s->n += n;
    if (held) {
        const size_t take = n < 64 - held ? n : 64 - held;
        if (take)
            memcpy(s->block + held, p, take);
        if (held + take < 64)
            return;
        s->blocks(s->h, s->block, 1);
        p += take;
        n -= take;
    }
    if (n >= 64)
        s->blocks(s->h, p, n / 64);
    if (n % 64)
        memcpy(s->block, p + n / 64 * 64, n % 64);
}

void nb_sha256_end(nb_sha256_state *s, uint8_t out[NB_SHA256_BYTES])
{
    /* what waits, a one bit, zeros, the length in bits in 8 bytes (5.1.1) */
    uint8_t tail[128] = {0};
    const size_t held = s->n % 64, end = held < 56 ? 64 : 128;
    memcpy(tail, s->block, held);
    tail[held] = 0x80;
    for (size_t i = 0; i < 8; i++)
        tail[end - 1 - i] = (uint8_t)(s->n * 8 >> (8 * i));
    s->blocks(s->h, tail, end / 64);
    for (size_t i = 0; i < NB_SHA256_BYTES; i++)
        out[i] = (uint8_t)(s->h[i / 4] >> (24 - 8 * (i % 4)));
}

void nb_sha256(const void *p, size_t n, uint8_t out[NB_SHA256_BYTES])
{
    nb_sha256_state s;
    nb_sha256_init(&s);
    nb_sha256_add(&s, p, n);
    nb_sha256_end(&s, out);
}

void nb_hex(const uint8_t *p, size_t n, char *out)
{
    static const char digit[] = "0123456789abcdef";
    for (size_t i = 0; i < n; i++) {
        out[2 * i] = digit[p[i] >> 4];
        out[2 * i + 1] = digit[p[i] & 15];
    }
    out[2 * n] = 0;
}
