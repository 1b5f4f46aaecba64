/* shape_folder.c -- the same shape as a folder in the hub's layout: Llama, or Mixtral with experts;
 * shards of about 5 GB with their index, config.json, and a tokenizer of the 256 bytes. Norms come
 * first, then matrices, whose data begin at blocks of the file system, so that a layer without
 * weights is a hole to the byte. */
#include "base/memory.h"
#include "base/text.h"
#include "shape.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { kBlock = 4096, kName = 96 };
static const int64_t shard_bytes = 5000000000;

typedef struct tensor {
    char name[kName];
    bool norm, hole;
    int64_t N, K, shard, at, bytes; /* norm: K numbers; at: from the data's start */
} tensor;

typedef struct folder {
    const char *path;
    const nb_dtype *type;
    const shape *s;
    tensor *t; /* [n] */
    int64_t n, n_shard, total;
} folder;

/* ---- which tensors ---- */

static void add(folder *f, bool hole, bool norm, int64_t N, int64_t K, const char *format,
                int64_t layer, int64_t expert)
{
    tensor *t = &f->t[f->n++];
    *t = (tensor){.norm = norm, .hole = hole && !norm, .N = norm ? 1 : N, .K = K};
    t->bytes = t->N * nb_dtype_row_bytes(f->type, K);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    snprintf(t->name, sizeof t->name, format, (int)layer, (int)expert); /* of the table below */
#pragma GCC diagnostic pop
    tensor *before = f->n > 1 ? t - 1 : NULL;
    t->shard = before ? before->shard : 0;
    t->at = before ? before->at + before->bytes : 0;
    if (before && !norm && t->at + t->bytes > shard_bytes) {
        t->shard++;
        t->at = 0;
    }
    f->n_shard = t->shard + 1;
    f->total += t->bytes;
}

#define LAYER "model.layers.%d."
static nb_status list(folder *f, nb_error *err)
{
    const shape *s = f->s;
    const int64_t head = s->hidden / s->n_head, q = s->n_head * head, kv = s->n_kv_head * head,
                  E = s->n_expert, d = s->hidden;
    const struct {
        const char *name;
        int64_t N, K;
    } attention[] = {{LAYER "self_attn.q_proj.weight", q, d},
                     {LAYER "self_attn.k_proj.weight", kv, d},
                     {LAYER "self_attn.v_proj.weight", kv, d},
                     {LAYER "self_attn.o_proj.weight", d, q}},
      ffn[] = {{E ? LAYER "block_sparse_moe.experts.%d.w1.weight" : LAYER "mlp.gate_proj.weight",
                s->inter, d},
               {E ? LAYER "block_sparse_moe.experts.%d.w3.weight" : LAYER "mlp.up_proj.weight",
                s->inter, d},
               {E ? LAYER "block_sparse_moe.experts.%d.w2.weight" : LAYER "mlp.down_proj.weight", d,
                s->inter}};
    f->t = nb_alloc_zero((size_t)(s->n_layer * (7 + 3 * (E ? E : 1)) + 2), sizeof *f->t,
                         "a list of tensors", err);
    if (!f->t)
        return NB_NO_ROOM;
    add(f, false, true, 1, d, "model.norm.weight", 0, 0);
    for (int64_t l = 0; l < s->n_layer; l++) {
        add(f, false, true, 1, d, LAYER "input_layernorm.weight", l, 0);
        add(f, false, true, 1, d, LAYER "post_attention_layernorm.weight", l, 0);
    }
    add(f, !s->filled, false, s->vocab, d, "model.embed_tokens.weight", 0, 0);
    for (int64_t l = 0; l < s->n_layer; l++) {
        const bool hole = l >= s->filled;
        for (int i = 0; i < 4; i++)
            add(f, hole, false, attention[i].N, attention[i].K, attention[i].name, l, 0);
        for (int64_t e = 0; e < (E ? E : 1); e++)
            for (int i = 0; i < 3; i++)
                add(f, hole, false, ffn[i].N, ffn[i].K, ffn[i].name, l, e);
        if (E)
            add(f, hole, false, E, d, LAYER "block_sparse_moe.gate.weight", l, 0);
    }
    return NB_OK;
}

/* ---- files ---- */

static void shard_name(const folder *f, int64_t shard, char name[kName])
{
    snprintf(name, kName, "model-%05d-of-%05d.safetensors", (int)shard + 1, (int)f->n_shard);
}

static nb_status open_in(const folder *f, const char *name, int *fd, nb_error *err)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", f->path, name);
    *fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    return *fd >= 0 ? NB_OK : nb_fail_errno_at(err, path, "cannot create");
}

static nb_status put_at(int fd, const void *p, int64_t n, int64_t at, const char *name,
                        nb_error *err)
{
    for (const char *from = p; n;) {
        const ssize_t done = pwrite(fd, from, (size_t)n, (off_t)at);
        if (done <= 0 && errno != EINTR)
            return nb_fail_errno_at(err, name, "cannot write");
        from += done > 0 ? done : 0;
        at += done > 0 ? done : 0;
        n -= done > 0 ? done : 0;
    }
    return NB_OK;
}

static nb_status write_text(const folder *f, const char *name, nb_text *text, nb_error *err)
{
    int fd = -1;
    nb_status st = nb_text_check(text, name, err);
    if (st == NB_OK)
        st = open_in(f, name, &fd, err);
    if (st == NB_OK)
        st = put_at(fd, text->p, (int64_t)text->n, 0, name, err);
    if (fd >= 0)
        close(fd);
    nb_text_free(text);
    return st;
}

/* The length, then the header, then spaces up to a block. */
static void header(const folder *f, int64_t shard, nb_text *o)
{
    nb_text_add(o, "\0\0\0\0\0\0\0\0", 8);
    nb_text_puts(o, "{\"__metadata__\":{\"format\":\"pt\"}");
    for (int64_t i = 0; i < f->n; i++) {
        const tensor *t = &f->t[i];
        if (t->shard != shard)
            continue;
        nb_text_printf(o, ",\"%s\":{\"dtype\":\"%s\",\"shape\":[", t->name, f->type->st_name);
        if (!t->norm)
            nb_text_printf(o, "%lld,", (long long)t->N);
        nb_text_printf(o, "%lld],\"data_offsets\":[%lld,%lld]}", (long long)t->K, (long long)t->at,
                       (long long)(t->at + t->bytes));
    }
    nb_text_puts(o, "}");
    while (!o->failed && o->n % kBlock)
        nb_text_puts(o, " ");
    if (!o->failed) {
        const uint64_t n = o->n - 8;
        memcpy(o->p, &n, sizeof n);
    }
}

static nb_status fill(const folder *f, const tensor *t, int fd, int64_t at, nb_rng *r,
                      nb_error *err)
{
    enum { kRows = 64 };
    const int64_t bytes = nb_dtype_row_bytes(f->type, t->K);
    float *row = nb_alloc((size_t)t->K, sizeof *row, "a row", err);
    uint8_t *out = nb_alloc(kRows, (size_t)bytes, "rows", err);
    nb_status st = row && out ? NB_OK : NB_NO_ROOM;
    for (int64_t n = 0; n < t->N && st == NB_OK; n += kRows) {
        const int64_t rows = t->N - n < kRows ? t->N - n : kRows;
        for (int64_t i = 0; i < rows; i++)
            shape_row(f->type, t->K, t->norm, r, row, out + i * bytes);
        st = put_at(fd, out, rows * bytes, at + n * bytes, t->name, err);
    }
    free(row);
    free(out);
    return st;
}

static nb_status write_shard(const folder *f, int64_t shard, nb_rng *r, nb_error *err)
{
    char name[kName];
    int fd = -1;
    int64_t end = 0;
    nb_text head = {0};
    shard_name(f, shard, name);
    header(f, shard, &head);
    nb_status st = nb_text_check(&head, name, err);
    if (st == NB_OK)
        st = open_in(f, name, &fd, err);
    if (st == NB_OK)
        st = put_at(fd, head.p, (int64_t)head.n, 0, name, err);
    for (int64_t i = 0; i < f->n && st == NB_OK; i++) {
        const tensor *t = &f->t[i];
        if (t->shard != shard)
            continue;
        end = (int64_t)head.n + t->at + t->bytes;
        st = t->hole ? NB_OK : fill(f, t, fd, (int64_t)head.n + t->at, r, err);
    }
    if (st == NB_OK && ftruncate(fd, (off_t)end) != 0)
        st = nb_fail_errno_at(err, name, "cannot be made %lld bytes long", (long long)end);
    if (fd >= 0 && close(fd) != 0 && st == NB_OK)
        st = nb_fail_errno_at(err, name, "cannot write");
    nb_text_free(&head);
    return st;
}

/* ---- texts ---- */

static nb_status write_index(const folder *f, nb_error *err)
{
    nb_text o = {0};
    char name[kName];
    nb_text_printf(&o, "{\"metadata\":{\"total_size\":%lld},\"weight_map\":{", (long long)f->total);
    for (int64_t i = 0; i < f->n; i++) {
        shard_name(f, f->t[i].shard, name);
        nb_text_printf(&o, "%s\n\"%s\":\"%s\"", i ? "," : "", f->t[i].name, name);
    }
    nb_text_puts(&o, "}}\n");
    return write_text(f, "model.safetensors.index.json", &o, err);
}

static nb_status write_config(const folder *f, nb_error *err)
{
    const shape *s = f->s;
    nb_text o = {0};
    nb_text_printf(&o,
                   "{\"architectures\":[\"%s\"],\"model_type\":\"%s\",\"hidden_size\":%lld,"
                   "\"intermediate_size\":%lld,\"num_hidden_layers\":%lld,"
                   "\"num_attention_heads\":%lld,\"num_key_value_heads\":%lld,\"head_dim\":%lld,"
                   "\"vocab_size\":%lld,",
                   s->n_expert ? "MixtralForCausalLM" : "LlamaForCausalLM",
                   s->n_expert ? "mixtral" : "llama", (long long)s->hidden, (long long)s->inter,
                   (long long)s->n_layer, (long long)s->n_head, (long long)s->n_kv_head,
                   (long long)(s->hidden / s->n_head), (long long)s->vocab);
    if (s->n_expert)
        nb_text_printf(&o, "\"num_local_experts\":%lld,\"num_experts_per_tok\":%lld,",
                       (long long)s->n_expert, (long long)s->n_used);
    nb_text_puts(&o, "\"hidden_act\":\"silu\",\"max_position_embeddings\":4096,\"rms_norm_eps\":1e-"
                     "05,\"rope_theta\":10000.0,"
                     "\"tie_word_embeddings\":true,\"torch_dtype\":");
    nb_text_printf(&o, "\"%s\"}\n",
                   strcmp(f->type->name, "bf16") == 0  ? "bfloat16"
                   : strcmp(f->type->name, "f16") == 0 ? "float16"
                                                       : "float32");
    return write_text(f, "config.json", &o, err);
}

/* The character that stands for a byte: itself where it prints, else one of those from U+0100 on,
 * in order. */
static int byte_character(int byte)
{
    int from = 256;
    for (int b = 0; b < 256; b++) {
        const bool prints = (b >= '!' && b <= '~') || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
        if (b == byte)
            return prints ? b : from;
        from += !prints;
    }
    return byte;
}

/* As many tokens as there are rows for: bytes, no merges. */
static nb_status write_tokenizer(const folder *f, nb_error *err)
{
    nb_text o = {0};
    nb_text_puts(&o, "{\"version\":\"1.0\",\"added_tokens\":[],\"normalizer\":null,\"pre_"
                     "tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false,"
                     "\"trim_offsets\":true,\"use_regex\":true},\"post_processor\":null,"
                     "\"decoder\":{\"type\":\"ByteLevel\"},\"model\":{\"type\":\"BPE\","
                     "\"dropout\":null,\"unk_token\":null,\"continuing_subword_prefix\":null,\"end_"
                     "of_word_suffix\":null,\"fuse_unk\":false,"
                     "\"byte_fallback\":false,\"vocab\":{");
    for (int b = 0; b < 256; b++) {
        const int c = byte_character(b);
        const char utf8[3] = {(char)(c < 0x80 ? c : 0xc0 | c >> 6),
                              (char)(c < 0x80 ? 0 : 0x80 | (c & 63)), 0};
        nb_text_puts(&o, b ? "," : "");
        nb_text_json(&o, utf8, strlen(utf8));
        nb_text_printf(&o, ":%d", b);
    }
    nb_text_puts(&o, "},\"merges\":[]}}\n");
    return write_text(f, "tokenizer.json", &o, err);
}

nb_status shape_folder_write(const char *path, const char *format, const shape *s, nb_error *err)
{
    folder f = {.path = path, .type = nb_dtype_by_name(format), .s = s};
    nb_rng r;
    nb_rng_seed(&r, 1);
    if (!f.type || !f.type->st_name || !f.type->encode || f.type->block != 1 || s->vocab < 256)
        return nb_fail(err, NB_USAGE, "a folder holds f32, f16 or bf16, and 256 tokens or more");
    if (mkdir(path, 0777) != 0 && errno != EEXIST)
        return nb_fail_errno_at(err, path, "cannot create");
    nb_status st = list(&f, err);
    for (int64_t i = 0; i < f.n_shard && st == NB_OK; i++)
        st = write_shard(&f, i, &r, err);
    if (st == NB_OK)
        st = write_index(&f, err);
    if (st == NB_OK)
        st = write_config(&f, err);
    if (st == NB_OK)
        st = write_tokenizer(&f, err);
    free(f.t);
    return st;
}
