/* quantize_grid.c -- flags to the grid that weights are rounded to, and the format of the embedding;
 * with the model's shapes known, how many inputs share a scale. */
#include "api/quantize.h"
#include "base/nearest.h"
#include "convert/folder_plan.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

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

bool nb_quantize_is_grid(const char *name)
{
    return nb_dtype_by_name(name) || not_there_yet(name);
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

nb_status nb_quantize_choose_grid(nb_quantize_job *j, nb_error *err)
{
    if (j->o.act_order && j->form->folder && !j->p.quantizer->orders)
        return nb_fail(err, NB_UNSUPPORTED,
                       "--act-order with --method %s, which rounds inputs in no order",
                       j->p.quantizer->name);
    return j->form->scheme   ? choose_packed_grid(j, err)
           : j->form->folder ? choose_plain_grid(j, err)
                             : choose_block_grid(j, err);
}

nb_status nb_quantize_choose_embedding(nb_quantize_job *j, nb_error *err)
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
nb_status nb_quantize_choose_group(nb_quantize_job *j, nb_error *err)
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
