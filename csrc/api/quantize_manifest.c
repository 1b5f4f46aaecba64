/* quantize_manifest.c -- manifest.json: what a file was made of and with, and the hash of every
 * tensor and of what is outside of them. The same run gives the same bytes, so nothing in it
 * depends on the clock, the folder or an interruption. */
#include "api/quantize.h"

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

nb_status nb_quantize_manifest(nb_quantize_job *j, nb_text *out, nb_error *err)
{
    nb_json *input = NULL;
    nb_status st = nb_json_parse("the list of input files", j->input.p, j->input.n, &input, err);
    nb_text_printf(out, "{\"manifest\":1,\"nibble\":\"%s\",\n\"settings\":", nb_version());
    nb_quantize_settings_write(&j->o, false, out);
    nb_text_puts(out, ",\n\"input\":[");
    if (st == NB_OK)
        put_input(nb_json_root(input), out);
    nb_text_printf(out, "],\n\"calib_sha256\":%s%s%s,\n\"tensors\":[", j->calib_sha[0] ? "\"" : "",
                   j->calib_sha[0] ? j->calib_sha : "null", j->calib_sha[0] ? "\"" : "");
    nb_json_close(input);
    if (st == NB_OK)
        st = nb_text_check(out, "the manifest", err);
    if (st == NB_OK)
        st = j->sink->op->each(j->sink, put_tensor, out, err);
    if (st == NB_OK && j->sink->op->files) {
        nb_text_puts(out, "\n],\n\"files\":[");
        st = nb_text_check(out, "the manifest", err);
        if (st == NB_OK)
            st = j->sink->op->files(j->sink, put_file, out, err);
        nb_text_puts(out, "\n]}\n");
    } else if (st == NB_OK)
        st = put_head(j->sink, out, err);
    return st == NB_OK ? nb_text_check(out, "the manifest", err) : st;
}
