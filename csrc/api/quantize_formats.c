/* quantize_formats.c -- which format each tensor of the output gets, and the sink that writes
 * it. */
#include "api/quantize.h"
#include "convert/config_out.h"
#include "convert/folder_sink.h"
#include "convert/gguf_meta.h"
#include "convert/gguf_sink.h"

#include <stdlib.h>
#include <string.h>

static bool is_end(const nb_quantize_job *j, const nb_tensor *t)
{
    char name[NB_TENSOR_NAME];
    return t == nb_family_tensor(j->m->family, j->m->container, (nb_slot){.role = NB_ROLE_EMBED},
                                 name) ||
           t == nb_family_tensor(j->m->family, j->m->container, (nb_slot){.role = NB_ROLE_OUTPUT},
                                 name);
}

/* Of a folder only what the family names is carried over, its vectors as F32. */
static void choose_carried(nb_quantize_job *j)
{
    const nb_model *m = j->m;
    for (int64_t i = 0; i < m->container->n_tensor; i++)
        j->type[i] = NULL;
    for (int l = 0; l < m->hp.n_layer; l++)
        for (int r = 0; r < NB_ROLE_COUNT; r++)
            for (int e = 0; e < nb_model_n_slot(m, (nb_role)r); e++) {
                char name[NB_TENSOR_NAME];
                const nb_slot at = {.role = (nb_role)r, .layer = l, .expert = e};
                const nb_tensor *t = nb_model_has(m, at)
                                         ? nb_family_tensor(m->family, m->container, at, name)
                                         : NULL;
                if (t)
                    j->type[t - m->container->tensor] =
                        nb_role_stays_f32(at.role) ? nb_dtype_by_name("f32") : t->dtype;
            }
}

/* Linears of the layers in range are of the grid, or F16 when their width is no multiple of its
 * block (llama.cpp's fallback); embedding and head as asked; everything else as it is. */
static nb_status choose_gguf(nb_quantize_job *j, nb_error *err)
{
    const nb_container *c = j->m->container;
    (void)err;
    for (int64_t i = 0; i < c->n_tensor; i++)
        j->type[i] = c->tensor[i].dtype;
    if (c->kind == NB_CONTAINER_HF)
        choose_carried(j);
    for (int64_t i = 0; i < c->n_tensor; i++) {
        const nb_tensor *t = &c->tensor[i];
        if (t->n_dim == 2 && is_end(j, t) && j->embedding && t->shape[1] % j->embedding->block == 0)
            j->type[i] = j->embedding;
    }
    for (int l = j->o.layer_from; l < j->o.layer_to; l++)
        for (int g = 0; g < NB_GROUP_COUNT; g++) {
            nb_role role[3];
            char name[NB_TENSOR_NAME];
            const nb_dtype *type = nb_pipeline_fits(j->m, (nb_group_id)g, &j->p)
                                       ? j->p.grid.dtype
                                       : nb_dtype_by_name("f16");
            for (int r = nb_group_roles((nb_group_id)g, role) - 1; r >= 0; r--)
                for (int e = 0; e < nb_model_n_slot(j->m, role[r]); e++) {
                    const nb_tensor *t = nb_family_tensor(
                        j->m->family, c, (nb_slot){.role = role[r], .layer = l, .expert = e}, name);
                    if (t)
                        j->type[t - c->tensor] = type;
                }
        }
    return NB_OK;
}

static bool is_plain(const nb_dtype *t)
{
    return t->st_name && t->block == 1 && t->decode && t->encode && t->bytes <= 4;
}

/* What a folder's embedding and head are in, what was no plain float before, and the values of
 * codes: as asked, else as the source has its embedding, else bf16. */
static const nb_dtype *dense_type(const nb_quantize_job *j)
{
    char name[NB_TENSOR_NAME];
    const nb_tensor *t =
        nb_family_tensor(j->m->family, j->m->container, (nb_slot){.role = NB_ROLE_EMBED}, name);
    return j->embedding              ? j->embedding
           : t && is_plain(t->dtype) ? t->dtype
                                     : nb_dtype_by_name("bf16");
}

/* Where the values of codes go in a plain folder. */
static void choose_values(nb_quantize_job *j)
{
    const nb_container *c = j->m->container;
    j->p.values = dense_type(j);
    for (int l = j->o.layer_from; l < j->o.layer_to; l++)
        for (int g = 0; g < NB_GROUP_COUNT; g++) {
            nb_role role[3];
            char name[NB_TENSOR_NAME];
            for (int r = nb_group_roles((nb_group_id)g, role) - 1; r >= 0; r--)
                for (int e = 0; e < nb_model_n_slot(j->m, role[r]); e++) {
                    const nb_tensor *t = nb_family_tensor(
                        j->m->family, c, (nb_slot){.role = role[r], .layer = l, .expert = e}, name);
                    if (t)
                        j->type[t - c->tensor] = j->p.values;
                }
        }
}

/* In a folder everything that the scheme does not pack is a float: as it is where it is one. */
static nb_status choose_folder(nb_quantize_job *j, nb_error *err)
{
    const nb_container *c = j->m->container;
    nb_status st = NB_OK;
    bool any = false;
    for (int64_t i = 0; i < c->n_tensor; i++) {
        const nb_tensor *t = &c->tensor[i];
        j->type[i] =
            is_end(j, t) || (!is_plain(t->dtype) && (t->dtype->decode || nb_tensor_is_packed(c, t)))
                ? dense_type(j)
                : t->dtype;
    }
    if (!j->form->scheme) {
        choose_values(j);
        return NB_OK;
    }
    for (int g = 0; g < NB_GROUP_COUNT; g++)
        any = any || nb_pipeline_fits(j->m, (nb_group_id)g, &j->p);
    for (int g = NB_GROUP_COUNT - 1; g >= 0 && !any && st == NB_OK; g--)
        st = nb_folder_packs(j->m, &j->scheme, (nb_group_id)g, err);
    return st;
}

static const nb_dtype *type_of(void *arg, const nb_tensor *t);

nb_status nb_quantize_choose_types(nb_quantize_job *j, nb_error *err)
{
    j->type = nb_alloc((size_t)j->m->container->n_tensor, sizeof *j->type, "formats", err);
    if (!j->type)
        return NB_NO_ROOM;
    j->p.kept = type_of;
    j->p.kept_arg = j;
    return j->form->folder ? choose_folder(j, err) : choose_gguf(j, err);
}

static const nb_dtype *type_of(void *arg, const nb_tensor *t)
{
    const nb_quantize_job *j = arg;
    return j->type[t - j->m->container->tensor];
}

/* ---- the forms ---- */

static const char *work_of(const nb_quantize_job *j, bool measure)
{
    return j->work && !measure ? nb_workdir_path(j->work) : NULL;
}

static nb_status open_gguf(nb_quantize_job *j, bool resume, bool measure, nb_sink **out,
                           nb_error *err)
{
    const nb_gguf_sink_spec spec = {.model = j->m,
                                    .out = j->o.out,
                                    .work = work_of(j, measure),
                                    .resume = resume,
                                    .measure = measure,
                                    .file_type = nb_gguf_file_type(j->p.grid.dtype),
                                    .choose = type_of,
                                    .arg = j,
                                    .n_thread = j->p.n_thread};
    return nb_gguf_sink_open(&spec, out, err);
}

static nb_status open_folder(nb_quantize_job *j, bool resume, bool measure, nb_sink **out,
                             nb_error *err)
{
    /* half-width words for a model of full-width ones: scales are halves, and no loader runs packed
     * weights in full width */
    const char *torch_dtype = j->p.values ? nb_torch_dtype(j->p.values)
                              : strcmp(dense_type(j)->name, "bf16") == 0 ? "bfloat16"
                                                                         : "float16";
    const nb_folder_sink_spec spec = {.model = j->m,
                                      .out = j->o.out,
                                      .work = work_of(j, measure),
                                      .resume = resume,
                                      .measure = measure,
                                      .choose = type_of,
                                      .arg = j,
                                      .scheme = j->form->scheme ? &j->scheme : NULL,
                                      .layer_from = j->o.layer_from,
                                      .layer_to = j->o.layer_to,
                                      .torch_dtype = torch_dtype,
                                      .shard_bytes = j->o.max_shard_bytes,
                                      .exact = j->p.values != NULL,
                                      .n_thread = j->p.n_thread};
    return nb_folder_sink_open(&spec, out, err);
}

const nb_quantize_form nb_quantize_forms[] = {
    {"gguf", false, NULL, "partial.gguf", open_gguf, nb_gguf_sink_finish, nb_gguf_sink_discard},
    {"plain", true, NULL, "folder", open_folder, nb_folder_sink_finish, nb_folder_sink_discard},
    {"gptq", true, "gptq", "folder", open_folder, nb_folder_sink_finish, nb_folder_sink_discard},
    {"gptq_v2", true, "gptq_v2", "folder", open_folder, nb_folder_sink_finish,
     nb_folder_sink_discard},
    {"awq", true, "awq", "folder", open_folder, nb_folder_sink_finish, nb_folder_sink_discard},
    {"compressed-tensors", true, "compressed-tensors", "folder", open_folder, nb_folder_sink_finish,
     nb_folder_sink_discard},
    {"bnb", true, "bnb", "folder", open_folder, nb_folder_sink_finish, nb_folder_sink_discard},
    {NULL, false, NULL, NULL, NULL, NULL, NULL},
};

nb_status nb_quantize_open_sink(nb_quantize_job *j, bool resume, bool measure, nb_sink **out,
                                nb_error *err)
{
    return j->form->open(j, resume, measure, out, err);
}

/* ---- bits ---- */

typedef struct sums {
    const char *embed, *head;
    double all, ends; /* bytes */
} sums;

static nb_status add_tensor(void *arg, const nb_sink_tensor *t, nb_error *err)
{
    sums *s = arg;
    (void)err;
    s->all += (double)t->bytes;
    s->ends +=
        strcmp(t->name, s->embed) == 0 || strcmp(t->name, s->head) == 0 ? (double)t->bytes : 0.0;
    return NB_OK;
}

static void count_folder(const nb_quantize_job *j, nb_quantize_result *r)
{
    char embed[NB_TENSOR_NAME], head[NB_TENSOR_NAME];
    sums s = {.embed = embed, .head = head};
    (void)nb_family_name(j->m->family, NB_CONTAINER_HF, (nb_slot){.role = NB_ROLE_EMBED}, embed);
    (void)nb_family_name(j->m->family, NB_CONTAINER_HF, (nb_slot){.role = NB_ROLE_OUTPUT}, head);
    const double n = (double)j->m->n_param, ends = (double)j->m->hp.vocab_size *
                                                   j->m->hp.hidden_size *
                                                   (j->m->hp.tied ? 1.0 : 2.0);
    if (!j->sink || j->sink->op->each(j->sink, add_tensor, &s, NULL) != NB_OK)
        return;
    r->bits_per_weight = n > 0 ? 8.0 * s.all / n : 0;
    r->bits_per_weight_linears = n > ends ? 8.0 * (s.all - s.ends) / (n - ends) : 0;
}

void nb_quantize_count_bits(const nb_quantize_job *j, nb_quantize_result *r)
{
    double all = 0, all_n = 0, linear = 0, linear_n = 0;
    if (j->form->folder) {
        count_folder(j, r);
        return;
    }
    for (int64_t i = 0; i < j->m->container->n_tensor; i++) {
        const nb_tensor *t = &j->m->container->tensor[i];
        double n = 1;
        if (!j->type[i])
            continue;
        for (int d = 0; d < t->n_dim; d++)
            n *= (double)t->shape[d];
        const double bits = 8.0 * j->type[i]->bytes / j->type[i]->block * n;
        all += bits;
        all_n += n;
        if (!(t->n_dim == 2 && is_end(j, t))) {
            linear += bits;
            linear_n += n;
        }
    }
    r->bits_per_weight = all / all_n;
    r->bits_per_weight_linears = linear_n > 0 ? linear / linear_n : 0;
}
