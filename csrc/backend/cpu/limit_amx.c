/* limit_amx.c -- the rate of tdpbf16ps, for limits.c: four chains, as linear_amx.c has. Needs
 * AMX-BF16. */
#include "backend/cpu/amx.h"
#include "backend/cpu/limits.h"

double nb_cpu_limit_bf16_amx(const void *operands, int64_t steps, float *sink)
{
    enum { kChains = 4, kProducts = NB_AMX_ROWS * NB_AMX_ROWS * NB_AMX_K };
    alignas(64) uint16_t row[2][NB_AMX_K];
    float sums[NB_AMX_ROWS][NB_AMX_ROWS];
    const uint8_t *bytes = operands;
    for (int i = 0; i < 2 * NB_AMX_K;
         i++) /* random fractions under one exponent: +-[1, 2), never NaN */
        row[i / NB_AMX_K][i % NB_AMX_K] =
            (uint16_t)(((bytes[2 * i] << 8 | bytes[2 * i + 1]) & 0x807f) | 0x3f80);
    nb_amx_fence();
    nb_amx_open();
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    _tile_loadd(4, row[0], 0); /* every row the same */
    _tile_loadd(5, row[1], 0);
    for (int64_t n = 0; n < steps; n++) {
        _tile_dpbf16ps(0, 4, 5);
        _tile_dpbf16ps(1, 4, 5);
        _tile_dpbf16ps(2, 4, 5);
        _tile_dpbf16ps(3, 4, 5);
    }
    _tile_stored(0, sums, sizeof sums[0]);
    nb_amx_close();
    *sink += sums[0][0];
    return 2.0 * kChains * kProducts * (double)steps;
}
