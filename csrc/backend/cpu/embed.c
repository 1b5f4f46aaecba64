/* embed.c -- y[m] = scale * W[ids[m]], out of the packed tiles: every 16th lane of a tile, decoded
 * as the format defines. Cost: O(M K), reading 16 times the row (neighbours share its lines). */
#include "backend/cpu/cpu.h"
#include "backend/cpu/weight.h"
#include "base/scalar.h"

static float stored_float(const uint8_t *p, int c, bool wide)
{
    return wide ? nb_f32_from_bits(nb_load_u32(p + 4 * c))
                : nb_f32_from_f16(nb_load_u16(p + 2 * c));
}

static int u4_code(const uint8_t *block, int k, int c)
{
    return block[k / 8 * 64 + 4 * c + k % 4] >> (k % 8 / 4 * 4) & 15;
}

static void blocks_row(const nb_weight *w, const uint8_t *block, int c, float *dst)
{
    for (int64_t g = 0; g < w->K / NB_BLOCK; g++, block += w->block_bytes, dst += NB_BLOCK) {
        const uint8_t *off = block + w->code_bytes + w->scale_bytes;
        for (int k = 0; k < NB_BLOCK; k++) {
            const int at = k / w->unit * NB_TILE + c; /* of scale and offset */
            const float scale = stored_float(block + w->code_bytes, at, w->wide);
            const float zero = w->offset == NB_OFFSET_ZERO ? (float)off[at] : (float)w->zero;
            const int code =
                w->codes == NB_CODES_U4 ? u4_code(block, k, c) : block[k / 4 * 64 + 4 * c + k % 4];
            const float v = scale * ((float)code - zero);
            dst[k] = w->offset == NB_OFFSET_MIN ? v + stored_float(off, at, w->wide) : v;
        }
    }
}

static void table_row(const nb_weight *w, const uint8_t *block, int c, float *dst)
{
    for (int64_t k0 = 0; k0 < w->K; k0 += w->unit, block += w->block_bytes, dst += w->unit) {
        const float scale = stored_float(block + w->code_bytes, c, w->wide);
        for (int k = 0; k < w->unit; k++)
            dst[k] = scale * w->table[u4_code(block, k, c)];
    }
}

void nb_cpu_weight_row(const nb_weight *w, int64_t n, float *dst)
{
    const uint8_t *p = nb_weight_tile(w, n / NB_TILE);
    const int64_t c = n % NB_TILE;
    switch (w->codes) {
    case NB_CODES_F32:
        for (int64_t k = 0; k < w->K; k++)
            dst[k] = nb_f32_from_bits(nb_load_u32(p + 4 * (k * NB_TILE + c)));
        break;
    case NB_CODES_F16:
        for (int64_t k = 0; k < w->K; k++)
            dst[k] = nb_f32_from_f16(nb_load_u16(p + 2 * (k * NB_TILE + c)));
        break;
    case NB_CODES_BF16:
        for (int64_t k = 0; k < w->K; k++)
            dst[k] = nb_f32_from_bf16(nb_load_u16(p + 2 * ((k / 2 * NB_TILE + c) * 2 + k % 2)));
        break;
    case NB_CODES_U4:
    case NB_CODES_U8:
        blocks_row(w, p, (int)c, dst);
        break;
    case NB_CODES_T4:
        table_row(w, p, (int)c, dst);
        break;
    }
}

static void embed_token(const void *arg, int64_t m, int worker)
{
    const nb_embed_args *a = arg;
    float *y = a->y + m * a->ldy;
    (void)worker;
    nb_cpu_weight_row(a->w, a->ids[m], y);
    for (int64_t k = 0; k < a->w->K; k++)
        y[k] *= a->scale;
}

nb_status nb_cpu_embed(nb_backend *be, const nb_embed_args *a, nb_error *err)
{
    (void)err;
    nb_pool_run(a->M > 8 ? nb_cpu_of(be)->pool : NULL, a->M, embed_token, a);
    return NB_OK;
}
