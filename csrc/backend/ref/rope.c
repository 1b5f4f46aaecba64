/* rope.c -- rotary positions (Su et al. 2021, eq. 34) on q and k, and the append to the cache.
 *
 *   angle = pos * inv_freq[i], rounded to f32: the product is part of the op's definition, since at
 *           pos 10^5 its rounding moves the angle by up to 2^-8 and every device must rotate by the
 *           same one
 *   (a, b) -> (a cos - b sin, b cos + a sin)      pair i: elements (2i, 2i+1) interleaved, else (i,
 *                                                 i + rope_dim/2)
 *
 * The cache takes the k just rotated and v as it is; what the types of a cache round: kv.h.
 * Cost: O(M (n_head + 2 n_kv_head) head_dim). */
#include "backend/kv.h"
#include "backend/ref/ref_ops.h"

#include <math.h>

static void rotate(float *head, int32_t pos, const nb_rope_args *a)
{
    const int32_t half = a->rope_dim / 2;
    for (int32_t i = 0; i < half; i++) {
        const float angle = (float)pos * a->inv_freq[i];
        const double c = cos((double)angle), s = sin((double)angle);
        float *p = a->interleaved ? &head[2 * i] : &head[i];
        float *q = a->interleaved ? &head[2 * i + 1] : &head[i + half];
        const double x = (double)*p, y = (double)*q;
        *p = (float)(x * c - y * s);
        *q = (float)(y * c + x * s);
    }
}

nb_status nb_ref_rope_append_kv(nb_backend *be, const nb_rope_args *a, nb_error *err)
{
    (void)be, (void)err;
    const nb_kv *kv = a->kv;
    const int64_t dim = kv->head_dim,
                  row = (int64_t)kv->n_kv_head * dim; /* values a position holds */
    for (int64_t m = 0; m < a->batch->n_token; m++) {
        const int32_t pos = a->batch->pos[m];
        for (int32_t h = 0; h < a->n_head; h++)
            rotate(a->q + m * a->ldq + h * dim, pos, a);
        for (int32_t h = 0; h < kv->n_kv_head; h++)
            rotate(a->k + m * a->ldk + h * dim, pos, a);
        const int64_t at = nb_kv_place(kv, a->batch->seq[m], pos) * row;
        for (int64_t i = 0; i < row; i += dim) {
            nb_kv_put(kv, kv->k, at + i, a->k + m * a->ldk + i);
            nb_kv_put(kv, kv->v, at + i, a->v + m * a->ldv + i);
        }
    }
    return NB_OK;
}
