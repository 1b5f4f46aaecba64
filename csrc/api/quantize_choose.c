/* quantize_choose.c -- flags to a quantizer, a file format, a grid: what is refused before any file
 * is touched. */
#include "api/quantize.h"
#include "api/refuse_input.h"
#include "base/nearest.h"
#include "convert/folder_plan.h"
#include "file/hub.h"
#include "file/outfile.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

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

/* Grids of CONTRACT.md that are no number format, and llama.cpp's mixes. */
static bool not_there_yet(const char *grid)
{
    static const char *const names[] = {"fp4", "nf4", "fp8", "mxfp4", "ternary"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcasecmp(names[i], grid) == 0)
            return true;
    const size_t n = strlen(grid); /* q2_k_s ... q6_k_l, in any case as all grids */
    return n == 6 && strchr("qQ", grid[0]) && strncasecmp(grid + 2, "_k_", 3) == 0 &&
           strchr("smlSML", grid[5]);
}

enum { kGroup = 128 }; /* inputs that share a scale in a folder, when nothing is said */

/* Whole numbers: --bits, --group and --sym, or --grid int4. */
static nb_status find_int_grid(nb_quantize_job *j, nb_error *err)
{
    const nb_quantize_options *o = &j->o;
    char name[16];
    const bool sym = !o->sym_set || o->sym;
    snprintf(name, sizeof name, "int%d", o->bits ? o->bits : 4);
    if (o->bits && o->bits != 2 && o->bits != 3 && o->bits != 4 && o->bits != 8)
        return nb_fail(err, NB_USAGE, "--bits %d, it must be 2, 3, 4 or 8", o->bits);
    const nb_status st = nb_grid_find(o->grid ? o->grid : name,
                                      o->group > 0   ? o->group
                                      : o->group < 0 ? 0
                                                     : kGroup,
                                      sym, &j->p.grid, err);
    if (st != NB_OK)
        return st;
    if (j->p.grid.dtype)
        return nb_fail(err, NB_UNSUPPORTED,
                       "--grid %s in --format %s, which holds int2, int3, int4 and int8",
                       j->p.grid.name, j->form->name);
    if (o->bits && o->bits != j->p.grid.bits)
        return nb_fail(err, NB_USAGE, "--bits %d and --grid %s, which has %d bits", o->bits,
                       o->grid, j->p.grid.bits);
    return o->range ? nb_grid_set_range(&j->p.grid, o->range, err) : NB_OK;
}

static nb_status choose_block_grid(nb_quantize_job *j, nb_error *err);

/* Levels of a number format in a folder: --grid, nf4 when nothing is said. */
static nb_status choose_table_grid(nb_quantize_job *j, const nb_scheme *scheme, nb_error *err)
{
    if (!j->o.grid)
        j->o.grid = "nf4";
    const nb_status st = choose_block_grid(j, err);
    if (st != NB_OK)
        return st;
    j->scheme = (nb_scheme_spec){.scheme = scheme,
                                 .bits = j->p.grid.bits,
                                 .group = j->p.grid.group,
                                 .sym = true,
                                 .variant = scheme->variant,
                                 .grid = j->p.grid.table ? j->p.grid.dtype : NULL};
    j->p.scheme = &j->scheme;
    return scheme->check(&j->scheme, "a linear", j->p.grid.group, j->p.grid.group, err);
}

/* The codes of a folder. */
static nb_status choose_packed_grid(nb_quantize_job *j, nb_error *err)
{
    const nb_quantize_options *o = &j->o;
    const nb_scheme *scheme = nb_scheme_find(j->form->scheme);
    const bool sym = !o->sym_set || o->sym;
    if (scheme->tables)
        return choose_table_grid(j, scheme, err);
    nb_status st = find_int_grid(j, err);
    if (st != NB_OK)
        return st;
    if (!sym && strcmp(j->form->name, "gptq") == 0) {
        st = nb_fail(err, NB_UNSUPPORTED,
                     "--asym in --format gptq, where loaders read a zero of 0 in three ways");
        nb_hint(err, "--format gptq_v2");
        return st;
    }
    if (o->act_order && !scheme->orders) {
        st = nb_fail(err, NB_UNSUPPORTED,
                     "--act-order in --format %s, whose loaders know no order of inputs",
                     j->form->name);
        nb_hint(err, "--format gptq");
        return st;
    }
    j->scheme = (nb_scheme_spec){.scheme = scheme,
                                 .bits = j->p.grid.bits,
                                 .group = j->p.grid.group,
                                 .sym = sym,
                                 .act_order = o->act_order,
                                 .variant = scheme->variant};
    j->p.scheme = &j->scheme;
    j->p.act_order = o->act_order;
    const int64_t some = j->scheme.group ? (int64_t)j->scheme.group * 32 : 32;
    /* whether there is any shape that would do */
    return scheme->check(&j->scheme, "a linear", some, some, err);
}

/* A plain folder holds the values of any grid: those of GGUF's blocks where --grid names one, else
 * whole numbers. */
static nb_status choose_plain_grid(nb_quantize_job *j, nb_error *err)
{
    const nb_dtype *t = j->o.grid ? nb_dtype_by_name(j->o.grid) : NULL;
    if (t ? !t->st_name : j->o.grid && not_there_yet(j->o.grid))
        return choose_block_grid(j, err);
    j->p.act_order = j->o.act_order;
    return find_int_grid(j, err);
}

/* A grid, or so many bits, that no GGUF file can be given: which grids can be written, and which
 * folders hold so many bits (0: not asked for). */
static nb_status refuse_grid(const char *out, int bits, const char *name, nb_error *err)
{
    char grids[160], folders[96] = "";
    size_t at = 0;
    nb_grid_list(false, grids, sizeof grids);
    if (!bits) {
        nb_nearest near = {.given = name};
        for (const nb_dtype *const *t = nb_dtypes; *t; t++)
            if ((*t)->rule && (*t)->ggml_id >= 0)
                nb_nearest_offer(&near, (*t)->name);
        nb_fail(err, NB_UNSUPPORTED, "--grid %.40s cannot be written yet; those that can are %s",
                name, grids);
        if (near.name)
            nb_hint(err, "--grid %s", near.name);
        return NB_UNSUPPORTED;
    }
    for (const nb_quantize_form *f = nb_quantize_forms; f->name && at < sizeof folders; f++) {
        nb_scheme_spec s = {.scheme = f->scheme ? nb_scheme_find(f->scheme) : NULL,
                            .bits = bits,
                            .group = 128,
                            .sym = true};
        if (s.scheme)
            s.variant = s.scheme->variant;
        if (s.scheme && s.scheme->check(&s, "a linear", 4096, 4096, NULL) == NB_OK)
            at += (size_t)snprintf(folders + at, sizeof folders - at, " %s", f->name);
    }
    const nb_status st =
        nb_fail(err, NB_UNSUPPORTED,
                "--bits %d into GGUF, whose grids here are %s; folders hold %d bits: --format%s",
                bits, grids, bits, folders);
    /* OUT as a folder */
    const size_t n = strlen(out), stem = n > 5 && strcmp(out + n - 5, ".gguf") == 0 ? n - 5 : n;
    nb_hint(err, "-o %.*s --format%.*s", (int)(stem < 200 ? stem : 200), out,
            (int)strcspn(folders + 1, " ") + 1, folders);
    return st;
}

/* --grid, or what --bits asks for in a GGUF file: 4 is q4_0, 8 is q8_0 (CONTRACT). */
static nb_status choose_block_grid(nb_quantize_job *j, nb_error *err)
{
    const nb_quantize_options *o = &j->o;
    const char *name = o->grid, *where = j->form->folder ? "blocks" : "a GGUF file";
    if (o->act_order)
        return nb_fail(err, NB_UNSUPPORTED,
                       "--act-order in %s of --method %s: its blocks have no order", where,
                       j->p.quantizer->name);
    if (o->range)
        return nb_fail(err, NB_UNSUPPORTED,
                       "--range in %s, whose formats say by themselves what they reach", where);
    if (!name) {
        const int bits = o->bits ? o->bits : 4;
        if (bits == 4)
            name = o->sym_set && !o->sym ? "q4_1" : "q4_0";
        else if (bits == 8)
            name = "q8_0";
        else if (bits == 2 || bits == 3)
            return refuse_grid(o->out, bits, NULL, err);
        else
            return nb_fail(err, NB_USAGE, "--bits %d, it must be 2, 3, 4 or 8", bits);
    }
    const nb_dtype *t = nb_dtype_by_name(name);
    if (t ? !t->rule : not_there_yet(name))
        return refuse_grid(o->out, 0, name, err);
    const nb_status st =
        nb_grid_find(name, o->group > 0 ? o->group : 0, !o->sym_set || o->sym, &j->p.grid, err);
    if (st != NB_OK)
        return st;
    if (!j->p.grid.dtype || (t->ggml_id < 0 && !j->form->folder)) {
        char grids[160];
        nb_grid_list(false, grids, sizeof grids);
        return nb_fail(err, NB_UNSUPPORTED, "--grid %s has no GGUF format; %s have", name, grids);
    }
    if (o->bits && o->bits != j->p.grid.bits)
        return nb_fail(err, NB_USAGE, "--bits %d and --grid %s, which has %d bits", o->bits, name,
                       j->p.grid.bits);
    if (o->group && o->group != j->p.grid.group)
        return o->group < 0 ? nb_fail(err, NB_UNSUPPORTED, "--group row in %s; %s has groups of %d",
                                      where, name, j->p.grid.group)
                            : nb_fail(err, NB_UNSUPPORTED, "--group %d in %s; %s has groups of %d",
                                      o->group, where, name, j->p.grid.group);
    if (o->sym_set && o->sym != j->p.grid.sym)
        return nb_fail(err, o->grid ? NB_USAGE : NB_UNSUPPORTED, "--%s in %s of %s, which is %s",
                       o->sym ? "sym" : "asym", where, name,
                       j->p.grid.sym ? "symmetric" : "not symmetric");
    return NB_OK;
}

static nb_status choose_grid(nb_quantize_job *j, nb_error *err)
{
    if (j->o.act_order && j->form->folder && !j->p.quantizer->orders)
        return nb_fail(err, NB_UNSUPPORTED,
                       "--act-order with --method %s, which rounds inputs in no order",
                       j->p.quantizer->name);
    return j->form->scheme   ? choose_packed_grid(j, err)
           : j->form->folder ? choose_plain_grid(j, err)
                             : choose_block_grid(j, err);
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

static nb_status choose_embedding(nb_quantize_job *j, nb_error *err)
{
    const char *e = j->o.embedding ? j->o.embedding : j->form->folder ? "keep" : "q8_0";
    if (j->form->folder && strcmp(e, "keep") != 0 && strcmp(e, "f32") != 0 &&
        strcmp(e, "f16") != 0 && strcmp(e, "bf16") != 0)
        return nb_fail(err, NB_UNSUPPORTED,
                       "--embedding %.40s in a folder, where it is keep, f32, f16 or bf16", e);
    if (strcmp(e, "keep") == 0)
        return NB_OK;
    j->embedding = nb_dtype_by_name(e);
    if (j->embedding ? !j->embedding->encode || (j->embedding->ggml_id < 0 && !j->form->folder)
                     : not_there_yet(e))
        return nb_fail(err, NB_UNSUPPORTED,
                       "--embedding %s cannot be written yet; q8_0, q4_0 and f16 can", e);
    if (!j->embedding) {
        nb_nearest near = {.given = e};
        nb_nearest_offer(&near, "keep");
        for (const nb_dtype *const *t = nb_dtypes; *t; t++)
            if ((*t)->encode && (*t)->ggml_id >= 0)
                nb_nearest_offer(&near, (*t)->name);
        nb_fail(err, NB_USAGE,
                "--embedding %.40s: keep, or a format that can be written, such as q8_0, q4_0, f16",
                e);
        nb_nearest_hint(&near, "--embedding ", err);
        return NB_USAGE;
    }
    return NB_OK;
}

static nb_status check_options(const nb_quantize_options *o, nb_error *err)
{
    if (o->resume && o->restart)
        return nb_fail(err, NB_USAGE, "--resume and --restart exclude each other; give one");
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
        st = choose_grid(j, err);
    if (st == NB_OK)
        st = choose_embedding(j, err);
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

/* ---- groups of a folder: with the model's shapes known ---- */

/* How many of the model's groups of linears the scheme packs in groups of so many inputs (0: the
 * row). */
static int n_packed(nb_quantize_job *j, int group)
{
    int n = 0;
    nb_scheme_spec s = j->scheme;
    s.group = group;
    for (int g = 0; g < NB_GROUP_COUNT; g++)
        n += nb_folder_packs(j->m, &s, (nb_group_id)g, NULL) == NB_OK;
    return n;
}

/* A size that was asked for and leaves linears out which another one packs is refused: nobody wants
 * half a model in bf16 for a number. */
static nb_status refuse_group(nb_quantize_job *j, int most, nb_error *err)
{
    static const int sizes[] = {32, 64, 128, 0};
    char names[64] = "", last[16] = "";
    nb_status st = NB_OK;
    int n = 0, best = 0;
    for (int i = 0; i < 4; i++)
        if (n_packed(j, sizes[i]) == most) {
            if (n++)
                snprintf(names + strlen(names), sizeof names - strlen(names), "%s%s",
                         n > 2 ? ", " : "", last);
            best = sizes[i] ? sizes[i] : best;
            snprintf(last, sizeof last, sizes[i] ? "%d" : "row", sizes[i]);
        }
    for (int g = 0; g < NB_GROUP_COUNT && st == NB_OK; g++)
        st = nb_folder_packs(j->m, &j->scheme, (nb_group_id)g, err);
    if (err) {
        char why[sizeof err->message];
        memcpy(why, err->message, sizeof why);
        st = nb_fail_at(err, NB_UNSUPPORTED, j->m->container->path, -1,
                        "%.300s; --group %s%s%s packs %s", why, names, n > 1 ? " or " : "", last,
                        most == NB_GROUP_COUNT ? "every linear" : "more linears");
        if (best)
            nb_hint(err, "--group %d", best);
        else
            nb_hint(err, "--group row");
    }
    return st;
}

/* When nothing was said: the greatest of 128, 64, 32 that packs the most linears. */
static nb_status choose_group(nb_quantize_job *j, nb_error *err)
{
    static const int sizes[] = {128, 64, 32};
    if (!j->form->scheme || j->scheme.grid) /* a format has its own */
        return NB_OK;
    int most = 0;
    for (int i = 0; i < 3; i++) {
        const int n = n_packed(j, sizes[i]);
        if (n > most && !j->o.group)
            j->scheme.group = j->p.grid.group = sizes[i];
        most = n > most ? n : most;
    }
    const int rows = n_packed(j, 0);
    if (!j->o.group)
        return NB_OK;
    most = rows > most ? rows : most;
    return n_packed(j, j->scheme.group) < most ? refuse_group(j, most, err) : NB_OK;
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
    const nb_status st = choose_group(j, err);
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
