/* container.h -- any checkpoint as one list of named tensors plus its metadata. Everything is
 * mapped; nothing is copied.
 *
 *   a GGUF file; any part of a split one opens all parts
 *   a folder with config.json and model.safetensors, or with shards and their index
 *   a .safetensors file alone; any shard, or the index, opens all shards
 *   ORG/REPO[@REVISION]: what the hub's cache has under that name (hub.h) */
#ifndef NB_FILE_CONTAINER_H
#define NB_FILE_CONTAINER_H

#include "file/gguf.h"
#include "file/json.h"

typedef enum nb_container_kind { NB_CONTAINER_GGUF, NB_CONTAINER_HF } nb_container_kind;

typedef struct nb_container {
    nb_container_kind kind;
    const char *path;  /* as given */
    const char *where; /* the file or folder that was opened: path, or what the hub's cache has
                        * under that name */
    int64_t n_tensor;
    const nb_tensor *tensor;
    const nb_gguf *gguf;   /* NB_CONTAINER_GGUF, else NULL; of a split model the first part, which
                          * has the keys */
    const nb_json *config; /* config.json; NULL for GGUF and for a bare .safetensors file */
    const nb_json *tokenizer;       /* tokenizer.json or NULL */
    const uint8_t *tokenizer_model; /* tokenizer.model (SentencePiece) where there is no
                                     * tokenizer.json, or NULL */
    size_t tokenizer_model_bytes;
    const nb_json *tokenizer_config;  /* tokenizer_config.json or NULL */
    const nb_json *quantize_config;   /* quantize_config.json (GPTQ) or quant_config.json (AWQ),
                                     * what old checkpoints have; or NULL */
    const nb_json *generation_config; /* generation_config.json or NULL */
    const char *chat_template; /* chat_template.jinja's text or NULL (tokenizer_config's own key is
                                  looked up by the reader) */
    size_t chat_template_bytes;
    size_t file_bytes;   /* of all tensor files */
    const char *warning; /* sentences worth showing (trailing bytes, ...), "; " between them, or
                          * NULL */
} nb_container;

/* NB_NOT_FOUND when path is not there (or a folder without config.json or weights, or files of the
 * model are missing: the sentence names them), NB_BAD_INPUT, NB_UNSUPPORTED (pickles, unknown
 * dtype). */
nb_status nb_container_open(const char *path, nb_container **out, nb_error *err) NB_CHECKED;
void nb_container_close(nb_container *c);
const nb_tensor *nb_container_find(const nb_container *c,
                                   const char *name); /* O(1); NULL if absent */
/* The path of the file that holds the tensor: what sentences about it name. */
const char *nb_container_file(const nb_container *c, const nb_tensor *t);
/* Tells the kernel that the tensor's pages are needed soon, or not. */
void nb_container_ask(const nb_container *c, const nb_tensor *t);
void nb_container_release(const nb_container *c, const nb_tensor *t);

/* One safetensors file's directory, validated whole: sizes, order, no hole, no overlap, nothing
 * behind. Used by container.c and the fuzzer. Borrows p, path. */
typedef struct nb_safetensors {
    int64_t n_tensor;
    nb_tensor *tensor; /* sorted by offset */
    nb_json *header;   /* owns the names */
} nb_safetensors;
nb_status nb_safetensors_parse(const char *path, const uint8_t *p, size_t n, nb_safetensors **out,
                               nb_error *err) NB_CHECKED;
void nb_safetensors_close(nb_safetensors *s);

#endif
