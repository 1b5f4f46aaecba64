/* quantize_choose.c -- flags to a quantizer and a file format, what is refused before any file is
 * touched; then, with the model open, what was left to defaults. */
#include "api/quantize.h"
#include "api/refuse_input.h"
#include "base/nearest.h"
#include "file/hub.h"
#include "file/outfile.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

bool nb_method_at(int i, nb_method *out)
{
    for (const nb_quantizer *const *q = nb_quantizers; *q && i >= 0; q++)
        if (i-- == 0) {
            *out = (nb_method){.name = (*q)->name, .summary = (*q)->summary, .cost = (*q)->cost};
            return true;
        }
    return false;
}

static nb_status choose_method(nb_quantize_job *j, nb_error *err)
{
    const char *name = j->o.method ? j->o.method : "gptq";
    j->p.quantizer = nb_quantizer_find(name);
    if (j->p.quantizer)
        return NB_OK;
    char names[128] = "";
    size_t at = 0;
    nb_nearest near = {.given = name};
    for (const nb_quantizer *const *q = nb_quantizers; *q && at < sizeof names; q++) {
        at += (size_t)snprintf(names + at, sizeof names - at, " %s", (*q)->name);
        nb_nearest_offer(&near, (*q)->name);
    }
    static const char *const known[] = {"awq-mixed",   "hqq",    "nf4",     "llm-int8",
                                        "smoothquant", "bitnet", "squeeze", "qllm"};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(known[i], name) == 0)
            return nb_fail(err, NB_UNSUPPORTED, "--method %s is not there yet; there are:%s", name,
                           names);
    if (!j->o.grid && nb_quantize_is_grid(name)) { /* as llama.cpp's users say it */
        j->o.grid = name;
        j->p.quantizer = nb_quantizer_find("gptq");
        return NB_OK;
    }
    const nb_status st =
        nb_fail(err, NB_USAGE, "--method %.40s is unknown; there are:%s", name, names);
    nb_nearest_hint(&near, "--method ", err);
    return st;
}

static const nb_quantize_form *form_named(const char *name)
{
    for (const nb_quantize_form *f = nb_quantize_forms; f->name; f++)
        if (strcmp(f->name, name) == 0)
            return f;
    return NULL;
}

static nb_status choose_format(nb_quantize_job *j, nb_error *err)
{
    const char *f = j->o.format, *out = j->o.out;
    const size_t n = out ? strlen(out) : 0;
    if (!n)
        return nb_fail(err, NB_USAGE, "-o OUT is missing");
    const bool gguf = n > 5 && strcmp(out + n - 5, ".gguf") == 0;
    j->form = form_named(f ? f : gguf ? "gguf" : j->o.sym_set && !j->o.sym ? "gptq_v2" : "gptq");
    if (!j->form) {
        nb_nearest near = {.given = f};
        for (const nb_quantize_form *k = nb_quantize_forms; k->name; k++)
            nb_nearest_offer(&near, k->name);
        nb_fail(err, NB_USAGE,
                "--format %.40s is unknown; gguf, plain, gptq, gptq_v2, awq, compressed-tensors "
                "and bnb are there",
                f);
        nb_nearest_hint(&near, "--format ", err);
        return NB_USAGE;
    }
    if (j->o.max_shard_bytes && !j->form->folder)
        return nb_fail(err, NB_UNSUPPORTED,
                       "--max-shard-size with a GGUF file, which is written in one piece");
    if (j->form->folder && gguf)
        return nb_fail(err, NB_USAGE, "--format %s is a folder, %s is called like a GGUF file",
                       j->form->name, out);
    return NB_OK;
}

/* --clip: none, or how the range of a group is narrowed; the quantizer's own when nothing is
 * said. */
static nb_status choose_clip(nb_quantize_job *j, nb_error *err)
{
    static const struct {
        const char *name;
        nb_clip clip;
    } rows[] = {{"none", NB_CLIP_NONE},
                {"mse", NB_CLIP_MSE},
                {"p99.9", NB_CLIP_QUANTILE},
                {"output", NB_CLIP_OUTPUT}};
    j->p.clip = j->p.quantizer->clip;
    for (size_t i = 0; j->o.clip && i < sizeof rows / sizeof *rows; i++)
        if (strcmp(rows[i].name, j->o.clip) == 0) {
            if (rows[i].clip == NB_CLIP_OUTPUT && j->p.quantizer->needs == NB_NEEDS_NOTHING)
                return nb_fail(
                    err, NB_USAGE,
                    "--clip output measures on calibration text, which --method %s has none of",
                    j->p.quantizer->name);
            j->p.clip = rows[i].clip;
            return NB_OK;
        }
    if (!j->o.clip)
        return NB_OK;
    nb_nearest near = {.given = j->o.clip};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        nb_nearest_offer(&near, rows[i].name);
    nb_fail(err, NB_USAGE, "--clip %.40s: none, mse, p99.9 and output are there", j->o.clip);
    nb_nearest_hint(&near, "--clip ", err);
    return NB_USAGE;
}

static nb_status check_options(const nb_quantize_options *o, nb_error *err)
{
    if (o->memory < 0)
        return nb_fail(err, NB_USAGE, "--memory must be positive");
    if (o->layers_set && (o->layer_from < 0 || o->layer_to <= o->layer_from))
        return nb_fail(err, NB_USAGE, "--layers %d:%d, the second must be greater", o->layer_from,
                       o->layer_to);
    if (o->correction_set && !(o->correction >= 0.0 && o->correction <= 1.0))
        return nb_fail(err, NB_USAGE, "--correction %g, it must be 0 to 1", o->correction);
    if (o->damp < 0.0 || o->damp > 10.0)
        return nb_fail(err, NB_USAGE, "--damp %g, it must be 0 to 10", o->damp);
    if (o->token_limit_set && !(o->token_limit >= 0.0 && o->token_limit <= 1e6))
        return nb_fail(err, NB_USAGE, "--token-limit %g, it must be 0 to 1e6", o->token_limit);
    if (o->samples < 0 || o->ctx < 0 || (o->ctx > 0 && o->ctx < 2))
        return nb_fail(err, NB_USAGE, "--samples %d --ctx %d, they must be positive", o->samples,
                       o->ctx);
    return NB_OK;
}

/* Whether the file would lie in the folder or below. */
static bool is_inside(const char *out, const char *folder)
{
    char parent[4096], real[PATH_MAX], base[PATH_MAX];
    const char *slash = strrchr(out, '/');
    const size_t n = slash ? (size_t)(slash - out) : 0;
    if (n >= sizeof parent)
        return false;
    memcpy(parent, out, n);
    memcpy(parent + n, n ? "" : slash ? "/" : ".", n ? 1 : 2);
    if (!realpath(folder, base) || !realpath(parent, real))
        return false;
    struct stat sb;
    const size_t len = strlen(base);
    return stat(base, &sb) == 0 && S_ISDIR(sb.st_mode) && strncmp(real, base, len) == 0 &&
           (real[len] == 0 || real[len] == '/' || len == 1);
}

nb_status nb_refuse_input(const char *model, const char *path, nb_error *err)
{
    struct stat in, out;
    nb_hub_name name;
    char found[NB_HUB_PATH];
    if (stat(model, &in) != 0 && nb_hub_name_parse(model, &name) &&
        nb_hub_find(&name, found, NULL) == NB_OK)
        model = found;
    if (stat(model, &in) == 0 && stat(path, &out) == 0 && in.st_dev == out.st_dev &&
        in.st_ino == out.st_ino)
        return nb_fail_at(err, NB_USAGE, path, -1, "OUT is the input itself");
    if (is_inside(path, model))
        return nb_fail_at(err, NB_USAGE, path, -1, "OUT lies inside the input's folder");
    return NB_OK;
}

static nb_status refuse_text(const char *text, const char *flag, const char *path, nb_error *err)
{
    struct stat in, out;
    if (text && stat(text, &in) == 0 && stat(path, &out) == 0 && in.st_dev == out.st_dev &&
        in.st_ino == out.st_ino)
        return nb_fail_at(err, NB_USAGE, path, -1, "OUT is the text of --%s", flag);
    return NB_OK;
}

nb_status nb_quantize_choose(nb_quantize_job *j, nb_error *err)
{
    nb_quantize_options *o = &j->o;
    nb_status st = check_options(o, err);
    if (st == NB_OK)
        st = choose_method(j, err);
    if (st == NB_OK)
        st = choose_format(j, err);
    if (st == NB_OK)
        st = nb_quantize_choose_grid(j, err);
    if (st == NB_OK)
        st = nb_quantize_choose_embedding(j, err);
    if (st == NB_OK)
        st = choose_clip(j, err);
    if (st == NB_OK)
        st = nb_refuse_input(o->model, o->out, err);
    if (st == NB_OK)
        st = refuse_text(o->calib, "calib", o->out, err);
    if (st == NB_OK)
        st = refuse_text(o->eval_path, "eval", o->out, err);
    /* before a work folder is made beside a device */
    if (st == NB_OK && !j->form->folder && !o->dry_run)
        st = nb_outfile_check(o->out, err);
    return st;
}

/* From the root on. A file keeps its name, of which its other parts are found, even where it is a
 * link (the hub's cache). */
static bool whole_path(const char *path, char out[PATH_MAX])
{
    struct stat sb;
    char parent[PATH_MAX];
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    if (stat(path, &sb) != 0 || S_ISDIR(sb.st_mode))
        return realpath(path, out) != NULL;
    const int n = snprintf(parent, sizeof parent, "%.*s", slash ? (int)(slash - path) + 1 : 1,
                           slash ? path : ".");
    if (n < 0 || (size_t)n >= sizeof parent || !realpath(parent, out))
        return false;
    const size_t at = strlen(out), len = strlen(name);
    errno = ENAMETOOLONG;
    if (at + len + 2 > PATH_MAX)
        return false;
    out[at] = '/';
    memcpy(out + at + (at > 1), name, len + 1); /* the root ends with its slash */
    return true;
}

nb_status nb_quantize_resolve(nb_quantize_job *j, nb_error *err)
{
    nb_quantize_options *o = &j->o;
    const int32_t n_layer = j->m->hp.n_layer, most = j->m->hp.ctx_len;
    if (!o->layers_set) {
        o->layer_from = 0;
        o->layer_to = n_layer;
        o->layers_set = true;
    }
    if (o->layer_to > n_layer)
        return nb_fail(err, NB_USAGE, "--layers %d:%d, the model has %d layers", o->layer_from,
                       o->layer_to, n_layer);
    const nb_status st = nb_quantize_choose_group(j, err);
    if (st != NB_OK)
        return st;
    /* of a name of the hub: the commit that it stands for now */
    if (!whole_path(j->m->container->where, j->model_path))
        return nb_fail_errno_at(err, o->model, "cannot be found");
    o->model = j->model_path;
    o->method = j->p.quantizer->name;
    o->grid = j->p.grid.name;
    o->bits = j->p.grid.bits;
    o->group = j->p.grid.group ? j->p.grid.group : -1;
    o->sym = j->p.grid.sym;
    o->sym_set = true;
    o->format = j->form->name;
    o->embedding = j->embedding ? j->embedding->name : "keep";
    o->damp = o->damp > 0.0 ? o->damp : NB_DEFAULT_DAMP;
    o->correction = o->correction_set ? o->correction : 1.0;
    o->correction_set = true;
    o->token_limit = o->token_limit_set ? o->token_limit : NB_DEFAULT_TOKEN_LIMIT;
    o->token_limit_set = true;
    o->samples = o->samples > 0 ? o->samples : 64;
    o->ctx = o->ctx > 0 ? (o->ctx < most ? o->ctx : most) : (most < 512 ? most : 512);
    snprintf(j->device, sizeof j->device, "%s", j->m->be->name);
    o->device = j->device;
    if (j->p.quantizer->needs == NB_NEEDS_NOTHING) { /* nothing of the output depends on them */
        o->calib = "none";
        o->samples = o->ctx = 0;
        o->seed = 0;
        o->token_limit = 0.0;
    }
    if (!j->p.quantizer->corrects)
        o->damp = o->correction = 0.0;
    if (!o->calib)
        o->calib = "self";
    else if (strcmp(o->calib, "self") != 0 && strcmp(o->calib, "none") != 0) {
        if (!realpath(o->calib, j->calib_path))
            return nb_fail_errno_at(err, o->calib, "cannot open");
        o->calib = j->calib_path;
    }
    j->p.damp = o->damp;
    j->p.correction = o->correction;
    j->p.token_limit = o->token_limit;
    j->p.static_groups = !o->no_static_groups;
    j->p.layer_from = o->layer_from;
    j->p.layer_to = o->layer_to;
    j->p.n_thread = j->m->be->n_thread;
    return NB_OK;
}
