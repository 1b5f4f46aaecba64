/* manifest.c -- see manifest.h. */
#include "api/manifest.h"
#include "file/json.h"
#include "nibble.h"

#include <string.h>

static nb_status put_tensor(void *arg, const nb_sink_tensor *t, nb_error *err)
{
    nb_text *out = arg;
    char hex[2 * NB_SHA256_BYTES + 1];
    (void)err;
    nb_hex(t->sha256, sizeof t->sha256, hex);
    nb_text_puts(out, out->p[out->n - 1] == '[' ? "\n{\"name\":" : ",\n{\"name\":");
    nb_text_json(out, t->name, strlen(t->name));
    nb_text_printf(out, ",\"type\":\"%s\",\"bytes\":%lld,\"sha256\":\"%s\"", t->type,
                   (long long)t->bytes, hex);
    if (t->file) {
        nb_text_puts(out, ",\"file\":");
        nb_text_json(out, t->file, strlen(t->file));
    }
    nb_text_puts(out, "}");
    return nb_text_check(out, "the manifest", err);
}

static nb_status put_file(void *arg, const nb_sink_file *f, nb_error *err)
{
    nb_text *out = arg;
    char hex[2 * NB_SHA256_BYTES + 1];
    nb_hex(f->sha256, sizeof f->sha256, hex);
    nb_text_puts(out, out->p[out->n - 1] == '[' ? "\n{\"file\":" : ",\n{\"file\":");
    nb_text_json(out, f->name, strlen(f->name));
    nb_text_printf(out, ",\"bytes\":%lld,\"sha256\":\"%s\"}", (long long)f->bytes, hex);
    return nb_text_check(out, "the manifest", err);
}

/* The one file around the tensors. */
static nb_status put_head(nb_sink *sink, nb_text *out, nb_error *err)
{
    nb_sink_head head;
    char hex[2 * NB_SHA256_BYTES + 1];
    const nb_status st = sink->op->head(sink, &head, err);
    if (st != NB_OK)
        return st;
    nb_hex(head.sha256, sizeof head.sha256, hex);
    nb_text_printf(out, "\n],\n\"bytes\":%lld,\n\"head\":{\"bytes\":%lld,\"sha256\":\"%s\"}}\n",
                   (long long)head.file_bytes, (long long)head.bytes, hex);
    return NB_OK;
}

/* name, size and hash only: the same checkpoint elsewhere is the same input. */
static void put_input(const nb_json_node *files, nb_text *out)
{
    for (const nb_json_node *f = nb_json_first(files); f; f = nb_json_next(f)) {
        const char *name = "", *sha = "";
        size_t n = 0, sha_n = 0;
        int64_t bytes = 0;
        (void)nb_json_string(nb_json_get(f, "file"), &name, &n);
        (void)nb_json_string(nb_json_get(f, "header_sha256"), &sha, &sha_n);
        (void)nb_json_int(nb_json_get(f, "bytes"), &bytes);
        nb_text_puts(out, f == nb_json_first(files) ? "{\"file\":" : ",{\"file\":");
        nb_text_json(out, name, n);
        nb_text_printf(out, ",\"bytes\":%lld,\"header_sha256\":\"%s\"}", (long long)bytes, sha);
    }
}

nb_status nb_manifest_write(const nb_text *settings, const nb_text *input, const char *calib_sha,
                            nb_sink *sink, nb_text *out, nb_error *err)
{
    nb_json *files = NULL;
    nb_status st = nb_text_check(settings, "the manifest", err);
    if (st == NB_OK)
        st = nb_json_parse("the list of input files", input->p, input->n, &files, err);
    if (st != NB_OK)
        return st;
    nb_text_printf(out, "{\"manifest\":1,\"nibble\":\"%s\",\n\"settings\":", nb_version());
    nb_text_add(out, settings->p, settings->n);
    nb_text_puts(out, ",\n\"input\":[");
    put_input(nb_json_root(files), out);
    nb_text_printf(out, "],\n\"calib_sha256\":%s%s%s,\n\"tensors\":[", calib_sha ? "\"" : "",
                   calib_sha ? calib_sha : "null", calib_sha ? "\"" : "");
    nb_json_close(files);
    st = nb_text_check(out, "the manifest", err);
    if (st == NB_OK)
        st = sink->op->each(sink, put_tensor, out, err);
    if (st == NB_OK && sink->op->files) {
        nb_text_puts(out, "\n],\n\"files\":[");
        st = nb_text_check(out, "the manifest", err);
        if (st == NB_OK)
            st = sink->op->files(sink, put_file, out, err);
        nb_text_puts(out, "\n]}\n");
    } else if (st == NB_OK)
        st = put_head(sink, out, err);
    return st == NB_OK ? nb_text_check(out, "the manifest", err) : st;
}
