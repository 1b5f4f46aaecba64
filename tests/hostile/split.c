/* split.c -- GGUF models in several files: complete ones open from any part, everything else is
 * refused by name. */
#include "check.h"
#include "file/container.h"
#include "hostile/bytes.h"
#include "hostile/folder.h"

typedef struct part {
    uint32_t no, count;  /* its keys */
    const char *arch;    /* NULL: no such key */
    const char *tensors; /* one F32 value each, named by the letters */
    int64_t total;       /* split.tensors.count; -1: no such key */
} part;

static void put_part(bytes *b, const part *p)
{
    const uint64_t n = strlen(p->tensors);
    put_head(b, 3, n, 2u + (p->arch != NULL) + (p->total >= 0));
    if (p->arch) {
        put_key(b, "general.architecture", NB_GGUF_STRING);
        put_str(b, p->arch);
    }
    put_key(b, "split.no", NB_GGUF_U16);
    put_u8(b, p->no & 255);
    put_u8(b, p->no >> 8);
    put_key(b, "split.count", NB_GGUF_U16);
    put_u8(b, p->count & 255);
    put_u8(b, p->count >> 8);
    if (p->total >= 0) {
        put_key(b, "split.tensors.count", NB_GGUF_I32);
        put_u32(b, (uint32_t)p->total);
    }
    for (uint64_t i = 0; i < n; i++) {
        const char name[2] = {p->tensors[i], 0};
        put_info(b, name, 1, (const uint64_t[]){1}, 0, 32 * i);
    }
    put_pad(b, 32);
    for (uint64_t i = 0; i < n; i++) {
        put_u32(b, (uint32_t)p->tensors[i]);
        put_pad(b, 32);
    }
}

static void save(const folder *d, const char *name, const part *p)
{
    bytes b = {0};
    put_part(&b, p);
    folder_write(d, name, b.p, b.n);
    free(b.p);
}

static folder model(void)
{
    const folder d = folder_new();
    save(&d, "m-00001-of-00003.gguf", &(part){0, 3, "llama", "ab", 5});
    save(&d, "m-00002-of-00003.gguf", &(part){1, 3, NULL, "c", 5});
    save(&d, "m-00003-of-00003.gguf", &(part){2, 3, NULL, "de", 5});
    return d;
}

static void refused(check *c, const folder *d, const char *name, nb_status want, const char *word)
{
    char path[1024];
    nb_container *m = NULL;
    nb_error err = {0};
    CHECK_EQ(c, nb_container_open(folder_in(d, name, path), &m, &err), want);
    CHECK(c, m == NULL);
    CHECK_HAS(c, err.message, word);
    nb_container_close(m);
}

static void any_part(check *c)
{
    static const char *const names[] = {"m-00001-of-00003.gguf", "m-00002-of-00003.gguf",
                                        "m-00003-of-00003.gguf"};
    const folder d = model();
    char path[1024];
    for (int i = 0; i < 3; i++) {
        nb_container *m = NULL;
        nb_error err = {0};
        CHECK_EQ(c, nb_container_open(folder_in(&d, names[i], path), &m, &err), NB_OK);
        CHECK_STR(c, err.message, "");
        if (!m)
            continue;
        CHECK_EQ(c, m->n_tensor, 5);
        for (int64_t k = 0; k < m->n_tensor; k++) {
            const nb_tensor *t = &m->tensor[k];
            /* in the order of the parts, whichever was given */
            CHECK_EQ(c, t->name[0], "abcde"[k]);
            CHECK_EQ(c, t->data[0], (uint8_t)t->name[0]);
            CHECK_HAS(c, nb_container_file(m, t), names[k < 2 ? 0 : k < 3 ? 1 : 2]);
            CHECK(c, nb_container_find(m, t->name) == t);
            nb_container_release(m, t);
        }
        /* the first part's keys */
        CHECK(c, m->gguf && nb_gguf_find(m->gguf, "general.architecture"));
        CHECK(c, m->warning == NULL);
        nb_container_close(m);
    }
    folder_gone(&d);
}

static void missing(check *c)
{
    const folder d = model();
    char path[1024];
    unlink(folder_in(&d, "m-00001-of-00003.gguf", path));
    refused(c, &d, "m-00002-of-00003.gguf", NB_NOT_FOUND,
            "1 of the model's 3 parts is not there: m-00001-of-00003.gguf");
    unlink(folder_in(&d, "m-00003-of-00003.gguf", path));
    refused(c, &d, "m-00002-of-00003.gguf", NB_NOT_FOUND,
            "2 of the model's 3 parts are not there: m-00001-of-00003.gguf, m-00003-of-00003.gguf");
    save(&d, "h-00001-of-65535.gguf", &(part){0, 65535, "llama", "a", -1});
    refused(c, &d, "h-00001-of-65535.gguf", NB_NOT_FOUND,
            "65534 of the model's 65535 parts are not there: h-00002-of-65535.gguf, ");
    folder_gone(&d);
}

static void names(check *c)
{
    const folder d = model();
    char path[1024], to[1024];
    CHECK_EQ(c, rename(folder_in(&d, "m-00002-of-00003.gguf", path), folder_in(&d, "m.gguf", to)),
             0);
    refused(c, &d, "m.gguf", NB_BAD_INPUT,
            "part 2 of a model in 3 files, and its name does not say so");
    CHECK_EQ(c, rename(folder_in(&d, "m.gguf", path), folder_in(&d, "m-00003-of-00003.gguf", to)),
             0);
    refused(c, &d, "m-00003-of-00003.gguf", NB_BAD_INPUT,
            "part 2 of a model in 3 files, and its name does not say so");
    save(&d, "m-00002-of-00003.gguf", &(part){2, 3, NULL, "de", 5});
    save(&d, "m-00003-of-00003.gguf", &(part){1, 3, NULL, "c", 5});
    refused(c, &d, "m-00001-of-00003.gguf", NB_BAD_INPUT,
            "its name says part 2 of 3, its keys say part 3 of 3");
    save(&d, "m-00002-of-00003.gguf", &(part){1, 4, NULL, "c", 5});
    save(&d, "m-00003-of-00003.gguf", &(part){2, 3, NULL, "de", 5});
    refused(c, &d, "m-00001-of-00003.gguf", NB_BAD_INPUT,
            "its name says part 2 of 3, its keys say part 2 of 4");
    folder_gone(&d);
}

static void other_model(check *c)
{
    const folder d = model();
    save(&d, "m-00002-of-00003.gguf", &(part){1, 3, "qwen2", "c", 5});
    refused(c, &d, "m-00003-of-00003.gguf", NB_BAD_INPUT,
            "architecture qwen2, the first part's is llama: a part of another model");
    save(&d, "m-00002-of-00003.gguf", &(part){1, 3, "llama", "c", 6});
    refused(c, &d, "m-00001-of-00003.gguf", NB_BAD_INPUT,
            "split.tensors.count is 6, the first part's is 5: a part of another model");
    save(&d, "m-00002-of-00003.gguf", &(part){1, 3, NULL, "", 5});
    refused(c, &d, "m-00001-of-00003.gguf", NB_BAD_INPUT,
            "m-00001-of-00003.gguf: 5 tensors in all, the parts hold 4");
    folder_gone(&d);
}

static void duplicates(check *c)
{
    const folder d = model();
    save(&d, "m-00002-of-00003.gguf", &(part){1, 3, NULL, "a", 5});
    refused(c, &d, "m-00001-of-00003.gguf", NB_BAD_INPUT, "m-00002-of-00003.gguf: tensor a is in ");
    folder_gone(&d);
}

static void broken_part(check *c)
{
    const folder d = model();
    char path[1024];
    struct stat sb;
    CHECK_EQ(c, stat(folder_in(&d, "m-00003-of-00003.gguf", path), &sb), 0);
    CHECK_EQ(c, truncate(path, sb.st_size - 30), 0);
    refused(c, &d, "m-00001-of-00003.gguf", NB_BAD_INPUT,
            "m-00003-of-00003.gguf: ends inside tensor e");
    folder_write(&d, "m-00003-of-00003.gguf", "text", 4);
    refused(c, &d, "m-00001-of-00003.gguf", NB_BAD_INPUT, "m-00003-of-00003.gguf: not a GGUF file");
    unlink(path);
    CHECK_EQ(c, mkfifo(path, 0600), 0);
    refused(c, &d, "m-00001-of-00003.gguf", NB_BAD_INPUT,
            "m-00003-of-00003.gguf: not a regular file");
    folder_gone(&d);
}

static void keys(check *c)
{
    const folder d = folder_new();
    save(&d, "m-00001-of-00003.gguf", &(part){3, 3, "llama", "a", -1});
    refused(c, &d, "m-00001-of-00003.gguf", NB_BAD_INPUT, "split.no 3 of split.count 3");
    save(&d, "m-00001-of-00003.gguf", &(part){0, 0, "llama", "a", -1});
    refused(c, &d, "m-00001-of-00003.gguf", NB_BAD_INPUT, "split.count 0");
    nb_container *m = NULL;
    char path[1024];
    save(&d, "whole.gguf", &(part){0, 1, "llama", "a", -1}); /* one of one needs no such name */
    CHECK_EQ(c, nb_container_open(folder_in(&d, "whole.gguf", path), &m, NULL), NB_OK);
    nb_container_close(m);
    folder_gone(&d);
}

static const check_case cases[] = {
    {"any part of a split model opens all of them, in order", any_part},
    {"gg-split: missing parts are named", missing},
    {"gg-split: the name says which part it is", names},
    {"gg-split: a part of another model", other_model},
    {"gg-split: a tensor in two parts", duplicates},
    {"gg-split: a part that is cut, no GGUF or no file", broken_part},
    {"gg-split: no >= count, count 0; one of one is whole", keys},
};
CHECK_MAIN(cases)
