/* parts.c -- a model in several files is the model: tiny ones are cut into shards and parts, and
 * compute, quantize and list what they do whole. */
#include "check.h"
#include "cli/program.h"
#include "file/container.h"
#include "hostile/bytes.h"
#include "tiny_gguf.h"

#include <sys/stat.h>

static folder here;

static void add(char *text, size_t room, size_t *at, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
static void add(char *text, size_t room, size_t *at, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    *at += (size_t)vsnprintf(text + *at, room - *at, format, ap);
    va_end(ap);
    if (*at >= room)
        exit(1);
}

static void copy_file(const char *from, const char *to)
{
    char path[1024];
    static char p[1 << 20];
    snprintf(path, sizeof path, "%s/tests/data/models/tiny-llama/%s", NB_SOURCE_DIR, from);
    FILE *f = fopen(path, "rb");
    if (!f)
        exit(1);
    const size_t n = fread(p, 1, sizeof p, f);
    fclose(f);
    folder_write(&here, to, p, n);
}

/* sharded/: tiny-llama with every third tensor in the first shard, the others in the second. */
static void make_shards(void)
{
    static const char *const dtypes[] = {"F32", "F16", "BF16"};
    static char index[1 << 18], header[1 << 18];
    char path[1024];
    size_t at = 0, total = 0;
    nb_container *m = NULL;
    if (nb_container_open(NB_SOURCE_DIR "/tests/data/models/tiny-llama", &m, NULL) != NB_OK ||
        mkdir(folder_in(&here, "sharded", path), 0700) != 0)
        exit(1);
    add(index, sizeof index, &at, "{\"weight_map\":{");
    for (int shard = 0; shard < 2; shard++) {
        bytes b = {0};
        size_t h = 0, data = 0;
        add(header, sizeof header, &h, "{\"__metadata__\":{\"format\":\"pt\"}");
        for (int64_t i = 0; i < m->n_tensor; i++) {
            const nb_tensor *t = &m->tensor[i];
            const char *dtype = NULL;
            if ((i % 3 == 0) != (shard == 0))
                continue;
            for (size_t k = 0; k < 3; k++)
                if (nb_dtype_by_st_name(dtypes[k]) == t->dtype)
                    dtype = dtypes[k];
            if (!dtype)
                exit(1);
            add(header, sizeof header, &h, ",\"%s\":{\"dtype\":\"%s\",\"shape\":[", t->name, dtype);
            for (int d = 0; d < t->n_dim; d++)
                add(header, sizeof header, &h, "%s%lld", d ? "," : "", (long long)t->shape[d]);
            add(header, sizeof header, &h, "],\"data_offsets\":[%zu,%zu]}", data, data + t->bytes);
            add(index, sizeof index, &at, "%s\"%s\":\"model-0000%d-of-00002.safetensors\"",
                total ? "," : "", t->name, shard + 1);
            data += t->bytes;
            total += t->bytes;
        }
        add(header, sizeof header, &h, "}");
        put_u64(&b, h);
        put(&b, header, h);
        for (int64_t i = 0; i < m->n_tensor; i++)
            if ((i % 3 == 0) == (shard == 0))
                put(&b, m->tensor[i].data, m->tensor[i].bytes);
        folder_write(&here,
                     shard ? "sharded/model-00002-of-00002.safetensors"
                           : "sharded/model-00001-of-00002.safetensors",
                     b.p, b.n);
        free(b.p);
    }
    add(index, sizeof index, &at, "},\"metadata\":{\"total_size\":%zu}}", total);
    folder_write(&here, "sharded/model.safetensors.index.json", index, at);
    copy_file("config.json", "sharded/config.json");
    copy_file("tokenizer.json", "sharded/tokenizer.json");
    copy_file("tokenizer_config.json", "sharded/tokenizer_config.json");
    nb_container_close(m);
}

static nb_status write_part(const nb_container *m, const char *path, int no, int count)
{
    nb_gguf_writer *w = NULL;
    int index[64], n = 0;
    const int64_t first = m->n_tensor * no / count, end = m->n_tensor * (no + 1) / count;
    nb_status st = nb_gguf_writer_open(path, &w, NULL);
    for (int64_t i = 0; no == 0 && i < m->gguf->n_kv && st == NB_OK; i++)
        st = nb_gguf_writer_copy(w, &m->gguf->kv[i], NULL);
    if (st == NB_OK)
        st = nb_gguf_writer_u32(w, "split.no", (uint32_t)no, NULL);
    if (st == NB_OK)
        st = nb_gguf_writer_u32(w, "split.count", (uint32_t)count, NULL);
    if (st == NB_OK)
        st = nb_gguf_writer_u32(w, "split.tensors.count", (uint32_t)m->n_tensor, NULL);
    for (int64_t i = first; i < end && st == NB_OK; i++)
        st = nb_gguf_writer_tensor(w, m->tensor[i].name, m->tensor[i].dtype, m->tensor[i].n_dim,
                                   m->tensor[i].shape, &index[n++], NULL);
    if (st == NB_OK)
        st = nb_gguf_writer_begin(w, NULL);
    for (int64_t i = first; i < end && st == NB_OK; i++)
        st = nb_gguf_writer_data(w, index[i - first], 0, m->tensor[i].data, m->tensor[i].bytes,
                                 NULL);
    if (st == NB_OK)
        st = nb_gguf_writer_commit(w, NULL);
    nb_gguf_writer_close(w);
    return st;
}

static void make_split(void)
{
    static const tiny_shape shape = {
        .n_layer = 2, .hidden = 64, .ffn = 128, .n_head = 4, .n_kv_head = 2, .ctx = 256};
    char path[1024], name[64];
    nb_container *m = NULL;
    if (tiny_gguf_write(folder_in(&here, "whole.gguf", path), &shape, NULL) != NB_OK ||
        nb_container_open(path, &m, NULL) != NB_OK)
        exit(1);
    for (int i = 0; i < 3; i++) {
        snprintf(name, sizeof name, "cut-%05d-of-00003.gguf", i + 1);
        if (write_part(m, folder_in(&here, name, path), i, 3) != NB_OK)
            exit(1);
    }
    nb_container_close(m);
}

/* Both commands succeed and leave files with the same bytes. */
static void same(check *c, const char *one, const char *a, const char *other, const char *b)
{
    const char *const line[] = {one, other};
    size_t n = 0, m = 0;
    for (int i = 0; i < 2; i++) {
        outcome o = program_run(&here, line[i], OUT_CAPTURED);
        CHECK_EQ(c, o.code, 0);
        CHECK(c, !strstr(o.err, "nibble: "));
        program_free(&o);
    }
    char *p = folder_bytes(&here, a, &n), *q = folder_bytes(&here, b, &m);
    CHECK(c, n > 1000);
    CHECK(c, n == m && memcmp(p, q, n) == 0);
    free(p);
    free(q);
}

static void shards_compute(check *c)
{
    same(c, "run %M/tiny-llama --ids 1,70,80 -t 1 --exact --logits %T/a.npy", "a.npy",
         "run %T/sharded --ids 1,70,80 -t 1 --exact --logits %T/b.npy", "b.npy");
    same(c, "run %M/tiny-llama --ids 1,70,80 -t 1 --exact --logits %T/a.npy", "a.npy",
         "run %T/sharded/model-00002-of-00002.safetensors --ids 1,70,80 -t 1 --exact --logits "
         "%T/b.npy",
         "b.npy");
}

static void parts_compute(check *c)
{
    same(c, "run %T/whole.gguf --ids 1,70,80 -t 1 --logits %T/a.npy", "a.npy",
         "run %T/cut-00003-of-00003.gguf --ids 1,70,80 -t 1 --logits %T/b.npy", "b.npy");
}

static void parts_quantize(check *c)
{
    size_t n = 0;
    same(c, "quantize %T/whole.gguf -o %T/a.gguf --method rtn --grid q4_0 -t 1 -q", "a.gguf",
         "quantize %T/cut-00002-of-00003.gguf -o %T/b.gguf --method rtn --grid q4_0 -t 1 -q",
         "b.gguf");
    char *p = folder_bytes(&here, "b.gguf", &n);
    bool split = false;
    for (size_t i = 0; i + 9 < n; i++)
        split = split || memcmp(p + i, "split.no", 8) == 0;
    CHECK(c, !split); /* one file says nothing of parts */
    free(p);
}

/* What it generates has no text; the ids stand where the text would. */
static void ids_without_tokenizer(check *c)
{
    char path[1024];
    if (mkdir(folder_in(&here, "bare", path), 0700) != 0)
        exit(1);
    copy_file("config.json", "bare/config.json");
    copy_file("model.safetensors", "bare/model.safetensors");
    outcome o = program_run(&here, "run %T/bare --ids 1,70,80 -n 3 -t 1 --exact", OUT_CAPTURED);
    int id[3], n = 0;
    CHECK_EQ(c, o.code, 0);
    CHECK_EQ(c, sscanf(o.out, "%d,%d,%d%n", &id[0], &id[1], &id[2], &n), 3);
    CHECK_STR(c, o.out + n, "\n");
    program_free(&o);
}

static const check_case cases[] = {
    {"a model in shards computes what it computes whole", shards_compute},
    {"a model in parts computes what it computes whole", parts_compute},
    {"a model in parts is quantized into the same file", parts_quantize},
    {"a model without its tokenizer prints the ids", ids_without_tokenizer},
};

int main(int argc, char **argv)
{
    here = folder_new();
    make_shards();
    make_split();
    const int rc = check_main(cases, sizeof cases / sizeof *cases, argc, argv);
    folder_gone(&here);
    return rc;
}
