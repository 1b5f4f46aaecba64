/* gguf.c -- GGUF files: every kind of key and tensor read back, and what the writer writes read by
 * the reader. */
#include "file/container.h"
#include "check.h"
#include "hostile/bytes.h"

#include <unistd.h>

static void sample(check *c)
{
    nb_gguf *g = NULL;
    nb_error err = {0};
    bytes b = {0};
    put_sample_gguf(&b);
    nb_arena *a = nb_arena_open("arrays", &err);
    CHECK_EQ(c, nb_gguf_parse("sample", b.p, b.n, &g, &err), NB_OK);
    if (g && a) {
        nb_str s = {0}, *tokens = NULL;
        float *scores = NULL, f = 0;
        int32_t *types = NULL;
        size_t n = 0;
        uint32_t u = 0;
        bool yes = false;
        CHECK_EQ(c, g->version, 3);
        CHECK_EQ(c, g->alignment, 32);
        CHECK_EQ(c, g->end, b.n);
        CHECK_EQ(c, g->n_kv, 15);
        CHECK_EQ(c, nb_gguf_string(g, "general.architecture", &s, &err), NB_OK);
        CHECK(c, s.n == 5 && memcmp(s.p, "llama", 5) == 0);
        static const char *const ints[] = {"type.A", "type.B", "type.C", "type.D",
                                           "type.E", "type.F", "type.K", "type.L"};
        for (size_t i = 0; i < sizeof ints / sizeof *ints; i++) {
            CHECK_EQ(c, nb_gguf_u32(g, ints[i], &u, &err), NB_OK);
            CHECK_EQ(c, u, 1);
        }
        CHECK_EQ(c, nb_gguf_f32(g, "type.G", &f, &err), NB_OK);
        CHECK_NEAR(c, f, 0x1p-149, 0, "f32 of bits 1");
        CHECK_EQ(c, nb_gguf_f32(g, "type.M", &f, &err), NB_OK);
        CHECK_NEAR(c, f, 0, 0, "f64 of bits 1");
        CHECK_EQ(c, nb_gguf_bool(g, "type.H", &yes, &err), NB_OK);
        CHECK(c, yes);
        CHECK_EQ(c, nb_gguf_strings(g, "tokens", a, &tokens, &n, &err), NB_OK);
        CHECK(c, n == 3 && tokens[1].n == 0 && tokens[2].n == 6 && tokens[2].p[5] == 'e');
        CHECK_EQ(c, nb_gguf_f32s(g, "scores", a, &scores, &n, &err), NB_OK);
        CHECK(c, n == 2 && scores[0] == 1.0f && scores[1] == -2.0f);
        CHECK_EQ(c, nb_gguf_i32s(g, "types", a, &types, &n, &err), NB_OK);
        CHECK(c, n == 3 && types[1] == -1 && types[2] == 3);
        const nb_gguf_kv *kv = nb_gguf_find(g, "types");
        CHECK(c, kv && kv->bytes == 12 && kv->count == 3 && kv->p == b.p + kv->offset);
        CHECK_EQ(c, g->n_tensor, 2);
        const nb_tensor *w = &g->tensor[0];
        CHECK_STR(c, w->name, "blk.0.weight");
        CHECK_STR(c, w->dtype->name, "q4_0");
        CHECK(c, w->n_dim == 2 && w->shape[0] == 3 && w->shape[1] == 64 && w->shape[2] == 1);
        CHECK_EQ(c, w->bytes, 3 * 36);
        CHECK_EQ(c, w->data[1], 1);
        CHECK_EQ(c, g->tensor[1].data[0], 128);
        CHECK_EQ(c, g->tensor[1].bytes, 20);
    }
    nb_arena_close(a);
    nb_gguf_close(g);
    nb_gguf_close(NULL);
    free(b.p);
}

/* Declares one key of every kind and three tensors. */
static nb_status declare(nb_gguf_writer *w, nb_error *err)
{
    static const nb_str tokens[] = {{"a", 1}, {"", 0}, {"\0x", 2}};
    static const int32_t types[] = {1, -1, 3};
    static const float scores[] = {0.5f, -1e30f};
    const nb_dtype *q4 = nb_dtype_by_name("q4_0"), *f32 = nb_dtype_by_name("f32");
    int index = -1;
    nb_status st = nb_gguf_writer_string(w, "general.architecture", "llama", 5, err);
    if (st == NB_OK)
        st = nb_gguf_writer_u32(w, "u32", 4000000000u, err);
    if (st == NB_OK)
        st = nb_gguf_writer_f32(w, "f32", 1e-5f, err);
    if (st == NB_OK)
        st = nb_gguf_writer_bool(w, "bool", true, err);
    if (st == NB_OK)
        st = nb_gguf_writer_strings(w, "tokens", tokens, 3, err);
    if (st == NB_OK)
        st = nb_gguf_writer_strings(w, "none", NULL, 0, err);
    if (st == NB_OK)
        st = nb_gguf_writer_i32s(w, "types", types, 3, err);
    if (st == NB_OK)
        st = nb_gguf_writer_f32s(w, "scores", scores, 2, err);
    if (st == NB_OK)
        st = nb_gguf_writer_tensor(w, "w", q4, 2, (const int64_t[]){3, 64}, &index, err);
    if (st == NB_OK)
        st = nb_gguf_writer_tensor(w, "norm", f32, 1, (const int64_t[]){5}, &index, err);
    if (st == NB_OK)
        st = nb_gguf_writer_tensor(w, "experts", q4, 3, (const int64_t[]){2, 3, 32}, &index, err);
    return st == NB_OK && index != 2 ? NB_INTERNAL : st;
}

static void round_trip(check *c)
{
    char path[512];
    uint8_t data[108];
    nb_gguf_writer *w = NULL;
    nb_container *m = NULL;
    nb_error err = {0};
    snprintf(path, sizeof path, "%s/unit-gguf-%ld.gguf", NB_BINARY_DIR, (long)getpid());
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i + 1);
    CHECK_EQ(c, nb_gguf_writer_open(path, &w, &err), NB_OK);
    if (!w)
        return;
    CHECK_EQ(c, declare(w, &err), NB_OK);
    CHECK_EQ(c, nb_gguf_writer_begin(w, &err), NB_OK);
    CHECK_EQ(c, nb_gguf_writer_data(w, 2, 0, data, 108, &err), NB_OK);
    CHECK_EQ(c, nb_gguf_writer_data(w, 0, 36, data + 36, 72, &err), NB_OK); /* in any order */
    CHECK_EQ(c, nb_gguf_writer_commit(w, &err), NB_INTERNAL);
    CHECK_HAS(c, err.message, "tensor w is not complete: 72 of 108");
    CHECK_EQ(c, nb_gguf_writer_data(w, 0, 0, data, 36, &err), NB_OK);
    CHECK_EQ(c, nb_gguf_writer_data(w, 1, 0, data, 20, &err), NB_OK);
    CHECK_EQ(c, nb_gguf_writer_data(w, 1, 4, data, 20, &err), NB_INTERNAL);
    CHECK_EQ(c, nb_gguf_writer_data(w, 3, 0, data, 1, &err), NB_INTERNAL);
    CHECK_EQ(c, nb_gguf_writer_u32(w, "late", 1, &err), NB_INTERNAL);
    CHECK(c, access(path, F_OK) != 0);
    const size_t total = nb_gguf_writer_total_bytes(w);
    CHECK_EQ(c, nb_gguf_writer_commit(w, &err), NB_OK);
    nb_gguf_writer_close(w);
    CHECK_EQ(c, nb_container_open(path, &m, &err), NB_OK);
    if (m) {
        uint32_t u = 0;
        float f = 0;
        nb_str *s = NULL;
        size_t n = 0;
        nb_arena *a = nb_arena_open("arrays", &err);
        CHECK_EQ(c, m->kind, NB_CONTAINER_GGUF);
        CHECK_EQ(c, m->file_bytes, total);
        CHECK(c, m->warning == NULL);
        CHECK(c, nb_gguf_u32(m->gguf, "u32", &u, &err) == NB_OK && u == 4000000000u);
        CHECK(c, nb_gguf_f32(m->gguf, "f32", &f, &err) == NB_OK && f == 1e-5f);
        CHECK_EQ(c, nb_gguf_strings(m->gguf, "none", a, &s, &n, &err), NB_OK);
        CHECK_EQ(c, n, 0);
        CHECK_EQ(c, nb_gguf_strings(m->gguf, "tokens", a, &s, &n, &err), NB_OK);
        CHECK(c, n == 3 && s[2].n == 2 && s[2].p[1] == 'x');
        const nb_tensor *t = nb_container_find(m, "experts");
        CHECK(c, t && t->n_dim == 3 && t->shape[0] == 2 && t->shape[1] == 3 && t->shape[2] == 32);
        CHECK(c, t && t->bytes == 108 && memcmp(t->data, data, 108) == 0);
        t = nb_container_find(m, "w");
        CHECK(c, t && memcmp(t->data, data, 108) == 0 && t->data[108] == 0); /* padding is zero */
        t = nb_container_find(m, "norm");
        CHECK(c, t && memcmp(t->data, data, 20) == 0);
        nb_arena_close(a);
    }
    nb_container_close(m);
    unlink(path);
}

/* Copies the sample, key by key and tensor by tensor: the bytes must be the same again. */
static void copy(check *c)
{
    char path[512];
    nb_gguf *g = NULL;
    nb_gguf_writer *w = NULL;
    nb_error err = {0};
    bytes b = {0};
    put_sample_gguf(&b);
    put_pad(&b, 32);
    snprintf(path, sizeof path, "%s/unit-copy-%ld.gguf", NB_BINARY_DIR, (long)getpid());
    CHECK_EQ(c, nb_gguf_parse("sample", b.p, b.n, &g, &err), NB_OK);
    CHECK_EQ(c, nb_gguf_writer_open(path, &w, &err), NB_OK);
    if (!g || !w)
        return;
    int index = 0;
    for (int64_t i = 0; i < g->n_kv; i++)
        CHECK_EQ(c, nb_gguf_writer_copy(w, &g->kv[i], &err), NB_OK);
    for (int64_t i = 0; i < g->n_tensor; i++) {
        const nb_tensor *t = &g->tensor[i];
        CHECK_EQ(c, nb_gguf_writer_tensor(w, t->name, t->dtype, t->n_dim, t->shape, &index, &err),
                 NB_OK);
    }
    CHECK_EQ(c, nb_gguf_writer_begin(w, &err), NB_OK);
    for (int64_t i = 0; i < g->n_tensor; i++)
        CHECK_EQ(c, nb_gguf_writer_data(w, (int)i, 0, g->tensor[i].data, g->tensor[i].bytes, &err),
                 NB_OK);
    CHECK_EQ(c, nb_gguf_writer_commit(w, &err), NB_OK);
    nb_gguf_writer_close(w);
    FILE *f = fopen(path, "rb");
    uint8_t again[2048];
    const size_t n = f ? fread(again, 1, sizeof again, f) : 0;
    CHECK_EQ(c, n, b.n);
    memset(b.p + g->tensor[0].offset + 108, 0, 20); /* the sample's padding is not zero */
    CHECK(c, n == b.n && memcmp(again, b.p, n) == 0);
    if (f)
        fclose(f);
    unlink(path);
    nb_gguf_close(g);
    free(b.p);
}

static void abandoned(check *c)
{
    char path[512];
    nb_gguf_writer *w = NULL;
    nb_error err = {0};
    int index = 0;
    const nb_dtype *q4 = nb_dtype_by_name("q4_0"), *u8 = nb_dtype_by_name("u8");
    snprintf(path, sizeof path, "%s/unit-gone-%ld.gguf", NB_BINARY_DIR, (long)getpid());
    CHECK_EQ(c, nb_gguf_writer_open(path, &w, &err), NB_OK);
    if (!w || !q4)
        return;
    CHECK_EQ(c, nb_gguf_writer_tensor(w, "w", q4, 2, (const int64_t[]){2, 33}, &index, &err),
             NB_UNSUPPORTED);
    CHECK_HAS(c, err.message, "whole number of blocks");
    CHECK_EQ(c, nb_gguf_writer_tensor(w, "w", q4, 0, NULL, &index, &err), NB_UNSUPPORTED);
    CHECK_EQ(c, nb_gguf_writer_tensor(w, "", q4, 1, (const int64_t[]){32}, &index, &err),
             NB_UNSUPPORTED);
    CHECK_EQ(c, nb_gguf_writer_tensor(w, "w", q4, 2, (const int64_t[]){0, 32}, &index, &err),
             NB_UNSUPPORTED);
    if (u8)
        CHECK_EQ(c, nb_gguf_writer_tensor(w, "w", u8, 1, (const int64_t[]){32}, &index, &err),
                 NB_UNSUPPORTED);
    CHECK_EQ(c, nb_gguf_writer_tensor(w, "w", q4, 1, (const int64_t[]){32}, &index, &err), NB_OK);
    CHECK_EQ(c, nb_gguf_writer_tensor(w, "w", q4, 1, (const int64_t[]){32}, &index, &err), NB_OK);
    CHECK_EQ(c, nb_gguf_writer_commit(w, &err), NB_INTERNAL);
    CHECK_EQ(c, nb_gguf_writer_begin(w, &err), NB_INTERNAL);
    CHECK_HAS(c, err.message, "declared twice");
    nb_gguf_writer_close(w);
    nb_gguf_writer_close(NULL);
    CHECK(c, access(path, F_OK) != 0);
}

static void trailing(check *c)
{
    char path[512];
    nb_container *m = NULL;
    nb_error err = {0};
    bytes b = {0};
    put_sample_gguf(&b);
    put_pad(&b, 32);
    put_zeros(&b, 100);
    snprintf(path, sizeof path, "%s/unit-tail-%ld.gguf", NB_BINARY_DIR, (long)getpid());
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(b.p, 1, b.n, f) != b.n || fclose(f) != 0)
        exit(1);
    CHECK_EQ(c, nb_container_open(path, &m, &err), NB_OK);
    CHECK_HAS(c, m ? m->warning : NULL, ".gguf: 100 bytes behind the last tensor are ignored");
    nb_container_close(m);
    unlink(path);
    free(b.p);
}

static void real_models(check *c)
{
    static const char *const names[] = {
        "SmolLM2-135M-Instruct.Q4_1.gguf", "gemma-3-270m-q4_k_m.gguf",
        "vocab/ggml-vocab-llama-bpe.gguf", "vocab/ggml-vocab-llama-spm.gguf",
        "vocab/ggml-vocab-qwen2.gguf",     "vocab/ggml-vocab-gemma-4.gguf",
        "vocab/ggml-vocab-phi-3.gguf"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[1024];
        nb_container *m = NULL;
        nb_error err = {0};
        nb_str *tokens = NULL;
        size_t n = 0;
        if (!check_model(names[i], path, sizeof path)) {
            check_skip(c, "%s is not fetched", names[i]);
            continue;
        }
        const nb_status st = nb_container_open(path, &m, &err);
        CHECK_STR(c, err.message, "");
        CHECK_EQ(c, st, NB_OK);
        nb_arena *a = nb_arena_open("tokens", &err);
        if (m && a) {
            CHECK(c, m->warning == NULL);
            CHECK_EQ(c, nb_gguf_strings(m->gguf, "tokenizer.ggml.tokens", a, &tokens, &n, &err),
                     NB_OK);
            CHECK(c, n > 1000);
            CHECK(c, m->n_tensor == 0 || nb_container_find(m, "token_embd.weight"));
        }
        nb_arena_close(a);
        nb_container_close(m);
    }
}

static const check_case cases[] = {
    {"keys of every type, arrays, shapes and data are read", sample},
    {"what is written is read back, and only a complete file appears", round_trip},
    {"a file copied key by key has the same bytes", copy},
    {"an abandoned file leaves nothing, and what GGUF cannot hold is refused", abandoned},
    {"bytes behind the last tensor are warned of", trailing},
    {"published models are read", real_models},
};
CHECK_MAIN(cases)
