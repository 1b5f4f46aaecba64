/* bitstream.h -- codes of b bits (1 to 8) in little-endian 32-bit words, lowest bits first, without
 * gaps:
 *
 *   code i begins at bit p = b i:  word p / 32, shift p % 32; what does not fit goes on in the next
 *       word
 *
 * For b = 2, 4, 8 no code crosses a word; for b = 3 codes 10 and 21 of every 32 do. `stride`: words
 * from one word of the stream to the next. */
#ifndef NB_SCHEME_BITSTREAM_H
#define NB_SCHEME_BITSTREAM_H

#include "base/scalar.h"

static inline int64_t nb_stream_words(int64_t n_code, int bits)
{
    return (n_code * bits + 31) / 32;
}

static inline unsigned nb_stream_get(const uint8_t *words, int64_t stride, int bits, int64_t i)
{
    const int64_t p = i * bits, w = p / 32;
    const int shift = (int)(p % 32);
    uint64_t v = nb_load_u32(words + w * stride * 4) >> shift;
    if (shift + bits > 32)
        v |= (uint64_t)nb_load_u32(words + (w + 1) * stride * 4) << (32 - shift);
    return (unsigned)(v & ((1u << bits) - 1));
}

/* The words begin as zeros. */
static inline void nb_stream_put(uint8_t *words, int64_t stride, int bits, int64_t i, unsigned code)
{
    const int64_t p = i * bits, w = p / 32;
    const int shift = (int)(p % 32);
    uint32_t word = nb_load_u32(words + w * stride * 4) | code << shift;
    memcpy(words + w * stride * 4, &word, 4);
    if (shift + bits > 32) {
        word = nb_load_u32(words + (w + 1) * stride * 4) | code >> (32 - shift);
        memcpy(words + (w + 1) * stride * 4, &word, 4);
    }
}

#endif
