/* attention.cu -- the table of attention's rows; the first that fits a call runs. */
#include "attention/attention.h"

constexpr int kMostDim = 256, kAll = (1 << NB_KV_TYPES) - 1;

const nb_cuda_attention_row nb_cuda_attention_rows[] = {
    {"split", NB_ARITH_F32, kAll, 8, 8, NULL, nb_cuda_attention_split},
    {"hopper", NB_ARITH_BF16_TILES, 1 << NB_KV_F16, 0, 8, nb_cuda_attention_hopper_fits,
     nb_cuda_attention_hopper},
    {"tile", NB_ARITH_BF16_TILES, kAll & ~(1 << NB_KV_F32), 0, 8, NULL, nb_cuda_attention_tile},
    {"simple", NB_ARITH_F32, kAll, 0, 1, NULL, nb_cuda_attention_simple},
};

static bool serves(nb_backend *be, const nb_cuda_attention_row *row, const nb_attention_args *a)
{
    const nb_kv *kv = a->kv;
    const bool vectors = kv->head_dim % row->multiple == 0 &&
                         (row->multiple == 1 || ((uintptr_t)kv->k | (uintptr_t)kv->v) % 16 == 0);
    const bool few =
        !row->max_token || a->batch->n_token <= row->max_token || a->batch->n_token <= kv->n_seq;
    return (row->types >> kv->type & 1) && vectors && few && (!row->fits || row->fits(be, a));
}

/* NULL: none does. */
static const nb_cuda_attention_row *row_of(nb_backend *be, const nb_attention_args *a)
{
    const nb_cuda_attention_row *row = nb_cuda_attention_rows;
    if (a->kv->head_dim > kMostDim)
        return NULL;
    while (!serves(be, row, a))
        row++;
    return row;
}

const char *nb_cuda_attention_row_name(nb_backend *be, const nb_attention_args *a, nb_arith *arith)
{
    const nb_cuda_attention_row *row = row_of(be, a);
    *arith = row ? row->arith : NB_ARITH_F32;
    return row ? row->name : NULL;
}

/* Room for every row that might run: where the cache will lie is not known yet. */
size_t nb_cuda_attention_scratch(nb_backend *, const nb_attention_args *a)
{
    return nb_cuda_attention_split_scratch(a);
}

nb_status nb_cuda_attention(nb_backend *be, const nb_attention_args *a, nb_error *err)
{
    const nb_cuda_attention_row *row = row_of(be, a);
    return row ? row->run(be, a, err)
               : nb_fail(err, NB_UNSUPPORTED, "%s: heads of %d elements, at most %d", be->name,
                         a->kv->head_dim, kMostDim);
}
