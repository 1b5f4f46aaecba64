/* out.c -- JSON strings, text files, opening a model as the global flags say. */
#include "out.h"
#include "base/clock.h"
#include "base/memory.h"
#include "base/status.h"
#include "base/text.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void nb_put_json(FILE *f, const char *s, size_t n)
{
    fputc('"', f);
    for (size_t i = 0; i < n;) {
        uint32_t c = 0;
        const int len = nb_character(s + i, (int64_t)(n - i), &c);
        if (len == 0)
            fputs("\xef\xbf\xbd", f);
        else if (c == '"' || c == '\\')
            fprintf(f, "\\%c", (int)c);
        else if (c == '\n')
            fputs("\\n", f);
        else if (nb_is_control(c))
            fprintf(f, "\\u%04x", (unsigned)c);
        else
            fwrite(s + i, 1, (size_t)len, f);
        i += len ? (size_t)len : 1;
    }
    fputc('"', f);
}

void nb_put_json_value(FILE *f, const char *json)
{
    const size_t n = strlen(json);
    for (size_t i = 0; i < n;) {
        uint32_t c = 0;
        const int len = nb_character(json + i, (int64_t)(n - i), &c);
        if (len && nb_is_control(c) && c >= ' ') /* inside of a string: elsewhere there is none */
            fprintf(f, "\\u%04x", (unsigned)c);
        else
            fwrite(json + i, 1, len ? (size_t)len : 1, f);
        i += len ? (size_t)len : 1;
    }
}

void nb_put_text(const char *s, size_t n)
{
    if (!isatty(STDOUT_FILENO)) {
        fwrite(s, 1, n, stdout);
        return;
    }
    for (size_t i = 0; i < n;) {
        uint32_t c = 0;
        const int len = nb_character(s + i, (int64_t)(n - i), &c);
        if (len && (!nb_is_control(c) || c == '\n' || c == '\t'))
            fwrite(s + i, 1, (size_t)len, stdout);
        else
            printf(!len || c < 0x80 ? "\\x%02x" : "\\u%04x",
                   len ? (unsigned)c : (unsigned)(unsigned char)s[i]);
        i += len ? (size_t)len : 1;
    }
}

void nb_warn_of_broken_text(const nb_args *a, const char *what, const char *s, size_t n)
{
    size_t broken = 0, first = 0;
    for (size_t i = 0; i < n;) {
        uint32_t c = 0;
        const int len = nb_character(s + i, (int64_t)(n - i), &c);
        if (!len && broken++ == 0)
            first = i;
        i += len ? (size_t)len : 1;
    }
    if (broken && !nb_flag_on(a, "quiet"))
        fprintf(stderr,
                "nibble: warning: %s is no UTF-8 at %zu bytes, the first at offset %zu; U+FFFD "
                "stands for them\n",
                what, broken, first);
}

void nb_tell_error(const nb_error *err)
{
    fprintf(stderr, "nibble: error: %s\n", err->message);
    if (err->hint[0])
        fprintf(stderr, "hint: %s\n", err->hint);
}

void nb_put_error(FILE *f, nb_status st, nb_error *err)
{
    fprintf(f, "\"error\":{\"code\":%d,\"file\":", (int)st);
    nb_put_json(f, err->file, strlen(err->file));
    fprintf(f, ",\"offset\":%lld,\"message\":", (long long)err->offset);
    nb_put_json(f, err->message, strlen(err->message));
    fputs(",\"hint\":", f);
    nb_put_json(f, err->hint, strlen(err->hint));
    fputc('}', f);
    err->code = NB_OK;
}

nb_status nb_read_text(const char *path, char **out, size_t *n, nb_error *err)
{
    enum { kMost = 64 << 20, kPiece = 1 << 16 };
    nb_buf b;
    nb_status st = NB_OK;
    *out = NULL;
    *n = 0;
    FILE *f = strcmp(path, "-") == 0 ? stdin : fopen(path, "rb");
    path = f == stdin ? "stdin" : path;
    struct stat sb;
    if (!f)
        return nb_fail_errno_at(err, path, "cannot open");
    if (fstat(fileno(f), &sb) == 0 && S_ISDIR(sb.st_mode)) { /* a pipe is fine, <(...) gives one */
        if (f != stdin)
            fclose(f);
        return nb_fail_at(err, NB_BAD_INPUT, path, -1, "not a regular file");
    }
    char *piece = malloc(kPiece);
    nb_buf_init(&b, kMost);
    if (!piece)
        st = nb_fail_at(err, NB_NO_ROOM, path, -1, "no memory left to read it");
    for (size_t got = 1; got && st == NB_OK;) {
        got = fread(piece, 1, kPiece, f);
        st = b.n + got > kMost ? nb_fail_at(err, NB_BAD_INPUT, path, -1,
                                            "a text of more than %d bytes", (int)kMost)
                               : nb_buf_add(&b, piece, got, err);
        if (st == NB_BAD_INPUT)
            nb_hint(err, "head -c 64M TEXT > PART");
    }
    if (st == NB_OK && ferror(f))
        st = f == stdin ? nb_fail_errno(err, "stdin: cannot read")
                        : nb_fail_errno_at(err, path, "cannot read");
    if (f != stdin)
        fclose(f);
    free(piece);
    if (st != NB_OK) {
        nb_buf_free(&b);
        return st;
    }
    *out = b.p;
    *n = b.n;
    return NB_OK;
}

nb_status nb_model_options_from_args(const nb_args *a, nb_model_options *o, nb_error *err)
{
    *o = (nb_model_options){.device = nb_flag_text(a, "device"),
                            .exact = nb_flag_on(a, "exact"),
                            .kv_type = nb_flag_text(a, "kv-type"),
                            .allow_nonfinite = nb_flag_on(a, "allow-nonfinite")};
    const nb_status st = nb_offload_from_args(a, &o->offload, err);
    return st == NB_OK ? nb_flag_int(a, "threads", 1, 1024, &o->n_thread, err) : st;
}

nb_status nb_offload_from_args(const nb_args *a, int32_t *offload, nb_error *err)
{
    enum { kMost = 1 << 16 };
    static const char *const names[] = {"offload", "ngl", NULL};
    const char *text = nb_flag_text(a, "offload");
    int32_t there = -1;
    nb_status st = nb_flag_one_of(a, names, err);
    *offload = 0;
    if (st == NB_OK && text && strcmp(text, "auto") == 0)
        *offload = NB_OFFLOAD_AUTO;
    else if (st == NB_OK)
        st = nb_flag_int(a, "offload", 0, kMost, offload, err);
    if (st == NB_OK)
        st = nb_flag_int(a, "ngl", 0, kMost, &there, err);
    if (st == NB_OK && there >= 0)
        *offload = NB_OFFLOAD_ALL_BUT(there);
    return st;
}

/* How many layers stay on the CPU, from a plan; and says what is where. */
static nb_status plan_offload(const nb_args *a, nb_model_options *o, nb_error *err)
{
    nb_plan p;
    nb_plan_options po = {.model = a->operand[0],
                          .device = o->device,
                          .ctx = o->ctx,
                          .ctx_at_most = true,
                          .n_seq = o->n_seq,
                          .n_thread = o->n_thread,
                          .exact = o->exact,
                          .offload = o->offload,
                          .kv_type = o->kv_type};
    const nb_status st = nb_plan_model(&po, &p, err);
    if (st != NB_OK)
        return st;
    o->offload = p.offload;
    /* rather than after minutes of loading */
    if (p.free_bytes && strcmp(p.device, "cpu") != 0 && p.total_bytes > p.free_bytes) {
        nb_fail(err, NB_NO_ROOM,
                "%s: %.1f MiB are needed for weights, cache and activations with %d of %d layers "
                "on the CPU, %.1f MiB are free",
                p.device, (double)p.total_bytes / 1048576.0, p.offload, p.n_layer,
                (double)p.free_bytes / 1048576.0);
        nb_hint(err, "--offload auto");
        return NB_NO_ROOM;
    }
    if (nb_flag_on(a, "quiet") || strcmp(p.device, "cpu") == 0)
        return NB_OK;
    if (p.offload == 0)
        fprintf(stderr, "all %d layers on %s", p.n_layer, p.device);
    else if (p.offload == p.n_layer)
        fprintf(stderr, "all %d layers on cpu, the output layer on %s", p.n_layer, p.device);
    else
        fprintf(stderr, "layers 0:%d of %d on cpu, the rest on %s", p.offload, p.n_layer, p.device);
    const bool large = p.total_bytes >= (int64_t)1 << 30;
    const double unit = large ? 1024.0 * 1024.0 * 1024.0 : 1024.0 * 1024.0;
    fprintf(stderr, ": %.1f of %.1f %s\n", (double)p.total_bytes / unit,
            (double)p.free_bytes / unit, large ? "GiB" : "MiB");
    return NB_OK;
}

nb_status nb_need_operand(const nb_args *a, const char *what, nb_error *err)
{
    if (a->n_operand >= 1 && a->operand[0][0])
        return NB_OK;
    return nb_fail(err, NB_USAGE, "%s is %s", what, a->n_operand ? "empty" : "missing");
}

/* -v: what serves this model. */
static void say_row(void *arg, const char *format, const char *row, int64_t n_weight, int64_t bytes)
{
    fprintf(stderr, "%s: %s by %s, %lld weights, %.1f MB\n", (const char *)arg, format,
            *row ? row : "the device", (long long)n_weight, (double)bytes * 1e-6);
}

static void say_model(const nb_model *m)
{
    char one[] = "1 token", many[] = "512 tokens";
    nb_model_info info;
    nb_model_get_info(m, &info);
    fprintf(stderr, "device %s, %d threads, family %s, loaded in %.2f s\n", info.device,
            info.n_thread, info.arch, info.load_s);
    nb_model_list_rows(m, 1, say_row, one);
    nb_model_list_rows(m, 512, say_row, many);
}

nb_status nb_open_from_args(const nb_args *a, int32_t ctx, int32_t n_seq, nb_model **out,
                            nb_error *err)
{
    nb_model_options o = {.device = NULL};
    *out = NULL;
    nb_status st = nb_need_operand(a, "MODEL", err);
    if (st == NB_OK)
        st = nb_model_options_from_args(a, &o, err);
    o.ctx = ctx;
    o.n_seq = n_seq;
    if (st == NB_OK && o.offload)
        st = plan_offload(a, &o, err);
    if (st == NB_OK)
        st = nb_model_open(a->operand[0], &o, out, err);
    if (st == NB_OK) {
        nb_model_info info;
        nb_model_get_info(*out, &info);
        if (info.warning && !nb_flag_on(a, "quiet"))
            fprintf(stderr, "nibble: warning: %s\n", info.warning);
        if (info.device_warning && !nb_flag_on(a, "quiet"))
            fprintf(stderr, "nibble: warning: %s\n", info.device_warning);
    }
    if (st == NB_OK && nb_flag_on(a, "verbose"))
        say_model(*out);
    return st;
}

nb_status nb_sampling_from_args(const nb_args *a, int32_t *n_predict, int32_t *ctx, nb_sampling *o,
                                nb_error *err)
{
    int32_t seed = (int32_t)o->seed;
    double temp = (double)o->temp, top_p = (double)o->top_p, min_p = (double)o->min_p;
    nb_status st = nb_flag_int(a, "max-tokens", -1, INT32_MAX, n_predict, err);
    if (st == NB_OK)
        st = nb_flag_int(a, "top-k", 0, INT32_MAX, &o->top_k, err);
    if (st == NB_OK)
        st = nb_flag_int(a, "seed", 0, INT32_MAX, &seed, err);
    if (st == NB_OK)
        st = nb_flag_int(a, "ctx", 1, 1 << 24, ctx, err);
    if (st == NB_OK)
        st = nb_flag_real(a, "temp", 0, 100, &temp, err);
    if (st == NB_OK)
        st = nb_flag_real(a, "top-p", 0, 1, &top_p, err);
    if (st == NB_OK)
        st = nb_flag_real(a, "min-p", 0, 1, &min_p, err);
    o->seed = (uint64_t)seed;
    o->temp = (float)temp;
    o->top_p = (float)top_p;
    o->min_p = (float)min_p;
    return st;
}

void nb_print_generation(const nb_model *m, size_t n_prompt, const nb_generate_result *r)
{
    nb_model_info info;
    nb_model_get_info(m, &info);
    printf("{\"text\":");
    nb_put_json(stdout, r->text, r->text_n);
    printf(",\"prompt_tokens\":%zu,\"tokens\":[", n_prompt);
    for (size_t i = 0; i < r->n_token; i++)
        printf("%s%d", i ? "," : "", r->tokens[i]);
    const double gen = r->n_token > 1 && r->gen_s > 0 ? (double)(r->n_token - 1) / r->gen_s : 0.0;
    printf("],\"stop\":\"%s\",\"prompt_tok_per_s\":%.2f,\"gen_tok_per_s\":%.2f,\"load_s\":%.4f,"
           "\"first_token_s\":%.4f,"
           "\"peak_rss_bytes\":%lld}\n",
           r->stop, r->prompt_s > 0 ? (double)n_prompt / r->prompt_s : 0.0, gen, info.load_s,
           r->first_token_s, (long long)nb_peak_rss_bytes());
}
