/* tokenizers.h -- tokenizers for tests: from a checkpoint, from the files of tests/data/text, or
 * from JSON written in the test. Weights are not needed: a container is made of the parsed JSON
 * alone. */
#ifndef NB_TESTS_TOKENIZERS_H
#define NB_TESTS_TOKENIZERS_H

#include "base/mapfile.h"
#include "check.h"
#include "text/tokenizer.h"

typedef struct tokenizer_of { /* what a test's tokenizer lives on; zero it */
    nb_container *model;      /* a whole checkpoint, or NULL */
    nb_container made;        /* a container of JSON alone */
    nb_json *json, *config;
    nb_mapfile *spm; /* a tokenizer.model */
    nb_tokenizer *t; /* NULL when it could not be opened: st and err say why */
    nb_status st;
    nb_error err;
} tokenizer_of;

static inline void tokenizer_gone(tokenizer_of *k)
{
    nb_tokenizer_close(k->t);
    nb_json_close(k->json);
    nb_json_close(k->config);
    nb_mapfile_close(k->spm);
    nb_container_close(k->model);
    *k = (tokenizer_of){0};
}

static inline nb_json *json_file(const char *path)
{
    nb_mapfile *f = NULL;
    nb_json *doc = NULL;
    nb_status st = nb_mapfile_open(path, &f, NULL);
    if (st == NB_OK)
        st = nb_json_parse(path, (const char *)f->p, f->n, &doc, NULL);
    nb_mapfile_close(f);
    return st == NB_OK ? doc : NULL;
}

static inline nb_json *text_data(const char *name) /* tests/data/text/NAME */
{
    char path[1024];
    snprintf(path, sizeof path, "%s/tests/data/text/%s", NB_SOURCE_DIR, name);
    return json_file(path);
}

static inline void tokenizer_open_parsed(tokenizer_of *k)
{
    k->made = (nb_container){.kind = NB_CONTAINER_HF,
                             .path = "test",
                             .tokenizer = k->json,
                             .tokenizer_config = k->config};
    k->st = nb_tokenizer_open(&k->made, &k->t, &k->err);
}

/* From the text of a tokenizer.json and, unless NULL, of a tokenizer_config.json. */
static inline void tokenizer_from_text(tokenizer_of *k, const char *json, size_t n,
                                       const char *config)
{
    *k = (tokenizer_of){.err.offset = -1};
    k->st = nb_json_parse("tokenizer.json", json, n, &k->json, &k->err);
    if (k->st == NB_OK && config)
        k->st = nb_json_parse("tokenizer_config.json", config, strlen(config), &k->config, &k->err);
    if (k->st == NB_OK)
        tokenizer_open_parsed(k);
}

/* From the bytes of a tokenizer.model. */
static inline void tokenizer_from_spm(tokenizer_of *k, const uint8_t *p, size_t n)
{
    *k = (tokenizer_of){.err.offset = -1};
    k->made = (nb_container){
        .kind = NB_CONTAINER_HF, .path = "test", .tokenizer_model = p, .tokenizer_model_bytes = n};
    k->st = nb_tokenizer_open(&k->made, &k->t, &k->err);
}

/* From tests/data/text/spm/NAME.model. */
static inline void tokenizer_from_spm_file(tokenizer_of *k, const char *name)
{
    char path[1024];
    nb_mapfile *f = NULL;
    snprintf(path, sizeof path, "%s/tests/data/text/spm/%s.model", NB_SOURCE_DIR, name);
    const nb_status st = nb_mapfile_open(path, &f, NULL);
    tokenizer_from_spm(k, f ? f->p : (const uint8_t *)"", f ? f->n : 0);
    k->spm = f;
    k->st = st == NB_OK ? k->st : st;
}

/* From a folder of tests/data/text. */
static inline void tokenizer_from_data(tokenizer_of *k, const char *folder)
{
    char name[256];
    *k = (tokenizer_of){.err.offset = -1};
    snprintf(name, sizeof name, "%s/tokenizer.json", folder);
    k->json = text_data(name);
    snprintf(name, sizeof name, "%s/tokenizer_config.json", folder);
    k->config = text_data(name);
    tokenizer_open_parsed(k);
}

/* From a fetched model; false and the case skipped when it is not there. */
static inline bool tokenizer_from_model(check *c, tokenizer_of *k, const char *name)
{
    char path[1024];
    *k = (tokenizer_of){.err.offset = -1};
    if (!check_model(name, path, sizeof path)) {
        check_skip(c, "no %s", path);
        return false;
    }
    k->st = nb_container_open(path, &k->model, &k->err);
    if (k->st == NB_OK)
        k->st = nb_tokenizer_open(k->model, &k->t, &k->err);
    return true;
}

#endif
