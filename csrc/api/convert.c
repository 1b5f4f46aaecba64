/* convert.c -- nb_convert: every slot of a model into the sink of the other container. What a
 * tensor is called, where its rows lie and how its values are written is the sink's matter; here is
 * only which format each gets. */
#include "api/convert.h"
#include "api/manifest.h"
#include "api/refuse_input.h"
#include "base/clock.h"
#include "base/nearest.h"
#include "convert/config_out.h"
#include "convert/folder_sink.h"
#include "convert/gguf_meta.h"
#include "convert/gguf_sink.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef nb_convert_job job;
typedef nb_convert_form form;

/* ---- choices ---- */

static nb_status open_gguf(job *j, nb_error *err);

/* Whether the output has a name for the format. */
static bool has_place(const job *j, const nb_dtype *t)
{
    return t->decode && (t->encode || t->join) && (t->ggml_id >= 0 || j->kind->open != open_gguf);
}

static nb_status choose_grid(job *j, nb_error *err)
{
    if (!j->o->grid)
        return NB_OK;
    j->grid = nb_dtype_by_name(j->o->grid);
    if (j->grid && has_place(j, j->grid))
        return NB_OK;
    char names[400] = "";
    size_t at = 0;
    nb_nearest near = {.given = j->o->grid};
    for (const nb_dtype *const *t = nb_dtypes; *t && at < sizeof names; t++)
        if (has_place(j, *t)) {
            at += (size_t)snprintf(names + at, sizeof names - at, " %s", (*t)->name);
            nb_nearest_offer(&near, (*t)->name);
        }
    const nb_status st =
        nb_fail(err, j->grid ? NB_UNSUPPORTED : NB_USAGE, "--grid %.40s %s; there are:%s",
                j->o->grid, j->grid ? "cannot be written" : "is unknown", names);
    if (!j->grid)
        nb_nearest_hint(&near, "--grid ", err);
    return st;
}

/* Matrices get the grid; vectors and routers are left alone, and so is what no row of the family
 * names. */
static nb_status choose_types(job *j, nb_error *err)
{
    const nb_model *m = j->m;
    const nb_container *c = m->container;
    j->type = nb_alloc((size_t)c->n_tensor, sizeof *j->type, "formats", err);
    if (!j->type)
        return NB_NO_ROOM;
    /* codes that a scheme packed: their values, all of them */
    for (int64_t i = 0; i < c->n_tensor; i++)
        j->type[i] =
            nb_tensor_is_packed(c, &c->tensor[i]) ? nb_dtype_by_name("f32") : c->tensor[i].dtype;
    if (j->kind->open == open_gguf && !j->grid && m->scheme.scheme) {
        const nb_status st = nb_convert_choose_blocks(j, err);
        if (st != NB_OK)
            return st;
    }
    for (int l = 0; l < m->hp.n_layer && j->grid; l++)
        for (int r = 0; r < NB_ROLE_COUNT; r++)
            for (int e = 0; e < nb_model_n_slot(m, (nb_role)r); e++) {
                char name[NB_TENSOR_NAME];
                const nb_slot at = {.role = (nb_role)r, .layer = l, .expert = e};
                const nb_tensor *t =
                    nb_role_stays_f32(at.role) ? NULL : nb_family_tensor(m->family, c, at, name);
                if (t)
                    j->type[t - c->tensor] = j->grid;
            }
    return NB_OK;
}

const nb_dtype *nb_convert_type(void *arg, const nb_tensor *t)
{
    const job *j = arg;
    return j->type[t - j->m->container->tensor];
}

/* What a folder holds beyond the family's rows has no place in GGUF. */
static nb_status count_left(job *j, nb_convert_result *r, nb_error *err)
{
    const nb_model *m = j->m;
    bool *used =
        nb_alloc_zero((size_t)m->container->n_tensor + 1, sizeof *used, "a list of tensors", err);
    if (!used)
        return NB_NO_ROOM;
    for (int l = 0; l < m->hp.n_layer; l++)
        for (int role = 0; role < NB_ROLE_COUNT; role++)
            for (int e = 0; e < nb_model_n_slot(m, (nb_role)role); e++) {
                char name[NB_TENSOR_NAME];
                const nb_tensor *t = nb_family_tensor(
                    m->family, m->container,
                    (nb_slot){.role = (nb_role)role, .layer = l, .expert = e}, name);
                if (t)
                    used[t - m->container->tensor] = true;
            }
    for (int64_t i = 0; i < m->container->n_tensor; i++)
        if (!used[i] && !nb_tensor_is_part(m, &m->container->tensor[i]) && r->n_left++ == 0)
            nb_escape(r->left, (int64_t)sizeof r->left, m->container->tensor[i].name,
                      (int64_t)strlen(m->container->tensor[i].name));
    free(used);
    return NB_OK;
}

/* ---- GGUF ---- */

/* Of the file as it was, or what most matrices are. */
static uint32_t file_type(const job *j)
{
    char name[NB_TENSOR_NAME];
    uint32_t v = 0;
    if (j->grid)
        return nb_gguf_file_type(j->grid);
    if (j->m->container->gguf &&
        nb_gguf_u32(j->m->container->gguf, "general.file_type", &v, NULL) == NB_OK)
        return v;
    const nb_tensor *t =
        nb_family_tensor(j->m->family, j->m->container, (nb_slot){.role = NB_ROLE_ATTN_V}, name);
    return nb_gguf_file_type(t ? nb_convert_type((void *)(uintptr_t)j, t)
                               : nb_dtype_by_name("f32"));
}

static nb_status open_gguf(job *j, nb_error *err)
{
    const nb_gguf_sink_spec spec = {.model = j->m,
                                    .out = j->o->out,
                                    .work = nb_workdir_path(j->work),
                                    .once = true,
                                    .file_type = file_type(j),
                                    .choose = nb_convert_type,
                                    .arg = j,
                                    .exact = true,
                                    .n_thread = j->m->be->n_thread};
    return nb_gguf_sink_open(&spec, &j->sink, err);
}

/* ---- a folder of plain floats ---- */

static nb_status open_folder(job *j, nb_error *err)
{
    char name[NB_TENSOR_NAME];
    const nb_tensor *t =
        nb_family_tensor(j->m->family, j->m->container, (nb_slot){.role = NB_ROLE_ATTN_V}, name);
    const char *dtype = t ? nb_torch_dtype(nb_convert_type(j, t)) : NULL;
    if (j->grid && !dtype)
        return nb_fail(err, NB_UNSUPPORTED,
                       "--grid %s in a folder of plain floats, which are f32, f16 or bf16",
                       j->grid->name);
    const nb_folder_sink_spec spec = {.model = j->m,
                                      .out = j->o->out,
                                      .work = nb_workdir_path(j->work),
                                      .once = true,
                                      .choose = nb_convert_type,
                                      .arg = j,
                                      .torch_dtype = dtype ? dtype : "float32",
                                      .shard_bytes = j->o->max_shard_bytes,
                                      .exact = true,
                                      .n_thread = j->m->be->n_thread};
    return nb_folder_sink_open(&spec, &j->sink, err);
}

/* ---- the forms ---- */

static const form forms[] = {
    {"gguf", open_gguf},
    {"plain", open_folder},
    {"gptq", nb_convert_open_packed},
    {"gptq_v2", nb_convert_open_packed},
    {"awq", nb_convert_open_packed},
    {"compressed-tensors", nb_convert_open_packed},
};

static nb_status choose_form(const nb_convert_options *o, const form **out, nb_error *err)
{
    const size_t n = o->out ? strlen(o->out) : 0;
    if (!n)
        return nb_fail(err, NB_USAGE, "-o OUT is missing");
    const char *name = o->format                                       ? o->format
                       : n > 5 && strcmp(o->out + n - 5, ".gguf") == 0 ? "gguf"
                                                                       : "plain";
    *out = NULL;
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++)
        if (strcmp(forms[i].name, name) == 0)
            *out = &forms[i];
    if (*out && o->max_shard_bytes && (*out)->open == open_gguf)
        return nb_fail(err, NB_UNSUPPORTED,
                       "--max-shard-size with a GGUF file, which is written in one piece");
    if (*out)
        return NB_OK;
    if (strcmp(name, "bnb") == 0)
        return nb_fail(err, NB_UNSUPPORTED,
                       "--format bnb with nibble convert: its levels are no whole numbers; nibble "
                       "quantize --format bnb rounds");
    nb_nearest near = {.given = name};
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++)
        nb_nearest_offer(&near, forms[i].name);
    nb_fail(err, NB_USAGE,
            "--format %.40s is unknown; gguf, plain, gptq, gptq_v2, awq and compressed-tensors are "
            "there",
            name);
    nb_nearest_hint(&near, "--format ", err);
    return NB_USAGE;
}

/* ---- the walk ---- */

static nb_status put_slot(job *j, nb_slot at, nb_error *err)
{
    char name[NB_TENSOR_NAME];
    nb_matrix a;
    void *made = NULL;
    if (!nb_model_has(j->m, at))
        return NB_OK;
    nb_status st = nb_model_matrix(j->m, at, &a, &made, err);
    if (st == NB_OK) {
        a.N = a.N ? a.N : 1; /* a vector is one row */
        st = a.dtype ? j->sink->op->dense(j->sink, at, &a, err)
                     : j->sink->op->linear(j->sink, at, &a, err);
    }
    free(made);
    nb_container_release(j->m->container,
                         nb_family_tensor(j->m->family, j->m->container, at, name));
    return st;
}

static nb_status put_roles(job *j, int layer, nb_error *err)
{
    nb_status st = NB_OK;
    const int from = layer < 0 ? 0 : NB_ROLE_ATTN_NORM,
              to = layer < 0 ? NB_ROLE_ATTN_NORM : NB_ROLE_COUNT;
    for (int r = from; r < to && st == NB_OK; r++)
        for (int e = 0; e < nb_model_n_slot(j->m, (nb_role)r) && st == NB_OK; e++)
            st = put_slot(j, (nb_slot){.role = (nb_role)r, .layer = layer, .expert = e}, err);
    if (st == NB_OK && j->o->stop && *j->o->stop)
        st = nb_fail(err, NB_INTERRUPTED, "stopped, nothing was written under the final name");
    return st;
}

/* Layer -1: and what lies beyond the slots. */
static nb_status put_layer(job *j, int layer, nb_error *err)
{
    uint8_t digest[NB_SHA256_BYTES];
    const nb_status st = put_roles(j, layer, err);
    return st == NB_OK ? j->sink->op->seal(j->sink, layer, digest, err) : st;
}

static nb_status commit(job *j, nb_error *err)
{
    nb_text settings = {0}, input = {0}, manifest = {0};
    nb_text_printf(&settings, "{\"format\":\"%s\",\"grid\":\"%s\",\"max-shard-size\":%lld}",
                   j->kind->name, j->grid ? j->grid->name : "keep",
                   (long long)j->o->max_shard_bytes);
    nb_status st = nb_input_files(j->m->container, &input, err);
    if (st == NB_OK)
        st = nb_manifest_write(&settings, &input, NULL, j->sink, &manifest, err);
    if (st == NB_OK)
        st = j->sink->op->commit(j->sink, manifest.p, manifest.n, err);
    nb_text_free(&settings);
    nb_text_free(&input);
    nb_text_free(&manifest);
    return st;
}

static nb_status walk(job *j, nb_error *err)
{
    const int32_t n_layer = j->m->hp.n_layer;
    nb_status st = NB_OK;
    for (int32_t l = 0; l < n_layer && st == NB_OK; l++) {
        st = put_layer(j, l, err);
        if (st == NB_OK && j->o->progress)
            j->o->progress(j->o->arg, l + 1, n_layer);
    }
    if (st == NB_OK)
        st = put_layer(j, -1, err);
    return st == NB_OK ? commit(j, err) : st;
}

/* ---- the work folder ---- */

static void remove_partial(const job *j)
{
    nb_gguf_sink_discard(nb_workdir_path(j->work));
    nb_folder_sink_discard(nb_workdir_path(j->work));
}

/* OUT.nibble/ as `quantize` has it: one process at a time, and what one left that was killed goes. */
static nb_status open_work(job *j, nb_error *err)
{
    char path[4096];
    nb_status st = nb_workdir_open(j->o->out, &j->work, err);
    if (st == NB_OK)
        st = nb_workdir_file(j->work, "journal", path, sizeof path, err);
    if (st == NB_OK && access(path, F_OK) == 0) {
        st = nb_fail_at(err, NB_IO, path, -1,
                        "of a quantization into OUT that is not finished; finish it or remove its "
                        "folder");
        nb_hint(err, "nibble quantize -o OUT --resume");
        nb_workdir_close(j->work);
        j->work = NULL;
    }
    if (st == NB_OK)
        remove_partial(j);
    return st;
}

typedef struct sums {
    double bytes;
    int64_t n;
} sums;

static nb_status add_tensor(void *arg, const nb_sink_tensor *t, nb_error *err)
{
    sums *s = arg;
    (void)err;
    s->bytes += (double)t->bytes;
    s->n++;
    return NB_OK;
}

nb_status nb_convert(const nb_convert_options *o, nb_convert_result *r, nb_error *err)
{
    const int64_t start = nb_clock_ns();
    const nb_model_options mo = {
        .device = "cpu", .n_thread = o->n_thread, .allow_nonfinite = o->allow_nonfinite};
    job j = {.o = o};
    sums all = {0};
    memset(r, 0, sizeof *r);
    nb_status st = choose_form(o, &j.kind, err);
    if (st == NB_OK)
        st = choose_grid(&j, err);
    if (st == NB_OK)
        st = nb_refuse_input(o->model, o->out, err);
    if (st == NB_OK)
        st = open_work(&j, err);
    if (st == NB_OK)
        st = nb_model_load(o->model, &mo, false, &j.m, err);
    if (st == NB_OK)
        st = choose_types(&j, err);
    if (st == NB_OK && j.kind->open == open_gguf && j.m->container->kind == NB_CONTAINER_HF)
        st = count_left(&j, r, err);
    if (st == NB_OK)
        st = j.kind->open(&j, err);
    if (st == NB_OK)
        st = walk(&j, err);
    if (st == NB_OK)
        st = j.sink->op->each(j.sink, add_tensor, &all, err);
    if (st == NB_OK) {
        snprintf(r->format, sizeof r->format, "%s", j.kind->name);
        snprintf(r->grid, sizeof r->grid, "%s", j.grid ? j.grid->name : "keep");
        r->bytes = j.sink->total_bytes;
        r->n_tensor = all.n;
        r->bits_per_weight = j.m->n_param ? 8.0 * all.bytes / (double)j.m->n_param : 0.0;
    }
    if (j.sink)
        j.sink->op->close(j.sink);
    if (j.work) {
        remove_partial(&j);
        nb_workdir_discard(j.work);
    }
    nb_model_close(j.m);
    free(j.type);
    r->seconds = (double)(nb_clock_ns() - start) * 1e-9;
    return st;
}
