/* weights.c -- from the tensors of a checkpoint to packed weights: what is there, what shape it must have, which linears are stacked. */
#include "base/clock.h"
#include "model/model.h"

#include <stdlib.h>
#include <string.h>

int nb_group_roles(nb_group_id g, nb_role role[3])
{
    static const struct {
        int n;
        nb_role role[3];
    } row[NB_GROUP_COUNT] = {
        [NB_GROUP_QKV] = {3, {NB_ROLE_ATTN_Q, NB_ROLE_ATTN_K, NB_ROLE_ATTN_V}},
        [NB_GROUP_O] = {1, {NB_ROLE_ATTN_O}},
        [NB_GROUP_GATE_UP] = {2, {NB_ROLE_FFN_GATE, NB_ROLE_FFN_UP}},
        [NB_GROUP_DOWN] = {1, {NB_ROLE_FFN_DOWN}},
    };
    for (int i = 0; i < row[g].n; i++)
        role[i] = row[g].role[i];
    return row[g].n;
}

static nb_status check_tensor(const nb_model *m, nb_role role, int layer, nb_error *err)
{
    char name[128];
    int64_t N, K;
    const nb_tensor *t = nb_family_tensor(m->family, m->container, role, layer, name);
    nb_family_shape(&m->hp, role, &N, &K);
    if (!t) {
        if (role == NB_ROLE_OUTPUT && m->hp.tied)
            return NB_OK;
        return nb_fail_at(err, NB_BAD_INPUT, m->container->path, -1, "tensor %s is missing", name);
    }
    const bool fits = N ? t->n_dim == 2 && t->shape[0] == N && t->shape[1] == K : t->n_dim == 1 && t->shape[0] == K;
    if (!fits)
        return nb_fail_at(err, NB_BAD_INPUT, m->container->path, (int64_t)t->offset,
                          "tensor %s has shape [%lld,%lld], the metadata asks for [%lld,%lld]", name,
                          (long long)(t->n_dim == 1 ? 0 : t->shape[0]), (long long)t->shape[t->n_dim ? t->n_dim - 1 : 0],
                          (long long)N, (long long)K);
    if (!t->dtype->decode)
        return nb_fail_at(err, NB_UNSUPPORTED, m->container->path, (int64_t)t->offset,
                          "tensor %s is of type %s, which cannot be multiplied", name, t->dtype->name);
    return NB_OK;
}

nb_status nb_model_check_tensors(const nb_model *m, nb_error *err)
{
    nb_status st = NB_OK;
    for (int r = 0; r < NB_ROLE_ATTN_NORM && st == NB_OK; r++)
        st = check_tensor(m, (nb_role)r, 0, err);
    for (int l = 0; l < m->hp.n_layer; l++)
        for (int r = NB_ROLE_ATTN_NORM; r < NB_ROLE_COUNT && st == NB_OK; r++)
            st = check_tensor(m, (nb_role)r, l, err);
    return st;
}

nb_status nb_model_matrix(const nb_model *m, nb_role role, int layer, nb_matrix *out, nb_error *err)
{
    char name[128];
    const nb_tensor *t = nb_family_tensor(m->family, m->container, role, layer, name);
    if (!t)
        return nb_fail_at(err, NB_INTERNAL, m->container->path, -1, "tensor %s went unchecked", name);
    *out = (nb_matrix){.N = t->shape[0], .K = t->shape[1], .dtype = t->dtype, .rows = t->data};
    return NB_OK;
}

nb_status nb_stack_load(const nb_model *m, nb_group_id g, int layer, nb_stack *out, nb_error *err)
{
    nb_role role[3];
    nb_matrix part[3];
    const int n = nb_group_roles(g, role);
    nb_status st = NB_OK;
    memset(out, 0, sizeof *out);
    bool same = true;
    for (int i = 0; i < n && st == NB_OK; i++) {
        st = nb_model_matrix(m, role[i], layer, &part[i], err);
        same = same && st == NB_OK && part[i].dtype == part[0].dtype;
    }
    for (int i = 0; i < n && st == NB_OK; i++) {
        out->at[out->n_weight] = out->N;
        out->K = part[i].K;
        if (same && n > 1) { /* one kernel call, one quantization of the input */
            for (int j = 0; j < n; j++)
                out->N += part[j].N;
            st = m->be->op->pack_weight(m->be, part, n, &out->w[0], err);
            out->n_weight = st == NB_OK;
            break;
        }
        out->N += part[i].N;
        st = m->be->op->pack_weight(m->be, &part[i], 1, &out->w[out->n_weight], err);
        out->n_weight += st == NB_OK;
    }
    if (st != NB_OK)
        nb_stack_close(m->be, out);
    return st;
}

nb_status nb_stack_from_f32(nb_backend *be, const float *w, int64_t N, int64_t K, nb_stack *out, nb_error *err)
{
    const nb_matrix part = {.N = N, .K = K, .dtype = nb_dtype_by_name("f32"), .rows = (const uint8_t *)w};
    *out = (nb_stack){.N = N, .K = K};
    const nb_status st = be->op->pack_weight(be, &part, 1, &out->w[0], err);
    out->n_weight = st == NB_OK;
    return st;
}

void nb_stack_close(nb_backend *be, nb_stack *s)
{
    for (int i = 0; i < s->n_weight; i++)
        be->op->release_weight(be, s->w[i]);
    memset(s, 0, sizeof *s);
}

nb_status nb_model_vector(const nb_model *m, nb_role role, int layer, float **out, nb_error *err)
{
    char name[128];
    const nb_tensor *t = nb_family_tensor(m->family, m->container, role, layer, name);
    *out = NULL;
    if (!t)
        return nb_fail_at(err, NB_INTERNAL, m->container->path, -1, "tensor %s went unchecked", name);
    const size_t n = (size_t)t->shape[0];
    float *host = nb_alloc(n, sizeof *host, name, err);
    if (!host)
        return NB_NO_ROOM;
    nb_dtype_decode_row(t->dtype, t->data, host, t->shape[0]);
    nb_status st = m->be->op->alloc(m->be, n * sizeof *host, name, (void **)out, err);
    if (st == NB_OK)
        st = m->be->op->upload(m->be, *out, host, n * sizeof *host, err);
    free(host);
    return st;
}

static nb_status load_layer(nb_model *m, int l, nb_error *err)
{
    nb_layer *y = &m->layer[l];
    nb_status st = nb_model_vector(m, NB_ROLE_ATTN_NORM, l, &y->attn_norm, err);
    if (st == NB_OK)
        st = nb_model_vector(m, NB_ROLE_FFN_NORM, l, &y->ffn_norm, err);
    for (int g = 0; g < NB_GROUP_COUNT && st == NB_OK; g++)
        st = nb_stack_load(m, (nb_group_id)g, l, &y->stack[g], err);
    for (int g = 0; g < NB_GROUP_COUNT && st == NB_OK; g++)
        for (int i = 0; i < y->stack[g].n_weight; i++)
            m->weights_bytes += (int64_t)m->be->op->weight_bytes(y->stack[g].w[i]);
    for (int r = NB_ROLE_ATTN_NORM; r < NB_ROLE_COUNT && st == NB_OK; r++) { /* packed: the source's pages may go */
        char name[128];
        nb_container_release(m->container, nb_family_tensor(m->family, m->container, (nb_role)r, l, name));
    }
    return st;
}

static nb_status load_frequencies(nb_model *m, nb_error *err)
{
    const size_t freq_bytes = (size_t)m->hp.rope_dim / 2 * sizeof(float);
    nb_status st = m->be->op->alloc(m->be, freq_bytes, "rotary frequencies", (void **)&m->inv_freq, err);
    return st == NB_OK ? m->be->op->upload(m->be, m->inv_freq, m->hp.inv_freq, freq_bytes, err) : st;
}

static nb_status load_ends(nb_model *m, nb_error *err)
{
    nb_matrix part;
    nb_status st = nb_model_matrix(m, NB_ROLE_EMBED, 0, &part, err);
    if (st == NB_OK)
        st = m->be->op->pack_weight(m->be, &part, 1, &m->embed, err);
    m->output = m->embed;
    if (st == NB_OK && !m->hp.tied) {
        m->output = NULL;
        st = nb_model_matrix(m, NB_ROLE_OUTPUT, 0, &part, err);
        if (st == NB_OK)
            st = m->be->op->pack_weight(m->be, &part, 1, &m->output, err);
    }
    if (st == NB_OK)
        st = nb_model_vector(m, NB_ROLE_OUTPUT_NORM, 0, &m->output_norm, err);
    if (st == NB_OK)
        m->weights_bytes += (int64_t)m->be->op->weight_bytes(m->embed) +
                            (m->hp.tied ? 0 : (int64_t)m->be->op->weight_bytes(m->output));
    return st;
}

static nb_status open_text(const char *path, nb_model *m, nb_error *err)
{
    nb_status st = nb_container_open(path, &m->container, err);
    if (st != NB_OK)
        return st;
    if (m->container->gguf || m->container->tokenizer)
        st = nb_tokenizer_open(m->container, &m->tokenizer, err);
    return st;
}

nb_status nb_model_load(const char *path, const nb_model_options *o, bool layers, nb_model **out, nb_error *err)
{
    const int64_t start = nb_clock_ns();
    *out = NULL;
    nb_model *m = nb_alloc_zero(1, sizeof *m, "a model", err);
    if (!m)
        return NB_NO_ROOM;
    nb_status st = open_text(path, m, err);
    if (st == NB_OK)
        st = nb_hparams_read(m->container, &m->family, &m->hp, err);
    if (st == NB_OK)
        st = nb_model_check_tensors(m, err);
    if (st == NB_OK && m->tokenizer && nb_tokenizer_vocab_size(m->tokenizer) > m->hp.vocab_size)
        st = nb_fail_at(err, NB_BAD_INPUT, path, -1, "the tokenizer has %d tokens, the embedding %d rows",
                        nb_tokenizer_vocab_size(m->tokenizer), m->hp.vocab_size);
    if (st != NB_OK)
        goto done;
    for (int64_t i = 0; i < m->container->n_tensor; i++) {
        const nb_tensor *t = &m->container->tensor[i];
        int64_t n = 1;
        for (int d = 0; d < t->n_dim; d++)
            n *= t->shape[d];
        m->n_param += n;
    }
    const nb_backend_options bo = {.exact = o && o->exact, .n_thread = o ? o->n_thread : 0};
    st = nb_backend_open(o && o->device ? o->device : "auto", &bo, &m->be, err);
    if (st != NB_OK)
        goto done;
    if (o && o->kv_type) {
        if (strcmp(o->kv_type, "f32") != 0 && strcmp(o->kv_type, "f16") != 0) {
            st = nb_fail(err, strcmp(o->kv_type, "bf16") == 0 || strcmp(o->kv_type, "q8") == 0 || strcmp(o->kv_type, "fp8") == 0
                                  ? NB_UNSUPPORTED
                                  : NB_USAGE,
                         "KV cache type \"%s\": f32 and f16 are there", o->kv_type);
            goto done;
        }
        m->be->kv_type = strcmp(o->kv_type, "f32") == 0 ? NB_KV_F32 : NB_KV_F16;
    }
    st = load_frequencies(m, err);
    if (st == NB_OK && layers)
        st = load_ends(m, err);
    if (st == NB_OK && layers) {
        m->layer = nb_alloc_zero((size_t)m->hp.n_layer, sizeof *m->layer, "the layers", err);
        st = m->layer ? NB_OK : NB_NO_ROOM;
        for (int l = 0; l < m->hp.n_layer && st == NB_OK; l++)
            st = load_layer(m, l, err);
    }
    if (st == NB_OK)
        st = m->be->op->sync(m->be, err);
done:
    m->load_s = (double)(nb_clock_ns() - start) * 1e-9;
    if (st != NB_OK) {
        nb_model_close(m);
        return st;
    }
    *out = m;
    return NB_OK;
}

nb_status nb_model_open(const char *path, const nb_model_options *o, nb_model **out, nb_error *err)
{
    return nb_model_load(path, o, true, out, err);
}

nb_status nb_model_open_text(const char *path, nb_model **out, nb_error *err)
{
    *out = NULL;
    nb_model *m = nb_alloc_zero(1, sizeof *m, "a model", err);
    if (!m)
        return NB_NO_ROOM;
    nb_status st = open_text(path, m, err);
    if (st == NB_OK && !m->tokenizer)
        st = nb_fail_at(err, NB_NOT_FOUND, path, -1, "no tokenizer.json beside the weights");
    if (st != NB_OK) {
        nb_model_close(m);
        return st;
    }
    *out = m;
    return NB_OK;
}

void nb_model_close(nb_model *m)
{
    if (!m)
        return;
    if (m->be) {
        for (int l = 0; m->layer && l < m->hp.n_layer; l++) {
            m->be->op->release(m->be, m->layer[l].attn_norm);
            m->be->op->release(m->be, m->layer[l].ffn_norm);
            for (int g = 0; g < NB_GROUP_COUNT; g++)
                nb_stack_close(m->be, &m->layer[l].stack[g]);
        }
        if (m->output != m->embed)
            m->be->op->release_weight(m->be, m->output);
        m->be->op->release_weight(m->be, m->embed);
        m->be->op->release(m->be, m->output_norm);
        m->be->op->release(m->be, m->inv_freq);
    }
    free(m->layer);
    nb_backend_close(m->be);
    nb_tokenizer_close(m->tokenizer);
    nb_container_close(m->container);
    free(m);
}
