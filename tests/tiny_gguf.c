/* tiny_gguf.c -- see tiny_gguf.h. */
#include "tiny_gguf.h"
#include "base/random.h"
#include "file/gguf.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct made {
    nb_gguf_writer *w;
    nb_status st;
    nb_error *err;
    nb_rng rng;
} made;

/* ---- the vocabulary ---- */

static void vocabulary(made *m)
{
    enum { kNormal = 1, kUnknown = 2, kControl = 3, kByte = 6 };
    static char text[TINY_VOCAB][8];
    nb_str token[TINY_VOCAB];
    int32_t type[TINY_VOCAB];
    float score[TINY_VOCAB];
    for (int i = 0; i < TINY_VOCAB; i++) {
        type[i] = i < 1 ? kUnknown : i < 3 ? kControl : i < 259 ? kByte : kNormal;
        score[i] = i < 259 ? 0.0f : (float)-i;
        if (i < 3)
            snprintf(text[i], sizeof text[i], "%s", i == 0 ? "<unk>" : i == 1 ? "<s>" : "</s>");
        else if (i < 259)
            snprintf(text[i], sizeof text[i], "<0x%02X>", (unsigned)(i - 3) & 255u);
        else if (i == 259)
            snprintf(text[i], sizeof text[i], "\xe2\x96\x81");
        else if (i < 286)
            snprintf(text[i], sizeof text[i], "%c", 'a' + i - 260);
        else
            snprintf(text[i], sizeof text[i], "%s", i == 286 ? "th" : "he");
        token[i] = (nb_str){text[i], strlen(text[i])};
    }
    if (m->st == NB_OK)
        m->st = nb_gguf_writer_string(m->w, "tokenizer.ggml.model", "llama", 5, m->err);
    if (m->st == NB_OK)
        m->st = nb_gguf_writer_strings(m->w, "tokenizer.ggml.tokens", token, TINY_VOCAB, m->err);
    if (m->st == NB_OK)
        m->st = nb_gguf_writer_f32s(m->w, "tokenizer.ggml.scores", score, TINY_VOCAB, m->err);
    if (m->st == NB_OK)
        m->st = nb_gguf_writer_i32s(m->w, "tokenizer.ggml.token_type", type, TINY_VOCAB, m->err);
}

static void number(made *m, const char *key, int v)
{
    if (m->st == NB_OK)
        m->st = nb_gguf_writer_u32(m->w, key, (uint32_t)v, m->err);
}

static void keys(made *m, const tiny_shape *s)
{
    if (m->st == NB_OK)
        m->st = nb_gguf_writer_string(m->w, "general.architecture", "llama", 5, m->err);
    number(m, "llama.block_count", s->n_layer);
    number(m, "llama.context_length", s->ctx);
    number(m, "llama.embedding_length", s->hidden);
    number(m, "llama.feed_forward_length", s->ffn);
    number(m, "llama.attention.head_count", s->n_head);
    number(m, "llama.attention.head_count_kv", s->n_kv_head);
    if (m->st == NB_OK)
        m->st = nb_gguf_writer_f32(m->w, "llama.attention.layer_norm_rms_epsilon", 1e-5f, m->err);
    vocabulary(m);
    number(m, "tokenizer.ggml.bos_token_id", 1);
    number(m, "tokenizer.ggml.eos_token_id", 2);
    number(m, "tokenizer.ggml.unknown_token_id", 0);
}

/* ---- the tensors ---- */

/* Declares tensor [N,K] (N = 0: a vector of K), or writes its data when it was declared. */
static void tensor(made *m, const char *name, int N, int K, int *next, bool data)
{
    const nb_dtype *t = nb_dtype_by_name(N ? "f16" : "f32");
    const int64_t shape[2] = {N ? N : K, K}, n = (int64_t)(N ? N : 1) * K;
    int index = 0;
    if (m->st != NB_OK)
        return;
    if (!data) {
        m->st = nb_gguf_writer_tensor(m->w, name, t, N ? 2 : 1, shape, &index, m->err);
        return;
    }
    float *f = malloc((size_t)n * sizeof *f);
    uint8_t *q = malloc((size_t)(n / t->block * t->bytes));
    if (f && q) {
        for (int64_t i = 0; i < n; i++)
            f[i] =
                N ? nb_rng_normal(&m->rng) / sqrtf((float)K) : 1.0f + 0.1f * nb_rng_normal(&m->rng);
        t->encode(f, q, n / t->block);
        m->st = nb_gguf_writer_data(m->w, *next, 0, q, (size_t)(n / t->block * t->bytes), m->err);
    } else
        m->st = nb_fail(m->err, NB_NO_ROOM, "out of memory for %s", name);
    ++*next;
    free(f);
    free(q);
}

static void tensors(made *m, const tiny_shape *s, bool data)
{
    const int head = s->hidden / s->n_head, kv = head * s->n_kv_head;
    const struct {
        const char *name;
        int N, K;
    } row[] = {{"attn_norm", 0, s->hidden},
               {"attn_q", s->hidden, s->hidden},
               {"attn_k", kv, s->hidden},
               {"attn_v", kv, s->hidden},
               {"attn_output", s->hidden, s->hidden},
               {"ffn_norm", 0, s->hidden},
               {"ffn_gate", s->ffn, s->hidden},
               {"ffn_up", s->ffn, s->hidden},
               {"ffn_down", s->hidden, s->ffn}};
    int next = 0;
    char name[64];
    tensor(m, "token_embd.weight", TINY_VOCAB, s->hidden, &next, data);
    for (int l = 0; l < s->n_layer; l++)
        for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
            snprintf(name, sizeof name, "blk.%d.%s.weight", l, row[i].name);
            tensor(m, name, row[i].N, row[i].K, &next, data);
        }
    tensor(m, "output_norm.weight", 0, s->hidden, &next, data);
    tensor(m, "output.weight", TINY_VOCAB, s->hidden, &next, data);
}

nb_status tiny_gguf_write(const char *path, const tiny_shape *s, nb_error *err)
{
    made m = {.err = err};
    nb_rng_seed(&m.rng, 1);
    m.st = nb_gguf_writer_open(path, &m.w, err);
    keys(&m, s);
    tensors(&m, s, false);
    if (m.st == NB_OK)
        m.st = nb_gguf_writer_begin(m.w, err);
    tensors(&m, s, true);
    if (m.st == NB_OK)
        m.st = nb_gguf_writer_commit(m.w, err);
    nb_gguf_writer_close(m.w);
    return m.st;
}

void tiny_gguf_in(const folder *d, const char *name, const tiny_shape *s)
{
    char path[1024];
    nb_error err = {.offset = -1};
    if (tiny_gguf_write(folder_in(d, name, path), s, &err) == NB_OK)
        return;
    fprintf(stderr, "%s\n", err.message);
    exit(1);
}
