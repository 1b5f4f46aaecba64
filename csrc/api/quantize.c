/* quantize.c -- nb_quantize: flags to a quantizer, a grid and a format; calibration; the pipeline; the file; the report. */
#include "base/clock.h"
#include "base/mapfile.h"
#include "quant/pipeline.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* What a quantization run holds from beginning to end. */
struct job {
    const nb_quantize_options *o;
    nb_pipeline_options p;
    const nb_dtype *embedding; /* format of embedding and head; NULL: as in the source */
    nb_model *m;
    nb_calib calib;
    bool calibrated;
    nb_gguf_writer *w;
    nb_linear_report *report;
    int64_t n_report;
};

static nb_status choose_method(struct job *j, nb_error *err)
{
    const char *name = j->o->method ? j->o->method : "gptq";
    j->p.quantizer = nb_quantizer_find(name);
    if (j->p.quantizer)
        return NB_OK;
    char names[128] = "";
    size_t at = 0;
    for (const nb_quantizer *const *q = nb_quantizers; *q && at < sizeof names; q++)
        at += (size_t)snprintf(names + at, sizeof names - at, " %s", (*q)->name);
    static const char *const known[] = {"awq", "awq-mixed", "hqq", "nf4", "llm-int8", "smoothquant", "bitnet", "squeeze", "qllm"};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(known[i], name) == 0)
            return nb_fail(err, NB_UNSUPPORTED, "--method %s is not there yet; there are:%s", name, names);
    return nb_fail(err, NB_USAGE, "--method %s is unknown; there are:%s", name, names);
}

static nb_status choose_format(const struct job *j, nb_error *err)
{
    const char *f = j->o->format, *out = j->o->out;
    const size_t n = out ? strlen(out) : 0;
    if (!n)
        return nb_fail(err, NB_USAGE, "-o OUT is missing");
    const bool gguf = n > 5 && strcmp(out + n - 5, ".gguf") == 0;
    if (f && strcmp(f, "gguf") != 0) {
        static const char *const known[] = {"plain", "gptq", "gptq_v2", "awq", "compressed-tensors", "bnb"};
        for (size_t i = 0; i < sizeof known / sizeof *known; i++)
            if (strcmp(known[i], f) == 0)
                return nb_fail(err, NB_UNSUPPORTED, "--format %s is not there yet; gguf is", f);
        return nb_fail(err, NB_USAGE, "--format %s is unknown; gguf is there", f);
    }
    if (!f && !gguf)
        return nb_fail(err, NB_UNSUPPORTED, "%s: only GGUF is written so far; let OUT end in .gguf", out);
    return NB_OK;
}

/* Grids of CONTRACT.md that are no number format, and llama.cpp's mixes. */
static bool not_there_yet(const char *grid)
{
    static const char *const names[] = {"fp4", "nf4", "fp8", "mxfp4", "ternary"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(names[i], grid) == 0)
            return true;
    const size_t n = strlen(grid); /* q2_k_s ... q6_k_l */
    return n == 6 && grid[0] == 'q' && strncmp(grid + 2, "_k_", 3) == 0 && strchr("sml", grid[5]);
}

/* --grid, or what --bits asks for in a GGUF file: 4 is q4_0, 8 is q8_0 (CONTRACT). */
static nb_status choose_grid(struct job *j, nb_error *err)
{
    const nb_quantize_options *o = j->o;
    const char *name = o->grid;
    if (!name) {
        const int bits = o->bits ? o->bits : 4;
        if (bits == 4)
            name = o->sym_set && !o->sym ? "q4_1" : "q4_0";
        else if (bits == 8)
            name = "q8_0";
        else if (bits == 2 || bits == 3)
            return nb_fail(err, NB_UNSUPPORTED, "--bits %d has no GGUF format of one scale a group; its files are not there yet", bits);
        else
            return nb_fail(err, NB_USAGE, "--bits %d, it must be 2, 3, 4 or 8", bits);
    }
    const nb_dtype *t = nb_dtype_by_name(name);
    if ((t && !t->rule) || not_there_yet(name))
        return nb_fail(err, NB_UNSUPPORTED, "--grid %s cannot be written yet; an unknown one lists those that can", name);
    const nb_status st = nb_grid_find(name, o->group > 0 ? o->group : 0, !o->sym_set || o->sym, &j->p.grid, err);
    if (st != NB_OK)
        return st;
    if (!j->p.grid.dtype)
        return nb_fail(err, NB_UNSUPPORTED, "--grid %s has no GGUF format; grids named like one (q4_0, q8_0) have", name);
    if (o->bits && o->bits != j->p.grid.bits)
        return nb_fail(err, NB_USAGE, "--bits %d and --grid %s, which has %d bits", o->bits, name, j->p.grid.bits);
    if (o->group && o->group != j->p.grid.group)
        return o->group < 0
                   ? nb_fail(err, NB_UNSUPPORTED, "--group row in a GGUF file; %s has groups of %d", name, j->p.grid.group)
                   : nb_fail(err, NB_UNSUPPORTED, "--group %d in a GGUF file; %s has groups of %d", o->group, name, j->p.grid.group);
    if (o->sym_set && o->sym != j->p.grid.sym)
        return nb_fail(err, o->grid ? NB_USAGE : NB_UNSUPPORTED, "--%s in a GGUF file of %s, which is %s", o->sym ? "sym" : "asym", name,
                       j->p.grid.sym ? "symmetric" : "not symmetric");
    return NB_OK;
}

static nb_status choose_embedding(struct job *j, nb_error *err)
{
    const char *e = j->o->embedding ? j->o->embedding : "q8_0";
    if (strcmp(e, "keep") == 0)
        return NB_OK;
    j->embedding = nb_dtype_by_name(e);
    if ((j->embedding && !j->embedding->encode) || not_there_yet(e))
        return nb_fail(err, NB_UNSUPPORTED, "--embedding %s cannot be written yet; q8_0, q4_0 and f16 can", e);
    if (!j->embedding)
        return nb_fail(err, NB_USAGE, "--embedding %s: keep, or a format that can be written, such as q8_0, q4_0, f16", e);
    return NB_OK;
}

/* ---- which format each tensor gets ---- */

static bool is_end(const struct job *j, const nb_tensor *t)
{
    char name[128];
    return t == nb_family_tensor(j->m->family, j->m->container, NB_ROLE_EMBED, 0, name) ||
           t == nb_family_tensor(j->m->family, j->m->container, NB_ROLE_OUTPUT, 0, name);
}

static bool is_linear(const struct job *j, const nb_tensor *t, nb_group_id *group)
{
    char name[128];
    for (int l = 0; l < j->m->hp.n_layer; l++)
        for (int g = 0; g < NB_GROUP_COUNT; g++) {
            nb_role role[3];
            const int n = nb_group_roles((nb_group_id)g, role);
            for (int i = 0; i < n; i++)
                if (t == nb_family_tensor(j->m->family, j->m->container, role[i], l, name)) {
                    *group = (nb_group_id)g;
                    return true;
                }
        }
    return false;
}

static const nb_dtype *choose_type(void *arg, const nb_tensor *t)
{
    const struct job *j = arg;
    nb_group_id g;
    if (t->n_dim == 2 && is_end(j, t))
        return j->embedding && t->shape[1] % j->embedding->block == 0 ? j->embedding : t->dtype;
    if (t->n_dim == 2 && is_linear(j, t, &g))
        return nb_pipeline_fits(j->m, g, &j->p.grid) ? j->p.grid.dtype : nb_dtype_by_name("f16");
    return t->dtype;
}

/* All tensors the pipeline does not write: embedding, head, norms, whatever else the file holds. */
static nb_status write_rest(struct job *j, nb_error *err)
{
    nb_status st = NB_OK;
    nb_group_id g;
    for (int64_t i = 0; i < j->m->container->n_tensor && st == NB_OK; i++) {
        const nb_tensor *t = &j->m->container->tensor[i];
        if (t->n_dim == 2 && is_linear(j, t, &g))
            continue;
        st = nb_gguf_out_convert(j->m->container, i, choose_type(j, t), j->w, j->p.n_thread, err);
    }
    return st;
}

/* ---- calibration ---- */

static nb_status calibrate(struct job *j, nb_error *err)
{
    const nb_quantize_options *o = j->o;
    const int32_t samples = o->samples > 0 ? o->samples : 64, most = j->m->hp.ctx_len;
    const int32_t ctx = o->ctx > 0 ? (o->ctx < most ? o->ctx : most) : (most < 512 ? most : 512);
    if (!j->m->tokenizer)
        return nb_fail_at(err, NB_UNSUPPORTED, o->model, -1, "no tokenizer, so no calibration text can be read; --method rtn needs none");
    j->calibrated = true;
    if (o->calib && strcmp(o->calib, "self") != 0) {
        nb_mapfile *f = NULL;
        nb_status st = nb_mapfile_open(o->calib, &f, err);
        if (st == NB_OK)
            st = nb_calib_text(j->m, o->calib, (const char *)f->p, f->n, samples, ctx, &j->calib, err);
        nb_mapfile_close(f);
        return st;
    }
    /* The model writes its own text: a second, fast copy of it (int8 activations), closed before the work begins. */
    nb_model *writer = NULL;
    const nb_model_options mo = {.device = o->device, .n_thread = o->n_thread};
    if (o->progress)
        o->progress(o->arg, "the model writes its own calibration text", 0, j->m->hp.n_layer, -1.0);
    nb_status st = nb_model_open(o->model, &mo, &writer, err);
    if (st == NB_OK)
        st = nb_calib_self(writer, samples, ctx, o->seed, &j->calib, err);
    nb_model_close(writer);
    return st;
}

/* ---- figures ---- */

static nb_status evaluate(const nb_quantize_options *o, nb_quantize_result *r, nb_error *err)
{
    const nb_model_options mo = {.device = o->device, .n_thread = o->n_thread, .exact = true};
    nb_mapfile *f = NULL;
    nb_model *before = NULL, *after = NULL;
    nb_eval_result a = {0}, b = {0};
    nb_status st = nb_mapfile_open(o->eval_path, &f, err);
    if (st == NB_OK)
        st = nb_model_open(o->model, &mo, &before, err);
    if (st == NB_OK)
        st = nb_model_open(o->out, &mo, &after, err);
    if (st == NB_OK) {
        const nb_eval_options eo = {.text = (const char *)f->p, .text_n = f->n, .text_path = o->eval_path};
        st = nb_eval(before, NULL, &eo, &a, err);
        if (st == NB_OK)
            st = nb_eval(after, before, &eo, &b, err);
    }
    if (st == NB_OK) {
        r->has_eval = true;
        r->ppl_before = a.ppl;
        r->ppl_after = b.ppl;
        r->kl_mean = b.kl_mean;
        r->top1 = b.top1;
    }
    nb_model_close(after);
    nb_model_close(before);
    nb_mapfile_close(f);
    return st;
}

static void count_bits(struct job *j, nb_quantize_result *r)
{
    double all = 0, all_n = 0, linear = 0, linear_n = 0;
    for (int64_t i = 0; i < j->m->container->n_tensor; i++) {
        const nb_tensor *t = &j->m->container->tensor[i];
        const nb_dtype *to = choose_type(j, t);
        nb_group_id g;
        double n = 1;
        for (int d = 0; d < t->n_dim; d++)
            n *= (double)t->shape[d];
        const double bits = 8.0 * to->bytes / to->block * n;
        all += bits;
        all_n += n;
        if (!(t->n_dim == 2 && is_end(j, t))) {
            linear += bits;
            linear_n += n;
        }
        (void)g;
    }
    r->bits_per_weight = all / all_n;
    r->bits_per_weight_linears = linear_n > 0 ? linear / linear_n : 0;
}

static nb_status fill_result(struct job *j, nb_quantize_result *r, nb_error *err)
{
    snprintf(r->method, sizeof r->method, "%s", j->p.quantizer->name);
    snprintf(r->grid, sizeof r->grid, "%s", j->p.grid.name);
    snprintf(r->format, sizeof r->format, "gguf");
    count_bits(j, r);
    r->layers = nb_alloc_zero((size_t)j->n_report, sizeof *r->layers, "the report", err);
    if (!r->layers)
        return NB_NO_ROOM;
    r->n_layer = (size_t)j->n_report;
    r->owner = j->report; /* the names and notes live there */
    for (int64_t i = 0; i < j->n_report; i++)
        r->layers[i] = (nb_quantize_layer){.name = j->report[i].name, .error = j->report[i].error, .error_rtn = j->report[i].error_rtn,
                                           .bits_per_weight = j->report[i].bits_per_weight, .note = j->report[i].note};
    j->report = NULL;
    return NB_OK;
}

void nb_quantize_result_free(nb_quantize_result *r)
{
    free(r->layers);
    free(r->owner);
    memset(r, 0, sizeof *r);
}

static nb_status check_options(const nb_quantize_options *o, nb_error *err)
{
    if (o->correction_set && !(o->correction >= 0.0 && o->correction <= 1.0))
        return nb_fail(err, NB_USAGE, "--correction %g, it must be 0 to 1", o->correction);
    if (o->damp < 0.0 || o->damp > 10.0)
        return nb_fail(err, NB_USAGE, "--damp %g, it must be 0 to 10", o->damp);
    if (o->samples < 0 || o->ctx < 0 || (o->ctx > 0 && o->ctx < 2))
        return nb_fail(err, NB_USAGE, "--samples %d --ctx %d, they must be positive", o->samples, o->ctx);
    return NB_OK;
}

/* By whatever name or link: the file that is read must not be the one that is replaced. */
static nb_status refuse_input(const nb_quantize_options *o, nb_error *err)
{
    struct stat in, out;
    if (stat(o->model, &in) == 0 && stat(o->out, &out) == 0 && in.st_dev == out.st_dev && in.st_ino == out.st_ino)
        return nb_fail_at(err, NB_USAGE, o->out, -1, "OUT is the input itself");
    return NB_OK;
}

nb_status nb_quantize(const nb_quantize_options *o, nb_quantize_result *r, nb_error *err)
{
    const int64_t start = nb_clock_ns();
    struct job j = {.o = o};
    memset(r, 0, sizeof *r);
    j.p = (nb_pipeline_options){.damp = o->damp > 0.0 ? o->damp : 0.01, .correction = o->correction_set ? o->correction : 1.0,
                                .static_groups = !o->no_static_groups, .progress = o->progress, .arg = o->arg, .stop = o->stop};
    nb_status st = check_options(o, err);
    if (st == NB_OK)
        st = choose_method(&j, err);
    if (st == NB_OK)
        st = choose_format(&j, err);
    if (st == NB_OK)
        st = choose_grid(&j, err);
    if (st == NB_OK)
        st = choose_embedding(&j, err);
    if (st == NB_OK)
        st = refuse_input(o, err);
    const nb_model_options mo = {.device = o->device, .n_thread = o->n_thread, .exact = true};
    if (st == NB_OK)
        st = nb_model_load(o->model, &mo, false, &j.m, err);
    if (st == NB_OK) {
        j.p.n_thread = j.m->be->n_thread;
        j.report = nb_alloc_zero((size_t)j.m->hp.n_layer * 7, sizeof *j.report, "the report", err);
        st = j.report ? NB_OK : NB_NO_ROOM;
    }
    /* The file is opened, its room on disk checked, before the first minute of work. */
    if (st == NB_OK)
        st = nb_gguf_out_begin(j.m->container, o->out, nb_gguf_file_type(j.p.grid.dtype), choose_type, &j, &j.w, err);
    if (st == NB_OK)
        r->bytes = (int64_t)nb_gguf_writer_total_bytes(j.w);
    if (st == NB_OK && o->dry_run) {
        st = fill_result(&j, r, err);
        goto done;
    }
    if (st == NB_OK && j.p.quantizer->needs != NB_NEEDS_NOTHING)
        st = calibrate(&j, err);
    if (st == NB_OK)
        st = nb_pipeline_run(j.m, &j.p, j.calibrated ? &j.calib : NULL, j.w, j.report, &j.n_report, err);
    if (st == NB_OK)
        st = write_rest(&j, err);
    if (st == NB_OK)
        st = fill_result(&j, r, err);
    if (st == NB_OK) /* last: after it nothing fails any more */
        st = nb_gguf_writer_commit(j.w, err);
done:
    nb_gguf_writer_close(j.w);
    nb_calib_free(&j.calib);
    nb_model_close(j.m);
    free(j.report);
    if (st == NB_OK && o->eval_path && !o->dry_run)
        st = evaluate(o, r, err);
    r->seconds = (double)(nb_clock_ns() - start) * 1e-9;
    r->peak_rss_bytes = nb_peak_rss_bytes();
    if (st != NB_OK)
        nb_quantize_result_free(r);
    return st;
}
