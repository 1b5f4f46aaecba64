/* weights.c -- from the tensors of a checkpoint to packed weights: what is there, what shape it
 * must have, which linears are stacked. */
#include "backend/count.h"
#include "backend/kv.h"
#include "backend/open.h"
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

int nb_model_n_slot(const nb_model *m, nb_role role)
{
    const bool expert =
        role == NB_ROLE_FFN_GATE || role == NB_ROLE_FFN_UP || role == NB_ROLE_FFN_DOWN;
    return expert && m->hp.n_expert ? m->hp.n_expert : 1;
}

bool nb_model_has(const nb_model *m, nb_slot at)
{
    char name[NB_TENSOR_NAME];
    const nb_role_name *r = nb_family_role(m->family, at.role);
    return r && !(r->optional && m->hp.bias == NB_BIAS_NONE) &&
           nb_family_tensor(m->family, m->container, at, name);
}

/* seen [n_tensor]: set for the slot's tensor. */
static nb_status check_slot(const nb_model *m, nb_slot at, bool *seen, nb_error *err)
{
    char name[NB_TENSOR_NAME];
    const nb_role_name *r = nb_family_role(m->family, at.role);
    if (!r)
        return NB_OK;
    const nb_place p = nb_family_place(m->family, &m->hp, m->container, at, name);
    const nb_tensor *t = p.t;
    if (!t) {
        if ((at.role == NB_ROLE_OUTPUT && m->hp.tied) ||
            (r->optional && m->hp.bias != NB_BIAS_REQUIRED))
            return NB_OK;
        return nb_fail_at(err, NB_BAD_INPUT, m->container->path, -1, "tensor %s is missing", name);
    }
    if (!nb_model_has(m, at))
        return NB_OK; /* the config says no: judged with the tensors nobody asked for */
    seen[t - m->container->tensor] = true;
    if (m->scheme.scheme || nb_tensor_is_packed(m->container, t)) {
        const nb_status st = nb_model_check_packed(m, at, err);
        if (st != NB_OK || nb_tensor_is_packed(m->container, t))
            return st;
    }
    const bool fits = p.stacked ? t->n_dim == 3 && t->shape[0] == m->hp.n_expert &&
                                      t->shape[0] * t->shape[1] == p.all_rows && t->shape[2] == p.K
                      : p.N ? t->n_dim == 2 && t->shape[0] == p.all_rows && t->shape[1] == p.K
                            : t->n_dim == 1 && t->shape[0] == p.all_rows;
    if (!fits)
        return nb_fail_at(
            err, NB_BAD_INPUT, nb_container_file(m->container, t), (int64_t)t->offset,
            "tensor %s has shape [%lld,%lld], the metadata asks for [%lld,%lld]", name,
            (long long)(t->n_dim > 1 ? t->shape[t->n_dim - 2] : 0),
            (long long)t->shape[t->n_dim ? t->n_dim - 1 : 0],
            (long long)(p.N ? p.stacked ? p.all_rows / m->hp.n_expert : p.all_rows : 0),
            (long long)p.K);
    if (!t->dtype->decode)
        return nb_fail_at(err, NB_UNSUPPORTED, nb_container_file(m->container, t),
                          (int64_t)t->offset, "tensor %s is of type %s, which cannot be multiplied",
                          name, t->dtype->name);
    return NB_OK;
}

static bool ends_with(const char *s, const char *suffix)
{
    const size_t n = strlen(s), k = strlen(suffix);
    return n >= k && strcmp(s + n - k, suffix) == 0;
}

/* A bias or norm in a layer that the family does not know would change what the model computes;
 * zeros (which some writers add everywhere) do not. */
static nb_status check_unasked(const nb_model *m, const nb_tensor *t, nb_error *err)
{
    static const char *const layers[] = {"blk.", "model.layers.", "language_model.model.layers.",
                                         "model.language_model.layers."};
    bool in_layer = false;
    for (size_t i = 0; i < sizeof layers / sizeof *layers; i++)
        in_layer = in_layer || strncmp(t->name, layers[i], strlen(layers[i])) == 0;
    if (!in_layer || t->n_dim != 1 ||
        (!ends_with(t->name, ".bias") && !ends_with(t->name, "norm.weight")) || !t->dtype->decode ||
        t->dtype->block != 1)
        return NB_OK;
    for (int64_t i = 0; i < t->shape[0]; i++) {
        float v;
        nb_dtype_decode_row(t->dtype, t->data + i * t->dtype->bytes, &v, 1);
        if (v != 0.0f)
            return nb_fail_at(err, NB_UNSUPPORTED, m->container->path, (int64_t)t->offset,
                              "tensor %s is not part of a %s model%s", t->name, m->family->name,
                              m->hp.bias == NB_BIAS_NONE ? " whose config denies biases" : "");
    }
    return NB_OK;
}

nb_status nb_model_check_tensors(const nb_model *m, nb_error *err)
{
    nb_status st = NB_OK;
    bool *seen =
        nb_alloc_zero((size_t)m->container->n_tensor + 1, sizeof *seen, "a list of tensors", err);
    if (!seen)
        return NB_NO_ROOM;
    for (int r = 0; r < NB_ROLE_ATTN_NORM && st == NB_OK; r++)
        st = check_slot(m, (nb_slot){.role = (nb_role)r}, seen, err);
    for (int l = 0; l < m->hp.n_layer && st == NB_OK; l++)
        for (int r = NB_ROLE_ATTN_NORM; r < NB_ROLE_COUNT && st == NB_OK; r++)
            for (int e = 0; e < nb_model_n_slot(m, (nb_role)r) && st == NB_OK; e++)
                st = check_slot(m, (nb_slot){.role = (nb_role)r, .layer = l, .expert = e}, seen,
                                err);
    for (int64_t i = 0; i < m->container->n_tensor && st == NB_OK; i++)
        if (!seen[i])
            st = check_unasked(m, &m->container->tensor[i], err);
    free(seen);
    return st;
}

nb_status nb_model_matrix(const nb_model *m, nb_slot at, nb_matrix *out, void **made, nb_error *err)
{
    char name[NB_TENSOR_NAME];
    const nb_place p = nb_family_place(m->family, &m->hp, m->container, at, name);
    *made = NULL;
    if (p.t && nb_tensor_is_packed(m->container, p.t))
        return nb_model_unpack(m, at, out, made, err);
    if (!p.t)
        return nb_fail_at(err, NB_INTERNAL, m->container->path, -1, "tensor %s went unchecked",
                          name);
    *out = (nb_matrix){.N = p.N,
                       .K = p.K,
                       .dtype = p.t->dtype,
                       .rows = p.t->data + p.row * nb_dtype_row_bytes(p.t->dtype, p.K)};
    return NB_OK;
}

/* Rows of q and k that lie in pairs, as halves; *made is the caller's to free. Nothing is read on a
 * device that only counts. */
static nb_status halve_rows(const nb_model *m, nb_role role, nb_matrix *a, void **made,
                            nb_error *err)
{
    if (!a->dtype || !m->hp.rows_paired || !nb_family_pairs_rows(m->family, role) ||
        nb_backend_counts(m->be))
        return NB_OK;
    const size_t bytes = (size_t)nb_dtype_row_bytes(a->dtype, a->K);
    uint8_t *rows = nb_alloc((size_t)a->N, bytes, "rows of a layer", err);
    *made = rows;
    if (!rows)
        return NB_NO_ROOM;
    for (int64_t n = 0; n < a->N; n++)
        memcpy(rows + (size_t)nb_family_packed_row(m->family, &m->hp, role, n) * bytes,
               a->rows + (size_t)n * bytes, bytes);
    a->rows = rows;
    return NB_OK;
}

nb_status nb_stack_load(const nb_model *m, nb_group_id g, int layer, nb_stack *out, nb_error *err)
{
    nb_role role[3];
    nb_matrix part[3];
    void *made[3] = {NULL};
    const int n = nb_group_roles(g, role);
    nb_status st = NB_OK;
    memset(out, 0, sizeof *out);
    bool same = true;
    for (int i = 0; i < n && st == NB_OK; i++) {
        st =
            nb_model_matrix(m, (nb_slot){.role = role[i], .layer = layer}, &part[i], &made[i], err);
        if (st == NB_OK)
            st = halve_rows(m, role[i], &part[i], &made[i], err);
        same = same && st == NB_OK && nb_matrix_alike(&part[i], &part[0]);
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
    for (int i = 0; i < n; i++)
        free(made[i]);
    if (st != NB_OK)
        nb_stack_close(m->be, out);
    return st;
}

nb_status nb_model_pack(const nb_model *m, nb_slot at, nb_weight **out, nb_error *err)
{
    nb_matrix part;
    void *made = NULL;
    *out = NULL;
    nb_status st = nb_model_matrix(m, at, &part, &made, err);
    if (st == NB_OK)
        st = m->be->op->pack_weight(m->be, &part, 1, out, err);
    free(made);
    return st;
}

nb_status nb_stack_from_f32(nb_backend *be, const float *w, int64_t N, int64_t K, nb_stack *out,
                            nb_error *err)
{
    const nb_matrix part = {
        .N = N, .K = K, .dtype = nb_dtype_by_name("f32"), .rows = (const uint8_t *)w};
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

nb_status nb_model_decode_vector(const nb_model *m, nb_slot at, float *host, nb_error *err)
{
    char name[NB_TENSOR_NAME];
    const nb_place p = nb_family_place(m->family, &m->hp, m->container, at, name);
    if (!p.t)
        return nb_fail_at(err, NB_INTERNAL, m->container->path, -1, "tensor %s went unchecked",
                          name);
    if (p.t->dtype->block != 1)
        return nb_fail_at(err, NB_UNSUPPORTED, m->container->path, (int64_t)p.t->offset,
                          "the vector %s is of type %s", name, p.t->dtype->name);
    const uint8_t *from = p.t->data + p.row * p.t->dtype->bytes;
    for (int64_t i = 0; i < p.K; i++)
        nb_dtype_decode_row(p.t->dtype, from + i * p.t->dtype->bytes,
                            &host[nb_family_packed_row(m->family, &m->hp, at.role, i)], 1);
    const float add = nb_family_norm_offset(m->family, m->container->kind, at.role);
    for (int64_t i = 0; i < p.K && add != 0.0f; i++)
        host[i] += add;
    return NB_OK;
}

nb_status nb_model_vector(const nb_model *m, nb_slot at, float scale, float **out, nb_error *err)
{
    int64_t N, K;
    nb_family_shape(&m->hp, at, &N, &K);
    *out = NULL;
    float *host = nb_alloc((size_t)K, sizeof *host, "a vector", err);
    nb_status st = host ? nb_model_decode_vector(m, at, host, err) : NB_NO_ROOM;
    for (int64_t i = 0; i < K && st == NB_OK; i++)
        host[i] *= scale;
    if (st == NB_OK)
        st = m->be->op->alloc(m->be, (size_t)K * sizeof *host, "a vector", (void **)out, err);
    if (st == NB_OK)
        st = m->be->op->upload(m->be, *out, host, (size_t)K * sizeof *host, err);
    free(host);
    return st;
}

static nb_status load_layer(nb_model *m, int l, nb_error *err)
{
    nb_layer *y = &m->layer[l];
    const nb_backend_ops *op = m->be->op;
    nb_status st = nb_layer_open(m, l, y, err);
    if (st != NB_OK)
        return st;
    for (int g = 0; g < NB_GROUP_COUNT; g++)
        for (int i = 0; i < y->stack[g].n_weight; i++)
            m->weights_bytes += (int64_t)op->weight_bytes(y->stack[g].w[i]);
    for (int e = 0; e < m->hp.n_expert; e++) {
        for (int i = 0; i < y->gate_up.n_weight; i++)
            m->weights_bytes += (int64_t)op->weight_bytes(y->gate_up.w[i][e]);
        m->weights_bytes += (int64_t)op->weight_bytes(y->down.w[0][e]);
    }
    m->weights_bytes += y->frame.router ? (int64_t)op->weight_bytes(y->frame.router) : 0;
    nb_layer_pages(m, l, nb_container_release); /* packed: the source's may go */
    return NB_OK;
}

static nb_status load_frequencies(nb_model *m, nb_error *err)
{
    static const float none[NB_MAX_ROPE_DIM / 2]; /* an angle of 0 changes no bit */
    const size_t freq_bytes = (size_t)m->hp.rope_dim / 2 * sizeof(float);
    bool unrotated = false;
    for (int l = 0; l < m->hp.n_layer; l++)
        unrotated = unrotated || m->hp.unrotated[l];
    const struct {
        bool wanted;
        const float *from;
        float **to;
    } table[] = {{true, m->hp.inv_freq, &m->inv_freq},
                 {true, m->hp.inv_freq_local, &m->inv_freq_local},
                 {unrotated, none, &m->inv_freq_none}};
    nb_status st = NB_OK;
    for (size_t i = 0; i < sizeof table / sizeof *table && st == NB_OK; i++) {
        if (!table[i].wanted)
            continue;
        st = m->be->op->alloc(m->be, freq_bytes, "rotary frequencies", (void **)table[i].to, err);
        if (st == NB_OK)
            st = m->be->op->upload(m->be, *table[i].to, table[i].from, freq_bytes, err);
    }
    return st;
}

/* The embedding goes where the first layer is; the output layer is always the device's, a second
 * copy of a tied embedding then. */
static nb_status load_ends(nb_model *m, nb_error *err)
{
    nb_model *first = m->front ? m->front : m;
    const bool shared = m->hp.tied && !m->front;
    nb_status st = nb_model_pack(first, (nb_slot){.role = NB_ROLE_EMBED}, &first->embed, err);
    if (st == NB_OK && shared)
        m->output = m->embed;
    else if (st == NB_OK)
        st = nb_model_pack(m, (nb_slot){.role = m->hp.tied ? NB_ROLE_EMBED : NB_ROLE_OUTPUT},
                           &m->output, err);
    if (st == NB_OK) /* the divisor of the logits: (h / d) W^T */
        st = nb_model_vector(m, (nb_slot){.role = NB_ROLE_OUTPUT_NORM}, 1.0f / m->hp.logit_divisor,
                             &m->output_norm, err);
    if (st == NB_OK) {
        first->weights_bytes += (int64_t)first->be->op->weight_bytes(first->embed);
        m->weights_bytes += shared ? 0 : (int64_t)m->be->op->weight_bytes(m->output);
    }
    return st;
}

static nb_status make_room_for_layers(nb_model *m, nb_error *err)
{
    m->layer = nb_alloc_zero((size_t)m->hp.n_layer, sizeof *m->layer, "the layers", err);
    return m->layer ? NB_OK : NB_NO_ROOM;
}

nb_status nb_model_load_weights(nb_model *m, bool layers, nb_error *err)
{
    nb_status st = load_frequencies(m, err);
    if (st == NB_OK && m->front)
        st = load_frequencies(m->front, err);
    if (st == NB_OK && layers)
        st = load_ends(m, err);
    if (st == NB_OK && layers)
        st = make_room_for_layers(m, err);
    if (st == NB_OK && layers && m->front)
        st = make_room_for_layers(m->front, err);
    for (int l = 0; layers && l < m->hp.n_layer && st == NB_OK; l++) {
        if (!nb_backend_counts(m->be)) /* read while this one is packed */
            nb_layer_pages(m, l + 1, nb_container_ask);
        st = load_layer(l < m->n_front ? m->front : m, l, err);
    }
    return st == NB_OK ? m->be->op->sync(m->be, err) : st;
}

void nb_model_close_weights(nb_model *m)
{
    const nb_backend_ops *op = m->be->op;
    for (int l = 0; m->layer && l < m->hp.n_layer; l++)
        nb_layer_close(m, &m->layer[l]);
    if (m->output != m->embed)
        op->release_weight(m->be, m->output);
    op->release_weight(m->be, m->embed);
    op->release(m->be, m->output_norm);
    op->release(m->be, m->inv_freq);
    op->release(m->be, m->inv_freq_local);
    op->release(m->be, m->inv_freq_none);
    free(m->layer);
    m->layer = NULL;
    m->output = m->embed = NULL;
    m->output_norm = m->inv_freq = m->inv_freq_local = m->inv_freq_none = NULL;
    if (m->front && m->front->be)
        nb_model_close_weights(m->front);
}

nb_status nb_model_set_kv_type(nb_model *m, const char *name, nb_error *err)
{
    return name ? nb_kv_type_named(name, &m->be->kv_type, err) : NB_OK;
}

/* A GGUF file says "none" when it was made of a checkpoint without a tokenizer. */
static bool has_tokenizer(const nb_container *c)
{
    nb_str model;
    if (!c->gguf)
        return c->tokenizer || c->tokenizer_model;
    return nb_gguf_string(c->gguf, "tokenizer.ggml.model", &model, NULL) != NB_OK || model.n != 4 ||
           memcmp(model.p, "none", 4) != 0;
}

/* auto_map names Python files of the publisher that compute in place of the architecture's own:
 * never run, and never passed over. */
static nb_status refuse_code(const nb_container *c, const nb_json *doc, const char *file,
                             nb_error *err)
{
    const nb_json_node *map = doc ? nb_json_get(nb_json_root(doc), "auto_map") : NULL,
                       *first = nb_json_first(map);
    const char *code = "";
    char shown[160];
    size_t n = 0;
    if (!map || nb_json_typeof(map) == NB_JSON_NULL ||
        (nb_json_typeof(map) == NB_JSON_OBJECT && !first))
        return NB_OK;
    if (!nb_json_string(first, &code, &n) && !nb_json_string(nb_json_first(first), &code, &n) &&
        !nb_json_string(map, &code, &n))
        code = "?", n = 1;
    nb_fail_at(err, NB_UNSUPPORTED, c->path, (int64_t)nb_json_offset(map),
               "%s: auto_map asks for the publisher's own code, %s, which is never run", file,
               nb_escape(shown, (int64_t)sizeof shown, code, (int64_t)n));
    nb_hint(err,
            "where that code is only what \"architectures\" names, a copy of %s without "
            "\"auto_map\" is read",
            file);
    return NB_UNSUPPORTED;
}

static nb_status open_text(const char *path, nb_model *m, nb_error *err)
{
    nb_status st = nb_container_open(path, &m->container, err);
    if (st != NB_OK)
        return st;
    st = refuse_code(m->container, m->container->config, "config.json", err);
    if (st == NB_OK)
        st =
            refuse_code(m->container, m->container->tokenizer_config, "tokenizer_config.json", err);
    if (st == NB_OK && has_tokenizer(m->container))
        st = nb_tokenizer_open(m->container, &m->tokenizer, err);
    return st;
}

nb_status nb_model_load(const char *path, const nb_model_options *o, bool layers, nb_model **out,
                        nb_error *err)
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
        st = nb_scheme_read(m->container, &m->scheme, err);
    m->scheme.allow_nonfinite = o && o->allow_nonfinite;
    if (st == NB_OK)
        st = nb_model_check_tensors(m, err);
    if (st == NB_OK && m->tokenizer && nb_tokenizer_vocab_size(m->tokenizer) > m->hp.vocab_size)
        st = nb_fail_at(err, NB_BAD_INPUT, path, -1,
                        "the tokenizer has %d tokens, the embedding %d rows",
                        nb_tokenizer_vocab_size(m->tokenizer), m->hp.vocab_size);
    if (st != NB_OK)
        goto done;
    for (int64_t i = 0; i < m->container->n_tensor; i++)
        m->n_param += nb_tensor_n_weight(m->container, &m->scheme, &m->container->tensor[i]);
    const nb_backend_options bo = {.exact = o && o->exact, .n_thread = o ? o->n_thread : 0};
    st = !o || !o->device || strcmp(o->device, "auto") == 0
             ? nb_backend_auto_open(&bo, &m->be, m->be_told, sizeof m->be_told, err)
             : nb_backend_open(o->device, &bo, &m->be, err);
    if (st != NB_OK)
        goto done;
    if (o)
        st = nb_model_set_kv_type(m, o->kv_type, err);
    if (st != NB_OK)
        goto done;
    int32_t n_front = 0;
    if (layers)
        st = nb_offload_choose(m, o, &n_front, err);
    if (st == NB_OK)
        st = nb_front_open(m, n_front, o, err);
    if (st == NB_OK)
        st = nb_model_load_weights(m, layers, err);
    if (st == NB_NO_ROOM && layers) {
        nb_model_close_weights(m);
        nb_offload_hint(m, o ? o->n_seq : 0, o ? o->ctx : 0, false, err);
    }
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
        st = nb_fail_at(err, NB_NOT_FOUND, path, -1,
                        m->container->gguf
                            ? "it has no tokenizer"
                            : "no tokenizer.json or tokenizer.model beside the weights");
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
    if (m->be)
        nb_model_close_weights(m);
    nb_front_close(m);
    nb_backend_close(m->be);
    nb_tokenizer_close(m->tokenizer);
    nb_container_close(m->container);
    free(m);
}
