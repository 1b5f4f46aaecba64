/* st_index.c -- fuzz target: an index of shards that is accepted names plain files only, each once,
 * and holds what it lists and nothing else. */
#include "file/parts.h"
#include "fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

static const char *name_at(const void *items, size_t i, size_t *n)
{
    const char *s = ((const nb_tensor *)items)[i].name;
    *n = strlen(s);
    return s;
}

/* What an index says of n tensors, which are as it has them but for the last `missing`. */
static nb_status hold(const nb_shard_index *x, const nb_tensor *t, int64_t n, nb_error *err)
{
    nb_hash_key key = {{1, 2}};
    nb_text warning = {0};
    nb_names *names = nb_names_open((size_t)n, &key, name_at, err);
    if (!names)
        return NB_NO_ROOM;
    for (int64_t i = 0; i < n; i++)
        FUZZ_PROMISE(nb_names_add(names, t, (size_t)i), "a tensor is listed once");
    const nb_status st = nb_shard_index_hold(x, "fuzz", t, n, names, &warning, err);
    nb_names_close(names);
    nb_text_free(&warning);
    return st;
}

/* The tensors that the index lists, as if its shards held them. A name with a NUL in it cannot be a
 * tensor's. */
static void against_itself(const nb_shard_index *x)
{
    int64_t n = 0;
    bool nul = false;
    nb_error err = {0};
    nb_tensor *t = calloc(nb_json_count(x->map) + 1, sizeof *t);
    if (!t)
        return;
    for (const nb_json_node *v = nb_json_first(x->map); v; v = nb_json_next(v), n++) {
        size_t key_n = 0;
        const char *file = NULL;
        t[n].name = nb_json_key(v, &key_n);
        nul = nul || strlen(t[n].name) != key_n;
        FUZZ_PROMISE(nb_json_string(v, &file, NULL) && nb_shard_index_lists(x, file),
                     "every file is listed");
        for (int64_t k = 0; k < x->n_file; k++)
            if (strcmp(x->file[k], file) == 0)
                t[n].part = (int32_t)k;
    }
    if (!nul) {
        FUZZ_PROMISE(hold(x, t, n, &err) == NB_OK, "what is as the index says is accepted");
        t[n - 1].part += x->n_file > 1 ? (t[n - 1].part ? -1 : 1) : 0;
        if (x->n_file > 1)
            FUZZ_PROMISE(hold(x, t, n, &err) == NB_BAD_INPUT && err.message[0],
                         "a tensor in another file is seen");
    }
    free(t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    nb_shard_index *x = NULL;
    nb_error err = {0};
    const nb_status st = nb_shard_index_parse("fuzz", (const char *)data, size, &x, &err);
    FUZZ_PROMISE((st == NB_OK) == (x != NULL), "an index or a refusal");
    if (!x) {
        FUZZ_PROMISE((st == NB_BAD_INPUT || st == NB_UNSUPPORTED) && err.message[0],
                     "a refusal is the file's fault");
        return 0;
    }
    FUZZ_PROMISE(x->n_file >= 1 && x->n_file <= (int64_t)nb_json_count(x->map),
                 "at least one file");
    for (int64_t i = 0; i < x->n_file; i++) {
        const char *f = x->file[i];
        FUZZ_PROMISE(*f && *f != '.' && strlen(f) <= 255 && !strpbrk(f, "/\\\n\r\x1b"),
                     "a plain name");
        FUZZ_PROMISE(nb_ends_with(f, ".safetensors"), "of a safetensors file");
        FUZZ_PROMISE(i == 0 || strcmp(x->file[i - 1], f) < 0, "each once, in order");
    }
    against_itself(x);
    nb_shard_index_close(x);
    return 0;
}
