/* gguf_out.c -- copying metadata, converting tensors by slices. */
#include "convert/gguf_out.h"

#include <stdlib.h>
#include <string.h>

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

nb_status nb_gguf_out_begin(const nb_container *src, const char *path, uint32_t file_type, nb_type_choice choose, void *arg,
                            nb_gguf_writer **out, nb_error *err)
{
    *out = NULL;
    if (!src->gguf)
        return nb_fail_at(err, NB_UNSUPPORTED, src->path, -1,
                          "writing GGUF from a safetensors folder is not there yet; give a GGUF file");
    nb_gguf_writer *w = NULL;
    nb_status st = nb_gguf_writer_open(path, &w, err);
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
    if (st == NB_OK)
        st = nb_gguf_writer_begin(w, err);
    if (st != NB_OK) {
        nb_gguf_writer_close(w);
        return st;
    }
    *out = w;
    return NB_OK;
}

nb_status nb_gguf_out_convert(const nb_container *src, int64_t i, const nb_dtype *t, nb_gguf_writer *w, int n_thread, nb_error *err)
{
    enum { kSliceValues = 1 << 22 }; /* 16 MiB of f32 at a time */
    const nb_tensor *from = &src->tensor[i];
    if (from->dtype == t)
        return nb_gguf_writer_data(w, (int)i, 0, from->data, from->bytes, err);
    if (!from->dtype->decode || !t->encode)
        return nb_fail_at(err, NB_UNSUPPORTED, nb_container_file(src, from), (int64_t)from->offset, "tensor %s: from %s to %s is not there",
                          from->name, from->dtype->name, t->name);
    const int64_t K = from->shape[from->n_dim - 1], total = (int64_t)(from->bytes / (size_t)from->dtype->bytes) * from->dtype->block;
    const int64_t n_row = total / K, in_bytes = nb_dtype_row_bytes(from->dtype, K), out_bytes = nb_dtype_row_bytes(t, K);
    const int64_t rows = K < kSliceValues ? kSliceValues / K : 1;
    float *f = nb_alloc((size_t)(rows * K), sizeof *f, from->name, err);
    uint8_t *q = nb_alloc((size_t)rows, (size_t)out_bytes, from->name, err);
    nb_status st = f && q ? NB_OK : NB_NO_ROOM;
    for (int64_t r = 0; r < n_row && st == NB_OK; r += rows) {
        const int64_t n = n_row - r < rows ? n_row - r : rows;
#pragma omp parallel for num_threads(n_thread) schedule(static)
        for (int64_t j = 0; j < n; j++) { /* rows are independent: the bytes do not depend on the threads */
            nb_dtype_decode_row(from->dtype, from->data + (r + j) * in_bytes, f + j * K, K);
            t->encode(f + j * K, q + j * out_bytes, K / t->block);
        }
        st = nb_gguf_writer_data(w, (int)i, (size_t)(r * out_bytes), q, (size_t)(n * out_bytes), err);
    }
    free(f);
    free(q);
    return st;
}
