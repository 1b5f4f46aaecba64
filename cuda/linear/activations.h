/* activations.h -- x into one of the orders of linear.h, 8 tokens of a unit by a warp: rounded to
 * bf16, and summed over each line. */
#ifndef NB_CUDA_LINEAR_ACTIVATIONS_H
#define NB_CUDA_LINEAR_ACTIVATIONS_H

#include "linear/linear.h"

/* input(token, position, v): x of the 2 or 4 neighbours that v has room for, or 0 where there is none.
 * token counts all of the call's, position those of the weight. */
template <bool Swizzled = false, class Input>
DEVI void nb_bring(const Packed &w, const Scratch &s, int unit, int oct, Input input)
{
    const int lane = threadIdx.x & 31, g = lane >> 2, t = lane & 3;
    float sum[4] = {0.0f, 0.0f, 0.0f, 0.0f}; /* of a step */
#pragma unroll
    for (int half = 0; half < 2; half++) {
        uint32_t r[4];
        const int p = unit * kUnit + 32 * half;
        if constexpr (Swizzled) { /* eight in a row */
#pragma unroll
            for (int i = 0; i < 2; i++) {
                float v[4];
                input(8 * oct + g, p + 8 * t + 4 * i, v);
                r[2 * i] = bf2_pack(v[0], v[1]);
                r[2 * i + 1] = bf2_pack(v[2], v[3]);
            }
        } else {
#pragma unroll
            for (int i = 0; i < 4; i++) { /* step 2 half + i / 2, its register i % 2 */
                float v[2];
                input(8 * oct + g, p + 8 * i + 2 * t, v);
                r[i] = bf2_pack(v[0], v[1]);
            }
        }
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const float pair = bf2_lo(r[i]) + bf2_hi(r[i]);
            if (Swizzled ? t >> 1 : i >> 1)
                sum[2 * half + 1] += pair;
            else
                sum[2 * half] += pair;
        }
        const int at = Swizzled ? 128 * g + 16 * ((4 * half + t) ^ g) : 512 * half + 16 * lane;
        st_v4(s.x + ((int64_t)unit * s.n_oct + oct) * 1024 + at, uint4{r[0], r[1], r[2], r[3]});
    }
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int o = 1; o < 4; o <<= 1)
            sum[i] += __shfl_xor_sync(0xffffffffu, sum[i], o);
    if (t == 0) { /* a line's steps in one */
        const int n = nb_lines_a_unit(w);
        const int64_t row = 8 * s.n_oct;
        float *to = s.sum + (int64_t)unit * n * row + 8 * oct + g;
        const float first = sum[0] + sum[1], second = sum[2] + sum[3];
        to[0] = n == 4 ? sum[0] : n == 2 ? first : first + second;
        if (n > 1)
            to[row] = n == 4 ? sum[1] : second;
        if (n == 4) {
            to[2 * row] = sum[2];
            to[3 * row] = sum[3];
        }
    }
}

#endif
