/* report.c -- nb_quantize_report: a finished run as the facts of quant/report.h. */
#include "quant/report.h"
#include "base/memory.h"
#include "file/outfile.h"
#include "nibble.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { kFigures = 9, kSettings = 16, kWarnings = 11, kValue = 64, kSentence = 300 };

/* The facts and the texts they point to. */
typedef struct facts {
    nb_report r;
    nb_report_pair figure[kFigures], setting[kSettings];
    char value[kFigures + kSettings][kValue];
    int n_value;
    nb_report_linear *linear;
    char (*kind)[128];
    nb_report_phase phase[NB_QUANTIZE_PHASES];
    char sentence[kWarnings][kSentence];
    const char *warning[kWarnings];
    char title[512];
} facts;

/* ---- a tensor's name ---- */

/* "blk.3.attn_q.weight": layer 3, kind attn_q. The first number is the layer, a later one (an
 * expert) becomes *; *layer -1: none. */
static void split_name(const char *name, int *layer, char *kind, size_t n)
{
    static const char tail[] = ".weight";
    size_t length = strlen(name), at = 0;
    if (length > sizeof tail - 1 && strcmp(name + length - (sizeof tail - 1), tail) == 0)
        length -= sizeof tail - 1;
    *layer = -1;
    for (size_t i = 0, part = 0; i < length && at < n; i += part + 1) {
        part = 0;
        while (i + part < length && name[i + part] != '.')
            part++;
        const bool number = part > 0 && part < 9 && strspn(name + i, "0123456789") >= part;
        if (number && *layer < 0) {
            *layer = atoi(name + i);
            at = 0; /* what stands before it is the same in every layer */
        } else
            at += (size_t)snprintf(kind + at, n - at, "%s%.*s", at ? "." : "",
                                   number ? 1 : (int)part, number ? "*" : name + i);
    }
    if (at == 0)
        snprintf(kind, n, "%.*s", (int)length, name);
}

/* ---- figures and settings ---- */

NB_PRINTF(3, 4)
static void say(facts *f, const char *key, const char *format, ...)
{
    const bool figure = f->r.n_setting == 0 && f->r.setting == NULL; /* figures come first */
    size_t *n = figure ? &f->r.n_figure : &f->r.n_setting;
    if (*n == (figure ? (size_t)kFigures : (size_t)kSettings))
        return;
    char *value = f->value[f->n_value++];
    va_list args;
    va_start(args, format);
    vsnprintf(value, kValue, format, args);
    va_end(args);
    (figure ? f->figure : f->setting)[(*n)++] = (nb_report_pair){key, value};
}

static void say_whole(facts *f, const char *key, const char *text) /* of any length, borrowed */
{
    if (f->r.n_setting < kSettings)
        f->setting[f->r.n_setting++] = (nb_report_pair){key, text};
}

static void figures(facts *f, const nb_quantize_result *r)
{
    say(f, "bits a weight", "%.3f", r->bits_per_weight);
    say(f, "of the linears", "%.3f", r->bits_per_weight_linears);
    say(f, "file", r->bytes < 1000000000 ? "%.1f MB" : "%.0f MB", (double)r->bytes * 1e-6);
    say(f, "peak memory", "%.0f MiB", (double)r->peak_rss_bytes / 1048576.0);
    if (r->requantized[0])
        say(f, "(re-quantized)", "from %s", r->requantized);
    if (!r->has_eval)
        return;
    say(f, "perplexity before", "%.4g", r->ppl_before);
    say(f, "perplexity after", "%.4g", r->ppl_after);
    say(f, "KL, nats a token", "%.4g", r->kl_mean);
    say(f, "same likeliest token", "%.2f %%", 100 * r->top1);
}

static void settings(facts *f, const nb_quantize_options *o, const nb_quantize_result *r)
{
    f->r.setting = f->setting;
    say_whole(f, "model", o->model ? o->model : "the unfinished run's");
    say_whole(f, "output", o->out);
    say_whole(f, "method", r->method);
    say_whole(f, "grid", r->grid);
    say_whole(f, "format", r->format);
    if (!o->model) { /* the other settings were not given anew */
        say_whole(f, "settings", "as the run began; its manifest has them");
        say_whole(f, "nibble", nb_version());
        return;
    }
    say_whole(f, "embedding", o->embedding ? o->embedding : "default");
    if (strcmp(r->method, "rtn") != 0) {
        say_whole(f, "calibration", o->calib ? o->calib : "self");
        if (o->samples)
            say(f, "samples", "%d", o->samples);
        if (o->ctx)
            say(f, "tokens a sample", "%d", o->ctx);
        say(f, "seed", "%llu", (unsigned long long)o->seed);
        say(f, "damping", "%g", o->damp > 0 ? o->damp : NB_DEFAULT_DAMP);
        say(f, "correction", "%g", o->correction_set ? o->correction : 1.0);
        say(f, "longest input of a token, in medians", "%g",
            o->token_limit_set ? o->token_limit : NB_DEFAULT_TOKEN_LIMIT);
        say_whole(f, "order",
                  o->no_static_groups ? "natural, scales from current values" : "static groups");
    }
    if (o->eval_path)
        say_whole(f, "evaluation text", o->eval_path);
    say_whole(f, "device", o->device ? o->device : "auto");
    say_whole(f, "nibble", nb_version());
}

/* ---- linears, phases, warnings ---- */

static nb_status linears(facts *f, const nb_quantize_result *r, nb_error *err)
{
    f->linear = nb_alloc_zero(r->n_layer + 1, sizeof *f->linear, "the report", err);
    f->kind = f->linear ? nb_alloc_zero(r->n_layer + 1, sizeof *f->kind, "the report", err) : NULL;
    if (!f->kind)
        return NB_NO_ROOM;
    for (size_t i = 0; i < r->n_layer; i++) {
        const nb_quantize_layer *l = &r->layers[i];
        int layer = -1;
        split_name(l->name, &layer, f->kind[i], sizeof f->kind[i]);
        f->linear[i] = (nb_report_linear){
            l->name, layer, f->kind[i], l->error, l->error_rtn, l->bits_per_weight, l->note};
    }
    f->r.linear = f->linear;
    f->r.n_linear = r->n_layer;
    return NB_OK;
}

/* The first linear that has the note, under the same verdict: it speaks for all of them. */
static size_t first_with(const nb_quantize_result *r, size_t i)
{
    size_t k = 0;
    while (k < i && (r->layers[k].rounded != r->layers[i].rounded ||
                     strcmp(r->layers[k].note, r->layers[i].note) != 0))
        k++;
    return k;
}

/* A sentence a note, whatever the number of linears that have it. */
static void notes(facts *f, const nb_quantize_result *r)
{
    size_t n = 0;
    if (r->n_expert_rounded && n++ < kWarnings - 1)
        snprintf(f->sentence[0], kSentence,
                 "%lld of the experts' %lld linears saw too few tokens and were rounded to "
                 "nearest, %lld of them none",
                 (long long)r->n_expert_rounded, (long long)r->n_expert_linear,
                 (long long)r->n_expert_unseen);
    for (int rounded = 1; rounded >= 0; rounded--)
        for (size_t i = 0; i < r->n_layer; i++) {
            const nb_quantize_layer *l = &r->layers[i];
            size_t same = 0;
            if (!l->note[0] || l->rounded != rounded || first_with(r, i) < i ||
                n++ >= kWarnings - 1)
                continue;
            for (size_t k = i; k < r->n_layer; k++)
                same +=
                    r->layers[k].rounded == l->rounded && strcmp(r->layers[k].note, l->note) == 0;
            if (same > 1)
                snprintf(f->sentence[n - 1], kSentence, "%zu linears, the first %.110s: %.120s",
                         same, l->name, l->note);
            else
                snprintf(f->sentence[n - 1], kSentence, "%.120s: %.120s", l->name, l->note);
        }
    if (n >= kWarnings)
        snprintf(f->sentence[kWarnings - 1], kSentence,
                 "%zu more notes; the table at the end shows them", n - (kWarnings - 1));
    f->r.n_warning = n < kWarnings ? n : kWarnings;
    for (size_t i = 0; i < f->r.n_warning; i++)
        f->warning[i] = f->sentence[i];
    f->r.warning = f->warning;
}

static nb_status collect(facts *f, const nb_quantize_options *o, const nb_quantize_result *r,
                         nb_error *err)
{
    const char *slash = strrchr(o->out, '/');
    snprintf(f->title, sizeof f->title, "%.400s: %s, %s", slash && slash[1] ? slash + 1 : o->out,
             r->method, r->grid);
    f->r =
        (nb_report){.title = f->title,
                    .figure = f->figure,
                    .phase = f->phase,
                    .n_phase = (size_t)r->n_phase,
                    .has_eval = r->has_eval,
                    .eval = {r->ppl_before, r->ppl_before_stderr, r->ppl_after, r->ppl_after_stderr,
                             r->kl_mean, r->kl_stderr, r->kl_median, r->kl_p99, r->top1}};
    figures(f, r);
    settings(f, o, r);
    notes(f, r);
    for (int i = 0; i < r->n_phase; i++)
        f->phase[i] = (nb_report_phase){r->phase[i].name, r->phase[i].seconds};
    return linears(f, r, err);
}

/* ---- the file ---- */

static bool same_file(const char *a, const char *b)
{
    struct stat x, y;
    if (!a || !b) /* a run that is gone on with: its journal knows the model */
        return false;
    return strcmp(a, b) == 0 ||
           (stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino);
}

static nb_status would_replace(const char *path, nb_error *err)
{
    return nb_fail_at(err, NB_USAGE, path, -1, "it would replace the model");
}

/* A page and an array are made anew each time; whatever else has the name, a part of a model or a
 * text, is not ours to replace. */
static bool may_go(const char *path)
{
    static const char *const heads[] = {NB_REPORT_HEAD, "\x93NUMPY"};
    char head[16] = "";
    struct stat sb;
    if (stat(path, &sb) != 0 || !S_ISREG(sb.st_mode) || sb.st_size == 0)
        return true; /* nothing, or what no file is made in place of: opening says so */
    FILE *f = fopen(path, "rb");
    const size_t n = f ? fread(head, 1, sizeof head, f) : 0;
    if (f)
        fclose(f);
    for (int i = 0; i < 2; i++)
        if (n >= strlen(heads[i]) && memcmp(head, heads[i], strlen(heads[i])) == 0)
            return true;
    return false;
}

nb_status nb_check_output(const char *path, const char *model, nb_error *err)
{
    nb_outfile *f = NULL;
    if (same_file(path, model))
        return would_replace(path, err);
    if (!may_go(path))
        return nb_fail_at(err, NB_USAGE, path, -1,
                          "exists and was not written by this flag; name another file");
    const nb_status st = nb_outfile_open(path, &f, err);
    nb_outfile_close(f);
    return st;
}

nb_status nb_quantize_report(const nb_quantize_options *o, const nb_quantize_result *r,
                             const char *path, nb_error *err)
{
    if (same_file(path, o->model) || same_file(path, o->out))
        return would_replace(path, err);
    nb_text page = {0};
    nb_outfile *out = NULL;
    facts *f = nb_alloc_zero(1, sizeof *f, "the report", err);
    nb_status st = f ? collect(f, o, r, err) : NB_NO_ROOM;
    if (st == NB_OK)
        st = nb_report_html(&f->r, &page, err);
    if (st == NB_OK)
        st = nb_outfile_open(path, &out, err);
    if (st == NB_OK)
        st = nb_outfile_write_at(out, 0, page.p, page.n, err);
    if (st == NB_OK)
        st = nb_outfile_commit(out, err);
    nb_outfile_close(out);
    nb_text_free(&page);
    if (f) {
        free(f->linear);
        free(f->kind);
    }
    free(f);
    return st;
}
