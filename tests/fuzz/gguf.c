/* gguf.c -- fuzz target: what is accepted has every tensor inside the file, and every key survives
 * every typed read. */
#include "file/gguf.h"
#include "fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

static volatile uint8_t touched;

static void touch(const void *p, size_t n)
{
    uint8_t sum = touched;
    for (size_t i = 0; i < n; i++)
        sum = (uint8_t)(sum + ((const uint8_t *)p)[i]);
    touched = sum;
}

static void read_key(const nb_gguf *g, const nb_gguf_kv *kv, nb_arena *a)
{
    nb_error err = {0};
    nb_str s = {0}, *strings = NULL;
    uint32_t u = 0;
    float f = 0, *f32s = NULL;
    bool yes = false;
    int32_t *i32s = NULL;
    size_t n = 0;
    char *key = nb_arena_strdup(a, kv->key.p, kv->key.n, &err);
    if (!key)
        return;
    FUZZ_PROMISE(nb_gguf_find(g, key) == kv, "a key is found");
    touch(kv->p, kv->bytes);
    int ok = nb_gguf_u32(g, key, &u, &err) == NB_OK;
    ok += nb_gguf_f32(g, key, &f, &err) == NB_OK;
    ok += nb_gguf_bool(g, key, &yes, &err) == NB_OK;
    if (nb_gguf_string(g, key, &s, &err) == NB_OK) {
        touch(s.p, s.n);
        ok++;
    }
    if (nb_gguf_strings(g, key, a, &strings, &n, &err) == NB_OK) {
        for (size_t i = 0; i < n; i++)
            touch(strings[i].p, strings[i].n);
        ok++;
    }
    if (nb_gguf_i32s(g, key, a, &i32s, &n, &err) == NB_OK) {
        touch(i32s, n * sizeof *i32s);
        ok++;
    }
    if (nb_gguf_f32s(g, key, a, &f32s, &n, &err) == NB_OK) {
        touch(f32s, n * sizeof *f32s);
        ok++;
    }
    FUZZ_PROMISE(ok <= 1, "a key has one type");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    nb_gguf *g = NULL;
    nb_error err = {0};
    const nb_status st = nb_gguf_parse("fuzz", data, size, &g, &err);
    FUZZ_PROMISE((st == NB_OK) == (g != NULL), "a directory or a refusal");
    if (!g) {
        FUZZ_PROMISE((st == NB_BAD_INPUT || st == NB_UNSUPPORTED) && err.message[0],
                     "a refusal is the file's fault");
        return 0;
    }
    nb_arena *a = nb_arena_open("fuzz", &err);
    for (int64_t i = 0; a && i < g->n_kv; i++)
        read_key(g, &g->kv[i], a);
    uint64_t end = 0;
    for (int64_t i = 0; i < g->n_tensor; i++) {
        const nb_tensor *t = &g->tensor[i];
        FUZZ_PROMISE(t->offset <= size && t->bytes <= size - t->offset, "a range");
        FUZZ_PROMISE(t->data == data + t->offset && t->offset >= end, "no overlap");
        FUZZ_PROMISE(strlen(t->name) > 0 && t->dtype && t->n_dim >= 1, "a name, type and shape");
        end = t->offset + t->bytes;
        touch(t->data, t->bytes);
    }
    FUZZ_PROMISE(g->end <= size && end <= g->end, "the end is inside the file");
    nb_arena_close(a);
    nb_gguf_close(g);
    return 0;
}
