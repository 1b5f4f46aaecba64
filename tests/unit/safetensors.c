/* safetensors.c -- the directory of a safetensors file, and a Hugging Face folder opened as a
 * checkpoint. */
#include "file/container.h"
#include "check.h"
#include "hostile/bytes.h"
#include "hostile/folder.h"

static const char kHeader[] =
    "{\"__metadata__\":{\"format\":\"pt\"},"
    "\"model.norm\":{\"dtype\":\"BF16\",\"shape\":[3],\"data_offsets\":[24,30]},"
    "\"model.w\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]},"
    "\"qweight\":{\"dtype\":\"I32\",\"shape\":[1,1,2],\"data_offsets\":[30,38]}}  ";

static void directory(check *c)
{
    nb_safetensors *s = NULL;
    nb_error err = {0};
    bytes b = {0};
    put_safetensors(&b, kHeader, strlen(kHeader), 38);
    CHECK_EQ(c, nb_safetensors_parse("t", b.p, b.n, &s, &err), NB_OK);
    if (s) {
        const size_t data_at = 8 + strlen(kHeader);
        CHECK_EQ(c, s->n_tensor, 3);
        CHECK_STR(c, s->tensor[0].name, "model.w"); /* by offset, not as in the header */
        CHECK_STR(c, s->tensor[0].dtype->name, "f32");
        CHECK_EQ(c, s->tensor[0].n_dim, 2);
        CHECK_EQ(c, s->tensor[0].shape[0], 2);
        CHECK_EQ(c, s->tensor[0].shape[1], 3);
        CHECK_EQ(c, s->tensor[0].shape[7], 1);
        CHECK_EQ(c, s->tensor[0].bytes, 24);
        CHECK_EQ(c, s->tensor[0].offset, data_at);
        CHECK_EQ(c, s->tensor[1].data[0], 24);
        CHECK_STR(c, s->tensor[1].dtype->name, "bf16");
        CHECK_EQ(c, s->tensor[2].data - b.p, data_at + 30);
        CHECK_STR(c, s->tensor[2].dtype->name, "i32"); /* GPTQ's codes: known, if not decodable */
    }
    nb_safetensors_close(s);
    nb_safetensors_close(NULL);
    free(b.p);
}

static void hf_folder(check *c)
{
    static const char config[] = "{\"architectures\":[\"LlamaForCausalLM\"]}",
                      template[] = "{{ x }}";
    const folder d = folder_new();
    char file[1024];
    nb_container *m = NULL;
    nb_error err = {0};
    bytes b = {0};
    put_safetensors(&b, kHeader, strlen(kHeader), 38);
    folder_write(&d, "model.safetensors", b.p, b.n);
    folder_write(&d, "config.json", config, strlen(config));
    folder_write(&d, "tokenizer.json", "{\"version\":\"1.0\"}", 17);
    folder_write(&d, "chat_template.jinja", template, strlen(template));
    CHECK_EQ(c, nb_container_open(d.path, &m, &err), NB_OK);
    if (m) {
        CHECK_EQ(c, m->kind, NB_CONTAINER_HF);
        CHECK_STR(c, m->path, d.path);
        CHECK_EQ(c, m->n_tensor, 3);
        CHECK_EQ(c, m->file_bytes, b.n);
        CHECK(c, m->gguf == NULL && m->generation_config == NULL && m->tokenizer_config == NULL);
        CHECK_EQ(c, nb_json_count(nb_json_get(nb_json_root(m->config), "architectures")), 1);
        CHECK(c, m->tokenizer && nb_json_get(nb_json_root(m->tokenizer), "version"));
        CHECK_EQ(c, m->chat_template_bytes, strlen(template));
        CHECK(c, m->chat_template && memcmp(m->chat_template, template, strlen(template)) == 0);
        const nb_tensor *t = nb_container_find(m, "model.norm");
        CHECK(c, t && t->data[0] == 24);
        CHECK(c, nb_container_find(m, "model.nor") == NULL);
        CHECK(c, m->warning == NULL);
        if (t)
            nb_container_release(m, t);
        CHECK(c, t && t->data[0] == 24); /* released pages come back from the file */
    }
    nb_container_close(m);
    m = NULL;
    CHECK_EQ(c, nb_container_open(folder_in(&d, "model.safetensors", file), &m, &err), NB_OK);
    CHECK(c, m && m->config == NULL && m->n_tensor == 3);
    nb_container_close(m);
    nb_container_close(NULL);
    free(b.p);
    folder_gone(&d);
}

static void golden(check *c)
{
    char path[1024];
    nb_container *m = NULL;
    nb_error err = {0};
    if (!check_shared("golden-quant/gguf_blocks.safetensors", path, sizeof path)) {
        check_skip(c, "golden-quant/gguf_blocks.safetensors is not there");
        return;
    }
    const nb_status st = nb_container_open(path, &m, &err);
    CHECK_STR(c, err.message, "");
    CHECK_EQ(c, st, NB_OK);
    CHECK(c, m && m->n_tensor > 10);
    for (int64_t i = 0; m && i < m->n_tensor; i++)
        CHECK(c, nb_container_find(m, m->tensor[i].name) == &m->tensor[i]);
    nb_container_close(m);
}

static const check_case cases[] = {
    {"a directory gives names, types, shapes and places in the order of the data", directory},
    {"a folder gives config, tokenizer, template and tensors found by name", hf_folder},
    {"a file written by the reference library is read whole", golden},
};
CHECK_MAIN(cases)
