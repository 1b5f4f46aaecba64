/* container.c -- hostile checkpoints on disk: what is not a model is refused with its code and a
 * hint, whatever its name says. */
#include "file/container.h"
#include "check.h"
#include "hostile/bytes.h"
#include "hostile/folder.h"

#include <sys/stat.h>
#include <unistd.h>

#define ONE "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}"

static void write_text(const folder *d, const char *name, const char *text)
{
    folder_write(d, name, text, strlen(text));
}

static void write_model(const folder *d, const char *name)
{
    bytes b = {0};
    put_safetensors(&b, ONE, strlen(ONE), 4);
    folder_write(d, name, b.p, b.n);
    free(b.p);
}

static void refused(check *c, const char *path, nb_status want, const char *word, const char *hint)
{
    nb_container *m = NULL;
    nb_error err = {0};
    CHECK_EQ(c, nb_container_open(path, &m, &err), want);
    CHECK(c, m == NULL);
    CHECK_HAS(c, err.message, word);
    CHECK_STR(c, err.hint, hint);
    nb_container_close(m);
}

static void not_there(check *c)
{
    refused(c, "no-such-org/no-such-model", NB_NOT_FOUND,
            "no-such-org/no-such-model: no such file or folder, and no such model in the cache",
            "nibble pull no-such-org/no-such-model");
    refused(c, "no-such-org/no-such-model@v1.0", NB_NOT_FOUND, "no such model in the cache",
            "nibble pull no-such-org/no-such-model@v1.0");
    refused(c, "no-such.gguf", NB_NOT_FOUND, "no-such.gguf: cannot open", "");
    refused(c, "../no-such/model", NB_NOT_FOUND, "cannot open", "");
    refused(c, "no/such/model", NB_NOT_FOUND, "cannot open", "");
    refused(c, "no-such org/model", NB_NOT_FOUND, "cannot open", "");
}

static void special_files(check *c)
{
    const folder d = folder_new();
    char path[1024];
    refused(c, "/dev/zero", NB_BAD_INPUT, "not a regular file", "");
    if (mkfifo(folder_in(&d, "pipe.gguf", path), 0600) == 0)
        refused(c, path, NB_BAD_INPUT, "not a regular file", "");
    write_text(&d, "config.json", "{}");
    if (mkfifo(folder_in(&d, "model.safetensors", path), 0600) == 0)
        refused(c, d.path, NB_BAD_INPUT, "model.safetensors: not a regular file", "");
    folder_gone(&d);
}

static void pickles(check *c)
{
    const folder d = folder_new();
    char path[1024];
    write_text(&d, "config.json", "{}");
    write_text(&d, "pytorch_model.bin", "PK\3\4");
    refused(c, d.path, NB_UNSUPPORTED, "pytorch_model.bin: a pickle, which is a program",
            "ask the publisher for a safetensors file");
    refused(c, folder_in(&d, "pytorch_model.bin", path), NB_UNSUPPORTED, "a pickle",
            "ask the publisher for a safetensors file");
    write_model(&d, "model.safetensors"); /* beside safetensors it does not matter */
    nb_container *m = NULL;
    CHECK_EQ(c, nb_container_open(d.path, &m, NULL), NB_OK);
    nb_container_close(m);
    folder_gone(&d);
}

static void incomplete_folders(check *c)
{
    const folder d = folder_new();
    char hint[1024];
    refused(c, d.path, NB_NOT_FOUND, "without config.json", "");
    write_text(&d, "config.json", "{}");
    refused(c, d.path, NB_NOT_FOUND, "without model.safetensors", "");
    write_text(&d, "x.gguf", "GGUF");
    snprintf(hint, sizeof hint, "name the file itself: %s/x.gguf", d.path);
    refused(c, d.path, NB_NOT_FOUND, "without model.safetensors", hint);
    write_model(&d, "model.safetensors");
    unlink(folder_in(&d, "x.gguf", hint));
    unlink(folder_in(&d, "model.safetensors", hint));
    write_model(&d, "model-00001-of-00002.safetensors");
    refused(c, d.path, NB_NOT_FOUND,
            "without model.safetensors.index.json, which would say what is in "
            "model-00001-of-00002.safetensors",
            "");
    folder_gone(&d);
}

static void bad_companions(check *c)
{
    static const char *const names[] = {"config.json", "tokenizer.json", "tokenizer_config.json",
                                        "generation_config.json"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const folder d = folder_new();
        char word[128];
        write_text(&d, "config.json", "{}");
        write_model(&d, "model.safetensors");
        write_text(&d, names[i], "{\"a\":01}");
        snprintf(word, sizeof word, "%s: bad JSON: a number with a leading zero, offset 5",
                 names[i]);
        refused(c, d.path, NB_BAD_INPUT, word, "");
        write_text(&d, names[i], "[]");
        snprintf(word, sizeof word, "%s: not a JSON object", names[i]);
        refused(c, d.path, NB_BAD_INPUT, word, "");
        write_text(&d, names[i], "");
        refused(c, d.path, NB_BAD_INPUT, "a value is expected", "");
        folder_gone(&d);
    }
}

static void false_names(check *c)
{
    const folder d = folder_new();
    char path[1024];
    write_text(&d, "a.gguf", "<html>404</html>");
    refused(c, folder_in(&d, "a.gguf", path), NB_BAD_INPUT, "magic", "");
    write_text(&d, "a.safetensors", "<html>404</html>");
    refused(c, folder_in(&d, "a.safetensors", path), NB_BAD_INPUT, "at most 100000000", "");
    write_text(&d, "a.txt", "text");
    refused(c, folder_in(&d, "a.txt", path), NB_BAD_INPUT, "neither GGUF nor safetensors", "");
    write_text(&d, "empty.gguf", "");
    refused(c, folder_in(&d, "empty.gguf", path), NB_BAD_INPUT, "magic", "");
    write_text(&d, "empty.safetensors", "");
    refused(c, folder_in(&d, "empty.safetensors", path), NB_BAD_INPUT, "shorter than", "");
    folder_gone(&d);
}

static void huge_header(check *c)
{
    const folder d = folder_new();
    char path[1024];
    const uint64_t n = 100000001;
    folder_write(&d, "a.safetensors", &n, sizeof n);
    CHECK_EQ(c, truncate(folder_in(&d, "a.safetensors", path), (off_t)n + 8), 0);
    refused(c, path, NB_BAD_INPUT, "at most 100000000 are allowed, offset 0", "");
    folder_gone(&d);
}

static const check_case cases[] = {
    {"a missing model is not found, and what looks like a hub name hints at pull", not_there},
    {"si-special: devices and pipes named like models are refused at once", special_files},
    {"pickles are refused because they run code", pickles},
    {"a folder without config or weights says what is missing", incomplete_folders},
    {"bad JSON beside the weights is refused with its file and offset", bad_companions},
    {"a file that is not what its name says is refused", false_names},
    {"st-len-huge: a sparse file with a header of 100000001 bytes is refused unread", huge_header},
};
CHECK_MAIN(cases)
