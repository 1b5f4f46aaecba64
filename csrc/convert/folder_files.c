/* folder_files.c -- see folder_files.h. */
#include "convert/folder_files.h"
#include "base/mapfile.h"
#include "convert/config_out.h"
#include "convert/tokenizer_out.h"
#include "file/outfile.h"
#include "file/parts.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { kTries = 100 };

static const char *const text_name[NB_FOLDER_TEXTS] = {
    "config.json",           "generation_config.json", "tokenizer.json",
    "tokenizer_config.json", "quantize_config.json",   "manifest.json"};
static const char *const carried[] = {"tokenizer.json",
                                      "tokenizer_config.json",
                                      "tokenizer.model",
                                      "special_tokens_map.json",
                                      "added_tokens.json",
                                      "vocab.json",
                                      "merges.txt",
                                      "chat_template.jinja",
                                      "chat_template.json",
                                      "preprocessor_config.json",
                                      "processor_config.json",
                                      "LICENSE",
                                      "LICENSE.txt",
                                      "LICENSE.md",
                                      "NOTICE",
                                      "NOTICE.txt",
                                      "NOTICE.md",
                                      "USE_POLICY.md",
                                      "README.md"};
enum { kCarried = sizeof carried / sizeof *carried };

nb_status nb_in_folder(const char *folder, const char *name, char path[NB_FOLDER_PATH],
                       nb_error *err)
{
    const int n = snprintf(path, NB_FOLDER_PATH, "%s/%s", folder, name);
    return n > 0 && n < NB_FOLDER_PATH
               ? NB_OK
               : nb_fail_at(err, NB_IO, folder, -1, "a path of more than %d bytes",
                            NB_FOLDER_PATH - 1);
}

/* ---- texts ---- */

/* The object, without its last brace, takes another member. */
static nb_status add_member(nb_text *object, const char *key, const nb_text *value, nb_error *err)
{
    const char *end = object->p ? strrchr(object->p, '}') : NULL;
    if (!end)
        return nb_fail(err, NB_INTERNAL, "config.json is no object");
    object->n = (size_t)(end - object->p);
    while (object->n && strchr(" \n\r\t", object->p[object->n - 1]))
        object->n--;
    nb_text_printf(object, ",\n  \"%s\": ", key);
    nb_text_add(object, value->p, value->n);
    nb_text_puts(object, "\n}\n");
    return nb_text_check(object, "config.json", err);
}

static nb_status put_scheme(nb_folder_plan *plan, nb_text text[NB_FOLDER_TEXTS], nb_error *err)
{
    const nb_scheme_spec *s = plan->scheme;
    const char *const *skip = NULL;
    nb_text made = {0};
    nb_status st = nb_folder_plan_exceptions(plan, &skip, err);
    if (st == NB_OK)
        st = s->scheme->write_config(s, skip, &made, err);
    if (st == NB_OK)
        st = nb_text_check(&made, "quantization_config", err);
    if (st == NB_OK)
        st = add_member(&text[NB_TEXT_CONFIG], "quantization_config", &made, err);
    if (st == NB_OK && s->scheme->config_beside) {
        nb_text_add(&text[NB_TEXT_QUANTIZE], made.p, made.n);
        nb_text_puts(&text[NB_TEXT_QUANTIZE], "\n");
        st = nb_text_check(&text[NB_TEXT_QUANTIZE], "quantize_config.json", err);
    }
    nb_text_free(&made);
    return st;
}

nb_status nb_folder_make_texts(const nb_model *m, nb_folder_plan *plan, const char *torch_dtype,
                               nb_text text[NB_FOLDER_TEXTS], nb_error *err)
{
    nb_status st = nb_config_to_json(m, torch_dtype, &text[NB_TEXT_CONFIG], err);
    if (st == NB_OK && plan->scheme)
        st = put_scheme(plan, text, err);
    if (st == NB_OK)
        st = nb_generation_config_to_json(m, &text[NB_TEXT_GENERATION], err);
    if (st == NB_OK && m->container->kind == NB_CONTAINER_GGUF && m->tokenizer)
        st = nb_tokenizer_to_json(m->container, &text[NB_TEXT_TOKENIZER],
                                  &text[NB_TEXT_TOKENIZER_CONFIG], err);
    return st;
}

/* NAME.partial until it is whole: the folder is ours alone, and what a killed run left is found and
 * replaced. */
static nb_status write_file(const char *folder, const char *name, const void *p, size_t n,
                            nb_error *err)
{
    char path[NB_FOLDER_PATH], partial[NB_FOLDER_PATH], last[64];
    nb_outfile *f = NULL;
    snprintf(last, sizeof last, "%.50s.partial", name);
    nb_status st = nb_in_folder(folder, name, path, err);
    if (st == NB_OK)
        st = nb_in_folder(folder, last, partial, err);
    if (st == NB_OK)
        st = nb_outfile_open_at(path, partial, false, &f, err);
    if (st == NB_OK)
        st = nb_outfile_write_at(f, 0, p, n, err);
    if (st == NB_OK)
        st = nb_outfile_commit(f, err);
    nb_outfile_close(f);
    return st;
}

nb_status nb_folder_write_texts(const char *folder, const nb_text text[NB_FOLDER_TEXTS],
                                nb_error *err)
{
    nb_status st = NB_OK;
    for (int i = 0; i < NB_FOLDER_TEXTS && st == NB_OK; i++)
        if (text[i].n)
            st = write_file(folder, text_name[i], text[i].p, text[i].n, err);
    return st;
}

nb_status nb_folder_texts(const nb_text text[NB_FOLDER_TEXTS],
                          nb_status (*file)(void *arg, const char *name, const void *p, size_t n,
                                            nb_error *err),
                          void *arg, nb_error *err)
{
    nb_status st = NB_OK;
    for (int i = 0; i < NB_TEXT_MANIFEST && st == NB_OK; i++)
        if (text[i].n)
            st = file(arg, text_name[i], text[i].p, text[i].n, err);
    return st;
}

nb_status nb_folder_carried(const nb_container *src,
                            nb_status (*file)(void *arg, const char *name, const void *p, size_t n,
                                              nb_error *err),
                            void *arg, nb_error *err)
{
    char path[NB_FOLDER_PATH], folder[NB_FOLDER_PATH];
    nb_status st = NB_OK;
    const char *first = src->n_tensor ? nb_container_file(src, &src->tensor[0]) : "";
    const char *slash = strrchr(first, '/');
    snprintf(folder, sizeof folder, "%.*s", slash ? (int)(slash - first) : 1, slash ? first : ".");
    for (int i = 0; i < kCarried && st == NB_OK; i++) {
        nb_mapfile *f = NULL;
        st = nb_in_folder(folder, carried[i], path, err);
        if (st != NB_OK || access(path, F_OK) != 0)
            continue;
        /* what is written is meant to be shown: nothing from elsewhere */
        st = nb_link_check(folder, path, err);
        if (st == NB_OK)
            st = nb_mapfile_open(path, &f, err);
        if (st == NB_OK)
            st = file(arg, carried[i], f->p ? f->p : (const void *)"", f->n, err);
        nb_mapfile_close(f);
    }
    return st;
}

static nb_status carry(void *folder, const char *name, const void *p, size_t n, nb_error *err)
{
    return write_file(folder, name, p, n, err);
}

nb_status nb_folder_carry_files(const nb_container *src, const char *folder, nb_error *err)
{
    char to[NB_FOLDER_PATH];
    snprintf(to, sizeof to, "%s", folder);
    return nb_folder_carried(src, carry, to, err);
}

/* ---- the folder ---- */

nb_status nb_folder_check_new(const char *out, nb_error *err)
{
    struct stat sb;
    if (lstat(out, &sb) != 0)
        return errno == ENOENT ? NB_OK : nb_fail_errno_at(err, out, "cannot create it");
    DIR *dir = S_ISDIR(sb.st_mode) ? opendir(out) : NULL;
    int n = 0;
    while (dir && readdir(dir))
        n++;
    const bool empty = dir && n == 2; /* . and .. */
    if (dir)
        closedir(dir);
    if (empty)
        return NB_OK;
    nb_fail_at(err, NB_IO, out, -1, "exists; a folder that is written must be new");
    nb_hint(err, "another -o OUT, or move it away");
    return NB_IO;
}

nb_status nb_folder_make_partial(const char *out, char **path, nb_error *err)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz234567";
    const size_t n = strlen(out) + sizeof ".partial-123456";
    char *partial = nb_alloc(n, 1, "a path", err);
    *path = NULL;
    if (!partial)
        return NB_NO_ROOM;
    int rc = -1;
    errno = EEXIST;
    for (int i = 0; i < kTries && rc != 0 && errno == EEXIST; i++) {
        unsigned char noise[6];
        char suffix[7] = "";
        if (getentropy(noise, sizeof noise) != 0)
            memset(noise, i, sizeof noise); /* mkdir makes sure that it is new */
        for (int k = 0; k < 6; k++)
            suffix[k] = letters[noise[k] % 32];
        snprintf(partial, n, "%s.partial-%s", out, suffix);
        rc = mkdir(partial, 0777);
    }
    if (rc == 0) {
        *path = partial;
        return NB_OK;
    }
    const nb_status st = nb_fail_errno_at(err, out, "cannot create it");
    free(partial);
    return st;
}

void nb_folder_remove(const char *folder)
{
    char path[NB_FOLDER_PATH];
    struct stat sb;
    /* a link that somebody put there: what it leads to is not ours */
    if (lstat(folder, &sb) == 0 && !S_ISDIR(sb.st_mode)) {
        (void)unlink(folder);
        return;
    }
    DIR *dir = opendir(folder);
    for (const struct dirent *e; dir && (e = readdir(dir));)
        if (nb_in_folder(folder, e->d_name, path, NULL) == NB_OK)
            (void)unlink(path); /* . and .. stay */
    if (dir)
        closedir(dir);
    (void)rmdir(folder);
}
