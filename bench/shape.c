/* shape.c -- writes a llama of a given shape with random weights: what a speed needs of a model,
 * where the model itself is not to be had.
 *
 *     shape OUT.gguf FORMAT n_layer hidden n_head n_kv_head intermediate vocab [layers that hold
 *         weights [n_expert n_expert_used]]
 *     shape smollm2.gguf q4_0 30 576 9 3 1536 49152
 *     shape llama-70b.gguf bf16 80 8192 64 8 28672 128256 2      the first two layers hold weights,
 *         the others are holes of the file: zeros that take no disk; with 0 the embedding is a hole
 *         too (enough for a plan)
 *     shape mixtral-8x7b.gguf bf16 32 4096 32 8 14336 32000 0 8 2
 *     shape llama-70b bf16 80 8192 64 8 28672 128256 2           a folder of safetensors, its
 *         shards with the same holes (shape_folder.c)
 *
 * Matrices are encoded from normals of deviation 1 / sqrt(K), so activations keep their size;
 * embedding in Q8_0, norms 1. Tokens are the 256 bytes, so that any text can be read, and t259,
 * t260, ... */
#include "base/memory.h"
#include "file/gguf.h"
#include "shape.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct plan {
    const char *suffix; /* of blk.N., or the whole name when per_layer is false */
    bool per_layer, norm;
    int64_t N, K;
    const char *format; /* NULL: the one asked for */
    int64_t n_expert;   /* stacked, 0: one matrix */
};

enum { kPlan = 12 };

static void plan_of(const shape *s, struct plan *p)
{
    const int64_t head = s->hidden / s->n_head, q = s->n_head * head, kv = s->n_kv_head * head;
    const int64_t E = s->n_expert;
    const struct plan rows[kPlan] = {
        {"token_embd.weight", false, false, s->vocab, s->hidden, "q8_0", 0},
        {"output_norm.weight", false, true, s->hidden, 1, "f32", 0},
        {"attn_norm.weight", true, true, s->hidden, 1, "f32", 0},
        {"attn_q.weight", true, false, q, s->hidden, NULL, 0},
        {"attn_k.weight", true, false, kv, s->hidden, NULL, 0},
        {"attn_v.weight", true, false, kv, s->hidden, NULL, 0},
        {"attn_output.weight", true, false, s->hidden, q, NULL, 0},
        {"ffn_norm.weight", true, true, s->hidden, 1, "f32", 0},
        {E ? "ffn_gate_exps.weight" : "ffn_gate.weight", true, false, s->inter, s->hidden, NULL, E},
        {E ? "ffn_up_exps.weight" : "ffn_up.weight", true, false, s->inter, s->hidden, NULL, E},
        {E ? "ffn_down_exps.weight" : "ffn_down.weight", true, false, s->hidden, s->inter, NULL, E},
        /* last: only mixtures have it */
        {"ffn_gate_inp.weight", true, false, E, s->hidden, "f32", 0}};
    memcpy(p, rows, sizeof rows);
}

static nb_status keys(nb_gguf_writer *w, const shape *s, nb_error *err)
{
    const struct {
        const char *key;
        int64_t v;
    } u32[] = {{"llama.block_count", s->n_layer},
               {"llama.context_length", 4096},
               {"llama.embedding_length", s->hidden},
               {"llama.feed_forward_length", s->inter},
               {"llama.attention.head_count", s->n_head},
               {"llama.attention.head_count_kv", s->n_kv_head},
               {"llama.rope.dimension_count", s->hidden / s->n_head},
               {"llama.vocab_size", s->vocab},
               {"tokenizer.ggml.bos_token_id", 1},
               {"tokenizer.ggml.eos_token_id", 2}};
    nb_status st = nb_gguf_writer_string(w, "general.architecture", "llama", 5, err);
    if (st == NB_OK && s->n_expert)
        st = nb_gguf_writer_u32(w, "llama.expert_count", (uint32_t)s->n_expert, err);
    if (st == NB_OK && s->n_expert)
        st = nb_gguf_writer_u32(w, "llama.expert_used_count", (uint32_t)s->n_used, err);
    for (size_t i = 0; i < sizeof u32 / sizeof *u32 && st == NB_OK; i++)
        st = nb_gguf_writer_u32(w, u32[i].key, (uint32_t)u32[i].v, err);
    if (st == NB_OK)
        st = nb_gguf_writer_f32(w, "llama.attention.layer_norm_rms_epsilon", 1e-5f, err);
    if (st == NB_OK)
        st = nb_gguf_writer_string(w, "tokenizer.ggml.model", "llama", 5, err);
    const size_t n = (size_t)s->vocab;
    nb_str *name = nb_alloc(n, sizeof *name, "names", err);
    char *text = nb_alloc(n, 16, "names", err);
    float *score = nb_alloc_zero(n, sizeof *score, "scores", err);
    int32_t *type = nb_alloc(n, sizeof *type, "types", err);
    if (!name || !text || !score || !type)
        st = NB_NO_ROOM;
    for (size_t i = 0; i < n && st == NB_OK; i++) {
        const bool byte = i >= 3 && i < 3 + 256;
        if (byte)
            snprintf(text + 16 * i, 16, "<0x%02zX>", i - 3);
        else
            snprintf(text + 16 * i, 16, i < 3 ? "<%zu>" : "t%zu", i);
        name[i] = (nb_str){text + 16 * i, strlen(text + 16 * i)};
        type[i] = i == 0 ? 2 : i < 3 ? 3 : byte ? 6 : 1; /* unknown, control, byte, normal */
        score[i] = -(float)i;
    }
    if (st == NB_OK)
        st = nb_gguf_writer_strings(w, "tokenizer.ggml.tokens", name, n, err);
    if (st == NB_OK)
        st = nb_gguf_writer_f32s(w, "tokenizer.ggml.scores", score, n, err);
    if (st == NB_OK)
        st = nb_gguf_writer_i32s(w, "tokenizer.ggml.token_type", type, n, err);
    free(name);
    free(text);
    free(score);
    free(type);
    return st;
}

/* Roughly normal, mean 0, variance 1: the sum of the eight bytes of one draw, 8 (256^2 - 1) / 12
 * being its variance. nb_rng_normal takes twelve draws, minutes of an 8B model. */
static float normal(nb_rng *r)
{
    const uint64_t even = 0x00ff00ff00ff00ffull, bits = nb_rng_u64(r);
    const uint64_t pairs = (bits & even) + (bits >> 8 & even);
    return ((float)(pairs * 0x0001000100010001ull >> 48) - 1020.0f) * (1.0f / 209.02153f);
}

void shape_row(const nb_dtype *t, int64_t K, bool norm, nb_rng *r, float *row, uint8_t *out)
{
    const float dev = 1.0f / sqrtf((float)K);
    for (int64_t k = 0; k < K; k++)
        row[k] = norm ? 1.0f : dev * normal(r);
    t->encode(row, out, K / t->block);
}

static nb_status fill(nb_gguf_writer *w, int index, const struct plan *p, const nb_dtype *t,
                      nb_rng *r, nb_error *err)
{
    const int64_t K = p->norm ? p->N : p->K,
                  N = p->norm ? 1 : p->N * (p->n_expert ? p->n_expert : 1),
                  bytes = nb_dtype_row_bytes(t, K);
    float *row = nb_alloc((size_t)K, sizeof *row, "a row", err);
    uint8_t *out = nb_alloc((size_t)bytes, 1, "a row", err);
    nb_status st = row && out ? NB_OK : NB_NO_ROOM;
    for (int64_t n = 0; n < N && st == NB_OK; n++) {
        shape_row(t, K, p->norm, r, row, out);
        st = nb_gguf_writer_data(w, index, (size_t)(n * bytes), out, (size_t)bytes, err);
    }
    free(row);
    free(out);
    return st;
}

static bool is_hole(const shape *s, int64_t layer, const struct plan *p)
{
    return !p->norm && layer >= (s->filled ? s->filled : -1);
}

static nb_status write_all(const char *path, const char *format, const shape *s, nb_error *err)
{
    struct plan plan[kPlan];
    nb_gguf_writer *w = NULL;
    nb_rng r;
    nb_rng_seed(&r, 1);
    plan_of(s, plan);
    nb_status st = nb_gguf_writer_open(path, &w, err);
    if (st == NB_OK)
        st = keys(w, s, err);
    size_t holes = 0;
    for (int pass = 0; pass < 2; pass++) { /* declare, then fill */
        int index = 0;
        for (int64_t l = -1; l < s->n_layer; l++)
            for (int i = 0; i < (s->n_expert ? kPlan : kPlan - 1) && st == NB_OK; i++) {
                const struct plan *p = &plan[i];
                const nb_dtype *t = nb_dtype_by_name(p->format ? p->format : format);
                const int64_t E = p->n_expert ? p->n_expert : 1,
                              dims[3] = {p->n_expert ? E : p->N, p->n_expert ? p->N : p->K, p->K};
                char name[64];
                if (p->per_layer != (l >= 0))
                    continue;
                if (!t || !t->encode || (!p->norm && p->K % t->block)) {
                    st = nb_fail(err, NB_USAGE, "%s cannot be written in rows of %lld",
                                 p->format ? p->format : format, (long long)p->K);
                    break;
                }
                if (l >= 0)
                    snprintf(name, sizeof name, "blk.%lld.%s", (long long)l, p->suffix);
                else
                    snprintf(name, sizeof name, "%s", p->suffix);
                if (pass == 0) {
                    st = nb_gguf_writer_tensor(w, name, t,
                                               p->norm       ? 1
                                               : p->n_expert ? 3
                                                             : 2,
                                               dims, &index, err);
                    holes +=
                        is_hole(s, l, p) ? (size_t)(E * p->N * nb_dtype_row_bytes(t, p->K)) : 0;
                } else if (is_hole(s, l, p))
                    nb_gguf_writer_mark(w, index++);
                else
                    st = fill(w, index++, p, t, &r, err);
            }
        nb_gguf_writer_set_holes(w, holes);
        if (pass == 0 && st == NB_OK)
            st = nb_gguf_writer_begin(w, err);
    }
    if (st == NB_OK)
        st = nb_gguf_writer_commit(w, err);
    nb_gguf_writer_close(w);
    return st;
}

int main(int argc, char **argv)
{
    nb_error err = {.message = ""};
    if (argc != 9 && argc != 10 && argc != 12) {
        fprintf(stderr, "usage: shape OUT.gguf|FOLDER FORMAT n_layer hidden n_head n_kv_head "
                        "intermediate vocab "
                        "[layers that hold weights [n_expert n_expert_used]]\n");
        return NB_USAGE;
    }
    int64_t v[6];
    for (int i = 0; i < 6; i++) {
        v[i] = atoll(argv[3 + i]);
        if (v[i] < 1 || v[i] > 1000000) {
            fprintf(stderr, "shape: %s is no size\n", argv[3 + i]);
            return NB_USAGE;
        }
    }
    const shape s = {v[0],
                     v[1],
                     v[2],
                     v[3],
                     v[4],
                     v[5],
                     argc >= 10 ? atoll(argv[9]) : v[0],
                     argc == 12 ? atoll(argv[10]) : 0,
                     argc == 12 ? atoll(argv[11]) : 0};
    const size_t n = strlen(argv[1]);
    const bool gguf = n > 5 && strcmp(argv[1] + n - 5, ".gguf") == 0;
    const nb_status st = gguf ? write_all(argv[1], argv[2], &s, &err)
                              : shape_folder_write(argv[1], argv[2], &s, &err);
    if (st != NB_OK)
        fprintf(stderr, "shape: %s\n", err.message);
    return (int)st;
}
