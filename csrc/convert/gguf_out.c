/* gguf_out.c -- copying metadata, converting tensors by slices. */
#include "convert/gguf_out.h"

#include <stdlib.h>
#include <string.h>

enum { kSliceValues = 1 << 20 }; /* 4 MiB of f32 at a time */

uint32_t nb_gguf_file_type(const nb_dtype *t)
{
    if (t->file_type || t->ggml_id == 0) /* F32 is 0 in both */
        return (uint32_t)t->file_type;
    return 1024; /* none of its own: "guessed" */
}

static bool key_is(const nb_gguf_kv *kv, const char *key)
{
    return kv->key.n == strlen(key) && memcmp(kv->key.p, key, kv->key.n) == 0;
}

nb_status nb_gguf_out_declare(const nb_container *src, uint32_t file_type, nb_type_choice choose, void *arg, nb_gguf_writer *w, nb_error *err)
{
    if (!src->gguf)
        return nb_fail_at(err, NB_UNSUPPORTED, src->path, -1,
                          "writing GGUF from a safetensors folder is not there yet; give a GGUF file");
    nb_status st = NB_OK;
    for (int64_t i = 0; i < src->gguf->n_kv && st == NB_OK; i++) {
        const nb_gguf_kv *kv = &src->gguf->kv[i];
        if (key_is(kv, "general.file_type") || key_is(kv, "general.quantization_version") || key_is(kv, "general.alignment"))
            continue;
        if (kv->key.n > 6 && memcmp(kv->key.p, "split.", 6) == 0) /* all parts become one file */
            continue;
        st = nb_gguf_writer_copy(w, kv, err);
    }
    if (st == NB_OK)
        st = nb_gguf_writer_u32(w, "general.file_type", file_type, err);
    if (st == NB_OK)
        st = nb_gguf_writer_u32(w, "general.quantization_version", 2, err);
    for (int64_t i = 0; i < src->n_tensor && st == NB_OK; i++) {
        const nb_tensor *t = &src->tensor[i];
        int index = 0;
        st = nb_gguf_writer_tensor(w, t->name, choose(arg, t), t->n_dim, t->shape, &index, err);
        if (st == NB_OK && index != i)
            st = nb_fail(err, NB_INTERNAL, "tensor %s got place %d of the output, not %lld", t->name, index, (long long)i);
    }
    return st;
}

nb_matrix nb_gguf_out_matrix(const nb_tensor *t)
{
    nb_matrix m = {.N = 1, .K = t->n_dim ? t->shape[t->n_dim - 1] : 1, .dtype = t->dtype, .rows = t->data};
    for (int d = 0; d + 1 < t->n_dim; d++)
        m.N *= t->shape[d];
    return m;
}

/* One row of canonical codes as blocks of t; scale and min have room for its groups. */
static void join_row(const nb_matrix *m, int64_t n, const nb_dtype *t, float *scale, float *min, uint8_t *dst)
{
    const int64_t G = m->K / t->group;
    for (int64_t i = 0; i < G; i++) {
        scale[i] = m->groups[n * G + i].scale;
        min[i] = m->groups[n * G + i].min;
    }
    t->join(m->codes + n * m->K, scale, min, m->K / t->block, dst);
}

static nb_status can_convert(const char *path, const char *name, const nb_matrix *m, const nb_dtype *t, nb_error *err)
{
    if (m->dtype && (!m->dtype->decode || !t->encode))
        return nb_fail_at(err, NB_UNSUPPORTED, path, -1, "tensor %s: from %s to %s is not there", name, m->dtype->name, t->name);
    if (!m->dtype && (!t->join || m->group != t->group || m->g_idx || m->K % t->block))
        return nb_fail_at(err, NB_UNSUPPORTED, path, -1, "tensor %s: codes in groups of %d have no place in %s", name, m->group, t->name);
    return NB_OK;
}

nb_status nb_gguf_out_rows(const char *path, const char *name, const nb_matrix *m, const nb_dtype *t, nb_gguf_writer *w, int index, int64_t row, int n_thread,
                           nb_error *err)
{
    const int64_t K = m->K, out_bytes = nb_dtype_row_bytes(t, K);
    if (m->dtype == t)
        return nb_gguf_writer_data(w, index, (size_t)(row * out_bytes), m->rows, (size_t)(m->N * out_bytes), err);
    nb_status st = can_convert(path, name, m, t, err);
    if (st != NB_OK)
        return st;
    const int64_t in_bytes = m->dtype ? nb_dtype_row_bytes(m->dtype, K) : K;
    const int64_t most = K < kSliceValues ? kSliceValues / K : 1, rows = most < m->N ? most : m->N;
    float *f = nb_alloc(m->dtype ? (size_t)(rows * K) : 1, sizeof *f, name, err);
    uint8_t *q = nb_alloc((size_t)rows, (size_t)out_bytes, name, err);
    float *group = nb_alloc((size_t)(m->dtype ? 1 : 2 * (K / t->group) * n_thread), sizeof *group, name, err);
    st = f && q && group ? NB_OK : NB_NO_ROOM;
    for (int64_t r = 0; r < m->N && st == NB_OK; r += rows) {
        const int64_t n = m->N - r < rows ? m->N - r : rows, share = (n + n_thread - 1) / n_thread;
#pragma omp parallel for num_threads(n_thread) schedule(static)
        for (int thread = 0; thread < n_thread; thread++) /* rows are independent: the bytes do not depend on the threads */
            for (int64_t j = thread * share; j < n && j < (thread + 1) * share; j++) {
                if (m->dtype) {
                    nb_dtype_decode_row(m->dtype, m->rows + (r + j) * in_bytes, f + j * K, K);
                    t->encode(f + j * K, q + j * out_bytes, K / t->block);
                } else {
                    float *scale = group + 2 * (K / t->group) * thread;
                    join_row(m, r + j, t, scale, scale + K / t->group, q + j * out_bytes);
                }
            }
        st = nb_gguf_writer_data(w, index, (size_t)((row + r) * out_bytes), q, (size_t)(n * out_bytes), err);
    }
    free(f);
    free(q);
    free(group);
    return st;
}
